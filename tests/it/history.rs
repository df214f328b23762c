//! The audit log, as the built binary writes and shows it.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::tool::{certfleet, command, finish};
use crate::world::World;
use crate::world::host::Script;

const NAME: &str = "media.social.test";

fn events(entries: &Value, event: &str) -> Vec<Value> {
    let entries = entries["entries"].as_array().unwrap();
    entries.iter().filter(|entry| entry["event"] == event).cloned().collect()
}

#[test]
fn it_tells_who_did_what_when_and_what_came_of_it() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config =
        world.config(&format!("[[certificate]]\ndomains = [\"{NAME}\"]\nhosts = [\"cdn\"]\n")).unwrap();
    certfleet(&config, &["history"]).ended(0).printed("nothing has happened yet");
    assert!(!world.store().exists(), "reading made a store");

    certfleet(&config, &["run", "--once"]).ended(0);
    world.host("sally").set_reload(Script::Lies).unwrap();
    let mut by_hand = command(&config, &["renew", "--force", NAME]);
    let by_hand = by_hand.env("SUDO_USER", "alice\u{1b}[2J").spawn().unwrap();
    let pid = by_hand.id();
    finish(by_hand).ended(1);

    let log = certfleet(&config, &["history", NAME, "--json"]).ended(0).json();
    let issued = events(&log, "issued");
    assert_eq!(issued.len(), 2, "{log:#}");
    assert_eq!((&issued[0]["version"], &issued[1]["version"]), (&1.into(), &2.into()));
    assert_eq!((&issued[0]["by"]["how"], &issued[1]["by"]["how"]), (&"timer".into(), &"cli".into()));
    assert_eq!(issued[1]["by"]["pid"], pid);
    assert_eq!(issued[1]["by"]["sudo-user"], "alice\\u{1b}[2J");
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    assert_eq!(issued[0]["by"]["user"], user.trim());
    let served = world.host("sally").served(NAME).unwrap();
    let fingerprint = certfleet::model::name::Fingerprint::of(served.leaf()).to_string();
    let deployed = events(&log, "deployed");
    assert_eq!((deployed.len(), &deployed[0]["host"]), (1, &"sally".into()));
    assert_eq!(deployed[0]["fingerprint"], fingerprint);
    let put_back = events(&log, "put-back");
    assert_eq!((put_back.len(), &put_back[0]["version"]), (1, &2.into()), "{log:#}");
    assert!(put_back[0]["problem"]["code"].is_string());

    let all = certfleet(&config, &["history", "--json"]).ended(0).json();
    assert_eq!(events(&all, "account-registered")[0]["issuer"], "pebble");
    let text = fs::read_to_string(world.store().join("history.jsonl")).unwrap();
    let secret = fs::read_to_string(&world.ns.secret_file).unwrap();
    assert!(!text.contains("PRIVATE KEY") && !text.contains(secret.trim()));

    let table = certfleet(&config, &["history"]).ended(0).printed("put-back").printed("account-registered");
    assert!(!table.out.contains('\u{1b}'));
    assert!(table.out.find("account-registered") < table.out.find("put-back"), "newest last:\n{}", table.out);
    certfleet(&config, &["history", "--since", "2999-01-01"]).ended(0).printed("nothing has happened yet");
    certfleet(&config, &["history", "media.social.tset"]).ended(2).said("did you mean `media.social.test`?");

    // As a power cut may leave it.
    fs::write(world.store().join("history.jsonl"), format!("{text}{{\"at\":\"2026-")).unwrap();
    let torn = certfleet(&config, &["history", "--json"]).ended(0).said("1 line of the history");
    assert_eq!(torn.json()["entries"], all["entries"]);
}
