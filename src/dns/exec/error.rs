//! How a program can fail us.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crate::model::problem::{Blame, Diagnose, plain};

/// Why a program did not write a record. `account` is the table in certs.toml, as `dns.main`.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It cannot be looked at.
    #[error("cannot find `{}`, the command of `{account}`", show(.command))]
    Missing {
        /// The account.
        account: String,
        /// The program.
        command: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is a folder or a device.
    #[error("`{}`, the command of `{account}`, is not a file", show(.command))]
    NotAFile {
        /// The account.
        account: String,
        /// The program.
        command: PathBuf,
    },
    /// Anybody could have changed it.
    #[error("`{}`, the command of `{account}`, is not run: everybody may change it", show(.command))]
    WorldWritable {
        /// The account.
        account: String,
        /// The program.
        command: PathBuf,
    },
    /// It does not start.
    #[error("cannot start `{}`, the command of `{account}`", show(.command))]
    Start {
        /// The account.
        account: String,
        /// The program.
        command: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("`{} {verb}`, the command of `{account}`, {}{}", show(.command), ending(.status), and_said(.said))]
    Failed {
        /// The account.
        account: String,
        /// The program.
        command: PathBuf,
        /// `present` or `cleanup`.
        verb: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote, safe to show.
        said: String,
    },
    /// It did not end and was killed with all it had started.
    #[error("`{} {verb}`, the command of `{account}`, did not end within {} s and was killed{}", show(.command), .within.as_secs(), and_said(.said))]
    Slow {
        /// The account.
        account: String,
        /// The program.
        command: PathBuf,
        /// `present` or `cleanup`.
        verb: String,
        /// How long was waited.
        within: Duration,
        /// What it wrote until then, safe to show.
        said: String,
    },
}

impl ExecError {
    /// Whether it looked at this one change and did not like it.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

impl Diagnose for ExecError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } | Self::NotAFile { .. } | Self::Start { .. } => "dns.command",
            Self::WorldWritable { .. } => "dns.command-unsafe",
            Self::Failed { .. } => "dns.command-failed",
            Self::Slow { .. } => "dns.timeout",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Failed { .. } | Self::Slow { .. } => Blame::Dns,
            _ => Blame::Operator,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing { account, .. } | Self::NotAFile { account, .. } => {
                format!("write the whole path of the program in `{account}.command`")
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
                format!("run `{}` by hand as certfleet's user, with the same arguments", word(command))
            }
            Self::Slow { account, .. } => format!("see what it waits for, or raise `{account}.timeout`"),
        })
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
