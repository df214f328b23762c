//! Waiting for one address to serve what it should, under many names: how many look at a time, and until when.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// However well it goes on, an address is not waited for longer than this many times what one name has.
const PATIENCE: u32 = 6;

/// The turns to look at one address.
///
/// Waiting for a turn uses up nobody's time: a controller that is busy says nothing against the host that it looks at.
/// So time counts from the first look, and anew whenever a name has come to what was waited for.
#[derive(Debug)]
pub struct Turns<'a> {
    everywhere: &'a Semaphore,
    here: Semaphore,
    /// When the first look began, and when a name last came to what was waited for.
    progress: Mutex<Option<(Instant, Instant)>>,
}

/// The right to look once.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _here: Option<SemaphorePermit<'a>>,
    _everywhere: Option<SemaphorePermit<'a>>,
}

impl<'a> Turns<'a> {
    /// So many looks at a time at this address, of those that may be under way `everywhere`.
    pub fn new(everywhere: &'a Semaphore, here: usize) -> Self {
        Self { everywhere, here: Semaphore::new(here), progress: Mutex::new(None) }
    }

    /// Waits for a turn, which ends when it is dropped.
    pub(super) async fn take(&self) -> Turn<'_> {
        // Never closed; and if they were, there would be no turns to wait for.
        let here = self.here.acquire().await.ok();
        let everywhere = self.everywhere.acquire().await.ok();
        let now = Instant::now();
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((now, now));
        Turn { _here: here, _everywhere: everywhere }
    }

    /// A name has come to what was waited for.
    pub(super) fn progressed(&self) {
        if let Some((_, last)) = &mut *self.progress.lock().unwrap_or_else(PoisonError::into_inner) {
            *last = Instant::now();
        }
    }

    /// When to give up, if a name may take so long.
    pub(super) fn end(&self, within: Duration) -> Instant {
        match *self.progress.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((first, last)) => (last + within).min(first + within * PATIENCE),
            None => Instant::now() + within,
        }
    }
}
