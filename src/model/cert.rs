//! Facts of X.509 certificates, and whether a chain is what was asked for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::name::{Domain, Fingerprint};
use super::problem::plain;

/// What is known of a leaf certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// Its DNS names, in the certificate's order; other kinds of names are left out.
    pub domains: Vec<Domain>,
    /// Whether it has names that are not domains (IP, e-mail, unreadable).
    pub other_names: bool,
    /// Whether it may sign certificates itself.
    pub is_ca: bool,
    /// Serial number in lower-case hex, as in the certificate.
    pub serial: String,
    /// SHA-256 of the DER.
    pub fingerprint: Fingerprint,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
    /// Common name of its issuer (or the whole name), made safe to show.
    pub issuer: String,
    /// DER of its public key (SubjectPublicKeyInfo).
    pub public_key: Vec<u8>,
    /// Identifier for ARI: RFC 9773 section 4.1; needs the authority key identifier.
    pub ari_id: Option<String>,
}

/// Why bytes are no certificate we can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not DER of an X.509 certificate.
    #[error("not an X.509 certificate")]
    NotX509,
    /// A time outside of what a calendar holds.
    #[error("its validity is not a time")]
    BadTime,
}

impl Leaf {
    /// Reads a certificate's DER.
    pub fn parse(der: &[u8]) -> Result<Self, ParseError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| ParseError::NotX509)?;
        if !rest.is_empty() {
            return Err(ParseError::NotX509);
        }
        let time = |at: x509_parser::time::ASN1Time| {
            Timestamp::from_second(at.timestamp()).map_err(|_| ParseError::BadTime)
        };
        let mut domains = Vec::new();
        let mut other_names = false;
        if let Ok(Some(names)) = certificate.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(text) => match text.parse() {
                        Ok(domain) => domains.push(domain),
                        Err(_) => other_names = true,
                    },
                    _ => other_names = true,
                }
            }
        }
        let issuer = certificate.issuer();
        let common_name = issuer.iter_common_name().next().and_then(|name| name.as_str().ok());
        Ok(Self {
            domains,
            other_names,
            is_ca: certificate.is_ca(),
            serial: hex(certificate.raw_serial()),
            fingerprint: Fingerprint::of(der),
            not_before: time(certificate.validity().not_before)?,
            not_after: time(certificate.validity().not_after)?,
            issuer: plain(&common_name.map_or_else(|| issuer.to_string(), str::to_owned)),
            public_key: certificate.public_key().raw.to_vec(),
            ari_id: ari_id(&certificate),
        })
    }
}

/// Subject (its common name, or the whole of it, made safe to show) and validity of a certificate of an authority.
pub fn authority(der: &[u8]) -> Result<(String, Timestamp, Timestamp), ParseError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| ParseError::NotX509)?;
    let time = |at: x509_parser::time::ASN1Time| {
        Timestamp::from_second(at.timestamp()).map_err(|_| ParseError::BadTime)
    };
    let subject = certificate.subject();
    let common_name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    let name = plain(&common_name.map_or_else(|| subject.to_string(), str::to_owned));
    Ok((name, time(certificate.validity().not_before)?, time(certificate.validity().not_after)?))
}

/// The certificate of a chain, above the leaf, that ends first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ChainEnd {
    /// Its subject, made safe to show.
    pub name: String,
    /// When it ends.
    pub not_after: Timestamp,
}

impl ChainEnd {
    /// That of these certificates; what cannot be read is left out.
    pub fn first(above: impl Iterator<Item = impl AsRef<[u8]>>) -> Option<Self> {
        let ends = above.filter_map(|der| {
            let (name, _, not_after) = authority(der.as_ref()).ok()?;
            Some(Self { name, not_after })
        });
        ends.min_by_key(|end| end.not_after)
    }
}

/// base64url(authority key identifier) + "." + base64url(serial), RFC 9773 section 4.1.
fn ari_id(certificate: &X509Certificate<'_>) -> Option<String> {
    let key = certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref(),
        _ => None,
    })?;
    Some(format!("{}.{}", URL_SAFE_NO_PAD.encode(key.0), URL_SAFE_NO_PAD.encode(certificate.raw_serial())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
