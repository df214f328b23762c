//! What can go wrong with the store, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use super::files::FileError;
use super::locks::Holder;
use crate::model::name::VersionNumber;
use crate::model::problem::{Blame, Diagnose};

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder that the store should be made in does not exist.
    #[error("cannot make the store {}: the folder {} does not exist", .path.display(), .parent.display())]
    NoParent {
        /// The store.
        path: PathBuf,
        /// What is missing.
        parent: PathBuf,
    },
    /// Something else than a folder is there.
    #[error("the store {} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// It belongs to another user.
    #[error("the store {} belongs to user {owner}, and this is user {us}", .path.display())]
    Owner {
        /// The store.
        path: PathBuf,
        /// Number of the user it belongs to.
        owner: u32,
        /// Number of the user who runs this.
        us: u32,
    },
    /// Others could change what is in it.
    #[error("the store {} can be written by others (mode {mode:04o})", .path.display())]
    WritableByOthers {
        /// The store.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A folder of something else.
    #[error("{} is no store and not empty: it has `{entry}`", .path.display())]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// Something in it.
        entry: String,
    },
    /// A store that lost the file that says what it is.
    #[error("the store {} has certificates but no file `format`", .0.display())]
    NoFormat(PathBuf),
    /// The format is not one we know.
    #[error("{} does not say which format the store has", .0.display())]
    BadFormat(PathBuf),
    /// Written by a program newer than this one.
    #[error("the store {} was written by a newer certfleet (format {format})", .path.display())]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// What was written to try the disk did not come back.
    #[error("the disk of the store {} does not return what was written", .0.display())]
    NotKept(PathBuf),
    /// Locks cannot be had there.
    #[error("the store cannot be locked")]
    Lock(#[source] LockError),
    /// A file in it cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Diagnose for OpenError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoParent { .. } => "store.no-parent",
            Self::NotAFolder(_) | Self::NotAStore { .. } => "store.not-a-store",
            Self::Owner { .. } => "store.owner",
            Self::WritableByOthers { .. } => "store.writable-by-others",
            Self::NoFormat(_) => "store.missing",
            Self::BadFormat(_) => "store.damaged",
            Self::Newer { .. } => "store.newer",
            Self::NotKept(_) => "store.file",
            Self::Lock(error) => error.code(),
            Self::Load(error) => error.code(),
            Self::File(error) => error.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::NoParent { .. }
            | Self::NotAFolder(_)
            | Self::NotAStore { .. }
            | Self::Owner { .. }
            | Self::WritableByOthers { .. }
            | Self::Newer { .. } => Blame::Operator,
            Self::NoFormat(_) | Self::BadFormat(_) | Self::NotKept(_) => Blame::Machine,
            Self::Lock(error) => error.blame(),
            Self::Load(error) => error.blame(),
            Self::File(error) => error.blame(),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoParent { parent, .. } => {
                format!("run `mkdir -p {}`, or set `[store] path` to another place", parent.display())
            }
            Self::NotAFolder(_) | Self::NotAStore { .. } => {
                "set `[store] path` to a folder of its own; it may be new".to_owned()
            }
            Self::Owner { path, owner, us } => format!(
                "run this as that user with `sudo -u '#{owner}' certfleet …`, or give the store away with `chown -R {us} {}`",
                path.display()
            ),
            Self::WritableByOthers { path, .. } => format!("run `chmod go-w {}`", path.display()),
            Self::NoFormat(path) => format!(
                "restore it from a backup; if only that file was lost, run `echo 'certfleet-store 1' > {}/format`",
                path.display()
            ),
            Self::BadFormat(_) => "restore the file from a backup".to_owned(),
            Self::Newer { .. } => "upgrade certfleet, or restore the store from a backup".to_owned(),
            Self::NotKept(path) => {
                format!("check the disk (`dmesg`), see `findmnt -T {}`", path.display())
            }
            Self::Lock(error) => return error.hint(),
            Self::Load(error) => return error.hint(),
            Self::File(error) => return error.hint(),
        })
    }
}

/// What is wrong with a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// No bytes at all.
    Empty,
    /// Nothing but zeros, as a power cut can leave behind.
    Zeros,
    /// The end is missing.
    Truncated,
    /// It does not begin as every document of ours.
    NoDocument,
    /// The content is not what was written.
    Checksum,
    /// A key file without a key.
    NoKey,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::Zeros => "it is filled with zeros",
            Self::Truncated => "its end is missing",
            Self::NoDocument => "it is no document of certfleet's",
            Self::Checksum => "its checksum is wrong",
            Self::NoKey => "it holds no private key",
        })
    }
}

/// Why something in the store cannot be read. It is never the same as not being there.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// A link, a folder, a pipe or a device where a file should be.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Larger than anything we write (the limit in bytes).
    #[error("{} is larger than {} bytes", .0.display(), .1)]
    TooLarge(PathBuf, u64),
    /// The bytes are not those that were written.
    #[error("{} is damaged: {damage}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// Whole, but not what belongs there.
    #[error("{} does not hold what belongs there", .path.display())]
    WrongContent {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a program newer than this one.
    #[error("{} was written by a newer certfleet (format {format})", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// Something that must be there is not.
    #[error("{} is missing", .0.display())]
    Missing(PathBuf),
    /// The folder is not the one that was opened: removed, or replaced by another.
    #[error("the store {} was removed or replaced while in use", .0.display())]
    Gone(PathBuf),
}

