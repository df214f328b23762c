//! What a pass came to: a block for each certificate that anything happened to, what went wrong last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::waiting_json;
use crate::engine::Summary;
use crate::model::name::{CertName, HostName};
use crate::model::plan::{Waiting, minute};
use crate::model::problem::Problem;
use crate::model::report::days_left;

/// So many certificates that are not due get a line each.
const A_FEW: usize = 3;
/// With more proofs than this they are counted, not listed.
const MANY_PROOFS: usize = 60;

/// One certificate.
#[derive(Default)]
struct Block {
    head: Vec<String>,
    lines: Vec<String>,
    wrong: bool,
}

/// What a pass came to, as text. Every line names its subject, so that it can be searched for.
pub fn summary_text(summary: &Summary, now: Timestamp) -> String {
    let mut blocks = happened(summary, now);
    let idle = add_waiting(summary, &mut blocks);
    let mut text = String::new();
    for wrong in [false, true] {
        for block in blocks.values().filter(|block| block.wrong == wrong) {
            for line in &block.head {
                let _ = writeln!(text, "{line}");
            }
            for line in &block.lines {
                let _ = writeln!(text, "  {line}");
            }
        }
    }
    for (host, problem) in &summary.unseen {
        let _ = writeln!(text, "{host}: what lies on its disk could not be seen: {}", problem.one_line());
        text.push_str("  next: every pass tries again\n");
    }
    nothing_due(&idle, &mut text);
    tally(summary, blocks.len(), &mut text);
    for problem in &summary.unreadable_debts {
        let _ = writeln!(text, "a challenge record may be left in DNS: {}", problem.one_line());
    }
    if summary.interrupted {
        text.push_str("interrupted: the next run goes on where this one ended\n");
    }
    if text.is_empty() {
        text.push_str("nothing to do\n");
    }
    text
}

fn happened(summary: &Summary, now: Timestamp) -> BTreeMap<&CertName, Block> {
    let mut blocks: BTreeMap<&CertName, Block> = BTreeMap::new();
    for (name, version, not_after) in &summary.issued {
        blocks.entry(name).or_default().head.push(format!(
            "{name}: version {version} issued, valid until {} ({} days left)",
            minute(*not_after),
            days_left(*not_after, now)
        ));
    }
    for (name, host, what) in &summary.drifted {
        blocks.entry(name).or_default().lines.push(format!("{name} on {host}: on its disk {what}"));
    }
    let mut counted: BTreeMap<(&CertName, bool), usize> = BTreeMap::new();
    for (name, host, version, places) in &summary.served {
        if summary.served.len() > MANY_PROOFS {
            *counted.entry((name, places.is_empty())).or_default() += 1;
            continue;
        }
        let line = format!("{name} on {host}: version {version} {}", proven(places));
        blocks.entry(name).or_default().lines.push(line);
    }
    for ((name, unproven), count) in counted {
        let line = match unproven {
            false => format!("{name}: it is what visitors of {count} hosts get"),
            true => format!("{name}: installed on {count} hosts, not probed (verify-names is empty)"),
        };
        blocks.entry(name).or_default().lines.push(line);
    }
    for (name, host, why) in &summary.untrusted {
        let line = format!("{name} on {host}: warning: visitors would not trust it: {why}");
        blocks.entry(name).or_default().lines.push(line);
    }
    for (name, host, problem) in &summary.pending {
        let line = format!("{name} on {host}: installed, not in use: {}", problem.one_line());
        let lines = &mut blocks.entry(name).or_default().lines;
        lines.push(line);
        lines.extend(problem.hint.iter().map(|hint| format!("  hint: {hint}")));
    }
    // The same remedy for a hundred failures is said once.
    let mut said = BTreeSet::new();
    for (name, host, problem) in &summary.failed {
        let block = blocks.entry(name).or_default();
        block.wrong = true;
        let place = host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
        let line = format!("{name}{place}: FAILED: {}", problem.one_line());
        let (lines, indent) = match host {
            Some(_) => (&mut block.lines, "  "),
            None => (&mut block.head, "    "),
        };
        lines.push(line);
        if problem.code.starts_with("store.") {
            // Its remedy says what comes next.
        } else if host.is_some() {
            lines.push(format!("{indent}next: every pass tries again, without a new order"));
        } else if let Some(next) = next_of(name, problem, summary) {
            lines.push(format!("{indent}next: {next}"));
        }
        if let Some(hint) = problem.hint.as_ref().filter(|hint| said.insert(hint.as_str())) {
            lines.push(format!("{indent}hint: {hint}"));
        }
    }
    for (name, holder) in &summary.locked {
        let block = blocks.entry(name).or_default();
        block.wrong = true;
        block.head.push(format!("{name}: not done, locked by {holder}"));
    }
    blocks
}

