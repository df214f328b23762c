//! The journal of this machine, by its own protocol; where there is none, standard error.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use super::cut::excerpt;
use super::{Channel, Error, Message, text};
use crate::kind::{Kind, Section};
use crate::model::alert::{Level, Notice, Occasion};
use crate::model::problem::plain;

/// The table entry.
pub const KIND: Kind<dyn Channel> = Kind {
    name: "journal",
    summary: "the system's journal, with fields to search by; standard error where there is none",
    example: "",
    rights: "none",
    build,
};

/// The channel that there is without being asked for.
pub fn default() -> Arc<dyn Channel> {
    Arc::new(Journal { table: "alert.journal".to_owned(), socket: PathBuf::from(SOCKET), timeout: TIMEOUT })
}

#[derive(Debug)]
struct Journal {
    table: String,
    socket: PathBuf,
    timeout: Duration,
}

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Channel>> {
    let socket = section.optional("socket").unwrap_or_else(|| PathBuf::from(SOCKET));
    let timeout = crate::http::timeout(section, TIMEOUT);
    Some(Arc::new(Journal { table: section.path(), socket, timeout }))
}

#[async_trait]
impl Channel for Journal {
    async fn send(&self, message: &Message) -> Result<Option<String>, Error> {
        let sent = timeout(self.timeout, self.write(&entry(message))).await;
        match sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A container, or a system without systemd: what starts us keeps what we say.
                let line = one_line(message);
                writeln!(io::stderr(), "{line}").map(|()| None).map_err(|source| self.failed(source))
            }
            Err(source) => Err(self.failed(source)),
        }
    }
}

impl Journal {
    fn failed(&self, source: io::Error) -> Error {
        Error::Journal { table: self.table.clone(), socket: self.socket.clone(), source }
    }

    async fn write(&self, entry: &[u8]) -> io::Result<()> {
        let sent = UnixDatagram::unbound()?.send_to(entry, &self.socket).await?;
        // A datagram is taken whole or not at all.
        if sent == entry.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

fn one_line(message: &Message) -> String {
    let body = text::body(message);
    let parts = std::iter::once(text::title(message)).chain(body.lines().map(str::to_owned));
    parts.collect::<Vec<_>>().join("; ")
}

/// One entry (systemd's "Native Journal Protocol").
fn entry(message: &Message) -> Vec<u8> {
    let mut entry = Vec::new();
    let mut add = |name: &str, value: &str| {
        // With its length before it, a value may say what it likes.
        entry.extend_from_slice(name.as_bytes());
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        entry.extend_from_slice(value.as_bytes());
        entry.push(b'\n');
    };
    let said = format!("{}\n{}", text::title(message), text::body(message));
    add("MESSAGE", &excerpt(said.trim_end(), LONGEST));
    add("SYSLOG_IDENTIFIER", "certfleet");
    match message {
        Message::Notice(notice) => {
            add("MESSAGE_ID", NOTICE);
            add("PRIORITY", priority(notice));
            add("CERTFLEET_ALERT", &plain(&notice.alert));
            add("CERTFLEET_CODE", &plain(&notice.code));
            add("CERTFLEET_LEVEL", text::level(notice.level));
            let certificates = notice.subjects.iter().filter_map(|subject| subject.certificate.as_ref());
            for name in certificates.collect::<BTreeSet<_>>() {
                add("CERTFLEET_CERTIFICATE", name.as_str());
            }
            let hosts = notice.subjects.iter().filter_map(|subject| subject.host.as_ref());
            for name in hosts.collect::<BTreeSet<_>>() {
                add("CERTFLEET_HOST", name.as_str());
            }
        }
        Message::Document { .. } => add("PRIORITY", "6"),
    }
    entry
}

/// As syslog counts (RFC 5424 section 6.2.1).
fn priority(notice: &Notice) -> &'static str {
    match (notice.occasion, notice.level) {
        (Occasion::Over, _) => "5",
        (_, Level::Warning) => "4",
        (_, Level::Critical) => "2",
        // Not 0, which systemd writes to every terminal that is open.
        (_, Level::Emergency) => "1",
    }
}

const SOCKET: &str = "/run/systemd/journal/socket";
/// By which `journalctl MESSAGE_ID=…` finds all alerts.
const NOTICE: &str = "7c1f6a0de2a94bb3a2c9d0f4b6a85e13";
/// Below the usual largest datagram, 208 KiB.
const LONGEST: usize = 100_000;
const TIMEOUT: Duration = Duration::from_secs(5);
