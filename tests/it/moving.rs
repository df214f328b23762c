//! Backup and restore of the store, and moving to another machine: as README's operating chapter has it.

use std::fs;
use std::process::Command;

use crate::tool::certfleet;
use crate::world::World;
use crate::world::process::run;

const NAME: &str = "media.social.test";
const CERTIFICATE: &str = "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"cdn\"]\n";

#[test]
fn a_store_that_is_restored_elsewhere_goes_on_where_it_was() {
    let world = World::builder().hosts(&["edge"]).site(&[NAME]).start().unwrap();
    let host = world.host("edge");
    let config = world.config(CERTIFICATE).unwrap();
    certfleet(&config, &["run", "--once"]).ended(0);
    let served = host.served(NAME).unwrap();
    let history = certfleet(&config, &["history", "--json"]).ended(0).json();

    let backup = world.dir.path().join("backup.tar.gz");
    run(Command::new("tar").arg("-C").arg(world.store()).arg("-czpf").arg(&backup).arg(".")).unwrap();
    fs::remove_dir_all(world.store()).unwrap();
    let elsewhere = world.dir.path().join("elsewhere");
    run(Command::new("install").args(["-d", "-m", "700"]).arg(&elsewhere)).unwrap();
    run(Command::new("tar").arg("-C").arg(&elsewhere).arg("-xzpf").arg(&backup)).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let moved = text.replace(&world.store().display().to_string(), &elsewhere.display().to_string());
    assert_ne!(moved, text);
    fs::write(&config, moved).unwrap();

    // Nothing is issued and nothing deployed, by whatever makes the first pass there.
    certfleet(&config, &["plan"]).ended(0);
    certfleet(&config, &["run", "--once"]).ended(0);
    assert_eq!((world.pebble.orders(), host.reloads()), (1, 1));
    assert_eq!(host.served(NAME).unwrap(), served);
    let kept = certfleet(&config, &["history", "--json"]).ended(0).json();
    let entries = |history: &serde_json::Value| history["entries"].as_array().map_or(0, Vec::len);
    assert!(entries(&kept) >= entries(&history) && entries(&history) > 0, "{kept}");

    // And it is able to renew: keys, account and what is known of hosts came along.
    certfleet(&config, &["renew", "--force", NAME]).ended(0);
    assert_ne!(host.served(NAME).unwrap().serial, served.serial);
    assert!(!world.store().exists());
}
