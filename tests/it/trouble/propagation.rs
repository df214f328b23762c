//! Name servers that know a record later than others, or never.

use super::{STORED, eventually, noted_records, requests};
use crate::tool::{certfleet, command, finish};
use crate::world::nameserver::Notify;
use crate::world::{Extra, World, dns};

const OWNER: &str = "_acme-challenge.media.social.test";

#[test]
fn the_ca_is_told_only_when_every_name_server_answers() {
    let world = World::builder().secondary(Notify::Off).start().unwrap();
    let config = world.config(STORED).unwrap();
    let child = command(&config, &["renew"]).spawn().unwrap();
    eventually("the primary has the record", || !world.ns.ask(OWNER, "TXT").unwrap().is_empty());

    assert_eq!(requests(&world.pebble, "/chalZ/"), 0, "the CA was told before the secondary knew");
    world.ns.notify_secondary("social.test").unwrap();

    finish(child).ended(0).printed("version 1 issued");
    assert_eq!(requests(&world.pebble, "/chalZ/"), 1);
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
}

#[test]
fn a_secondary_that_is_late_is_waited_for() {
    let world = World::builder().secondary(Notify::After(2)).start().unwrap();
    let config = world.config(STORED).unwrap();
    certfleet(&config, &["renew"]).ended(0).printed("version 1 issued");
    assert_eq!(world.pebble.orders(), 1);
    let log = world.pebble.service.log();
    assert!(!log.contains("set INVALID"), "the CA looked too early:\n{log}");
}

#[test]
fn a_secondary_that_never_learns_is_named_and_the_ca_is_not_told() {
    let world = World::builder().secondary(Notify::Off).start().unwrap();
    let extra = Extra { dns: "propagation-timeout = \"2s\"", ..Extra::default() };
    let config = world.config_with(&extra, STORED).unwrap();
    let secondary = world.ns.secondary.unwrap();

    certfleet(&config, &["renew"])
        .ended(1)
        .said("the DNS record did not reach all name servers of `social.test.`")
        .said(&format!("{secondary} still answers without the value for {OWNER}"))
        .said("hint: raise `dns.main.propagation-timeout`, or see why that server lags");

    assert_eq!(requests(&world.pebble, "/chalZ/"), 0, "the CA was sent to look");
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    assert_eq!(noted_records(&world), 0);

    // The same order goes on once the secondary learns.
    let child = command(&config, &["renew", "--force"]).spawn().unwrap();
    eventually("the primary has the record", || !world.ns.ask(OWNER, "TXT").unwrap().is_empty());
    world.ns.notify_secondary("social.test").unwrap();
    finish(child).ended(0);
    assert_eq!(world.pebble.orders(), 1);
    assert!(!dns::ask(secondary, OWNER, "TXT").unwrap().1.is_empty(), "the secondary never had it");
}
