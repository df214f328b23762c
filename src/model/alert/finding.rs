//! What is wrong, one by one, as the facts say it now.

use jiff::{SignedDuration, Timestamp};

use super::{Level, Memory, Subject};
use super::{expiry, hosts, rollouts, watching};
use crate::model::desired::{Certificate, Desired};
use crate::model::name::{CertName, HostName};
use crate::model::observed::Observed;
use crate::model::plan::{failing, minute, reason};
use crate::model::problem::Problem;
use crate::model::report::{CertReport, Report};
use crate::model::schedule::{self, NextAttempt, after};
use crate::model::state::{CertState, State};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Another finding says it, and more: nobody is told of this one.
    pub muted: bool,
    /// What it is grouped by: findings of one cause are one alert. Begins with the code.
    pub cause: String,
    /// The stable code.
    pub code: &'static str,
    /// Its identity within the cause.
    pub key: String,
    /// How bad it is.
    pub level: Level,
    /// What is said of it.
    pub subject: Subject,
    /// Since when, where the facts say it.
    pub since: Option<Timestamp>,
    /// For how long it may be so before anybody is told.
    pub patience: SignedDuration,
    /// The moment from which somebody is hurt: of two alike, the earlier is named first.
    pub until: Option<Timestamp>,
    /// Why it is so.
    pub reason: Option<String>,
    /// What happens next.
    pub next: Option<String>,
    /// What to do.
    pub remedy: Option<String>,
}

/// Everything that findings come from, beside what is remembered.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// What certs.toml asks for.
    pub desired: &'a Desired,
    /// What the store has.
    pub state: &'a State,
    /// What was seen.
    pub observed: &'a Observed,
    /// The report of the same facts.
    pub report: &'a Report,
    /// Noted challenge records that cannot be read, and other damage to the store that concerns no certificate.
    pub damages: &'a [Problem],
    /// That the clock is behind the newest fact.
    pub clock: Option<&'a Problem>,
    /// Why the certs.toml that is there now is not the one in use.
    pub refused: Option<&'a Problem>,
    /// Why no pass can be made, or nothing be written down.
    pub unusable: Option<&'a Problem>,
    /// What of ours ends, beside certificates.
    pub endings: &'a [Ending],
    /// Now.
    pub now: Timestamp,
}

/// Something of ours that ends: what we trust, or log in with.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// What it is, and where.
    pub what: String,
    /// The start of its life.
    pub not_before: Timestamp,
    /// Its end.
    pub not_after: Timestamp,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    /// A warning from the first moment that says no more than this.
    pub(super) fn new(code: &'static str, group: &str, key: impl Into<String>, text: String) -> Self {
        let cause = if group.is_empty() { code.to_owned() } else { format!("{code} {group}") };
        Self {
            muted: false,
            cause,
            code,
            key: key.into(),
            level: Level::Warning,
            subject: Subject { certificate: None, host: None, text },
            since: None,
            patience: SignedDuration::ZERO,
            until: None,
            reason: None,
            next: None,
            remedy: None,
        }
    }

    pub(super) fn of(mut self, certificate: &CertName) -> Self {
        self.subject.certificate = Some(certificate.clone());
        self
    }

    pub(super) fn on(mut self, host: &HostName) -> Self {
        self.subject.host = Some(host.clone());
        self
    }

    pub(super) fn because(mut self, problem: &Problem) -> Self {
        self.reason = Some(problem.one_line());
        self.remedy = problem.hint.clone();
        self
    }

    /// By what it is remembered.
    pub(super) fn identity(&self) -> String {
        format!("{}\u{1f}{}", self.cause, self.key)
    }
}

/// Everything that is wrong.
pub fn findings(facts: &Circumstances<'_>, memory: &Memory) -> Vec<Finding> {
    let mut found = Vec::new();
    let nothing = CertState::default();
    for (certificate, report) in facts.desired.certificates.values().zip(&facts.report.certificates) {
        let known = facts.state.certificates.get(&certificate.name).unwrap_or(&nothing);
        if !facts.state.unreadable.contains_key(&certificate.name) {
            let expires = expiry::stored(facts, memory, certificate, known, report);
            let muted = expires.is_some();
            found.extend(expires);
            found.extend(renewing(facts, certificate, known).map(|finding| Finding { muted, ..finding }));
        }
        hosts::of_certificate(facts, memory, certificate, known, report, &mut found);
        found.extend(rollouts::gone_on(facts, certificate, known, report));
    }
    hosts::silent(facts, &mut found);
    hosts::closed(facts, &mut found);
    found.extend(unreadable(facts));
    found.extend(debts(facts));
    found.extend(expiry::endings(facts));
    watching::machine(facts, memory, &mut found);
    watching::watchers(memory, facts.now, &mut found);
    watching::silent(facts, &mut found);
    found
}

