//! When to renew and when to try again. All of it in fractions of the certificate's life:
//! lifetimes shrink (90 days, 45, 160 hours), fixed days would break.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::desired::{Certificate, Margin};
use super::name::{CertName, Fingerprint};
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
    if let Some(margin) = certificate.renew_before {
        let margin = match margin {
            Margin::Time(time) => time,
            Margin::Fraction(fraction) => life.mul_f64(fraction),
        };
        // A margin as long as the life would renew without end.
        return (before(version.not_after, margin.min(life.mul_f64(0.9))), Rule::RenewBefore);
    }
    let window = info.filter(|info| info.fingerprint == version.fingerprint).and_then(|info| {
        let (start, end) = info.window?;
        let chosen =
            after(start, start.duration_until(end).mul_f64(share(&certificate.name, &version.fingerprint)));
        Some((chosen, info.explanation.clone()))
    });
    match window {
        // The actual end outranks a CA that suggests too late a window.
        Some((chosen, why)) => (chosen.min(before(version.not_after, life / 4)), Rule::Ari(why)),
        None => {
            let left = if life < SignedDuration::from_hours(240) { life / 2 } else { life / 3 };
            // Spread a fleet issued in one hour over a fiftieth of its life.
            let spread = life.mul_f64(share(&certificate.name, &version.fingerprint) / 50.0);
            (before(version.not_after, left + spread), Rule::Lifetime)
        }
    }
}

/// The whole validity of a version.
pub fn life(version: &Version) -> SignedDuration {
    version.not_before.duration_until(version.not_after)
}

/// When a failed operation may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextAttempt {
    /// From this moment.
    At(Timestamp),
    /// When certs.toml has changed, or by `--force`.
    AfterChange,
}

/// The next attempt at issuing: 1, 10, 100 minutes, then daily; hourly when the certificate
/// in use is in the last twelfth of its life. The CA's Retry-After is always kept.
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
            NextAttempt::At(own.max(asked.min(after(failure.last, SignedDuration::from_hours(24)))))
        }
        Retry::AfterChange => NextAttempt::AfterChange,
    }
}

/// How many certificates for one exact set of names a CA issues in which time, where known:
/// Let's Encrypt allows 5 in 7 days (its rate limit page, 2026-08).
pub fn duplicate_limit(directory: &str) -> Option<(usize, SignedDuration)> {
    let host = directory.strip_prefix("https://")?.split(['/', ':']).next()?;
    (host == "acme-v02.api.letsencrypt.org").then_some((5, SignedDuration::from_hours(7 * 24)))
}

/// A share of one that belongs to this version: the same in every process and after every
/// restart, evenly spread over a fleet.
fn share(name: &CertName, fingerprint: &Fingerprint) -> f64 {
    let digest = Sha256::new().chain_update(name.as_str()).chain_update(fingerprint.0).finalize();
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
