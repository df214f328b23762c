//! Where the program's own words go: standard error, or the journal where that is what is behind it.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::render::{Log, Progress};

/// Begins logging; a daemon, or a timer's run, writes to the journal itself where its standard error leads there.
pub(super) fn begin(service: bool) -> bool {
    let filter = |default: &str| EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into());
    if service
        && leads_to_the_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        let journal = journal.with_field_prefix(None);
        let filter = filter("certfleet=info,certfleet::render::log=debug");
        tracing_subscriber::registry().with(journal.with_filter(filter)).init();
        return true;
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter("certfleet=warn"))
        .without_time()
        .init();
    false
}

/// What tells of events: the journal after [`begin`] has taken it, else lines.
pub(super) fn listener(journal: bool) -> Log {
    if journal { Log::Journal } else { Log::Plain(Progress::new()) }
}

/// Whether standard error is the stream that systemd connected to the journal (systemd.exec(5), JOURNAL_STREAM).
fn leads_to_the_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|ours| stream == format!("{}:{}", ours.st_dev, ours.st_ino))
}