/// How renewing goes, where it does not go well.
fn renewing(facts: &Circumstances<'_>, certificate: &Certificate, known: &CertState) -> Option<Finding> {
    let now = facts.now;
    let because = reason(certificate, known, facts.desired, now).ok()?;
    let name = &certificate.name;
    if let Some((failure, next)) = failing(certificate, known) {
        let problem = &failure.problem;
        let who = match problem.code.split('.').next() {
            Some("acme") => certificate.issuer.as_str(),
            Some("dns") => certificate.dns.as_str(),
            _ => "",
        };
        let group = format!("{} {who}", problem.code);
        let end = known.newest().map(|(_, version)| version.not_after);
        let margin = match end {
            Some(end) => format!("the newest version {}", expiry::ends(end, now)),
            None => "there is no version yet".to_owned(),
        };
        let (code, text, next, patience) = match next {
            NextAttempt::AfterChange => (
                "renewal.blocked",
                format!("`{name}` is not renewed: {}; {margin}", problem.message),
                "not tried again until certs.toml changes, or with --force".to_owned(),
                SignedDuration::ZERO,
            ),
            NextAttempt::At(at) => (
                "renewal.failing",
                format!("`{name}` could not be renewed, {} times in a row; {margin}", failure.count),
                match at > now {
                    true => format!("tried again at {}", minute(at)),
                    false => "tried again in the next pass".to_owned(),
                },
                // What a second attempt mends is nobody's business.
                SignedDuration::from_hours(1),
            ),
        };
        return Some(Finding {
            since: Some(failure.first),
            patience,
            until: end,
            next: Some(next),
            remedy: problem.hint.clone().or_else(|| Some(format!("run `certfleet renew --force {name}`"))),
            ..Finding::new(code, group.trim_end(), name.as_str(), text).of(name).because(problem)
        });
    }
    let (number, version) = known.newest()?;
    let (due, _) = schedule::renews_at(certificate, version, known.renewal_info.as_ref());
    let late = after(due, schedule::life(version) / 10);
    (late <= now).then(|| Finding {
        since: Some(due),
        until: Some(version.not_after),
        reason: Some(format!(
            "it should have been renewed: {because}; and no attempt is known to have failed"
        )),
        next: Some("the next pass renews it, if there is one".to_owned()),
        remedy: Some(format!(
            "run `certfleet renew {name}`; see whether passes are made: `certfleet history`"
        )),
        ..Finding::new(
            "renewal.late",
            "",
            name.as_str(),
            format!("`{name}` is renewed late; version {number} {}", expiry::ends(version.not_after, now)),
        )
        .of(name)
    })
}

/// What the store has lost.
fn unreadable<'a>(facts: &'a Circumstances<'_>) -> impl Iterator<Item = Finding> + use<'a> {
    let new = |key: String, text: String, problem: &Problem| Finding {
        level: Level::Critical,
        next: Some("nothing is done for it until it can be read".to_owned()),
        ..Finding::new("store.unreadable", "", key, text).because(problem)
    };
    let certificates = facts.state.unreadable.iter().map(move |(name, problem)| {
        new(name.to_string(), format!("what is known of `{name}` cannot be read"), problem).of(name)
    });
    let hosts = facts.state.unreadable_hosts.iter().map(move |(host, problem)| {
        new(format!("host {host}"), format!("what is known of host `{host}` cannot be read"), problem)
            .on(host)
    });
    let others = facts
        .damages
        .iter()
        .map(move |problem| new(problem.message.clone(), problem.message.clone(), problem));
    certificates.chain(hosts).chain(others)
}

/// Challenge records that stay in DNS.
fn debts(facts: &Circumstances<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for debt in &facts.state.debts {
        let (name, account) = (&debt.certificate, &debt.dns);
        let key = format!("{name} {}", debt.owner);
        if found.iter().any(|finding| finding.key == key && finding.cause.ends_with(account.as_str())) {
            continue;
        }
        let stranded = !facts.desired.dns.contains(account);
        let text = format!("the challenge record {} of `{name}` is still in DNS", debt.owner);
        found.push(Finding {
            since: Some(debt.since),
            patience: SignedDuration::from_hours(24),
            reason: Some(match stranded {
                true => format!("the account [dns.{account}] that set it is not in certs.toml any more"),
                false => format!("removing it by [dns.{account}] has failed since {}", minute(debt.since)),
            }),
            next: Some(match stranded {
                true => "nothing, until the account is there again".to_owned(),
                false => "the next pass tries again; renewals go on".to_owned(),
            }),
            remedy: Some(match stranded {
                true => format!("put [dns.{account}] back until the record is gone"),
                false => "run `certfleet check`, which tries to write and remove a record".to_owned(),
            }),
            ..Finding::new("dns.debt", account.as_str(), key, text).of(name)
        });
    }
    found
}

/// What a report says of a certificate, in one line.
pub(super) fn problem_of(report: &CertReport) -> Option<(String, Option<String>, Option<String>)> {
    let problem = report.problem.as_ref()?;
    Some((problem.message.clone(), problem.next.clone(), problem.hint.clone()))
}
