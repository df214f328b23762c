//! What lies on the disks of hosts: looked at once a day and when somebody is there anyway, mended or told.

mod findings;
mod places;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::tool::{Ran, command, finish};
use crate::world::World;
use crate::world::host::Host;
use crate::world::parts;

const NAME: &str = "media.social.test";
const TABLE: &str = "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"cdn\"]\n";
/// Somewhat more than a day: a host is looked at within two hours after it.
const NEXT_DAY: &str = "+27h";

/// A run with the clock so far ahead.
fn run_at(offset: &str, config: &Path, args: &[&str]) -> Ran {
    let mut command = command(config, args);
    let library = parts::faketime().unwrap();
    command.env("LD_PRELOAD", library).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    finish(command.spawn().unwrap())
}

fn live(host: &Host, file: &str) -> PathBuf {
    host.live.join(NAME).join(file)
}

/// Whether what nginx would start with is what certfleet has in store.
fn is_ours(world: &World, host: &Host, name: &str, version: u32) -> bool {
    let stored = world.store().join("certificates").join(name).join(format!("versions/{version}"));
    ["privkey", "fullchain", "cert", "chain"].iter().all(|part| {
        let file = format!("{part}.pem");
        fs::read(host.live.join(name).join(&file)).ok() == fs::read(stored.join(&file)).ok()
    })
}

/// What the report says of the certificate on the host.
fn reported(config: &Path, offset: &str, name: &str) -> Value {
    let report = run_at(offset, config, &["report", "--json"]).json();
    let certificates = report["certificates"].as_array().unwrap().clone();
    let certificate = certificates.into_iter().find(|one| one["name"] == name).unwrap();
    certificate["hosts"][0].clone()
}
