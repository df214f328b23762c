//! When to renew and when to try again. All of it in fractions of the certificate's life:
//! lifetimes shrink (90 days, 45, 160 hours), fixed days would break.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::desired::{Certificate, Margin};
use super::problem::Retry;
use super::state::{Failure, RenewalInfo, Version};

/// Why a certificate renews when it does.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// The CA's window (RFC 9773), with its explanation where it gives one.
    Ari(Option<String>),
    /// A share of the life is left.
    Lifetime,
    /// `renew-before` in certs.toml.
    RenewBefore,
}

/// The moment from which a version is due for renewal, and by which rule.
pub fn renews_at(
    certificate: &Certificate,
    version: &Version,
    info: Option<&RenewalInfo>,
) -> (Timestamp, Rule) {
    let life = life(version);
    let (at, rule) = match (certificate.renew_before, window(version, info)) {
        (Some(margin), _) => {
            let margin = match margin {
                Margin::Time(time) => time,
                Margin::Fraction(fraction) => life.mul_f64(fraction.clamp(0.0, 1.0)),
            };
            // A margin as long as the life would renew without end.
            (before(version.not_after, margin.min(life.mul_f64(0.9))), Rule::RenewBefore)
        }
        (None, Some((start, end, explanation))) => {
            let chosen = after(start, start.duration_until(end).mul_f64(share(certificate, version)));
            // A CA whose windows are always in the past would have us issue without end; one that
            // suggests too late a window is outranked by the actual end.
            let earliest = after(version.not_before, breather(version));
            let latest = before(version.not_after, life / 4);
            (chosen.max(earliest).min(latest), Rule::Ari(explanation))
        }
        (None, None) => {
            let left = if life < SignedDuration::from_hours(240) { life / 2 } else { life / 3 };
            // Spread a fleet issued in one hour over a fiftieth of its life.
            let spread = life.mul_f64(share(certificate, version) / 50.0);
            (before(version.not_after, left + spread), Rule::Lifetime)
        }
    };
    (at.min(version.not_after), rule)
}

/// No schedule replaces what was issued just before: by a clock that is months ahead of the CA's everything is
/// due the moment that it comes.
pub fn settled_at(version: &Version, now: Timestamp) -> Timestamp {
    // By a clock that has been set back since, it says nothing.
    if version.issued_at > now { Timestamp::MIN } else { after(version.issued_at, breather(version)) }
}

/// The CA's window, when it speaks of this version.
fn window(version: &Version, info: Option<&RenewalInfo>) -> Option<(Timestamp, Timestamp, Option<String>)> {
    let info = info.filter(|info| info.fingerprint == version.fingerprint)?;
    let (start, end) = info.window.filter(|(start, end)| start <= end)?;
    Some((start, end, info.explanation.clone()))
}

/// How long a version is used at least.
fn breather(version: &Version) -> SignedDuration {
    (life(version) / 20).min(SignedDuration::from_hours(6))
}

/// The whole validity of a version; never negative.
pub fn life(version: &Version) -> SignedDuration {
    version.not_before.duration_until(version.not_after).max(SignedDuration::ZERO)
}

/// When a failed operation may be tried again, from early to late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextAttempt {
    /// From this moment.
    At(Timestamp),
    /// When certs.toml has changed, or by `--force`.
    AfterChange,
}

/// The next attempt at issuing: 1, 10, 100 minutes, then daily; hourly when the certificate
/// in use is in the last twelfth of its life. The CA's Retry-After is kept, up to a week.
pub fn next_attempt(failure: &Failure, revision: &str, newest: Option<&Version>) -> NextAttempt {
    if failure.revision != revision {
        return NextAttempt::At(failure.last);
    }
    let mut pause = SignedDuration::from_mins(match failure.count {
        0 | 1 => 1,
        2 => 10,
        3 => 100,
        _ => 24 * 60,
    });
    if newest
        .is_some_and(|version| before(version.not_after, life(version) / 12) <= after(failure.last, pause))
    {
        pause = pause.min(SignedDuration::from_hours(1));
    }
    let own = after(failure.last, pause);
    match failure.problem.retry {
        Retry::Backoff => NextAttempt::At(own),
        Retry::NotBefore(asked) => {
            NextAttempt::At(own.max(asked.min(after(failure.last, LONGEST_RETRY_AFTER))))
        }
        Retry::AfterChange => NextAttempt::AfterChange,
    }
}

