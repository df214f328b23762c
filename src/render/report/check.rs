//! The report in one line, for Nagios and what speaks its language.

use std::fmt::Write;

use super::{counted, day, days, left, place};
use crate::model::alert::{Level, limits};
use crate::model::plan::minute;
use crate::model::report::{CertReport, End, HostReport, Report};

/// What a monitoring system makes of it; as a number, the exit code of its plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// 0.
    Ok,
    /// 1.
    Warning,
    /// 2.
    Critical,
    /// 3.
    Unknown,
}

impl Verdict {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    /// As plugins write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// So many reasons are named; a line has its limits (Nagios cuts at 8 KiB, some agents at 1 KiB).
const REASONS: usize = 4;
/// So many certificates have their days, those that end first.
const MEASURED: usize = 40;

/// The verdict and its line, with performance data.
///
/// Critical from a sixth of the life of what is served, a warning from a quarter, or when something is wrong that
/// leaves more time, or when nobody makes passes any more.
pub fn report_check(report: &Report) -> (Verdict, String) {
    let now = report.generated_at;
    let urgent: Vec<(Level, &CertReport)> = report
        .by_urgency()
        .into_iter()
        .filter_map(|certificate| Some((certificate.urgency(now)?, certificate)))
        .collect();
    let worst = urgent.first().map(|(level, _)| *level).max(report.problem.as_ref().map(|_| Level::Warning));
    let verdict = match worst {
        _ if report.certificates.is_empty() => Verdict::Unknown,
        None => Verdict::Ok,
        Some(Level::Warning) => Verdict::Warning,
        Some(Level::Critical | Level::Emergency) => Verdict::Critical,
    };
    let mut reasons: Vec<String> =
        urgent.iter().take(REASONS).map(|(level, certificate)| reason(certificate, *level, report)).collect();
    if urgent.len() > REASONS {
        reasons.push(format!("and {} more", urgent.len() - REASONS));
    }
    reasons.extend(report.problem.as_ref().map(|problem| problem.message.clone()));
    let what = match report.numbers().next_end {
        _ if report.certificates.is_empty() => "certs.toml names no certificate yet".to_owned(),
        _ if !reasons.is_empty() => reasons.join("; "),
        Some(end) => format!(
            "{} on {}; next end in {}, {}, {}",
            counted(report.certificates.len(), "certificate"),
            counted(report.numbers().hosts, "host"),
            left(end.not_after, now),
            place(&end),
            day(end.not_after),
        ),
        None => counted(report.certificates.len(), "certificate"),
    };
    // The bar begins the performance data.
    let what = what.replace('|', "/");
    (verdict, format!("CERTFLEET {}: {what}{}", verdict.as_str(), measured(report)))
}

fn reason(certificate: &CertReport, level: Level, report: &Report) -> String {
    let now = report.generated_at;
    let name = &certificate.name;
    if let Some(end) = certificate.end().filter(|end| end.urgency(now) == Some(level)) {
        let verb = if end.not_after <= now { "ended" } else { "ends" };
        return match end.not_after <= now {
            true => format!("{} {verb} {}", place(&end), minute(end.not_after)),
            false => {
                format!("{} {verb} in {}, {}", place(&end), left(end.not_after, now), minute(end.not_after))
            }
        };
    }
    let worst = |host: &&HostReport| host.urgency(now) == Some(level);
    let alike: Vec<&HostReport> = certificate.hosts.iter().filter(worst).collect();
    match (&certificate.problem, alike.first()) {
        (Some(problem), _) => format!("{name} is {} ({})", certificate.standing.as_str(), problem.code),
        (None, Some(host)) => {
            let code =
                host.problem.as_ref().map_or_else(String::new, |problem| format!(" ({})", problem.code));
            let more = if alike.len() > 1 { format!(" and {} more", alike.len() - 1) } else { String::new() };
            format!("{name} on {}{more}: {}{code}", host.host, host.standing.as_str())
        }
        (None, None) => format!("{name} is {}", certificate.standing.as_str()),
    }
}

/// Days left of each, with the thresholds that its life gives: `'name'=61.87;22.50:;15.00:`, alarming below.
fn measured(report: &Report) -> String {
    let now = report.generated_at;
    let mut ends: Vec<End<'_>> = report.certificates.iter().filter_map(CertReport::end).collect();
    ends.sort_by_key(|end| end.not_after);
    let mut text = String::new();
    for end in ends.iter().take(MEASURED) {
        let [(_, emergency), (_, critical), (_, warning)] = limits(end.life);
        let left = now.duration_until(end.not_after);
        let _ = write!(
            text,
            " '{}'={:.2};{:.2}:;{:.2}:",
            end.certificate,
            days(left),
            days(warning),
            days(critical.max(emergency))
        );
    }
    if text.is_empty() { text } else { format!(" |{text}") }
}
