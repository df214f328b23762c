//! What is remembered about alerts: durable before anybody is told, so that nobody is told twice or never.

use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;

use super::document;
use super::error::{LoadError, LockError, SaveError};
use super::files::{self, Action, FileError};
use super::locks::Held;
use super::{DOCUMENT_LIMIT, Store};
use crate::model::alert::Memory;

/// The right to tell people; let go when dropped, or when the process ends.
#[derive(Debug)]
pub struct AlertLock {
    _held: Held,
}

impl Store {
    /// The right to tell people: daemon, timer and a person at the command line do it one after the other. Does
    /// not wait. What was read before having the lock may be old.
    pub fn lock_alerts(&self, doing: &str, now: Timestamp) -> Result<AlertLock, LockError> {
        self.check_same()?;
        Ok(AlertLock { _held: Held::take(&self.root.join("alerts.lock"), doing, now)? })
    }

    /// What is remembered about alerts; of a new store nothing.
    pub fn alerts(&self) -> Result<Memory, LoadError> {
        let path = self.alerts_path();
        match files::read(&path, DOCUMENT_LIMIT)? {
            Some(bytes) => document::decode(&path, &bytes),
            None => Ok(Memory::default()),
        }
    }

    /// Keeps what is remembered about alerts.
    pub fn save_alerts(&self, _lock: &AlertLock, memory: &Memory) -> Result<(), SaveError> {
        self.save(&self.alerts_path(), &document::encode(memory))
    }

    /// Moves what cannot be read out of the way, and tells where it is now: alerts go on without it.
    pub fn quarantine_alerts(&self, _lock: &AlertLock, now: Timestamp) -> Result<PathBuf, SaveError> {
        self.check_same()?;
        let path = self.alerts_path();
        let aside = self.root.join(format!("alerts.json.damaged-{}", now.strftime("%Y%m%dT%H%M%SZ")));
        fs::rename(&path, &aside).map_err(FileError::new(Action::Rename, &aside))?;
        files::sync_folder(&self.root)?;
        Ok(aside)
    }

    fn alerts_path(&self) -> PathBuf {
        self.root.join("alerts.json")
    }
}
