//! The outbox: nothing leaves it but by being delivered, or because something newer says more.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{Letter, Memory, Notice, Occasion, Trouble};
use crate::model::problem::{Problem, Retry};
use crate::model::schedule::after;

/// The longest pause between two attempts; shorter before: 1, 2, 4, 8 minutes.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(15);
/// What a channel may ask for at most.
const LONGEST_WISH: SignedDuration = SignedDuration::from_hours(1);

/// The latest moment that anything may wait for.
pub(super) fn latest(now: Timestamp) -> Timestamp {
    after(now, LONGEST_WISH)
}

/// Puts a notice into the outbox, in the place of an older one of the same alert: who has not been reached for a
/// day gets one message, not twenty-four.
pub(super) fn post(memory: &mut Memory, channel: String, notice: Notice) {
    let waiting = memory
        .outbox
        .iter_mut()
        .find(|letter| letter.channel == channel && letter.notice.alert == notice.alert);
    let Some(letter) = waiting else {
        let letter = Letter { channel, notice, attempts: 0, not_before: None, problem: None };
        return memory.outbox.push(letter);
    };
    let occasion = match (letter.notice.occasion, notice.occasion) {
        // Nobody there has heard of it yet.
        (first @ (Occasion::Raised | Occasion::Escalated), Occasion::Repeated | Occasion::Worsened) => first,
        (Occasion::Worsened, Occasion::Repeated) => Occasion::Worsened,
        (_, newer) => newer,
    };
    letter.notice = Notice { occasion, ..notice };
}

/// What may be tried now, the worst first.
pub fn due_letters(memory: &Memory, now: Timestamp) -> Vec<Letter> {
    let due = |letter: &&Letter| letter.not_before.is_none_or(|at| at <= now);
    let mut letters: Vec<Letter> = memory.outbox.iter().filter(due).cloned().collect();
    letters.sort_by_key(|letter| std::cmp::Reverse(letter.notice.level));
    letters
}

/// When the next letter may be tried.
pub fn next_letter(memory: &Memory) -> Option<Timestamp> {
    memory.outbox.iter().map(|letter| letter.not_before.unwrap_or(Timestamp::MIN)).min()
}

/// A letter has arrived.
pub fn delivered(memory: &mut Memory, channel: &str, alert: &str, now: Timestamp) {
    memory.outbox.retain(|letter| !(letter.channel == channel && letter.notice.alert == alert));
    memory.troubles.remove(channel);
    if let Some(told) = memory.alerts.get_mut(alert).and_then(|alert| alert.told.get_mut(channel)) {
        told.at = now;
    }
}

/// A channel has delivered something: to all, or not to those of whom the problem speaks.
pub fn reached(memory: &mut Memory, channel: &str, missed: Option<&Problem>, now: Timestamp) {
    match missed {
        None => drop(memory.partly.remove(channel)),
        Some(problem) => note(&mut memory.partly, channel, problem, now),
    }
}

/// A letter has not arrived; without a problem it was not even tried, since the channel does not work.
pub fn failed(memory: &mut Memory, channel: &str, alert: &str, problem: Option<&Problem>, now: Timestamp) {
    let found =
        memory.outbox.iter_mut().find(|letter| letter.channel == channel && letter.notice.alert == alert);
    let Some(letter) = found else { return };
    if problem.is_some() {
        letter.attempts = letter.attempts.saturating_add(1);
        letter.problem = problem.cloned();
    }
    let pause =
        SignedDuration::from_mins(1_i64 << letter.attempts.saturating_sub(1).min(4)).min(LONGEST_PAUSE);
    let own = after(now, pause);
    letter.not_before = Some(match problem.map(|problem| problem.retry) {
        Some(Retry::NotBefore(asked)) => own.max(asked.min(latest(now))),
        _ => own,
    });
    let Some(problem) = problem else { return };
    note(&mut memory.troubles, channel, problem, now);
}

fn note(troubles: &mut BTreeMap<String, Trouble>, channel: &str, problem: &Problem, now: Timestamp) {
    let new = || Trouble { since: now, failures: 0, problem: problem.clone() };
    let trouble = troubles.entry(channel.to_owned()).or_insert_with(new);
    trouble.failures = trouble.failures.saturating_add(1);
    trouble.problem = problem.clone();
}
