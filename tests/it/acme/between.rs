//! A server between the client and Pebble that loses, delays and forges answers.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::world::World;
use crate::world::made::Authority;

/// What the client asked.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
}

/// What Pebble answered, or what is answered in its place.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type", kind.to_owned())], body: body.into() }
    }

    pub(crate) fn problem(status: u16, kind: &str, detail: &str) -> Self {
        let body =
            serde_json::json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail });
        Self::new(status, "application/problem+json", body.to_string())
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Changes the body as text.
    pub(crate) fn replace(&mut self, from: &str, to: &str) {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        assert!(text.contains(from), "no {from} in {text}");
        self.body = text.replace(from, to).into_bytes();
    }
}

/// What happens to a request.
pub(crate) enum Act {
    /// Pebble gets it and answers.
    Pass,
    /// Pebble never sees it.
    Answer(Answer),
    /// Pebble gets it; its answer is lost.
    Lose,
    /// Pebble gets it; its answer is changed.
    Alter(Box<dyn FnOnce(&mut Answer) + Send>),
}

impl Act {
    pub(crate) fn alter(change: impl FnOnce(&mut Answer) + Send + 'static) -> Self {
        Self::Alter(Box::new(change))
    }
}

type Rule = Box<dyn FnMut(&Asked) -> Act + Send>;

/// The running server; it ends with the test's runtime.
pub(crate) struct Between {
    pub(crate) directory: String,
    pub(crate) directory_ca: PathBuf,
    inner: Arc<Inner>,
}

struct Inner {
    rule: Mutex<Rule>,
    asked: Mutex<Vec<String>>,
    pebble: String,
    own: String,
    client: reqwest::Client,
}

impl Between {
    /// Starts it on a spare address of the world.
    pub(crate) async fn start(world: &World, rule: impl FnMut(&Asked) -> Act + Send + 'static) -> Self {
        let ip = world.spare_address(0);
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let authority = Authority::new("the CA of the server between").unwrap();
        let pair = authority.issue_for_address(ip).unwrap();
        let directory_ca = world.dir.path().join("between.pem");
        fs::write(&directory_ca, authority.pem()).unwrap();

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(pair.leaf.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
            )
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&world.pebble.directory_ca).unwrap()).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).http1_only().build().unwrap();
        let inner = Arc::new(Inner {
            rule: Mutex::new(Box::new(rule)),
            asked: Mutex::default(),
            pebble: format!("https://{}", world.pebble.address),
            own: own.clone(),
            client,
        });
        let (acceptor, served) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&inner));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, inner) = (acceptor.clone(), Arc::clone(&served));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let mut stream = BufReader::new(stream);
                        while inner.serve(&mut stream).await.is_some() {}
                    }
                });
            }
        });
        Self { directory: format!("https://{own}/dir"), directory_ca, inner }
    }

    /// From now on, this happens to requests.
    pub(crate) fn rule(&self, rule: impl FnMut(&Asked) -> Act + Send + 'static) {
        *self.inner.rule.lock().unwrap() = Box::new(rule);
    }

    /// All requests since the last call, as `POST /order-plz`.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.asked.lock().unwrap())
    }
}

impl Inner {
    /// Serves one request of HTTP/1.1; `None` ends the connection.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut BufReader<S>) -> Option<()> {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.parse::<Method>().ok()?, words.next()?.to_owned());
        let mut headers = HeaderMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.parse::<HeaderName>().ok()?, value.trim().parse::<HeaderValue>().ok()?);
        }
        let length = headers.get("content-length").map_or("0", |value| value.to_str().unwrap());
        let mut body = vec![0; length.parse().ok()?];
        stream.read_exact(&mut body).await.ok()?;
        headers.remove("content-length");
        headers.insert("host", self.own.parse().ok()?);
        self.asked.lock().unwrap().push(format!("{method} {path}"));

        let asked = Asked { method, path };
        let act = (self.rule.lock().unwrap())(&asked);
        let answer = match act {
            Act::Answer(answer) => answer,
            Act::Pass => self.pass(&asked, headers, body).await?,
            Act::Lose => {
                self.pass(&asked, headers, body).await?;
                return None;
            }
            Act::Alter(change) => {
                let mut answer = self.pass(&asked, headers, body).await?;
                change(&mut answer);
                answer
            }
        };
        let reason = StatusCode::from_u16(answer.status).unwrap();
        let mut text = format!("HTTP/1.1 {reason}\r\ncontent-length: {}\r\n", answer.body.len());
        for (name, value) in &answer.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        stream.write_all(text.as_bytes()).await.ok()?;
        if asked.method != Method::HEAD {
            stream.write_all(&answer.body).await.ok()?;
        }
        stream.flush().await.ok()
    }

    async fn pass(&self, asked: &Asked, headers: HeaderMap, body: Vec<u8>) -> Option<Answer> {
        let url = format!("{}{}", self.pebble, asked.path);
        let answer =
            self.client.request(asked.method.clone(), url).headers(headers).body(body).send().await.unwrap();
        let kept = ["content-type", "location", "replay-nonce", "retry-after", "link"];
        let headers = kept
            .into_iter()
            .filter_map(|name| Some((name, answer.headers().get(name)?.to_str().unwrap().to_owned())))
            .collect();
        let status = answer.status().as_u16();
        Some(Answer { status, headers, body: answer.bytes().await.unwrap().to_vec() })
    }
}
