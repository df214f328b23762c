//! `certfleet alert test`, as somebody who sets channels up runs it: each says what came of it, and all at once.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tool::certfleet;
use crate::world::made::{Authority, write_private};
use crate::world::smtp::{LOGIN, Mail};
use crate::world::web::{Fault, Reply, Web};

/// Receivers of all kinds, and a certs.toml that names them.
struct Bench {
    web: Web,
    mail: Mail,
    journal: UnixDatagram,
    dir: TempDir,
    config: PathBuf,
}

const NAMES: [&str; 7] = ["discord", "email", "exec", "journal", "ntfy", "slack", "webhook"];

impl Bench {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let ca = Authority::new("a CA of our own").unwrap();
        let pair = ca.issue_for_address("127.0.0.1".parse().unwrap()).unwrap();
        fs::write(at("ca.pem"), ca.pem()).unwrap();
        write_private(&at("password"), LOGIN.1).unwrap();
        fs::write(at("hook"), format!("#!/bin/sh\ncat > {:?}\n", at("read"))).unwrap();
        fs::set_permissions(at("hook"), Permissions::from_mode(0o700)).unwrap();
        let web = Web::start_tls(&pair, |_| Reply::json(200, &json!({ "id": "77" })));
        let mail = Mail::start("starttls", &pair).unwrap();
        let journal = UnixDatagram::bind(at("socket")).unwrap();
        let mut text = format!(
            "[store]\npath = {:?}\n[issuer.letsencrypt]\ncontact = [\"ops@example.org\"]\naccept-terms = true\n\
             [dns.main]\nprovider = \"exec\"\ncommand = \"/x\"\n[[certificate]]\ndomains = [\"www.example.org\"]\nhosts = []\n",
            at("store")
        );
        for (kind, path) in [
            ("discord", "/api/webhooks/1/x"),
            ("slack", "/services/x"),
            ("ntfy", "/topic"),
            ("webhook", "/x"),
        ] {
            write_private(&at(kind), &web.url(path)).unwrap();
            let _ = writeln!(
                text,
                "[alert.{kind}]\nchannel = '{kind}'\nurl = {{ file = {:?} }}\nca = {:?}",
                at(kind),
                at("ca.pem")
            );
        }
        let _ = writeln!(
            text,
            "[alert.exec]\nchannel = 'exec'\ncommand = {:?}\n[alert.journal]\nchannel = 'journal'\nsocket = {:?}\n\
             [alert.email]\nchannel = 'email'\nserver = '{}'\nfrom = 'certfleet@example.org'\nto = 'ops@example.org'\n\
             username = '{}'\npassword = {{ file = {:?} }}\nca = {:?}",
            at("hook"),
            at("socket"),
            mail.address,
            LOGIN.0,
            at("password"),
            at("ca.pem"),
        );
        let config = at("certs.toml");
        write_private(&config, &text).unwrap();
        Self { web, mail, journal, dir, config }
    }

    fn test(&self, channel: &[&str], code: i32) -> Vec<Value> {
        let args: Vec<&str> = ["alert", "test", "--json"].iter().chain(channel).copied().collect();
        let mut tried =
            certfleet(&self.config, &args).ended(code).json()["channels"].as_array().unwrap().clone();
        tried.sort_by_key(|tried| tried["channel"].as_str().unwrap().to_owned());
        tried
    }
}

fn names(tried: &[Value]) -> Vec<&str> {
    tried.iter().map(|tried| tried["channel"].as_str().unwrap()).collect()
}

#[test]
fn every_channel_is_tried_and_every_receiver_gets_the_notice() {
    let bench = Bench::start();
    let tried = bench.test(&[], 0);
    assert_eq!(names(&tried), NAMES);
    assert!(tried.iter().all(|tried| tried["delivered"] == true && tried["problem"].is_null()), "{tried:#?}");
    assert_eq!((&tried[0]["answer"], &tried[4]["answer"]), (&json!("77"), &json!("77")));

    let said = |name: &str| format!("certfleet can reach you by `{name}`");
    let mails = bench.mail.received();
    assert_eq!(mails.len(), 1);
    assert!(mails[0]["headers"].to_string().contains(&said("email")), "{:#}", mails[0]);
    assert!(fs::read_to_string(bench.dir.path().join("read")).unwrap().contains(&said("exec")));
    let mut entry = vec![0; 65_536];
    let length = bench.journal.recv(&mut entry).unwrap();
    assert!(String::from_utf8_lossy(&entry[..length]).contains(&said("journal")));
    let requests = bench.web.log();
    assert_eq!(requests.len(), 4);
    for name in ["discord", "ntfy", "slack", "webhook"] {
        let body = |text: &str| text.replace("\\\\", "").contains(&said(name).replace('`', ""));
        let plain = |text: &str| body(&text.replace(['`', '\\'], ""));
        assert_eq!(
            requests.iter().filter(|request| plain(&request.body)).count(),
            1,
            "{name}: {requests:#?}"
        );
    }

    assert_eq!(names(&bench.test(&["email"], 0)), ["email"]);
    assert_eq!((bench.mail.received().len(), bench.web.requests()), (2, 4));
    certfleet(&bench.config, &["alert", "test"]).ended(0).printed("ok    email: delivered in ");
    certfleet(&bench.config, &["alert", "test", "emial"]).ended(2).said("email");
}

#[test]
fn a_channel_that_fails_is_named_with_its_remedy_and_the_others_are_tried() {
    let bench = Bench::start();
    bench.web.fail(Some(Fault::Status(404, "{\"message\": \"Unknown Webhook\"}")));
    write_private(&bench.dir.path().join("password"), "wrong").unwrap();
    let tried = bench.test(&[], 1);
    assert_eq!(names(&tried), NAMES);
    for tried in &tried {
        let name = tried["channel"].as_str().unwrap();
        let code = match name {
            "exec" | "journal" => Value::Null,
            _ => json!("notify.unauthorized"),
        };
        assert_eq!(tried["problem"]["code"], code, "{tried:#}");
        assert!(
            code.is_null() || tried["problem"]["hint"].as_str().unwrap().contains(&format!("alert.{name}")),
            "{tried:#}"
        );
    }
    let shown =
        certfleet(&bench.config, &["alert", "test"]).ended(1).printed("ok    exec").printed("fail  email: ");
    assert!(
        shown.out.contains("535 to the login") && shown.out.contains("`alert.email.username`"),
        "{}",
        shown.out
    );
}
