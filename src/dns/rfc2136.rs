//! Dynamic update (RFC 2136) signed with TSIG (RFC 8945).

use std::str::FromStr;
use std::sync::Arc;

use super::Provider;
use crate::kind::{Kind, Refusal, Section};
use crate::secret::Secret;

/// The table entry.
pub const KIND: Kind<dyn Provider> = Kind {
    name: "rfc2136",
    summary: "dynamic update signed with TSIG: BIND, Knot, PowerDNS and others",
    example: r#"server = "ns1.example.org:53"
key-name = "certfleet"
algorithm = "hmac-sha256"
secret = { file = "/etc/certfleet/secrets/tsig" }
"#,
    build,
};

/// A name server that takes dynamic updates.
#[derive(Debug, Clone)]
pub struct Rfc2136 {
    /// Where updates go, as host:port.
    pub server: String,
    /// The name of the TSIG key.
    pub key_name: String,
    /// The algorithm of the TSIG key.
    pub algorithm: Algorithm,
    /// The TSIG key.
    pub secret: Secret,
}

impl Rfc2136 {
    /// A server with the key to sign for it.
    pub fn new(server: String, key_name: String, algorithm: Algorithm, secret: Secret) -> Self {
        Self { server, key_name, algorithm, secret }
    }
}

impl Provider for Rfc2136 {}

/// A TSIG algorithm (RFC 8945 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// HMAC-SHA-256.
    #[default]
    HmacSha256,
    /// HMAC-SHA-384.
    HmacSha384,
    /// HMAC-SHA-512.
    HmacSha512,
}

/// An algorithm that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the algorithm is not known")]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        match text {
            "hmac-sha256" => Ok(Self::HmacSha256),
            "hmac-sha384" => Ok(Self::HmacSha384),
            "hmac-sha512" => Ok(Self::HmacSha512),
            _ => Err(UnknownAlgorithm),
        }
    }
}

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Provider>> {
    let server = section.required_parsed("server", "\"ns1.example.org:53\"", server);
    let key_name = section.required_parsed("key-name", "\"certfleet\"", key_name);
    let algorithm = section.parsed("algorithm", "\"hmac-sha256\"", algorithm).unwrap_or_default();
    let secret = section.required("secret", "{ file = \"/etc/certfleet/secrets/tsig\" }");
    Some(Arc::new(Rfc2136::new(server?, key_name?, algorithm, secret?)))
}

/// A host with a port, 53 where none is written.
fn server(text: &str) -> Result<String, Refusal> {
    if let Ok(address) = crate::kind::address(text, 53) {
        return Ok(address.to_string());
    }
    let refusal = |why: &str| Refusal::new(why, "as in \"ns1.example.org:53\" or \"[2001:db8::1]:53\"");
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => {
            let number = port.parse::<u16>().ok().filter(|number| *number > 0);
            (host, number.ok_or_else(|| refusal("its port is not from 1 to 65535"))?)
        }
        None => (text, 53),
    };
    let fits = !host.is_empty()
        && host.len() <= 253
        && !host.starts_with('-')
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if fits { Ok(format!("{host}:{port}")) } else { Err(refusal("it is not a host with a port")) }
}

/// The key's name as BIND and Knot write it: a domain name.
fn key_name(text: &str) -> Result<String, Refusal> {
    let fits = text.len() <= 253
        && text.trim_end_matches('.').split('.').all(|label| (1..=63).contains(&label.len()))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if fits {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(
        "a key's name is written like a domain name",
        "copy it from the name server's configuration, as in key-name = \"certfleet\"",
    ))
}

fn algorithm(text: &str) -> Result<Algorithm, Refusal> {
    const KNOWN: [&str; 3] = ["hmac-sha256", "hmac-sha384", "hmac-sha512"];
    text.parse().map_err(|_| Refusal::new("it is not known", format!("known are {}", KNOWN.join(", "))))
}
