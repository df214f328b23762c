//! The keys that we log in with.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod certificate;

use jiff::Timestamp;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{Certificate, Error as KeyError, PrivateKey, PublicKey, decode_secret_key};
use rustls::crypto::aws_lc_rs;
use zeroize::Zeroizing;

pub(super) use certificate::Doubt;
pub use certificate::{authority, beside, life};

use crate::model::problem::{Blame, Diagnose, Retry, plain};
use crate::secret::{Secret, SecretError};

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
    /// It is the public half, of a key that only an agent can have then.
    #[error("{} is the public half of an SSH key, and no agent has the private one", path.display())]
    OnlyPublic {
        /// The file.
        path: PathBuf,
    },
    /// It needs a passphrase, and nobody is there to type one.
    #[error("the SSH key {} has a passphrase, which nobody can type here", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase of certs.toml cannot be had.
    #[error("cannot read the passphrase of the SSH key {}", path.display())]
    NoPassphrase {
        /// The file of the key.
        path: PathBuf,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// The passphrase of certs.toml is not that of the key.
    #[error("the passphrase of certs.toml does not open the SSH key {}", path.display())]
    WrongPassphrase {
        /// The file of the key.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// There is no file, and the agent cannot help.
    #[error("there is no SSH key {}, and the agent of $SSH_AUTH_SOCK cannot be asked", path.display())]
    Agent {
        /// The first file that is not there.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// There is no file, and the agent has nothing.
    #[error("there is no SSH key {}, and the agent of $SSH_AUTH_SOCK has none", path.display())]
    EmptyAgent {
        /// The file that is not there.
        path: PathBuf,
    },
    /// A new key cannot be made.
    #[error("cannot make the SSH key {}", path.display())]
    NotMade {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
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
                format!("`certfleet host setup HOST` makes {} and prints what the host needs", path.display())
            }
            Self::Unreadable { path, .. } => {
                format!("the user that certfleet runs as must own it: chown and chmod 600 {}", path.display())
            }
            Self::Exposed { path, .. } => format!("chmod 600 {}", path.display()),
            Self::NoPassphrase { source, .. } => return source.hint(),
            Self::WrongPassphrase { .. } => "`passphrase` in certs.toml says where it is".to_owned(),
            Self::Agent { path, .. } | Self::EmptyAgent { path } => format!(
                "`ssh-add` a key that the hosts let in, or make one for certfleet alone: `certfleet host setup HOST` \
                 makes {}",
                path.display()
            ),
            Self::Encrypted { path } => format!(
                "set `passphrase = {{ file = … }}` for the host; or `ssh-add {0}` to an agent that $SSH_AUTH_SOCK names; \
                 or use a key of its own for certfleet; or take the passphrase away: ssh-keygen -p -N '' -f {0}",
                path.display()
            ),
            Self::NotMade { path, .. } => {
                format!("the user that certfleet runs as must be able to write there: {}", path.display())
            }
            Self::OnlyPublic { path } => format!(
                "`identity` names the private key; or `ssh-add` the one that belongs to {} to the agent of $SSH_AUTH_SOCK",
                path.display()
            ),
            Self::NotAKey { .. } => "`identity` names a private key, as ssh-keygen makes it".to_owned(),
        })
    }
}

/// Makes an ed25519 key in this file, 0600 from its first instant; false if there is one already.
pub fn make(path: &Path) -> Result<bool, IdentityError> {
    match fs::symlink_metadata(path) {
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(IdentityError::Unreadable { path: path.to_owned(), source }),
    }
    let text = new_key().ok_or_else(|| io::Error::other("the random generator of this machine failed"));
    text.and_then(|text| write_new(path, text.as_bytes()))
        .map_err(|source| IdentityError::NotMade { path: path.to_owned(), source })
}

fn new_key() -> Option<Zeroizing<String>> {
    let mut seed = Zeroizing::new([0; 32]);
    aws_lc_rs::default_provider().secure_random.fill(&mut *seed).ok()?;
    let key = PrivateKey::new(Ed25519Keypair::from_seed(&seed).into(), COMMENT).ok()?;
    key.to_openssh(LineEnding::LF).ok()
}

/// Writes a whole file where none is; false when another was faster.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => File::open(folder)?.sync_all().map(|()| true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

/// The public key of the key in this file, as authorized_keys takes it; it needs no passphrase.
pub fn public(path: &Path) -> Result<String, IdentityError> {
    match read(path, None) {
        Ok(key) => Ok(public_line(key.public_key())),
        Err(error) => public_half(path, &error).map(|key| public_line(&key)).ok_or(error),
    }
}

