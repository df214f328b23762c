//! Transactions that end badly: what is used on the host is what it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::{DEPLOYED, NAME, below, edit, settles};
use crate::tool::certfleet;
use crate::world::host::{Host, Script};
use crate::world::made::DAY;
use crate::world::{Builder, World};

const OTHER: &str = "other.social.test";
const BOTH: &str = "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"cdn\"]\n\
                    [[certificate]]\ndomains = [\"other.social.test\"]\nhosts = [\"cdn\"]\n";

fn world(hosts: &[&str], sites: &[&str]) -> World {
    let mut builder = Builder::default().hosts(hosts);
    for site in sites {
        builder = builder.site(&[site]);
    }
    builder.start().unwrap()
}

/// What nginx can read of certificates on a host: staged versions that nothing leads to are not part of it.
fn in_use(host: &Host) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = below(&host.live);
    found.retain(|path, _| !path.starts_with(host.live.join(".certfleet")));
    found.extend(below(&host.root.join("archive")));
    found
}

/// The bytes of a certificate as nginx reads them, whatever links are in between.
fn files(host: &Host, name: &str) -> [Vec<u8>; 4] {
    ["privkey", "fullchain", "cert", "chain"]
        .map(|part| fs::read(host.live.join(name).join(format!("{part}.pem"))).unwrap())
}

#[test]
fn a_configuration_that_was_broken_before_is_left_as_it_is() {
    let world = world(&["sally", "esme"], &[NAME]);
    let config = world.config(DEPLOYED).unwrap();
    let sally = world.host("sally");
    sally.break_config().unwrap();
    let before = in_use(sally);

    certfleet(&config, &["renew"])
        .ended(1)
        .said("cannot deploy `media.social.test` to `sally`: its configuration was broken before, nothing was changed")
        .said("unknown directive \"this_is_no_directive\"")
        .said(&format!("hint: mend it on the host until `{}` passes", sally.test_command))
        .printed("media.social.test on sally: FAILED");

    assert_eq!(in_use(sally), before);
    assert_eq!(sally.reloads(), 0);
    assert!(sally.served(NAME).unwrap().expired());
    assert!(!world.host("esme").served(NAME).unwrap().expired(), "the other host was held up");
    let report = certfleet(&config, &["report", "--json"]).ended(3).json();
    let problem = &report["certificates"][0]["hosts"][0]["problem"];
    assert_eq!(problem["code"], "deploy.host-broken");

    sally.mend_config().unwrap();
    certfleet(&config, &["run", "--once"]).ended(0);
    assert!(!sally.served(NAME).unwrap().expired());
    assert_eq!(world.pebble.orders(), 1);
}

#[test]
fn a_version_with_which_the_configuration_fails_is_taken_back_and_others_are_not() {
    let world = world(&["sally"], &[NAME, OTHER]);
    let config = world.config(BOTH).unwrap();
    let sally = world.host("sally");
    // Somebody's config takes the certificate from its folder, but the key from elsewhere.
    let key = sally.root.join("nginx/elsewhere.key");
    fs::copy(sally.live.join(NAME).join("privkey.pem"), &key).unwrap();
    let site = sally.root.join("nginx/sites").join(format!("{NAME}.conf"));
    edit(&site, &sally.live.join(NAME).join("privkey.pem").display().to_string(), &key.display().to_string());
    let before = files(sally, NAME);

    certfleet(&config, &["renew"])
        .ended(1)
        .said(
            "cannot deploy `media.social.test` version 1 to `sally`: its configuration does not work with it",
        )
        .said("key values mismatch")
        .said("hint: the version before is back in place")
        .printed("media.social.test on sally: FAILED")
        .printed("other.social.test on sally: version 1 is what visitors get");

    assert_eq!(files(sally, NAME), before);
    assert!(sally.served(NAME).unwrap().expired());
    assert!(!sally.served(OTHER).unwrap().expired(), "one bad certificate took another with it");

    fs::remove_file(&key).unwrap();
    std::os::unix::fs::symlink(sally.live.join(NAME).join("privkey.pem"), &key).unwrap();
    certfleet(&config, &["run", "--once"]).ended(0);
    assert!(!sally.served(NAME).unwrap().expired());
    assert_eq!(world.pebble.orders(), 2);
}

