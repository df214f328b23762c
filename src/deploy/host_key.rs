//! Which keys a host may show, and what to do when it shows another.
//!
//! The rule is strict: a key that is pinned in certs.toml, or else one that a known-hosts file has for
//! this host. Never the first one that comes along.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey};
use sha1::Sha1;

use crate::model::desired::Host;
use crate::model::problem::{Blame, Diagnose, Retry};

/// Why a host's key is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// A pinned key cannot be read.
    #[error("`host-key` of `{host}` has an entry that is no public key: `{entry}`")]
    BadPin {
        /// The host's name.
        host: String,
        /// The entry, as far as it can be shown.
        entry: String,
        /// What is wrong with it.
        #[source]
        source: russh::keys::ssh_key::Error,
    },
    /// A known-hosts file is there and cannot be read.
    #[error("cannot read the known hosts in {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A key cannot be added to a known-hosts file.
    #[error("cannot add the key of `{host}` to {}", path.display())]
    Unwritable {
        /// The host's name.
        host: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing is known of this host.
    #[error("the key of `{host}` is not known: it shows {presented}")]
    Unknown {
        /// The host's name.
        host: String,
        /// How it is reached: address and port.
        address: String,
        /// The key it showed.
        presented: Box<Shown>,
        /// Where its key was looked for.
        searched: Vec<PathBuf>,
    },
    /// It shows a key that is none of the expected.
    #[error("`{host}` shows the key {presented}, expected was {expected}")]
    Mismatch {
        /// The host's name.
        host: String,
        /// What was expected.
        expected: String,
        /// The key it showed.
        presented: Box<Shown>,
    },
    /// It has no key of the expected kinds.
    #[error("`{host}` has no host key of the expected kind: expected was {expected}, it offers {offered}")]
    OtherKind {
        /// The host's name.
        host: String,
        /// What was expected.
        expected: String,
        /// The kinds of keys that it offers.
        offered: String,
    },
    /// It shows a key that is marked `@revoked`.
    #[error("`{host}` shows the key {presented}, which is revoked in {}", path.display())]
    Revoked {
        /// The host's name.
        host: String,
        /// The key it showed.
        presented: Box<Shown>,
        /// The file that says so.
        path: PathBuf,
    },
}

impl Diagnose for HostKeyError {
    fn code(&self) -> &'static str {
        match self {
            Self::BadPin { .. } => "ssh.host-key-pin",
            Self::Unreadable { .. } | Self::Unwritable { .. } => "ssh.known-hosts",
            Self::Unknown { .. } => "ssh.host-key-unknown",
            Self::Mismatch { .. } | Self::OtherKind { .. } => "ssh.host-key",
            Self::Revoked { .. } => "ssh.host-key-revoked",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::BadPin { .. }
            | Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::Unknown { .. } => Blame::Operator,
            Self::Mismatch { .. } | Self::OtherKind { .. } | Self::Revoked { .. } => Blame::Host,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::BadPin { .. } => Retry::AfterChange,
            _ => Retry::Backoff,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::BadPin { .. } => Some(
                "an entry looks like `ssh-ed25519 AAAA…`, as in the host's /etc/ssh/ssh_host_*_key.pub"
                    .into(),
            ),
            Self::Unreadable { path, .. } => {
                Some(format!("make {} readable, or set `host-key`", path.display()))
            }
            Self::Unwritable { host, path, .. } => {
                Some(format!("make {} writable, or set `host-key` in [host.{host}]", path.display()))
            }
            Self::Unknown { host, address, presented, searched } => {
                let searched: Vec<_> = searched.iter().map(|path| path.display().to_string()).collect();
                Some(format!(
                    "looked for {address} in {}; compare the fingerprint with `ssh-keygen -lf \
                     /etc/ssh/ssh_host_{}_key.pub` on the host itself (what ssh-keyscan says comes over the same \
                     network), then `certfleet host pin {host}`, or set `host-key = [\"{}\"]` in [host.{host}]",
                    if searched.is_empty() { "no file".to_owned() } else { searched.join(", ") },
                    presented.family,
                    presented.line,
                ))
            }
            Self::Mismatch { host, presented, .. } => Some(format!(
                "either the host got a new key or this is not the host; find out on its console (`ssh-keygen -lf \
                 /etc/ssh/ssh_host_{}_key.pub`), and only then set `host-key = [\"{}\"]` in [host.{host}]",
                presented.family, presented.line,
            )),
            Self::OtherKind { host, .. } => Some(format!(
                "read the key on the host itself (/etc/ssh/ssh_host_*_key.pub), then set `host-key` in [host.{host}]"
            )),
            Self::Revoked { .. } => {
                Some("give the host new keys: whoever has the old ones can be this host".into())
            }
        }
    }
}

