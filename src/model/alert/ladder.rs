//! The ladder: who is told, when, and when again.
//!
//! A warning goes to the first channel, a critical to the next one after every hour in which nobody has
//! acknowledged it, an emergency to all at once. Each channel is told again when the period of the level is over;
//! at once when it got worse. A channel that does not work does not count as told.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::letters::post;
use super::watching;
use super::{Alert, Condition, JOURNAL, Level, Memory, Notice, Occasion, Told};
use crate::model::schedule::after;

/// When a critical that nobody has acknowledged goes to the next channel.
const ESCALATION: SignedDuration = SignedDuration::from_hours(1);
/// How often at most somebody is told that more has become as bad.
const NEWS: SignedDuration = SignedDuration::from_hours(1);
/// How long an alert that is over is remembered: if it comes back it is the same one.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);
/// Above this a notice only counts.
const NAMED: usize = 50;

impl Level {
    /// How often people are told of what goes on.
    pub fn period(self) -> SignedDuration {
        SignedDuration::from_hours(match self {
            Self::Warning => 24,
            Self::Critical => 6,
            Self::Emergency => 1,
        })
    }
}

/// Takes what is so now, and puts what people are to be told into the outbox.
///
/// `order` are the channels, first to last; without any it is the journal. Whether what is not so any more is over
/// is not `sure` when the clock is known to be wrong: then nobody is told anything of it.
pub fn step(memory: &mut Memory, conditions: Vec<Condition>, order: &[String], sure: bool, now: Timestamp) {
    memory.settle(now);
    memory.round += 1;
    forget_channels(memory, order);
    let unsure = take_in(memory, conditions, sure && memory.doubt.is_none(), now);
    announce_ends(memory, now);
    let mut posts: Vec<(String, Notice)> = Vec::new();
    let open = |(id, alert): &(&String, &mut Alert)| alert.gone.is_none() && !unsure.contains(*id);
    for (id, alert) in memory.alerts.iter_mut().filter(open) {
        let Some(level) = alert.level() else {
            alert.critical_since = None;
            continue;
        };
        if level < Level::Critical {
            alert.critical_since = None;
        } else {
            alert.critical_since.get_or_insert(now);
        }
        let first_time = alert.told.is_empty();
        for channel in reach(alert, level, order, &memory.troubles, now) {
            let occasion = match alert.told.get(&channel) {
                None if first_time || level == Level::Emergency => Occasion::Raised,
                None => Occasion::Escalated,
                Some(told) if level > told.level => Occasion::Worsened,
                Some(told) if after(told.at, pause(alert, told, level)) <= now => match news(alert, told) {
                    true => Occasion::Worsened,
                    false => Occasion::Repeated,
                },
                Some(_) => continue,
            };
            let first = alert.told.get(&channel).map_or(now, |told| told.first);
            alert.told.insert(channel.clone(), Told { at: now, level, round: memory.round, first });
            posts.push((channel, notice(id, alert, occasion, now)));
        }
    }
    posts.into_iter().for_each(|(channel, notice)| post(memory, channel, notice));
    // What could not be delivered until now says what is so now.
    for letter in &mut memory.outbox {
        let alert = memory.alerts.get(&letter.notice.alert).filter(|alert| alert.gone.is_none());
        if let Some(alert) = alert {
            letter.notice = notice(&letter.notice.alert, alert, letter.notice.occasion, now);
        }
    }
    let outbox = &memory.outbox;
    memory.alerts.retain(|id, alert| {
        let old = alert.gone.is_some_and(|gone| after(gone, REMEMBERED) <= now);
        !(alert.over && old) || outbox.iter().any(|letter| letter.notice.alert == *id)
    });
}

