//! A stand-in for the HTTP API of a provider: it keeps records, notes what it was asked, and can be broken.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{SECRET, WRONG};
use crate::world::made::write_private;

/// How a provider's API answers; the server before it listens, and breaks when told to.
pub(super) trait Api: Send + 'static {
    /// Answers one request; `records` is what the API keeps.
    fn answer(&mut self, request: &Request, records: &mut Records) -> Reply;
}

/// What one request was.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without its query; percent-encoding taken away.
    pub(super) path: String,
    /// Decoded.
    pub(super) query: BTreeMap<String, String>,
    /// By name in lower case.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Request {
    /// A header, empty where it is missing.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// The segments of the path.
    pub(super) fn segments(&self) -> Vec<&str> {
        self.path.trim_matches('/').split('/').collect()
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: body.to_string() }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// A refusal that is as careless as can be: it repeats everything it was sent.
    pub(super) fn careless(status: u16, request: &Request) -> Self {
        let said = format!("not taken: {:?}", request.headers.values().collect::<Vec<_>>());
        Self::json(status, &json!({ "message": said, "errors": [{ "code": 10000, "message": said }] }))
    }
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

/// How the server is broken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// It answers everything with this.
    Status(u16, &'static str),
    /// It wants to be asked again later, this many times.
    Limited { status: u16, seconds: u64, times: u32 },
    /// It sends to somewhere else.
    Redirect(&'static str),
    /// It takes the request and never answers.
    Hang,
    /// It answers with more than anybody wants to read.
    Endless,
}

/// A server on a loopback address, until it is dropped.
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Where the secrets are.
    dir: TempDir,
    inner: Arc<Inner>,
}

struct Inner {
    api: Mutex<(Box<dyn Api>, Records)>,
    fault: Mutex<Option<Fault>>,
    log: Mutex<Vec<Request>>,
    requests: AtomicUsize,
    ended: AtomicBool,
}

impl Server {
    pub(super) fn start(api: impl Api) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            api: Mutex::new((Box::new(api), Records::default())),
            fault: Mutex::default(),
            log: Mutex::default(),
            requests: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let server = Arc::clone(&inner);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if server.ended.load(Ordering::SeqCst) {
                    return;
                }
                let server = Arc::clone(&server);
                thread::spawn(move || server.serve(stream));
            }
        });
        Self { address, dir: tempfile::tempdir().unwrap(), inner }
    }

    /// Its URL with this path.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
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

    /// Breaks it, or mends it.
    pub(super) fn fail(&self, fault: Option<Fault>) {
        *lock(&self.inner.fault) = fault;
    }

    /// How many requests came, broken or not.
    pub(super) fn requests(&self) -> usize {
        self.inner.requests.load(Ordering::SeqCst)
    }

    /// The requests that the API saw.
    pub(super) fn log(&self) -> Vec<Request> {
        lock(&self.inner.log).clone()
    }

    /// What the API keeps, to look at or to change.
    pub(super) fn records<T>(&self, access: impl FnOnce(&mut Records) -> T) -> T {
        access(&mut lock(&self.inner.api).1)
    }

    /// Ends it: nobody listens any more.
    pub(super) fn stop(&self) {
        if !self.inner.ended.swap(true, Ordering::SeqCst) {
            // It looks up when somebody comes. Two, since the first may be taken before it was set.
            drop(TcpStream::connect(self.address));
            while TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
                thread::yield_now();
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    /// One request, one answer, the end of the connection.
    fn serve(&self, stream: TcpStream) {
        let Some(request) = read(&stream) else { return };
        self.requests.fetch_add(1, Ordering::SeqCst);
        let fault = {
            let mut fault = lock(&self.fault);
            let now = *fault;
            if let Some(Fault::Limited { times, .. }) = &mut *fault {
                *times = times.saturating_sub(1);
                if *times == 0 {
                    *fault = None;
                }
            }
            now
        };
        let reply = match fault {
            None => {
                lock(&self.log).push(request.clone());
                let mut api = lock(&self.api);
                let (api, records) = &mut *api;
                api.answer(&request, records)
            }
            Some(Fault::Status(status, body)) => Reply { status, headers: Vec::new(), body: body.to_owned() },
            Some(Fault::Limited { status, seconds, .. }) => {
                let mut reply = Reply::json(status, &json!({ "message": "slow down" }));
                reply.headers.push(("retry-after".to_owned(), seconds.to_string()));
                reply
            }
            Some(Fault::Redirect(to)) => {
                let mut reply = Reply::empty(307);
                reply.headers.push(("location".to_owned(), to.to_owned()));
                reply
            }
            Some(Fault::Hang) => {
                // Until the other side has had enough.
                let _ = (&stream).read(&mut [0]);
                return;
            }
            Some(Fault::Endless) => {
                Reply { status: 200, headers: Vec::new(), body: "[".repeat(2 * 1024 * 1024) }
            }
        };
        let mut text = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", reply.status);
        for (name, value) in &reply.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if reply.status != 204 {
            text.push_str(&format!("content-length: {}\r\n", reply.body.len()));
        }
        text.push_str("\r\n");
        text.push_str(&reply.body);
        // Who has gone away does not want to know.
        let _ = (&stream).write_all(text.as_bytes());
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (decoded(name), decoded(value))
    };
    Some(Request {
        method,
        path: decoded(path),
        query: query.split('&').filter(|text| !text.is_empty()).map(pair).collect(),
        headers,
        body: String::from_utf8(body).ok()?,
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = (*first == b'%').then(|| tail.get(..2)).flatten();
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
