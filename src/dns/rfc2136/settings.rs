//! What certs.toml says of an RFC 2136 account.

use std::sync::Arc;

use super::{Algorithm, Rfc2136};
use crate::dns::Provider;
use crate::kind::{Kind, Refusal, Section};

/// The table entry.
pub const KIND: Kind<dyn Provider> = Kind {
    name: "rfc2136",
    summary: "dynamic update signed with TSIG: BIND, Knot, PowerDNS and others",
    example: r#"server = "ns1.example.org:53"
key-name = "certfleet"
algorithm = "hmac-sha256"
secret = { file = "/etc/certfleet/secrets/tsig" }
"#,
    rights: "a TSIG key that may change TXT of the challenge names only: `grant certfleet name _acme-challenge.www.example.org. TXT;` in `update-policy`",
    build,
};

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
