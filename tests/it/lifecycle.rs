//! The main road, from certs.toml to what visitors get, with the built binary on a whole world.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::tool::certfleet;
use crate::world::World;

const HOSTS: [&str; 4] = ["cdn-frankfurt-1", "cdn-fremont-1", "sally", "esme"];
const NAME: &str = "media.social.test";
const CERTIFICATE: &str = "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"cdn\"]\n";

fn incident() -> World {
    World::builder()
        .zone("social.test")
        .zone("acme.test")
        .record("media.social.test. 60 IN CNAME cdn.social.test.")
        .record("_acme-challenge.media.social.test. 60 IN CNAME media.acme.test.")
        .hosts(&HOSTS)
        .site(&[NAME])
        .start()
        .unwrap()
}

#[test]
fn the_incident_is_ended_by_one_command() {
    let world = incident();
    let config = world.config(CERTIFICATE).unwrap();
    let before: Vec<_> = world.hosts.iter().map(|host| host.served(NAME).unwrap()).collect();
    assert!(before.iter().all(crate::world::look::Served::expired));

    certfleet(&config, &["renew", "--force", NAME]).ended(0);

    let after: Vec<_> = world.hosts.iter().map(|host| host.served(NAME).unwrap()).collect();
    for (host, served) in world.hosts.iter().zip(&after) {
        assert!(!served.expired(), "{} still serves an expired certificate", host.name);
        assert_eq!(served.leaf(), after[0].leaf(), "{} serves another leaf", host.name);
        assert!(served.chain.len() > 1, "{} serves no chain", host.name);
        assert_eq!(host.connections(), 1, "connections to {}", host.name);
        assert_eq!(host.reloads(), 1, "reloads on {}", host.name);
    }
    assert_eq!(world.pebble.orders(), 1);
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    private(&world.store());
    for host in &world.hosts {
        private(&host.live.join(".certfleet"));
    }
}

#[test]
fn a_second_renewal_makes_no_order_and_says_when_the_next_is_due() {
    let world = incident();
    let config = world.config(CERTIFICATE).unwrap();
    certfleet(&config, &["renew"]).ended(0);
    let reloads: Vec<_> = world.hosts.iter().map(|host| host.reloads()).collect();

    certfleet(&config, &["renew"]).ended(0).printed("not due, renews 20");

    assert_eq!(world.pebble.orders(), 1);
    assert_eq!(world.hosts.iter().map(|host| host.reloads()).collect::<Vec<_>>(), reloads);
}

#[test]
fn a_host_that_is_down_delays_nobody_is_named_and_is_caught_up_without_a_new_order() {
    let world = incident();
    let config = world.config(CERTIFICATE).unwrap();
    world.host("sally").stop();

    certfleet(&config, &["renew", "--force", NAME])
        .ended(1)
        .said("sally")
        .printed("media.social.test on sally: FAILED");

    for host in world.hosts.iter().filter(|host| host.name != "sally") {
        assert!(!host.served(NAME).unwrap().expired(), "{} was held up", host.name);
    }
    world.host("sally").start().unwrap();
    assert!(world.host("sally").served(NAME).unwrap().expired());
    certfleet(&config, &["run", "--once"]).ended(0);
    assert_eq!(
        world.host("sally").served(NAME).unwrap().leaf(),
        world.host("esme").served(NAME).unwrap().leaf()
    );
    assert_eq!(world.pebble.orders(), 1);
}

#[test]
fn planning_and_reporting_change_nothing() {
    let world = incident();
    let config = world.config(CERTIFICATE).unwrap();

    certfleet(&config, &["plan"]).ended(3).printed("issue     media.social.test: there is none yet");
    let report = certfleet(&config, &["report", "--live", "--json"]).ended(3).json();

    assert!(!world.store().exists(), "the store was created");
    assert_eq!(world.pebble.orders(), 0);
    let certificate = &report["certificates"][0];
    assert_eq!(certificate["standing"], "missing");
    assert_eq!(certificate["hosts"].as_array().unwrap().len(), 4);
    assert_eq!(certificate["hosts"][0]["standing"], "stale");
    assert!(certificate["hosts"][0]["serving"]["days-left"].as_i64().unwrap() < 0);
}

