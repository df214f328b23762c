//! When passes ended: how old what we know is, and whether somebody still makes them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::history::How;

/// After how long without a complete pass nobody makes any: three of them were missed, and with less than three
/// hours one may still be under way, or the machine may have slept.
pub fn patience(interval: SignedDuration) -> SignedDuration {
    interval.saturating_mul(3).max(SignedDuration::from_hours(3))
}

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
}

impl Passes {
    /// Notes the end of a pass.
    pub fn note(&mut self, how: How, at: Timestamp, complete: bool) {
        let before = self.0.get(&how).and_then(|ended| ended.complete);
        self.0.insert(how, Ended { last: at, complete: if complete { Some(at) } else { before } });
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

    /// Since when nobody has made a complete pass unasked; `None` when somebody does.
    ///
    /// Where daemon or timer have ever run, somebody at the command line does not stand in for them.
    pub fn silent_since(&self, now: Timestamp, patience: SignedDuration) -> Option<Silence> {
        let unasked = [How::Daemon, How::Timer].into_iter().filter_map(|how| self.by(how));
        let newest = unasked.map(|ended| ended.complete).max().unwrap_or_else(|| {
            let by_hand = self.by(How::Cli);
            by_hand.and_then(|ended| ended.complete)
        });
        match newest {
            Some(at) if at.duration_until(now) <= patience => None,
            Some(at) => Some(Silence::Since(at)),
            None => Some(Silence::Ever),
        }
    }
}

/// How long nobody has made a complete pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// Not since this moment.
    Since(Timestamp),
    /// Never, as far as we know.
    Ever,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3600).unwrap()
    }

    #[test]
    fn an_incomplete_pass_leaves_the_complete_one() {
        let mut passes = Passes::default();
        passes.note(How::Daemon, at(1), true);
        passes.note(How::Daemon, at(2), false);
        assert_eq!(passes.by(How::Daemon), Some(Ended { last: at(2), complete: Some(at(1)) }));
        passes.note(How::Cli, at(3), true);
        assert_eq!(passes.last_complete(), Some((How::Cli, at(3))));
    }

    #[test]
    fn a_person_does_not_stand_in_for_a_daemon_that_died() {
        let mut passes = Passes::default();
        assert_eq!(passes.silent_since(at(10), patience(SignedDuration::ZERO)), Some(Silence::Ever));
        passes.note(How::Cli, at(9), true);
        assert_eq!(passes.silent_since(at(10), patience(SignedDuration::ZERO)), None);
        assert_eq!(passes.silent_since(at(13), patience(SignedDuration::ZERO)), Some(Silence::Since(at(9))));
        passes.note(How::Daemon, at(5), true);
        assert_eq!(passes.silent_since(at(10), patience(SignedDuration::ZERO)), Some(Silence::Since(at(5))));
        passes.note(How::Timer, at(8), true);
        assert_eq!(passes.silent_since(at(10), patience(SignedDuration::ZERO)), None);
        passes.note(How::Timer, at(20), false);
        assert_eq!(passes.silent_since(at(20), patience(SignedDuration::ZERO)), Some(Silence::Since(at(8))));
    }

    #[test]
    fn a_daemon_that_never_got_through_is_silent() {
        let mut passes = Passes::default();
        passes.note(How::Daemon, at(9), false);
        passes.note(How::Cli, at(9), true);
        assert_eq!(passes.silent_since(at(9), patience(SignedDuration::ZERO)), Some(Silence::Ever));
    }
}
