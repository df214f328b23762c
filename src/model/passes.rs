//! When passes ended: how old what we know is, and whether somebody still makes them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::history::How;

/// The last passes, by what had them run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Passes(BTreeMap<How, Ended>);

/// The last passes that one of them made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ended {
    /// The end of the last, of whatever kind.
    pub last: Timestamp,
    /// The end of the last complete one: over all certificates and hosts, and not interrupted. That
    /// something failed in it makes it no less complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<Timestamp>,
    /// How many seconds lay between that and the complete one before, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<i64>,
}

impl Passes {
    /// Notes the end of a pass. Ends that have not come yet were noted by a clock that was ahead: left as they are
    /// they would be silence until then.
    pub fn note(&mut self, how: How, at: Timestamp, complete: bool) {
        for ended in self.0.values_mut() {
            ended.last = ended.last.min(at);
            ended.complete = ended.complete.map(|complete| complete.min(at));
        }
        let before = self.by(how);
        let ended = before
            .map_or(Ended { last: at, complete: None, gap: None }, |before| Ended { last: at, ..before });
        self.0.insert(
            how,
            match complete {
                true => Ended {
                    complete: Some(at),
                    gap: ended.complete.map(|before| before.duration_until(at).as_secs()),
                    ..ended
                },
                false => ended,
            },
        );
    }

    /// No longer waits for those that this one makes: it was removed for good.
    pub fn forget(&mut self, how: How) {
        self.0.remove(&how);
    }

    /// The last ones that this one made.
    pub fn by(&self, how: How) -> Option<Ended> {
        self.0.get(&how).copied()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (How, Ended)> + '_ {
        self.0.iter().map(|(how, ended)| (*how, *ended))
    }

    /// The last complete pass of all.
    pub fn last_complete(&self) -> Option<(How, Timestamp)> {
        self.iter().filter_map(|(how, ended)| Some((how, ended.complete?))).max_by_key(|(_, at)| *at)
    }

    /// Since when nobody has made a complete pass unasked; `None` when somebody does. The daemon makes one every
    /// `interval`.
    ///
    /// Where daemon or timer have ever run, somebody at the command line does not stand in for them.
    pub fn silent_since(&self, interval: SignedDuration, now: Timestamp) -> Option<Silence> {
        let unasked = UNASKED.into_iter().filter(|how| self.0.contains_key(how));
        let silences = unasked.map(|how| self.silence(how, interval, now));
        match silences.reduce(|one, other| one.and_then(|one| Some(one.max(other?)))) {
            Some(silence) => silence,
            None => self.silence(How::Cli, interval, now),
        }
    }

    /// Daemon and timer, where they make no passes any more, and since when. One that never got through a single
    /// one may never have been meant to.
    pub fn dead(&self, interval: SignedDuration, now: Timestamp) -> Vec<(How, Timestamp)> {
        let dead = |how| match self.silence(how, interval, now)? {
            Silence::Since(at) => Some((how, at)),
            Silence::Ever => None,
        };
        UNASKED.into_iter().filter_map(dead).collect()
    }

    /// Since when this one has made no complete pass; `None` when it does.
    fn silence(&self, how: How, interval: SignedDuration, now: Timestamp) -> Option<Silence> {
        let Some(at) = self.by(how).and_then(|ended| ended.complete) else { return Some(Silence::Ever) };
        (at.duration_until(now) > self.patience(how, interval)).then_some(Silence::Since(at))
    }

    /// After how long without a complete pass this one makes none any more: three of them were missed, and with less
    /// than three hours one may still be under way, or the machine may have slept. How often a timer makes one shows
    /// in its last two.
    fn patience(&self, how: How, interval: SignedDuration) -> SignedDuration {
        let between = match how {
            How::Daemon | How::Cli => interval,
            How::Timer => {
                let gap = self.by(how).and_then(|ended| ended.gap).map(SignedDuration::from_secs);
                gap.map_or(interval, |gap| gap.min(RAREST))
            }
        };
        between.saturating_mul(3).max(SignedDuration::from_hours(3))
    }
}

