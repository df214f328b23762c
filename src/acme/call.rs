//! What a single request to a CA can come to, and when it is sent again.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;

use super::problem::{Kind, Refusal};
use crate::http::untrusted;
use crate::model::problem::{Blame, Diagnose, Retry, plain};

/// Why a request to the CA brought nothing usable.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The HTTP client could not be set up.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// No answer: refused, cut, unknown name.
    #[error("no answer from `{url}`")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Whether the CA may have acted on the request nevertheless.
        maybe_done: bool,
        /// Why.
        #[source]
        cause: RootCause,
    },
    /// No answer in time.
    #[error("no answer from `{url}` in time")]
    Silent {
        /// What was asked.
        url: String,
        /// Whether there was a connection at all.
        connected: bool,
        /// Whether the CA may have acted on the request nevertheless.
        maybe_done: bool,
    },
    /// The HTTPS certificate of the CA's own service is not trusted.
    #[error("the HTTPS certificate of `{url}` is not trusted")]
    Untrusted {
        /// What was asked.
        url: String,
        /// Why.
        #[source]
        cause: rustls::Error,
    },
    /// An answer larger than any honest one.
    #[error("the answer of `{url}` has more than {limit} bytes")]
    TooLarge {
        /// What was asked.
        url: String,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The CA asks us to come back later.
    #[error("the CA limits us until {until}: {words}")]
    RateLimited {
        /// Not before.
        until: Timestamp,
        /// What it said, safe to show.
        words: String,
        /// How long to wait before the same request, where there are only too many at this moment.
        pause: Option<Duration>,
    },
    /// The CA still works on the order, for longer than we wait.
    #[error("the CA still works on the order and asks us to come back at {until}")]
    NotYet {
        /// Not before.
        until: Timestamp,
    },
    /// The CA refuses, with a problem document.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// An error without a problem document, as from a proxy or load balancer.
    #[error("`{url}` answers with status {status} and no ACME problem: `{snippet}`")]
    Status {
        /// What was asked.
        url: String,
        /// HTTP status.
        status: u16,
        /// How the body starts, safe to show.
        snippet: String,
    },
    /// An answer that is not what ACME says.
    #[error("the CA's answer cannot be understood: {0}")]
    Garbled(String),
    /// An answer that is readable and breaks a rule of ACME.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// A rule of ACME that the CA broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 8555 section 6.1: https only.
    #[error("the CA sends us to `{0}`, which is no https URL")]
    Url(String),
    /// RFC 8555 section 8.3: base64url.
    #[error("the CA's token for `{0}` is not base64url")]
    Token(String),
    /// An authorization for a name that was not ordered.
    #[error("the CA asks for proof of `{0}`, which is not in the order")]
    ForeignName(String),
    /// More authorizations than names.
    #[error("the CA asks for {0} proofs of {1} names")]
    TooManyAuthorizations(usize, usize),
    /// No dns-01 challenge for a name.
    #[error("the CA offers no dns-01 challenge for `{0}`")]
    NoDnsChallenge(String),
    /// RFC 8555 section 7.2: an answer of newNonce has one.
    #[error("the CA gives no nonce where it is asked for one")]
    NoNonce,
    /// RFC 8555 section 7.1.3: a valid order has a certificate URL.
    #[error("the CA calls the order valid and names no certificate")]
    NoCertificate,
}

/// The innermost reason of an error, without the layers that only wrap it.
#[derive(Debug)]
pub struct RootCause(Box<dyn StdError + Send + Sync>);

impl fmt::Display for RootCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut inner: &dyn StdError = &*self.0;
        while let Some(source) = inner.source() {
            inner = source;
        }
        f.write_str(&plain(&inner.to_string()))
    }
}

impl StdError for RootCause {}

impl CallError {
    /// Sorts a failure below HTTP.
    pub(super) fn transport(url: &str, method: &Method, error: reqwest::Error) -> Self {
        let url = url.to_owned();
        let maybe_done = *method == Method::POST && !error.is_connect();
        if let Some(cause) = untrusted(&error) {
            return Self::Untrusted { url, cause };
        }
        if error.is_timeout() {
            return Self::Silent { url, connected: !error.is_connect(), maybe_done };
        }
        Self::Unreachable { url, maybe_done, cause: RootCause(Box::new(error.without_url())) }
    }

    /// Whether the CA does not know what was asked for (any more), or says it is not ours.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.status(), Some(404 | 410))
            || self.refusal().is_some_and(|refusal| refusal.is("unauthorized"))
    }

    /// Whether the CA may have acted on the request although there is no good answer.
    pub(super) fn maybe_done(&self) -> bool {
        match self {
            Self::Unreachable { maybe_done, .. } | Self::Silent { maybe_done, .. } => *maybe_done,
            other => other.is_fault(),
        }
    }

    /// Whether this looks like an accident that the next try may not have.
    fn is_fault(&self) -> bool {
        // A machine that is not there will not be there in a second.
        matches!(self, Self::Unreachable { .. } | Self::Silent { connected: true, .. })
            || matches!(self.status(), Some(500..=599))
    }

    fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The refusal, if it is one.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    fn kind(&self) -> Option<&'static Kind> {
        self.refusal().map(Refusal::kind)
    }
}

