//! Whose turn it is: one process at a time with a certificate, and so many orders at a time in this one.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::apart::blocking;
use super::{Engine, Event};
use crate::model::name::CertName;
use crate::store::{CertLock, Holder, LockError};

/// How often a lock that another process holds is tried again.
pub(super) const LOCK_RETRY: Duration = Duration::from_millis(100);

/// The certificate's lock, and a place among the orders that are under way.
pub(super) struct Turn<'a> {
    pub(super) cert_lock: CertLock,
    _place: Option<SemaphorePermit<'a>>,
}

impl Engine {
    /// The certificate's lock and a place for its order; none when another process kept the lock for longer than
    /// `--wait` allows.
    pub(super) async fn turn(&self, name: &CertName, doing: &str) -> Result<Option<Turn<'_>>, LockError> {
        self.wait_for_turn(name, doing, Some(&self.orders)).await
    }

    /// Only the lock.
    pub(super) async fn lock_certificate(
        &self,
        name: &CertName,
        doing: &str,
    ) -> Result<Option<CertLock>, LockError> {
        Ok(self.wait_for_turn(name, doing, None).await?.map(|turn| turn.cert_lock))
    }

    async fn wait_for_turn<'a>(
        &self,
        name: &CertName,
        doing: &str,
        places: Option<&'a Semaphore>,
    ) -> Result<Option<Turn<'a>>, LockError> {
        let mut until = None;
        let mut said = None;
        loop {
            // The place first, so that nobody waits for a lock whose holder only waits for a place.
            let place = match places {
                // Closed only with the engine.
                Some(places) => places.acquire().await.ok(),
                None => None,
            };
            match blocking(|| self.store.lock_certificate(name, doing, Timestamp::now())) {
                Ok(cert_lock) => return Ok(Some(Turn { cert_lock, _place: place })),
                Err(LockError::Held(holder)) => {
                    // Others can have it while this one cannot begin.
                    drop(place);
                    let holder = in_words(holder);
                    if said.as_ref() != Some(&holder) {
                        self.tell(Event::Locked(name.clone(), holder.clone()));
                        said = Some(holder);
                    }
                    if Instant::now() >= *until.get_or_insert_with(|| Instant::now() + self.lock_wait) {
                        return Ok(None);
                    }
                    tokio::time::sleep(LOCK_RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn holder(&self, name: &CertName) -> String {
        match self.store.lock_certificate(name, "looking", Timestamp::now()) {
            Err(LockError::Held(holder)) => in_words(holder),
            _ => in_words(None),
        }
    }
}

fn in_words(holder: Option<Holder>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |holder| holder.to_string())
}
