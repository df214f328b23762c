//! A web server that does as it is told: it notes what it was asked, and can be broken.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::made::Pair;

/// What one request was.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without its query; percent-encoding taken away.
    pub(crate) path: String,
    /// Decoded.
    pub(crate) query: BTreeMap<String, String>,
    /// By name in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    /// A header, empty where it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// The segments of the path.
    pub(crate) fn segments(&self) -> Vec<&str> {
        self.path.trim_matches('/').split('/').collect()
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: body.to_string() }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// A refusal that is as careless as can be: it repeats everything it was sent.
    pub(crate) fn careless(status: u16, request: &Request) -> Self {
        let said = format!("not taken: {:?}", request.headers.values().collect::<Vec<_>>());
        Self::json(status, &json!({ "message": said, "errors": [{ "code": 10000, "message": said }] }))
    }
}

/// How the server is broken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
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
    /// It answers, one byte after the other, and never comes to an end.
    Drip,
    /// It takes the request and ends the connection.
    Close,
}

/// A server on a loopback address, until it is dropped.
pub(crate) struct Web {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    tls: bool,
    inner: Arc<Inner>,
}

type Answer = dyn FnMut(&Request) -> Reply + Send;

struct Inner {
    answer: Mutex<Box<Answer>>,
    fault: Mutex<Option<Fault>>,
    log: Mutex<Vec<Request>>,
    requests: AtomicUsize,
    ended: AtomicBool,
}

impl Web {
    /// A server of plain HTTP.
    pub(crate) fn start(answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        Self::with(None, answer)
    }

    /// A server of HTTPS that shows this certificate.
    pub(crate) fn start_tls(pair: &Pair, answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let chain = format!("{}{}", pair.leaf, pair.chain);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(chain.unwrap(), key).unwrap();
        Self::with(Some(Arc::new(config)), answer)
    }

    fn with(tls: Option<Arc<ServerConfig>>, answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            answer: Mutex::new(Box::new(answer)),
            fault: Mutex::default(),
            log: Mutex::default(),
            requests: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let server = Arc::clone(&inner);
        let config = tls.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if server.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (server, config) = (Arc::clone(&server), config.clone());
                thread::spawn(move || match config {
                    None => server.serve(stream),
                    Some(config) => {
                        server.serve(StreamOwned::new(ServerConnection::new(config).unwrap(), stream))
                    }
                });
            }
        });
        Self { address, tls: tls.is_some(), inner }
    }

    /// Its URL with this path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http{}://{}{path}", if self.tls { "s" } else { "" }, self.address)
    }

    /// Breaks it, or mends it.
    pub(crate) fn fail(&self, fault: Option<Fault>) {
        *lock(&self.inner.fault) = fault;
    }

    /// How many requests came, broken or not.
    pub(crate) fn requests(&self) -> usize {
        self.inner.requests.load(Ordering::SeqCst)
    }

    /// The requests that were answered as they should be.
    pub(crate) fn log(&self) -> Vec<Request> {
        lock(&self.inner.log).clone()
    }

    /// Ends it: nobody listens any more.
    pub(crate) fn stop(&self) {
        if !self.inner.ended.swap(true, Ordering::SeqCst) {
            // It looks up when somebody comes. Two, since the first may be taken before it was set.
            drop(TcpStream::connect(self.address));
            while TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
                thread::yield_now();
            }
        }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    /// One request, one answer, the end of the connection.
    fn serve(&self, mut stream: impl Read + Write) {
        let Some(request) = read(&mut stream) else { return };
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
                lock(&self.answer)(&request)
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
                let _ = stream.read(&mut [0]);
                return;
            }
            Some(Fault::Close) => return,
            Some(Fault::Drip) => {
                let _ = stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 1000000\r\n\r\n");
                while stream.write_all(b" ").and_then(|()| stream.flush()).is_ok() {
                    thread::sleep(Duration::from_millis(20));
                }
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
        let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    }
}

fn read(stream: &mut impl Read) -> Option<Request> {
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
