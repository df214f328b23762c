//! How a program can fail us.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crate::model::problem::plain;

/// Why a program did not do its work. `owner` is the table in certs.toml, as `dns.main`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be looked at.
    #[error("cannot find `{}`, the command of `{owner}`", show(.command))]
    Missing {
        /// The table that names it.
        owner: String,
        /// The program.
        command: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is a folder or a device.
    #[error("`{}`, the command of `{owner}`, is not a file", show(.command))]
    NotAFile {
        /// The table that names it.
        owner: String,
        /// The program.
        command: PathBuf,
    },
    /// Anybody could have changed it.
    #[error("`{}`, the command of `{owner}`, is not run: everybody may change it", show(.command))]
    WorldWritable {
        /// The table that names it.
        owner: String,
        /// The program.
        command: PathBuf,
    },
    /// It does not start.
    #[error("cannot start `{}`, the command of `{owner}`", show(.command))]
    Start {
        /// The table that names it.
        owner: String,
        /// The program.
        command: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("`{}`, the command of `{owner}`, {}{}", plain(.call), ending(.status), and_said(.said))]
    Failed {
        /// The table that names it.
        owner: String,
        /// The program.
        command: PathBuf,
        /// With its first argument, if it has any.
        call: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote, safe to show.
        said: String,
    },
    /// It did not end and was killed with all it had started.
    #[error("`{}`, the command of `{owner}`, did not end within {} s and was killed{}", plain(.call), .within.as_secs(), and_said(.said))]
    Slow {
        /// The table that names it.
        owner: String,
        /// The program.
        command: PathBuf,
        /// With its first argument, if it has any.
        call: String,
        /// How long was waited.
        within: Duration,
        /// What it wrote until then, safe to show.
        said: String,
    },
}

impl Error {
    /// Whether the program ran and did not like it.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }

    /// One command to run or one key to change.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { owner, .. } | Self::NotAFile { owner, .. } => {
                format!("write the whole path of the program in `{owner}.command`")
            }
            Self::WorldWritable { command, .. } => {
                format!("see that it is what you wrote, then run `chmod o-w {}`", word(command))
            }
            Self::Start { command, source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    format!("run `chmod +x {}`; certfleet's user must be able to reach it", word(command))
                }
                _ => "see that its first line names an interpreter that is there, as `#!/bin/sh`".to_owned(),
            },
            Self::Failed { command, .. } => {
                format!(
                    "run `{}` by hand as certfleet's user, with the same arguments or input",
                    word(command)
                )
            }
            Self::Slow { owner, .. } => format!("see what it waits for, or raise `{owner}.timeout`"),
        }
    }
}

fn ending(status: &ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "failed".to_owned(),
    }
}

fn and_said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" and said: {text}") }
}

fn show(path: &Path) -> String {
    plain(&path.to_string_lossy())
}

/// A path as a word for the shell.
fn word(path: &Path) -> String {
    let text = show(path);
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    if text.chars().all(harmless) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
