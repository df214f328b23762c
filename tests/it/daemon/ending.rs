//! Told to end, and things that go away while it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use super::{Daemon, NAME, STORED, noted_records};
use crate::tool::certfleet;
use crate::world::World;
use crate::world::nameserver::Notify;

const OWNER: &str = "_acme-challenge.media.social.test";

/// In the middle of an order: the record is set, and the secondary does not know it.
fn in_the_middle() -> (World, std::path::PathBuf, Daemon) {
    let world = World::builder().secondary(Notify::Off).start().unwrap();
    let config = world.config(STORED).unwrap();
    let daemon = Daemon::start(world.dir.path(), &config);
    daemon.eventually("the record is set", || !world.ns.ask(OWNER, "TXT").unwrap().is_empty());
    (world, config, daemon)
}

#[test]
fn in_the_midst_of_an_order_it_removes_its_records_and_the_next_run_goes_on() {
    let (world, config, daemon) = in_the_middle();

    daemon.signal(Signal::TERM);

    daemon.tells("STOPPING=1", 1);
    let mut daemon = daemon;
    daemon.ended().ended(0).said("ending: removing challenge records first");
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    assert_eq!(noted_records(&world), 0);
    certfleet(&config, &["plan"]).ended(3).printed("takes up the open order");
}

#[test]
fn a_second_signal_ends_it_at_once_and_leaves_the_records_noted() {
    let (world, _config, mut daemon) = in_the_middle();
    // Removing takes longer than anybody waits.
    world.ns.primary_service.freeze();
    daemon.signal(Signal::INT);
    daemon.says("ending: removing challenge records first");

    daemon.signal(Signal::INT);

    daemon.ended().ended(1);
    world.ns.primary_service.thaw();
    assert_eq!(noted_records(&world), 1);
}

#[test]
fn a_store_that_cannot_be_written_is_said_and_the_next_pass_goes_on() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();
    let daemon = Daemon::of(&world, &config);
    let store = world.store();
    let away = world.dir.path().join("away");
    fs::rename(&store, &away).unwrap();

    daemon.signal(Signal::HUP);

    daemon.says("was removed or replaced while in use");
    daemon.eventually("the status", || daemon.status().contains("no pass could begin"));
    assert_eq!(fs::metadata(&away).unwrap().permissions().mode() & 0o777, 0o700);
    fs::rename(&away, &store).unwrap();
    daemon.signal(Signal::HUP);
    daemon.passes(2);
    assert_eq!(world.pebble.issued(), 1, "{NAME} was issued again");
    daemon.end().ended(0);
}
