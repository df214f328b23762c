//! Deploying to real SSH servers and real nginx; what is served is seen by a TLS client.

mod chaos;
mod connecting;
mod faults;
mod identities;
mod known_hosts;
mod outcomes;

use std::fs;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use certfleet::deploy::error::Stop;
use certfleet::deploy::host_key::HostKeyError;
use certfleet::deploy::identity::IdentityError;
use certfleet::deploy::{
    Bundle, ConnectError, Deployed, InstallError, Login, NotProven, Outcome, Proof, Prove, PutBack, Reload,
    Session, deploy,
};
use certfleet::model::desired;
use certfleet::model::name::{CertName, Fingerprint, VersionNumber};
use certfleet::model::problem::{Blame, Diagnose, Problem, Retry};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::copy_bidirectional;

use crate::world::World;
use crate::world::host::{Host, Script};
use crate::world::look;
use crate::world::made::{self, Authority, DAY, Pair};
use crate::world::parts;
use crate::world::process::run;
use crate::world::sshd::Identity;

const NAME: &str = "media.social.test";

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(
        async {
            // A loop that waits for something that never comes is a failure, not a hang.
            tokio::time::timeout(Duration::from_secs(120), future).await.expect("the test came to no end")
        },
    )
}

/// A world with one host that serves an expired certificate of certbot's.
fn one_host() -> World {
    World::builder().hosts(&["edge"]).site(&[NAME]).start().unwrap()
}

fn wanted(host: &Host) -> desired::Host {
    desired::Host {
        name: host.name.parse().unwrap(),
        address: host.address.to_string(),
        port: host.ssh_port,
        user: host.user.clone(),
        via: None,
        access: Default::default(),
        sudo: false,
        receiver: false,
        local: false,
        identity: vec![host.identity.clone()],
        host_key: vec![host.host_key.clone()],
        known_hosts: Vec::new(),
        directory: host.live.display().to_string(),
        layout: Default::default(),
        files: Vec::new(),
        test: host.test_command.clone(),
        reload: host.reload_command.clone(),
        verify: vec![host.tls()],
    }
}

pub(crate) fn fresh(name: &str) -> Pair {
    made::self_signed(&[name], -DAY, 90 * DAY).unwrap()
}

pub(crate) fn bundle(name: &str, version: u32, pair: &Pair) -> Bundle {
    let der = CertificateDer::from_pem_slice(pair.leaf.as_bytes()).unwrap();
    Bundle {
        certificate: name.parse().unwrap(),
        version: VersionNumber(version),
        fingerprint: Fingerprint::of(&der),
        force: false,
        privkey: pair.key.clone().into(),
        cert: pair.leaf.clone(),
        chain: pair.chain.clone(),
    }
}

/// Looks with a TLS client, as often as it takes.
struct Look {
    at: SocketAddr,
    patience: Duration,
}

impl Look {
    fn at(host: &Host) -> Self {
        Self { at: host.tls(), patience: Duration::from_secs(4) }
    }
}

fn problem(message: String) -> Box<Problem> {
    Box::new(Problem {
        code: "test".to_owned(),
        blame: Blame::Host,
        retry: Retry::Backoff,
        message,
        causes: Vec::new(),
        hint: None,
    })
}

#[async_trait]
impl Prove for Look {
    async fn proves(
        &self,
        _: &desired::Host,
        certificate: &CertName,
        fingerprint: &Fingerprint,
    ) -> Result<Proof, NotProven> {
        let begun = Instant::now();
        let mut in_a_row = 0;
        loop {
            let (at, name) = (self.at, certificate.to_string());
            let served = tokio::task::spawn_blocking(move || look::served(at, &name)).await.unwrap();
            let seen = match served {
                Ok(served) if Fingerprint::of(served.leaf()) == *fingerprint => {
                    in_a_row += 1;
                    if in_a_row == 3 {
                        let addresses = vec![(self.at, certificate.as_str().parse().unwrap())];
                        return Ok(Proof { addresses, after: begun.elapsed() });
                    }
                    continue;
                }
                Ok(served) if served.names == ["default.invalid"] => {
                    NotProven::Unused(problem(format!("{} serves its default certificate", self.at)))
                }
                Ok(served) => {
                    NotProven::Other(problem(format!("{} serves serial {}", self.at, served.serial)))
                }
                Err(error) => NotProven::Unreachable(problem(error)),
            };
            in_a_row = 0;
            if begun.elapsed() > self.patience {
                return Err(seen);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn login(host: &desired::Host) -> Login {
    Login { identity: host.identity.clone(), passphrase: None, via: None }
}

async fn session(host: &desired::Host) -> Session {
    Session::open(host, login(host)).await.unwrap_or_else(|error| panic!("{error:?}"))
}

/// The error of an attempt to connect.
fn refused(host: &desired::Host) -> ConnectError {
    match wait(Session::open(host, login(host))) {
        Ok(_) => panic!("connected"),
        Err(error) => error,
    }
}

/// Deploys with a session of its own.
fn deployed(host: &Host, bundles: &[Bundle]) -> Vec<Deployed> {
    deployed_as(&wanted(host), host, bundles)
}

fn deployed_as(wanted: &desired::Host, host: &Host, bundles: &[Bundle]) -> Vec<Deployed> {
    wait(async {
        let session = session(wanted).await;
        let result = deploy(&session, wanted, bundles, &Look::at(host)).await;
        session.close().await;
        result.unwrap_or_else(|error| panic!("{error:?}")).into_iter().map(|(_, deployed)| deployed).collect()
    })
}

fn serves(host: &Host, name: &str, pair: &Pair) -> bool {
    let der = CertificateDer::from_pem_slice(pair.leaf.as_bytes()).unwrap();
    host.served(name).unwrap().leaf() == der.as_ref()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
