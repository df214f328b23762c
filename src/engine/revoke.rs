//! Revoking a version, and accounts at CAs: what a person asks for outside of any pass.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Engine, Event};
use crate::acme::{self, Ca};
use crate::model::name::{CertName, IssuerName, VersionNumber};
use crate::model::problem::{Blame, Diagnose};
use crate::model::state::{Reason, Revoked, Version};
use crate::store::{LoadError, LockError, SaveError};

/// Why nothing was revoked, or an account not registered.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The certificate has no such version.
    #[error("`{certificate}` has no version {}in the store", number.map_or_else(String::new, |number| format!("{number} ")))]
    NoVersion {
        /// The certificate.
        certificate: CertName,
        /// The version asked for; `None` is the newest.
        number: Option<VersionNumber>,
        /// Those that it has.
        known: Vec<VersionNumber>,
    },
    /// No issuer of certs.toml has the directory that it came from.
    #[error("version {number} of `{certificate}` came from {directory}, which no issuer of certs.toml has")]
    NoIssuer {
        /// The certificate.
        certificate: CertName,
        /// Its version.
        number: VersionNumber,
        /// The directory.
        directory: String,
    },
    /// The stored file holds no certificate.
    #[error("the stored version {number} of `{certificate}` is no certificate")]
    NoCertificate {
        /// The certificate.
        certificate: CertName,
        /// Its version.
        number: VersionNumber,
    },
    /// Another process keeps the lock.
    #[error("`{0}` is locked by {1}")]
    Locked(String, String),
    /// It cannot be locked.
    #[error("cannot lock `{0}`")]
    Lock(CertName, #[source] LockError),
    /// The store cannot be read.
    #[error("cannot read what the store knows of `{0}`")]
    Load(CertName, #[source] LoadError),
    /// The CA's side, before anything was revoked.
    #[error("cannot revoke `{0}`")]
    Ca(CertName, #[source] Arc<acme::Error>),
    /// Revoked, but that could not be noted.
    #[error("version {1} of `{0}` is revoked, and that cannot be noted in the store")]
    Save(CertName, VersionNumber, #[source] SaveError),
}

impl Diagnose for RevokeError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoVersion { .. } => "revoke.no-version",
            Self::NoIssuer { .. } => "revoke.no-issuer",
            Self::NoCertificate { .. } => "store.damaged",
            Self::Locked(..) => "store.locked",
            Self::Lock(_, error) => error.code(),
            Self::Load(_, error) => error.code(),
            Self::Ca(_, error) => error.code(),
            Self::Save(_, _, error) => error.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::NoVersion { .. } | Self::NoIssuer { .. } => Blame::Operator,
            Self::NoCertificate { .. } | Self::Locked(..) => Blame::Machine,
            Self::Lock(_, error) => error.blame(),
            Self::Load(_, error) => error.blame(),
            Self::Ca(_, error) => error.blame(),
            Self::Save(_, _, error) => error.blame(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoVersion { known, .. } if known.is_empty() => None,
            Self::NoVersion { known, .. } => {
                let known: Vec<String> = known.iter().map(ToString::to_string).collect();
                Some(format!("it has {}", known.join(", ")))
            }
            Self::NoIssuer { directory, .. } => Some(format!(
                "add an issuer with `directory = \"{directory}\"`, whose account is still in the store"
            )),
            Self::NoCertificate { .. } => Some("restore the store from a backup".to_owned()),
            Self::Locked(..) => Some("wait for it, or give it longer with --wait".to_owned()),
            Self::Lock(_, error) => error.hint(),
            Self::Load(_, error) => error.hint(),
            Self::Ca(_, error) => error.hint(),
            Self::Save(_, _, error) => error.hint(),
        }
    }
}

impl Engine {
    /// Has the CA revoke a version, the newest if none is named, and notes it: the next pass replaces it.
    ///
    /// One that was revoked before is no error; then the first reason stands.
    pub async fn revoke(
        &self,
        name: &CertName,
        number: Option<VersionNumber>,
        reason: Reason,
    ) -> Result<(VersionNumber, Version), RevokeError> {
        let load = |error| RevokeError::Load(name.clone(), error);
        // Looked at first without the lock, which would make a folder for a name that nobody knows.
        let (number, _) = self.pick(name, number)?;
        let cert_lock = match self.lock_certificate(name, "revoking").await {
            Ok(Some(held)) => held,
            Ok(None) => return Err(RevokeError::Locked(name.to_string(), self.holder(name))),
            Err(error) => return Err(RevokeError::Lock(name.clone(), error)),
        };
        let (number, version) = self.pick(name, Some(number))?;
        if version.revoked.is_some() {
            return Ok((number, version));
        }
        let issuers = &self.config.desired.issuers;
        let issuer =
            issuers.values().find(|issuer| issuer.directory == version.directory).ok_or_else(|| {
                RevokeError::NoIssuer {
                    certificate: name.clone(),
                    number,
                    directory: version.directory.clone(),
                }
            })?;
        let files = self.store.version(name, number).map_err(load)?;
        let der = rustls_pemfile::certs(&mut files.cert.as_bytes())
            .find_map(Result::ok)
            .ok_or_else(|| RevokeError::NoCertificate { certificate: name.clone(), number })?;
        let ca = self.ca(issuer).await.map_err(|error| RevokeError::Ca(name.clone(), error))?;
        ca.revoke(&der, reason).await.map_err(|error| RevokeError::Ca(name.clone(), Arc::new(error)))?;

        let mut known = self.store.certificate(name).map_err(load)?;
        let version = Version { revoked: Some(Revoked { at: Timestamp::now(), reason }), ..version };
        known.versions.insert(number, version.clone());
        if reason == Reason::KeyCompromise {
            // Its key may be the same one.
            known.order = None;
        }
        let saved = self.store.save_certificate(&cert_lock, &known);
        if reason == Reason::KeyCompromise
            && let Err(error) = self.store.drop_order_key(&cert_lock)
        {
            tracing::warn!(certificate = %name, "cannot remove the key of the open order: {error}");
        }
        // It is so, whether it can be noted or not.
        self.tell(Event::Revoked(name.clone(), number, reason));
        saved.map_err(|error| RevokeError::Save(name.clone(), number, error))?;
        Ok((number, version))
    }

    fn pick(
        &self,
        name: &CertName,
        number: Option<VersionNumber>,
    ) -> Result<(VersionNumber, Version), RevokeError> {
        let known = self.store.certificate(name).map_err(|error| RevokeError::Load(name.clone(), error))?;
        let number = number.or_else(|| known.newest().map(|(number, _)| number));
        match number.and_then(|number| Some((number, known.versions.get(&number)?.clone()))) {
            Some(found) => Ok(found),
            None => Err(RevokeError::NoVersion {
                certificate: name.clone(),
                number,
                known: known.versions.into_keys().collect(),
            }),
        }
    }

    /// Registers a new account at an issuer, in place of one that the store has.
    pub async fn register(&self, issuer: &IssuerName) -> Result<(), Arc<acme::Error>> {
        let issuer = &self.config.desired.issuers[issuer];
        let accounts = self.accounts(issuer);
        let _turn = accounts.turn_to_replace(issuer, self.lock_wait).await;
        Ca::register(issuer, &accounts).await.map(drop).map_err(Arc::new)
    }
}
