//! Several at once: processes, certificates, hosts, and a CA in a bad mood; and being told to end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{NAME, STORED, below, eventually, noted_records};
use crate::tool::{Ran, certfleet, command, finish};
use crate::world::World;
use crate::world::nameserver::Notify;
use crate::world::pebble::Behaviour;

const OWNER: &str = "_acme-challenge.media.social.test";

/// A run whose words can be read while it goes on.
struct Run {
    child: Child,
    errors: PathBuf,
}

impl Run {
    fn start(world: &World, config: &Path, name: &str, arguments: &[&str]) -> Self {
        let errors = world.dir.path().join(name);
        let mut command = command(config, arguments);
        command.stderr(Stdio::from(File::create(&errors).unwrap()));
        Self { child: command.spawn().unwrap(), errors }
    }

    fn says(&self, text: &str) -> bool {
        fs::read_to_string(&self.errors).unwrap().contains(text)
    }

    fn end(self) -> Ran {
        let ran = finish(self.child);
        Ran { err: fs::read_to_string(&self.errors).unwrap(), ..ran }
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }
}

#[test]
fn two_at_once_make_one_order_and_a_third_that_does_not_wait_names_the_holder() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(super::DEPLOYED).unwrap();
    for round in 1..=5 {
        // Frozen until both are at it, so that they do meet.
        world.pebble.service.freeze();
        let force = ["renew", "--force", NAME];
        let runs = [Run::start(&world, &config, "one", &force), Run::start(&world, &config, "two", &force)];
        eventually("one waits for the other", || runs.iter().any(|run| run.says("waits for process")));
        let holder = runs.iter().find(|run| !run.says("waits for process")).unwrap().child.id();
        let process = format!("process {holder} (renewing, since 20");
        assert!(runs.iter().any(|run| run.says(&process)), "the holder is not named");

        certfleet(&config, &["renew", "--force", "--wait", "0", NAME])
            .ended(4)
            .printed(&format!("media.social.test: not done, locked by {process}"));
        world.pebble.service.thaw();

        for run in runs {
            run.end().ended(0);
        }
        assert_eq!(world.pebble.orders(), round, "round {round}");
    }
    let versions = world.store().join("certificates").join(NAME).join("versions");
    assert_eq!(fs::read_dir(versions).unwrap().count(), 5);
    let newest = fs::read(world.store().join("certificates").join(NAME).join("versions/5/cert.pem")).unwrap();
    assert_eq!(fs::read(world.host("sally").live.join(NAME).join("cert.pem")).unwrap(), newest);
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
}

#[test]
fn in_the_mood_of_a_real_ca_every_certificate_takes_one_order() {
    let names: Vec<String> = (0..10).map(|number| format!("n{number}.social.test")).collect();
    let mut builder = World::builder().pebble(Behaviour::default().chaos()).hosts(&["sally", "esme"]);
    for name in &names {
        builder = builder.site(&[name]);
    }
    let world = builder.start().unwrap();
    let tables: String = names
        .iter()
        .map(|name| format!("[[certificate]]\ndomains = [\"{name}\"]\nhosts = [\"cdn\"]\n"))
        .collect();
    let config = world.config(&tables).unwrap();

    certfleet(&config, &["renew"]).ended(0);

    for (host, name) in world.hosts.iter().flat_map(|host| names.iter().map(move |name| (host, name))) {
        let served = host.served(name).unwrap();
        assert!(!served.expired() && served.names == [name.as_str()], "{name} on {}", host.name);
    }
    assert_eq!(world.pebble.orders(), names.len());
    assert_eq!(world.pebble.issued(), names.len());
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    assert_eq!(noted_records(&world), 0);
    // Hosts that were busy took what had come meanwhile together.
    assert!(world.hosts.iter().all(|host| host.connections() == 1));
}

/// A run in the middle of an order: the record is set, and the secondary does not know it.
fn in_the_middle() -> (World, PathBuf, Run) {
    let world = World::builder().secondary(Notify::Off).start().unwrap();
    let config = world.config(STORED).unwrap();
    let run = Run::start(&world, &config, "interrupted", &["renew"]);
    eventually("the record is set", || !world.ns.ask(OWNER, "TXT").unwrap().is_empty());
    (world, config, run)
}

/// The next run goes on with the same order, and leaves nothing.
fn next_run_ends_it(world: &World, config: &Path) {
    let run = Run::start(world, config, "next", &["renew"]);
    eventually("the record is set again", || !world.ns.ask(OWNER, "TXT").unwrap().is_empty());
    world.ns.notify_secondary("social.test").unwrap();
    run.end().ended(0).printed("version 1 issued");
    assert_eq!(world.pebble.orders(), 1, "a new order was made");
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    assert_eq!(noted_records(world), 0);
}

#[test]
fn told_to_end_it_removes_its_records_and_the_next_run_takes_the_order_up() {
    let (world, config, run) = in_the_middle();

    run.terminate();

    run.end()
        .ended(1)
        .said("ending: removing challenge records first")
        .printed("interrupted: the next run goes on where this one ended");
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    assert_eq!(noted_records(&world), 0);
    // Nothing failed, so nothing is waited for.
    certfleet(&config, &["plan"]).ended(3).printed("takes up the open order");
    next_run_ends_it(&world, &config);
}

#[test]
fn told_to_end_without_a_name_server_it_leaves_the_records_to_the_next_run() {
    let (world, config, run) = in_the_middle();
    world.ns.primary_service.stop();

    run.terminate();

    run.end().ended(1);
    assert_eq!(noted_records(&world), 1);
    world.ns.primary_service.start().unwrap();
    assert_eq!(
        world.ns.txt_records().unwrap().len(),
        1,
        "the record did not survive, so this proves nothing"
    );
    let left = below(&world.store().join("txt"));
    next_run_ends_it(&world, &config);
    assert_eq!(left.len(), 1);
}

#[test]
fn killed_in_the_middle_of_an_order_it_leaves_everything_to_the_next_run() {
    let (world, config, mut run) = in_the_middle();

    run.child.kill().unwrap();

    assert_eq!(run.end().code, -1);
    assert_eq!((world.ns.txt_records().unwrap().len(), noted_records(&world)), (1, 1));
    next_run_ends_it(&world, &config);
}
