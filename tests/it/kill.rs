//! Killed, cut off or told to end at any moment: the next run converges, and nothing is lost.
//!
//! The moments are random. The seed is printed; `CERTFLEET_SEED` gives it again. What a seed cannot give
//! again is what the machine did in that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant, SystemTime};

use certfleet::model::state::State;
use certfleet::store::Store;
use rustix::process::{Pid, Signal, kill_process};

use crate::faults::check;
use crate::tool::{Ran, certfleet, command, finish};
use crate::world::World;
use crate::world::host::Host;

const HOSTS: [&str; 2] = ["sally", "esme"];
/// An apex with its wildcard, one behind a CNAME, a plain one.
const NAMES: [&str; 3] = ["social.test", "media.social.test", "www.social.test"];
const CERTIFICATES: &str = "\
[[certificate]]\ndomains = [\"social.test\", \"*.social.test\"]\nhosts = [\"cdn\"]\n
[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"cdn\"]\n
[[certificate]]\ndomains = [\"www.social.test\"]\nhosts = [\"cdn\"]\n";
const ROUNDS: u32 = 50;

#[test]
fn killed_at_any_moment_the_next_run_converges_and_no_certificate_is_lost() {
    let (world, config) = two_hosts();
    let mut chance = Chance::new();
    // The first rounds begin with nothing, not even an account; how long a run takes is learnt from them.
    let (mut whole, mut issuing) = (Duration::from_millis(1500), Duration::from_millis(700));
    let mut killed: BTreeMap<&str, u32> = BTreeMap::new();
    let mut last = BTreeMap::new();
    for round in 0..ROUNDS {
        // Most of them where most is at stake: while something is ordered.
        let (args, within): (&[&str], _) = match round % 3 {
            0 => (&["renew", "--force"], whole),
            _ => (&["renew", "--force", "--no-deploy"], issuing),
        };
        let mut child = command(&config, args).spawn().unwrap();
        let moment = chance.below(within);
        std::thread::sleep(moment);
        let was_late = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        let ran = finish(child);
        let phase = if was_late { "after its end" } else { phase(&world, &last) };
        *killed.entry(phase).or_default() += 1;
        for host in &world.hosts {
            can_start(host);
        }
        // Mostly several are killed in a row before one may go on.
        if !chance.next().is_multiple_of(4) && round + 1 < ROUNDS {
            continue;
        }
        let began = Instant::now();
        let what = format!("round {round}, killed {phase} after {moment:?}\n--- the killed one\n{}", ran.err);
        converges(&world, &config, &what);
        if last.is_empty() {
            // From here on a run is an order for each; these are whole, to measure them.
            let began = Instant::now();
            certfleet(&config, &["renew", "--force", "--no-deploy"]).ended(0);
            issuing = began.elapsed();
            let began = Instant::now();
            certfleet(&config, &["renew", "--force"]).ended(0);
            whole = began.elapsed();
        }
        last = newest(&state(&world));
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
    }
    let state = state(&world);
    let versions: usize = state.certificates.values().map(|known| known.versions.len()).sum();
    let (orders, issued) = (world.pebble.orders(), world.pebble.issued());
    println!(
        "{ROUNDS} rounds, a whole run takes {whole:?}; {orders} orders, {issued} issued, {versions} versions; killed {killed:?}"
    );
    assert_eq!(issued, versions, "what the CA has issued is in the store, each once");
    // The CA has it, and we were killed before we had its URL: at most one for each certificate and kill.
    assert!(orders - issued <= ROUNDS as usize * NAMES.len(), "{orders} orders, {issued} issued");
    assert!(killed.len() >= 3, "the moments hit too few phases: {killed:?}");
}

#[test]
fn hosts_that_lose_power_in_a_transaction_start_again_and_are_caught_up() {
    let (world, config) = two_hosts();
    let mut chance = Chance::new();
    certfleet(&config, &["renew"]).ended(0);
    let began = Instant::now();
    certfleet(&config, &["deploy", "--force"]).ended(0);
    let whole = began.elapsed();
    let mut cut = 0;
    for round in 0..8 {
        certfleet(&config, &["renew", "--force", "--no-deploy"]).ended(0);
        let child = command(&config, &["deploy"]).spawn().unwrap();
        let moment = chance.below(whole);
        std::thread::sleep(moment);
        let host = &world.hosts[round % world.hosts.len()];
        match chance.next() % 2 {
            0 => host.stop_sshd(),
            _ => host.stop(),
        }
        can_start(host);
        let ran = finish(child);
        assert!([0, 1].contains(&ran.code), "round {round}, {moment:?}: {ran:?}");
        cut += u32::from(ran.code == 1);
        host.start().unwrap();
        let what = format!("round {round}, {} cut off after {moment:?}", host.name);
        converges(&world, &config, &what);
        world.hosts.iter().for_each(|host| check::assert_settled(host, &what));
    }
    println!("8 rounds of {whole:?}, {cut} of them failed");
}

#[test]
fn told_to_end_at_any_moment_it_ends_soon_and_leaves_nothing_in_dns_that_is_not_noted() {
    let (world, config) = two_hosts();
    let mut chance = Chance::new();
    certfleet(&config, &["renew"]).ended(0);
    let began = Instant::now();
    certfleet(&config, &["renew", "--force"]).ended(0);
    let whole = began.elapsed();
    let mut codes: BTreeMap<i32, u32> = BTreeMap::new();
    for round in 0..8 {
        let child = command(&config, &["renew", "--force"]).spawn().unwrap();
        let moment = chance.below(whole);
        std::thread::sleep(moment);
        let signal = if round % 2 == 0 { Signal::TERM } else { Signal::INT };
        let told = Instant::now();
        tell(&child, signal);
        let ran = finish(child);
        // -1: told before it could listen, when there was nothing to tidy up.
        assert!([-1, 0, 1].contains(&ran.code), "round {round}: {ran:?}");
        if ran.code == 1 {
            assert!(ran.out.contains("interrupted"), "round {round}: {ran:?}");
        }
        assert!(told.elapsed() < Duration::from_secs(25), "{signal:?} took {:?}", told.elapsed());
        *codes.entry(ran.code).or_default() += 1;
        let noted: BTreeSet<String> = state(&world).debts.into_iter().map(|debt| debt.value).collect();
        for record in world.ns.txt_records().unwrap() {
            assert!(noted.iter().any(|value| record.contains(value)), "{record} is left and not noted");
        }
        converges(&world, &config, &format!("round {round}, {signal:?} after {moment:?}\n{}", ran.err));
    }
    println!("8 rounds of {whole:?}; exit codes {codes:?}");
    assert!(codes.contains_key(&1), "no run was interrupted: {codes:?}");
}

/// Two hosts that serve what certfleet is to replace, and the configuration for them.
fn two_hosts() -> (World, PathBuf) {
    let world = World::builder()
        .zone("social.test")
        .zone("acme.test")
        .record("_acme-challenge.media.social.test. 60 IN CNAME media.acme.test.")
        .hosts(&HOSTS)
        .site(&[NAMES[0]])
        .site(&[NAMES[1]])
        .site(&[NAMES[2]])
        .start()
        .unwrap();
    let config = world.config(CERTIFICATES).unwrap();
    (world, config)
}

/// One more run, by itself, makes everything good; nobody has to ask for anything by name or force.
fn converges(world: &World, config: &Path, what: &str) {
    let Ran { code, out, err } = certfleet(config, &["renew"]);
    assert_eq!(code, 0, "{what}\n--- the next run\n{out}\n{err}");
    assert_eq!(world.ns.txt_records().unwrap(), Vec::<String>::new(), "{what}\n{out}\n{err}");
    let state = state(world);
    assert_eq!(state.debts, [], "{what}");
    let store = Store::open_existing(&world.store()).unwrap().unwrap();
    for (name, known) in &state.certificates {
        // A key without an order is nothing that anybody waits for: the next order takes it.
        let order = known.order.as_ref().and_then(|order| order.url.as_ref());
        assert_eq!(order, None, "{what}: the order for {name} is still open\n{out}\n{err}");
        for number in known.versions.keys() {
            let version = store.version(name, *number).unwrap();
            check::pair(&version.privkey, &version.fullchain)
                .unwrap_or_else(|error| panic!("{what}: {name}: {error}"));
        }
        let (_, version) = known.newest().unwrap();
        for host in &world.hosts {
            let served = host.served(name.as_str()).unwrap();
            let fingerprint = certfleet::model::name::Fingerprint::of(served.leaf());
            assert_eq!(
                fingerprint, version.fingerprint,
                "{what}: {} serves another {name}\n{out}",
                host.name
            );
            assert!(served.chain.len() > 1, "{what}: {} serves no chain", host.name);
            let facts = state.hosts.get(&host.name.parse().unwrap()).and_then(|of| of.get(name));
            let installed = facts.and_then(|facts| facts.installed.as_ref());
            assert!(
                installed.is_none_or(|installed| installed.fingerprint == version.fingerprint),
                "{what}: what {} has of {name} is not noted",
                host.name
            );
        }
    }
    for host in &world.hosts {
        check::assert_startable(host, &NAMES, what);
        check::assert_private(host, what);
    }
    private(&world.store(), what);
}

/// What a killed run had reached, as far as its store tells.
fn phase(world: &World, before: &BTreeMap<String, u32>) -> &'static str {
    let Ok(Some(store)) = Store::open_existing(&world.store()) else { return "before the store" };
    let loaded = store.load(jiff::Timestamp::now()).unwrap();
    let state = loaded.state;
    let orders: Vec<_> = state.certificates.values().filter_map(|known| known.order.as_ref()).collect();
    let new = newest(&state) != *before;
    match () {
        () if !state.debts.is_empty() => "with records in DNS",
        () if orders.iter().any(|order| order.url.is_some()) => "with an open order",
        () if !orders.is_empty() => "with a key",
        () if new => "while deploying",
        () => "before the key",
    }
}

fn newest(state: &State) -> BTreeMap<String, u32> {
    let newest = |(number, _): (certfleet::model::name::VersionNumber, _)| number.0;
    state
        .certificates
        .iter()
        .map(|(name, known)| (name.to_string(), known.newest().map_or(0, newest)))
        .collect()
}

/// All that the store holds; every file of it can be read.
fn state(world: &World) -> State {
    let store = Store::open_existing(&world.store()).unwrap().expect("there is a store");
    let loaded = store.load(jiff::Timestamp::now()).unwrap();
    assert!(loaded.unreadable.is_empty(), "{:?}", loaded.unreadable);
    assert!(loaded.unreadable_hosts.is_empty(), "{:?}", loaded.unreadable_hosts);
    assert!(loaded.unreadable_debts.is_empty(), "{:?}", loaded.unreadable_debts);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.state
}

/// nginx would start with what is on the host now, and what is there belongs together.
fn can_start(host: &Host) {
    check::assert_startable(host, &NAMES, "cut off");
}

/// Every file of the store is 0600, every folder 0700, and nothing unfinished is left in them.
fn private(path: &Path, what: &str) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_dir() {
        assert_eq!(mode, 0o700, "{what}: {}", path.display());
        for entry in fs::read_dir(path).unwrap() {
            private(&entry.unwrap().path(), what);
        }
    } else {
        assert_eq!(mode, 0o600, "{what}: {}", path.display());
    }
}

fn tell(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).unwrap();
    // An error means that it has ended.
    let _ = kill_process(pid, signal);
}

/// Numbers that look random, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let given = std::env::var("CERTFLEET_SEED").ok().map(|seed| seed.parse().expect("a number"));
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos())
        });
        println!("CERTFLEET_SEED={seed}");
        Self(seed)
    }

    /// Steele and others, SplitMix.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, time: Duration) -> Duration {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.next() % micros)
    }
}