/// No known CA counts over more than a week (Let's Encrypt's longest limit); a time far in the
/// future is a mistake or an attack.
const LONGEST_RETRY_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// When the end of a life is so close that nothing is held back any more: 48 hours, but at least the last twelfth of
/// it, and never more than the last quarter.
pub fn emergency(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    let life = not_before.duration_until(not_after);
    before(not_after, (life / 12).max(SignedDuration::from_hours(48)).min(life / 4))
}

/// How many certificates for one exact set of names a CA issues in which time, where known:
/// Let's Encrypt allows 5 in 7 days (its rate limit page, 2026-08).
pub fn duplicate_limit(directory: &str) -> Option<(usize, SignedDuration)> {
    let host = directory.strip_prefix("https://")?.split(['/', ':']).next()?;
    (host == "acme-v02.api.letsencrypt.org").then_some((5, SignedDuration::from_hours(7 * 24)))
}

/// A share of one that belongs to this version: the same in every process and after every
/// restart, evenly spread over a fleet.
fn share(certificate: &Certificate, version: &Version) -> f64 {
    let digest =
        Sha256::new().chain_update(certificate.name.as_str()).chain_update(version.fingerprint.0).finalize();
    let head = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    f64::from(head) / (f64::from(u32::MAX) + 1.0)
}

fn before(at: Timestamp, time: SignedDuration) -> Timestamp {
    at.checked_sub(time).unwrap_or(Timestamp::MIN)
}

