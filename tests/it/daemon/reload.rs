//! certs.toml changed while the daemon runs.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use super::{Daemon, NAME, STORED, edit};
use crate::tool::certfleet;
use crate::world::World;

#[test]
fn hang_up_loads_the_file_again_and_makes_a_pass() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();
    let daemon = Daemon::of(&world, &config);
    edit(
        &config,
        "hosts = []\n",
        "hosts = []\n\n[[certificate]]\ndomains = [\"www.social.test\"]\nhosts = []\n",
    );

    daemon.signal(Signal::HUP);

    daemon.passes(2);
    assert_eq!(world.pebble.issued(), 2);
    daemon.says("certs.toml is loaded: 2 certificates, 0 hosts");
    let told = daemon.told();
    let at = told.iter().position(|line| line == "RELOADING=1").unwrap();
    assert!(told[at + 1].starts_with("MONOTONIC_USEC="), "{told:?}");
    assert_eq!(told[at + 2], "READY=1", "{told:?}");
    daemon.end().ended(0);
}

#[test]
fn a_file_with_mistakes_is_refused_with_all_of_them_noted_and_the_one_before_goes_on() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();
    let daemon = Daemon::of(&world, &config);
    let noted = world.store().join("config-refused.json");
    assert!(!noted.exists());
    let good = fs::read_to_string(&config).unwrap();
    edit(&config, "hosts = []", "hots = []\nkey = \"dsa\"");

    daemon.signal(Signal::HUP);

    daemon.passes(2);
    let log = daemon.log();
    for mistake in [
        "unknown key \"hots\", did you mean \"hosts\"?",
        "\"dsa\"",
        "certs.toml:",
        "the configuration that was loaded before stays in use",
    ] {
        assert!(log.contains(mistake), "{mistake} is not in:\n{log}");
    }
    daemon.tells("READY=1", 2);
    let text = fs::read_to_string(&noted).unwrap();
    assert!(text.contains("2 mistakes") && text.contains("\"at\""), "{text}");
    // It goes on: the old one is what passes are made with.
    certfleet(&config, &["plan"]).ended(2);
    assert_eq!(world.pebble.issued(), 1);

    fs::write(&config, good).unwrap();
    daemon.signal(Signal::HUP);
    daemon.passes(3);
    assert!(!noted.exists());
    daemon.end().ended(0);
}

#[test]
fn people_are_told_of_a_refused_file_and_that_it_is_over() {
    let world = World::builder().start().unwrap();
    let (hook, told) = (world.dir.path().join("pager"), world.dir.path().join("told"));
    fs::write(&hook, format!("#!/bin/sh\ncat >> {0}\necho >> {0}\n", told.display())).unwrap();
    assert!(Command::new("chmod").arg("755").arg(&hook).status().unwrap().success());
    let config =
        world.config(&format!("[alert.pager]\nchannel = \"exec\"\ncommand = {hook:?}\n\n{STORED}")).unwrap();
    let daemon = Daemon::of(&world, &config);
    let told = || fs::read_to_string(&told).unwrap_or_default();
    let good = fs::read_to_string(&config).unwrap();
    edit(&config, "hosts = []", "hots = []");

    daemon.signal(Signal::HUP);
    daemon.eventually("it is told", || told().contains("config.refused"));
    assert!(told().contains("unknown key") && told().contains("\"raised\""), "{}", told());

    fs::write(&config, good).unwrap();
    daemon.signal(Signal::HUP);
    daemon.eventually("it is over", || told().contains("\"over\""));
    daemon.end().ended(0);
}

#[test]
fn a_start_with_a_good_file_ends_what_was_noted_of_a_bad_one() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();
    let noted = world.store().join("config-refused.json");
    let daemon = Daemon::of(&world, &config);
    let good = fs::read_to_string(&config).unwrap();
    fs::remove_file(&config).unwrap();
    daemon.signal(Signal::HUP);
    daemon.says("cannot read");
    daemon.passes(2);
    assert!(noted.exists());
    // Killed: one that ends by itself does not go on with an old file any more.
    drop(daemon);
    assert!(noted.exists());
    fs::write(&config, good).unwrap();

    Daemon::of(&world, &config).end().ended(0);

    assert!(!noted.exists());
}

#[test]
fn another_store_takes_a_restart() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();
    let daemon = Daemon::of(&world, &config);
    let other = world.dir.path().join("another");
    edit(&config, &format!("path = {:?}", world.store()), &format!("path = {other:?}"));

    daemon.signal(Signal::HUP);

    daemon.passes(2);
    daemon.says("is another folder now");
    daemon.says("it counts after a restart");
    assert!(!other.exists());
    assert_eq!(world.pebble.issued(), 1);
    daemon.end().ended(0);
}

#[test]
fn told_in_the_midst_of_a_pass_it_ends_that_with_what_it_began_with_and_begins_another() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();
    world.pebble.service.freeze();
    let daemon = Daemon::start(world.dir.path(), &config);
    daemon.says("issuing by pebble");
    edit(&config, NAME, "www.social.test");
    daemon.signal(Signal::HUP);
    daemon.tells("RELOADING=1", 1);
    daemon.tells("READY=1", 2);
    world.pebble.service.thaw();

    daemon.passes(2);

    assert_eq!(world.pebble.issued(), 2);
    let names = |name: &str| world.store().join("certificates").join(name).join("versions/1").exists();
    assert!(names(NAME) && names("www.social.test"));
    daemon.end().ended(0);
}