/// When [`step`] may have something new to say, though nothing changes but the time.
pub fn next_step(memory: &Memory, order: &[String], now: Timestamp) -> Option<Timestamp> {
    let of_alert = |alert: &Alert| -> Option<Timestamp> {
        if alert.gone.is_some() {
            return over_at(alert).filter(|_| !alert.over);
        }
        let level = alert.level()?;
        let again = reach(alert, level, order, &memory.troubles, now).into_iter().map(|channel| {
            alert.told.get(&channel).map_or(now, |told| after(told.at, pause(alert, told, level)))
        });
        let hours = alert.critical_since.map(|since| escalations(since, now)).unwrap_or_default();
        let more = level == Level::Critical && hours < i64::try_from(order.len()).unwrap_or(i64::MAX);
        let escalates =
            alert.critical_since.filter(|_| more).map(|since| after(since, times(ESCALATION, hours)));
        again.chain(escalates).min()
    };
    memory.alerts.values().filter_map(of_alert).min()
}

/// When an alert of what is gone is over, if that stays away.
pub fn over_at(alert: &Alert) -> Option<Timestamp> {
    alert.gone.map(|gone| after(gone, linger(alert.returns)))
}

/// The channels that are to know of an alert, as bad as it is, by now.
fn reach(
    alert: &Alert,
    level: Level,
    order: &[String],
    troubles: &BTreeMap<String, super::Trouble>,
    now: Timestamp,
) -> Vec<String> {
    let count = match (level, alert.critical_since) {
        (Level::Emergency, _) => i64::MAX,
        (Level::Critical, Some(since)) => escalations(since, now),
        _ => 1,
    };
    let journal = [JOURNAL.to_owned()];
    let order = if order.is_empty() { &journal[..] } else { order };
    // Not by itself does a channel say that it does not work.
    let told_of = |channel: &&String| {
        let of_channels = [watching::FAILING, watching::PARTLY].contains(&alert.code.as_str());
        !of_channels || alert.affected.iter().all(|of| of.key != **channel)
    };
    let (mut reached, mut working) = (Vec::new(), 0);
    for channel in order.iter().filter(told_of) {
        if working >= count {
            break;
        }
        working += i64::from(!troubles.get(channel).is_some_and(|trouble| trouble.lasts(now)));
        reached.push(channel.clone());
    }
    // With all of them in trouble, however fresh it is, there is one left.
    let hope = reached.iter().any(|channel| !troubles.contains_key(channel));
    if !hope && !reached.iter().any(|channel| channel == JOURNAL) {
        reached.push(JOURNAL.to_owned());
    }
    reached
}

/// How many channels a critical has reached after this time.
fn escalations(since: Timestamp, now: Timestamp) -> i64 {
    1 + since.duration_until(now).as_secs().max(0) / ESCALATION.as_secs()
}

/// For how long a channel that was told is left in peace.
fn pause(alert: &Alert, told: &Told, level: Level) -> SignedDuration {
    if news(alert, told) { (level.period() / 4).min(NEWS) } else { level.period() }
}

/// Whether anything has become worse, or new, since a channel was told.
fn news(alert: &Alert, told: &Told) -> bool {
    alert.affected.iter().any(|of| of.round > told.round && !alert.covers(of))
}

/// Brings the alerts to what is so now; those that may be over, if it is not sure.
fn take_in(memory: &mut Memory, conditions: Vec<Condition>, sure: bool, now: Timestamp) -> BTreeSet<String> {
    let mut unsure = BTreeSet::new();
    let round = memory.round;
    let mut present: BTreeMap<String, Condition> =
        conditions.into_iter().map(|condition| (condition.cause.clone(), condition)).collect();
    for (id, alert) in &mut memory.alerts {
        match present.remove(&alert.cause) {
            Some(condition) => alert.is_so(condition, round),
            None if sure => drop(alert.gone.get_or_insert(now)),
            None => drop(unsure.insert(id.clone())),
        }
    }
    for (cause, condition) in present {
        let mut alert = Alert {
            cause,
            code: condition.code.clone(),
            since: condition.since.min(now),
            title: String::new(),
            affected: Vec::new(),
            reason: None,
            next: None,
            remedy: None,
            told: BTreeMap::new(),
            critical_since: None,
            ack: None,
            gone: None,
            over: false,
            returns: 0,
        };
        alert.is_so(condition, round);
        let id = name(memory, &alert.cause, now);
        memory.alerts.insert(id, alert);
    }
    unsure
}

