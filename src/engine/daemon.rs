//! Pass after pass, until told to end.
//!
//! The loop that everything hangs on is one task: it polls the pass, compares the clocks, and gives the sign of
//! life that a watchdog waits for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{FutureExt, pending};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::alert::{Attended, Channels, attend, attend_hindered};
use super::{Engine, Listener, StartError, Summary};
use crate::config::{self, Config, LoadError};
use crate::model::history::How;
use crate::model::pace::{Rest, share};
use crate::model::plan::Request;
use crate::model::problem::Problem;
use crate::model::schedule::after;
use crate::model::state::ConfigRefused;
use crate::store::{SaveError, Store};

/// The clocks are compared this often at least: sleeping stands still in suspend, and knows nothing of a clock
/// that is set.
const NAP: Duration = Duration::from_secs(60);
const SHORTEST_BEAT: Duration = Duration::from_millis(50);

/// What a person or the service manager wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Read the configuration again, and make a pass now.
    Reload,
    /// End; a second time: at once.
    End,
}

/// What there is to tell about the daemon itself; what passes do are [`Event`](super::Event)s.
#[derive(Debug)]
pub enum News<'a> {
    /// It is alive.
    Beat,
    /// A pass begins.
    Begins,
    /// A pass has ended; the next begins at that time.
    Passed(&'a Summary, Timestamp),
    /// A pass could not begin; the next attempt is at that time.
    NotBegun(&'a StartError, Timestamp),
    /// certs.toml says something else than what the daemon goes by; said once for each text.
    Differs,
    /// People have been told what they are to know, as far as they could be.
    Told(&'a Attended, Occasion),
    /// The configuration is being read again.
    Reloading,
    /// It has been, and counts from the next pass on.
    Reloaded(&'a Arc<Config>),
    /// It names another store, which takes a restart; all else counts.
    OtherStore(&'a Path),
    /// It cannot be used: the one before stays.
    Refused(&'a LoadError),
    /// What alerts should know of it cannot be stored.
    NotNoted(&'a SaveError),
    /// It was told to end.
    Ending,
}

/// Why people were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A pass has ended, or could not begin.
    Pass,
    /// It was time.
    Time,
}

/// Who is told.
pub trait Audience {
    /// Takes note.
    fn hear(&self, news: News<'_>);
}

/// The loop and what it needs.
pub struct Daemon {
    path: PathBuf,
    /// What the running configuration was read from, and the last other text that was told of.
    digest: Option<[u8; 32]>,
    differing: Option<[u8; 32]>,
    config: Arc<Config>,
    store: Store,
    listener: Arc<dyn Listener>,
    lock_wait: Duration,
    beat: Duration,
    /// Why the last pass could not begin.
    hindered: Option<Problem>,
}

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After what was under way had been put in order.
    InOrder,
    /// In the midst of it: it was told twice.
    AtOnce,
}

/// Work that has ended, and what was wanted meanwhile.
struct Done<T> {
    result: T,
    /// The configuration was to be read again, so that a pass is to be made now.
    reloaded: bool,
    told_to_end: bool,
}

/// Why the rest is over.
enum Wake {
    /// The next pass is due.
    Pass,
    /// Somebody may be to be told something.
    Tell,
    Order(Order),
}

impl Daemon {
    /// A daemon for the configuration that was read from `path`; the lock of the store's daemon is held by the
    /// caller. Waits for other processes for `lock_wait`, and gives a sign of life every `beat`.
    pub fn new(
        path: PathBuf,
        config: Arc<Config>,
        store: Store,
        listener: Arc<dyn Listener>,
        lock_wait: Duration,
        beat: Duration,
    ) -> Self {
        let (digest, beat) = (config::digest(&path), beat.clamp(SHORTEST_BEAT, NAP));
        Self { path, digest, differing: None, config, store, listener, lock_wait, beat, hindered: None }
    }

    /// Pass after pass, until told to end.
    pub async fn run(mut self, orders: &mut mpsc::Receiver<Order>, audience: &dyn Audience) -> End {
        self.note_refusal(None, audience);
        let end = self.passes(orders, audience).await;
        // What does not run does not go on with an old file either.
        self.note_refusal(None, audience);
        end
    }

    async fn passes(&mut self, orders: &mut mpsc::Receiver<Order>, audience: &dyn Audience) -> End {
        loop {
            self.compare(audience);
            let began = Timestamp::now();
            audience.hear(News::Begins);
            let (stop, stopped) = oneshot::channel();
            let Some(passed) = self.hear_out(self.pass(stopped), stop, orders, audience).await else {
                return End::AtOnce;
            };
            if passed.told_to_end {
                return End::InOrder;
            }
            self.hindered = passed.result.as_ref().err().map(|error| Problem::of(error));
            let summary = passed.result.as_ref().ok().map(|(_, summary)| summary);
            let (rest, ended) = (self.rest(began, summary), Instant::now());
            match &passed.result {
                Ok((_, summary)) => audience.hear(News::Passed(summary, rest.next)),
                Err(error) => audience.hear(News::NotBegun(error, rest.next)),
            }
            let mut again = passed.reloaded;
            let (mut work, mut occasion) = (self.tell_of(passed.result).boxed(), Occasion::Pass);
            loop {
                let (stop, stopped) = oneshot::channel();
                let Some(told) = self.hear_out(unless(stopped, work), stop, orders, audience).await else {
                    return End::AtOnce;
                };
                if told.told_to_end {
                    return End::InOrder;
                }
                let attended = told.result.unwrap_or_default();
                audience.hear(News::Told(&attended, occasion));
                again |= told.reloaded;
                if again {
                    break;
                }
                match self.sleep(&rest, ended, attended.next, orders, audience).await {
                    Wake::Pass => break,
                    Wake::Tell => (work, occasion) = (self.tell().boxed(), Occasion::Time),
                    Wake::Order(Order::Reload) => {
                        self.reload(audience);
                        break;
                    }
                    Wake::Order(Order::End) => {
                        audience.hear(News::Ending);
                        return End::InOrder;
                    }
                }
            }
        }
    }

    fn rest(&self, began: Timestamp, summary: Option<&Summary>) -> Rest {
        let (ended, interval) = (Timestamp::now(), self.config.daemon.interval);
        // Questions alone, each certificate's at a time of its own, do not make four passes out of one.
        let soon = after(began, interval / 4);
        let asks = summary.and_then(|summary| summary.asks).map(|at| at.max(soon));
        let wake = summary.and_then(|summary| summary.wake).into_iter().chain(asks).min();
        Rest::after(began, ended, interval, wake, self.share())
    }

    /// The same after every restart, another on every machine.
    fn share(&self) -> f64 {
        let machine = rustix::system::uname();
        share(&format!("{} {}", machine.nodename().to_string_lossy(), self.store.path().display()))
    }

    /// Waits for work to end, and for orders meanwhile; `None` when its end was not to be waited for.
    async fn hear_out<T>(
        &mut self,
        work: impl Future<Output = T>,
        stop: oneshot::Sender<()>,
        orders: &mut mpsc::Receiver<Order>,
        audience: &dyn Audience,
    ) -> Option<Done<T>> {
        let mut stop = Some(stop);
        let mut reloaded = false;
        tokio::pin!(work);
        let mut beats = tokio::time::interval(self.beat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                _ = beats.tick() => beat(audience).await,
                order = orders.recv() => match order {
                    // The work goes on with what it began with.
                    Some(Order::Reload) => {
                        self.reload(audience);
                        reloaded = true;
                    }
                    Some(Order::End) | None => {
                        let stop = stop.take()?;
                        audience.hear(News::Ending);
                        // Nobody listens any more only when the work is over.
                        let _ = stop.send(());
                    }
                },
            }
        };
        Some(Done { result, reloaded, told_to_end: stop.is_none() })
    }

    /// One pass, and what made it.
    fn pass(
        &self,
        stopped: oneshot::Receiver<()>,
    ) -> impl Future<Output = Result<(Arc<Engine>, Summary), StartError>> + use<> {
        let (config, store, listener) = (self.config.clone(), self.store.clone(), self.listener.clone());
        let lock_wait = self.lock_wait;
        async move {
            let engine = Arc::new(Engine::new(config, store, listener, lock_wait)?.run_by(How::Daemon));
            let summary = engine.pass(&Request::default(), told(stopped)).await?;
            Ok((engine, summary))
        }
    }

    /// Tells people what a pass has learnt, or that there was none.
    fn tell_of(
        &self,
        result: Result<(Arc<Engine>, Summary), StartError>,
    ) -> impl Future<Output = Attended> + Send + use<> {
        let (config, store) = (self.config.clone(), self.store.clone());
        async move {
            match result {
                Ok((engine, summary)) => engine.attend(&summary).await,
                Err(error) => {
                    let (channels, problem) = (Channels::of(&config), Problem::of(&error));
                    attend_hindered(&config, &channels, Some(&store), &problem, How::Daemon).await
                }
            }
        }
    }

    /// Tells people what they are to know by now, of what is known already.
    fn tell(&self) -> impl Future<Output = Attended> + Send + use<> {
        let (config, store, hindered) = (self.config.clone(), self.store.clone(), self.hindered.clone());
        async move {
            // What no pass could look at again is not over.
            let known = hindered.as_ref().map_or(Ok(None), Err);
            attend(&config, &Channels::of(&config), &store, known, None).await
        }
    }

    /// Until there is something to do, or somebody wants something.
    async fn sleep(
        &self,
        rest: &Rest,
        ended: Instant,
        tell: Option<Timestamp>,
        orders: &mut mpsc::Receiver<Order>,
        audience: &dyn Audience,
    ) -> Wake {
        let longest = SignedDuration::try_from(self.beat).unwrap_or(SignedDuration::from_secs(1));
        loop {
            beat(audience).await;
            let now = Timestamp::now();
            let rested = SignedDuration::try_from(ended.elapsed()).unwrap_or(SignedDuration::MAX);
            if rest.is_over(now, rested) {
                return Wake::Pass;
            }
            if tell.is_some_and(|tell| tell <= now) {
                return Wake::Tell;
            }
            let nap = tell.map_or(longest, |tell| now.duration_until(tell).min(longest));
            let nap = Duration::try_from(rest.nap(now, nap)).unwrap_or(NAP);
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                order = orders.recv() => return Wake::Order(order.unwrap_or(Order::End)),
            }
        }
    }

    fn reload(&mut self, audience: &dyn Audience) {
        audience.hear(News::Reloading);
        let digest = config::digest(&self.path);
        match config::load(&self.path) {
            Ok(mut config) => {
                if config.store != self.config.store {
                    audience.hear(News::OtherStore(&config.store));
                    config.store.clone_from(&self.config.store);
                }
                self.config = Arc::new(config);
                self.digest = digest;
                self.note_refusal(None, audience);
                audience.hear(News::Reloaded(&self.config));
            }
            Err(error) => {
                // It has been said what is wrong with this text.
                self.differing = digest;
                self.note_refusal(Some(&error), audience);
                audience.hear(News::Refused(&error));
            }
        }
    }

    /// For alerts: they are for those who do not read the log.
    fn note_refusal(&self, error: Option<&LoadError>, audience: &dyn Audience) {
        let refused = error.map(|error| ConfigRefused { at: Timestamp::now(), problem: Problem::of(error) });
        if let Err(error) = self.store.save_config_refused(refused.as_ref()) {
            audience.hear(News::NotNoted(&error));
        }
    }

    /// Notices a file that was edited and not loaded.
    fn compare(&mut self, audience: &dyn Audience) {
        let there = config::digest(&self.path);
        if there.is_some() && there != self.digest && there != self.differing {
            self.differing = there;
            audience.hear(News::Differs);
        }
    }
}

/// A sign of life, when there is life: in this task, and in the threads that do the work.
async fn beat(audience: &dyn Audience) {
    let _ = tokio::spawn(async {}).await;
    audience.hear(News::Beat);
}

/// Resolves when told to stop.
async fn told(stopped: oneshot::Receiver<()>) {
    if stopped.await.is_err() {
        pending::<()>().await;
    }
}

/// Work that may be dropped at any moment: what it has not done yet is noted.
async fn unless<T>(stopped: oneshot::Receiver<()>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        result = work => Some(result),
        () = told(stopped) => None,
    }
}
