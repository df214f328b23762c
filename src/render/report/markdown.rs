//! The report as Markdown: for a wiki, an issue, a chat that shows it.

use std::fmt::Write;

use super::{day, last_pass, left, level, next_end, orphan, problems, report_title, since, standings};
use crate::model::plan::minute;
use crate::model::report::{CertReport, Report};

/// Above so many hosts only those that are not well have a row.
const HOSTS: usize = 12;

/// The report as Markdown, most urgent first. Text from outside cannot become markup.
pub fn report_markdown(report: &Report) -> String {
    let mut text = format!("# Certificates\n\n{}\n\n", escaped(&report_title(report)));
    if let Some(end) = next_end(report) {
        let _ = writeln!(text, "- next end: {}", escaped(&end));
    }
    let _ = writeln!(text, "- last pass: {}", escaped(&last_pass(report)));
    let _ = writeln!(text, "- made: {}\n", minute(report.generated_at));
    text.push_str("| certificate | standing | left | ends | renews | hosts |\n|---|---|--:|---|---|---|\n");
    for certificate in report.by_urgency() {
        let _ = writeln!(text, "{}", certificate_row(certificate, report));
    }
    for certificate in report.by_urgency().iter().filter(|certificate| !certificate.hosts.is_empty()) {
        host_table(certificate, report, &mut text);
    }
    let problems = problems(report);
    if !problems.is_empty() {
        text.push_str("\n## Problems\n\n");
    }
    for (_, subject, problem) in problems {
        let _ = writeln!(
            text,
            "- **{}**: {} ({})",
            escaped(&subject),
            escaped(&problem.message),
            escaped(&problem.code)
        );
        let more = [("next", &problem.next), ("to do", &problem.hint)];
        for (word, said) in more.iter().filter_map(|(word, said)| Some((word, said.as_ref()?))) {
            let _ = writeln!(text, "  - {word}: {}", escaped(said));
        }
    }
    let alerts = report.alerts.as_deref().unwrap_or_default();
    if !alerts.is_empty() {
        text.push_str("\n## Open alerts\n\n");
    }
    for alert in alerts {
        let (id, title, since) = (escaped(&alert.id), escaped(&alert.title), escaped(&since(alert)));
        let condition = escaped(&alert.condition);
        let _ = writeln!(text, "- **{id}**, {}: {title} ({condition}), {since}", level(alert.level));
    }
    if !report.orphaned.is_empty() {
        text.push_str("\n## Orphaned\n\n");
    }
    for one in &report.orphaned {
        let _ = writeln!(text, "- **{}**: {}", escaped(one.name.as_str()), escaped(&orphan(one)));
    }
    text
}

fn certificate_row(certificate: &CertReport, report: &Report) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    format!(
        "| {} | {} | {} | {} | {} | {} |",
        escaped(certificate.name.as_str()),
        certificate.standing.as_str(),
        escaped(&or_dash(certificate.not_after.map(|at| left(at, report.generated_at)))),
        or_dash(certificate.not_after.map(day)),
        or_dash(certificate.renews_at.map(day)),
        if certificate.hosts.is_empty() { "none".to_owned() } else { standings(&certificate.hosts) },
    )
}

fn host_table(certificate: &CertReport, report: &Report, text: &mut String) {
    let now = report.generated_at;
    let few = certificate.hosts.len() <= HOSTS;
    let mut shown: Vec<_> =
        certificate.hosts.iter().filter(|host| few || host.urgency(now).is_some()).collect();
    shown.sort_by_key(|host| std::cmp::Reverse(host.urgency(now)));
    let _ = writeln!(text, "\n## {}\n", escaped(certificate.name.as_str()));
    if shown.is_empty() {
        let _ = writeln!(text, "{}", standings(&certificate.hosts));
        return;
    }
    text.push_str("| host | standing | serves, left | until | looked at |\n|---|---|--:|---|---|\n");
    for host in &shown {
        let serving = host.serving.as_ref();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            escaped(host.host.as_str()),
            host.standing.as_str(),
            serving.map_or_else(|| "-".to_owned(), |serving| escaped(&left(serving.not_after, now))),
            serving.map_or_else(|| "-".to_owned(), |serving| minute(serving.not_after)),
            host.checked_at.map_or_else(|| "never".to_owned(), minute),
        );
    }
    let rest = certificate.hosts.len() - shown.len();
    if rest > 0 {
        let _ = writeln!(text, "\nand {rest} that are well");
    }
}

/// Text that is no markup: CommonMark lets a backslash stand before any ASCII punctuation; `&` could begin an
/// entity, `<` a tag, `|` a cell, `@` a mention.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\r' => safe.push(' '),
            // As a number, since some chats find mentions behind a backslash.
            '@' => safe.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '#' | '+' | '!' | '|' | '~'
            | '&' | '$' | '^' | '=' | '"' => {
                safe.push('\\');
                safe.push(c);
            }
            // No link: what a hostile host says must not be a click away.
            ':' if chars.peek() == Some(&'/') => safe.push_str("\\:"),
            c => safe.push(c),
        }
    }
    safe
}
