//! The whole road through providers that need no zones: from certs.toml to a certificate, and after a crash.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest, Sha256};

use tokio::net::{TcpListener, TcpStream};

use super::fake::{Api, Records, Reply, Request, Server};
use super::{OWNER, SECRET};
use crate::tool::{certfleet, command, finish};
use crate::world::World;
use crate::world::made::Authority;

/// A web service that makes the records itself, in a real name server.
struct RawService(Arc<World>);

impl Api for RawService {
    fn answer(&mut self, request: &Request, _: &mut Records) -> Reply {
        let body = request.json();
        let (domain, key_authorization) =
            (body["domain"].as_str().unwrap(), body["keyAuth"].as_str().unwrap());
        assert!(key_authorization.starts_with(&format!("{}.", body["token"].as_str().unwrap())));
        // RFC 8555 section 8.4.
        let value = URL_SAFE_NO_PAD.encode(Sha256::digest(key_authorization));
        let line = format!("_acme-challenge.{domain}. 60 TXT \"{value}\"");
        match request.path.as_str() {
            "/present" => self.0.ns.add(&line).unwrap(),
            "/cleanup" => self.0.ns.remove(&line).unwrap(),
            path => panic!("{path}"),
        }
        Reply::empty(200)
    }
}

/// HTTPS before a server that speaks HTTP, for as long as the runtime lives.
fn https_before(runtime: &tokio::runtime::Runtime, server: SocketAddr, authority: &Authority) -> SocketAddr {
    let ip = IpAddr::from([127, 0, 0, 1]);
    let pair = authority.issue_for_address(ip).unwrap();
    let chain = rustls_pemfile::certs(&mut pair.leaf.as_bytes()).map(Result::unwrap).collect();
    let key = rustls_pemfile::private_key(&mut pair.key.as_bytes()).unwrap().unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = runtime.block_on(TcpListener::bind((ip, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who does not trust us hangs up.
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let mut inside = TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    address
}

#[test]
fn a_certificate_is_issued_through_a_web_service_in_raw_mode_whose_https_must_be_trusted() {
    let world = Arc::new(World::builder().start().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let authority = Authority::new("the CA of the web service").unwrap();
    let service = Server::start(RawService(Arc::clone(&world)));
    let tables = format!(
        "[dns.hook]\nprovider = \"httpreq\"\nendpoint = \"{}\"\nmode = \"raw\"\nauthoritative = [\"{}\"]\n\
         [[certificate]]\ndomains = [\"media.social.test\", \"*.media.social.test\"]\ndns = \"hook\"\nhosts = []\n",
        format_args!("https://{}", https_before(&runtime, service.address, &authority)),
        world.ns.address,
    );
    let config = world.config(&tables).unwrap();

    certfleet(&config, &["renew"]).ended(1).said("an HTTPS certificate that is not trusted here");
    assert_eq!(service.requests(), 0);

    let trusted = world.dir.path().join("trusted.pem");
    fs::write(&trusted, authority.pem()).unwrap();
    let mut renew = command(&config, &["renew", "--force", "media.social.test"]);
    finish(renew.env("SSL_CERT_FILE", &trusted).spawn().unwrap()).ended(0);

    assert_eq!((world.pebble.orders(), world.pebble.issued()), (1, 1));
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    assert_eq!(service.log().len(), 4, "two values, come and gone");
}

/// acme-dns: it has one name, and keeps the last two values of it.
struct AcmeDns(Arc<World>, Vec<String>);

impl Api for AcmeDns {
    fn answer(&mut self, request: &Request, _: &mut Records) -> Reply {
        if request.header("x-api-key") != SECRET {
            return Reply::careless(401, request);
        }
        let value = request.json()["txt"].as_str().unwrap().to_owned();
        let line = |value: &str| format!("d420.acme.test. 1 TXT \"{value}\"");
        if self.1.len() == 2 {
            self.0.ns.remove(&line(&self.1.remove(0))).unwrap();
        }
        self.0.ns.add(&line(&value)).unwrap();
        self.1.push(value.clone());
        Reply::json(200, &json!({ "txt": value }))
    }
}

#[test]
fn a_certificate_is_issued_through_acme_dns_again_and_again() {
    let world = World::builder()
        .zone("social.test")
        .zone("acme.test")
        .record("_acme-challenge.media.social.test. 60 IN CNAME d420.acme.test.")
        .start();
    let world = Arc::new(world.unwrap());
    let server = Server::start(AcmeDns(Arc::clone(&world), Vec::new()));
    let tables = format!(
        "[dns.delegated]\nprovider = \"acme-dns\"\nserver = \"{}\"\nsubdomain = \"d420\"\n\
         fulldomain = \"d420.acme.test\"\nusername = \"u\"\npassword = {}\nauthoritative = [\"{}\"]\n\
         [[certificate]]\ndomains = [\"media.social.test\", \"*.media.social.test\"]\n\
         dns = \"delegated\"\nhosts = []\n",
        server.url(""),
        server.secret(),
        world.ns.address,
    );
    let config = world.config(&tables).unwrap();

    for _ in 0..2 {
        certfleet(&config, &["renew", "--force", "media.social.test"]).ended(0);
    }

    assert_eq!(world.pebble.issued(), 2);
    assert_eq!(world.ns.txt_records().unwrap().len(), 2);
}

#[test]
fn after_a_crash_a_program_in_raw_mode_is_told_again_what_it_was_told() {
    let world = World::builder().start().unwrap();
    let hook = world.dir.path().join("hook");
    let calls = world.dir.path().join("calls");
    let script = |then: &str| {
        let _ = fs::remove_file(&hook);
        let text = format!("#!/bin/sh\necho \"$*\" >>'{}'\n{then}\n", calls.display());
        fs::write(&hook, text).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let seen = || fs::read_to_string(&calls).unwrap_or_default();
    let tables = format!(
        "[dns.hook]\nprovider = \"exec\"\ncommand = {hook:?}\nmode = \"raw\"\n\
         [[certificate]]\ndomains = [\"media.social.test\"]\ndns = \"hook\"\nhosts = []\n"
    );
    let config = world.config(&tables).unwrap();

    // It never comes back, until its own end is noticed: a pipe of which we hold the other end.
    let pipe = world.dir.path().join("pipe");
    crate::world::process::run(std::process::Command::new("mkfifo").arg(&pipe)).unwrap();
    script(&format!("read -r line <'{}'", pipe.display()));
    let mut child = command(&config, &["renew"]);
    child.env("RUST_LOG", "certfleet=debug");
    let mut child = child.spawn().unwrap();
    let began = Instant::now();
    while !seen().ends_with('\n') {
        assert!(began.elapsed() < Duration::from_secs(60), "the program was not called");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    // Lets the program go: opening waits until it is there.
    drop(fs::File::options().write(true).open(&pipe).unwrap());
    let first = finish(child);

    let told = seen();
    let words: Vec<&str> = told.split_whitespace().collect();
    let ["present", "--", "media.social.test", token, key_authorization] = words[..] else {
        panic!("{told}")
    };
    assert!(key_authorization.starts_with(&format!("{token}.")));

    // The CA is gone, so nobody but the store knows the token.
    world.pebble.stop();
    script("");
    fs::remove_file(&calls).unwrap();
    let second = certfleet(&config, &["run", "--once"]).ended(1);
    assert_eq!(seen(), format!("cleanup -- media.social.test {token} {key_authorization}\n"));
    for ran in [&first, &second] {
        assert!(!ran.err.contains(key_authorization) && !ran.out.contains(key_authorization), "{ran:?}");
    }
    assert!(!seen().contains(OWNER));
}

#[test]
fn providers_are_listed_and_explained_without_any_certs_toml() {
    let nowhere = std::path::Path::new("/nowhere/certs.toml");
    let list = certfleet(nowhere, &["providers"]).ended(0);
    for kind in certfleet::dns::KINDS {
        assert!(list.out.contains(kind.summary), "{}", list.out);
        let one = certfleet(nowhere, &["providers", kind.name]).ended(0);
        assert!(one.out.contains(kind.example) && one.out.contains(kind.rights), "{}", one.out);
        let json = certfleet(nowhere, &["providers", kind.name, "--json"]).ended(0).json();
        assert_eq!(json["name"], kind.name);
    }
    let all = certfleet(nowhere, &["--json", "providers"]).ended(0).json();
    assert_eq!(all.as_array().unwrap().len(), certfleet::dns::KINDS.len());
    certfleet(nowhere, &["providers", "powerdsn"]).ended(2).said("did you mean `powerdns`?");
    certfleet(nowhere, &["providers", "zzz\u{1b}[2J"]).ended(2).said("`certfleet providers` lists them");
}
