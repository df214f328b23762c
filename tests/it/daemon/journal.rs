//! The log in the journal: a test that plays journald at its place, in a mount namespace of its own.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::{DEPLOYED, Daemon, NAME, edit};
use crate::tool::command;
use crate::world::World;

type Entry = BTreeMap<String, String>;

/// Whatever is sent to this socket, read as journald does (systemd's "Native Journal Protocol").
fn journald(socket: &Path) -> Arc<Mutex<Vec<Entry>>> {
    let entries: Arc<Mutex<Vec<Entry>>> = Arc::default();
    let (ours, written) = (UnixDatagram::bind(socket).unwrap(), Arc::downgrade(&entries));
    ours.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 18];
        while let Some(entries) = written.upgrade() {
            match ours.recv(&mut buffer) {
                Ok(length) if length > 0 => entries.lock().unwrap().push(fields(&buffer[..length])),
                _ => {}
            }
        }
    });
    entries
}

fn fields(mut bytes: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let line = std::str::from_utf8(&bytes[..end]).unwrap();
        bytes = &bytes[end + 1..];
        if let Some((name, value)) = line.split_once('=') {
            entry.insert(name.to_owned(), value.to_owned());
            continue;
        }
        let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
        let value = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
        entry.insert(line.to_owned(), value);
        bytes = &bytes[8 + length + 1..];
    }
    entry
}

/// A daemon for whom this socket is that of journald.
fn start(world: &World, config: &Path, socket: &Path) -> Daemon {
    const SCRIPT: &str = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                          : > /run/systemd/journal/socket && mount --bind \"$0\" /run/systemd/journal/socket && \
                          exec \"$@\"";
    let run = command(config, &["run"]);
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT]).arg(socket);
    unshare.arg(run.get_program()).args(run.get_args()).env_remove("RUST_LOG");
    unshare.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    Daemon::spawn(world.dir.path(), unshare)
}

#[test]
fn every_entry_has_its_priority_and_the_fields_to_search_by() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(DEPLOYED).unwrap();
    let socket = world.dir.path().join("journal");
    let entries = journald(&socket);
    let find = |what: &str| {
        let entries = entries.lock().unwrap();
        entries.iter().find(|entry| entry["MESSAGE"].contains(what)).cloned()
    };
    let daemon = start(&world, &config, &socket);
    daemon.eventually("the pass is in the journal", || find("pass of ").is_some());
    let field = |entry: &Entry, name: &str| entry.get(name).cloned().unwrap_or_default();

    let issued = find("version 1 issued").unwrap();
    assert_eq!(
        (field(&issued, "PRIORITY"), field(&issued, "CERTFLEET_CERTIFICATE")),
        ("5".into(), NAME.into())
    );
    let served = find("serves it, proven by TLS").unwrap();
    assert_eq!(field(&served, "CERTFLEET_CERTIFICATE"), NAME);
    assert_eq!((field(&served, "PRIORITY"), field(&served, "CERTFLEET_HOST")), ("5".into(), "sally".into()));
    let step = find("the CA signs").unwrap();
    assert_eq!((field(&step, "PRIORITY"), field(&step, "CERTFLEET_CERTIFICATE")), ("6".into(), NAME.into()));
    assert_eq!(field(&step, "SYSLOG_IDENTIFIER"), "certfleet");

    edit(&config, "hosts = [\"cdn\"]", "hots = []");
    daemon.signal(Signal::HUP);
    daemon.eventually("it is refused", || find("stays in use").is_some());
    let refused = find("stays in use").unwrap();
    assert_eq!(field(&refused, "CERTFLEET_CODE"), "config.mistakes");
    assert_eq!(field(&refused, "PRIORITY"), "3");
    let lines: Vec<&str> = refused["MESSAGE"].lines().collect();
    assert!(lines[0].contains("unknown key \"hots\"") && lines.len() > 3, "{lines:?}");

    let ran = daemon.end().ended(0);
    assert_eq!(ran.err, "", "it is said twice");
}
