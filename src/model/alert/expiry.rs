//! What ends soon, in fractions of its own life: fixed days would break as lives shrink.

use jiff::{SignedDuration, Timestamp};

use super::finding::{Circumstances, Finding, problem_of};
use super::{Level, Memory};
use crate::model::cert::ChainEnd;
use crate::model::desired::Certificate;
use crate::model::name::{Fingerprint, HostName};
use crate::model::observed::{Seen, Served};
use crate::model::plan::minute;
use crate::model::report::{CertReport, days_left};
use crate::model::schedule;
use crate::model::state::CertState;

/// How bad it is that a life from then to then is not renewed by now: a warning from the last quarter on, critical
/// from the last sixth, an emergency from the last twelfth or 48 hours, where the life is long enough for that.
pub fn level_of(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> Option<Level> {
    level(not_before.duration_until(not_after), now.duration_until(not_after))
}

/// From how much time left on each level holds, for a certificate of this life; the worst first.
pub fn limits(life: SignedDuration) -> [(Level, SignedDuration); 3] {
    let life = life.max(SignedDuration::ZERO);
    let emergency = (life / 12).max(SignedDuration::from_hours(48)).min(life / 4);
    [(Level::Emergency, emergency), (Level::Critical, life / 6), (Level::Warning, life / 4)]
}

/// How urgent it is when so much of a life is left.
pub fn level(life: SignedDuration, left: SignedDuration) -> Option<Level> {
    let holds = |(_, limit): &(Level, SignedDuration)| left <= *limit || left <= SignedDuration::ZERO;
    limits(life).into_iter().find(holds).map(|(level, _)| level)
}

/// The newest version of a certificate, and with it every host that serves it.
pub(super) fn stored(
    facts: &Circumstances<'_>,
    memory: &Memory,
    certificate: &Certificate,
    known: &CertState,
    report: &CertReport,
) -> Option<Finding> {
    let (number, version) = known.newest()?;
    let now = facts.now;
    let sight = Sight::of(facts, certificate, version.fingerprint);
    let chain = memory.chains.get(&version.fingerprint).and_then(Option::as_ref);
    // What is sent with it counts where that was seen.
    let chain = chain.filter(|chain| chain.not_after < version.not_after && sight.may_have(chain));
    let end = chain.map_or(version.not_after, |chain| chain.not_after);
    let level = level(schedule::life(version), now.duration_until(end))?;
    // Who has chosen to renew late is not told that it is late before that.
    let chosen = certificate.renew_before.is_some() && report.renews_at.is_some_and(|at| now < at);
    if chosen && chain.is_none() && level < Level::Emergency {
        return None;
    }
    // What visitors get is another, which is judged by its own end.
    let only_others = sight.others && !sight.unknown && sight.newest.is_empty();
    let level = if only_others { Level::Warning } else { level };
    let name = &certificate.name;
    let mut served_by: Vec<&str> = sight.newest.iter().map(|(host, _)| host.as_str()).collect();
    served_by.dedup();
    let served = match served_by[..] {
        [] => String::new(),
        _ => format!(", served by {}", served_by.join(", ")),
    };
    let of_chain = chain.map_or_else(String::new, |chain| {
        format!(" with its chain: `{}` in it ends before the certificate does", chain.name)
    });
    let text = format!("`{name}` version {number} {}{of_chain}{served}", ends(end, now));
    let early = chain.filter(|_| report.renews_at.is_some_and(|at| now < at));
    let (why, next, hint) = problem_of(report).unwrap_or_else(|| {
        if let Some(chain) = early {
            let why =
                format!("the authority has signed it with `{}`, which ends at {}", chain.name, minute(end));
            return (why, Some("it is not due before that: nothing happens by itself".to_owned()), None);
        }
        let why = match report.renews_at {
            Some(at) if at <= now => format!("it has been due since {}, and was not renewed", minute(at)),
            Some(at) => format!("it is due at {}", minute(at)),
            None => "it was not renewed".to_owned(),
        };
        (why, Some("every pass tries to renew it".to_owned()), None)
    });
    let group = certificate.issuer.as_str();
    Some(Finding {
        level,
        until: Some(end),
        reason: Some(why),
        next,
        remedy: Some(match hint {
            Some(hint) => format!("{hint}; then run `certfleet renew --force {name}`"),
            None => format!("run `certfleet renew --force {name}`"),
        }),
        ..Finding::new("certificate.expires", group, name.as_str(), text).of(name)
    })
}

/// What was seen of the hosts of a certificate.
struct Sight<'a> {
    /// Those that serve the newest version, as often as they were seen to.
    newest: Vec<(&'a HostName, &'a Served)>,
    /// Whether one serves another.
    others: bool,
    /// Whether there are addresses of which nobody knows.
    unknown: bool,
}

