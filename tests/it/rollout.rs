//! Roll-outs in steps, on real hosts.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::tool::certfleet;
use crate::trouble::settles;
use crate::world::World;
use crate::world::host::{Host, Script};
use crate::world::made::DAY;

const NAME: &str = "media.social.test";

/// Hosts that serve a good first version, and a certs.toml with this roll-out for the next.
fn world(hosts: &[&str], rollout: &str) -> (World, PathBuf) {
    let world = World::builder().hosts(hosts).site(&[NAME]).start().unwrap();
    let table = format!("[[certificate]]\ndomains = [{NAME:?}]\nhosts = [\"cdn\"]\nrollout = {rollout}\n");
    let config = world.config(&table).unwrap();
    // What they serve has expired: nobody waits for a canary.
    certfleet(&config, &["renew"]).ended(0);
    assert!(world.hosts.iter().all(|host| host.reloads() == 1));
    (world, config)
}

/// When its web server loaded something the last time.
fn loaded(host: &Host) -> SystemTime {
    fs::metadata(host.root.join("log/reload")).unwrap().modified().unwrap()
}

fn serials(world: &World) -> Vec<String> {
    world.hosts.iter().map(|host| host.served(NAME).unwrap().serial).collect()
}

#[test]
fn the_canary_is_first_and_then_two_at_a_time() {
    let (world, config) = world(&["tokyo", "sally", "esme", "fremont"], "{ canary = \"sally\", batch = 2 }");
    let before = serials(&world);

    certfleet(&config, &["renew", "--force"]).ended(0);

    let after = serials(&world);
    assert!(
        after.iter().all(|serial| *serial == after[0] && !before.contains(serial)),
        "{before:?} {after:?}"
    );
    let times: Vec<SystemTime> =
        ["sally", "tokyo", "esme", "fremont"].map(|name| loaded(world.host(name))).into();
    assert!(times[1..3].iter().all(|time| *time > times[0]), "{times:?}");
    assert!(
        times[3] > times[1].min(times[2]),
        "the third of the others waits for one of the first two: {times:?}"
    );
    assert!(world.hosts.iter().all(|host| (host.reloads(), host.connections()) == (2, 2)));
}

