//! Secrets are named in certs.toml, never written there; read when needed, wiped after use.

mod command;

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::model::problem::{Blame, Diagnose, plain};

pub use command::CommandError;

/// The most bytes that a secret has; private keys and tokens are far smaller.
pub const LARGEST: usize = 64 * 1024;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// `{ file = "…" }`
    File(PathBuf),
    /// `{ env = "…" }`
    Env(String),
    /// `{ credential = "…" }`: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// `{ command = ["…", …] }`: its standard output.
    Command(Vec<String>),
}

/// A text of the other side without secrets of ours, which some send back.
pub fn hide(text: &str, secrets: &[Zeroizing<String>]) -> String {
    let known = secrets.iter().filter(|secret| !secret.is_empty());
    known.fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "[secret]"))
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be opened or read.
    #[error("cannot read the secret file `{}`", show(.0))]
    Read(PathBuf, #[source] io::Error),
    /// The path is a directory, a pipe or a device.
    #[error("the secret file `{}` is not a regular file", show(.0))]
    NotAFile(PathBuf),
    /// Others could read or change the file, or it is somebody else's.
    #[error("the secret file `{}` is not safe: {why}", show(.path))]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// Who could do what.
        why: String,
        /// The command that mends it.
        mend: String,
    },
    /// The environment variable is not set.
    #[error("the environment variable `{0}`, which holds a secret, is not set")]
    NotSet(String),
    /// `$CREDENTIALS_DIRECTORY` is not set: this is no systemd unit, or one without credentials.
    #[error("there is no systemd credential `{0}`: $CREDENTIALS_DIRECTORY is not set")]
    OutsideUnit(String),
    /// The unit has credentials, but not this one.
    #[error("the systemd unit has no credential `{}`", plain(.0))]
    NoCredential(String, #[source] io::Error),
    /// The command gave no secret.
    #[error("the secret command `{}` failed", plain(.0))]
    Command(String, #[source] CommandError),
    /// More than [`LARGEST`] bytes.
    #[error("the secret from {0} is larger than 64 KiB")]
    TooLarge(Source),
    /// Nothing, or a line break only.
    #[error("the secret from {0} is empty")]
    Empty(Source),
    /// Not UTF-8.
    #[error("the secret from {0} is not UTF-8 text")]
    NotText(Source),
}

/// Where a secret came from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source(String);

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Diagnose for SecretError {
    fn code(&self) -> &'static str {
        match self {
            Self::Read(..) => "secret.unreadable",
            Self::NotAFile(_) => "secret.not-a-file",
            Self::Unsafe { .. } => "secret.unsafe",
            Self::NotSet(_) => "secret.not-set",
            Self::OutsideUnit(_) | Self::NoCredential(..) => "secret.no-credential",
            Self::Command(..) => "secret.command-failed",
            Self::TooLarge(_) | Self::Empty(_) | Self::NotText(_) => "secret.unusable",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Operator
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Read(path, error) if error.kind() == io::ErrorKind::NotFound => {
                format!("create it: `install -m 600 /dev/stdin {}`", word(path))
            }
            Self::Read(path, error) if error.kind() == io::ErrorKind::PermissionDenied => give_us(path),
            Self::Read(..) => "check the file and its disk".to_owned(),
            Self::NotAFile(_) => "name the file itself, or use { command = […] }".to_owned(),
            Self::Unsafe { mend, .. } => format!("run `{mend}`"),
            Self::NotSet(name) => format!("set {name} for certfleet, or use {{ file = … }}"),
            Self::OutsideUnit(name) | Self::NoCredential(name, _) => format!(
                "run certfleet in its systemd unit with `LoadCredential={0}:/path/to/{0}`, or use {{ file = … }}",
                plain(name)
            ),
            Self::Command(program, _) => {
                format!("run `{}` with its arguments as the user of certfleet", plain(program))
            }
            Self::TooLarge(_) => "check that it names the secret and nothing else".to_owned(),
            Self::Empty(source) => format!("put the secret into {source}"),
            Self::NotText(_) => "encode it as the provider asks, mostly base64".to_owned(),
        })
    }
}

