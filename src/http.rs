//! HTTP to services that are given secrets: one request, one answer, whatever comes.
//!
//! Deadlines, sizes, redirects, proxies, and keeping secrets out of every message are handled here. Whose
//! service it is, and what its answers mean, callers know: they make errors of their own out of [`Error`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue};
use reqwest::Url;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::model::problem::plain;

mod address;
mod call;
mod error;
mod reply;

pub use address::{Base, address, nobody_serves, timeout};
pub use call::{Call, segment};
pub use error::{Error, RootCause, untrusted};
pub use reply::Reply;

/// A client with a deadline for each call as a whole.
#[derive(Debug)]
pub struct Client {
    timeout: Duration,
    /// A PEM file with a CA that counts besides the machine's.
    ca: Option<PathBuf>,
    /// Made when they are needed first: finding the machine's roots takes a while.
    https: OnceLock<reqwest::Client>,
    http: OnceLock<reqwest::Client>,
}

impl Client {
    /// A client whose calls end within `timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, ca: None, https: OnceLock::new(), http: OnceLock::new() }
    }

    /// The same, trusting the CA in a PEM file besides.
    pub fn trusting(self, ca: Option<PathBuf>) -> Self {
        Self { ca, ..self }
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends a call to `target` and reads the answer, whatever its status, but for redirects.
    pub async fn send(&self, target: Url, call: &Call) -> Result<Reply, Error> {
        let started = Instant::now();
        let host = host(&target);
        let mut request = self.client(&target)?.request(call.method.clone(), target).headers(headers(call)?);
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        let failed = |error| self.transport(error);
        let mut reply = request.send().await.map_err(failed)?;
        let (status, headers) = (reply.status(), std::mem::take(reply.headers_mut()));
        let mut body = BytesMut::new();
        while let Some(chunk) = reply.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(Error::TooLarge(MAX_BODY));
            }
            body.extend_from_slice(&chunk);
        }
        tracing::debug!(method = %call.method, host, path = plain(&call.path), status = status.as_u16(), took = ?started.elapsed(), "http");
        let reply = Reply::new(call.secrets(), status, headers, body.freeze());
        if status.is_redirection() { Err(Error::Redirect(reply.location())) } else { Ok(reply) }
    }

    fn client(&self, target: &Url) -> Result<&reqwest::Client, Error> {
        let local = target.scheme() == "http";
        let made = if local { &self.http } else { &self.https };
        if let Some(client) = made.get() {
            return Ok(client);
        }
        let mut tls = tls(self.ca.as_deref())?;
        // A preconfigured TLS is taken as it is: without this all would be HTTP/1.1.
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("certfleet/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT.min(self.timeout))
            .pool_idle_timeout(IDLE_TIMEOUT)
            .timeout(self.timeout);
        // Only on this machine: a proxy would see the secrets.
        if local {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| Error::Client(error.into()))?;
        Ok(made.get_or_init(|| client))
    }

    fn transport(&self, error: reqwest::Error) -> Error {
        if let Some(verdict) = untrusted(&error) {
            return Error::Untrusted(verdict);
        }
        if error.is_timeout() {
            let within = if error.is_connect() { CONNECT_TIMEOUT.min(self.timeout) } else { self.timeout };
            return Error::Timeout(within);
        }
        Error::Transport(error.into())
    }
}

/// The host of a URL with its port, where it is not the usual one: what may be shown of a secret URL.
pub fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn headers(call: &Call) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for header in &call.headers {
        let mut value = HeaderValue::from_str(&header.value)
            .map_err(|_| Error::BadHeader(header.name.as_str().to_owned()))?;
        value.set_sensitive(header.secret);
        headers.insert(header.name.clone(), value);
    }
    Ok(headers)
}

/// TLS that trusts what this machine trusts, and the CA in a PEM file besides.
pub fn tls(ca: Option<&Path>) -> Result<rustls::ClientConfig, Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let unusable = |source| Error::Ca(path.to_owned(), source);
        let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| unusable(Some(error)))?;
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(unusable(None));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(versions.map_err(Error::Tls)?.with_root_certificates(roots).with_no_client_auth())
}

/// Covers name lookup, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BODY: usize = 1024 * 1024;
