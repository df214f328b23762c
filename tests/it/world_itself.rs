//! The world of the tests keeps its promises.

use crate::world::{World, dns};

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