#[test]
fn a_reload_that_fails_puts_the_old_version_back() {
    let world = world(&["sally"], &[NAME]);
    let config = world.config(DEPLOYED).unwrap();
    let sally = world.host("sally");
    sally.set_reload(Script::Fails).unwrap();
    let before = files(sally, NAME);

    certfleet(&config, &["renew"])
        .ended(1)
        .said("cannot deploy `media.social.test` version 1 to `sally`: the reload failed")
        .said("reload: told to fail")
        .said("hint: the version before is back in place");

    assert_eq!(files(sally, NAME), before);
    assert!(sally.served(NAME).unwrap().expired());
}

#[test]
fn a_reload_that_lies_is_found_out_and_the_next_pass_heals() {
    let world = world(&["sally"], &[NAME]);
    let config = world.config(DEPLOYED).unwrap();
    let sally = world.host("sally");
    sally.set_reload(Script::Lies).unwrap();
    let before = files(sally, NAME);
    let old = sally.served(NAME).unwrap();

    certfleet(&config, &["renew"])
        .ended(1)
        .said("`sally` does not serve `media.social.test` version 1, the version before is back")
        .said(&format!("{} still serves", sally.tls()))
        .said("hint: look which server block answers there");

    assert_eq!(files(sally, NAME), before);
    settles(sally, "the old one is served", |served| *served == old);
    // What was seen last is what is served, not what was hoped for.
    let report = certfleet(&config, &["report", "--json"]).ended(3).json();
    let host = &report["certificates"][0]["hosts"][0];
    assert_eq!(host["standing"], "stale");
    assert_eq!(host["problem"]["code"], "deploy.not-served");
    assert!(host["serving"]["days-left"].as_i64().unwrap() < 0);

    sally.set_reload(Script::Works).unwrap();
    certfleet(&config, &["run", "--once"]).ended(0);
    assert!(!sally.served(NAME).unwrap().expired());
    assert_eq!(world.pebble.orders(), 1);
    certfleet(&config, &["report"]).ended(0);
}

#[test]
fn where_another_server_block_answers_the_old_version_comes_back() {
    let world = world(&["sally"], &[NAME]);
    let config = world.config(DEPLOYED).unwrap();
    let sally = world.host("sally");
    // The block of this name takes its certificate from a place that is not ours.
    let aside = world.pebble.issue_aside(&[NAME], -DAY, 20 * DAY).unwrap();
    sally.install("moved", &aside).unwrap();
    let site = sally.root.join("nginx/sites").join(format!("{NAME}.conf"));
    let text = fs::read_to_string(&site).unwrap();
    fs::write(&site, text.replace(&format!("live/{NAME}/"), "live/moved/")).unwrap();
    sally.reload_quietly().unwrap();
    settles(sally, "the other one is served", |served| !served.expired());
    let (before, serving) = (files(sally, NAME), sally.served(NAME).unwrap());

    certfleet(&config, &["renew"])
        .ended(1)
        .said("`sally` does not serve `media.social.test` version 1, the version before is back")
        .said("hint: look which server block answers there");

    assert_eq!(files(sally, NAME), before);
    settles(sally, "what was served is served", |served| *served == serving);
}

#[test]
fn one_of_two_addresses_that_stays_old_brings_the_old_version_back_at_both() {
    let world = world(&["sally", "esme"], &[NAME]);
    let config = world.config(&DEPLOYED.replace("\"cdn\"", "\"sally\"")).unwrap();
    let (sally, esme) = (world.host("sally"), world.host("esme"));
    edit(
        &config,
        &format!("verify = [\"{}\"]", sally.tls()),
        &format!("verify = [\"{}\", \"{}\"]", sally.tls(), esme.tls()),
    );
    let old = sally.served(NAME).unwrap();

    certfleet(&config, &["renew"])
        .ended(1)
        .said("`sally` does not serve `media.social.test` version 1, the version before is back")
        .said(&format!("{} still serves", esme.tls()));

    settles(sally, "the old one is back", |served| *served == old);
    edit(
        &config,
        &format!("verify = [\"{}\", \"{}\"]", sally.tls(), esme.tls()),
        &format!("verify = [\"{}\"]", sally.tls()),
    );
    certfleet(&config, &["run", "--once"]).ended(0);
    assert!(!sally.served(NAME).unwrap().expired());
    assert_eq!(world.pebble.orders(), 1);
}
