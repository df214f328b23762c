//! The world of the tests keeps its promises.

use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use instant_acme::{
    Account, BodyWrapper, BytesResponse, ChallengeType, Error, HttpClient, Identifier, NewAccount, NewOrder,
    OrderStatus, RetryPolicy,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::world::host::{Host, Script};
use crate::world::look::{self, Served};
use crate::world::nameserver::Notify;
use crate::world::parts;
use crate::world::pebble::Behaviour;
use crate::world::process::{Service, Watchdog};
use crate::world::{Extra, World, dns};

#[test]
fn dns_updates_with_the_key_are_taken_and_seen() {
    let world = World::builder().start().unwrap();
    let line = "_acme-challenge.media.social.test. 60 TXT proof";
    dns::update(world.ns.address, &world.ns.key, "social.test", line, true).unwrap();
    let answers = world.ns.ask("_acme-challenge.media.social.test", "TXT").unwrap();
    assert_eq!(answers, ["_acme-challenge.media.social.test. 60 IN TXT proof"]);
    assert_eq!(world.ns.txt_records().unwrap(), answers);
    dns::update(world.ns.address, &world.ns.key, "social.test", line, false).unwrap();
    assert!(world.ns.txt_records().unwrap().is_empty());
}

#[test]
fn dns_updates_with_a_wrong_key_or_of_another_type_are_refused() {
    let world = World::builder().start().unwrap();
    let mut wrong = world.ns.key.clone();
    wrong.secret[0] ^= 1;
    let txt = "a.social.test. 60 TXT proof";
    let refused = dns::update(world.ns.address, &wrong, "social.test", txt, true).unwrap_err();
    assert!(refused.contains("refuses the update"), "{refused}");
    let address = "a.social.test. 60 A 127.0.0.1";
    dns::update(world.ns.address, &world.ns.key, "social.test", address, true).unwrap_err();
    world.ns.add(address).unwrap();
    assert_eq!(world.ns.ask("a.social.test", "A").unwrap().len(), 1);
}

#[test]
fn names_are_followed_from_zone_to_zone_and_unknown_ones_do_not_exist() {
    let world = World::builder()
        .record("_acme-challenge.media.social.test. 60 IN CNAME media.acme.test.")
        .start()
        .unwrap();
    world.ns.add("media.acme.test. 60 TXT proof").unwrap();
    let answers = world.ns.ask("_acme-challenge.media.social.test", "TXT").unwrap();
    assert_eq!(answers.len(), 2, "{answers:?}");
    let begin = Instant::now();
    let (code, answers) = dns::ask(world.ns.address, "example.org", "A").unwrap();
    assert_eq!((code.as_str(), answers.len()), ("Non-Existent Domain", 0));
    assert!(begin.elapsed().as_secs() < 1, "it asked somebody else");
}

#[test]
fn a_secondary_learns_of_changes_when_it_is_told() {
    let world = World::builder().secondary(Notify::Off).start().unwrap();
    let secondary = world.ns.secondary.unwrap();
    world.ns.add("a.social.test. 60 TXT proof").unwrap();
    assert!(dns::ask(secondary, "a.social.test", "TXT").unwrap().1.is_empty());
    world.ns.notify_secondary("social.test").unwrap();
    let deadline = Instant::now();
    while dns::ask(secondary, "a.social.test", "TXT").unwrap().1.is_empty() {
        assert!(deadline.elapsed().as_secs() < 20, "{}", world.ns.secondary_service.as_ref().unwrap().log());
    }
}

#[test]
fn the_acme_server_answers_under_its_own_ca_and_shows_its_roots() {
    let world = World::builder().start().unwrap();
    let served = look::served(world.pebble.address, "localhost").unwrap();
    assert_eq!(served.chain.len(), 1);
    assert!(fs::read_to_string(&world.pebble.directory_ca).unwrap().contains("BEGIN CERTIFICATE"));
    let directory = look::get(world.pebble.address, "/dir").unwrap();
    assert!(directory.contains(&format!("https://{}/", world.pebble.address)), "{directory}");
    assert!(directory.contains("renewalInfo"), "{directory}");
    let root = fs::read_to_string(&world.pebble.roots).unwrap();
    assert!(root.contains("BEGIN CERTIFICATE"));
    assert_eq!((world.pebble.orders(), world.pebble.issued()), (0, 0));

    world.pebble.stop();
    look::get(world.pebble.address, "/dir").unwrap_err();
    world.pebble.start_again().unwrap();
    look::get(world.pebble.address, "/dir").unwrap();
    assert_ne!(fs::read_to_string(&world.pebble.roots).unwrap(), root);
}

#[test]
fn an_acme_server_can_be_difficult() {
    let behaviour = Behaviour {
        blocked: vec!["blocked.test".to_owned()],
        external_account: Some((
            "kid-1".to_owned(),
            "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W".to_owned(),
        )),
        alternate_roots: 1,
        ..Behaviour::default()
    };
    let world = World::builder().pebble(behaviour.chaos()).start().unwrap();
    let directory = look::get(world.pebble.address, "/dir").unwrap();
    assert!(directory.contains("\"externalAccountRequired\": true"), "{directory}");
    look::get(world.pebble.management, "/roots/1").unwrap();
    let log = world.pebble.service.log();
    assert!(log.contains("reject 5% of good nonces") && log.contains("50% of the time"), "{log}");
    assert!(!log.contains("Disabling random VA sleeps"), "{log}");
}

#[tokio::test]
async fn the_acme_server_validates_through_a_cname_into_another_zone() {
    let world = World::builder()
        .record("_acme-challenge.media.social.test. 60 IN CNAME media.acme.test.")
        .pebble(Behaviour { validity: 3600, ..Behaviour::default() })
        .start()
        .unwrap();
    let order = async || {
        let http = Box::new(Http::new(&world.pebble.directory_ca));
        let new = NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
        let builder = Account::builder_with_http(http);
        let (account, _) = builder.create(&new, world.pebble.directory.clone(), None).await.unwrap();
        let names = [Identifier::Dns("media.social.test".to_owned())];
        let mut order = account.new_order(&NewOrder::new(&names)).await.unwrap();
        let mut authorizations = order.authorizations();
        let mut authorization = authorizations.next().await.unwrap().unwrap();
        let mut challenge = authorization.challenge(ChallengeType::Dns01).unwrap();
        let value = challenge.key_authorization().dns_value();
        world.ns.add(&format!("media.acme.test. 60 TXT {value}")).unwrap();
        challenge.set_ready().await.unwrap();
        let retry =
            RetryPolicy::new().initial_delay(Duration::from_millis(20)).timeout(Duration::from_secs(20));
        assert_eq!(order.poll_ready(&retry).await.unwrap(), OrderStatus::Ready);
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["media.social.test".to_owned()]).unwrap();
        let csr = params.serialize_request(&key).unwrap();
        order.finalize_csr(csr.der()).await.unwrap();
        order.poll_certificate(&retry).await.unwrap()
    };
    let chain = order().await;
    assert_eq!((world.pebble.orders(), world.pebble.issued()), (1, 1));
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    let issued = Served::from_chain(vec![leaf.to_vec()]).unwrap();
    assert!((3500..=3600).contains(&(issued.not_after - look::now())), "{issued:?}");
    assert!(!world.pebble.revoked(&issued.serial).unwrap());
    world.pebble.set_renewal_window(&chain, "2023-02-01T00:00:00Z", "2023-02-02T00:00:00Z").unwrap();
}

