//! The preflight: what is there is ok, what is missing is named with its remedy, and nothing is changed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::tool::certfleet;
use crate::world::World;
use crate::world::pebble::CAA_IDENTITY;

const NAME: &str = "media.social.test";
const TWO: &str = "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"cdn\"]\n\
                   [[certificate]]\ndomains = [\"*.social.test\", \"social.test\"]\nhosts = []\n";

/// The findings of one standing whose subject begins so.
fn found<'a>(findings: &'a Value, standing: &str, subject: &str) -> Vec<&'a Value> {
    let all = findings["findings"].as_array().unwrap();
    let begins = |finding: &&Value| finding["subject"].as_str().unwrap().starts_with(subject);
    all.iter().filter(begins).filter(|finding| finding["standing"] == standing).collect()
}

#[test]
fn what_is_as_it_should_be_is_ok_and_stays_as_it_is() {
    let world = World::builder()
        .hosts(&["sally"])
        .site(&[NAME])
        .zone("social.test")
        .zone("acme.test")
        .record("_acme-challenge.media.social.test. 60 IN CNAME media.acme.test.")
        .record(&format!("social.test. 60 IN CAA 0 issue \"{CAA_IDENTITY}\""))
        .start()
        .unwrap();
    let config = world.config(TWO).unwrap();
    let host = world.host("sally");
    let reloads = host.reloads();

    let checked = certfleet(&config, &["check", "--json"]).ended(0).json();

    assert!(found(&checked, "fail", "").is_empty(), "{checked:#}");
    for subject in [
        "config",
        "secret `secret`",
        "state",
        "clock",
        "issuer pebble",
        "account at pebble",
        "dns main: media.social.test",
        "dns main: social.test",
        "caa media.social.test",
        "caa social.test",
        "host sally: login",
        "host sally: commands",
        "host sally: directory",
        "host sally: test",
    ] {
        assert_eq!(found(&checked, "pass", subject).len(), 1, "{subject}\n{checked:#}");
    }
    // It serves an expired certificate.
    assert_eq!(found(&checked, "warn", "probe sally").len(), 1, "{checked:#}");
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    assert!(world.ns.primary_log().contains("certfleet-check-"), "no record was written");
    assert!(!world.store().exists(), "looking made a store");
    assert_eq!((world.pebble.orders(), host.reloads()), (0, reloads));
    assert!(!host.live.join(".certfleet").exists());
    let order = |text: &str| {
        text.lines().filter_map(|line| line.split(": ").next().map(str::to_owned)).collect::<Vec<_>>()
    };
    let [once, again] = [(); 2].map(|()| order(&certfleet(&config, &["check"]).ended(0).out));
    assert_eq!(once, again);
}

#[test]
fn every_name_of_a_certificate_is_tried() {
    let world = World::builder().zone("social.test").start().unwrap();
    let certificate = "[[certificate]]\nhosts = []\ndomains = [\"media.social.test\", \"*.media.social.test\", \
                       \"www.social.test\", \"x.elsewhere.test\"]\n";
    let config = world.config(certificate).unwrap();

    let checked = certfleet(&config, &["check", "--json"]).ended(1).json();

    let passed = found(&checked, "pass", "dns main: media.social.test");
    assert!(passed[0]["message"].as_str().unwrap().ends_with("; 2 of 3 names alike"), "{checked:#}");
    let failed = found(&checked, "fail", "dns main");
    assert_eq!(failed.len(), 1, "{checked:#}");
    assert_eq!(failed[0]["subject"], "dns main: x.elsewhere.test", "{checked:#}");
    assert!(failed[0]["hint"].is_string(), "{checked:#}");
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_named_with_its_remedy_and_the_rest_is_tried() {
    let world = World::builder()
        .hosts(&["sally", "esme", "frank"])
        .site(&[NAME])
        .zone("social.test")
        .zone("acme.test")
        .record("media.social.test. 60 IN CAA 0 issue \"other.test\"")
        .record("social.test. 60 IN CAA 0 issuewild \";\"")
        .start()
        .unwrap();
    let config = world.config(TWO).unwrap();
    world.host("sally").break_config().unwrap();
    world.host("esme").stop_sshd();
    let secret = &world.ns.secret_file;
    fs::set_permissions(secret, Permissions::from_mode(0o644)).unwrap();

    let checked = certfleet(&config, &["check", "--json"]).ended(1).json();

    let one = |subject: &str| {
        let found = found(&checked, "fail", subject);
        assert_eq!(found.len(), 1, "{subject}\n{checked:#}");
        found[0].clone()
    };
    let chmod = format!("run `chmod 600 {}`", secret.display());
    assert_eq!(one("secret `secret`")["hint"], chmod.as_str());
    assert_eq!(one("dns main: media.social.test")["code"], "dns.secret");
    assert!(one("host sally: test")["message"].as_str().unwrap().contains("this_is_no_directive"));
    assert_eq!(one("host esme: login")["code"], "ssh.refused");
    assert!(one("caa media.social.test")["message"].as_str().unwrap().contains("only `other.test`"));
    let wildcard = one("caa social.test");
    assert!(wildcard["message"].as_str().unwrap().contains("*.social.test"), "{wildcard}");
    assert!(wildcard["hint"].as_str().unwrap().contains("CAA 0 issuewild \"ca.test\""), "{wildcard}");
    for subject in ["host frank: test", "host sally: login", "issuer pebble", "clock"] {
        assert_eq!(found(&checked, "pass", subject).len(), 1, "{subject}\n{checked:#}");
    }
    world.pebble.stop();
    let checked = certfleet(&config, &["check", "--json"]).ended(1).json();
    assert_eq!(found(&checked, "fail", "issuer pebble").len(), 1, "{checked:#}");
}