impl From<instant_acme::Error> for CallError {
    fn from(error: instant_acme::Error) -> Self {
        match error {
            instant_acme::Error::Api(problem) => Self::Refused(Box::new(problem.into())),
            instant_acme::Error::Other(inner) => match inner.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(other) => Self::Garbled(plain(&other.to_string())),
            },
            other => Self::Garbled(plain(&other.to_string())),
        }
    }
}

impl Diagnose for CallError {
    fn code(&self) -> &'static str {
        match self {
            Self::Client(_) => "acme.client",
            Self::Unreachable { .. } => "acme.unreachable",
            Self::Silent { .. } => "acme.timeout",
            Self::Untrusted { .. } => "acme.untrusted",
            Self::RateLimited { .. } => "acme.rate-limited",
            Self::NotYet { .. } => "acme.processing",
            Self::Refused(refusal) => refusal.kind().code,
            Self::Status { .. } => "acme.server-error",
            Self::TooLarge { .. } | Self::Garbled(_) | Self::Violation(_) => "acme.protocol",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Client(_) => Blame::Machine,
            Self::Unreachable { .. } | Self::Silent { .. } => Blame::Network,
            Self::Untrusted { .. } => Blame::Operator,
            Self::Refused(refusal) => match refusal.kind().blame {
                // Of a request it speaks of our account, only of a name it speaks of DNS.
                Blame::Dns => Blame::Operator,
                blame => blame,
            },
            _ => Blame::Issuer,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::RateLimited { until, .. } | Self::NotYet { until } => Retry::NotBefore(*until),
            _ if self.kind().is_some_and(|kind| kind.after_change) => Retry::AfterChange,
            _ => Retry::Backoff,
        }
    }
}

/// Whether doing a request twice is harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Twice {
    /// Reading, or a change that the CA makes only once.
    Harmless,
    /// It would create a second order or account.
    Harmful,
}

/// How often one request is sent again.
#[derive(Debug)]
pub(super) struct Tries {
    nonces: u32,
    faults: u32,
    crowded: u32,
    pause: Duration,
}

impl Tries {
    pub(super) fn new() -> Self {
        Self { nonces: NONCE_TRIES, faults: FAULT_TRIES, crowded: CROWDED_TRIES, pause: FIRST_PAUSE }
    }

    /// Returns when the request may be sent again, or gives the error back when it may not.
    pub(super) async fn again(&mut self, error: impl Into<CallError>, twice: Twice) -> Result<(), CallError> {
        let error = error.into();
        if error.refusal().is_some_and(|refusal| refusal.is("badNonce")) {
            // The CA has not acted (RFC 8555 section 6.5).
            return if take(&mut self.nonces) { Ok(()) } else { Err(error) };
        }
        if let CallError::RateLimited { pause: Some(pause), .. } = error
            && take(&mut self.crowded)
        {
            // It has not acted here either.
            tokio::time::sleep(pause).await;
            return Ok(());
        }
        let harmful = error.maybe_done() && twice == Twice::Harmful;
        if !error.is_fault() || harmful || !take(&mut self.faults) {
            return Err(error);
        }
        tokio::time::sleep(self.pause).await;
        self.pause *= 4;
        Ok(())
    }
}

fn take(left: &mut u32) -> bool {
    *left = left.saturating_sub(1);
    *left > 0
}

/// Each of them is up to three requests of instant-acme: at 50 % refused, one in 10^9 fails.
const NONCE_TRIES: u32 = 10;
const FAULT_TRIES: u32 = 3;
const CROWDED_TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(maybe_done: bool) -> CallError {
        let cause = RootCause(Box::new(std::io::Error::other("reset")));
        CallError::Unreachable { url: "https://ca.example/".to_owned(), maybe_done, cause }
    }

    #[tokio::test]
    async fn what_would_order_twice_is_not_sent_twice() {
        let tries = || Tries { pause: Duration::ZERO, ..Tries::new() };
        let mut tries_once = tries();
        tries_once.again(cut(false), Twice::Harmful).await.unwrap();
        tries_once.again(cut(true), Twice::Harmful).await.unwrap_err();
        let mut tries = tries();
        tries.again(cut(true), Twice::Harmless).await.unwrap();
        tries.again(cut(true), Twice::Harmless).await.unwrap();
        tries.again(cut(true), Twice::Harmless).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_refusal_is_not_asked_again() {
        let refusal = Refusal::parse(br#"{"type":"urn:ietf:params:acme:error:caa"}"#, 403).unwrap();
        let error =
            Tries::new().again(CallError::Refused(Box::new(refusal)), Twice::Harmless).await.unwrap_err();
        assert_eq!((error.code(), error.retry()), ("acme.caa", Retry::AfterChange));
    }
}
