//! When the daemon's next pass begins. Wall clocks jump, monotonic ones stand still in suspend: both are asked.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::schedule::after;

/// No fact brings the next pass nearer to the end of the last.
const FLOOR: SignedDuration = SignedDuration::from_mins(1);
/// Nor does a clock that is set again and again.
const BREATH: SignedDuration = SignedDuration::from_secs(10);

/// The time between two passes.
#[derive(Debug, Clone, PartialEq)]
pub struct Rest {
    /// When the last pass ended.
    pub ended: Timestamp,
    /// When the next one begins.
    pub next: Timestamp,
    /// The longest it may last, whatever the wall clock says.
    longest: SignedDuration,
}

impl Rest {
    /// The rest after a pass that lasted from `began` to `ended`. The next one begins an `interval` after the
    /// last began, earlier if something is due at `wake`. By `share` (of one) that is shortened by up to a
    /// twentieth, so that daemons that were started together part.
    pub fn after(
        began: Timestamp,
        ended: Timestamp,
        interval: SignedDuration,
        wake: Option<Timestamp>,
        share: f64,
    ) -> Self {
        let longest = interval.mul_f64(1.0 - share.clamp(0.0, 1.0) / 20.0);
        let regular = after(began, longest);
        let next = wake.map_or(regular, |wake| wake.min(regular)).max(after(ended, FLOOR.min(longest)));
        Self { ended, next, longest }
    }

    /// Whether it is over, at `now` and after having `rested` by a clock that nobody can set.
    pub fn is_over(&self, now: Timestamp, rested: SignedDuration) -> bool {
        // What was found by a clock that has been set back since may be wrong.
        let set_back = now < self.ended;
        rested >= BREATH.min(self.longest) && (now >= self.next || set_back || rested >= self.longest)
    }

    /// How long to wait until asking again, by a clock that nobody can set; at most `longest`.
    pub fn nap(&self, now: Timestamp, longest: SignedDuration) -> SignedDuration {
        // Never nothing: what is left to wait for may be the breath.
        now.duration_until(self.next).min(longest).max(SignedDuration::from_millis(100))
    }
}

/// A share of one that belongs to a name: the same after every restart, evenly spread over names.
pub fn share(name: &str) -> f64 {
    let digest = Sha256::digest(name);
    let head = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    f64::from(head) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn rest(wake: Option<i64>) -> Rest {
        Rest::after(at(0), at(30), HOUR, wake.map(at), 0.0)
    }

    fn over(rest: &Rest, now: i64, rested: i64) -> bool {
        rest.is_over(at(now), SignedDuration::from_secs(rested))
    }

    #[test]
    fn passes_begin_an_interval_apart_or_when_something_is_due() {
        assert_eq!(rest(None).next, at(3600));
        assert_eq!(rest(Some(600)).next, at(600));
        assert_eq!(rest(Some(90_000)).next, at(3600));
        assert!(!over(&rest(None), 3599, 3569) && over(&rest(None), 3600, 3570));
    }

    #[test]
    fn no_fact_makes_it_run_without_end() {
        for wake in [-1_000_000, 0, 30, 31, 89] {
            assert_eq!(rest(Some(wake)).next, at(90));
        }
        let long = Rest::after(at(0), at(10_000), HOUR, None, 0.0);
        assert_eq!(long.next, at(10_060), "a pass that took longer than the interval");
    }

    #[test]
    fn a_clock_that_jumps_ends_the_rest_but_not_at_once() {
        let rest = rest(None);
        for jump in [60 * 86_400, -400 * 86_400, -31] {
            assert!(!over(&rest, 35 + jump, 5), "{jump}");
            assert!(over(&rest, 45 + jump, 15), "{jump}");
        }
        // Slow by less than what has passed: nothing that was found is wrong.
        assert!(!over(&rest, 45 - 10, 15));
    }

    #[test]
    fn a_clock_that_stands_still_does_not_stop_it() {
        assert!(!over(&rest(None), 31, 3599) && over(&rest(None), 31, 3600));
    }

    #[test]
    fn it_never_sleeps_long_nor_not_at_all() {
        let nap = |now| rest(None).nap(at(now), SignedDuration::from_mins(1));
        assert_eq!(nap(100), SignedDuration::from_mins(1));
        assert_eq!(nap(3590), SignedDuration::from_secs(10));
        assert_eq!(nap(-400 * 86_400), SignedDuration::from_mins(1));
        assert_eq!(nap(90_000), SignedDuration::from_millis(100));
    }

    #[test]
    fn daemons_that_were_started_together_part() {
        let next = |name: &str| Rest::after(at(0), at(30), HOUR, None, share(name)).next;
        assert_ne!(next("controller-1"), next("controller-2"));
        for name in ["a", "b", "c", "d", ""] {
            assert!((at(3420)..=at(3600)).contains(&next(name)), "{name}");
        }
    }
}
