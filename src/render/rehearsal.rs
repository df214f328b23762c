//! What a dry run came to.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::engine::{Rehearsal, Tried};
use crate::model::problem::Problem;

/// Of a host that would take a deployment.
pub(super) const HOST_TESTED: &str = "connected, its config test passes";

/// How far an issuer was tried.
pub(super) fn tried_words(tried: Tried) -> &'static str {
    match tried {
        Tried::Staging => "issued a certificate at its staging, thrown away",
        Tried::Authorized => "would issue it: all authorizations are valid, the order is not finalized",
    }
}

/// As text: a line for each certificate and issuer, one for each host.
pub fn rehearsal_text(rehearsal: &Rehearsal) -> String {
    let mut text = String::new();
    let failed = |problem: &Problem| format!("FAILED: {}", problem.one_line());
    for (name, issuer, result) in &rehearsal.issued {
        let what = result.as_ref().map_or_else(failed, |tried| tried_words(*tried).to_owned());
        let _ = writeln!(text, "{name} by {issuer}: {what}");
    }
    for (host, result) in &rehearsal.hosts {
        let what = result.as_ref().map_or_else(failed, |()| HOST_TESTED.to_owned());
        let _ = writeln!(text, "{host}: {what}");
    }
    for (name, problem) in &rehearsal.left {
        let _ = writeln!(text, "{name}: challenge records are left: {}", failed(problem));
    }
    for (name, holder) in &rehearsal.locked {
        let _ = writeln!(text, "{name}: not tried, locked by {holder}");
    }
    if rehearsal.interrupted {
        text.push_str("interrupted\n");
    }
    text.push_str("dry run: nothing was stored, nothing was deployed\n");
    text
}

/// As JSON.
pub fn rehearsal_json(rehearsal: &Rehearsal, now: Timestamp) -> Value {
    let problem = |problem: &Problem| json!({ "code": problem.code, "message": problem.one_line(), "hint": problem.hint });
    json!({
        "generated-at": now,
        "dry-run": true,
        "issued": rehearsal.issued.iter().map(|(name, issuer, result)| json!({
            "certificate": name,
            "issuer": issuer,
            "tried": result.as_ref().ok().map(|tried| match tried {
                Tried::Staging => "staging",
                Tried::Authorized => "authorized",
            }),
            "problem": result.as_ref().err().map(problem),
        })).collect::<Vec<_>>(),
        "hosts": rehearsal.hosts.iter().map(|(host, result)| {
            json!({ "host": host, "problem": result.as_ref().err().map(problem) })
        }).collect::<Vec<_>>(),
        "records-left": rehearsal.left.iter().map(|(name, why)| {
            json!({ "certificate": name, "problem": problem(why) })
        }).collect::<Vec<_>>(),
        "locked": rehearsal.locked.iter().map(|(name, holder)| {
            json!({ "certificate": name, "holder": holder })
        }).collect::<Vec<_>>(),
        "interrupted": rehearsal.interrupted,
    })
}
