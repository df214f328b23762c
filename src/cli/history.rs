//! `certfleet history`: the audit log.

use clap::Args;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Exit, Output, Refusal, complain, put, unknown};
use crate::config::Config;
use crate::kind;
use crate::model::history::Entry;
use crate::model::name::CertName;
use crate::model::problem::Problem;
use crate::render;
use crate::store::Store;

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Only what happened to this certificate; it may be gone from certs.toml
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Only since then: a date (2026-11-01), a time (2026-11-01T12:00:00Z), or how long ago (7d, 12h)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
}

impl Output {
    pub(super) fn history(&self, config: &Config, args: &HistoryArgs) -> Result<Exit, Refusal> {
        let refused = |problem: Problem| Refusal::problem(&problem);
        let store = Store::open_existing(&config.store).map_err(|error| refused(Problem::of(&error)))?;
        let history = store.map(|store| store.history()).transpose();
        let history = history.map_err(|error| refused(Problem::of(&error)))?.unwrap_or_default();
        if history.unreadable > 0 {
            let lines =
                if history.unreadable == 1 { "1 line" } else { &format!("{} lines", history.unreadable) };
            complain(&format!(
                "warning: {lines} of the history cannot be read: cut short by a crash, or not certfleet's"
            ));
        }
        let mut entries = history.entries;
        if let Some(name) = &args.name {
            let is = |entry: &Entry| entry.certificate.as_ref().is_some_and(|of| of.as_str() == name);
            let known = config.desired.certificates.keys().map(CertName::as_str);
            if !entries.iter().any(is) && !known.clone().any(|known| known == name) {
                return Err(unknown("certificate", name, known));
            }
            entries.retain(is);
        }
        if let Some(since) = args.since {
            entries.retain(|entry| entry.at >= since);
        }
        if self.json {
            put(&format!("{:#}", render::history_json(&entries, history.unreadable)));
        } else {
            put(render::history_table(&entries).trim_end());
        }
        Ok(Exit::Done)
    }
}

/// A moment, as people write it.
fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(day) = text.parse::<Date>() {
        return day.to_zoned(TimeZone::UTC).map(|at| at.timestamp()).map_err(|error| error.to_string());
    }
    let ago = kind::duration(text)
        .map_err(|_| "a time is written as 2026-11-01, 2026-11-01T12:00:00Z, 7d or 12h".to_owned())?;
    Timestamp::now().checked_sub(ago).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::since;

    #[test]
    fn a_moment_is_written_in_three_ways() {
        assert_eq!(since("2026-11-01").unwrap(), "2026-11-01T00:00:00Z".parse().unwrap());
        assert_eq!(since("2026-11-01T12:30:00+01:00").unwrap(), "2026-11-01T11:30:00Z".parse().unwrap());
        assert!(since("1d").unwrap() < since("1h").unwrap());
        for bad in ["", "yesterday", "7", "-1d", "2026-13-01", "99999999999999w"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}