#[test]
fn four_hosts_serve_an_expired_certificate() {
    let begin = Instant::now();
    let names = ["cdn-frankfurt-1", "cdn-fremont-1", "sally", "esme"];
    let world = World::builder().hosts(&names).site(&["media.social.test"]).start().unwrap();
    eprintln!("a world with four hosts started in {:?}", begin.elapsed());
    for host in &world.hosts {
        let served = host.served("media.social.test").unwrap();
        assert!(served.expired());
        assert_eq!(served.names, ["media.social.test"]);
        assert_eq!(host.served("unknown.social.test").unwrap().names, ["default.invalid"]);
    }

    let host = world.host("sally");
    host.install_selfsigned("media.social.test", &["media.social.test"]).unwrap();
    assert!(host.served("media.social.test").unwrap().expired(), "nginx was not told yet");
    host.reload_quietly().unwrap();
    eventually("the new certificate is served", || !host.served("media.social.test").unwrap().expired());
}

#[test]
fn ssh_reaches_the_test_and_reload_commands_of_a_host() {
    let world = World::builder().hosts(&["sally"]).site(&["media.social.test"]).start().unwrap();
    let host = world.host("sally");
    assert_eq!(ssh(&world, host, "echo here; id -un").unwrap(), format!("here\n{}\n", host.user));
    assert_eq!((host.connections(), host.tests(), host.reloads()), (1, 0, 0));

    ssh(&world, host, &host.test_command).unwrap();
    ssh(&world, host, &host.reload_command).unwrap();
    ssh(&world, host, "nginx -t && command -v flock").unwrap();
    assert_eq!((host.connections(), host.tests(), host.reloads()), (4, 1, 1));

    host.break_config().unwrap();
    let said = ssh(&world, host, &host.test_command).unwrap_err();
    assert!(said.contains("this_is_no_directive"), "{said}");
    host.mend_config().unwrap();
    ssh(&world, host, &host.test_command).unwrap();
    host.set_test(Script::Fails).unwrap();
    ssh(&world, host, &host.test_command).unwrap_err();
    assert_eq!(host.tests(), 4);
}