/// A key that a host showed, displayed as kind and SHA-256 fingerprint, as ssh shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    text: String,
    /// The key as `host-key` takes it.
    line: String,
    /// The part of the name of its file in /etc/ssh.
    family: &'static str,
}

impl Shown {
    fn of(key: &PublicKey) -> Self {
        let mut plain = key.clone();
        plain.set_comment("");
        Self {
            text: format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256)),
            line: plain.to_openssh().unwrap_or_default().trim_end().to_owned(),
            family: match key.algorithm() {
                Algorithm::Ed25519 => "ed25519",
                Algorithm::Ecdsa { .. } => "ecdsa",
                Algorithm::Rsa { .. } => "rsa",
                _ => "*",
            },
        }
    }

    /// The key as `host-key` and known-hosts files take it.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Where the key is on the host itself.
    pub fn file(&self) -> String {
        format!("/etc/ssh/ssh_host_{}_key.pub", self.family)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The keys that a host may show, and who says so.
#[derive(Debug, Clone)]
pub struct Expectation {
    host: String,
    address: String,
    keys: Vec<PublicKey>,
    revoked: Vec<(PublicKey, PathBuf)>,
    searched: Vec<PathBuf>,
    pinned: bool,
}

impl Expectation {
    /// What certs.toml pins, else what the known-hosts files say. A file that is not there says nothing.
    ///
    /// A key that any of the files revokes stays revoked, also when it is pinned.
    pub(super) fn of(host: &Host) -> Result<Self, HostKeyError> {
        let mut expectation = Self {
            host: host.name.to_string(),
            address: names(host).remove(0),
            keys: Vec::new(),
            revoked: Vec::new(),
            searched: host.known_hosts.clone(),
            pinned: !host.host_key.is_empty(),
        };
        for pin in &host.host_key {
            let key = pin.trim().parse().map_err(|source| HostKeyError::BadPin {
                host: host.name.to_string(),
                entry: crate::model::problem::plain(pin).chars().take(60).collect(),
                source,
            })?;
            expectation.keys.push(key);
        }
        for path in &host.known_hosts {
            match fs::read(path) {
                Ok(text) => expectation.read(&String::from_utf8_lossy(&text), path, &names(host)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(HostKeyError::Unreadable { path: path.clone(), source }),
            }
        }
        Ok(expectation)
    }

    fn read(&mut self, text: &str, path: &Path, names: &[String]) {
        for (number, line) in text.lines().enumerate() {
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Ok(entry) = line.parse::<Entry>() else {
                tracing::warn!("{}:{}: not a line of known hosts, left out", path.display(), number + 1);
                continue;
            };
            if !names.iter().any(|name| matches(entry.host_patterns(), name)) {
                continue;
            }
            match entry.marker() {
                Some(Marker::Revoked) => self.revoked.push((entry.public_key().clone(), path.to_owned())),
                // Host certificates are not supported, so nobody may vouch for other keys.
                Some(Marker::CertAuthority) => {}
                None if self.pinned => {}
                None => self.keys.push(entry.public_key().clone()),
            }
        }
    }

    /// The kinds of keys to ask for: those that are expected, or all where nothing is, so that the refusal
    /// can name the key. Never RSA with SHA-1.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let mut all = vec![Algorithm::Ed25519];
        all.extend(
            [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521]
                .map(|curve| Algorithm::Ecdsa { curve }),
        );
        all.extend([HashAlg::Sha512, HashAlg::Sha256].map(|hash| Algorithm::Rsa { hash: Some(hash) }));
        if !self.keys.is_empty() {
            all.retain(|kind| self.keys.iter().any(|key| same_kind(kind, &key.algorithm())));
        }
        all
    }

    /// Accepts exactly the expected keys.
    pub(super) fn judge(&self, presented: &PublicKey) -> Result<(), HostKeyError> {
        let shown = Box::new(Shown::of(presented));
        let host = self.host.clone();
        if let Some((_, path)) = self.revoked.iter().find(|(key, _)| key.key_data() == presented.key_data()) {
            return Err(HostKeyError::Revoked { host, presented: shown, path: path.clone() });
        }
        if self.keys.iter().any(|key| key.key_data() == presented.key_data()) {
            return Ok(());
        }
        if self.keys.is_empty() {
            return Err(HostKeyError::Unknown {
                host,
                address: self.address.clone(),
                presented: shown,
                searched: self.searched.clone(),
            });
        }
        Err(HostKeyError::Mismatch { host, expected: self.to_string(), presented: shown })
    }

    /// The refusal of a host that has no key of the kinds asked for.
    pub(super) fn other_kind(&self, offered: &[String]) -> HostKeyError {
        HostKeyError::OtherKind {
            host: self.host.clone(),
            expected: self.to_string(),
            offered: crate::model::problem::plain(&offered.join(", ")),
        }
    }
}

/// Adds a key to the first known-hosts file of a host, made if it is not there. All other lines stay as they
/// are; whoever reads at the same time sees the old file or the new one.
pub fn pin(host: &Host, address: &str, key: &Shown) -> Result<PathBuf, HostKeyError> {
    let path = host.known_hosts.first().cloned().unwrap_or_else(|| PathBuf::from("known_hosts"));
    append(&path, &format!("{address} {}\n", key.line)).map_err(|source| HostKeyError::Unwritable {
        host: host.name.to_string(),
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    // The file itself: a link to it stays one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let held = fs::File::open(folder)?;
    // Two at the same time would each lose the other's line.
    held.lock()?;
    let (mut text, mode) = match fs::read(&path) {
        Ok(text) => (text, fs::metadata(&path)?.permissions().mode() & 0o7777),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), 0o644),
        Err(error) => return Err(error),
    };
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend_from_slice(line.as_bytes());
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(&text)?;
    new.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    new.as_file().sync_all()?;
    new.persist(&path).map_err(|error| error.error)?;
    held.sync_all()
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, key) in self.keys.iter().enumerate() {
            let or = if index == 0 { "" } else { " or " };
            write!(f, "{or}{}", Shown::of(key))?;
        }
        f.write_str(if self.pinned { " (pinned)" } else { " (known hosts)" })
    }
}

