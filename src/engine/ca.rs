//! The CA as a pass sees it: our account there, opened once, and when it suggests to renew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use futures::FutureExt;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::apart::blocking;
use super::issue::boxed;
use super::turn::LOCK_RETRY;
use super::{Engine, Event, Listener, lock};
use crate::acme::{self, Binding, Ca};
use crate::config::ExternalAccount;
use crate::model::clock::Reading;
use crate::model::desired::Issuer;
use crate::model::name::{CertName, IssuerName};
use crate::model::problem::{Blame, Diagnose};
use crate::model::state::{RenewalInfo, State};
use crate::secret::SecretError;
use crate::store::{AccountLock, LockError, Store};

/// How long the CA is not asked again for a renewal window after it gave none.
const NO_WINDOW: Duration = Duration::from_secs(6 * 3600);

impl Engine {
    /// Our account at an issuer; opened once for all certificates of a pass.
    pub(super) fn ca(&self, issuer: &Issuer) -> super::OpeningCa {
        let mut cas = lock(&self.cas);
        let opening = cas.entry((issuer.name.clone(), issuer.directory.clone())).or_insert_with(|| {
            let issuer = issuer.clone();
            let accounts = self.accounts(&issuer);
            let wait = self.lock_wait;
            async move {
                // Only the first of two processes registers the account.
                let _turn = accounts.turn(&issuer, wait).await;
                Ca::open(&issuer, &accounts).await.map_err(Arc::new)
            }
            .boxed()
            .shared()
        });
        opening.clone()
    }

    /// Our clock beside that of the CAs that were asked. Where they differ one of them is right, or so we hope: the
    /// nearest.
    pub(super) fn clock(&self) -> Option<(IssuerName, Reading)> {
        let cas = lock(&self.cas);
        let read = cas.iter().filter_map(|((issuer, _), opening)| {
            let ca = opening.peek()?.as_ref().ok()?;
            Some((issuer.clone(), ca.clock()?))
        });
        read.min_by_key(|(_, reading)| reading.apart())
    }

    /// Where the accounts of an issuer are kept, and what a new one is bound to.
    pub(super) fn accounts(&self, issuer: &Issuer) -> Accounts {
        let external = self.config.external_accounts.get(&issuer.name).cloned();
        Accounts { store: self.store.clone(), external, listener: self.listener.clone() }
    }

    /// Whether the CA is to be asked for its renewal window (RFC 9773).
    pub(super) fn should_ask(&self, name: &CertName, state: &State) -> bool {
        self.question(name, state).is_some_and(|at| at <= Timestamp::now())
    }

    /// When the next CA is to be asked.
    pub(super) fn next_question(&self, state: &State) -> Option<Timestamp> {
        let now = Timestamp::now();
        let names = self.config.desired.certificates.keys();
        // One that could not be asked in this pass waits for the next.
        names.filter_map(|name| self.question(name, state)).filter(|at| *at > now).min()
    }

    /// When the CA is to be asked about a certificate, if ever; long ago when it has not answered yet.
    fn question(&self, name: &CertName, state: &State) -> Option<Timestamp> {
        let certificate = self.config.desired.certificates.get(name)?;
        let known = state.certificates.get(name)?;
        let (_, version) = known.newest()?;
        self.config.desired.issuer_at(certificate, &version.directory)?;
        let asks = version.ari_id.is_some()
            && version.not_after > Timestamp::now()
            && certificate.renew_before.is_none();
        let info = known.renewal_info.as_ref().filter(|info| info.fingerprint == version.fingerprint);
        asks.then(|| info.map_or(Timestamp::MIN, |info| info.ask_again))
    }

    /// Asks the CA for its renewal window and notes the answer. Without one, the fractions of the
    /// life decide; so nothing here is an error.
    pub(super) async fn ask_renewal_info(&self, name: &CertName) {
        let certificate = &self.config.desired.certificates[name];
        let Ok(known) = self.store.certificate(name) else { return };
        let Some((_, version)) = known.newest() else { return };
        let Some(issuer) = self.config.desired.issuer_at(certificate, &version.directory) else { return };
        let (fingerprint, Some(id)) = (version.fingerprint, version.ari_id.clone()) else { return };
        let Ok(ca) = self.ca(issuer).await else { return };
        let now = Timestamp::now();
        let mut info =
            RenewalInfo { fingerprint, window: None, explanation: None, ask_again: later(now, NO_WINDOW) };
        if ca.has_ari()
            && let Ok(suggestion) = ca.renewal_info(&id).await
        {
            info.window = suggestion.window;
            info.explanation = suggestion.explanation;
            info.ask_again = later(now, suggestion.ask_again_in);
        }
        // Whoever holds the lock is renewing it: then the answer is out of date anyway.
        let Ok(cert_lock) = self.store.lock_certificate(name, "noting the CA's renewal window", now) else {
            return;
        };
        let Ok(mut known) = self.store.certificate(name) else { return };
        if known.newest().is_some_and(|(_, version)| version.fingerprint == fingerprint) {
            known.renewal_info = Some(info);
            if let Err(error) = blocking(|| self.store.save_certificate(&cert_lock, &known)) {
                tracing::warn!(certificate = %name, "cannot note the CA's renewal window: {error}");
            }
        }
    }
}

