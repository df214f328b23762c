//! Telling people: what is wrong by the facts goes through the ladder into the outbox, and from there to the
//! channels; then the watcher outside hears that we are alive.
//!
//! Every process that has made a pass does this, one after the other: what was told is in the store, so nobody is
//! told twice. A channel that hangs holds up no other, and all of it ends within a minute.

mod chains;
mod deliver;
mod heartbeat;

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::apart::blocking;
use super::{Engine, Summary};
use crate::config::Config;
use crate::model::alert::{
    Circumstances, Condition, Letter, Memory, Occasion, compared, conditions, findings, next_letter,
    next_step, step,
};
use crate::model::clock::Reading;
use crate::model::history::{Entry, How, What};
use crate::model::name::IssuerName;
use crate::model::observed::Observed;
use crate::model::problem::{Blame, Diagnose, Problem, Retry, plain};
use crate::model::report::report;
use crate::model::schedule::after;
use crate::model::state::State;
use crate::store::{AlertLock, LoadError, Loaded, LockError, SaveError, Store};
pub use deliver::{Channels, Undelivered, too_slow};

/// Above the longest time for which another process holds the lock: delivering twice, and the heartbeat.
const PATIENCE: Duration = Duration::from_secs(90);
/// Nothing is looked at more often by itself.
const SHORTEST_REST: SignedDuration = SignedDuration::from_secs(30);

/// What is known, as a pass has left it.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What the store has.
    pub state: State,
    /// What was seen.
    pub observed: Observed,
    /// Damage to the store that concerns no certificate or host.
    pub damages: Vec<Problem>,
    /// That the clock is behind the newest fact.
    pub clock: Option<Problem>,
    /// Our clock beside that of a CA that was asked.
    pub(super) read: Option<(IssuerName, Reading)>,
    /// Why nothing of this could be read: what is not known to be wrong may be wrong nevertheless.
    pub(super) blind: Option<Problem>,
}

/// What came of telling people.
#[derive(Debug, Default)]
pub struct Attended {
    /// How many notices have been delivered.
    pub delivered: usize,
    /// What could not be, yet: it is tried again.
    pub undelivered: Vec<Undelivered>,
    /// What went wrong beside that.
    pub problems: Vec<Problem>,
    /// Why the watcher outside did not hear that all is well.
    pub heartbeat: Option<Problem>,
    /// When there may be something to tell, though nothing is done until then.
    pub next: Option<Timestamp>,
}

impl Attended {
    /// Whether everybody knows what they are to know.
    pub fn is_well(&self) -> bool {
        self.undelivered.is_empty() && self.problems.is_empty() && self.heartbeat.is_none()
    }
}

/// A pass that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Who made it.
    pub how: How,
    /// Whether all there is was tried, to the end.
    pub complete: bool,
}

