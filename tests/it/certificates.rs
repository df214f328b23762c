//! The certificate side against real CAs: bound accounts, profiles, chains, keys, several issuers, revocation.

use std::fs;
use std::path::{Path, PathBuf};

use x509_parser::prelude::{FromDer, Pem, X509Certificate};

use crate::tool::certfleet;
use crate::world::made::write_private;
use crate::world::pebble::{Behaviour, Pebble};
use crate::world::{Extra, World};

const NAME: &str = "media.social.test";
const CERTIFICATE: &str = "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = []\n";

fn world(behaviour: Behaviour) -> World {
    World::builder().pebble(behaviour).start().unwrap()
}

/// certs.toml with lines added to the issuer's table, and the certificate with lines of its own.
fn config(world: &World, issuer: &str, certificate: &str) -> PathBuf {
    let extra = Extra { issuer, ..Extra::default() };
    world.config_with(&extra, &format!("{CERTIFICATE}{certificate}\n")).unwrap()
}

/// The certificates of the stored version, leaf first.
fn stored(world: &World, version: u32) -> Vec<Pem> {
    let file = world.store().join(format!("certificates/{NAME}/versions/{version}/fullchain.pem"));
    Pem::iter_from_buffer(&fs::read(&file).unwrap()).map(Result::unwrap).collect()
}

/// The life of a certificate, in days.
fn days(pem: &Pem) -> i64 {
    let validity = pem.parse_x509().unwrap().validity().clone();
    (validity.not_after.timestamp() - validity.not_before.timestamp() + 1) / 86_400
}

fn public_key(pem: &Pem) -> Vec<u8> {
    pem.parse_x509().unwrap().public_key().raw.to_vec()
}

/// Who signed the last certificate of a chain.
fn top(chain: &[Pem]) -> String {
    let last = chain.last().unwrap().parse_x509().unwrap();
    last.issuer().iter_common_name().next().unwrap().as_str().unwrap().to_owned()
}