impl Alert {
    fn is_so(&mut self, condition: Condition, round: u64) {
        if self.over {
            self.over = false;
            self.returns = self.returns.saturating_add(1);
            self.since = condition.since;
        }
        self.gone = None;
        let before: BTreeMap<&str, (Level, u64)> =
            self.affected.iter().map(|of| (of.key.as_str(), (of.level, of.round))).collect();
        let affected = condition.affected.into_iter().map(|mut of| {
            of.round = match before.get(of.key.as_str()) {
                Some((level, since)) if *level >= of.level => *since,
                _ => round,
            };
            of
        });
        self.affected = affected.collect();
        self.title = condition.title;
        self.reason = condition.reason;
        self.next = condition.next;
        self.remedy = condition.remedy;
    }
}

/// Tells those who were told that it is over, once it has stayed away.
fn announce_ends(memory: &mut Memory, now: Timestamp) {
    let mut posts: Vec<(String, Notice)> = Vec::new();
    for (id, alert) in &mut memory.alerts {
        let stays_away = over_at(alert).is_some_and(|at| at <= now);
        if alert.over || !stays_away {
            continue;
        }
        for channel in alert.told.keys() {
            posts.push((channel.clone(), notice(id, alert, Occasion::Over, now)));
        }
        alert.over = true;
        alert.told.clear();
        alert.ack = None;
        alert.critical_since = None;
    }
    posts.into_iter().for_each(|(channel, notice)| post(memory, channel, notice));
}

/// For how long something must have stayed away to be over: not at all the first time, and longer each time
/// that it comes back within a day.
fn linger(returns: u32) -> SignedDuration {
    match returns {
        0 => SignedDuration::ZERO,
        1..=4 => SignedDuration::from_hours(1_i64 << returns),
        _ => SignedDuration::from_hours(24),
    }
}

/// Channels that certs.toml has no longer: what they should have said others say.
fn forget_channels(memory: &mut Memory, order: &[String]) {
    let known = |channel: &String| channel == JOURNAL || order.contains(channel);
    memory.outbox.retain(|letter| known(&letter.channel));
    memory.troubles.retain(|channel, _| known(channel));
    memory.partly.retain(|channel, _| known(channel));
    memory.alerts.values_mut().for_each(|alert| alert.told.retain(|channel, _| known(channel)));
}

fn notice(id: &str, alert: &Alert, occasion: Occasion, now: Timestamp) -> Notice {
    let over = occasion == Occasion::Over;
    // What somebody has taken on comes last.
    let (covered, open): (Vec<_>, Vec<_>) = alert.affected.iter().partition(|of| alert.covers(of));
    let subjects = open.into_iter().chain(covered).map(|of| of.subject.clone());
    Notice {
        alert: id.to_owned(),
        occasion,
        level: alert.level().filter(|_| !over).unwrap_or_else(|| alert.worst()),
        at: now,
        since: alert.since,
        code: alert.code.clone(),
        title: alert.title.clone(),
        subjects: subjects.take(NAMED).collect(),
        more: alert.affected.len().saturating_sub(NAMED),
        reason: alert.reason.clone().filter(|_| !over),
        next: alert.next.clone().filter(|_| !over),
        remedy: alert
            .remedy
            .as_ref()
            .filter(|_| !over)
            .map(|remedy| remedy.replace("alert ack ID", &format!("alert ack {id}"))),
    }
}

/// A name for a new alert, short enough to be typed, that no other has.
fn name(memory: &Memory, cause: &str, now: Timestamp) -> String {
    let digest = Sha256::new().chain_update(cause).chain_update(now.to_string()).finalize();
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let free = |length: &usize| !memory.alerts.contains_key(&digits[..*length]);
    let length = (6..digits.len()).find(free).unwrap_or(digits.len());
    digits[..length].to_owned()
}

fn times(time: SignedDuration, count: i64) -> SignedDuration {
    SignedDuration::from_secs(time.as_secs().saturating_mul(count))
}