impl Diagnose for LoadError {
    fn code(&self) -> &'static str {
        match self {
            Self::File(error) => error.code(),
            Self::NotAFile(_) | Self::TooLarge(..) | Self::Damaged { .. } | Self::WrongContent { .. } => {
                "store.damaged"
            }
            Self::Newer { .. } => "store.newer",
            Self::Missing(_) => "store.missing",
            Self::Gone(_) => "store.gone",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::File(error) => error.blame(),
            Self::Newer { .. } | Self::Gone(_) => Blame::Operator,
            _ => Blame::Machine,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::File(error) => return error.hint(),
            Self::NotAFile(path)
            | Self::TooLarge(path, _)
            | Self::Damaged { path, .. }
            | Self::WrongContent { path, .. } => format!(
                "restore {0} from a backup; or, to go on without what it held, move it away: `mv {0} {0}.damaged`",
                path.display()
            ),
            Self::Newer { .. } => "upgrade certfleet, or restore the store from a backup".to_owned(),
            Self::Missing(path) => format!("restore {} from a backup", path.display()),
            Self::Gone(_) => "restore the store from a backup, then restart certfleet".to_owned(),
        })
    }
}

/// Why something could not be stored. What was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The system refused. After a failed sync nothing is known to be durable.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is there now cannot be read, and is not written over.
    #[error(transparent)]
    Unreadable(#[from] LoadError),
    /// More than we would read again (path, limit in bytes).
    #[error("what should go to {} is larger than {} bytes", .0.display(), .1)]
    TooLarge(PathBuf, u64),
    /// That version is there, and another one.
    #[error("version {0} is stored already, with other bytes")]
    VersionExists(VersionNumber),
    /// Another process holds the short lock for too long.
    #[error("{} is locked by another process for more than {} seconds", .0.display(), .1)]
    Busy(PathBuf, u64),
    /// No lock can be had.
    #[error("the store cannot be locked")]
    Lock(#[source] LockError),
}

impl Diagnose for SaveError {
    fn code(&self) -> &'static str {
        match self {
            Self::File(error) => error.code(),
            Self::Unreadable(error) => error.code(),
            Self::TooLarge(..) => "store.too-large",
            Self::VersionExists(_) => "store.version-exists",
            Self::Busy(..) => "store.locked",
            Self::Lock(error) => error.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::File(error) => error.blame(),
            Self::Unreadable(error) => error.blame(),
            Self::TooLarge(..) | Self::VersionExists(_) | Self::Busy(..) => Blame::Machine,
            Self::Lock(error) => error.blame(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Unreadable(error) => error.hint(),
            Self::Busy(path, _) => Some(format!("see who holds it: `fuser -v {}`", path.display())),
            Self::Lock(error) => error.hint(),
            Self::TooLarge(..) | Self::VersionExists(_) => None,
        }
    }
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it; `None` when they have not said who they are.
    #[error("{}", match .0 {
        Some(holder) => format!("{holder} holds it"),
        None => "another process holds it".to_owned(),
    })]
    Held(Option<Holder>),
    /// The file system has no locks (as some network file systems).
    #[error("the file system of {} has no locks", .path.display())]
    Unsupported {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The folder is not the one that was opened.
    #[error(transparent)]
    Gone(#[from] LoadError),
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Diagnose for LockError {
    fn code(&self) -> &'static str {
        match self {
            Self::Held(_) => "store.locked",
            Self::Unsupported { .. } => "store.no-locks",
            Self::Gone(error) => error.code(),
            Self::File(error) => error.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Held(_) => Blame::Machine,
            Self::Unsupported { .. } => Blame::Operator,
            Self::Gone(error) => error.blame(),
            Self::File(error) => error.blame(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Held(Some(holder)) => Some(format!("see `ps -fp {}`", holder.pid)),
            Self::Held(None) => None,
            Self::Unsupported { .. } => Some("put the store on a local disk with `[store] path`".to_owned()),
            Self::Gone(error) => error.hint(),
            Self::File(error) => error.hint(),
        }
    }
}

/// Something odd in the store that hinders nothing.
#[derive(Debug, thiserror::Error)]
pub enum Oddity {
    /// An entry that no program of ours made.
    #[error("{} does not belong into the store", .0.display())]
    Stranger(PathBuf),
    /// A fact lies in the future: the clock was set back, or was ahead.
    #[error("the clock says {now}, but the store has a fact of {fact}")]
    ClockBehind {
        /// The newest fact.
        fact: Timestamp,
        /// The time now.
        now: Timestamp,
    },
}

impl Diagnose for Oddity {
    fn code(&self) -> &'static str {
        match self {
            Self::Stranger(_) => "store.stranger",
            Self::ClockBehind { .. } => "clock.behind",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Stranger(_) => Blame::Operator,
            Self::ClockBehind { .. } => Blame::Machine,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Stranger(path) => Some(format!("move it away: `mv {} /root/`", path.display())),
            Self::ClockBehind { .. } => Some("check the clock: `timedatectl`".to_owned()),
        }
    }
}