impl Secret {
    /// Reads the secret, without the final line break.
    ///
    /// Waits at most 10 s, and that long for a command only.
    pub fn read(&self) -> Result<Zeroizing<String>, SecretError> {
        match self {
            Self::File(path) => text(read_file(path)?, &self.source()),
            Self::Env(name) => {
                let value = std::env::var_os(name).ok_or_else(|| SecretError::NotSet(name.clone()))?;
                text(Zeroizing::new(value.into_encoded_bytes()), &self.source())
            }
            Self::Credential(name) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty());
                text(read_credential(folder.as_deref().map(Path::new), name)?, &self.source())
            }
            Self::Command(words) => {
                let program = || words.first().cloned().unwrap_or_default();
                let output = command::run(words).map_err(|error| SecretError::Command(program(), error))?;
                text(output, &self.source())
            }
        }
    }

    fn source(&self) -> Source {
        Source(match self {
            Self::File(path) => format!("`{}`", show(path)),
            Self::Env(name) => format!("the environment variable `{name}`"),
            Self::Credential(name) => format!("the systemd credential `{}`", plain(name)),
            Self::Command(words) => format!("the command `{}`", words.first().map_or("", String::as_str)),
        })
    }
}

/// The bytes as text, without the final line break.
fn text(mut bytes: Zeroizing<Vec<u8>>, source: &Source) -> Result<Zeroizing<String>, SecretError> {
    if bytes.len() > LARGEST {
        return Err(SecretError::TooLarge(source.clone()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretError::NotText(source.clone()))?;
    let kept = text.trim_end_matches(['\n', '\r']).len();
    if text.trim().is_empty() {
        return Err(SecretError::Empty(source.clone()));
    }
    bytes.truncate(kept);
    // Takes the allocation over, so nothing is left behind.
    String::from_utf8(std::mem::take(&mut *bytes))
        .map(Zeroizing::new)
        .map_err(|_| SecretError::NotText(source.clone()))
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let (file, metadata) = open(path).map_err(|error| SecretError::Read(path.to_owned(), error))?;
    if !metadata.is_file() {
        return Err(SecretError::NotAFile(path.to_owned()));
    }
    judge(&metadata, &Us::now(), path)?;
    contents(&file).map_err(|error| SecretError::Read(path.to_owned(), error))
}

/// A credential's rights are systemd's affair: its folder is for the unit alone.
fn read_credential(folder: Option<&Path>, name: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let folder = folder.ok_or_else(|| SecretError::OutsideUnit(name.to_owned()))?;
    let path = folder.join(name);
    let (file, metadata) = open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SecretError::NoCredential(name.to_owned(), error),
        _ => SecretError::Read(path.clone(), error),
    })?;
    if !metadata.is_file() {
        return Err(SecretError::NotAFile(path));
    }
    contents(&file).map_err(|error| SecretError::Read(path, error))
}

/// Opens without waiting for a writer, in case it is a pipe.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

