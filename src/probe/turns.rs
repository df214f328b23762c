//! Waiting for one address to serve what it should, under many names: how many look at a time, and until when.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::patience::PIECE;

/// However well it goes on, an address is not waited for longer than this many times what one name has.
const PATIENCE: u32 = 60;

/// The turns to look at one address.
///
/// Waiting for a turn uses up nobody's time, nor does what this machine loses by itself: a controller that is busy says
/// nothing against the host that it looks at. So time counts while somebody looks, or pauses between two looks, and
/// anew whenever a name has come to what was waited for.
///
/// At first one name looks for all: while nothing is loaded yet, a hundred looks see no more than one.
#[derive(Debug)]
pub struct Turns<'a> {
    everywhere: &'a Semaphore,
    here: Semaphore,
    /// Closed once the first has seen what it waited for, or long enough that it is not there.
    first: Semaphore,
    spent: Mutex<Spent>,
}

/// The time that counts.
#[derive(Debug)]
struct Spent {
    /// How many look or pause now.
    busy: usize,
    /// Up to when it is counted.
    until: Instant,
    all: Duration,
    /// All, when a name last came to what was waited for.
    at_progress: Option<Duration>,
}

/// The right to look before all others; when it is dropped, they look too.
#[derive(Debug)]
pub(super) struct Scout<'a> {
    turns: &'a Turns<'a>,
    _first: SemaphorePermit<'a>,
}

impl Drop for Scout<'_> {
    fn drop(&mut self) {
        self.turns.first.close();
    }
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
        let spent = Spent { busy: 0, until: Instant::now(), all: Duration::ZERO, at_progress: None };
        Self { everywhere, here: Semaphore::new(here), first: Semaphore::new(1), spent: Mutex::new(spent) }
    }

    /// To be the one who looks for all; for the others, to have waited for him.
    pub(super) async fn scout(&self) -> Option<Scout<'_>> {
        self.first.acquire().await.ok().map(|first| Scout { turns: self, _first: first })
    }

    /// Waits for a turn, which ends when it is dropped.
    pub(super) async fn take(&self) -> Turn<'_> {
        // Never closed; and if they were, there would be no turns to wait for.
        let here = self.here.acquire().await.ok();
        let everywhere = self.everywhere.acquire().await.ok();
        Turn { _here: here, _everywhere: everywhere }
    }

    /// Does what the time is counted of.
    pub(super) async fn spend<T>(&self, work: impl Future<Output = T>) -> T {
        let _counting = Counting::begin(self);
        let mut work = pin!(work);
        loop {
            match timeout(PIECE, &mut work).await {
                Ok(done) => return done,
                Err(_) => self.spent().count(),
            }
        }
    }

    /// A name has come to what was waited for.
    pub(super) fn progressed(&self) {
        let mut spent = self.spent();
        spent.at_progress = Some(spent.all);
    }

    /// Whether one has.
    pub(super) fn has_progressed(&self) -> bool {
        self.spent().at_progress.is_some()
    }

    /// How much time is left, if a name may take so long.
    pub(super) fn left(&self, within: Duration) -> Duration {
        let spent = self.spent();
        let end = spent.at_progress.unwrap_or_default() + within;
        end.min(within * PATIENCE).saturating_sub(spent.all)
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spent {
    fn count(&mut self) {
        let now = Instant::now();
        self.all += now.saturating_duration_since(self.until).min(PIECE);
        self.until = now;
    }
}

/// Counts the time until it is dropped.
struct Counting<'a>(&'a Turns<'a>);

impl<'a> Counting<'a> {
    fn begin(turns: &'a Turns<'_>) -> Self {
        let mut spent = turns.spent();
        match spent.busy {
            0 => spent.until = Instant::now(),
            _ => spent.count(),
        }
        spent.busy += 1;
        drop(spent);
        Self(turns)
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        let mut spent = self.0.spent();
        spent.count();
        spent.busy -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::time::sleep;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(2);

    #[tokio::test]
    async fn time_counts_while_somebody_looks_and_this_machine_runs() {
        let everywhere = Semaphore::new(1);
        let turns = Turns::new(&everywhere, 1);
        turns.spend(async { thread::sleep(PIECE * 4) }).await;
        assert!(turns.left(WITHIN) >= WITHIN - PIECE, "this machine was busy");
        let left = turns.left(WITHIN);
        sleep(PIECE).await;
        assert_eq!(turns.left(WITHIN), left, "nobody looked");
        let pause = turns.spend(sleep(PIECE));
        tokio::join!(pause, turns.spend(sleep(PIECE)), turns.spend(sleep(PIECE)));
        assert!(turns.left(WITHIN) < left);
        turns.progressed();
        assert_eq!((turns.left(WITHIN), turns.has_progressed()), (WITHIN, true));
    }
}
