//! Why an attempt at a new version failed.

use std::sync::Arc;

use crate::acme;
use crate::model::name::{CertName, DnsAccountName};
use crate::model::problem::{Blame, Diagnose, Retry};
use crate::secret::SecretError;
use crate::store::{LoadError, LockError, SaveError};

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine) enum Error {
    /// The CA's side.
    #[error("cannot issue `{0}`")]
    Acme(CertName, #[source] acme::Error),
    /// Reading a secret of the DNS account, before anything is asked of the CA.
    #[error(
        "cannot issue `{certificate}`: no challenge could be answered, a secret of `[dns.{account}]` cannot be read"
    )]
    Secret {
        /// The certificate.
        certificate: CertName,
        /// The account.
        account: DnsAccountName,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// Making the key.
    #[error("cannot make a key for `{0}`")]
    Key(CertName, #[source] acme::KeyError),
    /// Connecting to the CA; shared by all certificates that wait for it.
    #[error("cannot issue `{0}`")]
    Ca(CertName, #[source] Arc<acme::Error>),
    /// Taking longer than an order may.
    #[error("cannot issue `{certificate}`: gave up after {} minutes", super::ORDER.as_secs() / 60)]
    Deadline {
        /// The certificate.
        certificate: CertName,
    },
    /// Writing to the store.
    #[error("cannot note the progress of `{0}` in the store")]
    Save(CertName, #[source] SaveError),
    /// Storing what was issued.
    #[error("the CA has issued `{0}`, but it cannot be stored: it will be fetched again, not issued again")]
    Keep(CertName, #[source] SaveError),
    /// Reading from the store.
    #[error("cannot read what the store knows of `{0}`")]
    Load(CertName, #[source] LoadError),
    /// Locking.
    #[error("cannot lock `{0}`")]
    Lock(CertName, #[source] LockError),
}

impl Error {
    /// Whether another issuer may do better: it was this one that failed, not we or our DNS.
    pub(super) fn is_of_the_issuer(&self) -> bool {
        match self {
            Self::Acme(_, error) => error.is_of_the_issuer(),
            Self::Ca(_, error) => error.is_of_the_issuer(),
            Self::Secret { .. }
            | Self::Key(..)
            | Self::Deadline { .. }
            | Self::Save(..)
            | Self::Keep(..)
            | Self::Load(..)
            | Self::Lock(..) => false,
        }
    }
}

impl Diagnose for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Acme(_, error) => error.code(),
            Self::Secret { .. } => "dns.secret",
            Self::Key(_, error) => error.code(),
            Self::Ca(_, error) => error.code(),
            Self::Deadline { .. } => "acme.timeout",
            Self::Save(_, error) | Self::Keep(_, error) => error.code(),
            Self::Load(_, error) => error.code(),
            Self::Lock(_, error) => error.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Acme(_, error) => error.blame(),
            Self::Secret { source, .. } => source.blame(),
            Self::Key(_, error) => error.blame(),
            Self::Ca(_, error) => error.blame(),
            Self::Deadline { .. } => Blame::Issuer,
            Self::Save(_, error) | Self::Keep(_, error) => error.blame(),
            Self::Load(_, error) => error.blame(),
            Self::Lock(_, error) => error.blame(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Acme(_, error) => error.retry(),
            Self::Ca(_, error) => error.retry(),
            _ => Retry::Backoff,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Acme(_, error) => error.hint(),
            Self::Secret { source, .. } => source.hint(),
            Self::Key(_, error) => error.hint(),
            Self::Ca(_, error) => error.hint(),
            Self::Deadline { .. } => None,
            Self::Save(_, error) | Self::Keep(_, error) => error.hint(),
            Self::Load(_, error) => error.hint(),
            Self::Lock(_, error) => error.hint(),
        }
    }
}
