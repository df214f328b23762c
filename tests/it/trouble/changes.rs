//! certs.toml changes: other names, other keys, a certificate less.

use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::{DEPLOYED, NAME, below, edit};
use crate::tool::certfleet;
use crate::world::World;
use crate::world::look::Served;

/// The kind of a leaf's key, and its size in bits.
fn key_of(served: &Served) -> (&'static str, usize) {
    let (_, leaf) = X509Certificate::from_der(served.leaf()).unwrap();
    match leaf.public_key().parsed().unwrap() {
        PublicKey::RSA(key) => ("rsa", key.key_size()),
        PublicKey::EC(point) => ("ec", point.key_size()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_type_of_key_is_issued_deployed_and_proven() {
    let types = [
        ("ecdsa-p256", ("ec", 256)),
        ("ecdsa-p384", ("ec", 384)),
        ("rsa-2048", ("rsa", 2048)),
        ("rsa-4096", ("rsa", 4096)),
    ];
    let names = types.map(|(name, _)| format!("{name}.social.test"));
    let mut builder = World::builder().hosts(&["sally"]);
    for name in &names {
        builder = builder.site(&[name]);
    }
    let world = builder.start().unwrap();
    let tables: String = types
        .iter()
        .zip(&names)
        .map(|((kind, _), name)| {
            format!("[[certificate]]\ndomains = [\"{name}\"]\nhosts = [\"sally\"]\nkey = \"{kind}\"\n")
        })
        .collect();
    let config = world.config(&tables).unwrap();

    certfleet(&config, &["renew"]).ended(0);

    let sally = world.host("sally");
    for ((kind, wanted), name) in types.iter().zip(&names) {
        let served = sally.served(name).unwrap();
        assert!(!served.expired());
        assert_eq!(key_of(&served), *wanted, "{kind}");
    }
    assert_eq!(world.pebble.orders(), 4);

    // Another type of key is another certificate.
    edit(&config, "key = \"rsa-2048\"", "key = \"ecdsa-p256\"");
    certfleet(&config, &["plan"])
        .ended(3)
        .printed("rsa-2048.social.test: its key type changed in certs.toml");
    certfleet(&config, &["run", "--once"]).ended(0);
    assert_eq!(key_of(&sally.served("rsa-2048.social.test").unwrap()), ("ec", 256));
    assert_eq!(world.pebble.orders(), 5);
}

#[test]
fn other_names_are_ordered_and_served_and_the_order_of_names_does_not_matter() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(DEPLOYED).unwrap();
    certfleet(&config, &["renew"]).ended(0);

    edit(
        &config,
        "domains = [\"media.social.test\"]",
        "domains = [\"media.social.test\", \"www.social.test\"]",
    );
    certfleet(&config, &["plan"])
        .ended(3)
        .printed("issue     media.social.test: its domains changed in certs.toml");
    certfleet(&config, &["run", "--once"]).ended(0).printed("media.social.test: version 2 issued");
    let mut names = world.host("sally").served(NAME).unwrap().names;
    names.sort();
    assert_eq!(names, ["media.social.test", "www.social.test"]);
    assert_eq!(world.pebble.orders(), 2);

    edit(
        &config,
        "domains = [\"media",
        "name = \"media.social.test\"\nverify-names = [\"media.social.test\"]\ndomains = [\"media",
    );
    edit(
        &config,
        "[\"media.social.test\", \"www.social.test\"]",
        "[\"www.social.test\", \"media.social.test\"]",
    );
    certfleet(&config, &["run", "--once"]).ended(0);
    assert_eq!(world.pebble.orders(), 2, "the same names were ordered again");
}

#[test]
fn what_is_taken_out_of_certs_toml_stays_everywhere_and_is_listed() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world
        .config(&format!("{DEPLOYED}[[certificate]]\ndomains = [\"other.social.test\"]\nhosts = []\n"))
        .unwrap();
    certfleet(&config, &["renew"]).ended(0);
    let certificate = world.store().join("certificates").join(NAME);
    let (store, host) = (below(&certificate), below(&world.host("sally").live));
    let served = world.host("sally").served(NAME).unwrap();

    edit(&config, DEPLOYED, "");
    certfleet(&config, &["run", "--once"]).ended(0);

    certfleet(&config, &["report"])
        .ended(0)
        .printed("orphaned: media.social.test: in the store, not in certs.toml, not renewed")
        .printed("installed on sally");
    let report = certfleet(&config, &["report", "--json"]).ended(0).json();
    assert_eq!(report["certificates"].as_array().unwrap().len(), 1);
    assert_eq!(report["orphaned"][0]["name"], NAME);
    assert_eq!(report["orphaned"][0]["hosts"], serde_json::json!(["sally"]));
    assert!(below(&certificate) == store, "the store was changed");
    assert!(below(&world.host("sally").live) == host, "the host was changed");
    assert!(world.host("sally").served(NAME).unwrap() == served);
    assert_eq!(world.pebble.orders(), 2);
}