/// Accounts kept in the store.
pub(super) struct Accounts {
    store: Store,
    external: Option<ExternalAccount>,
    listener: Arc<dyn Listener>,
}

/// Why a new account cannot be bound.
#[derive(Debug, thiserror::Error)]
enum BindingError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the HMAC key is not in base64url")]
    NotBase64,
    #[error("reading the secret was cut off")]
    CutOff,
}

impl Diagnose for BindingError {
    fn code(&self) -> &'static str {
        match self {
            Self::Secret(error) => error.code(),
            Self::NotBase64 => "acme.external-account-key",
            Self::CutOff => "secret.unreadable",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Operator
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Secret(error) => error.hint(),
            Self::NotBase64 => Some("store the HMAC key exactly as the CA's web site shows it".to_owned()),
            Self::CutOff => None,
        }
    }
}

impl Accounts {
    /// The right to register the account, while there is none. Without it (nobody lets go of it, or
    /// the disk has no locks) an account too many is better than no certificate.
    async fn turn(&self, issuer: &Issuer, wait: Duration) -> Option<AccountLock> {
        self.turn_while(issuer, wait, || {
            matches!(self.store.account(&issuer.name, &issuer.directory), Ok(None))
        })
        .await
    }

    /// The same, whatever account there is.
    pub(super) async fn turn_to_replace(&self, issuer: &Issuer, wait: Duration) -> Option<AccountLock> {
        self.turn_while(issuer, wait, || true).await
    }

    async fn turn_while(
        &self,
        issuer: &Issuer,
        wait: Duration,
        is_needed: impl Fn() -> bool,
    ) -> Option<AccountLock> {
        let until = Instant::now() + wait;
        loop {
            if !is_needed() {
                return None;
            }
            match self.store.lock_account(&issuer.name, &issuer.directory, "registering", Timestamp::now()) {
                Ok(turn) => return Some(turn),
                Err(LockError::Held(_)) if Instant::now() < until => tokio::time::sleep(LOCK_RETRY).await,
                Err(_) => return None,
            }
        }
    }
}

#[async_trait]
impl acme::Accounts for Accounts {
    fn load(
        &self,
        issuer: &IssuerName,
        directory: &str,
    ) -> Result<Option<Zeroizing<String>>, Box<dyn Diagnose + Send + Sync>> {
        self.store.account(issuer, directory).map_err(boxed)
    }

    fn save(
        &self,
        issuer: &IssuerName,
        directory: &str,
        credentials: &str,
    ) -> Result<(), Box<dyn Diagnose + Send + Sync>> {
        self.store.save_account(issuer, directory, credentials).map_err(boxed)?;
        self.listener.notice(&Event::Registered(issuer.clone()));
        Ok(())
    }

    async fn binding(
        &self,
        _issuer: &IssuerName,
    ) -> Result<Option<Binding>, Box<dyn Diagnose + Send + Sync>> {
        let Some(ExternalAccount { key_id, hmac_key }) = self.external.clone() else { return Ok(None) };
        let text = tokio::task::spawn_blocking(move || hmac_key.read())
            .await
            .map_err(|_| boxed(BindingError::CutOff))?
            .map_err(|error| boxed(BindingError::from(error)))?;
        let hmac_key = hmac(&text).ok_or_else(|| boxed(BindingError::NotBase64))?;
        Ok(Some(Binding { key_id, hmac_key }))
    }
}

/// A MAC key as CAs show it: base64url, some with padding, some in the other alphabet.
fn hmac(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &URL_SAFE,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    let text = Zeroizing::new(text.trim().replace('+', "-").replace('/', "_"));
    LENIENT.decode(&*text).ok().filter(|key| !key.is_empty()).map(Zeroizing::new)
}

fn later(now: Timestamp, time: Duration) -> Timestamp {
    now.checked_add(time).unwrap_or(Timestamp::MAX)
}