/// The common names of the roots that a PEM file begins with.
fn roots(file: &Path, count: usize) -> Vec<String> {
    let bytes = fs::read(file).unwrap();
    Pem::iter_from_buffer(&bytes)
        .take(count)
        .map(|pem| {
            let pem = pem.unwrap();
            let (_, root) = X509Certificate::from_der(&pem.contents).unwrap();
            root.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn a_ca_that_binds_accounts_takes_ours_with_the_right_key_only() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let world = world(Behaviour {
        external_account: Some(("kid-1".to_owned(), key.to_owned())),
        ..Behaviour::default()
    });
    let secret = world.dir.path().join("eab");
    let eab = format!("eab = {{ key-id = \"kid-1\", hmac-key = {{ file = {secret:?} }} }}");

    let without = config(&world, "", "");
    certfleet(&without, &["renew"])
        .ended(1)
        .said("externalAccountRequired")
        .said("add to [issuer.pebble] `eab = ");

    let with = config(&world, &eab, "");
    let missing = certfleet(&with, &["renew"]).ended(1);
    missing.said("cannot read the external account key of `pebble`").said("install -m 600");
    write_private(&secret, "no base64 at all!").unwrap();
    certfleet(&with, &["renew", "--force"]).ended(1).said("the HMAC key is not in base64url");
    write_private(&secret, &format!("A{}", &key[1..])).unwrap();
    certfleet(&with, &["renew", "--force"])
        .ended(1)
        .said("`pebble` does not take the external account key (eab) of certs.toml")
        .said("make a new one on the CA's web site");
    assert_eq!(world.pebble.orders(), 0);

    write_private(&secret, &format!("{key}\n")).unwrap();
    let done = certfleet(&with, &["renew", "--force"]).ended(0);

    assert!(!done.err.contains(key) && !done.out.contains(key), "the key was shown");
    assert_eq!(world.pebble.issued(), 1);
    // It has done its work: without it, and without its file, the account goes on.
    fs::remove_file(&secret).unwrap();
    certfleet(&with, &["renew", "--force"]).ended(0);
    assert_eq!(world.pebble.issued(), 2);
}

#[test]
fn the_profile_of_the_certificate_goes_before_the_issuers() {
    let world = world(Behaviour {
        profiles: vec![("shortlived".to_owned(), 6 * 86_400), ("middle".to_owned(), 30 * 86_400)],
        ..Behaviour::default()
    });
    let life = |issuer: &str, certificate: &str, version: u32| {
        certfleet(&config(&world, issuer, certificate), &["renew", "--force"]).ended(0);
        days(&stored(&world, version)[0])
    };
    assert_eq!(life("profile = \"shortlived\"", "", 1), 6);
    assert_eq!(life("profile = \"shortlived\"", "profile = \"middle\"", 2), 30);
    assert_eq!(life("", "profile = \"default\"", 3), 90);
}

#[test]
fn a_profile_that_the_ca_does_not_offer_costs_no_order_and_those_it_offers_are_named() {
    let world =
        world(Behaviour { profiles: vec![("shortlived".to_owned(), 6 * 86_400)], ..Behaviour::default() });
    let wrong = config(&world, "", "profile = \"shortlife\"");

    certfleet(&wrong, &["renew"])
        .ended(1)
        .said("`pebble` does not offer the profile `shortlife`, it has default, shortlived")
        .said("not tried again until certs.toml changes")
        .said("set `profile` to one of default, shortlived, or remove it");
    certfleet(&wrong, &["renew"]).ended(3);
    assert_eq!(world.pebble.orders(), 0);

    certfleet(&config(&world, "", "profile = \"shortlived\""), &["renew"]).ended(0);
    assert_eq!(days(&stored(&world, 1)[0]), 6);
}

#[test]
fn the_preferred_chain_is_taken_where_it_is_offered() {
    let world = world(Behaviour { alternate_roots: 2, ..Behaviour::default() });
    // The file is in the order of the newest root first.
    let roots = roots(&world.pebble.roots, 3);
    certfleet(&config(&world, "", ""), &["renew"]).ended(0);
    let usual = top(&stored(&world, 1));
    let others: Vec<&String> = roots.iter().filter(|root| **root != usual).collect();
    assert_eq!(others.len(), 2, "{roots:?} {usual}");

    let by_issuer = format!("preferred-chain = \"{}\"", others[0]);
    certfleet(&config(&world, &by_issuer, ""), &["renew", "--force"]).ended(0);
    assert_eq!(top(&stored(&world, 2)), *others[0]);
    let by_certificate = format!("preferred-chain = \"{}\"", others[1]);
    certfleet(&config(&world, &by_issuer, &by_certificate), &["renew", "--force"]).ended(0);
    let chain = stored(&world, 3);
    assert_eq!(top(&chain), *others[1]);
    chain[0]
        .parse_x509()
        .unwrap()
        .verify_signature(Some(chain[1].parse_x509().unwrap().public_key()))
        .unwrap();

    certfleet(&config(&world, "preferred-chain = \"DST Root CA X3\"", ""), &["renew", "--force"])
        .ended(0)
        .said("the CA does not offer the preferred chain")
        .said(others[0]);
    assert_eq!(top(&stored(&world, 4)), usual);
}

#[test]
fn a_key_is_kept_only_where_that_is_asked_for() {
    let world = world(Behaviour::default());
    let mut version = 0;
    let mut key = |certificate: &str| {
        certfleet(&config(&world, "", certificate), &["renew", "--force"]).ended(0);
        version += 1;
        public_key(&stored(&world, version)[0])
    };
    let first = key("");
    let second = key("");
    assert_ne!(first, second, "renewing keeps the key");
    assert_eq!(key("reuse-key = true"), second);
    assert_eq!(key("reuse-key = true"), second);
    let other_type = key("reuse-key = true\nkey = \"ecdsa-p384\"");
    assert_ne!(other_type, second);
    assert_eq!(key("reuse-key = true\nkey = \"ecdsa-p384\""), other_type);
}

/// A second CA beside the world's own, `[issuer.other]`, and a certificate that either may issue.
fn with_fallback(behaviour: Behaviour) -> (World, Pebble, PathBuf) {
    let world = world(behaviour);
    let other = world.another_pebble(0, &Behaviour::default()).unwrap();
    let config = world
        .config(&format!(
            "[issuer.other]\ndirectory = \"{}\"\ndirectory-ca = {:?}\nroots = {:?}\naccept-terms = true\n\
             {CERTIFICATE}issuer = [\"pebble\", \"other\"]\n",
            other.directory, other.directory_ca, other.roots
        ))
        .unwrap();
    (world, other, config)
}

#[test]
fn the_next_issuer_is_asked_when_the_first_is_down_and_its_certificate_is_kept() {
    let (world, other, config) = with_fallback(Behaviour::default());
    world.pebble.stop();

    certfleet(&config, &["renew"])
        .ended(0)
        .said("cannot read the ACME directory at `pebble`")
        .said("next: the next issuer of `media.social.test` is asked")
        .said("issuing by other");

    assert_eq!(other.issued(), 1);
    let report = certfleet(&config, &["report", "--json"]).ended(0).json();
    assert_eq!(report["certificates"][0]["issuer"], "other");
    assert_eq!(report["certificates"][0]["problem"], serde_json::Value::Null);
    // Back again: no reason to issue anew, but the first to be asked when it is time.
    world.pebble.start_again().unwrap();
    certfleet(&config, &["renew"]).ended(0).printed("not due");
    assert_eq!((world.pebble.orders(), other.orders()), (0, 1));
    certfleet(&config, &["renew", "--force"]).ended(0);
    assert_eq!((world.pebble.issued(), other.issued()), (1, 1));
}

#[test]
fn the_next_issuer_is_asked_when_the_first_refuses() {
    let (world, other, config) =
        with_fallback(Behaviour { blocked: vec![NAME.to_owned()], ..Behaviour::default() });
    certfleet(&config, &["renew"]).ended(0).said("rejectedIdentifier");
    assert_eq!((world.pebble.issued(), other.issued()), (0, 1));
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
}

#[test]
fn no_other_issuer_is_asked_when_our_dns_fails_and_all_are_when_all_fail() {
    let (world, other, config) = with_fallback(Behaviour::default());
    let secret = fs::read_to_string(&world.ns.secret_file).unwrap();
    write_private(&world.ns.secret_file, "bm90IHRoZSBzZWNyZXQgb2YgdGhlIHNlcnZlcg==").unwrap();
    certfleet(&config, &["renew"]).ended(1);
    assert_eq!((world.pebble.orders(), other.orders()), (1, 0));

    write_private(&world.ns.secret_file, &secret).unwrap();
    world.pebble.stop();
    other.stop();
    certfleet(&config, &["renew", "--force"])
        .ended(1)
        .said("cannot read the ACME directory at `pebble`")
        .said("cannot read the ACME directory at `other`");
    // Each keeps its own pause; that it failed is said until it works again.
    certfleet(&config, &["renew"]).ended(1).printed("next attempt");
    assert_eq!((world.pebble.orders(), other.orders()), (1, 0));
}

#[test]
fn what_was_revoked_is_replaced_by_the_next_pass_and_goes_to_no_host() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config =
        world.config("[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"sally\"]\n").unwrap();
    certfleet(&config, &["renew"]).ended(0);
    let before = world.host("sally").served(NAME).unwrap();

    certfleet(&config, &["revoke", NAME]).ended(2).said("there is nobody to ask").said("add --yes");
    certfleet(&config, &["revoke", "media.social.tst", "--yes"]).ended(2).said("did you mean");
    certfleet(&config, &["revoke", NAME, "--yes", "--version", "7"]).ended(1).said("it has 1");
    assert!(!world.pebble.revoked(&before.serial).unwrap());
    let revoked = certfleet(&config, &["revoke", NAME, "--yes", "--reason", "superseded", "--json"]).ended(0);
    assert_eq!(revoked.json()["serial"], before.serial.to_lowercase());
    assert!(world.pebble.revoked(&before.serial).unwrap());

    certfleet(&config, &["plan"]).ended(3).printed("issue     media.social.test: it was revoked on 20");
    certfleet(&config, &["deploy", "--force"]).ended(3).printed("the newest version was revoked on 20");
    certfleet(&config, &["history", NAME]).ended(0).printed("revoked").printed("superseded");
    // Twice does no harm.
    certfleet(&config, &["revoke", NAME, "--yes"]).ended(0).printed(", superseded");
    certfleet(&config, &["run", "--once"]).ended(0);

    let after = world.host("sally").served(NAME).unwrap();
    assert_ne!(after.leaf(), before.leaf());
    assert!(!world.pebble.revoked(&after.serial).unwrap());
    certfleet(&config, &["report"]).ended(0);
    certfleet(&config, &["renew"]).ended(0).printed("not due");
    assert_eq!(world.pebble.orders(), 2);
}

#[test]
fn a_key_that_somebody_else_may_have_is_not_used_again() {
    let world = world(Behaviour::default());
    let config = config(&world, "", "reuse-key = true");
    certfleet(&config, &["renew"]).ended(0);
    certfleet(&config, &["revoke", NAME, "--yes", "--reason", "superseded"]).ended(0);
    certfleet(&config, &["renew"]).ended(0);
    assert_eq!(public_key(&stored(&world, 2)[0]), public_key(&stored(&world, 1)[0]));
    // The older one has the same key.
    certfleet(&config, &["revoke", NAME, "--yes", "--version", "2", "--reason", "key-compromise"]).ended(0);
    certfleet(&config, &["renew"]).ended(0);
    assert_ne!(public_key(&stored(&world, 3)[0]), public_key(&stored(&world, 2)[0]));
}

#[test]
fn accounts_are_shown_and_one_that_the_ca_lost_is_replaced_by_what_the_hint_says() {
    let world = world(Behaviour::default());
    let config = config(&world, "", "");
    certfleet(&config, &["account", "show"]).ended(0).printed("none yet");
    assert!(!world.store().exists());
    certfleet(&config, &["account", "register", "pebble"]).ended(0).printed("registered https://");
    certfleet(&config, &["account", "register", "pebble"]).ended(2).said("--replace");
    certfleet(&config, &["renew"]).ended(0);
    let id = |config| {
        let shown = certfleet(config, &["account", "show", "--json"]).ended(0).json();
        shown["accounts"][0]["account"].as_str().unwrap().to_owned()
    };
    let first = id(&config);
    world.pebble.stop();
    world.pebble.start_again().unwrap();

    let failed = certfleet(&config, &["renew", "--force"]).ended(1);
    let failed = failed.said("certfleet account register pebble --replace");
    assert!(failed.err.contains("accountDoesNotExist"), "{}", failed.err);
    certfleet(&config, &["account", "register", "pebble", "--replace"]).ended(0);

    certfleet(&config, &["renew", "--force"]).ended(0);
    assert_ne!(id(&config), first);
}

#[test]
fn a_dry_run_tries_everything_and_leaves_nothing() {
    let world = World::builder().hosts(&["sally", "esme"]).site(&[NAME]).start().unwrap();
    let config =
        world.config("[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"cdn\"]\n").unwrap();
    let before: Vec<_> = world.hosts.iter().map(|host| host.served(NAME).unwrap()).collect();

    certfleet(&config, &["renew", "--dry-run"])
        .ended(0)
        .printed("media.social.test by pebble: would issue it")
        .printed("sally: connected, its config test passes")
        .printed("esme: connected, its config test passes");

    assert_eq!((world.pebble.orders(), world.pebble.issued()), (1, 0));
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    assert!(!world.store().join(format!("certificates/{NAME}/state.json")).exists());
    for (host, before) in world.hosts.iter().zip(&before) {
        assert_eq!(host.served(NAME).unwrap().leaf(), before.leaf());
        assert_eq!(host.reloads(), 0, "{} was reloaded", host.name);
        assert!(!host.live.join(".certfleet").exists());
    }
    // Due or not, all named; and a real renewal is not in its way.
    certfleet(&config, &["renew"]).ended(0);
    let state = world.store().join(format!("certificates/{NAME}/state.json"));
    let known = fs::read(&state).unwrap();
    certfleet(&config, &["renew", "--dry-run", NAME, "--no-deploy", "--json"]).ended(0);
    assert_eq!(fs::read(&state).unwrap(), known);
    assert_eq!((world.pebble.orders(), world.pebble.issued()), (3, 1));
}

#[test]
fn a_dry_run_tells_what_would_fail_and_notes_no_failure() {
    let world = World::builder()
        .hosts(&["sally", "esme"])
        .site(&[NAME])
        .pebble(Behaviour { blocked: vec![NAME.to_owned()], ..Behaviour::default() })
        .start()
        .unwrap();
    let config =
        world.config("[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"cdn\"]\n").unwrap();
    world.host("esme").stop();

    let tried = certfleet(&config, &["renew", "--dry-run", "--json"]).ended(1);

    let tried = tried.json();
    assert_eq!(tried["issued"][0]["problem"]["code"], "acme.rejected-identifier");
    let host = |name: &str| {
        let hosts = tried["hosts"].as_array().unwrap();
        hosts.iter().find(|host| host["host"] == name).unwrap()["problem"]["code"].clone()
    };
    assert_eq!((host("sally"), host("esme")), (serde_json::Value::Null, "ssh.refused".into()));
    certfleet(&config, &["plan"]).ended(3).printed("issue     media.social.test: there is none yet");
    certfleet(&config, &["renew", "--dry-run", "--force"]).ended(2);
}

#[test]
fn a_hundred_names_fit_into_one_order() {
    let world = world(Behaviour::default());
    let mut names: Vec<String> = (1..100).map(|number| format!("n{number}.deep.social.test")).collect();
    names.push("*.social.test".to_owned());
    assert_eq!(names.len(), 100);
    let config = world
        .config(&format!("[[certificate]]\nname = \"many\"\ndomains = {names:?}\nhosts = []\n"))
        .unwrap();

    certfleet(&config, &["renew"]).ended(0);

    assert_eq!((world.pebble.orders(), world.pebble.issued()), (1, 1));
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    let file = world.store().join("certificates/many/versions/1/cert.pem");
    let pem = Pem::iter_from_buffer(&fs::read(file).unwrap()).next().unwrap().unwrap();
    let leaf = pem.parse_x509().unwrap();
    assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 100);
}
