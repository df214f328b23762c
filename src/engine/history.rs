//! The audit log, written where events happen: a second listener beside the one that people look at.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;

use super::apart::blocking;
use super::event::{Event, Listener};
use crate::model::history::{Author, Entry, How, What, Wrong};
use crate::model::name::{CertName, VersionNumber};
use crate::model::problem::plain;
use crate::store::Store;

/// Tells a listener, and writes down what is worth remembering.
pub(super) struct Told {
    listener: Arc<dyn Listener>,
    store: Store,
    by: OnceLock<Author>,
}

impl Told {
    pub(super) fn new(listener: Arc<dyn Listener>, store: Store) -> Self {
        Self { listener, store, by: OnceLock::new() }
    }

    /// Says what has this program run; the first word counts.
    pub(super) fn run_by(&self, how: How) {
        let _ = self.by.set(author(how));
    }

    /// What has this program run.
    pub(super) fn how(&self) -> How {
        self.by.get().map_or(How::Cli, |author| author.how)
    }

    fn entry(&self, event: &Event, now: Timestamp) -> Option<Entry> {
        let new = |what| Entry::new(now, what, self.by.get_or_init(|| author(How::Cli)).clone());
        let of = |what, name: &CertName| Entry { certificate: Some(name.clone()), ..new(what) };
        let version = |what, name: &CertName, version: VersionNumber| {
            let known = self.store.certificate(name).ok();
            Entry {
                version: Some(version),
                fingerprint: known.and_then(|known| Some(known.versions.get(&version)?.fingerprint)),
                ..of(what, name)
            }
        };
        Some(match event {
            Event::Issued(name, number, ..) => version(What::Issued, name, *number),
            Event::IssueFailed(name, problem, _) => {
                Entry { problem: Some(Wrong::from(problem)), ..of(What::IssueFailed, name) }
            }
            Event::NextIssuer(name, problem) => Entry {
                problem: Some(Wrong::from(problem)),
                detail: Some("the next issuer is asked".to_owned()),
                ..of(What::IssueFailed, name)
            },
            Event::Served(name, host, number, looks, _) => Entry {
                host: Some(host.clone()),
                detail: Some(match looks {
                    0 => "not probed".to_owned(),
                    1 => "proven by TLS".to_owned(),
                    looks => format!("proven by TLS in {looks} places"),
                }),
                ..version(What::Deployed, name, *number)
            },
            Event::Pending(name, host, number, problem) => Entry {
                host: Some(host.clone()),
                problem: Some(Wrong::from(problem)),
                ..version(What::Installed, name, *number)
            },
            Event::PutBack(name, host, number, problem) => Entry {
                host: Some(host.clone()),
                problem: Some(Wrong::from(problem)),
                ..version(What::PutBack, name, *number)
            },
            Event::DeployFailed(name, host, number, problem) => Entry {
                host: Some(host.clone()),
                problem: Some(Wrong::from(problem)),
                ..version(What::DeployFailed, name, *number)
            },
            Event::Drifted(name, host, what) => Entry {
                host: Some(host.clone()),
                detail: Some(plain(&format!("on its disk {what}"))),
                ..of(What::Drifted, name)
            },
            Event::Revoked(name, number, reason) => {
                Entry { detail: Some(reason.to_string()), ..version(What::Revoked, name, *number) }
            }
            Event::CleanedUp(name, count) => {
                Entry { detail: Some(format!("{count} challenge records")), ..of(What::CleanedUp, name) }
            }
            Event::CleanUpFailed(name, problem) => {
                Entry { problem: Some(Wrong::from(problem)), ..of(What::CleanUpFailed, name) }
            }
            Event::Registered(issuer) => {
                Entry { issuer: Some(issuer.clone()), ..new(What::AccountRegistered) }
            }
            Event::Observing(_)
            | Event::Locked(..)
            | Event::Issuing(..)
            | Event::Step(..)
            | Event::AlreadyIssued(_)
            | Event::OtherChain(..)
            | Event::OrderOver(_)
            | Event::Rehearsed(..)
            | Event::RehearsalFailed(..)
            | Event::HostTested(_)
            | Event::HostFailed(..)
            | Event::NotSeen(..)
            | Event::NotNoted(_)
            | Event::Oddity(_)
            | Event::Deploying(..)
            | Event::DeployWouldDo(..)
            | Event::Ending => return None,
        })
    }

    /// Several events of one moment; written down at one go.
    pub(super) fn notice_all(&self, events: &[Event]) {
        events.iter().for_each(|event| self.listener.notice(event));
        blocking(|| {
            let now = Timestamp::now();
            let entries: Vec<Entry> = events.iter().filter_map(|event| self.entry(event, now)).collect();
            note_all(&self.store, &entries);
        });
    }
}

impl Listener for Told {
    fn notice(&self, event: &Event) {
        self.notice_all(std::slice::from_ref(event));
    }
}

/// Writes an entry. One that cannot be written is said, and stops nothing: a renewal is worth more.
pub fn note(store: &Store, entry: &Entry) {
    note_all(store, std::slice::from_ref(entry));
}

fn note_all(store: &Store, entries: &[Entry]) {
    if let Err(error) = store.add_history(entries) {
        let event = entries.first().map_or("", |entry| entry.event.as_str());
        tracing::warn!(event, "cannot write the history: {error}");
    }
}

/// Who we are.
pub fn author(how: How) -> Author {
    let uid = rustix::process::geteuid().as_raw();
    let sudo_user = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    Author {
        user: user_name(uid).unwrap_or_else(|| uid.to_string()),
        sudo_user: sudo_user.map(|name| plain(&name).chars().take(64).collect()),
        pid: std::process::id(),
        how,
    }
}

/// The name of a user, by the machine's own list; users of a directory service have none here.
fn user_name(uid: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(uid)).then(|| plain(name))
    })
}