/// The public half of a key that cannot be read whole: it has a passphrase, or is with an agent, and the file named in
/// certs.toml is, as ssh takes it, the public one.
fn public_half(path: &Path, error: &IdentityError) -> Option<PublicKey> {
    let text = |path: &Path| {
        let mut text = Zeroizing::new(String::new());
        File::open(path).ok()?.take(LIMIT).read_to_string(&mut text).ok()?;
        Some(text)
    };
    match error {
        // OpenSSH's own form says it in the clear; beside the others there is a file.
        IdentityError::Encrypted { .. } => match PrivateKey::from_openssh(text(path)?.as_bytes()) {
            Ok(key) => Some(key.public_key().clone()),
            Err(_) => is_public(&text(&with_ending(path, ".pub"))?),
        },
        IdentityError::OnlyPublic { .. } => is_public(&text(path)?),
        _ => None,
    }
}

fn is_public(text: &str) -> Option<PublicKey> {
    PublicKey::from_openssh(text.trim()).ok()
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(ending);
    PathBuf::from(name)
}

/// A public key as authorized_keys takes it, with a comment that says whose it is.
pub(super) fn public_line(key: &PublicKey) -> String {
    let mut key = key.clone();
    if key.comment().is_empty() {
        key.set_comment(COMMENT);
    }
    plain(&key.to_openssh().unwrap_or_default())
}

/// Says in authorized_keys files whose key it is.
const COMMENT: &str = "certfleet";

/// What signs for us.
pub(super) enum Key {
    /// A key of a file.
    Whole(Arc<PrivateKey>),
    /// One that the file cannot be used for, and why; the agent may have it.
    InAgent(Box<PublicKey>, IdentityError),
}

impl Key {
    pub(super) fn public(&self) -> &PublicKey {
        match self {
            Self::Whole(key) => key.public_key(),
            Self::InAgent(key, _) => key,
        }
    }
}

/// A key, and the certificate that goes with it.
pub(super) struct Credential {
    /// The file of the key.
    pub(super) path: PathBuf,
    /// The key.
    pub(super) key: Key,
    /// The certificate beside it; an error is why hosts would not take it.
    pub(super) certificate: Result<Option<Certificate>, Doubt>,
}

/// Whether to ask the agent for any key: there is one, and none of the files of keys.
pub(super) fn by_agent(paths: &[PathBuf]) -> bool {
    let absent = |path: &PathBuf| matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound);
    has_agent() && paths.iter().all(absent)
}

fn has_agent() -> bool {
    std::env::var_os("SSH_AUTH_SOCK").is_some_and(|socket| !socket.is_empty())
}

/// Reads the keys, in their order. One that cannot be used is no harm where another can.
pub(super) fn read_all(
    paths: &[PathBuf],
    passphrase: Option<&Secret>,
) -> Result<Vec<Credential>, IdentityError> {
    let (mut found, mut first) = (Vec::new(), None);
    for path in paths {
        let key = read(path, passphrase).map(|key| Key::Whole(Arc::new(key))).or_else(|error| {
            match public_half(path, &error).filter(|_| has_agent()) {
                Some(key) => Ok(Key::InAgent(Box::new(key), error)),
                None => Err(error),
            }
        });
        match key {
            Ok(key) => {
                let certificate = certificate::read(path, key.public(), Timestamp::now());
                found.push(Credential { path: path.clone(), key, certificate });
            }
            Err(error) => {
                tracing::debug!("left out: {error}");
                first.get_or_insert(error);
            }
        }
    }
    match first {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

/// Reads a key. A file that others can read is refused, as ssh refuses it.
pub(super) fn read(path: &Path, passphrase: Option<&Secret>) -> Result<PrivateKey, IdentityError> {
    let unreadable = |source| IdentityError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    let mut text = Zeroizing::new(String::new());
    file.take(LIMIT).read_to_string(&mut text).map_err(unreadable)?;
    let path = path.to_owned();
    if is_public(&text).is_some() {
        return Err(IdentityError::OnlyPublic { path });
    }
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path, mode });
    }
    let encrypted = match decode_secret_key(&text, None) {
        Ok(key) => key.is_encrypted(),
        Err(KeyError::KeyIsEncrypted) => true,
        Err(source) => return Err(IdentityError::NotAKey { path, source }),
    };
    let password = match passphrase {
        _ if !encrypted => None,
        Some(secret) => match secret.read() {
            Ok(password) => Some(password),
            Err(source) => return Err(IdentityError::NoPassphrase { path, source }),
        },
        None => return Err(IdentityError::Encrypted { path }),
    };
    match decode_secret_key(&text, password.as_ref().map(|password| password.as_str())) {
        Ok(key) => Ok(key),
        Err(source) if encrypted => Err(IdentityError::WrongPassphrase { path, source }),
        Err(source) => Err(IdentityError::NotAKey { path, source }),
    }
}