/// `at` and `time` later, or the end of the calendar.
pub fn after(at: Timestamp, time: SignedDuration) -> Timestamp {
    at.checked_add(time).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::KeyType;
    use crate::model::name::{Domain, Fingerprint};
    use crate::model::problem::{Blame, Problem};

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn certificate(renew_before: Option<Margin>) -> Certificate {
        let domain: Domain = "shop.example.org".parse().unwrap();
        Certificate {
            name: domain.default_cert_name(),
            domains: vec![domain],
            issuer: "ca".parse().unwrap(),
            fallback: Vec::new(),
            dns: "zone".parse().unwrap(),
            hosts: Vec::new(),
            key: KeyType::default(),
            rollout: None,
            reuse_key: false,
            profile: None,
            preferred_chain: None,
            verify_names: Vec::new(),
            renew_before,
            revision: "1".to_owned(),
        }
    }

    fn version(from: i64, to: i64) -> Version {
        Version {
            domains: certificate(None).domains,
            issuer: "ca".parse().unwrap(),
            directory: "https://ca.example/directory".to_owned(),
            key: KeyType::default(),
            serial: "01".to_owned(),
            fingerprint: Fingerprint::of(b"1"),
            not_before: at(from),
            not_after: at(to),
            issued_at: at(from),
            ari_id: None,
            revoked: None,
        }
    }

    fn suggestion(window: (i64, i64)) -> RenewalInfo {
        RenewalInfo {
            fingerprint: Fingerprint::of(b"1"),
            window: Some((at(window.0), at(window.1))),
            explanation: None,
            ask_again: at(0),
        }
    }

    fn renews(renew_before: Option<Margin>, to: i64, window: Option<(i64, i64)>) -> i64 {
        let info = window.map(suggestion);
        renews_at(&certificate(renew_before), &version(0, to), info.as_ref()).0.as_second()
    }

    #[test]
    fn a_third_of_a_long_life_and_half_of_a_short_one_are_left() {
        for (life, left) in [(90 * DAY, 30 * DAY), (45 * DAY, 15 * DAY), (160 * HOUR, 80 * HOUR), (60, 30)] {
            let due = renews(None, life, None);
            let latest = life - left;
            assert!((latest - life / 50 - 1..=latest).contains(&due), "a life of {life} s renews at {due}");
        }
    }

    #[test]
    fn a_fleet_is_spread() {
        let due = |fingerprint: u8| {
            let version = Version { fingerprint: Fingerprint([fingerprint; 32]), ..version(0, 90 * DAY) };
            renews_at(&certificate(None), &version, None).0
        };
        let moments: std::collections::BTreeSet<_> = (0..20).map(due).collect();
        assert!(moments.len() > 15);
    }

    #[test]
    fn what_was_issued_just_before_is_kept_by_a_clock_that_is_ahead() {
        let ahead = Version { issued_at: at(61 * DAY), ..version(0, 90 * DAY) };
        assert_eq!(settled_at(&ahead, at(61 * DAY)), at(61 * DAY + 6 * HOUR));
        // The clock is right again.
        assert_eq!(settled_at(&ahead, at(HOUR)), Timestamp::MIN);
        let honest = version(0, 90 * DAY);
        assert!(settled_at(&honest, at(DAY)) < renews_at(&certificate(None), &honest, None).0);
    }

    #[test]
    fn rfc9773_4_2_picks_a_time_inside_the_window() {
        let due = renews(None, 90 * DAY, Some((20 * DAY, 22 * DAY)));
        assert!((20 * DAY..22 * DAY).contains(&due));
    }

    #[test]
    fn the_actual_end_outranks_too_late_a_window() {
        assert_eq!(renews(None, 80 * DAY, Some((100 * DAY, 101 * DAY))), 60 * DAY);
    }

    #[test]
    fn a_window_that_is_always_in_the_past_does_not_issue_without_end() {
        assert_eq!(renews(None, 90 * DAY, Some((-10, -5))), 6 * HOUR);
        assert_eq!(renews(None, 100, Some((-10, -5))), 5);
    }

    #[test]
    fn a_window_that_ends_before_it_starts_is_none() {
        assert_eq!(renews(None, 90 * DAY, Some((22 * DAY, 20 * DAY))), renews(None, 90 * DAY, None));
    }

    #[test]
    fn renew_before_outranks_the_window() {
        let window = Some((20 * DAY, 22 * DAY));
        let time = Margin::Time(SignedDuration::from_hours(10 * 24));
        assert_eq!(renews(Some(time), 90 * DAY, window), 80 * DAY);
        assert_eq!(renews(Some(Margin::Fraction(0.5)), 90 * DAY, window), 45 * DAY);
    }

    #[test]
    fn a_margin_longer_than_the_life_leaves_a_tenth_of_it() {
        let time = Margin::Time(SignedDuration::from_hours(60 * 24));
        assert_eq!(renews(Some(time), 10 * DAY, None), DAY);
    }

    #[test]
    fn no_rule_waits_beyond_the_end() {
        let (at, _) = renews_at(&certificate(None), &version(10 * DAY, DAY), None);
        assert_eq!(at.as_second(), DAY);
        assert_eq!(renews(Some(Margin::Time(SignedDuration::from_secs(-5))), DAY, None), DAY);
    }

    fn next(count: u32, retry: Retry, newest: Option<&Version>) -> Option<i64> {
        let problem = Problem {
            code: "acme.refused".to_owned(),
            blame: Blame::Issuer,
            retry,
            message: String::new(),
            causes: Vec::new(),
            hint: None,
        };
        let failure = Failure { count, first: at(0), last: at(0), problem, revision: "1".to_owned() };
        match next_attempt(&failure, "1", newest) {
            NextAttempt::At(at) => Some(at.as_second()),
            NextAttempt::AfterChange => None,
        }
    }

    #[test]
    fn attempts_are_1_10_100_minutes_apart_then_daily() {
        let pauses = [1, 2, 3, 4, 5, u32::MAX].map(|count| next(count, Retry::Backoff, None));
        assert_eq!(pauses, [60, 600, 6000, DAY, DAY, DAY].map(Some));
    }

    #[test]
    fn attempts_are_hourly_near_the_end() {
        let ending = version(-84 * DAY, 6 * DAY);
        let pauses = [1, 2, 3, 9].map(|count| next(count, Retry::Backoff, Some(&ending)));
        assert_eq!(pauses, [60, 600, HOUR, HOUR].map(Some));
        let good = version(-60 * DAY, 30 * DAY);
        assert_eq!(next(9, Retry::Backoff, Some(&good)), Some(DAY));
    }

    #[test]
    fn retry_after_is_kept_up_to_a_week_even_near_the_end() {
        let ending = version(-89 * DAY, DAY);
        assert_eq!(next(1, Retry::NotBefore(at(3 * DAY)), Some(&ending)), Some(3 * DAY));
        assert_eq!(next(4, Retry::NotBefore(at(30)), None), Some(DAY));
        assert_eq!(next(1, Retry::NotBefore(Timestamp::MAX), None), Some(7 * DAY));
    }

    #[test]
    fn what_a_change_must_mend_waits_for_the_change() {
        assert_eq!(next(1, Retry::AfterChange, None), None);
    }
}
