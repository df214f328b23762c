//! When passes ended.

use jiff::Timestamp;

use super::document;
use super::error::{LoadError, SaveError};
use super::files::{self, Survives};
use super::{DOCUMENT_LIMIT, Store};
use crate::model::history::How;
use crate::model::passes::Passes;

impl Store {
    /// Notes the end of a pass. Waits at most ten seconds for other processes; not synced, for the next pass
    /// says it anew.
    pub fn note_pass(&self, how: How, at: Timestamp, complete: bool) -> Result<(), SaveError> {
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _lock = self.short_lock()?;
        self.check_same()?;
        // What cannot be read was said by whoever loaded it, and is mended by writing it anew.
        let mut passes = self.passes().unwrap_or_default();
        passes.note(how, at, complete);
        Ok(files::write(&self.root.join("passes.json"), &document::encode(&passes), Survives::Exit)?)
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
