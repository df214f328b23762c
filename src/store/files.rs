//! Files that are written whole, synced, and readable by us alone.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::error::LoadError;
use crate::model::problem::{Blame, Diagnose};

/// What names of unfinished files and folders begin with.
pub(super) const UNFINISHED: &str = ".new-";

/// What was tried with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Making a folder.
    CreateFolder,
    /// Making a file.
    Create,
    /// Opening or reading.
    Read,
    /// Writing.
    Write,
    /// Making durable (fsync): what was written may or may not be there after a power cut.
    Sync,
    /// Putting a finished file in its place.
    Rename,
    /// Removing.
    Remove,
    /// Setting permissions.
    Protect,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreateFolder => "create the folder",
            Self::Create => "create a file for",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "make durable",
            Self::Rename => "put in place",
            Self::Remove => "remove",
            Self::Protect => "set the permissions of",
        })
    }
}

/// The operating system refused something with a file of the store.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", .path.display())]
pub struct FileError {
    /// What was tried.
    pub action: Action,
    /// With which file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl FileError {
    pub(super) fn new(action: Action, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

impl Diagnose for FileError {
    fn code(&self) -> &'static str {
        match self.source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "store.full",
            ErrorKind::ReadOnlyFilesystem => "store.read-only",
            ErrorKind::PermissionDenied => "store.denied",
            _ => "store.file",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn hint(&self) -> Option<String> {
        let folder = folder_of(&self.path).display();
        Some(match self.source.kind() {
            ErrorKind::StorageFull => {
                format!("the disk is full: free space or inodes, see `df -h {folder}` and `df -i {folder}`")
            }
            ErrorKind::QuotaExceeded => {
                format!("the disk quota is used up: raise it or free space in {folder}, see `quota`")
            }
            ErrorKind::ReadOnlyFilesystem => format!(
                "the file system is read-only: see `findmnt -T {folder}`, or set `[store] path` to another place"
            ),
            ErrorKind::PermissionDenied => {
                format!("run certfleet as the owner of the store, see `ls -ld {folder}`")
            }
            ErrorKind::FileTooLarge => {
                "a limit of file sizes is in force: raise `LimitFSIZE=` of the unit, or `ulimit -f`"
                    .to_owned()
            }
            _ => match Errno::from_io_error(&self.source)? {
                Errno::IO => "the disk reports errors: see `dmesg`".to_owned(),
                Errno::MFILE | Errno::NFILE => {
                    "too many files are open: raise `LimitNOFILE=` of the unit, or `ulimit -n`".to_owned()
                }
                _ => return None,
            },
        })
    }
}

/// How much a write must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Survives {
    /// A power cut, once the call has returned.
    PowerCut,
    /// The end of this process; enough for what can be seen again.
    Exit,
}

/// Replaces a file as a whole: at every instant there is the old content or the new, never a part.
///
/// The file is 0600 from its first instant, whatever the umask.
pub(super) fn write(path: &Path, bytes: &[u8], survives: Survives) -> Result<(), FileError> {
    let folder = folder_of(path);
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .rand_bytes(16)
        .make_in(folder, create_new)
        .map_err(FileError::new(Action::Create, path))?;
    set_mode(file.as_file(), 0o600, path)?;
    // Not by `NamedTempFile`'s own `Write`, which hides the system's error number.
    file.as_file_mut().write_all(bytes).map_err(FileError::new(Action::Write, path))?;
    if survives == Survives::PowerCut {
        file.as_file().sync_all().map_err(FileError::new(Action::Sync, path))?;
    }
    file.persist(path).map_err(|error| FileError::new(Action::Rename, path)(error.error))?;
    if survives == Survives::PowerCut {
        sync_folder(folder)?;
    }
    Ok(())
}

/// Writes and syncs a file that must not exist yet, in a folder that nobody looks into yet.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = create_new(path).map_err(FileError::new(Action::Create, path))?;
    set_mode(&file, 0o600, path)?;
    file.write_all(bytes).map_err(FileError::new(Action::Write, path))?;
    file.sync_all().map_err(FileError::new(Action::Sync, path))
}