#[test]
fn a_host_goes_down_and_comes_back_on_the_same_ports() {
    let world = World::builder().hosts(&["sally"]).site(&["media.social.test"]).start().unwrap();
    let host = world.host("sally");
    let mut session = ssh_command(&world, host, "sleep 60").spawn().unwrap();
    eventually("the session is there", || host.connections() == 1);
    host.stop();
    assert!(!session.wait().unwrap().success(), "the session outlived its server");
    look::banner(host.ssh()).unwrap_err();
    host.served("media.social.test").unwrap_err();
    host.start().unwrap();
    assert!(host.served("media.social.test").unwrap().expired());
    assert_eq!(ssh(&world, host, "echo back").unwrap(), "back\n");
}

#[test]
fn a_configuration_names_every_part_of_the_world() {
    let world = World::builder().hosts(&["sally", "esme"]).secondary(Notify::After(1)).start().unwrap();
    let extra = Extra { dns: "ttl = 5", host: "sudo = false", ..Extra::default() };
    let certificate = "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"cdn\"]";
    let path = world.config_with(&extra, certificate).unwrap();
    let config: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    assert_eq!(config["issuer"]["pebble"]["directory"].as_str(), Some(world.pebble.directory.as_str()));
    assert_eq!(config["dns"]["main"]["authoritative"].as_array().unwrap().len(), 2);
    assert_eq!(config["dns"]["main"]["ttl"].as_integer(), Some(5));
    for host in &world.hosts {
        let table = &config["host"][host.name.as_str()];
        assert_eq!(table["address"].as_str(), Some(host.address.to_string().as_str()));
        assert_eq!(table["host-key"][0].as_str(), Some(host.host_key.as_str()));
        assert_eq!(table["sudo"].as_bool(), Some(false));
    }
    assert_eq!(config["group"]["cdn"].as_array().unwrap().len(), 2);
    assert_eq!(config["certificate"][0]["hosts"][0].as_str(), Some("cdn"));
}

#[test]
fn the_watchdog_kills_what_a_killed_test_leaves_behind() {
    let folder = tempfile::tempdir().unwrap();
    let watchdog = Watchdog::start().unwrap();
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    let service = Service::new("sleep", sleep, &folder.path().join("log"), &watchdog, || true).unwrap();
    service.start().unwrap();
    assert!(service.running());
    // What the kernel does when the test's process is gone: it closes the pipe.
    watchdog.let_go();
    eventually("the service was killed", || !service.running());
}

/// What a command prints on a host; what it said when it failed.
fn ssh(world: &World, host: &Host, command: &str) -> Result<String, String> {
    let output = ssh_command(world, host, command).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(out) } else { Err(out + &String::from_utf8_lossy(&output.stderr)) }
}

fn ssh_command(world: &World, host: &Host, command: &str) -> Command {
    let known_hosts = world.dir.path().join("known_hosts");
    let line = format!("[{}]:{} {}\n", host.address, host.ssh_port, host.host_key);
    fs::write(&known_hosts, line).unwrap();
    let mut ssh = parts::ssh().unwrap().command();
    ssh.args([
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "StrictHostKeyChecking=yes",
    ])
    .arg("-o")
    .arg(format!("UserKnownHostsFile={}", known_hosts.display()))
    .arg("-i")
    .arg(&host.identity)
    .args(["-p", &host.ssh_port.to_string()])
    .arg(format!("{}@{}", host.user, host.address))
    .arg(command);
    ssh
}

/// Waits for what servers do in their own time.
fn eventually(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed().as_secs() < 20, "in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The least HTTP client with which an order can be made.
struct Http(reqwest::Client);

impl Http {
    fn new(directory_ca: &Path) -> Self {
        // reqwest wants one for the whole process; another test may have set it already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ca = reqwest::Certificate::from_pem(&fs::read(directory_ca).unwrap()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).user_agent("certfleet-tests").no_proxy();
        Self(client.build().unwrap())
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let request = http::Request::from_parts(parts, body).try_into().unwrap();
            let answer: http::Response<reqwest::Body> = client.execute(request).await.unwrap().into();
            let (parts, body) = answer.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}
