//! The audit log as table and JSON.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Table};
use serde_json::{Value, json};

use crate::model::history::Entry;

/// A line for each entry, newest last.
pub fn history_table(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "nothing has happened yet\n".to_owned();
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).force_no_tty();
    table.set_header(["WHEN (UTC)", "WHAT", "CERTIFICATE", "HOST", "VERSION", "BY", "RESULT"]);
    for entry in entries {
        table.add_row(row(entry));
    }
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn row(entry: &Entry) -> [Cell; 7] {
    let or_dash = |text: Option<String>| Cell::new(text.unwrap_or_else(|| "-".to_owned()));
    let subject = entry.certificate.as_ref().map(ToString::to_string);
    let place = entry.host.as_ref().map(ToString::to_string);
    let version = entry.version.map(|version| match &entry.fingerprint {
        Some(fingerprint) => format!("{version} ({})", fingerprint.short()),
        None => version.to_string(),
    });
    let by = &entry.by;
    let user = match &by.sudo_user {
        Some(person) => format!("{person} as {}", by.user),
        None => by.user.clone(),
    };
    let result = match (&entry.problem, &entry.detail) {
        (Some(problem), _) => format!("{} [{}]", problem.message, problem.code),
        (None, Some(detail)) => detail.clone(),
        (None, None) => {
            entry.issuer.as_ref().map_or_else(|| "ok".to_owned(), |issuer| format!("at {issuer}"))
        }
    };
    [
        Cell::new(entry.at.strftime("%F %T")),
        Cell::new(entry.event.as_str()),
        or_dash(subject),
        or_dash(place),
        or_dash(version),
        Cell::new(format!("{user}, {} {}", by.how.as_str(), by.pid)),
        Cell::new(result),
    ]
}

/// The entries as JSON.
pub fn history_json(entries: &[Entry], unreadable: usize) -> Value {
    json!({ "entries": entries, "unreadable-lines": unreadable })
}
