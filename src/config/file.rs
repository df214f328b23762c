//! Finding and reading the file certs.toml.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Config, Mistakes, parse};
use crate::model::problem::{Blame, Diagnose, Retry, plain};

/// Far above any real file: 10,000 certificates take half of it.
const LARGEST: u64 = 1024 * 1024;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No file in any of the places.
    #[error("there is no certs.toml; looked for {}", .looked.join(", "))]
    NotFound {
        /// Where it was looked for.
        looked: Vec<String>,
    },
    /// The named file cannot be opened or read.
    #[error("cannot read `{}`", show(.path))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path is a directory, a pipe or a device.
    #[error("`{}` is not a file but {what}", show(.path))]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Everybody on the machine can change the file.
    #[error("`{}` can be changed by everybody (mode {mode:04o}): what it says is run as us", show(.path))]
    WorldWritable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is too large to be a certs.toml.
    #[error("`{}` is larger than 1 MiB: that is no certs.toml", show(.path))]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not UTF-8.
    #[error("{}:{line}:{column}: this is not UTF-8 (byte 0x{byte:02x})", show(.path))]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line of the first wrong byte, from 1.
        line: usize,
        /// Its column in characters, from 1.
        column: usize,
        /// The byte.
        byte: u8,
    },
    /// The file was read and is wrong; [`Mistakes`] shows each place.
    #[error("{}, the first at line {}: {}", .0.headline(), first_line(.0), first(.0))]
    Mistakes(Mistakes),
}

impl Diagnose for LoadError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "config.not-found",
            Self::Read { .. } => "config.unreadable",
            Self::NotAFile { .. } => "config.not-a-file",
            Self::WorldWritable { .. } => "config.world-writable",
            Self::TooLarge { .. } => "config.too-large",
            Self::NotUtf8 { .. } => "config.not-utf8",
            Self::Mistakes(_) => "config.mistakes",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Operator
    }

    fn retry(&self) -> Retry {
        Retry::AfterChange
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { .. } => {
                "write one of them, or name yours with `--config FILE` or $CERTFLEET_CONFIG".to_owned()
            }
            Self::Read { path, source } => match source.kind() {
                io::ErrorKind::NotFound => {
                    "check the path: it comes from `--config` or $CERTFLEET_CONFIG".to_owned()
                }
                io::ErrorKind::PermissionDenied => format!(
                    "run certfleet as the file's owner or as root, or run `chmod a+r {}`: secrets are not in it",
                    show(path)
                ),
                _ => "check the file and its disk".to_owned(),
            },
            Self::NotAFile { path, .. } => format!("name the file itself, as in `{}/certs.toml`", show(path)),
            Self::WorldWritable { path, .. } => format!("run `chmod o-w {}`", show(path)),
            Self::TooLarge { .. } => {
                "check the path; secrets and certificates are in files of their own".to_owned()
            }
            Self::NotUtf8 { path, byte: 0xff | 0xfe, .. } => {
                format!("it looks like UTF-16: run `iconv -f UTF-16 -t UTF-8 {}` into a new file", show(path))
            }
            Self::NotUtf8 { path, .. } => {
                format!("run `iconv -f LATIN1 -t UTF-8 {}` into a new file", show(path))
            }
            Self::Mistakes(mistakes) => mistakes.list.first().map(|mistake| mistake.remedy.text())?,
        })
    }
}

/// Where certs.toml is: the flag `--config`, else `$CERTFLEET_CONFIG`, else the usual places.
pub fn find(flag: Option<&Path>) -> Result<PathBuf, LoadError> {
    let environment = std::env::var_os("CERTFLEET_CONFIG").map(PathBuf::from);
    let usual = [Path::new("certs.toml"), Path::new("/etc/certfleet/certs.toml")];
    find_in(flag, environment.as_deref(), &usual)
}

fn find_in(flag: Option<&Path>, environment: Option<&Path>, usual: &[&Path]) -> Result<PathBuf, LoadError> {
    let named = flag.or_else(|| environment.filter(|path| !path.as_os_str().is_empty()));
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    // A broken link, too, is meant to be it: silently taking the next would be worse.
    match usual.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Ok((*path).to_owned()),
        None => Err(LoadError::NotFound {
            looked: usual
                .iter()
                .map(|path| std::path::absolute(path).map_or_else(|_| show(path), |path| show(&path)))
                .collect(),
        }),
    }
}

/// Reads the file.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let text = read(path)?;
    parse(&text, path).map_err(LoadError::Mistakes)
}

/// A hash of what the file says, to notice that it says something else; `None` when it cannot be read.
pub fn digest(path: &Path) -> Option<[u8; 32]> {
    read(path).ok().map(|text| Sha256::digest(text).into())
}

fn read(path: &Path) -> Result<String, LoadError> {
    let unreadable = |source| LoadError::Read { path: path.to_owned(), source };
    // Opening a pipe that nobody writes to would wait for ever.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file =
        File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory" } else { "a pipe, a socket or a device" };
        return Err(LoadError::NotAFile { path: path.to_owned(), what });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Err(LoadError::WorldWritable { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(LoadError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..at]).into_owned();
        LoadError::NotUtf8 {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
            byte: error.as_bytes()[at],
        }
    })
}

fn show(path: &Path) -> String {
    plain(&path.display().to_string())
}

fn first_line(mistakes: &Mistakes) -> usize {
    mistakes.list.first().map_or(1, |mistake| mistake.line)
}

fn first(mistakes: &Mistakes) -> String {
    mistakes.list.first().map_or_else(String::new, super::Mistake::summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_with_a_file_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let error = find_in(None, None, &[&a, &b]).unwrap_err();
        assert!(error.to_string().contains("/a, ") && error.to_string().ends_with("/b"), "{error}");
        std::fs::write(&b, "").unwrap();
        assert_eq!(find_in(None, Some(Path::new("")), &[&a, &b]).unwrap(), b);
        assert_eq!(find_in(None, Some(Path::new("env")), &[&a, &b]).unwrap(), Path::new("env"));
        assert_eq!(find_in(Some(Path::new("flag")), Some(&a), &[&a]).unwrap(), Path::new("flag"));
    }
}
