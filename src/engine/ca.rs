//! The CA as a pass sees it: our account there, opened once, and when it suggests to renew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::apart::blocking;
use super::issue::{LOCK_RETRY, boxed};
use super::{Engine, lock};
use crate::acme::{self, Ca};
use crate::model::desired::Issuer;
use crate::model::name::{CertName, IssuerName};
use crate::model::problem::Diagnose;
use crate::model::state::{RenewalInfo, State};
use crate::store::{AccountLock, LockError, Store};

/// How long the CA is not asked again for a renewal window after it gave none.
const NO_WINDOW: Duration = Duration::from_secs(6 * 3600);

impl Engine {
    /// Our account at an issuer; opened once for all certificates of a pass.
    pub(super) fn ca(&self, issuer: &Issuer) -> super::OpeningCa {
        let mut cas = lock(&self.cas);
        let opening = cas.entry(issuer.name.clone()).or_insert_with(|| {
            let issuer = issuer.clone();
            let accounts = Accounts { store: self.store.clone() };
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

    /// Whether the CA is to be asked for its renewal window (RFC 9773).
    pub(super) fn should_ask(&self, name: &CertName, state: &State) -> bool {
        let now = Timestamp::now();
        let Some(certificate) = self.config.desired.certificates.get(name) else { return false };
        let Some(known) = state.certificates.get(name) else { return false };
        let Some((_, version)) = known.newest() else { return false };
        let same_ca = self
            .config
            .desired
            .issuers
            .get(&certificate.issuer)
            .is_some_and(|i| i.directory == version.directory);
        let fresh = known
            .renewal_info
            .as_ref()
            .is_some_and(|info| info.fingerprint == version.fingerprint && info.ask_again > now);
        same_ca
            && !fresh
            && version.ari_id.is_some()
            && version.not_after > now
            && certificate.renew_before.is_none()
    }

    /// Asks the CA for its renewal window and notes the answer. Without one, the fractions of the
    /// life decide; so nothing here is an error.
    pub(super) async fn ask_renewal_info(&self, name: &CertName) {
        let certificate = &self.config.desired.certificates[name];
        let Some(issuer) = self.config.desired.issuers.get(&certificate.issuer) else { return };
        let Ok(known) = self.store.certificate(name) else { return };
        let Some((fingerprint, Some(id))) =
            known.newest().map(|(_, version)| (version.fingerprint, version.ari_id.clone()))
        else {
            return;
        };
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
struct Accounts {
    store: Store,
}

impl Accounts {
    /// The right to register the account, while there is none. Without it (nobody lets go of it, or
    /// the disk has no locks) an account too many is better than no certificate.
    async fn turn(&self, issuer: &Issuer, wait: Duration) -> Option<AccountLock> {
        let until = Instant::now() + wait;
        loop {
            if !matches!(self.store.account(&issuer.name, &issuer.directory), Ok(None)) {
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
        self.store.save_account(issuer, directory, credentials).map_err(boxed)
    }
}

fn later(now: Timestamp, time: Duration) -> Timestamp {
    now.checked_add(time).unwrap_or(Timestamp::MAX)
}
