//! `kind` of a host: reached by SSH, or this machine itself.

use rustix::process::geteuid;
use rustix::system::uname;

use crate::kind::{Refusal, Remedy, Section};
use crate::model::desired::Host;

/// The keys that say how to come to a host.
const OF_SSH: &[&str] =
    &["address", "port", "user", "via", "identity", "passphrase", "host-key", "known-hosts", "receiver"];

/// Whether the table is of this machine. Then what has no meaning for it is a mistake.
pub(super) fn take(section: &mut Section<'_>) -> bool {
    let local = section.parsed("kind", "\"local\"", kind).unwrap_or(false);
    for key in OF_SSH.iter().filter(|_| local) {
        if let Some(value) = section.take(key) {
            section.mistake(
                value.span(),
                format!("`{key}` has no meaning with `kind = \"local\"`: this machine is not reached by SSH"),
                Remedy::Hint(format!("remove `{key}`, or remove `kind` to go over SSH")),
            );
        }
    }
    local
}

fn kind(text: &str) -> Result<bool, Refusal> {
    match text {
        "ssh" => Ok(false),
        "local" => Ok(true),
        _ => Err(Refusal::new(
            "a host is \"ssh\" or \"local\"",
            "remove it to go over SSH; \"local\" is this machine itself",
        )),
    }
}

/// The host as this machine; of what the defaults say of SSH nothing counts.
pub(super) fn this_machine(host: Host, sudo: bool) -> Host {
    let root = geteuid().is_root();
    let name = uname().nodename().to_string_lossy().into_owned();
    Host {
        local: true,
        address: if name.is_empty() { "localhost".to_owned() } else { name },
        port: 22,
        // As sudoers files name a user by number.
        user: if root { "root".to_owned() } else { format!("#{}", geteuid().as_raw()) },
        sudo: sudo && !root,
        receiver: false,
        via: None,
        identity: Vec::new(),
        host_key: Vec::new(),
        known_hosts: Vec::new(),
        ..host
    }
}
