//! The key that we log in with.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use russh::keys::{Error as KeyError, PrivateKey, decode_secret_key};
use zeroize::Zeroizing;

use crate::model::problem::{Blame, Diagnose, Retry};

/// More than any key file has.
const LIMIT: u64 = 64 * 1024;

/// Why there is no key to log in with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file is not there, or not for us.
    #[error("cannot read the SSH key {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could use the key.
    #[error("the SSH key {} can be read by others than its owner (mode {mode:04o})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It needs a passphrase, and nobody is there to type one.
    #[error("the SSH key {} has a passphrase, which nobody can type here", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// Not a private key of a kind we know.
    #[error("{} is no SSH private key", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
}

impl Diagnose for IdentityError {
    fn code(&self) -> &'static str {
        "ssh.identity"
    }

    fn blame(&self) -> Blame {
        Blame::Operator
    }

    fn retry(&self) -> Retry {
        // A chmod or a new file mends it, and certs.toml shows nothing of that.
        Retry::Backoff
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreadable { path, source } if source.kind() == io::ErrorKind::NotFound => {
                format!("make one: ssh-keygen -t ed25519 -N '' -f {}", path.display())
            }
            Self::Unreadable { path, .. } => {
                format!("the user that certfleet runs as must own it: chown and chmod 600 {}", path.display())
            }
            Self::Exposed { path, .. } => format!("chmod 600 {}", path.display()),
            Self::Encrypted { path } => format!(
                "use a key of its own for certfleet; or take the passphrase away: ssh-keygen -p -N '' -f {}",
                path.display()
            ),
            Self::NotAKey { .. } => {
                "`identity` names the private key, not the one that ends in .pub".to_owned()
            }
        })
    }
}

/// Reads a key. A file that others can read is refused, as ssh refuses it.
pub(super) fn read(path: &Path) -> Result<PrivateKey, IdentityError> {
    let unreadable = |source| IdentityError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LIMIT).read_to_string(&mut text).map_err(unreadable)?;
    let key = decode_secret_key(&text, None).map_err(|source| match source {
        KeyError::KeyIsEncrypted => IdentityError::Encrypted { path: path.to_owned() },
        source => IdentityError::NotAKey { path: path.to_owned(), source },
    })?;
    if key.is_encrypted() {
        return Err(IdentityError::Encrypted { path: path.to_owned() });
    }
    Ok(key)
}