/// When what failed is tried again.
fn next_of(name: &CertName, problem: &Problem, summary: &Summary) -> Option<String> {
    summary.waiting.iter().find(|waiting| waiting.certificate() == name).and_then(|waiting| match waiting {
        Waiting::Backoff(_, at, count, of) if of == problem => {
            let times = if *count == 1 { "time" } else { "times" };
            Some(format!("tried {count} {times}, next attempt {}", minute(*at)))
        }
        Waiting::NeedsChange(_, of) if of == problem => {
            Some("not tried again until certs.toml changes (or --force)".to_owned())
        }
        _ => None,
    })
}

/// Adds what waits; tells which certificates have nothing else to say than when they are due.
fn add_waiting<'a>(summary: &'a Summary, blocks: &mut BTreeMap<&'a CertName, Block>) -> Vec<&'a Waiting> {
    let told = |waiting: &Waiting| {
        summary.failed.iter().any(|(name, host, problem)| {
            host.is_none()
                && name == waiting.certificate()
                && matches!(waiting, Waiting::Backoff(_, _, _, of) | Waiting::NeedsChange(_, of) if of == problem)
        })
    };
    let pending =
        |name: &CertName, host: &HostName| summary.pending.iter().any(|(of, at, _)| of == name && at == host);
    let mut idle = Vec::new();
    for waiting in &summary.waiting {
        let name = waiting.certificate();
        match waiting {
            Waiting::NotDue(..) => idle.push(waiting),
            Waiting::Pending(name, host) if pending(name, host) => {}
            waiting if told(waiting) => {}
            waiting => {
                let block = blocks.entry(name).or_default();
                block.wrong |= waiting.needs_person();
                match waiting.host() {
                    Some(_) => block.lines.push(waiting.to_string()),
                    None => block.head.push(waiting.to_string()),
                }
            }
        }
    }
    idle.retain(|waiting| match (waiting, blocks.get_mut(waiting.certificate())) {
        (_, None) => true,
        (Waiting::NotDue(_, at, rule), Some(block)) => {
            match block.head.first_mut() {
                Some(first) => {
                    let _ = write!(first, ", renews {}", minute(*at));
                }
                None => {
                    let name = waiting.certificate();
                    block.head.push(format!("{name}: not due, renews {} ({rule})", minute(*at)));
                }
            }
            false
        }
        (_, Some(_)) => false,
    });
    idle
}

fn nothing_due(idle: &[&Waiting], text: &mut String) {
    let first = idle.iter().filter_map(|waiting| Some((waiting.until()?, waiting.certificate()))).min();
    match first {
        Some((at, name)) if idle.len() > A_FEW => {
            let _ = writeln!(
                text,
                "nothing due: {} certificates, next renewal {name} on {}",
                idle.len(),
                minute(at)
            );
        }
        _ => {
            for waiting in idle {
                let _ = writeln!(text, "{waiting}");
            }
        }
    }
}

