//! Looking from outside: what a TLS client is served, what a web server says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const DEADLINE: Duration = Duration::from_secs(10);

/// What a server presented in a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// The certificates, leaf first, in DER.
    pub(crate) chain: Vec<Vec<u8>>,
    /// The leaf's DNS names.
    pub(crate) names: Vec<String>,
    /// Who issued the leaf.
    pub(crate) issuer: String,
    /// The leaf's serial number, in hex.
    pub(crate) serial: String,
    /// The end of the leaf's life, in seconds since 1970.
    pub(crate) not_after: i64,
}

impl Served {
    /// Reads what the leaf of a chain says.
    pub(crate) fn from_chain(chain: Vec<Vec<u8>>) -> Result<Self, String> {
        let leaf = chain.first().ok_or("the server presented no certificate")?;
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|e| format!("the leaf is no certificate: {e}"))?;
        let mut names = Vec::new();
        if let Ok(Some(extension)) = parsed.subject_alternative_name() {
            for name in &extension.value.general_names {
                if let GeneralName::DNSName(name) = name {
                    names.push((*name).to_owned());
                }
            }
        }
        Ok(Self {
            issuer: parsed.issuer().to_string(),
            serial: parsed.raw_serial_as_string().replace(':', ""),
            not_after: parsed.validity().not_after.timestamp(),
            names,
            chain,
        })
    }

    /// The leaf, in DER.
    pub(crate) fn leaf(&self) -> &[u8] {
        &self.chain[0]
    }

    /// Whether the leaf's life is over.
    pub(crate) fn expired(&self) -> bool {
        self.not_after < now()
    }
}

/// What the server at this address presents for this name, whoever issued it and however old it is.
pub(crate) fn served(address: SocketAddr, name: &str) -> Result<Served, String> {
    let mut stream = handshake(address, name)?;
    stream.flush().map_err(|e| format!("TLS with {address} for {name}: {e}"))?;
    let chain = stream.conn.peer_certificates().unwrap_or_default();
    Served::from_chain(chain.iter().map(|certificate| certificate.to_vec()).collect())
}

/// The body of what a web server answers to a GET; an error unless it says 200.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String, String> {
    exchange(address, &format!("GET {path} HTTP/1.0\r\n"), "")
}

/// The body of what a web server answers to a POST; an error unless it says 200.
pub(crate) fn post(address: SocketAddr, path: &str, body: &str) -> Result<String, String> {
    let head = format!("POST {path} HTTP/1.0\r\nContent-Length: {}\r\n", body.len());
    exchange(address, &head, body)
}

/// The first words of a server that speaks first, such as an SSH server's banner.
pub(crate) fn banner(address: SocketAddr) -> Result<String, String> {
    let text = |e| format!("{address}: {e}");
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE).map_err(text)?;
    stream.set_read_timeout(Some(DEADLINE)).map_err(text)?;
    let mut bytes = [0; 64];
    let length = stream.read(&mut bytes).map_err(text)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).trim_end().to_owned())
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// HTTP/1.0, whose answers end with the connection: no chunks, no lengths.
fn exchange(address: SocketAddr, head: &str, body: &str) -> Result<String, String> {
    let text = |e| format!("https://{address}: {e}");
    let mut stream = handshake(address, "localhost")?;
    let request = format!("{head}Host: {address}\r\nUser-Agent: certfleet-tests\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => (),
        // Some servers end the connection without a word of TLS; HTTP itself tells whether it is all.
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => (),
        Err(e) => return Err(text(e)),
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| format!("https://{address} answers {answer:?}"))?;
    let line = head.lines().next().unwrap_or_default();
    if line.split_whitespace().nth(1) != Some("200") {
        let asked = request.lines().next().unwrap_or_default();
        return Err(format!("https://{address} answers {line:?} to {asked:?}: {body}"));
    }
    Ok(body.to_owned())
}

/// A connection after its handshake, whoever the server says it is.
pub(crate) fn handshake(
    address: SocketAddr,
    name: &str,
) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
    let text = |e| format!("{address}: {e}");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS: {e}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate { provider }))
        .with_no_client_auth();
    // A resumed session would show the certificate of the first one.
    config.resumption = Resumption::disabled();
    let server = ServerName::try_from(name.to_owned()).map_err(|e| format!("{name:?}: {e}"))?;
    let connection = ClientConnection::new(Arc::new(config), server).map_err(|e| format!("TLS: {e}"))?;
    let stream = TcpStream::connect_timeout(&address, DEADLINE).map_err(text)?;
    stream.set_read_timeout(Some(DEADLINE)).map_err(text)?;
    stream.set_write_timeout(Some(DEADLINE)).map_err(text)?;
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream
            .conn
            .complete_io(&mut stream.sock)
            .map_err(|e| format!("TLS with {address} for {name}: {e}"))?;
    }
    Ok(stream)
}

/// Takes any certificate, but has the server prove that it holds the key.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
