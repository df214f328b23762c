//! Why a request got no answer.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::pem;

use crate::model::problem::plain;

/// Why a request got no answer that can be read. Without the address: it may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A header with characters that it cannot have.
    #[error("the header `{0}` would have characters that HTTP does not allow there")]
    BadHeader(String),
    /// The CA that shall be trusted besides the machine's cannot be had.
    #[error("cannot use the CA in `{}`", plain(&.0.to_string_lossy()))]
    Ca(PathBuf, #[source] Option<pem::Error>),
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The client cannot be set up.
    #[error("cannot set up HTTP")]
    Client(#[source] RootCause),
    /// No connection, or it broke.
    #[error(transparent)]
    Transport(RootCause),
    /// The other side's certificate is not trusted here, so nothing was sent.
    #[error(transparent)]
    Untrusted(rustls::Error),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// An answer of more bytes than this.
    #[error("an answer of more than {} KiB", .0 / 1024)]
    TooLarge(usize),
    /// A redirect to this address, safe to show: it would take the secrets elsewhere.
    #[error("a redirect to `{0}`")]
    Redirect(String),
}

/// An error of the HTTP client of which the innermost cause is said: the others only say where.
pub struct RootCause(Box<reqwest::Error>);

impl From<reqwest::Error> for RootCause {
    /// Without its URL, which messages have already or must not have.
    fn from(error: reqwest::Error) -> Self {
        Self(Box::new(error.without_url()))
    }
}

impl fmt::Display for RootCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cause: &dyn std::error::Error = &*self.0;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        f.write_str(&plain(&cause.to_string()))
    }
}

impl fmt::Debug for RootCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootCause({self})")
    }
}

impl std::error::Error for RootCause {}

/// The verdict on the other side's certificate, wherever in the chain it is.
pub fn untrusted(error: &(dyn std::error::Error + 'static)) -> Option<rustls::Error> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(found @ rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return Some(found.clone());
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            // It passes for its content: its source is the content's source.
            Some(content) => Some(content),
            None => error.source(),
        };
    }
    None
}
