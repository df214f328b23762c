//! Why a mail was not taken.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lettre::transport::smtp;

use crate::http;
use crate::model::problem::plain;

/// Why a mail was not taken.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The PEM file of `ca` cannot be read.
    #[error("cannot read the CA in `{}`", plain(&.0.to_string_lossy()))]
    Ca(PathBuf, #[source] io::Error),
    /// TLS cannot be set up, with `ca` or without.
    #[error("cannot set up TLS")]
    Tls(#[source] smtp::Error),
    /// The mail cannot be written.
    #[error("the mail cannot be written")]
    Letter(#[from] lettre::error::Error),
    /// The server's certificate is not trusted here, so nothing was sent.
    #[error(transparent)]
    Untrusted(rustls::Error),
    /// No end in time.
    #[error("it was not taken within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Anything else in the talk with the server.
    #[error(transparent)]
    Talk(#[from] Talk),
}

/// What the server said, or how the talk broke; safe to show.
pub struct Talk(smtp::Error);

impl fmt::Display for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&plain(&self.0.to_string()))
    }
}

impl fmt::Debug for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Talk({self})")
    }
}

impl std::error::Error for Talk {}

impl From<smtp::Error> for MailError {
    fn from(error: smtp::Error) -> Self {
        match http::untrusted(&error) {
            Some(verdict) => Self::Untrusted(verdict),
            None => Self::Talk(Talk(error)),
        }
    }
}

impl MailError {
    /// The stable code.
    pub(in crate::notify) fn code(&self) -> &'static str {
        match self {
            Self::Ca(..) => "notify.ca",
            Self::Tls(_) => "notify.client",
            Self::Letter(_) => "notify.refused",
            Self::Untrusted(_) => "notify.untrusted",
            Self::Timeout(_) => "notify.timeout",
            Self::Talk(Talk(error)) => match error.status().map(u16::from) {
                Some(CREDENTIALS | AUTHENTICATE | MECHANISM | TOO_WEAK) => "notify.unauthorized",
                Some(500..) => "notify.refused",
                Some(_) => "notify.receiver-down",
                None if error.is_client() => "notify.refused",
                None if error.is_response() => "notify.bad-reply",
                None => "notify.connection",
            },
        }
    }

    /// What to do; `table` is the table in certs.toml.
    pub(in crate::notify) fn hint(&self, table: &str) -> String {
        match self.code() {
            "notify.ca" | "notify.client" => format!("`{table}.ca` must name a PEM file that we can read"),
            "notify.untrusted" => {
                format!("for a CA of your own: name its PEM file in `{table}.ca`; else see who answers there")
            }
            "notify.timeout" => {
                format!(
                    "see whether the server is well, and whether `{table}.encryption` fits its port (465 is \"tls\")"
                )
            }
            "notify.unauthorized" => {
                format!(
                    "see whether `{table}.username` and what `{table}.password` names are right and may send"
                )
            }
            "notify.receiver-down" => "the server asks to be tried again later: its log says more".to_owned(),
            "notify.refused" => {
                format!(
                    "see whether it takes mail from this machine, from `{table}.from` to `{table}.to`, with `{table}.encryption`"
                )
            }
            _ => format!(
                "see whether this machine reaches it, and whether `{table}.server` and `{table}.encryption` are right"
            ),
        }
    }
}

/// RFC 4954 section 6.
const CREDENTIALS: u16 = 535;
const AUTHENTICATE: u16 = 530;
const MECHANISM: u16 = 504;
const TOO_WEAK: u16 = 534;
