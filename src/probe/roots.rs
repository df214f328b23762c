//! Whether a visitor would trust a chain.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::server_name;
use crate::model::name::Domain;
use crate::model::problem::{Blame, Diagnose, plain};

/// The trust anchors that served chains should lead to.
#[derive(Debug, Clone)]
pub struct Roots {
    verifier: Arc<WebPkiServerVerifier>,
}

/// Why there are no roots.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// This machine trusts nobody.
    #[error("this system has no trusted root certificates")]
    NoSystemRoots(#[source] Option<rustls_native_certs::Error>),
    /// The file cannot be read.
    #[error("cannot read the roots in {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file has no certificate.
    #[error("{} has no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// A certificate in it cannot be a root.
    #[error("a certificate in {} cannot be a root", .path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Error,
    },
}

impl Diagnose for RootsError {
    fn code(&self) -> &'static str {
        "probe.roots"
    }

    fn blame(&self) -> Blame {
        Blame::Operator
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoSystemRoots(_) => {
                "install the package ca-certificates, or set `roots` of the issuer".to_owned()
            }
            Self::Read { .. } | Self::NoCertificate(_) | Self::BadCertificate { .. } => {
                "set `roots` of the issuer to a PEM file of its root certificates".to_owned()
            }
        })
    }
}

impl Roots {
    /// What this machine trusts. Reads files: to be called seldom.
    pub fn system() -> Result<Self, RootsError> {
        Ok(Self::of(system()?))
    }

    /// The certificates of a PEM file, and no others.
    pub fn from_pem(path: &Path) -> Result<Self, RootsError> {
        Ok(Self::of(from_pem(path)?))
    }

    /// The certificates of PEM files, and where one is `None` what this machine trusts.
    pub fn of_all<'a>(sources: impl IntoIterator<Item = Option<&'a Path>>) -> Result<Self, RootsError> {
        let mut all = RootCertStore::empty();
        for source in sources {
            all.extend(source.map_or_else(system, from_pem)?.roots);
        }
        Ok(Self::of(all))
    }

    /// Why a visitor would not trust this chain (DER, leaf first) for this name at this time;
    /// `None` when one would. Revocation is not asked.
    pub fn distrust(&self, chain: &[Vec<u8>], name: &Domain, at: Timestamp) -> Option<String> {
        let Some((leaf, rest)) = chain.split_first() else {
            return Some("there is no certificate".to_owned());
        };
        let rest: Vec<_> = rest.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0)));
        let leaf = CertificateDer::from(leaf.as_slice());
        match self.verifier.verify_server_cert(&leaf, &rest, &server_name(name), &[], at) {
            Ok(_) => None,
            Err(Error::InvalidCertificate(error)) => Some(reason(&error, &leaf, rest.len(), name)),
            Err(error) => Some(plain(&error.to_string())),
        }
    }

    fn of(store: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
            .build()
            .expect("there is a root, and no revocation list that could be bad");
        Self { verifier }
    }
}

fn reason(error: &CertificateError, leaf: &[u8], intermediates: usize, name: &Domain) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => format!("it expired at {}", date(*not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("it is not valid before {}", date(*not_before))
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let presented: Vec<_> = presented.iter().take(5).map(|name| shown(name)).collect();
            match presented.is_empty() {
                true => format!("it has no names, not even `{name}`"),
                false => format!("it is not for `{name}` but for {}", plain(&presented.join(", "))),
            }
        }
        error => match X509Certificate::from_der(leaf) {
            Ok((_, parsed)) if parsed.issuer().as_raw() == parsed.subject().as_raw() => {
                "it is self-signed".to_owned()
            }
            // A bad signature also is what another root of the same name gives.
            Ok((_, parsed))
                if matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature) =>
            {
                let issuer = plain(&parsed.issuer().to_string());
                match intermediates {
                    0 => format!("it comes without its chain, and its issuer `{issuer}` is no trusted root"),
                    _ => format!("its chain does not lead from its issuer `{issuer}` to a trusted root"),
                }
            }
            Ok((_, parsed)) if parsed.is_ca() => "it is the certificate of a CA, not of a server".to_owned(),
            Ok(_) => plain(&error.to_string()),
            Err(_) => "it is not an X.509 certificate".to_owned(),
        },
    }
}

/// A name as rustls presents it, `DnsName("a.example")`, without what is around it.
fn shown(name: &str) -> String {
    let inner = name.strip_prefix("DnsName(\"").and_then(|rest| rest.strip_suffix("\")"));
    format!("`{}`", inner.unwrap_or(name))
}

fn date(at: UnixTime) -> String {
    i64::try_from(at.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(|| "a time without a date".to_owned(), |at| at.strftime("%F %H:%M:%S UTC").to_string())
}

/// What this machine trusts.
fn system() -> Result<RootCertStore, RootsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        return Err(RootsError::NoSystemRoots(found.errors.into_iter().next()));
    }
    Ok(store)
}

/// The certificates of a PEM file, and no others.
fn from_pem(path: &Path) -> Result<RootCertStore, RootsError> {
    let read = |source| RootsError::Read { path: path.to_owned(), source };
    let text = std::fs::read(path).map_err(read)?;
    let mut store = RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut text.as_slice()) {
        store
            .add(certificate.map_err(read)?)
            .map_err(|source| RootsError::BadCertificate { path: path.to_owned(), source })?;
    }
    match store.is_empty() {
        true => Err(RootsError::NoCertificate(path.to_owned())),
        false => Ok(store),
    }
}
