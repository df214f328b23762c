//! Everything that is formatted for people or programs: events, plan, summary, report, problems.

mod alert;
mod check;
mod history;
mod log;
mod progress;
mod rehearsal;
mod report;
mod scan;
mod standing;
mod summary;

pub use alert::{TriedChannel, alerts_json, alerts_text, tried_channels, tried_channels_json};
pub use check::{check_json, check_text};
pub use history::{history_json, history_table};
pub use log::Log;
pub use progress::Progress;
pub use rehearsal::{rehearsal_json, rehearsal_text};
pub use report::{
    Verdict, report_check, report_csv, report_html, report_json, report_markdown, report_prometheus,
    report_table, report_title,
};
pub use scan::{scan_json, scan_text};
pub use standing::{size, standing, tally};
pub use summary::{summary_json, summary_text};

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::model::plan::{Action, Plan, Waiting, minute};
use crate::model::problem::Problem;

/// A problem as people read it: what failed, why, what happens next, what to do.
pub fn problem(problem: &Problem, next: Option<&str>) -> String {
    let mut text = format!("error: {}", problem.message);
    for cause in &problem.causes {
        let _ = write!(text, "\n  cause: {cause}");
    }
    if let Some(next) = next {
        let _ = write!(text, "\n  next: {next}");
    }
    if let Some(hint) = &problem.hint {
        let _ = write!(text, "\n  hint: {hint}");
    }
    text
}

/// The chain of an error that is no [`Problem`]: usage, start-up.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = format!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, "\n  cause: {cause}");
        source = cause.source();
    }
    text
}

/// A plan as text.
pub fn plan_text(plan: &Plan) -> String {
    let mut text = String::new();
    if plan.actions.is_empty() {
        text.push_str("nothing to do now\n");
    } else {
        text.push_str("to do:\n");
    }
    for action in &plan.actions {
        match action {
            Action::CleanUp { certificate, debts } => {
                let count = debts.len();
                let records = if count == 1 { "record" } else { "records" };
                let _ = writeln!(
                    text,
                    "  clean up  {certificate}: {count} challenge {records} left by an earlier run"
                );
            }
            Action::Issue { certificate, issuer, because, resumes } => {
                let resumes = if *resumes { ", takes up the open order" } else { "" };
                let _ = writeln!(text, "  issue     {certificate}: {because}, by {issuer}{resumes}");
            }
            Action::Deploy { host, installs } => {
                for install in installs {
                    let (name, version, lacks) = (&install.certificate, install.version, &install.lacks);
                    let _ = writeln!(text, "  deploy    {name} version {version} to {host}: {lacks}");
                    if let Some(despite) = &install.despite {
                        let _ = writeln!(text, "            out of turn, its end is close: {despite}");
                    }
                }
            }
            Action::Look { host, since, .. } => {
                let since = minute(*since);
                let _ = writeln!(text, "  look      what lies on the disk of {host}: last known {since}");
            }
        }
    }
    if !plan.waiting.is_empty() {
        text.push_str("waiting:\n");
    }
    for waiting in &plan.waiting {
        let _ = writeln!(text, "  {waiting}");
    }
    text
}

/// A plan as JSON.
pub fn plan_json(plan: &Plan, now: Timestamp) -> Value {
    let actions: Vec<Value> = plan.actions.iter().flat_map(action_json).collect();
    json!({
        "generated-at": now,
        "actions": actions,
        "waiting": plan.waiting.iter().map(waiting_json).collect::<Vec<_>>(),
        "wake": plan.wake(),
    })
}

fn action_json(action: &Action) -> Vec<Value> {
    match action {
        Action::CleanUp { certificate, debts } => {
            vec![json!({ "action": "clean-up", "certificate": certificate, "records": debts.len() })]
        }
        Action::Issue { certificate, issuer, because, resumes } => {
            vec![
                json!({ "action": "issue", "certificate": certificate, "issuer": issuer, "because": because.to_string(), "resumes": resumes }),
            ]
        }
        Action::Deploy { host, installs } => installs
            .iter()
            .map(|install| {
                json!({
                    "action": "deploy",
                    "host": host,
                    "certificate": install.certificate,
                    "version": install.version,
                    "because": install.lacks.to_string(),
                    "despite": install.despite.as_ref().map(ToString::to_string),
                })
            })
            .collect(),
        Action::Look { host, certificates, since } => {
            vec![json!({ "action": "look", "host": host, "certificates": certificates, "since": since })]
        }
    }
}

fn waiting_json(waiting: &Waiting) -> Value {
    json!({
        "certificate": waiting.certificate(),
        "host": waiting.host(),
        "until": waiting.until(),
        "needs-person": waiting.needs_person(),
        "reason": waiting.to_string(),
    })
}