#[test]
fn the_report_has_the_fields_that_programs_rely_on() {
    let world = incident();
    let config = world.config(CERTIFICATE).unwrap();
    certfleet(&config, &["renew"]).ended(0);

    let report = certfleet(&config, &["report", "--format", "json"]).ended(0).json();

    let certificate = &report["certificates"][0];
    let served = world.host("esme").served(NAME).unwrap();
    let fingerprint = certfleet::model::name::Fingerprint::of(served.leaf()).to_string();
    assert_eq!(certificate["name"], NAME);
    assert_eq!(certificate["domains"], serde_json::json!([NAME]));
    assert_eq!(certificate["standing"], "valid");
    assert_eq!(certificate["issuer"], "pebble");
    assert_eq!(certificate["version"], 1);
    assert_eq!(certificate["serial"], served.serial.to_lowercase());
    assert_eq!(certificate["fingerprint"], fingerprint);
    assert!(certificate["problem"].is_null());
    for field in ["not-before", "not-after", "renews-at"] {
        assert!(certificate[field].as_str().unwrap().ends_with('Z'), "{field} is {}", certificate[field]);
    }
    for host in certificate["hosts"].as_array().unwrap() {
        assert_eq!(host["standing"], "serving");
        assert_eq!(host["serving"]["fingerprint"], fingerprint);
        assert_eq!(host["addresses"][0]["standing"], "serving");
        assert!(host["checked-at"].is_string());
        assert!(host["problem"].is_null());
    }
}

#[test]
fn apex_and_wildcard_stand_beside_each_other_and_beside_others_records() {
    let world = World::builder().hosts(&["sally"]).site(&["social.test"]).start().unwrap();
    world.ns.add("_acme-challenge.social.test. 60 IN TXT \"somebody else's\"").unwrap();
    let config = world
        .config("[[certificate]]\ndomains = [\"social.test\", \"*.social.test\"]\nhosts = [\"sally\"]\n")
        .unwrap();

    certfleet(&config, &["renew"]).ended(0);

    let mut names = world.host("sally").served("social.test").unwrap().names;
    names.sort();
    assert_eq!(names, ["*.social.test", "social.test"]);
    let left = world.ns.txt_records().unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].contains("somebody else's"));
}

#[test]
fn all_waiting_certificates_of_a_host_take_one_connection_one_test_and_one_reload() {
    let names = ["a.social.test", "b.social.test", "c.social.test"];
    let mut builder = World::builder().hosts(&["sally"]);
    for name in &names {
        builder = builder.site(&[name]);
    }
    let world = builder.start().unwrap();
    let tables: String = names
        .iter()
        .map(|name| format!("[[certificate]]\ndomains = [\"{name}\"]\nhosts = [\"sally\"]\n"))
        .collect();
    let config = world.config(&tables).unwrap();
    certfleet(&config, &["renew", "--no-deploy"]).ended(0);
    let host = world.host("sally");
    let (connections, tests, reloads) = (host.connections(), host.tests(), host.reloads());

    certfleet(&config, &["deploy"]).ended(0);

    assert_eq!(host.connections() - connections, 1);
    assert_eq!(host.reloads() - reloads, 1);
    // Before the switch (is the host's own configuration sound?) and after it.
    assert_eq!(host.tests() - tests, 2);
    for name in names {
        assert!(!host.served(name).unwrap().expired(), "{name}");
    }
}

/// Every file below is 0600, every folder 0700.
fn private(path: &Path) {
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.is_symlink() {
        return;
    }
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_dir() {
        assert_eq!(mode, 0o700, "{}", path.display());
        for entry in fs::read_dir(path).unwrap() {
            private(&entry.unwrap().path());
        }
    } else {
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}
