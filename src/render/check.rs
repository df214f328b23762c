//! The findings of a preflight as text and JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::engine::{Finding, Standing};

/// A line for each, and the remedy below it.
pub fn check_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{:<4}  {}: {}", word(finding.standing), finding.subject, finding.what);
        if let Some(hint) = finding.hint.as_ref().filter(|_| finding.standing != Standing::Ok) {
            let _ = writeln!(text, "      {hint}");
        }
    }
    let count = |standing| findings.iter().filter(|finding| finding.standing == standing).count();
    let (warn, fail) = (count(Standing::Warn), count(Standing::Fail));
    let _ = match (warn, fail) {
        (0, 0) => writeln!(text, "everything is as it should be"),
        _ => writeln!(text, "{fail} failed, {warn} to look at"),
    };
    text
}

/// The findings as JSON.
pub fn check_json(findings: &[Finding]) -> Value {
    let one = |finding: &Finding| {
        json!({
            "standing": word(finding.standing),
            "subject": finding.subject,
            "message": finding.what,
            "hint": finding.hint,
            "code": finding.code,
        })
    };
    json!({ "findings": findings.iter().map(one).collect::<Vec<_>>() })
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Ok => "pass",
        Standing::Warn => "warn",
        Standing::Fail => "fail",
    }
}
