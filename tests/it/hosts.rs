//! Hosts as people have them: behind firewalls, with sudo, with keys for other users, behind other hosts.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tool::certfleet;
use crate::world::World;
use crate::world::host::Host;

mod local;
mod owner;
mod pin;
mod reach;
mod sudo;
mod ways;

const NAME: &str = "media.social.test";
const CERTIFICATE: &str = "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"cdn\"]\n";

/// A world with these hosts, each with an expired certificate of certbot's.
fn world(hosts: &[&str]) -> World {
    World::builder().hosts(hosts).site(&[NAME]).start().unwrap()
}

/// Changes what certs.toml says.
fn edit(config: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(config).unwrap();
    assert!(text.contains(from), "{from} is not in\n{text}");
    fs::write(config, text.replace(from, to)).unwrap();
}

/// What `current` of the certificate leads to on this host.
fn current(host: &Host) -> PathBuf {
    fs::read_link(host.live.join(".certfleet").join(NAME).join("current")).unwrap()
}
