//! Which keys a host may show, and what to do when it shows another.
//!
//! The rule is strict: a key that is pinned in certs.toml, or else one that a known-hosts file has for
//! this host, or one that an authority named there vouches for. Never the first one that comes along.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

mod certificate;
mod expectation;
mod pattern;

use russh::keys::{Algorithm, HashAlg, PublicKey};

pub use certificate::CertificateFault;
pub(super) use certificate::moment;
pub use expectation::Expectation;

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
    /// An authority that may vouch for it has signed a certificate that is not good for it.
    #[error("`{host}` shows a host certificate that does not hold")]
    Certificate {
        /// The host's name.
        host: String,
        /// Why not.
        #[source]
        source: CertificateFault,
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
            Self::Certificate { .. } => "ssh.host-certificate",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::BadPin { .. }
            | Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::Unknown { .. } => Blame::Operator,
            Self::Mismatch { .. }
            | Self::OtherKind { .. }
            | Self::Revoked { .. }
            | Self::Certificate { .. } => Blame::Host,
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
            Self::Certificate { source, .. } => Some(source.hint()),
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
