//! Opening a store: is it one, is it ours, does the disk keep what is written.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::error::{LoadError, OpenError};
use super::files::{self, Action, FileError, Survives};
use super::{Store, locks};

/// The number of the user that a store belongs to; `None` when there is no store.
///
/// For a command that was started as root and should go on as that user.
pub fn owner(path: &Path) -> io::Result<Option<u32>> {
    match fs::metadata(path) {
        Ok(facts) => Ok(Some(facts.uid())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Device and inode of a folder.
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|facts| (facts.dev(), facts.ino()))
}

pub(super) fn open(path: &Path) -> Result<Store, OpenError> {
    if !exists(path)? {
        let parent = files::folder_of(path);
        if !exists(parent)? {
            return Err(OpenError::NoParent { path: path.to_owned(), parent: parent.to_owned() });
        }
        files::make_folder(path)?;
    }
    let facts = check_folder(path)?;
    let us = rustix::process::geteuid().as_raw();
    if facts.uid() != us {
        return Err(OpenError::Owner { path: path.to_owned(), owner: facts.uid(), us });
    }
    let store =
        Store { root: path.to_owned(), identity: (facts.dev(), facts.ino()), turn: Arc::new(Mutex::new(())) };
    let is_store = has_format(path)?;
    probe(path)?;
    if is_store {
        check_folders(path)?;
        for folder in FOLDERS {
            files::protect_folder(&path.join(folder))?;
        }
    } else {
        for folder in FOLDERS {
            files::make_folder(&path.join(folder))?;
        }
        // Last: a store that has a format has its folders.
        files::write(&path.join("format"), FORMAT_LINE.as_bytes(), Survives::PowerCut)?;
    }
    locks::try_lock(&path.join("lock")).map_err(OpenError::Lock)?;
    sweep(path);
    Ok(store)
}

pub(super) fn could_be_made(path: &Path) -> Result<(), OpenError> {
    let place = if exists(path)? { path } else { files::folder_of(path) };
    if !exists(place)? {
        return Err(OpenError::NoParent { path: path.to_owned(), parent: place.to_owned() });
    }
    let facts = if place == path { Some(check_folder(path)?) } else { None };
    let us = rustix::process::geteuid().as_raw();
    if let Some(owner) = facts.map(|facts| facts.uid()).filter(|owner| *owner != us) {
        return Err(OpenError::Owner { path: path.to_owned(), owner, us });
    }
    let write = Access::WRITE_OK | Access::EXEC_OK;
    accessat(CWD, place, write, AtFlags::EACCESS)
        .map_err(|error| FileError::new(Action::CreateFolder, path)(error.into()))?;
    Ok(())
}

pub(super) fn open_existing(path: &Path) -> Result<Option<Store>, OpenError> {
    if !exists(path)? {
        return Ok(None);
    }
    let facts = check_folder(path)?;
    if !has_format(path)? {
        return Ok(None);
    }
    check_folders(path)?;
    Ok(Some(Store {
        root: path.to_owned(),
        identity: (facts.dev(), facts.ino()),
        turn: Arc::new(Mutex::new(())),
    }))
}

fn check_folder(path: &Path) -> Result<Metadata, OpenError> {
    // The store itself may be reached by a link, as systemd makes them for DynamicUser=.
    let facts = fs::metadata(path).map_err(FileError::new(Action::Read, path))?;
    if !facts.is_dir() {
        return Err(OpenError::NotAFolder(path.to_owned()));
    }
    let mode = facts.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(OpenError::WritableByOthers { path: path.to_owned(), mode });
    }
    Ok(facts)
}

/// A folder that is gone is a loss to be told, not to be covered up by a new and empty one.
pub(super) fn check_folders(root: &Path) -> Result<(), LoadError> {
    for folder in FOLDERS {
        let path = root.join(folder);
        match fs::symlink_metadata(&path) {
            Ok(facts) if facts.is_dir() => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::new(Action::Read, &path)(error).into());
            }
            _ => return Err(LoadError::Missing(path)),
        }
    }
    Ok(())
}

/// Whether the folder is a store; `false` when it may become one.
fn has_format(root: &Path) -> Result<bool, OpenError> {
    let path = root.join("format");
    if let Some(bytes) = files::read(&path, 4096)? {
        let format = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.strip_prefix("certfleet-store "))
            .and_then(|text| text.trim_end().parse::<u32>().ok());
        return match format {
            Some(FORMAT) => Ok(true),
            Some(format) if format > FORMAT => Err(OpenError::Newer { path: root.to_owned(), format }),
            _ => Err(OpenError::BadFormat(path)),
        };
    }
    if !files::names(&root.join("certificates"))?.is_empty() {
        return Err(OpenError::NoFormat(root.to_owned()));
    }
    let ours = |name: &str| {
        FOLDERS.contains(&name) || name.starts_with(files::UNFINISHED) || matches!(name, "lost+found")
    };
    match files::names(root)?.into_iter().find(|name| !ours(name)) {
        Some(entry) => Err(OpenError::NotAStore { path: root.to_owned(), entry }),
        None => Ok(false),
    }
}

/// Writes, syncs and reads back: better to know now than with a certificate in hand.
fn probe(root: &Path) -> Result<(), OpenError> {
    let path = root.join(format!("{}probe-{}", files::UNFINISHED, std::process::id()));
    let text = [0x5a; 4096];
    files::write(&path, &text, Survives::PowerCut)?;
    let back = files::read(&path, text.len() as u64)?;
    // Another thread may have tried at the same time and be done.
    files::remove(&path)?;
    match back {
        Some(back) if *back != text => Err(OpenError::NotKept(root.to_owned())),
        _ => Ok(()),
    }
}

/// Removes what runs that died left behind; a run that lives may have younger ones. Whoever next works on a certificate
/// does the same in its folders: to look into all of them each time costs more than to read them.
fn sweep(root: &Path) {
    const AGE: Duration = Duration::from_secs(3600);
    files::sweep(root, AGE);
    for folder in FOLDERS {
        files::sweep(&root.join(folder), AGE);
    }
}

fn exists(path: &Path) -> Result<bool, FileError> {
    path.try_exists().map_err(FileError::new(Action::Read, path))
}

const FORMAT: u32 = 1;
const FORMAT_LINE: &str = "certfleet-store 1\n";
const FOLDERS: [&str; 5] = ["accounts", "certificates", "hosts", "txt", "ssh"];
