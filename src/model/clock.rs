//! Our clock beside that of others.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Above the drift of clocks that are kept by NTP.
pub const OFF: SignedDuration = SignedDuration::from_mins(5);
/// By as much do CAs date certificates back.
pub const FAR_OFF: SignedDuration = SignedDuration::from_hours(1);
/// What was read longer ago says nothing any more.
const OLD: SignedDuration = SignedDuration::from_hours(48);

/// What time it was here and elsewhere at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reading {
    /// By our clock.
    pub here: Timestamp,
    /// By theirs, to the second.
    pub there: Timestamp,
}

impl Reading {
    /// How far our clock is ahead of theirs.
    pub fn ahead(&self) -> SignedDuration {
        self.there.duration_until(self.here)
    }

    /// How far the clocks differ.
    pub fn apart(&self) -> SignedDuration {
        self.ahead().abs()
    }

    /// Whether it still says something at `now`: a moment that has not come yet was read by a clock that has been set
    /// since.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.here <= now && self.here.duration_until(now) < OLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_is_read_anew() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let reading = Reading { here: at(7200), there: at(0) };
        assert_eq!(
            (reading.apart(), reading.ahead()),
            (SignedDuration::from_hours(2), SignedDuration::from_hours(2))
        );
        assert!(reading.holds(at(7200)) && reading.holds(at(7200 + 3600)));
        assert!(!reading.holds(at(100)) && !reading.holds(at(7200 + 48 * 3600)));
    }
}
