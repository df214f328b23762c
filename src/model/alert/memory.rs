//! What the ladder remembers: facts only, so that a restart changes nothing.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Condition, Level, Notice, Subject};
use crate::model::cert::ChainEnd;
use crate::model::clock::{self, Reading};
use crate::model::name::{Fingerprint, IssuerName};
use crate::model::problem::Problem;
use crate::model::schedule::after;

/// Everything remembered about alerts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Memory {
    /// The time when it was last looked at.
    pub latest: Option<Timestamp>,
    /// The clock was set back: until then nothing is believed to be over.
    pub doubt: Option<Timestamp>,
    /// How often it was looked at; what is newer than what a channel was told is news.
    pub round: u64,
    /// By their names: those that are open, and those that have been over for less than a day.
    pub alerts: BTreeMap<String, Alert>,
    /// What is to be delivered, oldest first; at most one of each alert for each channel.
    pub outbox: Vec<Letter>,
    /// Since when something is found, where its own facts do not say.
    pub seen: BTreeMap<String, Timestamp>,
    /// The channels that do not work now.
    pub troubles: BTreeMap<String, Trouble>,
    /// The channels that work, and do not reach all whom they should.
    pub partly: BTreeMap<String, Trouble>,
    /// That the heartbeat cannot be called.
    pub heartbeat: Option<Trouble>,
    /// That our clock differs from that of a CA, until that is read anew.
    pub clock: Option<OffClock>,
    /// Which certificate above the leaf ends first, by leaf: a cache, for chains do not change.
    pub chains: BTreeMap<Fingerprint, Option<ChainEnd>>,
}

/// A condition, from when it was found until a day after it is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Alert {
    /// What makes it one: code, and who or what it comes from.
    pub cause: String,
    /// The code of the condition.
    pub code: String,
    /// Since when.
    pub since: Timestamp,
    /// All of it in one line.
    pub title: String,
    /// What it is about, the worst first.
    pub affected: Vec<Affected>,
    /// Why it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happens next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Who was told, by channel.
    #[serde(default)]
    pub told: BTreeMap<String, Told>,
    /// Since when it is critical without anybody having acknowledged that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical_since: Option<Timestamp>,
    /// Who has taken it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
    /// Since when it is not so any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Timestamp>,
    /// Whether those who were told of it know that it is over.
    #[serde(default)]
    pub over: bool,
    /// How often it came back within a day of being over.
    #[serde(default)]
    pub returns: u32,
}

/// One thing that an alert is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Affected {
    /// Its identity within the alert.
    pub key: String,
    /// How bad it is.
    pub level: Level,
    /// What is said of it.
    pub subject: Subject,
    /// Whether another alert says it, and more.
    #[serde(default)]
    pub muted: bool,
    /// The round in which it became this bad.
    #[serde(default)]
    pub round: u64,
}

/// What a channel was told last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Told {
    /// When: of what is not delivered yet, when it was put into the outbox.
    pub at: Timestamp,
    /// How bad it was.
    pub level: Level,
    /// The round in which it was told.
    pub round: u64,
    /// When it was first told.
    pub first: Timestamp,
}

/// That somebody has taken an alert on: silence, until something gets worse than it was then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ack {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What it was about then, and how bad that was.
    pub covers: BTreeMap<String, Level>,
}

/// A notice on its way to a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Letter {
    /// The channel.
    pub channel: String,
    /// What it is to say.
    pub notice: Notice,
    /// How often delivering it has failed.
    #[serde(default)]
    pub attempts: u32,
    /// When it may be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Why it is not delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// That something does not work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trouble {
    /// Since when.
    pub since: Timestamp,
    /// How many attempts have failed in a row.
    pub failures: u32,
    /// Why.
    pub problem: Problem,
}

/// Our clock beside that of a CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OffClock {
    /// Whose.
    pub issuer: IssuerName,
    /// Both times.
    pub reading: Reading,
}

/// Why an alert was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// There is none of that name.
    #[error("there is no alert `{0}`")]
    Unknown(String),
    /// It is over.
    #[error("the alert `{0}` is over")]
    Over(String),
}

