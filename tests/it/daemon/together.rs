//! The daemon, a timer and a person in an incident, all at the same moment: one order for one certificate, and all
//! of them end well.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::Signal;

use super::Daemon;
use crate::tool::{Ran, command, finish};
use crate::world::World;

/// A run whose words can be read while it goes on.
struct Run {
    child: Child,
    errors: PathBuf,
}

impl Run {
    fn start(folder: &Path, name: &str, config: &Path, arguments: &[&str]) -> Self {
        let errors = folder.join(name);
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
}

#[test]
fn daemon_timer_and_force_at_once_make_one_order_fifty_times() {
    const ROUNDS: usize = 50;
    let world = World::builder().start().unwrap();
    let config = world.config(super::STORED).unwrap();
    let daemon = Daemon::of(&world, &config);
    let mut tables = super::STORED.to_owned();
    for round in 1..=ROUNDS {
        let name = format!("n{round}.social.test");
        tables.push_str(&format!("[[certificate]]\ndomains = [\"{name}\"]\nhosts = []\n"));
        world.config(&tables).unwrap();
        // Frozen until all of them are at it, so that they do meet.
        world.pebble.service.freeze();
        let folder = world.dir.path();
        let force = Run::start(folder, "force", &config, &["renew", "--force", &name]);
        let timer = Run::start(folder, "timer", &config, &["run", "--once"]);
        daemon.signal(Signal::HUP);
        let begun = format!("{name}: issuing by pebble");
        daemon.eventually("all have begun", || {
            force.says(&begun) && timer.says(&begun) && daemon.log().contains(&begun)
        });
        world.pebble.service.thaw();

        for (who, run) in [("force", force), ("timer", timer)] {
            let ran = run.end();
            assert_eq!(ran.code, 0, "round {round}, {who}\n{}\n{}\n{}", ran.out, ran.err, daemon.log());
        }
        daemon.passes(round + 1);
        assert_eq!(world.pebble.orders(), round + 1, "round {round}\n{}", daemon.log());
    }
    assert_eq!(world.pebble.issued(), ROUNDS + 1);
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    let ran = daemon.end().ended(0);
    assert!(!ran.err.contains("error:"), "{}", ran.err);
}
