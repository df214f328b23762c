//! What a stranger expects who has read nothing but the promises: the built binary, seen from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::tool::{certfleet, command};
use crate::world::World;

const CERTIFICATE: &str = "[[certificate]]\ndomains = [\"www.social.test\"]\nhosts = [\"sally\"]\n";

fn world() -> World {
    World::builder().zone("social.test").hosts(&["sally"]).site(&["www.social.test"]).start().unwrap()
}

#[test]
fn a_secret_that_cannot_be_read_costs_no_order_and_leaves_no_record_to_remove() {
    let world = world();
    let config = world.config(CERTIFICATE).unwrap();
    let secret = world.dir.path().join("ns/tsig");
    let mode = |mode| fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);

    let refused = certfleet(&config, &["renew"]).ended(1).said("secret of `[dns.main]` cannot be read");

    assert!(refused.err.contains(&format!("hint: run `chmod 600 {}`", secret.display())), "{}", refused.err);
    assert_eq!(refused.err.matches("error: ").count(), 1, "{}", refused.err);
    assert_eq!(world.pebble.orders(), 0);
    assert!(!certfleet(&config, &["plan"]).ended(3).out.contains("clean up"));
    mode(0o600);
    certfleet(&config, &["renew", "--force"]).ended(0);
    assert_eq!(world.pebble.orders(), 1);
}

#[test]
fn every_line_of_check_that_is_not_well_has_a_remedy() {
    let world = world();
    let config = world.config(CERTIFICATE).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    // Nothing listens at these.
    let text = text.replace(&world.pebble.directory, "https://127.0.0.1:9/dir");
    let nobody: Vec<String> = text
        .lines()
        .map(|line| {
            if line.starts_with("server = ") {
                "server = \"127.0.0.1:9\"".to_owned()
            } else {
                line.to_owned()
            }
        })
        .collect();
    fs::write(&config, nobody.join("\n")).unwrap();

    let checked = certfleet(&config, &["check", "--json"]).ended(1).json();

    let findings = checked["findings"].as_array().unwrap();
    for subject in ["issuer pebble", "dns main: www.social.test"] {
        assert!(
            findings.iter().any(|finding| finding["standing"] == "fail" && finding["subject"] == subject),
            "{subject}\n{checked:#}"
        );
    }
    for finding in findings {
        let well = finding["standing"] == "pass";
        assert!(well || finding["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{finding:#}");
    }
}

#[test]
fn data_that_cannot_be_written_is_no_success() {
    let world = World::builder().start().unwrap();
    let config = world.config("[[certificate]]\ndomains = [\"www.social.test\"]\nhosts = []\n").unwrap();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();

    let output = command(&config, &["history", "--json"]).stdout(full).output().unwrap();

    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error: standard output cannot be written"), "{said}");
}

#[test]
fn force_says_when_a_deployment_alone_would_do() {
    let world = world();
    let config = world.config(CERTIFICATE).unwrap();
    let would = "is in the store and not served yet by sally: `certfleet deploy www.social.test` would do";
    let first = certfleet(&config, &["renew", "--force"]).ended(0);
    assert!(!first.err.contains("would do"), "{}", first.err);
    let second = certfleet(&config, &["renew", "--force", "--no-deploy"]).ended(0);
    assert!(!second.err.contains("would do"), "{}", second.err);

    certfleet(&config, &["renew", "--force", "--no-deploy"])
        .ended(0)
        .said(&format!("www.social.test version 2 {would}"));
    certfleet(&config, &["renew", "--force"]).ended(0).said(&format!("www.social.test version 3 {would}"));
}

#[test]
fn what_visitors_would_not_trust_is_warned_of_though_it_is_the_newest() {
    let world = world();
    let config = world.config(CERTIFICATE).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("roots = ")).collect();
    fs::write(&config, without.join("\n")).unwrap();

    certfleet(&config, &["renew"])
        .ended(0)
        .printed("www.social.test on sally: warning: visitors would not trust it: ");

    let report = certfleet(&config, &["report", "--json"]).ended(3).json();
    let host = &report["certificates"][0]["hosts"][0];
    assert_eq!(host["standing"], "serving", "{report:#}");
    assert_eq!(host["problem"]["code"], "served.untrusted", "{report:#}");
    certfleet(&config, &["report", "--check"]).ended(1).printed("WARNING: www.social.test on sally");
}