/// The numbers, where there is more than a glance can take in.
fn tally(summary: &Summary, certificates: usize, text: &mut String) {
    if certificates <= A_FEW {
        return;
    }
    let person = summary.waiting.iter().filter(|waiting| waiting.needs_person()).count();
    let counts = [
        (summary.issued.len(), "issued"),
        (summary.served.len(), "proven on a host"),
        (summary.pending.len(), "installed, not in use"),
        (summary.locked.len(), "locked"),
        (summary.failed.len(), "FAILED"),
        (person, "waiting for a person"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if !counts.is_empty() {
        let _ = writeln!(text, "in all: {}", counts.join(", "));
    }
}

fn proven(places: &[SocketAddr]) -> String {
    match places {
        [] => "is installed, not probed (verify-names is empty)".to_owned(),
        [one] => format!("is what visitors get (seen at {one})"),
        [first, others @ ..] => {
            format!("is what visitors get (seen at {first} and {} more)", others.len())
        }
    }
}

/// What a pass came to, as JSON.
pub fn summary_json(summary: &Summary, now: Timestamp) -> Value {
    let problem = |problem: &Problem| json!({ "code": problem.code, "message": problem.one_line(), "hint": problem.hint });
    json!({
        "generated-at": now,
        "issued": summary.issued.iter().map(|(name, version, not_after)| {
            json!({ "certificate": name, "version": version, "not-after": not_after })
        }).collect::<Vec<_>>(),
        "served": summary.served.iter().map(|(name, host, version, places)| {
            json!({ "certificate": name, "host": host, "version": version, "addresses": places })
        }).collect::<Vec<_>>(),
        "untrusted": summary.untrusted.iter().map(|(name, host, why)| {
            json!({ "certificate": name, "host": host, "why": why })
        }).collect::<Vec<_>>(),
        "pending": summary.pending.iter().map(|(name, host, why)| {
            json!({ "certificate": name, "host": host, "problem": problem(why) })
        }).collect::<Vec<_>>(),
        "drifted": summary.drifted.iter().map(|(name, host, what)| {
            json!({ "certificate": name, "host": host, "disk": what })
        }).collect::<Vec<_>>(),
        "unseen": summary.unseen.iter().map(|(host, why)| {
            json!({ "host": host, "problem": problem(why) })
        }).collect::<Vec<_>>(),
        "failed": summary.failed.iter().map(|(name, host, why)| {
            json!({ "certificate": name, "host": host, "problem": problem(why) })
        }).collect::<Vec<_>>(),
        "locked": summary.locked.iter().map(|(name, holder)| {
            json!({ "certificate": name, "holder": holder })
        }).collect::<Vec<_>>(),
        "waiting": summary.waiting.iter().map(waiting_json).collect::<Vec<_>>(),
        "unreadable": summary.unreadable_debts.iter().map(problem).collect::<Vec<_>>(),
        "interrupted": summary.interrupted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::problem::{Blame, Retry};
    use crate::model::schedule::Rule;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn name(text: &str) -> CertName {
        text.parse().unwrap()
    }

    fn not_due(text: &str, seconds: i64) -> Waiting {
        Waiting::NotDue(name(text), at(seconds), Rule::Lifetime)
    }

    fn trouble(message: &str) -> Problem {
        Problem {
            code: "dns.timeout".to_owned(),
            blame: Blame::Dns,
            retry: Retry::Backoff,
            message: message.to_owned(),
            causes: vec!["no answer".to_owned()],
            hint: Some("look at it".to_owned()),
        }
    }

    #[test]
    fn what_happened_is_grouped_and_what_went_wrong_stands_last() {
        let version = crate::model::name::VersionNumber(2);
        let summary = Summary {
            issued: vec![(name("a.test"), version, at(100 * 86_400))],
            served: vec![(
                name("a.test"),
                "sally".parse().unwrap(),
                version,
                vec!["127.0.0.1:443".parse().unwrap()],
            )],
            failed: vec![
                (name("a.test"), Some("esme".parse().unwrap()), trouble("cannot log in")),
                (name("b.test"), None, trouble("cannot issue `b.test`")),
            ],
            locked: vec![(name("c.test"), "process 7 (renewing)".to_owned())],
            waiting: vec![
                not_due("a.test", 80 * 86_400),
                Waiting::Backoff(name("b.test"), at(60), 1, trouble("cannot issue `b.test`")),
                not_due("d.test", 90 * 86_400),
            ],
            ..Summary::default()
        };
        assert_eq!(
            summary_text(&summary, at(0)),
            "\
a.test: version 2 issued, valid until 1970-04-11 00:00 UTC (100 days left), renews 1970-03-22 00:00 UTC
  a.test on sally: version 2 is what visitors get (seen at 127.0.0.1:443)
  a.test on esme: FAILED: cannot log in: no answer
    next: every pass tries again, without a new order
    hint: look at it
b.test: FAILED: cannot issue `b.test`: no answer
    next: tried 1 time, next attempt 1970-01-01 00:01 UTC
c.test: not done, locked by process 7 (renewing)
d.test: not due, renews 1970-04-01 00:00 UTC (share of its life left)
"
        );
    }

    #[test]
    fn what_nothing_uses_yet_is_said_once() {
        let (name, host): (_, HostName) = (name("a.test"), "sally".parse().unwrap());
        let summary = Summary {
            pending: vec![(name.clone(), host.clone(), trouble("nothing uses it"))],
            waiting: vec![Waiting::Pending(name, host)],
            ..Summary::default()
        };
        assert_eq!(
            summary_text(&summary, at(0)),
            "  a.test on sally: installed, not in use: nothing uses it: no answer\n    hint: look at it\n"
        );
    }

    #[test]
    fn what_nobody_looked_at_is_not_said_to_be_served() {
        let version = crate::model::name::VersionNumber(2);
        let served = |host: String| (name("a.test"), host.parse().unwrap(), version, vec![]);
        let summary = Summary { served: vec![served("sally".to_owned())], ..Summary::default() };
        assert_eq!(
            summary_text(&summary, at(0)),
            "  a.test on sally: version 2 is installed, not probed (verify-names is empty)\n"
        );
        let served = (0..100).map(|n| served(format!("edge-{n}"))).collect();
        assert_eq!(
            summary_text(&Summary { served, ..Summary::default() }, at(0)),
            "  a.test: installed on 100 hosts, not probed (verify-names is empty)\n"
        );
    }

    #[test]
    fn a_fleet_with_nothing_due_takes_one_line() {
        let waiting = (0..97).map(|n| not_due(&format!("n{n}.test"), 86_400 * (200 - n))).collect();
        let summary = Summary { waiting, ..Summary::default() };
        assert_eq!(
            summary_text(&summary, at(0)),
            "nothing due: 97 certificates, next renewal n96.test on 1970-04-15 00:00 UTC\n"
        );
        assert_eq!(summary_text(&Summary::default(), at(0)), "nothing to do\n");
    }
}