impl<'a> Sight<'a> {
    fn of(facts: &Circumstances<'a>, certificate: &'a Certificate, newest: Fingerprint) -> Self {
        let mut sight = Self { newest: Vec::new(), others: false, unknown: false };
        for host in &certificate.hosts {
            let looks = facts.observed.looks(host, &certificate.name);
            sight.unknown |= looks.is_empty();
            for look in looks {
                match &look.seen {
                    Seen::Serving(served) if served.fingerprint == newest => {
                        sight.newest.push((host, served))
                    }
                    Seen::Serving(_) => sight.others = true,
                    Seen::Unreachable(_) => sight.unknown = true,
                }
            }
        }
        sight
    }

    /// Whether visitors may be sent a chain that ends then.
    fn may_have(&self, end: &ChainEnd) -> bool {
        let sent = |(_, served): &(_, &Served)| served.chain_end.as_ref() == Some(end);
        self.unknown || self.newest.is_empty() || self.newest.iter().any(sent)
    }
}

/// What we trust or log in with.
pub(super) fn endings(facts: &Circumstances<'_>) -> Vec<Finding> {
    let ending = |ending: &super::Ending| {
        let level = level_of(ending.not_before, ending.not_after, facts.now)?;
        Some(Finding {
            level,
            until: Some(ending.not_after),
            next: Some("from then on what depends on it fails".to_owned()),
            remedy: Some(ending.remedy.clone()),
            ..Finding::new(
                "credential.ends",
                "",
                ending.what.clone(),
                format!("{} {}", ending.what, ends(ending.not_after, facts.now)),
            )
        })
    };
    facts.endings.iter().filter_map(ending).collect()
}

/// When something ends or ended, for people.
pub(super) fn ends(not_after: Timestamp, now: Timestamp) -> String {
    let at = minute(not_after);
    let hours = now.duration_until(not_after).as_hours();
    match days_left(not_after, now) {
        _ if not_after <= now => format!("expired on {at}"),
        0 if hours == 0 => format!("expires in less than an hour, {at}"),
        0 => format!("expires in {}, {at}", counted(hours, "hour")),
        days => format!("expires in {}, {at}", counted(days, "day")),
    }
}

/// A number of things.
pub(super) fn counted(count: i64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(life: SignedDuration, left: SignedDuration) -> Option<Level> {
        let now = Timestamp::UNIX_EPOCH;
        level_of(now + left - life, now + left, now)
    }

    #[test]
    fn thresholds_are_fractions_of_the_life() {
        let hour = SignedDuration::from_hours;
        for (life, warning, critical, emergency) in [
            // 90 days: 22.5, 15 and 7.5.
            (2160, 540, 360, 180),
            // 45 days: a twelfth is 90 hours.
            (1080, 270, 180, 90),
            // 20 days: a twelfth would be 40 hours.
            (480, 120, 80, 48),
        ] {
            let life = hour(life);
            let just = |left: i64| levels(life, hour(left));
            let above = |left: i64| levels(life, hour(left) + SignedDuration::from_secs(1));
            assert_eq!((above(warning), just(warning)), (None, Some(Level::Warning)));
            assert_eq!((above(critical), just(critical)), (Some(Level::Warning), Some(Level::Critical)));
            assert_eq!((above(emergency), just(emergency)), (Some(Level::Critical), Some(Level::Emergency)));
        }
    }

    #[test]
    fn a_short_life_goes_from_good_to_emergency() {
        let hour = SignedDuration::from_hours;
        assert_eq!(levels(hour(160), hour(41)), None);
        assert_eq!(levels(hour(160), hour(40)), Some(Level::Emergency));
    }

    #[test]
    fn what_has_ended_is_an_emergency_whatever_its_life() {
        assert_eq!(levels(SignedDuration::ZERO, SignedDuration::ZERO), Some(Level::Emergency));
        assert_eq!(
            levels(SignedDuration::from_hours(-5), SignedDuration::from_hours(-1)),
            Some(Level::Emergency)
        );
        assert_eq!(level_of(Timestamp::MIN, Timestamp::MAX, Timestamp::MAX), Some(Level::Emergency));
    }
}
