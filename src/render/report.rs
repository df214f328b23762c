//! The expiry report as table and JSON.

use std::fmt::Write;

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, Table};

use crate::model::plan::minute;
use crate::model::report::{CertReport, HostReport, HostStanding, ProblemReport, Report, Standing};

/// The report as JSON: the interface for programs.
pub fn report_json(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report)
}

/// The report as a table: a line for each certificate, one below for each host.
pub fn report_table(report: &Report, color: bool) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header([
        "CERTIFICATE",
        "STANDING",
        "DAYS LEFT",
        "EXPIRES",
        "RENEWS",
        "SERVED BY",
    ]);
    if !color {
        table.force_no_tty();
    }
    for certificate in &report.certificates {
        table.add_row(certificate_row(certificate));
        for host in &certificate.hosts {
            table.add_row(host_row(host));
        }
    }
    let mut text = String::new();
    if report.certificates.is_empty() {
        text.push_str("certs.toml names no certificate yet\n");
    } else {
        for line in table.to_string().lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    problems(report, &mut text);
    for orphan in &report.orphaned {
        let until = orphan.not_after.map_or_else(String::new, |at| format!(", valid until {}", minute(at)));
        let hosts: Vec<&str> = orphan.hosts.iter().map(|host| host.as_str()).collect();
        let on =
            if hosts.is_empty() { String::new() } else { format!(", installed on {}", hosts.join(", ")) };
        let _ = writeln!(
            text,
            "orphaned: {}: in the store, not in certs.toml, not renewed{until}{on}",
            orphan.name
        );
    }
    text
}

fn certificate_row(certificate: &CertReport) -> Vec<Cell> {
    let day = |at: Option<jiff::Timestamp>| at.map_or_else(|| "-".to_owned(), minute);
    let serving = certificate.hosts.iter().filter(|host| host.standing == HostStanding::Serving).count();
    let served = match certificate.hosts.len() {
        0 => "no hosts".to_owned(),
        all => format!("{serving} of {all} hosts"),
    };
    let (word, color) = match certificate.standing {
        Standing::Expired => ("expired", Color::Red),
        Standing::Blocked => ("blocked", Color::Red),
        Standing::Failing => ("failing", Color::Red),
        Standing::Due => ("due", Color::Yellow),
        Standing::Missing => ("missing", Color::Yellow),
        Standing::Valid => ("valid", Color::Green),
    };
    vec![
        Cell::new(&certificate.name).add_attribute(Attribute::Bold),
        Cell::new(word).fg(color),
        Cell::new(certificate.days_left.map_or_else(|| "-".to_owned(), |days| days.to_string())),
        Cell::new(day(certificate.not_after)),
        Cell::new(day(certificate.renews_at)),
        Cell::new(served),
    ]
}

fn host_row(host: &HostReport) -> Vec<Cell> {
    let (word, color) = match host.standing {
        HostStanding::Serving => ("serving", Color::Green),
        HostStanding::Pending => ("pending", Color::Yellow),
        HostStanding::Unknown => ("unknown", Color::Yellow),
        HostStanding::Unreachable => ("unreachable", Color::Red),
        HostStanding::Stale => ("stale", Color::Red),
        HostStanding::Foreign => ("foreign", Color::Red),
    };
    let serving = host.serving.as_ref();
    let addresses: Vec<String> = host.addresses.iter().map(|address| address.address.to_string()).collect();
    vec![
        Cell::new(format!("  {}", host.host)),
        Cell::new(word).fg(color),
        Cell::new(serving.map_or_else(|| "-".to_owned(), |serving| serving.days_left.to_string())),
        Cell::new(serving.map_or_else(|| "-".to_owned(), |serving| minute(serving.not_after))),
        Cell::new(
            host.checked_at.map_or_else(|| "never looked".to_owned(), |at| format!("seen {}", minute(at))),
        ),
        Cell::new(addresses.join(" ")),
    ]
}

fn problems(report: &Report, text: &mut String) {
    for certificate in &report.certificates {
        if let Some(problem) = &certificate.problem {
            one_problem(&certificate.name.to_string(), problem, text);
        }
        for host in &certificate.hosts {
            if let Some(problem) = &host.problem {
                one_problem(&format!("{} on {}", certificate.name, host.host), problem, text);
            }
        }
    }
}

fn one_problem(subject: &str, problem: &ProblemReport, text: &mut String) {
    let _ = write!(text, "\n{subject}: {} [{}]\n", problem.message, problem.code);
    if let Some(next) = &problem.next {
        let _ = writeln!(text, "  next: {next}");
    }
    if let Some(hint) = &problem.hint {
        let _ = writeln!(text, "  hint: {hint}");
    }
}
