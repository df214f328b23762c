//! certs.toml: the reference at the top of the repository, and every kind of mistake.

mod alert;
mod corpus;
mod daemon;
mod hostile;
mod local;
mod providers;
mod reference;
mod wrong;

use std::path::Path;

use certfleet::config::{Config, Mistakes, parse};

/// A file without mistakes, to be spoilt.
const GOOD: &str = r#"[issuer.letsencrypt]
contact = ["ops@example.org"]
accept-terms = true

[dns.main]
provider = "rfc2136"
server = "ns1.example.org:53"
key-name = "certfleet"
secret = { file = "secrets/tsig" }

[host.web1]
[host.web2]

[group]
web = ["web1", "web2"]

[[certificate]]
name = "shop"
domains = ["www.example.org", "example.org"]
hosts = ["web"]
"#;

fn read(text: &str) -> Result<Config, Mistakes> {
    parse(text, Path::new("/etc/certfleet/certs.toml"))
}
