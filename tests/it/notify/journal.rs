//! The journal, played by a socket that reads systemd's protocol.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use certfleet::model::alert::{Level, Notice, Occasion};
use certfleet::notify::{Channel, Message};
use tempfile::TempDir;

use super::{HOSTILE, a_notice, channel, document, fails, hostile, notice, send};

struct Bench {
    socket: UnixDatagram,
    channel: Arc<dyn Channel>,
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let channel = channel(&format!("channel = 'journal'\nsocket = {path:?}\ntimeout = '1s'"));
        Self { socket, channel, dir }
    }

    /// The fields of the entry that a message becomes.
    fn entry(&self, message: &Message) -> Vec<(String, String)> {
        send(&self.channel, message).unwrap_or_else(|error| panic!("{error:?}"));
        let mut buffer = vec![0; 1 << 20];
        let length = self.socket.recv(&mut buffer).unwrap();
        fields(&buffer[..length])
    }
}

/// Reads an entry as journald does: `NAME=value` lines, or `NAME`, a length of 8 bytes, and so many bytes.
fn fields(mut entry: &[u8]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while !entry.is_empty() {
        let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
        let (line, rest) = (&entry[..end], &entry[end + 1..]);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        if let Some(sign) = line.iter().position(|byte| *byte == b'=') {
            found.push((text(&line[..sign]), text(&line[sign + 1..])));
            entry = rest;
        } else {
            let length = usize::try_from(u64::from_le_bytes(rest[..8].try_into().unwrap())).unwrap();
            found.push((text(line), text(&rest[8..8 + length])));
            assert_eq!(rest[8 + length], b'\n');
            entry = &rest[9 + length..];
        }
    }
    found
}

fn of<'a>(entry: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    entry.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn a_notice_is_one_entry_to_search_by() {
    let entry = Bench::new().entry(&notice());
    for (name, values) in [
        ("PRIORITY", &["2"][..]),
        ("SYSLOG_IDENTIFIER", &["certfleet"]),
        ("CERTFLEET_ALERT", &["k3v9"]),
        ("CERTFLEET_CODE", &["served.expires"]),
        ("CERTFLEET_LEVEL", &["critical"]),
        ("CERTFLEET_CERTIFICATE", &["media.example.org"]),
        ("CERTFLEET_HOST", &["esme", "sally"]),
    ] {
        assert_eq!(of(&entry, name), values, "{name}");
    }
    let message = of(&entry, "MESSAGE")[0];
    assert!(message.starts_with("critical: media.example.org ends in 12 days on 2 hosts\n- sally serves"));
    assert!(message.ends_with("acknowledge: certfleet alert ack k3v9"));
    let readme = include_str!("../../../README.md");
    assert!(readme.contains(&format!("MESSAGE_ID={}", of(&entry, "MESSAGE_ID")[0])));
}

#[test]
fn its_priority_follows_the_level() {
    let bench = Bench::new();
    for (level, occasion, priority) in [
        (Level::Warning, Occasion::Raised, "4"),
        (Level::Critical, Occasion::Repeated, "2"),
        (Level::Emergency, Occasion::Worsened, "1"),
        (Level::Emergency, Occasion::Over, "5"),
    ] {
        let notice = Notice { level, occasion, ..a_notice() };
        assert_eq!(of(&bench.entry(&Message::Notice(Box::new(notice))), "PRIORITY"), [priority]);
    }
}

#[test]
fn nothing_hostile_becomes_a_field_of_its_own() {
    let bench = Bench::new();
    let evil = format!("{HOSTILE}\nPRIORITY=7\nCERTFLEET_HOST=other\n");
    let notice = Notice { alert: evil.clone(), code: evil.clone(), title: evil.clone(), ..a_notice() };
    for message in [Message::Notice(Box::new(notice)), hostile()] {
        let entry = bench.entry(&message);
        assert_eq!(of(&entry, "PRIORITY"), ["2"]);
        assert!(!of(&entry, "CERTFLEET_HOST").contains(&"other"));
        for (_, value) in &entry {
            assert!(!value.contains(|c: char| c.is_control() && c != '\n'), "{value:?}");
        }
    }
    let entry = bench.entry(&document());
    assert_eq!((of(&entry, "PRIORITY"), entry.len()), (vec!["6"], 3));
}

#[test]
fn a_journal_that_does_not_listen_delays_nobody_and_is_told() {
    let bench = Bench::new();
    // Nobody reads: at some time the socket is full.
    let full =
        std::iter::from_fn(|| Some(send(&bench.channel, &document()))).take(10_000).find(Result::is_err);
    assert!(full.is_some(), "10000 entries were taken unread");
    fails(&bench.channel, "notify.journal");
    drop(bench.socket);
    fails(&bench.channel, "notify.journal");
    // Where there is none at all, standard error has it.
    std::fs::remove_file(bench.dir.path().join("socket")).unwrap();
    send(&bench.channel, &notice()).unwrap();
}
