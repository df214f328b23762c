//! The audit log: lines that are added and never changed, oldest files dropped.

use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use super::Store;
use super::error::{LoadError, SaveError};
use super::files::{self, Action, FileError};
use crate::model::history::Entry;

/// What the log says.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Its entries, oldest first.
    pub entries: Vec<Entry>,
    /// Lines that cannot be read: cut short by a power cut, or not ours.
    pub unreadable: usize,
}

impl Store {
    /// Adds entries; durable when this returns.
    pub fn add_history(&self, entries: &[Entry]) -> Result<(), SaveError> {
        self.check_same()?;
        let mut lines = Vec::new();
        for entry in entries {
            lines.extend(
                serde_json::to_vec(entry).expect("an entry has text keys and no failing serializers"),
            );
            lines.push(b'\n');
        }
        if lines.is_empty() {
            return Ok(());
        }
        // One at a time: else two would rotate, and a torn line would not be seen.
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _lock = self.short_lock()?;
        let path = self.history_path(0);
        let mut file = files::open_log(&path)?;
        let write = |error| FileError::new(Action::Write, &path)(error);
        let mut length = file.metadata().map_err(FileError::new(Action::Read, &path))?.len();
        if length + lines.len() as u64 > LARGEST {
            drop(file);
            self.rotate_history()?;
            file = files::open_log(&path)?;
            length = 0;
        }
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))
                .and_then(|_| file.read_exact(&mut last))
                .map_err(FileError::new(Action::Read, &path))?;
            // A line that was cut short stays by itself.
            if last != *b"\n" {
                lines.insert(0, b'\n');
            }
        }
        file.write_all(&lines).map_err(write)?;
        file.sync_all().map_err(FileError::new(Action::Sync, &path))?;
        if length == 0 {
            files::sync_folder(&self.root)?;
        }
        Ok(())
    }

    /// Everything that the log says, oldest first. Takes no lock.
    pub fn history(&self) -> Result<History, LoadError> {
        let mut history = History::default();
        for number in (0..=KEPT).rev() {
            let path = self.history_path(number);
            // A line more may have been added while it grew to its limit.
            let Some(bytes) = files::read(&path, LARGEST + LONGEST_LINE)? else { continue };
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                match serde_json::from_slice::<Entry>(line) {
                    Ok(entry) => history.entries.push(entry),
                    Err(_) => history.unreadable += 1,
                }
            }
        }
        // Several processes write, and a clock may be set.
        history.entries.sort_by_key(|entry| entry.at);
        Ok(history)
    }

    fn rotate_history(&self) -> Result<(), FileError> {
        for number in (0..KEPT).rev() {
            let (from, to) = (self.history_path(number), self.history_path(number + 1));
            match fs::rename(&from, &to) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(FileError::new(Action::Rename, &from)(error));
                }
                _ => {}
            }
        }
        files::sync_folder(&self.root)
    }

    fn history_path(&self, number: u32) -> PathBuf {
        match number {
            0 => self.root.join("history.jsonl"),
            number => self.root.join(format!("history.{number}.jsonl")),
        }
    }
}

/// A file of the log, in bytes.
const LARGEST: u64 = 10 << 20;
/// So many full ones are kept beside the one that grows.
const KEPT: u32 = 5;
const LONGEST_LINE: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::model::history::{Author, How, What};

    fn entry(second: i64, detail: &str) -> Entry {
        let by = Author { user: "ops".to_owned(), sudo_user: None, pid: 7, how: How::Cli };
        Entry {
            detail: Some(detail.to_owned()),
            ..Entry::new(jiff::Timestamp::from_second(second).unwrap(), What::Issued, by)
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        (folder, store)
    }

    #[test]
    fn what_was_added_is_read_back_in_order_by_any_number_of_writers() {
        let (_folder, store) = store();
        assert!(store.history().unwrap().entries.is_empty());
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let other = Store::open(store.path()).unwrap();
                scope.spawn(move || {
                    for n in 0..5 {
                        other.add_history(&[entry(writer * 10 + n, "x")]).unwrap();
                    }
                });
            }
        });
        let read = store.history().unwrap();
        assert_eq!((read.entries.len(), read.unreadable), (20, 0));
        assert!(read.entries.is_sorted_by_key(|entry| entry.at));
        let mode = fs::metadata(store.history_path(0)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_torn_last_line_costs_only_itself() {
        let (_folder, store) = store();
        store.add_history(&[entry(1, "first")]).unwrap();
        let whole = fs::read(store.history_path(0)).unwrap();
        fs::write(store.history_path(0), [&whole[..], &whole[..20]].concat()).unwrap();
        assert_eq!(store.history().unwrap().unreadable, 1);
        store.add_history(&[entry(2, "second")]).unwrap();
        let read = store.history().unwrap();
        assert_eq!((read.entries.len(), read.unreadable), (2, 1));
    }

    #[test]
    fn full_files_are_put_aside_and_the_oldest_is_dropped() {
        let (_folder, store) = store();
        let filler = "x".repeat(usize::try_from(LARGEST).unwrap() / 2);
        for n in 0..8 {
            store.add_history(&[entry(n, "kept")]).unwrap();
            let mut text = fs::read(store.history_path(0)).unwrap();
            text.extend_from_slice(filler.as_bytes());
            text.extend_from_slice(filler.as_bytes());
            text.push(b'\n');
            text.truncate(usize::try_from(LARGEST).unwrap() - 1);
            text.push(b'\n');
            fs::write(store.history_path(0), text).unwrap();
        }
        let read = store.history().unwrap();
        let seconds: Vec<i64> = read.entries.iter().map(|entry| entry.at.as_second()).collect();
        assert_eq!(seconds, [2, 3, 4, 5, 6, 7]);
        assert!(!store.history_path(KEPT + 1).exists());
    }

    #[test]
    fn an_event_of_a_newer_program_is_not_lost() {
        let (_folder, store) = store();
        store.add_history(&[entry(1, "x")]).unwrap();
        let text = fs::read_to_string(store.history_path(0)).unwrap();
        fs::write(store.history_path(0), text.replace("\"issued\"", "\"teleported\"")).unwrap();
        assert_eq!(store.history().unwrap().entries[0].event, What::Other);
    }
}
