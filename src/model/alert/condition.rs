//! Findings of one cause, as people are told of them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::expiry::counted;
use super::hosts::hosts;
use super::memory::Affected;
use super::{Finding, Level, Memory};
use crate::model::schedule::after;

/// Everything that one cause has led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What makes it one.
    pub cause: String,
    /// The stable code.
    pub code: String,
    /// Since when.
    pub since: Timestamp,
    /// All of it in one line.
    pub title: String,
    /// What it is about, the worst first.
    pub affected: Vec<Affected>,
    /// Why it is so.
    pub reason: Option<String>,
    /// What happens next.
    pub next: Option<String>,
    /// What to do.
    pub remedy: Option<String>,
}

/// What has lasted for longer than its patience, by cause; and when more of it will have.
///
/// Notes since when each finding is there, and forgets what is there no longer.
pub fn conditions(
    memory: &mut Memory,
    findings: Vec<Finding>,
    now: Timestamp,
) -> (Vec<Condition>, Option<Timestamp>) {
    memory.settle(now);
    let mut seen = BTreeMap::new();
    let mut ripe: BTreeMap<String, Vec<(Timestamp, Finding)>> = BTreeMap::new();
    let mut wake: Option<Timestamp> = None;
    for finding in findings {
        let identity = finding.identity();
        let noted = memory.seen.get(&identity).copied().unwrap_or(now);
        let since = finding.since.map_or(noted, |since| since.min(noted)).min(now);
        if finding.since.is_none() {
            seen.insert(identity, noted);
        }
        let told_from = after(since, finding.patience);
        if told_from <= now {
            ripe.entry(finding.cause.clone()).or_default().push((since, finding));
        } else {
            wake = Some(wake.map_or(told_from, |wake| wake.min(told_from)));
        }
    }
    memory.seen = seen;
    (ripe.into_iter().map(|(cause, findings)| condition(cause, findings)).collect(), wake)
}

fn condition(cause: String, mut findings: Vec<(Timestamp, Finding)>) -> Condition {
    findings.sort_by(|(_, a), (_, b)| {
        let urgency = |of: &Finding| (of.until.is_none(), of.until);
        a.muted
            .cmp(&b.muted)
            .then(b.level.cmp(&a.level))
            .then(urgency(a).cmp(&urgency(b)))
            .then(a.key.cmp(&b.key))
    });
    findings.dedup_by(|(_, a), (_, b)| a.key == b.key);
    // There is no group without one.
    let (code, worst) = findings.first().map_or(("", Level::Warning), |(_, worst)| (worst.code, worst.level));
    let title = match &findings[..] {
        [(_, only)] => only.subject.text.clone(),
        many => headline(code, worst, many),
    };
    let reasons = distinct(findings.iter().filter_map(|(_, finding)| finding.reason.as_deref()));
    let remedies = distinct(findings.iter().filter_map(|(_, finding)| finding.remedy.as_deref()));
    Condition {
        cause,
        code: code.to_owned(),
        since: findings.iter().map(|(since, _)| *since).min().unwrap_or(Timestamp::MAX),
        title,
        reason: shortened(&reasons, "; "),
        next: findings.iter().find_map(|(_, finding)| finding.next.clone()),
        remedy: match &remedies[..] {
            [] => None,
            [only] => Some((*only).to_owned()),
            [first, rest @ ..] => Some(format!("{first}; and {} more in the same way", rest.len())),
        },
        affected: findings
            .into_iter()
            .map(|(_, finding)| Affected {
                key: finding.key,
                level: finding.level,
                subject: finding.subject,
                muted: finding.muted,
                round: 0,
            })
            .collect(),
    }
}

/// Several findings in one line: how many, and the worst of them.
fn headline(code: &str, level: Level, findings: &[(Timestamp, Finding)]) -> String {
    let certificates = distinct(
        findings.iter().filter_map(|(_, finding)| Some(finding.subject.certificate.as_ref()?.as_str())),
    );
    let on =
        distinct(findings.iter().filter_map(|(_, finding)| Some(finding.subject.host.as_ref()?.as_str())));
    let count = i64::try_from(certificates.len()).unwrap_or(i64::MAX);
    let several = counted(count, "certificate");
    let first = findings.first().map_or("", |(_, finding)| finding.subject.text.as_str());
    let where_ = match &on[..] {
        [] => String::new(),
        [only] => format!(" on `{only}`"),
        many => format!(" on {}", hosts(many.len())),
    };
    let what = match code {
        "certificate.expires" if level == Level::Emergency => format!("{several} about to expire"),
        "certificate.expires" => format!("{several} not renewed and near the end"),
        "served.expires" => format!("{several} near the end{where_}, replaced in the store already"),
        "renewal.failing" => format!("{several} cannot be renewed, for one cause"),
        "renewal.blocked" => format!("{several} not renewed any more until somebody acts, for one cause"),
        "renewal.late" => format!("{several} renewed late"),
        "served.chain-ends" => format!("{several} served with a chain that ends before they do{where_}"),
        "host.stale" => format!("{several} issued and not served{where_}"),
        "host.foreign" => format!("{several} replaced by somebody else's{where_}"),
        "host.drifted" => format!("{several} served, and something else on the disk{where_}"),
        "host.foreign-on-disk" => format!("{several} replaced by somebody else's on the disk{where_}"),
        "rollout.out-of-turn" => format!("{several} rolled out although it failed somewhere"),
        "host.closed" => format!("{} that cannot be looked into", hosts(on.len())),
        "host.unreachable" => match on.len() {
            1 => format!("`{}` does not answer at {} addresses", on[0], findings.len()),
            many => format!("{} do not answer", hosts(many)),
        },
        "store.unreadable" => format!("{} parts of the store cannot be read", findings.len()),
        "channel.failing" => format!("{} channels deliver nothing", findings.len()),
        "channel.partly" => format!("{} channels do not reach everybody", findings.len()),
        "pass.silent" => "neither daemon nor timer makes passes".to_owned(),
        "dns.debt" => format!("{} challenge records left in DNS", findings.len()),
        _ => format!("{} things", findings.len()),
    };
    format!("{what}; first: {first}")
}

fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for text in texts {
        if seen.insert(text) {
            found.push(text);
        }
    }
    found
}

/// Three of them; of the others how many there are.
fn shortened(texts: &[&str], between: &str) -> Option<String> {
    const NAMED: usize = 3;
    let named = &texts[..texts.len().min(NAMED)];
    let text = named.join(between);
    match texts.len() {
        0 => None,
        few if few <= NAMED => Some(text),
        many => Some(format!("{text}{between}and {} more reasons", many - NAMED)),
    }
}
