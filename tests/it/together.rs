//! Several runs on one store at once, as a timer, a daemon and a person in an incident start them; and a disk
//! that takes no more.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use certfleet::model::name::Fingerprint;
use certfleet::store::{CertLock, Store};
use jiff::Timestamp;

use crate::tool::{certfleet, command, finish};
use crate::world::World;

const NAMES: [&str; 2] = ["media.social.test", "www.social.test"];

fn two_hosts() -> (World, PathBuf) {
    let world =
        World::builder().hosts(&["sally", "esme"]).site(&[NAMES[0]]).site(&[NAMES[1]]).start().unwrap();
    let tables: String = NAMES
        .iter()
        .map(|name| format!("[[certificate]]\ndomains = [\"{name}\"]\nhosts = [\"cdn\"]\n"))
        .collect();
    let config = world.config(&tables).unwrap();
    (world, config)
}

/// Every host serves the newest version of everything.
fn consistent(world: &World, what: &str) {
    let store = Store::open_existing(&world.store()).unwrap().unwrap();
    for name in NAMES {
        let known = store.certificate(&name.parse().unwrap()).unwrap();
        let (number, version) = known.newest().unwrap();
        for host in &world.hosts {
            let served = Fingerprint::of(host.served(name).unwrap().leaf());
            let ours = known.versions.iter().find(|(_, version)| version.fingerprint == served);
            let ours = ours.map(|(number, _)| number);
            assert_eq!(
                served, version.fingerprint,
                "{what}: {} serves {ours:?} of {name}, not {number}",
                host.name
            );
        }
    }
}

#[test]
fn runs_at_once_make_one_order_for_one_wish_and_leave_hosts_with_the_newest() {
    const ROUNDS: usize = 10;
    let (world, config) = two_hosts();
    for round in 0..ROUNDS {
        let before = world.pebble.orders();
        // Two wishes at the same moment are one wish.
        let kinds: [&[&str]; 4] =
            [&["run", "--once"], &["renew", "--force"], &["renew"], &["renew", "--force", NAMES[0]]];
        let children: Vec<_> = kinds.iter().map(|args| command(&config, args).spawn().unwrap()).collect();
        let ran: Vec<_> = children.into_iter().map(finish).collect();
        for (args, ran) in kinds.iter().zip(&ran) {
            assert_eq!(ran.code, 0, "round {round}, {args:?}\n--- out\n{}\n--- err\n{}", ran.out, ran.err);
        }
        let orders = world.pebble.orders() - before;
        // A process that asked only after another had finished is a second wish; the very first run
        // may have issued before anybody was heard asking by force.
        assert!((2..=4).contains(&orders), "round {round}: {orders} orders");
        consistent(&world, &format!("round {round}\n{ran:?}"));
        assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new());
    }
    assert_eq!(world.pebble.issued(), world.pebble.orders());
}

#[test]
fn those_that_wait_for_another_process_leave_their_places_to_the_others() {
    // More than may be ordered at a time; the one that is free comes after all of them.
    const HELD: usize = 110;
    let world = World::builder().start().unwrap();
    let names: Vec<String> = (0..HELD).map(|n| format!("held-{n}.social.test")).collect();
    let free = "open.social.test".to_owned();
    let tables: String = names
        .iter()
        .chain([&free])
        .map(|name| format!("[[certificate]]\ndomains = [\"{name}\"]\n"))
        .collect();
    let config = world.config(&tables).unwrap();
    let store = Store::open(&world.store()).unwrap();
    let held: Vec<CertLock> = names
        .iter()
        .map(|name| store.lock_certificate(&name.parse().unwrap(), "testing", Timestamp::now()).unwrap())
        .collect();

    // It would wait for longer than the test.
    let mut run = command(&config, &["--wait", "1h", "renew"]).spawn().unwrap();
    let is_there = || store.certificate(&free.parse().unwrap()).unwrap().newest().is_some();
    let begin = Instant::now();
    while !is_there() {
        assert!(run.try_wait().unwrap().is_none(), "it has ended: {:?}", finish(run));
        assert!(begin.elapsed() < Duration::from_secs(60), "the one that is free waits for the others");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(run.try_wait().unwrap().is_none(), "those that are held were given up: {:?}", finish(run));
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(world.pebble.orders(), 1);
    drop(held);
}

#[test]
fn a_host_whose_facts_are_damaged_is_left_alone_and_said_and_the_other_goes_on() {
    let (world, config) = two_hosts();
    certfleet(&config, &["renew"]).ended(0);
    let facts = world.store().join("hosts").join("sally.json");
    let whole = std::fs::read(&facts).unwrap();
    std::fs::write(&facts, &whole[..whole.len() / 2]).unwrap();
    let before = world.host("sally").served(NAMES[0]).unwrap();

    for arguments in [&["renew", "--force", NAMES[0]][..], &["deploy"], &["run", "--once"]] {
        certfleet(&config, arguments)
            .ended(1)
            .said(&format!("{} is damaged: its end is missing", facts.display()))
            .printed(&format!("{} on sally: FAILED", NAMES[0]));
    }

    certfleet(&config, &["plan"]).ended(3).printed("media.social.test on sally: nothing is deployed there");
    assert_eq!(world.host("sally").served(NAMES[0]).unwrap(), before);
    assert_ne!(world.host("esme").served(NAMES[0]).unwrap(), before);
    std::fs::write(&facts, &whole).unwrap();
    certfleet(&config, &["run", "--once"]).ended(0);
    consistent(&world, "after the repair");
}

#[test]
fn a_disk_that_takes_no_more_tears_nothing_and_is_made_good_by_the_next_run() {
    // Long names, so that the chain is larger than all that is written before there is one.
    let names: Vec<String> =
        (0..40).map(|n| format!("a-name-that-is-rather-long-so-that-files-grow-{n}.social.test")).collect();
    let world = World::builder().hosts(&["sally"]).start().unwrap();
    let config = world
        .config(&format!(
            "[[certificate]]\nname = \"shop\"\ndomains = {names:?}\nhosts = [\"sally\"]\nverify-names = []\n"
        ))
        .unwrap();
    // In 512 bytes: not even a store; all but the chain.
    for (blocks, orders) in [(4, 0), (8, 1)] {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let limited = command(&config, &["renew"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).arg(limited.get_program()).args(limited.get_args());
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ran = finish(shell.spawn().unwrap()).ended(1).said("File too large").said("ulimit -f");
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        assert_eq!(world.pebble.orders(), orders, "{blocks} blocks\n{}", ran.err);
        assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new(), "{blocks} blocks\n{}", ran.err);
    }
    assert_eq!(world.pebble.issued(), 1, "the certificate that could not be stored");

    // By force, because what failed rests for a minute.
    certfleet(&config, &["renew", "--force"]).ended(0).printed("version 1 issued");

    assert_eq!((world.pebble.orders(), world.pebble.issued()), (1, 1), "it was fetched, not issued again");
}
