//! The expiry report in all its forms.

mod check;
mod csv;
mod html;
mod markdown;
mod prometheus;
mod table;

pub use self::csv::report_csv;
pub use check::{Verdict, report_check};
pub use html::report_html;
pub use markdown::report_markdown;
pub use prometheus::report_prometheus;
pub use table::report_table;

use jiff::{SignedDuration, Timestamp};

use crate::model::alert::Level;
use crate::model::history::How;
use crate::model::plan::minute;
use crate::model::report::{
    AlertReport, End, HostReport, HostStanding, Orphan, ProblemReport, Report, days_left,
};

/// The report as JSON: the interface for programs.
pub fn report_json(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report)
}

/// What the report comes to, in one line: a title.
pub fn report_title(report: &Report) -> String {
    let certificates = counted(report.certificates.len(), "certificate");
    format!("{certificates} on {}: {}", counted(report.numbers().hosts, "host"), tally(report))
}

/// How many there are of each urgency, worst first; those that there are none of are left out.
fn tally(report: &Report) -> String {
    let numbers = report.numbers();
    let words = [
        (numbers.emergency, "emergency"),
        (numbers.critical, "critical"),
        (numbers.warning, "warning"),
        (numbers.fine, "fine"),
    ];
    let parts: Vec<String> =
        words.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if parts.is_empty() { "none yet".to_owned() } else { parts.join(", ") }
}

/// What ends next, where, and in what time.
fn next_end(report: &Report) -> Option<String> {
    let end = report.numbers().next_end?;
    Some(format!("{}, {} ({})", minute(end.not_after), place(&end), left(end.not_after, report.generated_at)))
}

fn place(end: &End<'_>) -> String {
    let what = if end.of_chain { "the chain of " } else { "" };
    match end.host {
        Some(host) => format!("{what}{} on {host}", end.certificate),
        None => format!("{what}{}", end.certificate),
    }
}

/// The last pass over everything.
fn last_pass(report: &Report) -> String {
    let complete = report.passes.iter().filter_map(|pass| Some((pass.complete?, pass.how)));
    match complete.max_by_key(|(at, _)| *at) {
        Some((at, how)) => {
            let by = match how {
                How::Cli => "by hand",
                How::Timer => "by the timer",
                How::Daemon => "by the daemon",
            };
            format!("{}, {by} ({})", minute(at), ago(at, report.generated_at))
        }
        None => "never".to_owned(),
    }
}

/// How long ago, in the largest unit.
fn ago(at: Timestamp, now: Timestamp) -> String {
    match at.duration_until(now).as_mins() {
        ..0 => "in the future: look at the clock".to_owned(),
        minutes @ 0..120 => format!("{minutes} min ago"),
        minutes @ 120..2880 => format!("{} h ago", minutes / 60),
        minutes => format!("{} days ago", minutes / 1440),
    }
}

/// What is left of a validity, for a narrow column.
fn left(not_after: Timestamp, now: Timestamp) -> String {
    match days_left(not_after, now) {
        _ if not_after <= now => "ended".to_owned(),
        0 => "<1 d".to_owned(),
        days => format!("{days} d"),
    }
}

/// A day of the calendar, in UTC.
fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Everything that is wrong, of the most urgent certificates first; each with its subject.
fn problems(report: &Report) -> Vec<(Option<Level>, String, &ProblemReport)> {
    let now = report.generated_at;
    let whole = report.problem.iter().map(|problem| (Some(Level::Warning), "passes".to_owned(), problem));
    let of_certificates = report.by_urgency().into_iter().flat_map(|certificate| {
        let name = &certificate.name;
        let own = certificate.problem.iter();
        let own = own.map(move |problem| (certificate.urgency(now), name.to_string(), problem));
        let hosts = certificate.hosts.iter().filter_map(move |host| {
            let problem = host.problem.as_ref()?;
            Some((host.urgency(now), format!("{name} on {}", host.host), problem))
        });
        own.chain(hosts)
    });
    whole.chain(of_certificates).collect()
}

/// Since when an alert is open, and who has taken it on.
fn since(alert: &AlertReport) -> String {
    let since = format!("since {}", minute(alert.since));
    match &alert.acknowledged {
        Some(ack) => format!("{since}, taken on by {} at {}", ack.by, minute(ack.at)),
        None => format!("{since}, taken on by nobody"),
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Warning => "warning",
        Level::Critical => "critical",
        Level::Emergency => "emergency",
    }
}

/// Why something of certs.toml's past is listed.
fn orphan(orphan: &Orphan) -> String {
    let until = orphan.not_after.map_or_else(String::new, |at| format!(", valid until {}", minute(at)));
    let hosts: Vec<&str> = orphan.hosts.iter().map(|host| host.as_str()).collect();
    let on = if hosts.is_empty() { String::new() } else { format!(", installed on {}", hosts.join(", ")) };
    format!("in the store, not in certs.toml, not renewed{until}{on}")
}

/// How many hosts stand where, good ones last.
fn standings(hosts: &[HostReport]) -> String {
    let mut parts = Vec::new();
    for standing in HostStanding::ALL.iter().rev() {
        let count = hosts.iter().filter(|host| host.standing == *standing).count();
        if count > 0 {
            parts.push(format!("{count} {}", standing.as_str()));
        }
    }
    parts.join(", ")
}

/// Seconds of a duration as days, for people's thresholds.
fn days(time: SignedDuration) -> f64 {
    time.as_secs_f64() / 86_400.0
}