/// What kept people from being told as they should be.
#[derive(Debug, thiserror::Error)]
enum Hindrance {
    #[error("what is remembered about alerts could not be read, and was moved to {0}")]
    Quarantined(String, #[source] LoadError),
    #[error("what is remembered about alerts cannot be read")]
    Unreadable(#[source] LoadError),
    #[error("what people are told cannot be written down")]
    Unsaved(#[source] SaveError),
    #[error("alerts are not looked at")]
    Locked(#[source] LockError),
    #[error("what people are told cannot be written down")]
    NoLock(#[source] LockError),
}

impl Diagnose for Hindrance {
    fn code(&self) -> &'static str {
        match self {
            Self::Quarantined(..) => QUARANTINED,
            Self::Unreadable(_) => "alerts.unreadable",
            Self::Unsaved(_) => "alerts.unsaved",
            Self::Locked(_) => "alerts.locked",
            Self::NoLock(_) => "alerts.unsaved",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn retry(&self) -> Retry {
        Retry::Backoff
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Quarantined(..) => Some(
                "nothing to do: what is still wrong was told again; acknowledge it again with `certfleet alert ack ID`"
                    .to_owned(),
            ),
            Self::Unreadable(error) => error.hint(),
            Self::Unsaved(error) => error.hint(),
            Self::Locked(error) | Self::NoLock(error) => error.hint(),
        }
    }
}

/// Tells people what is so now, as far as they are to be told. After a pass with what that has learnt; without
/// one with what the store has, and why no pass could begin.
pub async fn attend(
    config: &Config,
    channels: &Channels,
    store: &Store,
    known: Result<Option<Known>, &Problem>,
    ended: Option<Ended>,
) -> Attended {
    let (known, unusable) = match known {
        Ok(known) => (known, None),
        Err(problem) => (None, Some(problem)),
    };
    let how = ended.map_or(How::Daemon, |ended| ended.how);
    let lock = lock(store).await;
    let (store, problem) = match lock {
        Ok(lock) => (Some((store, lock)), None),
        // Whoever has it tells people.
        Err(error @ LockError::Held(_)) => {
            let problems = vec![Problem::of(&Hindrance::Locked(error))];
            return Attended { problems, ..Attended::default() };
        }
        Err(error) => (None, Some(Problem::of(&Hindrance::NoLock(error)))),
    };
    let attended = Attended { problems: problem.iter().cloned().collect(), ..Attended::default() };
    let session = Session { config, channels, store, how, attended };
    session.attend(known, unusable.or(problem.as_ref()), ended).await
}

/// Tells people that no pass can be made, and what else is known. Without a store that can be written to nothing
/// is noted: then they are told again by every pass.
pub async fn attend_hindered(
    config: &Config,
    channels: &Channels,
    store: Option<&Store>,
    problem: &Problem,
    how: How,
) -> Attended {
    let store = match store {
        Some(store) => lock(store).await.ok().map(|lock| (store, lock)),
        None => None,
    };
    let session = Session { config, channels, store, how, attended: Attended::default() };
    session.attend(None, Some(problem), Some(Ended { how, complete: false })).await
}

impl Engine {
    /// Tells people what the pass that has just ended has learnt.
    pub async fn attend(&self, summary: &Summary) -> Attended {
        let ended = Ended { how: self.listener.how(), complete: summary.complete };
        let known = super::lock(&self.left).take();
        attend(&self.config, &Channels::of(&self.config), &self.store, Ok(known), Some(ended)).await
    }
}

async fn lock(store: &Store) -> Result<AlertLock, LockError> {
    let started = Instant::now();
    loop {
        match blocking(|| store.lock_alerts("telling people", Timestamp::now())) {
            Err(LockError::Held(_)) if started.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            result => return result,
        }
    }
}

/// One time of telling people.
struct Session<'a> {
    config: &'a Config,
    channels: &'a Channels,
    /// None: nothing can be kept.
    store: Option<(&'a Store, AlertLock)>,
    how: How,
    attended: Attended,
}

impl Session<'_> {
    async fn attend(
        mut self,
        known: Option<Known>,
        unusable: Option<&Problem>,
        ended: Option<Ended>,
    ) -> Attended {
        let mut memory = blocking(|| self.recall());
        let now = Timestamp::now();
        let known = self.known(known);
        if let Some((issuer, reading)) = &known.read {
            compared(&mut memory, issuer, *reading);
        }
        blocking(|| self.look(&mut memory, &known, unusable, now));
        let noted = memory.clone();
        self.deliver(&mut memory).await;
        if !memory.outbox.is_empty() || memory.partly != noted.partly {
            // Where no channel works there is still the journal; and others hear of whom a channel does not reach.
            blocking(|| self.look(&mut memory, &known, unusable, Timestamp::now()));
            self.deliver(&mut memory).await;
        }
        if let Some(ended) = ended.filter(|ended| ended.how != How::Cli) {
            self.call_heartbeat(&mut memory, ended).await;
        }
        if memory != noted {
            blocking(|| self.save(&memory));
        }
        let now = Timestamp::now();
        let next =
            next_step(&memory, &self.channels.order, now).into_iter().chain(next_letter(&memory)).min();
        Attended { next: next.map(|next| next.max(after(now, SHORTEST_REST))), ..self.attended }
    }

    /// What was told until now.
    fn recall(&mut self) -> Memory {
        let error = match &self.store {
            Some((store, _)) => match store.alerts() {
                Ok(memory) => return memory,
                Err(error) => error,
            },
            // To be read it may be good enough.
            None => {
                let store = Store::open_existing(&self.config.store).ok().flatten();
                return store.and_then(|store| store.alerts().ok()).unwrap_or_default();
            }
        };
        let lost = matches!(
            error,
            LoadError::Damaged { .. }
                | LoadError::WrongContent { .. }
                | LoadError::TooLarge(..)
                | LoadError::NotAFile(_)
        );
        let moved = self.store.as_ref().filter(|_| lost);
        let moved = moved.and_then(|(store, lock)| store.quarantine_alerts(lock, Timestamp::now()).ok());
        let problem = match moved {
            Some(path) => Problem::of(&Hindrance::Quarantined(path.display().to_string(), error)),
            None => {
                self.store = None;
                Problem::of(&Hindrance::Unreadable(error))
            }
        };
        self.attended.problems.push(problem);
        Memory::default()
    }

    /// What the store has, for others may have done something since a pass has read it; where it cannot be had, what
    /// the pass has left.
    fn known(&self, known: Option<Known>) -> Known {
        let fresh = match (&self.store, known.is_some()) {
            (Some((store, _)), _) => blocking(|| Known::read(store)).map(Some),
            (None, true) => Ok(None),
            (None, false) => blocking(|| match Store::open_existing(&self.config.store) {
                Ok(Some(store)) => Known::read(&store).map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(Problem::of(&error)),
            }),
        };
        match (fresh, known) {
            (Ok(Some(fresh)), known) => Known { read: known.and_then(|known| known.read), ..fresh },
            (_, Some(known)) => known,
            (Ok(None), None) => Known::default(),
            (Err(problem), None) => Known { blind: Some(problem), ..Known::default() },
        }
    }

    /// Finds what is wrong, and writes down who is to be told of it.
    fn look(&mut self, memory: &mut Memory, known: &Known, unusable: Option<&Problem>, now: Timestamp) {
        let unusable = unusable.or(known.blind.as_ref());
        let sure = known.clock.is_none() && memory.knows_the_time(now);
        let before = memory.clone();
        let order = &self.channels.order;
        let conditions = self.conditions(memory, known, unusable, now);
        step(memory, conditions, order, sure, now);
        let Some((store, lock)) = &self.store else { return };
        if let Err(error) = store.save_alerts(lock, memory) {
            let problem = Problem::of(&Hindrance::Unsaved(error));
            *memory = before;
            let conditions = self.conditions(memory, known, Some(&problem), now);
            step(memory, conditions, order, sure, now);
            self.attended.problems.push(problem);
            self.store = None;
        }
    }

    fn conditions(
        &self,
        memory: &mut Memory,
        known: &Known,
        unusable: Option<&Problem>,
        now: Timestamp,
    ) -> Vec<Condition> {
        let desired = &self.config.desired;
        if let Some((store, _)) = &self.store {
            chains::remember(memory, desired, known, store);
        }
        let mut damages = known.damages.clone();
        damages.extend(self.attended.problems.iter().filter(|problem| problem.code == QUARANTINED).cloned());
        let endings = chains::endings(self.config, self.store.as_ref().map(|(store, _)| *store));
        let refused = self.store.as_ref().and_then(|(store, _)| store.config_refused().ok().flatten());
        let circumstances = Circumstances {
            desired,
            state: &known.state,
            observed: &known.observed,
            report: &report(desired, &known.state, &known.observed, now),
            damages: &damages,
            clock: known.clock.as_ref(),
            refused: refused.as_ref().map(|refused| &refused.problem),
            unusable,
            endings: &endings,
            now,
        };
        let found = findings(&circumstances, memory);
        let as_they_were = if known.blind.is_some() { memory.as_they_were() } else { Vec::new() };
        let (mut conditions, _) = conditions(memory, found, now);
        // What cannot be seen is not over.
        for condition in as_they_were {
            if conditions.iter().all(|known| known.cause != condition.cause) {
                conditions.push(condition);
            }
        }
        conditions
    }

    /// Who was told what is worth remembering for longer than the alert is.
    fn note(&self, letter: &Letter, now: Timestamp) {
        let Some((store, _)) = &self.store else { return };
        let notice = &letter.notice;
        let certificate = match &notice.subjects[..] {
            [only] => only.certificate.clone(),
            _ => None,
        };
        let detail = format!(
            "alert {} to `{}`, {}: {}",
            notice.alert,
            letter.channel,
            word(notice.occasion),
            notice.title
        );
        let entry = Entry::new(now, What::Told, super::author(self.how));
        super::note(store, &Entry { certificate, detail: Some(plain(&detail)), ..entry });
    }

    fn save(&mut self, memory: &Memory) {
        let Some((store, lock)) = &self.store else { return };
        if let Err(error) = store.save_alerts(lock, memory) {
            self.attended.problems.push(Problem::of(&Hindrance::Unsaved(error)));
        }
    }
}

impl Known {
    /// What the store has, and what the last passes saw.
    fn read(store: &Store) -> Result<Self, Problem> {
        let loaded = store.load(Timestamp::now()).map_err(|error| Problem::of(&error))?;
        Ok(Self::of(loaded, store.observed()))
    }

    /// What was read, and what was seen.
    pub(super) fn of(loaded: Loaded, observed: Observed) -> Self {
        let clock = loaded.warnings.into_iter().find(|problem| problem.code == CLOCK);
        Self {
            state: loaded.state,
            observed,
            damages: loaded.unreadable_debts,
            clock,
            read: None,
            blind: None,
        }
    }
}

fn word(occasion: Occasion) -> &'static str {
    match occasion {
        Occasion::Raised => "raised",
        Occasion::Worsened => "worsened",
        Occasion::Repeated => "repeated",
        Occasion::Escalated => "escalated",
        Occasion::Over => "over",
        Occasion::Test => "test",
    }
}

/// The code of what a store says of a clock that is behind its facts.
const CLOCK: &str = "clock.behind";
const QUARANTINED: &str = "alerts.quarantined";
