//! Hosts as they are found: nothing uses the certificate yet, certbot was there, somebody else comes later.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::{DEPLOYED, NAME, below, edit, eventually, settles};
use crate::tool::certfleet;
use crate::world::World;
use crate::world::host::Host;
use crate::world::made::DAY;

const PARTS: [&str; 4] = ["privkey", "fullchain", "cert", "chain"];

/// A world with one host that serves a certificate of another CA, which everybody trusts.
fn with_trusted() -> World {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    put_aside(&world, world.host("sally"), 60);
    world
}

/// Installs a certificate of that other CA as certbot would, with so many of its 90 days left, and has nginx
/// load it.
fn put_aside(world: &World, host: &Host, left: i64) {
    let pair = world.pebble.issue_aside(&[NAME], (left - 90) * DAY, left * DAY).unwrap();
    host.install(NAME, &pair).unwrap();
    let before = host.served(NAME).unwrap();
    host.reload_quietly().unwrap();
    settles(host, "the other CA's is served", |served| *served != before);
}

fn issued_by_pebble(host: &Host) -> bool {
    host.served(NAME).unwrap().issuer.contains("Pebble")
}

#[test]
fn what_nothing_uses_yet_is_kept_and_found_in_use_later() {
    let world = World::builder().hosts(&["sally"]).start().unwrap();
    let config = world.config(DEPLOYED).unwrap();
    let sally = world.host("sally");
    let path = sally.live.join(NAME).join("fullchain.pem");

    certfleet(&config, &["renew"])
        .ended(0)
        .said(&format!("ssl_certificate {}", path.display()))
        .printed(&format!("nothing on `sally` uses {} yet", sally.live.join(NAME).display()));
    assert!(fs::read_to_string(&path).unwrap().contains("BEGIN CERTIFICATE"));
    let standing = || {
        let report = certfleet(&config, &["report", "--json"]).ended(0).json();
        report["certificates"][0]["hosts"][0]["standing"].as_str().unwrap().to_owned()
    };
    assert_eq!(standing(), "pending");
    // Nothing more to do there: no connection, no reload.
    let (connections, reloads) = (sally.connections(), sally.reloads());
    certfleet(&config, &["run", "--once"]).ended(0).printed("installed, nothing there uses it yet");
    assert_eq!((sally.connections(), sally.reloads()), (connections, reloads));

    sally.add_server(NAME, &[NAME]).unwrap();
    sally.reload_quietly().unwrap();
    settles(sally, "nginx serves it", |served| served.issuer.contains("Pebble"));
    certfleet(&config, &["run", "--once"]).ended(0);
    assert_eq!(standing(), "serving");
    assert_eq!((sally.connections(), sally.reloads()), (connections, reloads));

    // It was seen served: what somebody else puts there now is foreign.
    put_aside(&world, sally, 60);
    certfleet(&config, &["run", "--once"]).ended(3).printed("a valid certificate that is not ours");
    assert!(!issued_by_pebble(sally));
    assert_eq!(world.pebble.orders(), 1);
}

#[test]
fn a_folder_of_certbot_is_taken_over_without_a_gap() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(DEPLOYED).unwrap();
    let sally = world.host("sally");
    certfleet(&config, &["renew", "--no-deploy"]).ended(0);
    let archive = below(&sally.root.join("archive"));
    let files = PARTS.map(|part| sally.live.join(NAME).join(format!("{part}.pem")));
    let old = files.clone().map(|file| fs::read(file).unwrap());
    let version = world.store().join("certificates").join(NAME).join("versions/1");
    let new = PARTS.map(|part| fs::read(version.join(format!("{part}.pem"))).unwrap());

    let (done, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for ((file, old), new) in files.iter().zip(&old).zip(&new) {
                    let bytes = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                    assert!(bytes == *old || bytes == *new, "{} was neither old nor new", file.display());
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        eventually("the reader reads", || rounds.load(Ordering::Relaxed) > 0);
        let ran = certfleet(&config, &["deploy"]);
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        ran.ended(0);
    });

    assert_eq!(files.clone().map(|file| fs::read(file).unwrap()), new);
    assert!(issued_by_pebble(sally));
    assert_eq!(below(&sally.root.join("archive")), archive, "what is certbot's was changed");
}

#[test]
fn what_visitors_trust_is_not_replaced_by_what_they_would_not() {
    let world = with_trusted();
    let config = world.config(DEPLOYED).unwrap();
    let sally = world.host("sally");
    // Visitors know the other CA only.
    let roots = fs::read_to_string(&world.pebble.roots).unwrap();
    let other = roots.rfind("-----BEGIN CERTIFICATE-----").unwrap();
    let trusted = world.dir.path().join("trusted.pem");
    fs::write(&trusted, &roots[other..]).unwrap();
    edit(&config, &format!("{:?}", world.pebble.roots), &format!("{trusted:?}"));
    let before = sally.served(NAME).unwrap();

    certfleet(&config, &["renew"])
        .ended(3)
        .printed("media.social.test on sally: kept, it has a trusted certificate and ours would not be")
        .printed("--allow-downgrade replaces it");
    assert!(sally.served(NAME).unwrap() == before, "it was replaced");
    assert_eq!(sally.connections(), 0);
    certfleet(&config, &["deploy", "--force"]).ended(3).printed("--allow-downgrade replaces it");
    assert!(sally.served(NAME).unwrap() == before, "it was replaced");

    certfleet(&config, &["deploy", "--allow-downgrade"]).ended(0);
    assert!(issued_by_pebble(sally));
    assert_eq!(world.pebble.orders(), 1);
}

#[test]
fn an_untrusted_certificate_may_replace_an_expired_one() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(DEPLOYED).unwrap();
    // Everyone begins at a staging CA, whose root is in no browser.
    let nobody = world.dir.path().join("nobody.pem");
    fs::copy(&world.pebble.directory_ca, &nobody).unwrap();
    edit(&config, &format!("{:?}", world.pebble.roots), &format!("{nobody:?}"));

    certfleet(&config, &["renew"]).ended(0);

    assert!(issued_by_pebble(world.host("sally")));
}

#[test]
fn a_foreign_certificate_is_reported_and_replaced_only_when_asked() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(DEPLOYED).unwrap();
    let sally = world.host("sally");
    certfleet(&config, &["renew"]).ended(0);
    put_aside(&world, sally, 60);

    certfleet(&config, &["run", "--once"])
        .ended(3)
        .printed("media.social.test on sally: serves")
        .printed("a valid certificate that is not ours")
        .printed("`certfleet deploy media.social.test --host sally --force` replaces it");
    assert!(!issued_by_pebble(sally));
    let report = certfleet(&config, &["report", "--json"]).ended(3).json();
    assert_eq!(report["certificates"][0]["hosts"][0]["standing"], "foreign");

    certfleet(&config, &["deploy", NAME, "--host", "sally", "--force"]).ended(0);
    assert!(issued_by_pebble(sally));
    assert_eq!(world.pebble.orders(), 1);

    // One that is about to run out is not kept: ours replaces it unasked.
    put_aside(&world, sally, 10);
    certfleet(&config, &["run", "--once"]).ended(0);
    assert!(issued_by_pebble(sally));
    certfleet(&config, &["report"]).ended(0);
}
