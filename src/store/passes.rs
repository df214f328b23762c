//! When passes ended.

use jiff::Timestamp;

use super::document;
use super::error::{LoadError, SaveError};
use super::files::{self, Survives};
use super::{DOCUMENT_LIMIT, Store};
use crate::model::history::How;
use crate::model::passes::Passes;

impl Store {
    /// Notes the end of a pass, and tells of all of them. Waits at most ten seconds for other processes; not synced,
    /// for the next pass says it anew.
    pub fn note_pass(&self, how: How, at: Timestamp, complete: bool) -> Result<Passes, SaveError> {
        self.change_passes(|passes| passes.note(how, at, complete))
    }

    /// No longer waits for passes by this one.
    pub fn forget_passes(&self, how: How) -> Result<(), SaveError> {
        self.change_passes(|passes| passes.forget(how)).map(drop)
    }

    fn change_passes(&self, change: impl FnOnce(&mut Passes)) -> Result<Passes, SaveError> {
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _lock = self.short_lock()?;
        self.check_same()?;
        // What cannot be read was said by whoever loaded it, and is mended by writing it anew.
        let mut passes = self.passes().unwrap_or_default();
        change(&mut passes);
        files::write(&self.root.join("passes.json"), &document::encode(&passes), Survives::Exit)?;
        Ok(passes)
    }

    /// When passes ended.
    pub(super) fn passes(&self) -> Result<Passes, LoadError> {
        let path = self.root.join("passes.json");
        match files::read(&path, DOCUMENT_LIMIT)? {
            Some(bytes) => document::decode(&path, &bytes),
            None => Ok(Passes::default()),
        }
    }
}