#[test]
fn what_fails_on_the_canary_goes_to_no_other_until_it_works() {
    let (world, config) = world(&["sally", "esme", "fremont"], "{ canary = \"sally\" }");
    let before = serials(&world);
    let (sally, esme) = (world.host("sally"), world.host("esme"));
    sally.set_reload(Script::Lies).unwrap();

    certfleet(&config, &["renew", "--force"])
        .ended(1)
        .said("the version before is back")
        .printed("roll-out is stopped");

    assert_eq!(serials(&world), before);
    assert_eq!((esme.reloads(), esme.connections()), (1, 1), "nobody came to the others");
    certfleet(&config, &["plan"]).ended(3).printed("the roll-out is stopped, sally failed on ");
    for format in ["table", "html", "markdown"] {
        certfleet(&config, &["report", "--format", format]).ended(3).printed("stopped: ");
    }
    let report = certfleet(&config, &["--json", "report"]).ended(3).json();
    let hosts = report["certificates"][0]["hosts"].as_array().unwrap().clone();
    let problem = |name: &str| {
        let host = hosts.iter().find(|host| host["host"] == name).unwrap();
        host["problem"]["code"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(
        (problem("sally").as_str(), problem("esme").as_str()),
        ("deploy.not-served", "rollout.stopped")
    );
    // Who names a host is told that it waits.
    certfleet(&config, &["deploy", "--host", "esme"]).printed("roll-out is stopped");
    assert_eq!(serials(&world), before);

    sally.set_reload(Script::Works).unwrap();
    certfleet(&config, &["deploy"]).ended(0);
    let after = serials(&world);
    assert!(
        after.iter().all(|serial| *serial == after[0] && !before.contains(serial)),
        "{before:?} {after:?}"
    );
    assert_eq!(world.pebble.orders(), 2);
    assert!(loaded(esme) > loaded(sally));
}

#[test]
fn a_canary_that_is_down_holds_the_others_and_force_does_not_wait() {
    let (world, config) = world(&["sally", "esme"], "{ canary = \"sally\", batch = 1 }");
    let before = serials(&world);
    let (sally, esme) = (world.host("sally"), world.host("esme"));
    sally.stop_sshd();

    certfleet(&config, &["renew", "--force"]).ended(1).printed("waits for the canary sally");
    assert_eq!(serials(&world), before);
    assert_eq!(esme.connections(), 1);

    certfleet(&config, &["deploy", "--force"]).ended(1);
    assert_eq!((serials(&world)[0] == before[0], serials(&world)[1] == before[1]), (true, false));

    sally.start_sshd().unwrap();
    certfleet(&config, &["deploy"]).ended(0);
    assert_eq!(serials(&world)[0], serials(&world)[1]);
}

#[test]
fn a_host_of_the_batch_that_is_down_holds_nobody() {
    let (world, config) = world(&["esme", "sally", "tokyo"], "{ batch = 1 }");
    let before = serials(&world);
    world.host("esme").stop_sshd();

    certfleet(&config, &["renew", "--force"]).ended(1);

    let after = serials(&world);
    assert_eq!(after[0], before[0]);
    assert!(after[1] != before[1] && after[1] == after[2], "{before:?} {after:?}");
}

#[test]
fn a_roll_out_names_hosts_of_the_certificate() {
    let world = World::builder().hosts(&["sally", "esme"]).start().unwrap();
    let with = |hosts: &str, rollout: &str| {
        let table = format!("[[certificate]]\ndomains = [{NAME:?}]\nhosts = {hosts}\nrollout = {rollout}\n");
        certfleet(&world.config(&table).unwrap(), &["plan"])
    };
    for (hosts, rollout, says) in [
        ("[\"cdn\"]", "{ canary = \"sall\" }", "did you mean"),
        ("[\"esme\"]", "{ canary = \"sally\" }", "is no host of"),
        ("[\"esme\"]", "{ canary = \"cdn\" }", "is no host of"),
        ("[\"cdn\"]", "{ }", "says nothing"),
        ("[\"cdn\"]", "{ batch = 0 }", "it is a number of hosts"),
        ("[\"cdn\"]", "{ batch = -1 }", "it is a number of hosts"),
        ("[\"cdn\"]", "{ batch = \"2\" }", "must be a whole number"),
        ("[\"cdn\"]", "{ batches = 2 }", "batch"),
        ("[\"cdn\"]", "\"sally\"", "must be a table"),
        ("[\"cdn\"]", "{ canary = [] }", "cannot be empty"),
    ] {
        let ran = with(hosts, rollout).ended(2);
        assert!(ran.err.contains(says), "{rollout}: {}", ran.err);
    }
    with("[\"cdn\"]", "{ canary = [\"sally\", \"cdn\"], batch = 3 }").ended(3);
}

#[test]
fn near_its_end_nothing_is_held_and_somebody_is_told() {
    let world = World::builder().hosts(&["sally", "esme", "fremont"]).site(&[NAME]).start().unwrap();
    let table = format!(
        "[[certificate]]\ndomains = [{NAME:?}]\nhosts = [\"cdn\"]\nrollout = {{ canary = \"sally\" }}\n"
    );
    let config = world.config(&table).unwrap();
    // They serve what everybody trusts; that of esme has three days left of its ninety.
    for (name, left) in [("sally", 60), ("esme", 3), ("fremont", 60)] {
        let host = world.host(name);
        let pair = world.pebble.issue_aside(&[NAME], (left - 90) * DAY, left * DAY).unwrap();
        host.install(NAME, &pair).unwrap();
        host.reload_quietly().unwrap();
        settles(host, "the other CA's is served", |served| !served.expired());
    }
    let before = serials(&world);
    world.host("sally").set_reload(Script::Lies).unwrap();

    certfleet(&config, &["renew"])
        .ended(1)
        .said("goes to `esme` out of turn, because what is served there is close to its end")
        .printed("media.social.test on fremont: the roll-out is stopped, sally failed on ");
    let after = serials(&world);
    let changed: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
    assert_eq!(changed, [false, true, false]);
    certfleet(&config, &["alert", "list"])
        .printed("went to `esme` although it failed on `sally`")
        .printed("mend `sally`");
    certfleet(&config, &["report"]).ended(3).printed("stopped: `sally` failed");

    world.host("sally").set_reload(Script::Works).unwrap();
    certfleet(&config, &["run", "--once"]).ended(0);
    certfleet(&config, &["alert", "list"]).ended(0).printed("nothing is wrong");
}
