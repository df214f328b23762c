//! Deploying to one host: one connection, one transaction, then proof from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::apart::blocking;
use super::endpoint::ABREAST;
use super::{Engine, Event, lock};
use crate::deploy::{self, Bundle, ConnectError, Deployed, NotProven, Proof, Prove, Session};
use crate::model::desired::{Certificate, Host};
use crate::model::name::{CertName, Domain, Fingerprint, HostName, VersionNumber};
use crate::model::observed::{Look, Seen, Served};
use crate::model::plan::{Install, minute};
use crate::model::problem::{Blame, Diagnose, Problem};
use crate::model::state::{Failure, HostFacts, Installed};
use crate::probe::{self, AddressError, Question, TIMES, Turns, Until};

/// How long a host may take to serve what was just loaded.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// How long an address that was silent before may take to answer, where others do.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// From so many names on, one look at each is enough.
const MANY: usize = 8;
/// Between looks at what a host serves after a version was put back.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Problems that a new version had on a host; with others it was never tried there.
const WANTING: [&str; 5] =
    ["deploy.refused", "deploy.config-test", "deploy.reload", "deploy.not-served", "deploy.not-put-back"];

/// Problems with which nobody got in to do anything on the host.
const OUTSIDE: [&str; 6] =
    ["ssh.", "store.", "deploy.sudo", "deploy.rights", "deploy.start", "deploy.no-answer"];

/// What became of one install.
pub(super) struct Outcome {
    pub(super) certificate: CertName,
    pub(super) version: VersionNumber,
    /// The facts as they are now in the store.
    pub(super) facts: Option<HostFacts>,
    /// What was seen of it, if it was looked at.
    pub(super) looks: Vec<Look>,
    pub(super) result: Result,
}

impl Outcome {
    /// Whether the host has let us in.
    pub(super) fn been_there(&self) -> bool {
        match &self.result {
            Result::Served | Result::Pending(_) => true,
            Result::Failed(problem) | Result::Unknown(problem) => {
                !OUTSIDE.iter().any(|code| problem.code.starts_with(code))
            }
        }
    }
}

/// How it ended.
pub(super) enum Result {
    /// The host serves it, proven from outside; or it is installed and not to be probed.
    Served,
    /// Installed; nothing there uses it yet.
    Pending(Problem),
    /// Not installed, or put back.
    Failed(Problem),
    /// The connection ended in the midst of it: only a look can tell.
    Unknown(Problem),
}

/// Why nothing is known of a transaction.
#[derive(Clone)]
enum Unheard {
    /// It was never begun.
    NotBegun(Problem),
    /// It was begun.
    Lost(Problem),
}

impl Engine {
    /// Installs versions on a host and proves that they are served; `before` is what was seen there.
    pub(super) async fn deploy(
        &self,
        name: &HostName,
        installs: Vec<Install>,
        before: BTreeMap<CertName, Vec<Look>>,
        force: bool,
    ) -> Vec<Outcome> {
        let host = &self.config.desired.hosts[name];
        let began = Instant::now();
        let mut results: BTreeMap<CertName, std::result::Result<Deployed, Unheard>> = BTreeMap::new();
        let mut bundles: Vec<Arc<Bundle>> = Vec::new();
        for install in &installs {
            match blocking(|| self.bundle(&install.certificate, install.version, force)) {
                Ok(bundle) => bundles.push(bundle),
                Err(error) => {
                    let problem = Unheard::NotBegun(Problem::of(&error));
                    results.insert(install.certificate.clone(), Err(problem));
                }
            }
        }
        let prover = Prover::new(self, before, &bundles);
        if !bundles.is_empty() {
            match self.install(host, &bundles, &prover).await {
                Ok(deployed) => {
                    results.extend(deployed.into_iter().map(|(name, deployed)| (name, Ok(deployed))))
                }
                Err(unheard) => {
                    let names = bundles.iter().map(|bundle| bundle.certificate.clone());
                    results.extend(names.map(|name| (name, Err(unheard.clone()))));
                }
            }
        }
        let mut seen = prover.seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let put_back = bundles.iter().filter(|bundle| {
            matches!(results.get(&bundle.certificate), Some(Ok(Deployed::RolledBack { .. })))
        });
        for (certificate, looks) in join_all(put_back.map(|bundle| self.look_after(name, bundle))).await {
            seen.insert(certificate, looks);
        }
        self.record(name, installs, &bundles, results, seen, began.elapsed())
    }