fn same_kind(a: &Algorithm, b: &Algorithm) -> bool {
    match (a, b) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
        _ => a == b,
    }
}

/// The names that a known-hosts line can have this host under. As OpenSSH does it, a line without a port
/// is good for every port.
fn names(host: &Host) -> Vec<String> {
    let address = host.address.to_ascii_lowercase();
    match host.port {
        22 => vec![address],
        port => vec![format!("[{address}]:{port}"), address],
    }
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
            .is_ok_and(|mac| mac.chain_update(name).verify_slice(hash).is_ok()),
        HostPatterns::Patterns(patterns) => {
            let mut found = false;
            for pattern in patterns {
                match pattern.strip_prefix('!') {
                    Some(not) if glob(not.to_ascii_lowercase().as_bytes(), name.as_bytes()) => return false,
                    Some(_) => {}
                    None => found |= glob(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes()),
                }
            }
            found
        }
    }
}

/// `*` stands for anything, `?` for one character. Linear but for the last `*`, so no pattern can stall it.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::{HostPatterns, glob, matches};

    #[test]
    fn patterns_match_as_in_ssh() {
        for (pattern, text, matched) in [
            ("edge", "edge", true),
            ("edge", "edge1", false),
            ("*", "", true),
            ("*.example.org", "a.b.example.org", true),
            ("*.example.org", "example.org", false),
            ("[10.0.?.*]:22??", "[10.0.1.17]:2222", true),
            ("[10.0.?.*]:22??", "[10.0.11.17]:2222", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), matched, "{pattern} {text}");
        }
        // Exponential in a naive matcher.
        assert!(!glob("*a".repeat(500).as_bytes(), "a".repeat(499).as_bytes()));
        let patterns = |text: &str| text.parse::<HostPatterns>().unwrap();
        assert!(matches(&patterns("x,Edge,!core"), "edge"));
        assert!(!matches(&patterns("!edge,*"), "edge"), "a negation wins, wherever it stands");
        assert!(!matches(&patterns("!core"), "edge"), "and does not match the rest by itself");
    }
}
