//! Our own certificates: with them we come to hosts, and they end, too.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::connections::keys_for;
use crate::config::Config;
use crate::deploy::identity;
use crate::model::name::HostName;

/// An OpenSSH user certificate beside a key of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its file.
    pub file: PathBuf,
    /// The hosts whose entries name its key.
    pub hosts: Vec<HostName>,
    /// From when it holds.
    pub from: Timestamp,
    /// Until when; one that holds for ever ends at [`Timestamp::MAX`].
    pub until: Timestamp,
}

impl Credential {
    /// Whether somebody should have renewed it: the last quarter of its life has begun, or it is over. Whoever
    /// signs them for hours does so by a timer, which had three quarters to run.
    pub fn ends_soon(&self, now: Timestamp) -> bool {
        let life = self.from.duration_until(self.until);
        now.duration_until(self.until) < (life / 4).min(SignedDuration::from_hours(14 * 24))
    }
}

/// The certificates that lie beside the keys of certs.toml; `own` is the key that certfleet makes for itself.
pub fn credentials(config: &Config, own: &Path) -> Vec<Credential> {
    let mut found: Vec<Credential> = Vec::new();
    for host in config.desired.hosts.values().filter(|host| !host.local) {
        for key in keys_for(host, own) {
            let file = identity::beside(&key);
            if let Some(known) = found.iter_mut().find(|known| known.file == file) {
                known.hosts.push(host.name.clone());
            } else if let Some((from, until)) = identity::life(&key) {
                found.push(Credential { file, hosts: vec![host.name.clone()], from, until });
            }
        }
    }
    found
}
