//! Tests of the probe, against servers that serve what a test wants, or misbehave.

mod hostile;
mod serving;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::*;

/// 2026-06-01: all certificates here begin in 2026.
const NOW: Timestamp = Timestamp::constant(1_780_272_000, 0);

fn now() -> Timestamp {
    NOW
}

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

/// A root, an intermediate, and what is needed to issue.
struct Ca {
    root: CertificateDer<'static>,
    intermediate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    _folder: tempfile::TempDir,
    roots: Roots,
}

fn params(name: &str, names: &[&str], life: SignedDuration) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = params.not_before + Duration::from_secs(u64::try_from(life.as_secs()).unwrap());
    params
}

const DECADE: SignedDuration = SignedDuration::from_hours(24 * 3650);
const YEAR: SignedDuration = SignedDuration::from_hours(24 * 365);

impl Ca {
    fn new() -> Self {
        let authority = |name: &str| {
            let mut params = params(name, &[], DECADE);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let root_key = KeyPair::generate().unwrap();
        let root = authority("Root").self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(authority("Root"), root_key);
        let key = KeyPair::generate().unwrap();
        let intermediate = authority("Intermediate").signed_by(&key, &root_issuer).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("root.pem"), root.pem()).unwrap();
        Self {
            roots: Roots::from_pem(&folder.path().join("root.pem")).unwrap(),
            _folder: folder,
            root: root.der().clone(),
            intermediate: intermediate.der().clone(),
            issuer: Issuer::new(authority("Intermediate"), key),
        }
    }

    /// A leaf with its key, and the chain that belongs to it.
    fn issue(&self, names: &[&str], life: SignedDuration, key: &KeyPair) -> Vec<CertificateDer<'static>> {
        let leaf = params("leaf", names, life).signed_by(key, &self.issuer).unwrap();
        vec![leaf.der().clone(), self.intermediate.clone()]
    }
}

fn pair(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<CertifiedKey> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    Arc::new(CertifiedKey::new(chain, key))
}

/// What a server serves: the first whose key fits what the client can verify; may change.
#[derive(Debug, Clone)]
struct Certificates(Arc<Mutex<Vec<Arc<CertifiedKey>>>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.0.lock().unwrap();
        pairs.iter().find(|pair| pair.key.choose_scheme(hello.signature_schemes()).is_some()).cloned()
    }
}

struct Server {
    address: SocketAddr,
    certificates: Certificates,
}

impl Server {
    async fn new(pairs: Vec<Arc<CertifiedKey>>) -> Self {
        Self::with(pairs, rustls::ALL_VERSIONS).await
    }

    async fn with(
        pairs: Vec<Arc<CertifiedKey>>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let certificates = Certificates(Arc::new(Mutex::new(pairs)));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificates.clone()));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let address = raw(move |connection| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(mut stream) = acceptor.accept(connection).await {
                    // Open until the client is gone.
                    let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1]).await;
                }
            }
        })
        .await;
        Self { address, certificates }
    }

    fn serve(&self, pairs: Vec<Arc<CertifiedKey>>) {
        *self.certificates.0.lock().unwrap() = pairs;
    }
}

/// A server that does as it likes with each connection.
async fn raw<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection));
        }
    });
    address
}

async fn look(address: SocketAddr, name: &str, key: Option<KeyType>, roots: &Roots) -> Look {
    look_at(address, name, key, roots, NOW).await
}

async fn look_at(
    address: SocketAddr,
    name: &str,
    key: Option<KeyType>,
    roots: &Roots,
    at: Timestamp,
) -> Look {
    let question = Question { address, name: &domain(name), key, roots };
    Probe::new().with_deadline(Duration::from_secs(2)).look(question, || at).await
}

fn served_by(look: &Look) -> &Served {
    match &look.seen {
        Seen::Serving(served) => served,
        Seen::Unreachable(problem) => panic!("not served: {problem:?}"),
    }
}

fn distrust_of(look: &Look) -> &str {
    served_by(look).distrust.as_deref().unwrap_or("trusted")
}