/// Those who make passes without being asked each time.
const UNASKED: [How; 2] = [How::Daemon, How::Timer];
/// More between two passes is an absence.
const RAREST: SignedDuration = SignedDuration::from_hours(48);

/// How long nobody has made a complete pass; the shorter is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Silence {
    /// Never, as far as we know.
    Ever,
    /// Not since this moment.
    Since(Timestamp),
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3600).unwrap()
    }

    #[test]
    fn an_incomplete_pass_leaves_the_complete_one() {
        let mut passes = Passes::default();
        passes.note(How::Daemon, at(1), true);
        passes.note(How::Daemon, at(2), false);
        assert_eq!(passes.by(How::Daemon), Some(Ended { last: at(2), complete: Some(at(1)), gap: None }));
        passes.note(How::Daemon, at(3), true);
        assert_eq!(
            passes.by(How::Daemon),
            Some(Ended { last: at(3), complete: Some(at(3)), gap: Some(7200) })
        );
        passes.note(How::Cli, at(4), true);
        assert_eq!(passes.last_complete(), Some((How::Cli, at(4))));
    }

    #[test]
    fn a_person_does_not_stand_in_for_a_daemon_that_died() {
        let mut passes = Passes::default();
        assert_eq!(passes.silent_since(HOUR, at(10)), Some(Silence::Ever));
        passes.note(How::Cli, at(9), true);
        assert_eq!(passes.silent_since(HOUR, at(12)), None);
        assert_eq!(passes.silent_since(HOUR, at(13)), Some(Silence::Since(at(9))));
        passes.note(How::Daemon, at(15), true);
        passes.note(How::Cli, at(19), true);
        assert_eq!(passes.silent_since(HOUR, at(20)), Some(Silence::Since(at(15))));
        assert_eq!(passes.silent_since(2 * HOUR, at(20)), None, "three passes, when they are rarer");
        passes.note(How::Timer, at(18), true);
        assert_eq!(passes.silent_since(HOUR, at(20)), None);
        assert_eq!(passes.dead(HOUR, at(20)), [(How::Daemon, at(15))]);
        passes.forget(How::Daemon);
        assert_eq!(passes.dead(HOUR, at(20)), []);
    }

    #[test]
    fn a_timer_is_waited_for_as_often_as_it_came() {
        let mut passes = Passes::default();
        passes.note(How::Timer, at(0), true);
        assert_eq!(passes.dead(HOUR, at(3)), []);
        assert_eq!(passes.dead(HOUR, at(4)), [(How::Timer, at(0))], "nobody knows yet how often it comes");
        passes.note(How::Timer, at(24), true);
        assert_eq!(passes.dead(HOUR, at(24 + 72)), []);
        assert_eq!(passes.dead(HOUR, at(24 + 73)), [(How::Timer, at(24))]);
        passes.note(How::Timer, at(25), true);
        assert_eq!(passes.dead(HOUR, at(25 + 4)), [(How::Timer, at(25))]);
        passes.note(How::Timer, at(1000), true);
        assert_eq!(passes.dead(HOUR, at(1000 + 145)), [(How::Timer, at(1000))], "it had been away");
    }

    #[test]
    fn a_daemon_that_never_got_through_is_silent() {
        let mut passes = Passes::default();
        passes.note(How::Daemon, at(9), false);
        passes.note(How::Cli, at(9), true);
        assert_eq!(passes.silent_since(HOUR, at(9)), Some(Silence::Ever));
        assert_eq!(passes.dead(HOUR, at(9)), []);
    }

    #[test]
    fn ends_that_have_not_come_yet_are_no_silence() {
        let mut passes = Passes::default();
        passes.note(How::Daemon, at(1000), true);
        passes.note(How::Timer, at(2), true);
        assert_eq!(passes.dead(HOUR, at(5)), []);
        assert_eq!(passes.dead(HOUR, at(6)), [(How::Daemon, at(2)), (How::Timer, at(2))]);
    }
}
