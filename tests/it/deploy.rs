//! Deploying to real SSH servers and real nginx; what is served is seen by a TLS client.

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
    Bundle, ConnectError, Deployed, InstallError, NotProven, Outcome, Proof, Prove, PutBack, Reload, Session,
    deploy,
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
        identity: Some(host.identity.clone()),
        host_key: vec![host.host_key.clone()],
        known_hosts: Vec::new(),
        directory: host.live.display().to_string(),
        test: host.test_command.clone(),
        reload: host.reload_command.clone(),
        verify: vec![host.tls()],
    }
}

fn fresh(name: &str) -> Pair {
    made::self_signed(&[name], -DAY, 90 * DAY).unwrap()
}

fn bundle(name: &str, version: u32, pair: &Pair) -> Bundle {
    let der = CertificateDer::from_pem_slice(pair.leaf.as_bytes()).unwrap();
    Bundle {
        certificate: name.parse().unwrap(),
        version: VersionNumber(version),
        fingerprint: Fingerprint::of(&der),
        privkey: pair.key.clone().into(),
        fullchain: format!("{}{}", pair.leaf, pair.chain),
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

async fn session(host: &desired::Host) -> Session {
    Session::open(host, host.identity.as_deref().unwrap()).await.unwrap_or_else(|error| panic!("{error:?}"))
}

/// The error of an attempt to connect.
fn refused(host: &desired::Host) -> ConnectError {
    match wait(Session::open(host, host.identity.as_deref().unwrap())) {
        Ok(_) => panic!("connected"),
        Err(error) => error,
    }
}

/// Deploys with a session of its own.
fn deployed(host: &Host, bundles: &[Bundle]) -> Vec<Deployed> {
    let wanted = wanted(host);
    wait(async {
        let session = session(&wanted).await;
        let result = deploy(&session, &wanted, bundles, &Look::at(host)).await;
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

#[test]
fn an_expired_certificate_is_replaced_and_proven() {
    let world = one_host();
    let host = world.host("edge");
    assert!(host.served(NAME).unwrap().expired());
    let pair = fresh(NAME);
    let result = deployed(host, &[bundle(NAME, 1, &pair)]);
    let [Deployed::Served { proof }] = &result[..] else { panic!("{result:?}") };
    assert_eq!(proof.addresses.len(), 1);
    assert!(serves(host, NAME, &pair));
    assert_eq!((host.connections(), host.tests(), host.reloads()), (1, 2, 1));
    let version = host.live.join(".certfleet").join(NAME).join("current");
    assert_eq!(mode(&version.join("privkey.pem")), 0o600);
    assert_eq!(mode(&version), 0o700);
    assert!(host.root.join("archive").join(NAME).join("privkey1.pem").exists(), "certbot's archive stays");

    // The next one, over the same paths.
    let next = fresh(NAME);
    let result = deployed(host, &[bundle(NAME, 2, &next)]);
    assert!(matches!(result[..], [Deployed::Served { .. }]), "{result:?}");
    assert!(serves(host, NAME, &next));
}

#[test]
fn many_certificates_are_one_connection_and_one_reload() {
    let names: Vec<String> = (0..40).map(|n| format!("n{n}.social.test")).collect();
    let mut builder = World::builder().hosts(&["edge"]);
    for name in &names {
        builder = builder.site(&[name]);
    }
    let world = builder.start().unwrap();
    let host = world.host("edge");
    let pairs: Vec<Pair> = names.iter().map(|name| fresh(name)).collect();
    let bundles: Vec<Bundle> = names.iter().zip(&pairs).map(|(name, pair)| bundle(name, 1, pair)).collect();
    let begun = Instant::now();
    let result = deployed(host, &bundles);
    println!("{} certificates in {:?}", names.len(), begun.elapsed());
    assert!(result.iter().all(|deployed| matches!(deployed, Deployed::Served { .. })), "{result:?}");
    assert_eq!((host.connections(), host.tests(), host.reloads()), (1, 2, 1));
}

#[test]
fn a_pair_that_does_not_match_never_gets_near_the_configuration() {
    let world = World::builder().hosts(&["edge"]).site(&[NAME]).site(&["b.social.test"]).start().unwrap();
    let host = world.host("edge");
    let (good, mut bad) = (fresh("b.social.test"), fresh(NAME));
    bad.key = fresh(NAME).key;
    let result = deployed(host, &[bundle(NAME, 1, &bad), bundle("b.social.test", 1, &good)]);
    let Deployed::Failed { problem } = &result[0] else { panic!("{result:?}") };
    assert_eq!(problem.code, "deploy.refused");
    assert!(problem.message.contains("key values mismatch"), "{}", problem.one_line());
    assert!(matches!(result[1], Deployed::Served { .. }), "{result:?}");
    assert!(host.served(NAME).unwrap().expired(), "the old one stays");
    assert_eq!(host.reloads(), 1);
}

#[test]
fn a_host_that_was_broken_before_is_left_alone() {
    let world = one_host();
    let host = world.host("edge");
    host.break_config().unwrap();
    let result = deployed(host, &[bundle(NAME, 1, &fresh(NAME))]);
    let [Deployed::Failed { problem }] = &result[..] else { panic!("{result:?}") };
    assert_eq!(problem.code, "deploy.host-broken");
    assert!(problem.one_line().contains("this_is_no_directive"), "{}", problem.one_line());
    assert_eq!(host.reloads(), 0);
    let privkey = host.live.join(NAME).join("privkey.pem");
    assert!(fs::read_link(privkey).unwrap().starts_with("../../archive"), "not even taken over");
}

#[test]
fn what_is_not_served_is_put_back() {
    let world = one_host();
    let host = world.host("edge");
    let old = host.served(NAME).unwrap();
    // Like a reload that cannot bind a port: it ends well and changes nothing.
    host.set_reload(Script::Lies).unwrap();
    let result = deployed(host, &[bundle(NAME, 1, &fresh(NAME))]);
    let [Deployed::RolledBack { problem }] = &result[..] else { panic!("{result:?}") };
    assert_eq!(problem.code, "deploy.not-served");
    assert!(problem.one_line().contains(&old.serial), "{}", problem.one_line());
    assert!(problem.message.contains("the version before is back"), "{}", problem.message);
    assert_eq!(host.served(NAME).unwrap(), old);
    let current = fs::read_link(host.live.join(".certfleet").join(NAME).join("current")).unwrap();
    assert_eq!(current, Path::new("0-before"));
    // As soon as the reload works, so does the deploy.
    host.set_reload(Script::Works).unwrap();
    let pair = fresh(NAME);
    assert!(matches!(deployed(host, &[bundle(NAME, 2, &pair)])[..], [Deployed::Served { .. }]));
}

#[test]
fn a_failing_reload_is_rolled_back() {
    let world = one_host();
    let host = world.host("edge");
    host.set_reload(Script::Fails).unwrap();
    let result = deployed(host, &[bundle(NAME, 1, &fresh(NAME))]);
    let [Deployed::RolledBack { problem }] = &result[..] else { panic!("{result:?}") };
    assert_eq!(problem.code, "deploy.reload");
    assert!(problem.one_line().contains("told to fail"), "{}", problem.one_line());
    assert!(host.served(NAME).unwrap().expired());
}

#[test]
fn what_hangs_is_given_up() {
    // Deadlines are long: wait for all of them at the same time.
    thread::scope(|scope| {
        scope.spawn(a_test_that_hangs_is_ended);
        scope.spawn(a_frozen_host_is_given_up);
        scope.spawn(a_silent_listener_is_given_up);
    });
}

fn a_test_that_hangs_is_ended() {
    let world = one_host();
    let host = world.host("edge");
    host.set_test(Script::Hangs).unwrap();
    let result = deployed(host, &[bundle(NAME, 1, &fresh(NAME))]);
    let [Deployed::Failed { problem }] = &result[..] else { panic!("{result:?}") };
    assert!(problem.one_line().contains("did not end within 20 s"), "{}", problem.one_line());
    assert!(host.served(NAME).unwrap().expired());
}

#[test]
fn a_stopped_nginx_is_not_started_and_finds_the_new_one() {
    let world = one_host();
    let host = world.host("edge");
    host.stop_nginx();
    let pair = fresh(NAME);
    let result = deployed(host, &[bundle(NAME, 1, &pair)]);
    let [Deployed::Pending { problem }] = &result[..] else { panic!("{result:?}") };
    assert_eq!(problem.code, "deploy.not-running");
    assert!(host.served(NAME).is_err(), "not for us to start");
    host.start_nginx().unwrap();
    assert!(serves(host, NAME, &pair));
}

#[test]
fn the_first_installation_waits_for_somebody_to_use_it() {
    let world = World::builder().hosts(&["edge"]).start().unwrap();
    let host = world.host("edge");
    let pair = fresh(NAME);
    let result = deployed(host, &[bundle(NAME, 1, &pair)]);
    let [Deployed::Pending { problem }] = &result[..] else { panic!("{result:?}") };
    assert_eq!(problem.code, "deploy.unused");
    let uses = format!("nothing on `edge` uses {}/{NAME} yet", host.live.display());
    assert_eq!(problem.message, uses);
    host.add_server(NAME, &[NAME]).unwrap();
    // The same again is what a later pass would send: it reloads, and is proven.
    let result = deployed(host, &[bundle(NAME, 1, &pair)]);
    assert!(matches!(result[..], [Deployed::Served { .. }]), "{result:?}");
}

#[test]
fn a_config_that_names_a_certificate_before_it_is_there_gets_it() {
    let world = World::builder().hosts(&["edge"]).start().unwrap();
    let host = world.host("edge");
    host.add_server(NAME, &[NAME]).unwrap();
    let result = deployed(host, &[bundle(NAME, 1, &fresh(NAME))]);
    assert!(matches!(result[..], [Deployed::Served { .. }]), "{result:?}");
}

#[test]
fn a_full_disk_leaves_what_is_there() {
    let world = one_host();
    let host = world.host("edge");
    let mut wanted = wanted(host);
    // Every write there fails, and not for lack of rights: those do not bind root.
    wanted.directory = "/proc/certfleet".to_owned();
    let error = wait(async {
        let session = session(&wanted).await;
        session.install(&wanted, &[bundle(NAME, 1, &fresh(NAME))]).await.unwrap_err()
    });
    let InstallError::Stopped { what: Stop::Directory, reason, .. } = &error else { panic!("{error:?}") };
    assert!(reason.contains("/proc/certfleet"), "{reason}");
    assert!(host.served(NAME).unwrap().expired());
}

#[test]
fn another_host_key_is_refused_before_anything_is_shown() {
    let world = one_host();
    let host = world.host("edge");
    let other = Identity::make(&world.dir.path().join("other")).unwrap();
    let mut wanted = wanted(host);
    wanted.host_key = vec![other.public.clone()];
    let error = refused(&wanted);
    assert_eq!(error.code(), "ssh.host-key");
    let text = error.to_string();
    assert_eq!(text.matches("ssh-ed25519 SHA256:").count(), 2, "expected and presented: {text}");
    let hint = error.hint().unwrap();
    assert!(hint.contains(&host.host_key), "{hint}");
    // Of another kind than the one that the host has.
    wanted.host_key = vec![key_of_kind(&world, "rsa")];
    let error = refused(&wanted);
    assert!(matches!(error, ConnectError::HostKey(HostKeyError::OtherKind { .. })), "{error:?}");
    // Nothing known at all.
    wanted.host_key = Vec::new();
    wanted.known_hosts = vec![world.dir.path().join("no such file")];
    let error = refused(&wanted);
    assert_eq!(error.code(), "ssh.host-key-unknown");
    assert!(error.hint().unwrap().contains(&host.host_key), "{error:?}");
    assert_eq!(host.connections(), 0);
    assert!(!host.sshd.log().contains("Failed publickey"), "{}", host.sshd.log());
}

fn key_of_kind(world: &World, kind: &str) -> String {
    let file = world.dir.path().join(format!("host_{kind}"));
    run(parts::ssh_keygen().unwrap().command().args(["-q", "-t", kind, "-N", "", "-C", "", "-f"]).arg(&file))
        .unwrap();
    fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned()
}

#[test]
fn known_hosts_are_read_as_ssh_reads_them() {
    let world = one_host();
    let host = world.host("edge");
    let key = &host.host_key;
    let (address, port) = (host.address, host.ssh_port);
    let other = Identity::make(&world.dir.path().join("other")).unwrap().public;
    let hashed = {
        let file = world.dir.path().join("hashed");
        fs::write(&file, format!("[{address}]:{port} {key}\n")).unwrap();
        run(parts::ssh_keygen().unwrap().command().arg("-q").arg("-H").arg("-f").arg(&file)).unwrap();
        fs::read_to_string(file).unwrap()
    };
    assert!(hashed.starts_with("|1|"));
    let first = address.to_string().rsplit_once('.').unwrap().0.to_owned();
    let yes = [
        format!("[{address}]:{port} {key}"),
        format!("# a comment\n\nnonsense\n[{address}]:{port}\t{key} a comment\n"),
        format!("example.org,[{address}]:{port} {key}"),
        format!("{address} {key}"),
        hashed,
        format!("[{first}.*]:{port} {key}"),
        format!("[{first}.*]:* {key}"),
        // A new key beside an old one.
        format!("[{address}]:{port} {other}\n[{address}]:{port} {key}"),
    ];
    let no = [
        String::new(),
        format!("[{address}]:{port} {other}"),
        format!("[{address}]:{} {key}", port ^ 1),
        format!("[{first}.*]:{port},![{address}]:{port} {key}"),
        format!("@cert-authority * {key}"),
        format!("[{address}]:{port} {key}\n@revoked * {key}"),
        format!("@revoked [{address}]:{port} {key}\n[{address}]:{port} {key}"),
    ];
    let file = world.dir.path().join("known_hosts");
    let mut wanted = wanted(host);
    wanted.host_key = Vec::new();
    wanted.known_hosts = vec![world.dir.path().join("absent"), file.clone()];
    for text in &yes {
        fs::write(&file, text).unwrap();
        wait(async { session(&wanted).await.close().await });
    }
    for text in &no {
        fs::write(&file, text).unwrap();
        let error = refused(&wanted);
        assert!(matches!(error, ConnectError::HostKey(_)), "{text}: {error:?}");
        assert_eq!(error.code() == "ssh.host-key-revoked", text.contains("@revoked"), "{text}: {error:?}");
    }
    // A pin does not make a revoked key good.
    wanted.host_key = vec![key.clone()];
    assert_eq!(refused(&wanted).code(), "ssh.host-key-revoked");
    assert_eq!(host.connections(), yes.len());
    // What is there and cannot be read may be what forbids it.
    wanted.known_hosts = vec![world.dir.path().to_owned()];
    assert_eq!(refused(&wanted).code(), "ssh.known-hosts");
}

#[test]
fn a_key_that_is_not_let_in_says_which_line_to_add() {
    let world = one_host();
    let host = world.host("edge");
    let stranger = Identity::make(&world.dir.path().join("stranger")).unwrap();
    let mut wanted = wanted(host);
    wanted.identity = Some(stranger.file.clone());
    let error = refused(&wanted);
    assert_eq!(error.code(), "ssh.auth");
    assert!(error.hint().unwrap().contains(&stranger.public), "{error:?}");
    let attempts = host.sshd.log().matches("Failed publickey").count();
    assert!(attempts <= 1, "one attempt: {}", host.sshd.log());

    fs::set_permissions(&stranger.file, fs::Permissions::from_mode(0o640)).unwrap();
    let error = refused(&wanted);
    assert!(matches!(error, ConnectError::Identity(IdentityError::Exposed { mode: 0o640, .. })), "{error:?}");
    assert_eq!(error.hint().unwrap(), format!("chmod 600 {}", stranger.file.display()));

    let locked = world.dir.path().join("locked");
    run(parts::ssh_keygen()
        .unwrap()
        .command()
        .args(["-q", "-t", "ed25519", "-N", "secret", "-f"])
        .arg(&locked))
    .unwrap();
    wanted.identity = Some(locked);
    let error = refused(&wanted);
    assert!(matches!(error, ConnectError::Identity(IdentityError::Encrypted { .. })), "{error:?}");
    wanted.identity = Some(stranger.file.with_extension("pub"));
    fs::set_permissions(stranger.file.with_extension("pub"), fs::Permissions::from_mode(0o600)).unwrap();
    let error = refused(&wanted);
    assert!(matches!(error, ConnectError::Identity(IdentityError::NotAKey { .. })), "{error:?}");
}

#[test]
fn keys_of_all_kinds_log_in() {
    let world = one_host();
    let host = world.host("edge");
    let authorized = host.root.join("ssh/authorized_keys");
    let mut wanted = wanted(host);
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let public = key_of_kind(&world, kind);
        fs::write(&authorized, format!("{public}\n")).unwrap();
        wanted.identity = Some(world.dir.path().join(format!("host_{kind}")));
        wait(async { session(&wanted).await.close().await });
    }
}

#[test]
fn what_does_not_answer_like_ssh_is_told_apart() {
    let world = one_host();
    let host = world.host("edge");
    let mut here = wanted(host);
    here.port = host.tls_port;
    let error = refused(&here);
    assert_eq!(error.code(), "ssh.not-ssh", "{error:?}");

    here.address = world.spare_address(1).to_string();
    assert_eq!(refused(&here).code(), "ssh.refused");
    here.address = "no-such-host.invalid".to_owned();
    assert_eq!(refused(&here).code(), "ssh.lookup");
}

fn a_silent_listener_is_given_up() {
    let world = World::builder().hosts(&["edge"]).start().unwrap();
    let silent = TcpListener::bind((world.spare_address(1), 0)).unwrap();
    let address = silent.local_addr().unwrap();
    let mut here = wanted(world.host("edge"));
    here.address = address.ip().to_string();
    here.port = address.port();
    let begun = Instant::now();
    let error = refused(&here);
    assert!(matches!(error, ConnectError::Timeout { seconds: 15, .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

/// Has the host run this in place of the command that it is asked for (`$SSH_ORIGINAL_COMMAND`).
fn force(host: &Host, command: &str) {
    let file = host.root.join("ssh/authorized_keys");
    let key = fs::read_to_string(&file).unwrap();
    let key = &key[key.find("ssh-ed25519").unwrap()..];
    fs::write(&file, format!("command=\"{command}\" {key}")).unwrap();
}

#[test]
fn greetings_before_the_answer_do_no_harm_and_lies_are_data() {
    let world = one_host();
    let host = world.host("edge");
    force(host, r#"printf 'welcome to edge'; echo 'mail for you' >&2; eval \"$SSH_ORIGINAL_COMMAND\""#);
    let pair = fresh(NAME);
    assert!(matches!(deployed(host, &[bundle(NAME, 1, &pair)])[..], [Deployed::Served { .. }]));

    let wanted = wanted(host);
    let error = || {
        wait(async {
            let session = session(&wanted).await;
            session.install(&wanted, &[bundle(NAME, 2, &pair)]).await.unwrap_err()
        })
    };
    force(host, "yes installed everything");
    assert!(matches!(error(), InstallError::TooMuch { .. }));
    force(host, "yes installed everything >&2");
    assert!(matches!(error(), InstallError::TooMuch { .. }));
    force(host, r"echo This account is currently not available.; exit 1");
    let no_answer = error();
    let InstallError::NoAnswer { said, status, .. } = &no_answer else { panic!("{no_answer:?}") };
    assert_eq!(
        (said.as_str(), status.as_str()),
        ("This account is currently not available.", "exit status 1")
    );
    force(host, r"cat >/dev/null; printf '\\033[2J\\033]0;owned\\007'; exit 0");
    let text = Problem::of(&error()).one_line();
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text}");
    // It knows the nonce, and answers what was not asked.
    force(host, r"dd bs=1 count=20000 2>/dev/null | tail -c 0; echo nonsense begin; kill -9 $$");
    assert!(matches!(error(), InstallError::NoAnswer { .. }));
    assert!(serves(host, NAME, &pair));
}

/// A cable between us and a host that can be pulled.
struct Cable {
    at: SocketAddr,
    pulled: Arc<AtomicBool>,
}

impl Cable {
    async fn to(host: &Host, from: std::net::IpAddr) -> Self {
        let listener = tokio::net::TcpListener::bind((from, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let pulled = Arc::new(AtomicBool::new(false));
        let (ssh, state) = (host.ssh(), Arc::clone(&pulled));
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    let mut far = tokio::net::TcpStream::connect(ssh).await.unwrap();
                    let watch = async {
                        while !state.load(Ordering::Relaxed) {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        state.store(false, Ordering::Relaxed);
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = watch => {}
                    }
                });
            }
        });
        Self { at, pulled }
    }

    /// Ends the connection there is; the next one will work.
    fn pull(&self) {
        self.pulled.store(true, Ordering::Relaxed);
    }
}

/// The host's test command becomes one that first sleeps a second when this file is there.
fn slow_test(host: &Host) -> (String, PathBuf) {
    let slow = host.root.join("slow");
    let command = format!(
        "[ ! -e {slow} ] || {{ echo >>{slow}; sleep 1; }}; {}",
        host.test_command,
        slow = slow.display()
    );
    (command, slow)
}

#[test]
fn a_cut_after_the_switch_does_not_stop_the_host() {
    let world = one_host();
    let host = world.host("edge");
    let pair = fresh(NAME);
    wait(async {
        let cable = Cable::to(host, world.spare_address(2)).await;
        let mut wanted = wanted(host);
        wanted.address = cable.at.ip().to_string();
        wanted.port = cable.at.port();
        let (test, slow) = slow_test(host);
        wanted.test = test;
        fs::write(&slow, "").unwrap();
        let session = session(&wanted).await;
        let bundles = [bundle(NAME, 1, &pair)];
        let install = session.install(&wanted, &bundles);
        let pull = async {
            // In the test after the switch.
            while fs::read_to_string(&slow).unwrap().lines().count() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            cable.pull();
        };
        let (result, ()) = tokio::join!(install, pull);
        let error = result.unwrap_err();
        assert!(matches!(&error, InstallError::Lost { step, .. } if step == "the config test"), "{error:?}");
        assert!(session.is_closed());
        // It goes on by itself, and the answer can be read there.
        let begun = Instant::now();
        while host.reloads() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(10), "the host did not go on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let begun = Instant::now();
    while !serves(host, NAME, &pair) || !host.live.join(".certfleet/.last-answer").exists() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(20));
    }
    let answer = fs::read_to_string(host.live.join(".certfleet/.last-answer")).unwrap();
    assert!(answer.contains("switched media.social.test"), "{answer}");
    // For the next run there is nothing left to do.
    let wanted = wanted(host);
    let answer = wait(async {
        let session = session(&wanted).await;
        session.install(&wanted, &[bundle(NAME, 1, &pair)]).await.unwrap()
    });
    assert!(matches!(answer.outcomes[..], [Outcome::Unchanged { .. }]), "{answer:?}");
    assert_eq!(answer.reload, Reload::Done);
}

#[test]
fn a_cut_before_the_switch_changes_nothing() {
    let world = one_host();
    let host = world.host("edge");
    // Some bytes of the way: inside the script, inside the data.
    for after in [0, 2, 5, 8, 12] {
        wait(async {
            let cable = Cable::to(host, world.spare_address(3)).await;
            let mut wanted = wanted(host);
            wanted.address = cable.at.ip().to_string();
            wanted.port = cable.at.port();
            let session = session(&wanted).await;
            let bundles: Vec<Bundle> =
                (0..30).map(|n| bundle(&format!("n{n}.test"), 1, &fresh(NAME))).collect();
            let install = session.install(&wanted, &bundles);
            let pull = async {
                tokio::time::sleep(Duration::from_millis(after * 10)).await;
                cable.pull();
            };
            let (result, ()) = tokio::join!(install, pull);
            assert!(result.is_err());
        });
    }
    thread::sleep(Duration::from_secs(1));
    assert_eq!(host.reloads(), 0);
    let pair = fresh(NAME);
    assert!(matches!(deployed(host, &[bundle(NAME, 1, &pair)])[..], [Deployed::Served { .. }]));
}

#[test]
fn a_cut_while_looking_does_not_keep_it_from_being_put_back() {
    let world = one_host();
    let host = world.host("edge");
    let old = host.served(NAME).unwrap();
    host.set_reload(Script::Lies).unwrap();
    let result = wait(async {
        let cable = Cable::to(host, world.spare_address(4)).await;
        let mut wanted = wanted(host);
        wanted.address = cable.at.ip().to_string();
        wanted.port = cable.at.port();
        let session = session(&wanted).await;
        let bundles = [bundle(NAME, 1, &fresh(NAME))];
        let look = Look::at(host);
        let deploy = deploy(&session, &wanted, &bundles, &look);
        let pull = async {
            while host.reloads() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            cable.pull();
        };
        let (result, ()) = tokio::join!(deploy, pull);
        result.unwrap()
    });
    assert!(matches!(result[0].1, Deployed::RolledBack { .. }), "{result:?}");
    assert_eq!(host.served(NAME).unwrap(), old);
    let current = fs::read_link(host.live.join(".certfleet").join(NAME).join("current")).unwrap();
    assert_eq!(current, Path::new("0-before"));
}

fn a_frozen_host_is_given_up() {
    let world = one_host();
    let host = world.host("edge");
    let wanted = wanted(host);
    wait(async {
        let session = session(&wanted).await;
        host.sshd.freeze();
        let begun = Instant::now();
        let error = session.install(&wanted, &[bundle(NAME, 1, &fresh(NAME))]).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        assert!(matches!(error, InstallError::Silent { .. } | InstallError::Lost { .. }), "{error:?}");
    });
    host.sshd.thaw();
}

#[test]
fn putting_back_what_is_another_by_now_does_nothing() {
    let world = one_host();
    let host = world.host("edge");
    let wanted = wanted(host);
    let pair = fresh(NAME);
    deployed(host, &[bundle(NAME, 1, &pair)]);
    let put_back = PutBack {
        certificate: NAME.parse().unwrap(),
        installed: "7-00000000".to_owned(),
        previous: "0-before".to_owned(),
    };
    let results = wait(async { session(&wanted).await.put_back(&wanted, &[put_back]).await.unwrap() });
    assert!(results[0].as_ref().unwrap_err().to_string().contains("by now"), "{results:?}");
    assert!(serves(host, NAME, &pair));
}

#[test]
fn a_chain_of_a_ca_is_installed_with_it() {
    let world = one_host();
    let host = world.host("edge");
    let authority = Authority::new("a CA").unwrap();
    let pair = authority.issue(&[NAME], -DAY, 90 * DAY).unwrap();
    deployed(host, &[bundle(NAME, 1, &pair)]);
    assert_eq!(host.served(NAME).unwrap().chain.len(), 2);
}
