//! Told to end, and things that go away while it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::{Daemon, NAME, STORED, noted_records};
use crate::tool::{certfleet, command};
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
fn records_that_cannot_be_removed_on_the_way_out_are_named() {
    let (world, _config, mut daemon) = in_the_middle();
    world.ns.primary_service.freeze();

    daemon.signal(Signal::TERM);

    daemon
        .ended()
        .ended(0)
        .said(&format!("the challenge record at `{OWNER}` could not be removed"))
        .said("what stays of the challenge records of `media.social.test` is noted; the next run removes it");
    world.ns.primary_service.thaw();
    assert_eq!(noted_records(&world), 1);
}

/// How large files may become that this process writes, from now on.
fn limit_files(daemon: &Daemon, size: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: size, maximum: None }).unwrap();
}

#[test]
fn a_disk_that_is_full_for_a_while_costs_nothing_but_that_while() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();
    let run = command(&config, &["run"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(run.get_program()).args(run.get_args());
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).env_remove("RUST_LOG").env_remove("STATE_DIRECTORY");
    let daemon = Daemon::spawn(world.dir.path(), shell);
    daemon.passes(1);
    let two = format!("{STORED}\n[[certificate]]\ndomains = [\"www.social.test\"]\nhosts = []\n");
    world.config(&two).unwrap();
    limit_files(&daemon, Some(0));

    daemon.signal(Signal::HUP);

    daemon.passes(2);
    daemon.says("File too large");
    assert_eq!(world.pebble.orders(), 1, "{}", daemon.log());
    assert_eq!(noted_records(&world), 0);
    limit_files(&daemon, None);
    daemon.signal(Signal::HUP);
    daemon.passes(3);
    assert_eq!((world.pebble.orders(), world.pebble.issued()), (2, 2), "{}", daemon.log());
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    daemon.end().ended(0);
}

#[test]
fn a_store_that_is_taken_away_is_said_and_the_next_pass_goes_on() {
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
