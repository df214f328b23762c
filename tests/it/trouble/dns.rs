//! A DNS account that cannot write: a wrong secret, an unknown key, no server, no right.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{STORED, edit, noted_records, requests};
use crate::tool::certfleet;
use crate::world::World;

/// Fails in the way that `spoil` makes it fail, waits, and after `mend` goes on with the same order.
fn fails_and_goes_on(
    world: &World,
    config: &Path,
    says: &[&str],
    spoil: impl Fn(),
    mend: impl Fn(),
    again: &[&str],
) {
    spoil();
    let mut ran =
        certfleet(config, &["renew"]).ended(1).said("cannot issue").said("next: tried again from 20");
    for text in says {
        ran = ran.said(text);
    }
    assert_eq!(requests(&world.pebble, "/chalZ/"), 0, "the CA was sent to look");
    let orders = world.pebble.orders();

    // Another process, so what it knows it knows from the store.
    let ran = certfleet(config, &["renew"]).ended(1).printed("tried 1 time, next attempt 20");
    assert!(!ran.err.contains("issuing"), "it was tried at once:\n{}", ran.err);
    certfleet(config, &["plan"]).ended(3).printed("tried 1 time, next attempt 20");

    mend();
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new(), "left by the failure");
    certfleet(config, again).ended(0).printed("version 1 issued");
    assert_eq!(world.pebble.orders(), orders.max(1), "a new order was made");
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    assert_eq!(noted_records(world), 0);
}

#[test]
fn a_wrong_secret_is_said_and_the_order_goes_on_when_it_is_right() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();
    let right = fs::read_to_string(&world.ns.secret_file).unwrap();
    fails_and_goes_on(
        &world,
        &config,
        &[
            &format!("`{}` has another secret for the TSIG key `certfleet`", world.ns.address),
            "hint: copy the `secret` of `key \"certfleet\"` from the name server again",
        ],
        || fs::write(&world.ns.secret_file, STANDARD.encode([7; 32])).unwrap(),
        || fs::write(&world.ns.secret_file, &right).unwrap(),
        &["renew", "--force"],
    );
    assert_eq!(world.pebble.orders(), 1);
}

#[test]
fn an_unknown_key_is_named_and_a_changed_certs_toml_is_tried_at_once() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();
    fails_and_goes_on(
        &world,
        &config,
        &[
            "does not know the TSIG key `certfleat`",
            "hint: BIND: `include` the file with `key \"certfleat\"`",
        ],
        || edit(&config, "key-name = \"certfleet\"", "key-name = \"certfleat\""),
        || edit(&config, "key-name = \"certfleat\"", "key-name = \"certfleet\""),
        &["renew"],
    );
    assert_eq!(world.pebble.orders(), 1);
}

#[test]
fn a_name_server_that_is_down_is_named() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();
    fails_and_goes_on(
        &world,
        &config,
        &["_acme-challenge.media.social.test"],
        || world.ns.primary_service.stop(),
        || world.ns.primary_service.start().unwrap(),
        &["renew", "--force"],
    );
}

#[test]
fn a_record_that_the_key_may_not_set_is_named_with_the_grant_that_is_missing() {
    let world = World::builder().zone("social.test").locked_zone("locked.test").start().unwrap();
    let config = world
        .config("[[certificate]]\nname = \"locked\"\ndomains = [\"www.locked.test\", \"www.social.test\"]\nhosts = []\n")
        .unwrap();

    certfleet(&config, &["renew"])
        .ended(1)
        .said("does not let the key `certfleet` change TXT of `_acme-challenge.www.locked.test.` in `locked.test.`")
        .said("hint: BIND: add `grant certfleet name _acme-challenge.www.locked.test. TXT;`");

    assert_eq!(requests(&world.pebble, "/chalZ/"), 0, "the CA was sent to look");
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    assert_eq!(noted_records(&world), 0, "a record that was never set is noted for ever");
    edit(&config, "\"www.locked.test\", ", "");
    certfleet(&config, &["renew"]).ended(0);
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    assert_eq!(noted_records(&world), 0);
}
