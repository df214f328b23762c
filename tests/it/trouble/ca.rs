//! A CA that refuses, or is not there.

use super::{edit, requests};
use crate::tool::certfleet;
use crate::world::World;
use crate::world::pebble::Behaviour;

#[test]
fn a_refused_name_is_not_tried_again_until_something_changes_and_holds_up_nobody() {
    let blocked = Behaviour { blocked: vec!["blocked.test".to_owned()], ..Behaviour::default() };
    let world =
        World::builder().pebble(blocked).hosts(&["sally"]).site(&["media.social.test"]).start().unwrap();
    let config = world
        .config(
            "[[certificate]]\nname = \"shop\"\ndomains = [\"shop.blocked.test\"]\nhosts = []\n\
             [[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"sally\"]\n",
        )
        .unwrap();
    let asked = || requests(&world.pebble, "/order-plz");

    certfleet(&config, &["renew"])
        .ended(1)
        .said("cannot issue `shop`")
        // Pebble's own words.
        .said("issuance is forbidden by policy: \"shop.blocked.test\" (rejectedIdentifier)")
        .said("next: not tried again until certs.toml changes, or with --force")
        .said("hint: remove the name from `domains`, or use another `issuer`")
        .printed("shop: FAILED");
    assert!(!world.host("sally").served("media.social.test").unwrap().expired(), "the other was held up");
    assert_eq!((asked(), world.pebble.orders()), (2, 1));

    certfleet(&config, &["renew"])
        .ended(3)
        .printed("shop: not tried again until certs.toml changes (or --force)")
        .printed("shop.blocked.test");
    certfleet(&config, &["plan", "shop"]).ended(3).printed("not tried again until certs.toml changes");
    let report = certfleet(&config, &["report", "--json"]).ended(3).json();
    let standing = |name: &str| {
        let all = report["certificates"].as_array().unwrap();
        all.iter().find(|certificate| certificate["name"] == name).unwrap()["standing"].clone()
    };
    assert_eq!((standing("shop"), standing("media.social.test")), ("blocked".into(), "valid".into()));
    assert_eq!(asked(), 2, "the CA was asked again");

    certfleet(&config, &["renew", "--force", "shop"]).ended(1).said("cannot issue `shop`");
    assert_eq!(asked(), 3, "--force did not ask once");

    edit(&config, "shop.blocked.test", "shop.social.test");
    certfleet(&config, &["renew"]).ended(0).printed("shop: version 1 issued");
    assert_eq!((asked(), world.pebble.orders()), (4, 2));
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
}

#[test]
fn without_the_ca_what_the_store_has_is_deployed() {
    let world = World::builder().hosts(&["sally"]).site(&["media.social.test"]).start().unwrap();
    let config = world
        .config(
            "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"sally\"]\n\
             [[certificate]]\nname = \"new\"\ndomains = [\"new.social.test\"]\nhosts = []\n",
        )
        .unwrap();
    certfleet(&config, &["renew", "--no-deploy", "media.social.test"]).ended(0);
    world.pebble.stop();

    certfleet(&config, &["run", "--once"])
        .ended(1)
        .said("cannot issue `new`")
        .said("next: tried again from 20")
        .printed("media.social.test on sally: version 1 is what visitors get");

    assert!(!world.host("sally").served("media.social.test").unwrap().expired());
    assert!(!world.store().join("certificates/new/versions/1").exists());
    // Back-off is kept over restarts: what failed a moment ago is not tried now.
    world.pebble.start_again().unwrap();
    let ran = certfleet(&config, &["renew", "new"]).ended(1).printed("next attempt 20");
    assert!(!ran.out.contains("issued"), "{}", ran.out);
    assert_eq!(requests(&world.pebble, "/order-plz"), 1);
}