fn contents(file: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    // Large enough from the start: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST + 64));
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Who we are.
struct Us {
    user: u32,
    groups: Vec<u32>,
}

impl Us {
    fn now() -> Self {
        let mut groups: Vec<u32> =
            rustix::process::getgroups().unwrap_or_default().iter().map(|group| group.as_raw()).collect();
        groups.push(rustix::process::getegid().as_raw());
        Self { user: rustix::process::geteuid().as_raw(), groups }
    }
}

/// Whether only we (and root) can read and change the file: 0600 ours, or 0640 root's with our group.
fn judge(file: &Metadata, us: &Us, path: &Path) -> Result<(), SecretError> {
    judge_owner((file.uid(), file.gid(), file.mode() & 0o7777), us, path)
}

fn judge_owner((owner, group, mode): (u32, u32, u32), us: &Us, path: &Path) -> Result<(), SecretError> {
    let word = word(path);
    let bits = mode & 0o777;
    let (why, mend) = match () {
        () if owner != us.user && owner != 0 => (
            format!("it belongs to the user {owner}, not to us"),
            format!("chown {} {word} && chmod 600 {word}", us.user),
        ),
        // Root's own file, read by a daemon of another user through its group.
        () if owner == 0 && bits & !0o640 == 0 && us.groups.contains(&group) => return Ok(()),
        () if owner == us.user && bits & 0o077 == 0 => return Ok(()),
        () if owner == us.user => {
            (format!("others may use it (mode {mode:04o})"), format!("chmod 600 {word}"))
        }
        () if us.groups.contains(&group) => {
            (format!("others may use it (mode {mode:04o})"), format!("chmod 640 {word}"))
        }
        () => (
            format!("the group {group} of root's file is none of ours (mode {mode:04o})"),
            format!("chgrp {} {word} && chmod 640 {word}", us.groups.last().copied().unwrap_or(us.user)),
        ),
    };
    Err(SecretError::Unsafe { path: path.to_owned(), why, mend })
}

fn give_us(path: &Path) -> String {
    let user = rustix::process::geteuid().as_raw();
    let word = word(path);
    format!("run as root `chown {user} {word} && chmod 600 {word}`, and let us enter its folders")
}

fn show(path: &Path) -> String {
    plain(&path.display().to_string())
}

/// A path as one word of a shell.
fn word(path: &Path) -> String {
    let text = show(path);
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ':' | '@');
    if text.chars().all(safe) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn file(folder: &Path, content: &[u8], mode: u32) -> Secret {
        let path = folder.join("secret");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Secret::File(path)
    }

    fn code(secret: &Secret) -> &'static str {
        let error = secret.read().unwrap_err();
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()));
        error.code()
    }

    #[test]
    fn a_file_of_ours_is_read_without_its_line_break() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(*file(folder.path(), b"hunter2\n", 0o600).read().unwrap(), "hunter2");
        assert_eq!(*file(folder.path(), b"a\nb\r\n\n", 0o400).read().unwrap(), "a\nb");
        let link = folder.path().join("link");
        symlink(folder.path().join("secret"), &link).unwrap();
        assert_eq!(*Secret::File(link.clone()).read().unwrap(), "a\nb");
        file(folder.path(), b"x", 0o644);
        assert_eq!(code(&Secret::File(link)), "secret.unsafe");
    }

    #[test]
    fn what_is_no_safe_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o602, 0o660, 0o610] {
            let error = file(folder.path(), b"x", mode).read().unwrap_err();
            let path = folder.path().join("secret");
            assert_eq!(error.hint(), Some(format!("run `chmod 600 {}`", path.display())), "{mode:o}");
        }
        assert_eq!(code(&Secret::File(folder.path().to_owned())), "secret.not-a-file");
        assert_eq!(code(&Secret::File("/dev/zero".into())), "secret.not-a-file");
        assert_eq!(code(&Secret::File(folder.path().join("none"))), "secret.unreadable");
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(code(&Secret::File(pipe)), "secret.not-a-file");
        for content in [&b""[..], b"\n\n", b" \n", b"\xff\xfe", &[b'a'; LARGEST + 1]] {
            assert_eq!(code(&file(folder.path(), content, 0o600)), "secret.unusable");
        }
    }

    #[test]
    fn owner_group_and_mode_decide_together() {
        let us = Us { user: 998, groups: vec![997, 998] };
        let root = Us { user: 0, groups: vec![0] };
        let path = Path::new("/s/it's");
        let mend = |facts, us: &Us| match judge_owner(facts, us, path) {
            Ok(()) => None,
            Err(error) => error.hint(),
        };
        for facts in [(998, 998, 0o600), (998, 5, 0o400), (0, 998, 0o640), (0, 997, 0o440)] {
            assert_eq!(mend(facts, &us), None, "{facts:?}");
        }
        let name = r"'/s/it'\''s'";
        assert_eq!(mend((998, 998, 0o640), &us), Some(format!("run `chmod 600 {name}`")));
        assert_eq!(mend((0, 998, 0o644), &us), Some(format!("run `chmod 640 {name}`")));
        assert_eq!(mend((0, 998, 0o660), &us), Some(format!("run `chmod 640 {name}`")));
        assert_eq!(mend((0, 0, 0o640), &us), Some(format!("run `chgrp 998 {name} && chmod 640 {name}`")));
        assert_eq!(mend((7, 998, 0o600), &us), Some(format!("run `chown 998 {name} && chmod 600 {name}`")));
        assert_eq!(mend((0, 0, 0o600), &root), None);
        assert_eq!(mend((0, 998, 0o640), &root), Some(format!("run `chmod 600 {name}`")));
        assert_eq!(mend((7, 0, 0o600), &root), Some(format!("run `chown 0 {name} && chmod 600 {name}`")));
    }

    #[test]
    fn credentials_are_those_of_the_unit() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tsig"), "hunter2\n").unwrap();
        assert_eq!(&**read_credential(Some(folder.path()), "tsig").unwrap(), b"hunter2\n");
        let outside = read_credential(None, "tsig").unwrap_err();
        assert!(outside.hint().unwrap().contains("`LoadCredential=tsig:/path/to/tsig`"));
        assert_eq!(read_credential(Some(folder.path()), "x").unwrap_err().code(), "secret.no-credential");
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = Secret::Env("CERTFLEET_NO_SUCH_VARIABLE".to_owned()).read().unwrap_err();
        assert!(error.to_string().contains("`CERTFLEET_NO_SUCH_VARIABLE`"));
    }
}