/// Reads a regular file of at most `limit` bytes; `None` if there is none.
///
/// Follows no link and waits for no pipe. The bytes are wiped after use: they may be a key.
pub(super) fn read(path: &Path, limit: u64) -> Result<Option<Zeroizing<Vec<u8>>>, LoadError> {
    let file = match options().read(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
            return Err(LoadError::NotAFile(path.to_owned()));
        }
        Err(error) => return Err(FileError::new(Action::Read, path)(error).into()),
    };
    let facts = file.metadata().map_err(FileError::new(Action::Read, path))?;
    if !facts.is_file() {
        return Err(LoadError::NotAFile(path.to_owned()));
    }
    if facts.len() > limit {
        return Err(LoadError::TooLarge(path.to_owned(), limit));
    }
    // All of it at once: a growing buffer would leave copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(facts.len()).unwrap_or(0) + 1));
    file.take(limit + 1).read_to_end(&mut bytes).map_err(FileError::new(Action::Read, path))?;
    if bytes.len() as u64 > limit {
        return Err(LoadError::TooLarge(path.to_owned(), limit));
    }
    Ok(Some(bytes))
}

/// Opens a file that stays: a lock.
pub(super) fn open_lasting(path: &Path) -> Result<File, FileError> {
    let file = options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(FileError::new(Action::Create, path))?;
    set_mode(&file, 0o600, path)?;
    Ok(file)
}

/// Opens a file that lines are added to.
pub(super) fn open_log(path: &Path) -> Result<File, FileError> {
    let file = options()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(FileError::new(Action::Create, path))?;
    set_mode(&file, 0o600, path)?;
    Ok(file)
}

/// Makes a folder of 0700 if it is not there; its name is durable when this returns.
pub(super) fn make_folder(path: &Path) -> Result<(), FileError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            protect_folder(path)?;
            sync_folder(folder_of(path))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let facts = fs::symlink_metadata(path).map_err(FileError::new(Action::Read, path))?;
            if !facts.is_dir() {
                let error = io::Error::from(ErrorKind::NotADirectory);
                return Err(FileError::new(Action::CreateFolder, path)(error));
            }
            protect_folder(path)
        }
        Err(error) => Err(FileError::new(Action::CreateFolder, path)(error)),
    }
}

/// Sets a folder of ours to 0700 when it is anything else.
pub(super) fn protect_folder(path: &Path) -> Result<(), FileError> {
    let mode = fs::symlink_metadata(path).map_err(FileError::new(Action::Read, path))?.permissions().mode();
    if mode & 0o777 != 0o700 {
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(FileError::new(Action::Protect, path))?;
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(FileError::new(Action::Sync, path))
}

/// Removes a file for good; one that is not there is fine.
pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(folder_of(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::new(Action::Remove, path)(error)),
    }
}

/// The names in a folder; a folder that is not there has none.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, FileError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::new(Action::Read, folder)(error)),
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()
        .map_err(FileError::new(Action::Read, folder))
}

/// Removes what runs that died have left unfinished in a folder, if it is at least this old.
///
/// What cannot be removed stays: it is in nobody's way.
pub(super) fn sweep(folder: &Path, age: Duration) {
    for name in names(folder).unwrap_or_default() {
        if !name.starts_with(UNFINISHED) {
            continue;
        }
        let path = folder.join(name);
        let Ok(facts) = fs::symlink_metadata(&path) else { continue };
        let written = facts.modified().unwrap_or_else(|_| SystemTime::now());
        if age > Duration::ZERO && written.elapsed().unwrap_or_default() < age {
            continue;
        }
        let removed = if facts.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished file");
        }
    }
}

/// The folder that a path of ours is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A umask can only take bits away; this gives them back, and is nothing in the usual case.
fn set_mode(file: &File, mode: u32, path: &Path) -> Result<(), FileError> {
    let now = file.metadata().map_err(FileError::new(Action::Read, path))?.permissions().mode();
    if now & 0o7777 != mode {
        file.set_permissions(Permissions::from_mode(mode)).map_err(FileError::new(Action::Protect, path))?;
    }
    Ok(())
}

fn create_new(path: &Path) -> io::Result<File> {
    options().write(true).create_new(true).mode(0o600).open(path)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    options
}
