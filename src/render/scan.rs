//! What certificates exist on hosts, as table and JSON.

use std::fmt::Write;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Table};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::engine::{FoundCertificate, HostScan};
use crate::model::report::days_left;

/// A line for each certificate, host by host, and what else there is to say.
pub fn scan_text(scans: &[HostScan], now: Timestamp) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).force_no_tty();
    table.set_header(["HOST", "WHERE", "DOMAINS", "DAYS LEFT", "ISSUER", "USED BY", "WHAT IT IS"]);
    for scan in scans {
        for found in &scan.certificates {
            table.add_row(row(scan, found, now));
        }
    }
    let mut text: String = table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect();
    for scan in scans {
        let host = &scan.host;
        if let Some(problem) = &scan.problem {
            let _ = writeln!(text, "\n{host}: {}", super::problem(problem, None));
        }
        if let Some(why) = &scan.no_config {
            let _ = writeln!(text, "{host}: what is used is not known: {why}");
        }
        for path in &scan.unreadable {
            let _ = writeln!(text, "{host}: {path} cannot be read");
        }
        for uncovered in &scan.uncovered {
            let why =
                if uncovered.tls { "its server has a certificate for other names" } else { "no certificate" };
            let _ = writeln!(text, "{host}: {}: {why}", uncovered.name);
        }
        if scan.cut {
            let _ = writeln!(text, "{host}: there are more certificates than could be taken");
        }
    }
    text
}

fn row(scan: &HostScan, found: &FoundCertificate, now: Timestamp) -> [Cell; 7] {
    const SHOWN: usize = 3;
    let some = |names: Vec<String>| match names.len() {
        0 => "-".to_owned(),
        all if all > SHOWN => format!("{} and {} more", names[..SHOWN].join(" "), all - SHOWN),
        _ => names.join(" "),
    };
    let mut what: Vec<String> = found.flags.iter().map(|flag| flag.as_str().to_owned()).collect();
    if let Some(name) = &found.name {
        what.push(format!("({name})"));
    }
    if !found.elsewhere.is_empty() {
        what.push(format!(
            "also on {}",
            found.elsewhere.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        ));
    }
    [
        Cell::new(&scan.host),
        Cell::new(&found.path),
        Cell::new(some(found.domains.iter().map(ToString::to_string).collect())),
        Cell::new(days_left(found.not_after, now)),
        Cell::new(&found.issuer),
        Cell::new(some(found.used_by.clone())),
        Cell::new(what.join(" ")),
    ]
}

/// The same as JSON.
pub fn scan_json(scans: &[HostScan], entries: &[String], now: Timestamp) -> Value {
    let certificate = |found: &FoundCertificate| {
        json!({
            "path": found.path,
            "name": found.name,
            "domains": found.domains,
            "issuer": found.issuer,
            "fingerprint": found.fingerprint,
            "not-after": found.not_after,
            "days-left": days_left(found.not_after, now),
            "used-by": found.used_by,
            "elsewhere": found.elsewhere,
            "flags": found.flags.iter().map(|flag| flag.as_str()).collect::<Vec<_>>(),
        })
    };
    let host = |scan: &HostScan| {
        json!({
            "host": scan.host,
            "problem": scan.problem.as_ref().map(|problem| json!({
                "code": problem.code, "message": problem.one_line(), "hint": problem.hint,
            })),
            "config-unknown": scan.no_config,
            "certificates": scan.certificates.iter().map(certificate).collect::<Vec<_>>(),
            "names-without-certificate": scan.uncovered.iter().map(|uncovered| json!({
                "name": uncovered.name, "tls": uncovered.tls,
            })).collect::<Vec<_>>(),
            "unreadable": scan.unreadable,
            "incomplete": scan.cut,
        })
    };
    json!({
        "generated-at": now,
        "hosts": scans.iter().map(host).collect::<Vec<_>>(),
        "entries": entries,
    })
}
