//! Locks of the kernel: released by death, never stale.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::LockError;
use super::files::{self, Action, FileError, Survives};
use crate::model::name::CertName;
use crate::model::problem::plain;

/// Who has a lock, by their own words: for people, never to decide whether the lock is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
    /// What it is doing.
    pub doing: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since.strftime("%F %H:%M:%S UTC");
        write!(f, "process {} ({}, since {since})", self.pid, self.doing)
    }
}

/// The right to work on one certificate; let go when dropped, or when the process ends.
#[derive(Debug)]
pub struct CertLock {
    name: CertName,
    folder: PathBuf,
    held: Held,
}

impl CertLock {
    pub(super) fn take(
        name: &CertName,
        folder: &Path,
        doing: &str,
        now: Timestamp,
    ) -> Result<Self, LockError> {
        let held = Held::take(&folder.join("lock"), doing, now)?;
        Ok(Self { name: name.clone(), folder: folder.to_owned(), held })
    }

    /// The certificate.
    pub fn name(&self) -> &CertName {
        &self.name
    }

    /// Tells those who wait what is being done now.
    pub fn doing(&self, doing: &str, now: Timestamp) {
        self.held.tell(doing, now);
    }

    /// The certificate's folder in the store.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The right to be the daemon of a store.
#[derive(Debug)]
pub struct DaemonLock {
    _held: Held,
}

impl DaemonLock {
    pub(super) fn take(root: &Path, doing: &str, now: Timestamp) -> Result<Self, LockError> {
        Ok(Self { _held: Held::take(&root.join("daemon.lock"), doing, now)? })
    }
}

/// The right to make or change one account at a CA: two processes must not register twice.
#[derive(Debug)]
pub struct AccountLock {
    _held: Held,
}

impl AccountLock {
    pub(super) fn take(path: &Path, doing: &str, now: Timestamp) -> Result<Self, LockError> {
        Ok(Self { _held: Held::take(path, doing, now)? })
    }
}

/// A locked file with a note beside it that says who we are.
#[derive(Debug)]
pub(super) struct Held {
    file: File,
    note: PathBuf,
}

impl Held {
    pub(super) fn take(path: &Path, doing: &str, now: Timestamp) -> Result<Self, LockError> {
        let note = path.with_extension(match path.extension() {
            Some(extension) => format!("{}.holder", extension.to_string_lossy()),
            None => "holder".to_owned(),
        });
        let Some(file) = try_lock(path)? else {
            let holder = files::read(&note, 4096).ok().flatten();
            let holder = holder.and_then(|bytes| serde_json::from_slice::<Holder>(&bytes).ok());
            return Err(LockError::Held(
                holder.map(|holder| Holder { doing: plain(&holder.doing), ..holder }),
            ));
        };
        let held = Self { file, note };
        held.tell(doing, now);
        Ok(held)
    }

    /// Whoever waits reads this; nothing depends on it, so failing is no error.
    fn tell(&self, doing: &str, now: Timestamp) {
        let holder = Holder { pid: std::process::id(), since: now, doing: plain(doing) };
        let text = serde_json::to_vec(&holder).expect("a number and two texts are always JSON");
        if let Err(error) = files::write(&self.note, &text, Survives::Exit) {
            tracing::debug!(path = %self.note.display(), error = %error.source, "cannot say who holds the lock");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The note first: once the lock is free it is somebody else's.
        if let Err(error) = fs::remove_file(&self.note) {
            tracing::debug!(path = %self.note.display(), %error, "cannot remove the note of a lock");
        }
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "a lock is let go by closing it");
        }
    }
}

/// The locked file, or `None` when somebody else has it.
pub(super) fn try_lock(path: &Path) -> Result<Option<File>, LockError> {
    // Twice: the file may be removed and made again (with its folder) between opening and locking.
    for _ in 0..2 {
        let file = files::open_lasting(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => {
                return Err(match Errno::from_io_error(&source) {
                    Some(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                        LockError::Unsupported { path: path.to_owned(), source }
                    }
                    _ => FileError::new(Action::Read, path)(source).into(),
                });
            }
        }
        let ours = file.metadata().map_err(FileError::new(Action::Read, path))?;
        match fs::symlink_metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => return Ok(Some(file)),
            _ => {}
        }
    }
    Ok(None)
}
