//! What a service manager sees, and what a pass is in a daemon.

use std::fs;

use rustix::process::Signal;

use super::{DEPLOYED, Daemon, NAME, STORED};
use crate::tool::certfleet;
use crate::world::World;
use crate::world::pebble::Behaviour;

#[test]
fn it_is_ready_before_the_first_pass_and_tells_where_it_stands_after_it() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(DEPLOYED).unwrap();
    // The CA does not answer, so no pass can have ended.
    world.pebble.service.freeze();
    let daemon = Daemon::start(world.dir.path(), &config);
    daemon.tells("READY=1", 1);
    assert_eq!(daemon.status(), "1 certificate, 1 host; the first pass is under way");
    world.pebble.service.thaw();

    daemon.passes(1);

    assert!(!world.host("sally").served(NAME).unwrap().expired());
    let next = format!("1 certificate, 1 host; next: {NAME} at 20");
    daemon.eventually("the status", || daemon.status().starts_with(&next));
    assert!(!daemon.told().iter().any(|line| line.starts_with("WATCHDOG")), "nobody asked for that");
    let history = certfleet(&config, &["history", "--json"]).ended(0).json();
    assert!(
        history["entries"].as_array().unwrap().iter().any(|entry| entry["by"]["how"] == "daemon"),
        "{history}"
    );
    daemon.end().ended(0);
}

#[test]
fn it_gives_signs_of_life_while_a_pass_hangs_at_the_ca_and_at_rest_and_after_being_stopped() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();
    world.pebble.service.freeze();
    let daemon = Daemon::start_with(world.dir.path(), &config, &[("WATCHDOG_USEC", "400000")]);
    daemon.tells("WATCHDOG=1", 5);
    assert_eq!(daemon.told()[0], "READY=1");
    world.pebble.service.thaw();
    daemon.passes(1);
    let signs = || daemon.told().iter().filter(|line| *line == "WATCHDOG=1").count();
    daemon.tells("WATCHDOG=1", signs() + 5);

    daemon.signal(Signal::STOP);
    daemon.signal(Signal::CONT);

    daemon.tells("WATCHDOG=1", signs() + 5);
    daemon.end().ended(0);
}

#[test]
fn a_second_daemon_ends_at_once_and_names_the_first() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();
    let daemon = Daemon::of(&world, &config);

    let second = certfleet(&config, &["run"]).ended(4);

    assert!(
        second.err.contains(&format!("cause: process {} (the daemon, since 20", daemon.pid())),
        "{}",
        second.err
    );
    let store = world.dir.path().join("store");
    assert!(
        second.err.contains(&format!("a daemon looks after the store {} already", store.display())),
        "{}",
        second.err
    );
    // A timer's run is no second daemon.
    certfleet(&config, &["run", "--once"]).ended(0);
    daemon.end().ended(0);
    Daemon::of(&world, &config).end().ended(0);
}

#[test]
fn what_it_starts_does_not_inherit_the_service_managers_socket() {
    let believing = Behaviour { always_valid: true, ..Behaviour::default() };
    let world = World::builder().pebble(believing).start().unwrap();
    let (hook, seen) = (world.dir.path().join("hook"), world.dir.path().join("seen"));
    fs::write(&hook, format!("#!/bin/sh\nenv >> {}\n", seen.display())).unwrap();
    let mut command = std::process::Command::new("chmod");
    assert!(command.arg("755").arg(&hook).status().unwrap().success());
    let config = world
        .config(&format!("[dns.hook]\nprovider = \"exec\"\ncommand = {hook:?}\npropagation-check = \"off\"\n{STORED}dns = \"hook\"\n"))
        .unwrap();
    let daemon = Daemon::of(&world, &config);
    daemon.end().ended(0);
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("PATH=") && !seen.contains("NOTIFY_SOCKET"), "{seen}");
}

#[test]
fn a_pass_with_nothing_to_do_is_one_line() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(DEPLOYED).unwrap();
    certfleet(&config, &["renew"]).ended(0);

    let ran = Daemon::of(&world, &config).end().ended(0);

    let lines: Vec<&str> = ran.err.lines().collect();
    let [start, pass, ending] = lines[..] else { panic!("{}", ran.err) };
    assert!(start.contains("looks after 1 certificate, 1 host"), "{start}");
    assert!(pass.contains("nothing to do; 1 certificate, 1 host; next: media.social.test at "), "{pass}");
    assert_eq!(ending, "told to end");
    assert_eq!(ran.out, "");
}