impl Memory {
    /// The alerts that are open, by their names.
    pub fn open(&self) -> impl Iterator<Item = (&String, &Alert)> {
        self.alerts.iter().filter(|(_, alert)| !alert.over)
    }

    /// What was so when it was last looked at, for when it cannot be.
    pub fn as_they_were(&self) -> Vec<Condition> {
        let so = self.alerts.values().filter(|alert| alert.gone.is_none());
        so.map(|alert| Condition {
            cause: alert.cause.clone(),
            code: alert.code.clone(),
            since: alert.since,
            title: alert.title.clone(),
            affected: alert.affected.clone(),
            reason: alert.reason.clone(),
            next: alert.next.clone(),
            remedy: alert.remedy.clone(),
        })
        .collect()
    }

    /// Whether our clock is good enough to say that something is over.
    pub fn knows_the_time(&self, now: Timestamp) -> bool {
        let off = self.clock.as_ref().filter(|clock| clock.reading.holds(now));
        off.is_none_or(|clock| clock.reading.apart() <= clock::FAR_OFF)
    }

    /// Somebody takes an alert on. Of some that also says something: see [`Alert::removed`].
    pub fn acknowledge(&mut self, id: &str, by: &str, now: Timestamp) -> Result<(), AckError> {
        let Some(alert) = self.alerts.get_mut(id) else { return Err(AckError::Unknown(id.to_owned())) };
        if alert.over {
            return Err(AckError::Over(id.to_owned()));
        }
        let covers = alert.affected.iter().map(|of| (of.key.clone(), of.level)).collect();
        alert.ack = Some(Ack { by: by.to_owned(), at: now, covers });
        alert.critical_since = None;
        Ok(())
    }

    /// Brings moments that have not come yet back to now: the clock was ahead when they were noted. Left as they
    /// are they would be silence until then.
    pub(super) fn settle(&mut self, now: Timestamp) {
        let back = self.latest.is_some_and(|latest| now.duration_until(latest) > JUMP);
        if back {
            self.doubt = Some(after(now, DOUBT));
        }
        self.doubt = self.doubt.filter(|until| *until > now).map(|until| until.min(after(now, DOUBT)));
        self.latest = Some(now);
        self.clock = self.clock.take().filter(|clock| clock.reading.holds(now));
        let settle = |at: &mut Timestamp| *at = (*at).min(now);
        self.seen.values_mut().for_each(settle);
        for alert in self.alerts.values_mut() {
            settle(&mut alert.since);
            alert.critical_since.iter_mut().chain(&mut alert.gone).for_each(settle);
            for told in alert.told.values_mut() {
                settle(&mut told.at);
                settle(&mut told.first);
            }
        }
        for letter in &mut self.outbox {
            // Later than any pause of ours: noted by a clock that was ahead.
            letter.not_before = letter.not_before.map(|at| at.min(super::letters::latest(now)));
        }
        let troubles = self.troubles.values_mut().chain(self.partly.values_mut()).chain(&mut self.heartbeat);
        troubles.for_each(|trouble| settle(&mut trouble.since));
    }
}

impl Alert {
    /// How bad it is of what is not said elsewhere and nobody has taken on; `None` when nothing is left.
    pub fn level(&self) -> Option<Level> {
        self.affected.iter().filter(|of| !self.covers(of)).map(|of| of.level).max()
    }

    /// How bad it is, whoever has taken it on.
    pub fn worst(&self) -> Level {
        self.affected.iter().map(|of| of.level).max().unwrap_or(Level::Warning)
    }

    pub(super) fn covers(&self, affected: &Affected) -> bool {
        let covered = self.ack.as_ref().and_then(|ack| ack.covers.get(&affected.key));
        affected.muted || covered.is_some_and(|covered| affected.level <= *covered)
    }
}

/// Above what NTP corrects.
const JUMP: SignedDuration = SignedDuration::from_hours(1);
/// A machine that has just booted may not know the time yet.
const DOUBT: SignedDuration = SignedDuration::from_hours(6);
