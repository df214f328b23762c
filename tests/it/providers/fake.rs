//! A stand-in for the HTTP API of a provider: a web server that keeps records.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use super::{SECRET, WRONG};
use crate::world::made::write_private;
use crate::world::web::Web;

pub(super) use crate::world::web::{Fault, Reply, Request};

/// How a provider's API answers; the server before it listens, and breaks when told to.
pub(super) trait Api: Send + 'static {
    /// Answers one request; `records` is what the API keeps.
    fn answer(&mut self, request: &Request, records: &mut Records) -> Reply;
}

/// The records of an API, in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    list: Vec<Record>,
    last: u64,
}

/// One TXT record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) id: u64,
    /// With final dot.
    pub(super) owner: String,
    pub(super) value: String,
    pub(super) ttl: u64,
}

impl Records {
    /// Adds one and gives its number.
    pub(super) fn add(&mut self, owner: &str, value: &str, ttl: u64) -> u64 {
        self.last += 1;
        self.list.push(Record { id: self.last, owner: owner.to_owned(), value: value.to_owned(), ttl });
        self.last
    }

    /// Removes the one with this number; tells whether there was one.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let before = self.list.len();
        self.list.retain(|record| record.id != id);
        self.list.len() < before
    }

    /// Puts these values in place of all of a name.
    pub(super) fn replace(&mut self, owner: &str, values: &[String], ttl: u64) {
        self.list.retain(|record| record.owner != owner);
        for value in values {
            self.add(owner, value, ttl);
        }
    }

    /// All of a name.
    pub(super) fn at(&self, owner: &str) -> Vec<Record> {
        self.list.iter().filter(|record| record.owner == owner).cloned().collect()
    }

    /// All there are.
    pub(super) fn all(&self) -> &[Record] {
        &self.list
    }

    /// The values of a name, sorted.
    pub(super) fn values(&self, owner: &str) -> Vec<String> {
        let mut values: Vec<String> = self.at(owner).into_iter().map(|record| record.value).collect();
        values.sort();
        values
    }
}

/// A server on a loopback address, until it is dropped.
pub(super) struct Server {
    web: Web,
    records: Arc<Mutex<Records>>,
    /// Where the secrets are.
    dir: TempDir,
}

impl Deref for Server {
    type Target = Web;

    fn deref(&self) -> &Web {
        &self.web
    }
}

impl Server {
    pub(super) fn start(mut api: impl Api) -> Self {
        let records = Arc::new(Mutex::new(Records::default()));
        let kept = Arc::clone(&records);
        let web = Web::start(move |request| {
            api.answer(request, &mut kept.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Self { web, records, dir: tempfile::tempdir().unwrap() }
    }

    /// A SECRET for certs.toml that is [`SECRET`].
    pub(super) fn secret(&self) -> String {
        self.file("right", SECRET)
    }

    /// A SECRET for certs.toml that is [`WRONG`].
    pub(super) fn wrong_secret(&self) -> String {
        self.file("wrong", WRONG)
    }

    /// A SECRET for certs.toml that is this text.
    pub(super) fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.dir.path().join(name);
        write_private(&path, text).unwrap();
        format!("{{ file = {path:?} }}")
    }

    /// What the API keeps, to look at or to change.
    pub(super) fn records<T>(&self, access: impl FnOnce(&mut Records) -> T) -> T {
        access(&mut self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
