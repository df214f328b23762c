//! Why a mail was not taken.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::smtp::Step;
use crate::http;
use crate::model::problem::plain;

/// Why a mail was not taken.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// TLS cannot be set up, with `ca` or without.
    #[error(transparent)]
    Tls(http::Error),
    /// The mail cannot be written.
    #[error("the mail cannot be written")]
    Letter(#[from] lettre::error::Error),
    /// The server's name has no address.
    #[error("cannot look up its address")]
    Lookup(#[source] Option<io::Error>),
    /// No address of it took a connection; this is the last.
    #[error("cannot connect to {0}")]
    Connect(SocketAddr, #[source] io::Error),
    /// The server's certificate is not trusted here, so nothing was sent.
    #[error(transparent)]
    Untrusted(rustls::Error),
    /// The connection broke, or what came is not TLS.
    #[error("the connection broke: {}", plain(&.0.to_string()))]
    Broken(io::Error),
    /// The server ended it.
    #[error("it closed the connection without an answer")]
    Closed,
    /// An answer of more bytes than this.
    #[error("an answer of more than {} KiB", .0 / 1024)]
    TooLarge(u64),
    /// Another kind of server.
    #[error("it said `{0}`, which is no answer of a mail server")]
    NotSmtp(String),
    /// There is no encryption.
    #[error("it offers no STARTTLS, so nothing was sent")]
    NoStartTls,
    /// Somebody between us may have changed what was said in clear.
    #[error("more than the answer came before TLS began: somebody may be in between; nothing was sent")]
    Injected,
    /// There is no way to log in that we know.
    #[error("it offers no login by PLAIN or LOGIN{}{}", if .0.is_empty() { "" } else { ", only " }, .0)]
    NoLogin(String),
    /// An address has characters that it does not take.
    #[error("it takes no addresses with other characters than ASCII (SMTPUTF8)")]
    NoUtf8,
    /// It said no.
    #[error("it answered {code} to {step}{}{words}", if .words.is_empty() { "" } else { ": " })]
    Refused {
        /// To what.
        step: Step,
        /// Its code (RFC 5321 section 4.2).
        code: u16,
        /// Its words, safe to show.
        words: String,
    },
    /// It took the mail, and not for all.
    #[error("the mail went to the others, but not to {0}")]
    Partly(String),
    /// No end in time.
    #[error("it was not taken within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl From<io::Error> for MailError {
    /// What ended a TLS handshake.
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(verdict @ rustls::Error::InvalidCertificate(_)) => Self::Untrusted(verdict.clone()),
            _ => Self::Broken(error),
        }
    }
}

impl MailError {
    /// The stable code.
    pub(in crate::notify) fn code(&self) -> &'static str {
        match self {
            Self::Tls(http::Error::Ca(..)) => "notify.ca",
            Self::Tls(_) => "notify.client",
            Self::Untrusted(_) => "notify.untrusted",
            Self::Timeout(_) => "notify.timeout",
            Self::Partly(_) => "notify.partly",
            Self::Lookup(_) | Self::Connect(..) | Self::Broken(_) | Self::Closed => "notify.connection",
            Self::TooLarge(_) | Self::NotSmtp(_) | Self::Injected => "notify.bad-reply",
            Self::Refused { code: 300..500, .. } => "notify.receiver-down",
            // It wants a login, or takes nothing from whoever that is (RFC 4954 section 6).
            Self::Refused { step: Step::Login, .. } | Self::Refused { code: 530 | 534 | 535 | 538, .. } => {
                "notify.unauthorized"
            }
            Self::Letter(_) | Self::NoStartTls | Self::NoLogin(_) | Self::NoUtf8 | Self::Refused { .. } => {
                "notify.refused"
            }
        }
    }

    /// What to do; `table` is the table in certs.toml.
    pub(in crate::notify) fn hint(&self, table: &str) -> String {
        match self {
            Self::NoStartTls => format!(
                "set `{table}.server` to a port for STARTTLS (587) or TLS (465); `{table}.encryption = \"none\"` is for a server on this machine"
            ),
            Self::NoLogin(_) => {
                format!(
                    "see whether `{table}.server` has the port for logins (587 or 465); where it wants none leave `{table}.username` out"
                )
            }
            Self::Refused { step: Step::Recipient, .. } | Self::Partly(_) => {
                format!(
                    "see whether the addresses of `{table}.to` exist, and whether it sends mail there for this machine"
                )
            }
            _ => self.hint_by_code(table),
        }
    }

    fn hint_by_code(&self, table: &str) -> String {
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
