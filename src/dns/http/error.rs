//! What can go wrong with the API of a provider, and what people can do about it.

use std::time::Duration;

use jiff::Timestamp;

use crate::http::{self, RootCause};
use crate::model::problem::{Blame, Diagnose, Retry, plain};
use crate::secret::SecretError;

/// Why a call to an API failed. `account` is always the table in certs.toml, as `dns.main`.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A secret of the account cannot be had.
    #[error("cannot read `{key}` of `{account}`")]
    Secret {
        /// The account.
        account: String,
        /// The key in its table.
        key: &'static str,
        /// Why not.
        source: Box<SecretError>,
    },
    /// A secret or a name with characters that no header can have.
    #[error("what `{account}` sends as `{header}` has characters that HTTP does not allow there")]
    BadHeader {
        /// The account.
        account: String,
        /// The header.
        header: String,
    },
    /// Reading a secret was given up: the program is ending.
    #[error("the work of `{account}` was given up half-way")]
    Interrupted {
        /// The account.
        account: String,
    },
    /// The client cannot be set up.
    #[error("cannot call anybody for `{account}`")]
    Client {
        /// The account.
        account: String,
        /// Why not.
        source: http::Error,
    },
    /// A path that the API gave, or that was made from what it gave, is not usable.
    #[error("`{account}` would have to go to `{}`, which is not its API", plain(.url))]
    Url {
        /// The account.
        account: String,
        /// The URL.
        url: String,
    },
    /// No connection, or it broke.
    #[error("cannot reach `{host}` ({provider}) for `{account}`")]
    Transport {
        /// The account.
        account: String,
        /// The provider.
        provider: &'static str,
        /// Where to.
        host: String,
        /// Why not.
        source: RootCause,
    },
    /// Its HTTPS certificate is not trusted here, so nothing was sent.
    #[error("`{host}` ({provider}) shows `{account}` an HTTPS certificate that is not trusted here")]
    Untrusted {
        /// The account.
        account: String,
        /// The provider.
        provider: &'static str,
        /// Who.
        host: String,
        /// Why not.
        source: rustls::Error,
    },
    /// No answer in time.
    #[error("`{host}` ({provider}) did not answer `{account}` within {} s", .within.as_secs())]
    Timeout {
        /// The account.
        account: String,
        /// The provider.
        provider: &'static str,
        /// Who.
        host: String,
        /// How long was waited.
        within: Duration,
    },
    /// More than an API has to say.
    #[error("`{host}` answered `{account}` with more than {} KiB", .limit / 1024)]
    TooLarge {
        /// The account.
        account: String,
        /// Who.
        host: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// A redirect, which would take the secrets elsewhere.
    #[error("`{host}` sends `{account}` on to `{to}`, which is not followed: it would get the secret")]
    Redirect {
        /// The account.
        account: String,
        /// Who.
        host: String,
        /// Where to.
        to: String,
    },
    /// Too many calls.
    #[error("{provider} limits the calls of `{account}` until {until:.0}{}", said(.words))]
    RateLimited {
        /// The account.
        account: String,
        /// The provider.
        provider: &'static str,
        /// When to try again.
        until: Timestamp,
        /// What the API said.
        words: String,
    },
    /// The credentials are wrong, or their rights too narrow.
    #[error("{provider} refuses the credentials of `{account}` with {status}{}", said(.words))]
    Unauthorized {
        /// The account.
        account: String,
        /// The provider.
        provider: &'static str,
        /// The status.
        status: u16,
        /// What the API said.
        words: String,
        /// The narrowest rights that do.
        rights: &'static str,
    },
    /// Any other refusal.
    #[error("{provider} answered `{account}` with {status}{}", said(.words))]
    Refused {
        /// The account.
        account: String,
        /// The provider.
        provider: &'static str,
        /// The status.
        status: u16,
        /// What the API said.
        words: String,
    },
    /// Not what the API promises.
    #[error("`{host}` answered `{account}` with something that is not understood: {why}{}", said(.snippet))]
    Garbled {
        /// The account.
        account: String,
        /// Who.
        host: String,
        /// How.
        why: String,
        /// The start of it.
        snippet: String,
    },
    /// The zone is not one of the account's.
    #[error("{provider} has no zone `{}` in `{account}`{}", plain(.zone), but(.others))]
    NoZone {
        /// The account.
        account: String,
        /// The provider.
        provider: &'static str,
        /// The zone, without final dot.
        zone: String,
        /// Zones that it has, as far as they were asked for.
        others: Vec<String>,
        /// The narrowest rights that do.
        rights: &'static str,
    },
    /// What was written does not stay.
    #[error("the TXT records of `{}` at {provider} (`{account}`) are not what was written to them", plain(.name))]
    Contended {
        /// The account.
        account: String,
        /// The provider.
        provider: &'static str,
        /// The owner name, or the zone.
        name: String,
    },
    /// The provider took the change and has not made it in time.
    #[error("{provider} has not made the change of `{account}` within {} s", .within.as_secs())]
    Unfinished {
        /// The account.
        account: String,
        /// The provider.
        provider: &'static str,
        /// How long was waited.
        within: Duration,
    },
}

