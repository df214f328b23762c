//! Everything that is formatted for people or programs: events, plan, summary, report, problems.

mod check;
mod history;
mod progress;
mod rehearsal;
mod report;
mod scan;

pub use check::{check_json, check_text};
pub use history::{history_json, history_table};
pub use progress::Progress;
pub use rehearsal::{rehearsal_json, rehearsal_text};
pub use report::{report_json, report_table};
pub use scan::{scan_json, scan_text};

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::engine::Summary;
use crate::model::plan::{Action, Plan, Waiting, minute};
use crate::model::problem::Problem;
use crate::model::report::days_left;

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
                let _ = writeln!(
                    text,
                    "  clean up  {certificate}: {} challenge records left by an earlier run",
                    debts.len()
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
                }
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
                })
            })
            .collect(),
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

/// What a pass came to, as text: one block for each certificate that something was done for.
pub fn summary_text(summary: &Summary, now: Timestamp) -> String {
    let mut text = String::new();
    for (name, version, not_after) in &summary.issued {
        let _ = writeln!(
            text,
            "{name}: version {version} issued, valid until {} ({} days left)",
            minute(*not_after),
            days_left(*not_after, now)
        );
    }
    for (name, host, version) in &summary.served {
        let _ = writeln!(text, "{name} on {host}: version {version} is what visitors get");
    }
    for (name, host, problem) in &summary.pending {
        let _ = writeln!(text, "{name} on {host}: installed, not in use: {}", problem.one_line());
    }
    for (name, host, problem) in &summary.failed {
        let place = host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
        let _ = writeln!(text, "{name}{place}: FAILED: {}", problem.one_line());
    }
    for (name, holder) in &summary.locked {
        let _ = writeln!(text, "{name}: not done, locked by {holder}");
    }
    for waiting in &summary.waiting {
        let _ = writeln!(text, "{waiting}");
    }
    if summary.interrupted {
        text.push_str("interrupted: the next run goes on where this one ended\n");
    }
    if text.is_empty() {
        text.push_str("nothing to do\n");
    }
    text
}

/// What a pass came to, as JSON.
pub fn summary_json(summary: &Summary, now: Timestamp) -> Value {
    let problem = |problem: &Problem| json!({ "code": problem.code, "message": problem.one_line(), "hint": problem.hint });
    json!({
        "generated-at": now,
        "issued": summary.issued.iter().map(|(name, version, not_after)| {
            json!({ "certificate": name, "version": version, "not-after": not_after })
        }).collect::<Vec<_>>(),
        "served": summary.served.iter().map(|(name, host, version)| {
            json!({ "certificate": name, "host": host, "version": version })
        }).collect::<Vec<_>>(),
        "pending": summary.pending.iter().map(|(name, host, why)| {
            json!({ "certificate": name, "host": host, "problem": problem(why) })
        }).collect::<Vec<_>>(),
        "failed": summary.failed.iter().map(|(name, host, why)| {
            json!({ "certificate": name, "host": host, "problem": problem(why) })
        }).collect::<Vec<_>>(),
        "locked": summary.locked.iter().map(|(name, holder)| {
            json!({ "certificate": name, "holder": holder })
        }).collect::<Vec<_>>(),
        "waiting": summary.waiting.iter().map(waiting_json).collect::<Vec<_>>(),
        "interrupted": summary.interrupted,
    })
}
