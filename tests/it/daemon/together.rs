//! The daemon, a timer and a person in an incident, all at the same moment: one order for one certificate, and all
//! of them end well.

use rustix::process::Signal;

use super::{DEPLOYED, Daemon, NAME};
use crate::tool::{command, finish};
use crate::world::World;

#[test]
fn daemon_timer_and_force_at_once_make_one_order_fifty_times() {
    const ROUNDS: usize = 50;
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(DEPLOYED).unwrap();
    let daemon = Daemon::of(&world, &config);
    assert_eq!(world.pebble.orders(), 1);
    for round in 1..=ROUNDS {
        // The order of the person cannot be over before the others have begun.
        world.pebble.service.freeze();
        let force = command(&config, &["renew", "--force", NAME]).spawn().unwrap();
        let timer = command(&config, &["run", "--once"]).spawn().unwrap();
        daemon.signal(Signal::HUP);
        daemon.tells("READY=1", round + 1);
        world.pebble.service.thaw();

        for (who, ran) in [("force", finish(force)), ("timer", finish(timer))] {
            assert_eq!(ran.code, 0, "round {round}, {who}\n{}\n{}\n{}", ran.out, ran.err, daemon.log());
        }
        daemon.passes(round + 1);
        assert_eq!(world.pebble.orders(), round + 1, "round {round}\n{}", daemon.log());
    }
    assert_eq!(world.pebble.issued(), ROUNDS + 1);
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    let newest = world.store().join(format!("certificates/{NAME}/versions/{}/cert.pem", ROUNDS + 1));
    let installed = world.host("sally").live.join(NAME).join("cert.pem");
    assert_eq!(std::fs::read(newest).unwrap(), std::fs::read(installed).unwrap());
    let ran = daemon.end().ended(0);
    assert!(!ran.err.contains("error:"), "{}", ran.err);
}

#[test]
fn what_is_due_is_issued_once_whoever_comes_first() {
    const ROUNDS: usize = 10;
    let world = World::builder().start().unwrap();
    let mut tables = String::new();
    for round in 0..ROUNDS {
        tables.push_str(&format!("[[certificate]]\ndomains = [\"n{round}.social.test\"]\nhosts = []\n"));
        let config = world.config(&tables).unwrap();
        let daemon = Daemon::start(world.dir.path(), &config);
        let timers = [(); 2].map(|()| command(&config, &["run", "--once"]).spawn().unwrap());
        for timer in timers {
            finish(timer).ended(0);
        }
        daemon.passes(1);
        daemon.end().ended(0);
        assert_eq!(world.pebble.orders(), round + 1, "round {round}");
    }
    assert_eq!(world.pebble.issued(), ROUNDS);
}
