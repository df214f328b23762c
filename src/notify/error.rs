//! Why a message was not delivered, and what people can do about it.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use super::MailError;
use crate::http;
use crate::model::problem::{Blame, Diagnose, Retry, plain};
use crate::program;
use crate::secret::SecretError;

/// Why a message was not delivered. `table` is always the table in certs.toml, as `alert.ops`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A secret cannot be had.
    #[error("cannot read `{key}` of `{table}`")]
    Secret {
        /// The table.
        table: String,
        /// The key in it.
        key: &'static str,
        /// Why not.
        source: Box<SecretError>,
    },
    /// What the secret says is not an address to send to.
    #[error("what `{table}.url` names is not an address to send to: {why}")]
    Url {
        /// The table.
        table: String,
        /// Why not.
        why: String,
    },
    /// It was given up: the program is ending.
    #[error("the message to `{table}` was given up half-way")]
    Interrupted {
        /// The table.
        table: String,
    },
    /// No answer by HTTP.
    #[error("cannot deliver to `{host}` for `{table}`")]
    Http {
        /// The table.
        table: String,
        /// Where to.
        host: String,
        /// Why not.
        source: http::Error,
    },
    /// Too many messages.
    #[error("`{host}` limits the messages of `{table}` until {until:.0}{}", said(.words))]
    RateLimited {
        /// The table.
        table: String,
        /// Who.
        host: String,
        /// When to try again.
        until: Timestamp,
        /// What it said.
        words: String,
    },
    /// The address or the token is not known there (any more).
    #[error("`{host}` does not take the address or the token of `{table}`: it answered {status}{}", said(.words))]
    Unknown {
        /// The table.
        table: String,
        /// Who.
        host: String,
        /// The status.
        status: u16,
        /// What it said.
        words: String,
        /// Where a new one comes from.
        advice: &'static str,
    },
    /// Any other refusal.
    #[error("`{host}` answered `{table}` with {status}{}", said(.words))]
    Refused {
        /// The table.
        table: String,
        /// Who.
        host: String,
        /// The status.
        status: u16,
        /// What it said.
        words: String,
    },
    /// The mail server did not take it.
    #[error("cannot deliver mail by `{server}` for `{table}`")]
    Mail {
        /// The table.
        table: String,
        /// The server, with port.
        server: String,
        /// Why not.
        source: MailError,
    },
    /// The program failed.
    #[error(transparent)]
    Program(#[from] program::Error),
    /// The journal did not take it.
    #[error("cannot write to the journal at `{}` for `{table}`", plain(&.socket.to_string_lossy()))]
    Journal {
        /// The table.
        table: String,
        /// Its socket.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// Whether the message has arrived, if not for all: it is not sent again.
    pub fn is_partly(&self) -> bool {
        matches!(self, Self::Mail { source: MailError::Partly(_), .. })
    }
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

impl Diagnose for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Secret { .. } | Self::Http { source: http::Error::BadHeader(_), .. } => "notify.secret",
            Self::Url { .. } => "notify.bad-url",
            Self::Interrupted { .. } => "notify.interrupted",
            Self::Http { source, .. } => match source {
                http::Error::BadHeader(_) => "notify.secret",
                http::Error::Ca(..) => "notify.ca",
                http::Error::Tls(_) | http::Error::Client(_) => "notify.client",
                http::Error::Transport(_) => "notify.connection",
                http::Error::Untrusted(_) => "notify.untrusted",
                http::Error::Timeout(_) => "notify.timeout",
                http::Error::TooLarge(_) => "notify.bad-reply",
                http::Error::Redirect(_) => "notify.redirect",
            },
            Self::RateLimited { .. } => "notify.rate-limited",
            Self::Unknown { .. } => "notify.unauthorized",
            Self::Refused { status: 500.., .. } => "notify.receiver-down",
            Self::Refused { .. } => "notify.refused",
            Self::Mail { source, .. } => source.code(),
            Self::Program(
                program::Error::Missing { .. }
                | program::Error::NotAFile { .. }
                | program::Error::Start { .. },
            ) => "notify.command",
            Self::Program(program::Error::WorldWritable { .. }) => "notify.command-unsafe",
            Self::Program(program::Error::Failed { .. }) => "notify.command-failed",
            Self::Program(program::Error::Slow { .. }) => "notify.timeout",
            Self::Journal { .. } => "notify.journal",
        }
    }

    fn blame(&self) -> Blame {
        match self.code() {
            "notify.connection"
            | "notify.timeout"
            | "notify.bad-reply"
            | "notify.receiver-down"
            | "notify.rate-limited" => Blame::Network,
            "notify.interrupted" | "notify.client" | "notify.journal" => Blame::Machine,
            _ => Blame::Operator,
        }
    }

    /// What people mend elsewhere we would not notice, so almost everything is tried again.
    fn retry(&self) -> Retry {
        match self {
            Self::RateLimited { until, .. } => Retry::NotBefore(*until),
            _ => Retry::Backoff,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Secret { source, .. } => return source.hint(),
            Self::Url { table, .. } => {
                format!("put the whole address, as it was given to you, into what `{table}.url` names")
            }
            Self::Http { table, source, .. } => match source {
                http::Error::BadHeader(_) => {
                    format!("the secrets of `{table}` must be one line: see what is in them besides")
                }
                http::Error::Ca(..) => format!("`{table}.ca` must name a PEM file that we can read"),
                http::Error::Untrusted(_) => format!(
                    "for a CA of your own: name its PEM file in `{table}.ca`; else see who answers there"
                ),
                http::Error::Timeout(_) => {
                    format!("see whether the receiver is well; for a slow one raise `{table}.timeout`")
                }
                http::Error::Redirect(_) => format!(
                    "it is not followed, since it would get the secret: if that is right, put the new address into what `{table}.url` names"
                ),
                http::Error::Transport(_) => {
                    format!(
                        "see whether this machine reaches it, and whether `{table}.url` names the right host"
                    )
                }
                _ => return None,
            },
            Self::Unknown { table, advice, .. } => format!("{advice} into what `{table}` names"),
            Self::Refused { status: 400..500, .. } => {
                "if what it said does not explain it: certfleet and the receiver do not understand each other"
                    .to_owned()
            }
            Self::Mail { table, source, .. } => source.hint(table),
            Self::Program(error) => error.hint(),
            Self::Journal { table, .. } => {
                format!("see `systemctl status systemd-journald`; `{table}.socket` names another socket")
            }
            Self::Interrupted { .. } | Self::RateLimited { .. } | Self::Refused { .. } => return None,
        })
    }
}