impl ApiError {
    /// Whether the API looked at the changes and said no: fewer of them at once may be welcome.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status < 500)
    }
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

/// The zones that an account does have, five at most.
fn but(others: &[String]) -> String {
    const SHOWN: usize = 5;
    if others.is_empty() {
        return String::new();
    }
    let shown: Vec<_> = others.iter().take(SHOWN).map(|zone| format!("`{}`", plain(zone))).collect();
    let more = if others.len() > SHOWN { " and more" } else { "" };
    format!(", but {}{more}", shown.join(", "))
}

impl Diagnose for ApiError {
    fn code(&self) -> &'static str {
        match self {
            Self::Secret { .. } | Self::BadHeader { .. } => "dns.secret",
            Self::Interrupted { .. } => "dns.interrupted",
            Self::Client { .. } => "dns.client",
            Self::Url { .. } | Self::TooLarge { .. } | Self::Garbled { .. } => "dns.bad-reply",
            Self::Transport { .. } => "dns.connection",
            Self::Untrusted { .. } => "dns.untrusted",
            Self::Timeout { .. } => "dns.timeout",
            Self::Redirect { .. } => "dns.redirect",
            Self::RateLimited { .. } => "dns.rate-limited",
            Self::Unauthorized { .. } => "dns.unauthorized",
            Self::Refused { status: 500.., .. } => "dns.provider-down",
            Self::Refused { .. } => "dns.rejected",
            Self::NoZone { .. } => "dns.zone-not-in-account",
            Self::Contended { .. } => "dns.contended",
            Self::Unfinished { .. } => "dns.unfinished",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Secret { .. }
            | Self::BadHeader { .. }
            | Self::Untrusted { .. }
            | Self::Redirect { .. }
            | Self::Unauthorized { .. }
            | Self::NoZone { .. } => Blame::Operator,
            Self::Interrupted { .. } | Self::Client { .. } => Blame::Machine,
            Self::Transport { .. } | Self::Timeout { .. } => Blame::Network,
            Self::Url { .. }
            | Self::TooLarge { .. }
            | Self::Garbled { .. }
            | Self::RateLimited { .. }
            | Self::Refused { .. }
            | Self::Contended { .. }
            | Self::Unfinished { .. } => Blame::Dns,
        }
    }

    /// What people mend at a provider we would not notice, so almost everything is tried again.
    fn retry(&self) -> Retry {
        match self {
            Self::RateLimited { until, .. } => Retry::NotBefore(*until),
            _ => Retry::Backoff,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Secret { source, .. } => return source.hint(),
            Self::BadHeader { account, .. } => {
                format!("the secret of `{account}` must be one line: see what is in it besides")
            }
            Self::Untrusted { .. } => {
                "for a CA of your own: add it to this machine's (`update-ca-certificates`)".to_owned()
            }
            Self::Timeout { account, .. } => {
                format!("see whether the provider is well; for a slow one raise `{account}.timeout`")
            }
            Self::Redirect { account, .. } => {
                format!("write the API's own address in `{account}`: `certfleet providers` shows the key")
            }
            Self::Contended { .. } => {
                "see what else writes these records at the same time; it is tried again".to_owned()
            }
            Self::Unauthorized { rights, .. } => format!("what it needs: {rights}"),
            Self::NoZone { account, provider, zone, rights, .. } => format!(
                "if `{}` is at {provider}, give `{account}` the right to it ({rights}); else name another account in `dns` of the certificate",
                plain(zone)
            ),
            _ => return None,
        })
    }
}