    /// What is served once a version was put back: workers that loaded it may answer for a moment.
    async fn look_after(&self, host: &HostName, bundle: &Bundle) -> (CertName, Vec<Look>) {
        let name = bundle.certificate.clone();
        let until = Instant::now() + SERVED_WITHIN;
        loop {
            let mut looks = self.observer.look_at(host, std::slice::from_ref(&name)).await;
            let looks = looks.remove(&name).unwrap_or_default();
            let gone = |look: &Look| !matches!(&look.seen, Seen::Serving(served) if served.fingerprint == bundle.fingerprint);
            if looks.iter().all(gone) || Instant::now() >= until {
                return (name, looks);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn install(
        &self,
        host: &Host,
        bundles: &[Arc<Bundle>],
        prover: &Prover<'_>,
    ) -> std::result::Result<Vec<(CertName, Deployed)>, Unheard> {
        let session = self.session(host).await.map_err(|error| Unheard::NotBegun(Problem::of(&*error)))?;
        let result = deploy::deploy(&session, host, bundles, prover).await;
        result.map_err(|error| match error.may_have_switched() {
            true => Unheard::Lost(Problem::of(&error)),
            false => Unheard::NotBegun(Problem::of(&error)),
        })
    }

    /// The connection to a host; one for all its transactions of a pass.
    pub(super) async fn session(&self, host: &Host) -> std::result::Result<Arc<Session>, Arc<ConnectError>> {
        self.connections.session(&self.config, &self.config.ssh_identity(), host).await
    }

    /// The session with the host that this one is reached through, if there is one.
    pub async fn way_to(&self, host: &Host) -> std::result::Result<Option<Arc<Session>>, ConnectError> {
        self.connections.way_to(&self.config, &self.config.ssh_identity(), host).await
    }

    fn record(
        &self,
        host: &HostName,
        installs: Vec<Install>,
        bundles: &[Arc<Bundle>],
        mut results: BTreeMap<CertName, std::result::Result<Deployed, Unheard>>,
        mut seen: BTreeMap<CertName, Vec<Look>>,
        took: Duration,
    ) -> Vec<Outcome> {
        let now = Timestamp::now();
        let mut installs = installs;
        let (mut outcomes, mut events) = (Vec::new(), Vec::new());
        let mut settle = |facts: &mut BTreeMap<CertName, HostFacts>| {
            for install in std::mem::take(&mut installs) {
                let Install { certificate, version, .. } = install;
                let Some(result) = results.remove(&certificate) else { continue };
                let fingerprint = bundles
                    .iter()
                    .find(|bundle| bundle.certificate == certificate)
                    .map(|bundle| bundle.fingerprint);
                let put_back = matches!(result, Ok(Deployed::RolledBack { .. }));
                let known = facts.entry(certificate.clone()).or_default();
                let result = note(known, version, fingerprint, result, now);
                let looks = seen.remove(&certificate).unwrap_or_default();
                events.push(match &result {
                    Result::Served => {
                        let proven = looks.iter().filter(|look| matches!(look.seen, Seen::Serving(_)));
                        Event::Served(certificate.clone(), host.clone(), version, proven.count(), took)
                    }
                    Result::Pending(problem) => {
                        Event::Pending(certificate.clone(), host.clone(), version, problem.clone())
                    }
                    Result::Failed(problem) if put_back => {
                        Event::PutBack(certificate.clone(), host.clone(), version, problem.clone())
                    }
                    Result::Failed(problem) | Result::Unknown(problem) => {
                        Event::DeployFailed(certificate.clone(), host.clone(), version, problem.clone())
                    }
                });
                outcomes.push(Outcome { certificate, version, facts: Some(known.clone()), looks, result });
            }
        };
        if let Err(error) = blocking(|| self.store.update_host(host, &mut settle)) {
            // What is on the host can be observed again; that it is not noted costs one transaction.
            settle(&mut BTreeMap::new());
            self.tell(Event::NotNoted(Problem::of(&error)));
        }
        // Not while the store is locked: who reads us may be slow.
        self.listener.notice_all(&events);
        outcomes
    }
}

/// Changes the facts by what a transaction came to.
fn note(
    facts: &mut HostFacts,
    version: VersionNumber,
    fingerprint: Option<Fingerprint>,
    result: std::result::Result<Deployed, Unheard>,
    now: Timestamp,
) -> Result {
    let installed =
        |pending| fingerprint.map(|fingerprint| Installed { version, fingerprint, at: now, pending });
    match result {
        Ok(Deployed::Served { proof }) => {
            facts.installed = installed(false);
            (facts.failure, facts.rejected, facts.disk) = (None, None, None);
            if !proof.addresses.is_empty() {
                facts.proven_at = Some(now);
            }
            Result::Served
        }
        Ok(Deployed::Pending { problem }) => {
            facts.installed = installed(true);
            (facts.failure, facts.rejected, facts.disk) = (None, None, None);
            Result::Pending(problem)
        }
        Ok(Deployed::RolledBack { problem }) => {
            facts.rejected = Some(version);
            failed(facts, &problem, now);
            Result::Failed(problem)
        }
        Ok(Deployed::Failed { problem }) => {
            if WANTING.contains(&problem.code.as_str()) {
                facts.rejected = Some(version);
            }
            failed(facts, &problem, now);
            Result::Failed(problem)
        }
        Err(Unheard::NotBegun(problem)) => {
            failed(facts, &problem, now);
            Result::Failed(problem)
        }
        Err(Unheard::Lost(problem)) => {
            failed(facts, &problem, now);
            Result::Unknown(problem)
        }
    }
}

fn failed(facts: &mut HostFacts, problem: &Problem, now: Timestamp) {
    let earlier = facts.failure.take();
    facts.failure = Some(Failure {
        count: earlier.as_ref().map_or(1, |failure| failure.count.saturating_add(1)),
        first: earlier.map_or(now, |failure| failure.first),
        last: now,
        problem: problem.clone(),
        revision: String::new(),
    });
}

/// Proves by handshakes what a host serves.
struct Prover<'a> {
    engine: &'a Engine,
    /// Those that no address answered for before anything was changed: that none answers now says nothing.
    unseen: BTreeSet<CertName>,
    /// What was seen before the transaction.
    before: BTreeMap<CertName, Vec<Look>>,
    seen: Mutex<BTreeMap<CertName, Vec<Look>>>,
    /// How often in a row each name must be seen to serve what it should.
    times: u32,
    /// Where the host is looked at, each with the turns to look.
    endpoints: OnceCell<Vec<(SocketAddr, Turns<'a>)>>,
}

impl<'a> Prover<'a> {
    fn new(engine: &'a Engine, before: BTreeMap<CertName, Vec<Look>>, bundles: &[Arc<Bundle>]) -> Self {
        let names = |bundle: &Arc<Bundle>| {
            let certificate = &engine.config.desired.certificates.get(&bundle.certificate);
            certificate.map_or(0, |certificate| certificate.verify_names.len())
        };
        // One reload loaded them all: many names, each seen once, say as much of a server as one name seen often.
        let times = if bundles.iter().map(names).sum::<usize>() >= MANY { 1 } else { TIMES };
        Self {
            engine,
            unseen: unseen(&before),
            before,
            seen: Mutex::default(),
            times,
            endpoints: OnceCell::new(),
        }
    }

    async fn endpoints(&self, host: &Host) -> std::result::Result<&[(SocketAddr, Turns<'a>)], AddressError> {
        let look_up = || async {
            let addresses = probe::addresses(host).await?;
            let turns = || Turns::new(&self.engine.observer.looks, ABREAST);
            Ok(addresses.into_iter().map(|address| (address, turns())).collect())
        };
        self.endpoints.get_or_try_init(look_up).await.map(Vec::as_slice)
    }
}

/// The certificates that were looked for and not an answer was had.
fn unseen(looks: &BTreeMap<CertName, Vec<Look>>) -> BTreeSet<CertName> {
    let silent = |look: &Look| matches!(look.seen, Seen::Unreachable(_));
    let silent = looks.iter().filter(|(_, looks)| !looks.is_empty() && looks.iter().all(silent));
    silent.map(|(name, _)| name.clone()).collect()
}

/// What was found in place of the new certificate.
#[derive(Debug, thiserror::Error)]
enum Found {
    #[error("{address} still serves {} for {name}, until {}", .served.fingerprint.short(), minute(.served.not_after))]
    Other { address: SocketAddr, name: String, served: Box<Served> },
    #[error("no TLS answer from {address} for {name}: {}", .problem.one_line())]
    Silent { address: SocketAddr, name: String, problem: Box<Problem> },
}

impl Diagnose for Found {
    fn code(&self) -> &'static str {
        match self {
            Self::Other { .. } => "host.not-served",
            Self::Silent { .. } => "host.silent",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Host
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Other { .. } => None,
            Self::Silent { problem, .. } => problem.hint.clone(),
        }
    }
}

#[async_trait]
impl Prove for Prover<'_> {
    async fn proves(
        &self,
        host: &Host,
        name: &CertName,
        fingerprint: &Fingerprint,
    ) -> std::result::Result<Proof, NotProven> {
        let began = Instant::now();
        let certificate: &Certificate = &self.engine.config.desired.certificates[name];
        if certificate.verify_names.is_empty() {
            return Ok(Proof { addresses: Vec::new(), after: Duration::ZERO });
        }
        let endpoints = self
            .endpoints(host)
            .await
            .map_err(|error| NotProven::Unreachable(Box::new(Problem::of(&error))))?;
        let observer = &self.engine.observer;
        let roots = observer.roots(certificate);
        let places: Vec<(SocketAddr, &Turns<'_>, &Domain)> = endpoints
            .iter()
            .flat_map(|(address, turns)| {
                certificate.verify_names.iter().map(move |name| (*address, turns, name))
            })
            .collect();
        // Where nothing answered before either, silence says nothing against what others serve.
        let was_silent = |(address, domain): (SocketAddr, &Domain)| {
            let before = self.before.get(name).into_iter().flatten();
            let mut before = before.filter(|look| (look.address, &look.name) == (address, domain));
            before.any(|look| matches!(look.seen, Seen::Unreachable(_)))
        };
        let all_silent = places.iter().all(|&(address, _, domain)| was_silent((address, domain)));
        let looks = join_all(places.iter().map(|&(address, turns, domain)| async move {
            let question = Question { address, name: domain, key: Some(certificate.key), roots };
            let patient = all_silent || !was_silent((address, domain));
            let within = if patient { SERVED_WITHIN } else { HEARD_WITHIN };
            let until = Until { fingerprint: *fingerprint, times: self.times, within, turns };
            observer.probe.until_serves(question, until, Timestamp::now).await
        }))
        .await;
        let all: Vec<Look> = looks.iter().map(|look| look.clone().unwrap_or_else(|last| last)).collect();
        lock(&self.seen).insert(name.clone(), all);
        let proven: Vec<_> = looks.iter().flatten().map(|look| (look.address, look.name.clone())).collect();
        let mut silent = None;
        for look in looks.into_iter().filter_map(std::result::Result::err) {
            let excused = !proven.is_empty() && was_silent((look.address, &look.name));
            let (address, domain) = (look.address, look.name.to_string());
            match look.seen {
                Seen::Unreachable(_) if excused => {}
                Seen::Serving(served) => {
                    let found = Found::Other { address, name: domain, served: Box::new(served) };
                    return Err(NotProven::Other(Box::new(Problem::of(&found))));
                }
                Seen::Unreachable(problem) => {
                    silent = Some(Found::Silent { address, name: domain, problem: Box::new(problem) })
                }
            }
        }
        match silent {
            Some(found) if self.unseen.contains(name) => {
                Err(NotProven::Unused(Box::new(Problem::of(&found))))
            }
            Some(found) => Err(NotProven::Unreachable(Box::new(Problem::of(&found)))),
            None => Ok(Proof { addresses: proven, after: began.elapsed() }),
        }
    }
}
