//! A daemon whose clock is set while it runs, and one that stood still: as after a suspend, or when the battery
//! of a machine is dead and NTP comes late. Only the daemon's own clock is another one, by libfaketime.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::{Daemon, NAME};
use crate::tool::certfleet;
use crate::world::World;
use crate::world::parts;
use crate::world::pebble::Behaviour;

/// A clock that the test can set.
struct Clock(PathBuf);

impl Clock {
    fn new(folder: &Path) -> Self {
        let clock = Self(folder.join("clock"));
        clock.set("+0");
        clock
    }

    /// By an offset, as `+60d`.
    fn set(&self, offset: &str) {
        // In one piece: it is read at every look at the clock.
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{offset}\n")).unwrap();
        fs::rename(new, &self.0).unwrap();
    }

    fn daemon(&self, world: &World, config: &Path) -> Daemon {
        let library = parts::faketime().unwrap();
        let environment = [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            // The clocks are compared at each sign of life.
            ("WATCHDOG_USEC", "2000000"),
        ];
        Daemon::start_with(world.dir.path(), config, &environment)
    }
}

/// A world whose DNS asks for no time: an update with TSIG has one in it.
fn world() -> (World, PathBuf) {
    let believing = Behaviour { always_valid: true, ..Behaviour::default() };
    let world = World::builder().pebble(believing).start().unwrap();
    let config = world
        .config(
            "[dns.hook]\nprovider = \"exec\"\ncommand = \"/bin/true\"\npropagation-check = \"off\"\n\n\
             [[certificate]]\ndomains = [\"media.social.test\"]\nhosts = []\ndns = \"hook\"\n",
        )
        .unwrap();
    (world, config)
}

#[test]
fn a_clock_that_jumps_forward_ends_the_rest_and_what_is_due_by_then_is_renewed() {
    let (world, config) = world();
    let clock = Clock::new(world.dir.path());
    let daemon = clock.daemon(&world, &config);
    daemon.passes(1);
    assert_eq!(world.pebble.issued(), 1);

    clock.set("+61d");

    daemon.passes(2);
    daemon.says("version 2 issued");
    // To this clock the new one is 61 days old, too: it is not issued again and again for that.
    daemon.signal(Signal::HUP);
    daemon.passes(3);
    assert_eq!(world.pebble.issued(), 2, "{}", daemon.log());
    daemon.end().ended(0);
}

#[test]
fn a_clock_that_jumps_back_is_said_and_does_not_put_it_to_sleep_nor_make_it_issue() {
    let (world, config) = world();
    let clock = Clock::new(world.dir.path());
    let daemon = clock.daemon(&world, &config);
    daemon.passes(1);

    clock.set("-400d");

    daemon.passes(2);
    daemon.says("the clock says 20");
    clock.set("+0");
    daemon.passes(3);
    assert_eq!(world.pebble.issued(), 1);
    daemon.end().ended(0);
    certfleet(&config, &["plan"]).ended(0);
}

#[test]
fn after_days_of_standing_still_there_is_one_pass() {
    let (world, config) = world();
    let clock = Clock::new(world.dir.path());
    let daemon = clock.daemon(&world, &config);
    daemon.passes(1);
    daemon.signal(Signal::STOP);
    clock.set("+3d");

    daemon.signal(Signal::CONT);

    daemon.passes(2);
    daemon.tells("WATCHDOG=1", daemon.told().len() + 3);
    assert_eq!(daemon.log().matches("\npass of ").count(), 2, "{}", daemon.log());
    assert_eq!(world.pebble.issued(), 1, "{NAME} was not due");
    daemon.end().ended(0);
}
