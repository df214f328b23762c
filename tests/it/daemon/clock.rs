//! A daemon whose clock is set while it runs, and one that stood still: as after a suspend, or when the battery
//! of a machine is dead and NTP comes late. Only the daemon's own clock is another one, by libfaketime.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::asked::{free, get};
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

#[test]
fn health_is_bad_again_when_passes_do_not_end_any_more() {
    let (world, config) = world();
    let address = free(&world);
    append(&config, &format!("[daemon]\nlisten = \"{address}\"\n"));
    let clock = Clock::new(world.dir.path());
    let daemon = clock.daemon(&world, &config);
    daemon.passes(1);
    assert_eq!(get(address, "/healthz").status, 200);

    // What is due by then waits for a CA that says nothing.
    world.pebble.service.freeze();
    clock.set("+61d");
    daemon.eventually("health is bad", || get(address, "/healthz").status == 503);
    let health = get(address, "/healthz").body;
    assert!(health.starts_with("the last complete pass ended at 20"), "{health}");
    world.pebble.service.thaw();

    daemon.passes(2);
    assert_eq!(get(address, "/healthz").status, 200);
    daemon.end().ended(0);
}

#[test]
fn the_daemon_misses_the_timer() {
    let (world, config) = world();
    let told = world.dir.path().join("told");
    let hook = world.dir.path().join("hook");
    fs::write(&hook, format!("#!/bin/sh\ncat >>'{}'\n", told.display())).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    append(&config, &format!("[alert.hook]\nchannel = \"exec\"\ncommand = {hook:?}\n"));
    certfleet(&config, &["run", "--once"]).ended(0);
    let clock = Clock::new(world.dir.path());
    let daemon = clock.daemon(&world, &config);
    daemon.passes(1);
    assert!(!told.exists());

    // Three of its passes are missing; then an hour in which it may come next.
    clock.set("+4h");
    daemon.passes(2);
    clock.set("+302m");

    let told = || fs::read_to_string(&told).unwrap_or_default();
    daemon.eventually("the timer is missed", || told().contains("no complete pass by the timer since 20"));
    assert!(!told().contains("by the daemon"), "{}", told());
    daemon.end().ended(0);
}

#[test]
fn a_clock_that_differs_from_the_authoritys_is_told_until_it_is_set() {
    let (_world, config) = world();
    let library = parts::faketime().unwrap();
    let mut behind = crate::tool::command(&config, &["run", "--once"]);
    behind.env("LD_PRELOAD", library).env("FAKETIME", "-20m").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    crate::tool::finish(behind.spawn().unwrap()).ended(0);
    let open = || certfleet(&config, &["alert", "list", "--json"]).ended(0).json()["alerts"].clone();
    let alerts = open();
    let alert = &alerts[0];
    assert_eq!((&alert["code"], &alert["level"]), (&"clock.differs".into(), &"warning".into()), "{alerts:#}");
    let title = alert["title"].as_str().unwrap();
    assert!(
        title.contains(" minutes behind that of pebble: 20") && title.contains("Z here was 20"),
        "{title}"
    );

    // The CA is asked for its renewal window, and the clocks agree.
    certfleet(&config, &["run", "--once"]).ended(0);
    assert_eq!(open(), serde_json::json!([]));
}

#[test]
fn what_no_pass_could_look_at_again_is_not_over() {
    let (world, config) = world();
    let roots = world.dir.path().join("roots-of-ours.pem");
    fs::copy(&world.pebble.roots, &roots).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let line = text.lines().find(|line| line.starts_with("roots = ")).expect("the issuer has roots");
    fs::write(&config, text.replace(line, &format!("roots = {roots:?}"))).unwrap();
    let (told, tried) = (world.dir.path().join("told"), world.dir.path().join("tried"));
    let hook = world.dir.path().join("hook");
    // The first time it fails, so that it is tried again between two passes.
    let program = format!(
        "#!/bin/sh\nif test -e '{tried}'; then cat >>'{told}'; else touch '{tried}'; exit 1; fi\n",
        tried = tried.display(),
        told = told.display()
    );
    fs::write(&hook, program).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    append(&config, &format!("[alert.hook]\nchannel = \"exec\"\ncommand = {hook:?}\n"));
    let clock = Clock::new(world.dir.path());
    let daemon = clock.daemon(&world, &config);
    daemon.passes(1);

    fs::remove_file(&roots).unwrap();
    daemon.signal(Signal::HUP);
    daemon.eventually("people are told, in vain", || tried.exists());
    clock.set("+3m");

    let told = || fs::read_to_string(&told).unwrap_or_default();
    daemon.eventually("people are told", || told().contains('\n'));
    assert!(told().contains("\"raised\"") && !told().contains("\"over\""), "{}", told());
    daemon.end().ended(0);
}

fn append(config: &Path, text: &str) {
    let before = fs::read_to_string(config).unwrap();
    fs::write(config, format!("{before}\n{text}")).unwrap();
}
