//! The keys of certs.toml that HTTP has: addresses that secrets may be sent to, and patience.

use std::net::IpAddr;
use std::time::Duration;

use jiff::SignedDuration;
use reqwest::Url;
use toml::de::DeValue;

use crate::kind::{Item, Refusal, Remedy, Section, Value, duration};

/// An address that secrets may be sent to, and that is none itself.
#[derive(Debug, Clone)]
pub struct Base(pub Url);

impl Value for Base {
    fn read(item: Item<'_>) -> Option<Self> {
        let (at, key, context) = (item.at.clone(), item.key.clone(), item.context);
        // People do write credentials there, and then they are not to be shown.
        if matches!(&item.value, DeValue::String(text) if text.contains(['@', '?', '#'])) {
            context.hide(at.clone());
            let hint = "write the address alone; secrets have keys of their own".to_owned();
            let message = format!("`{key}` must not contain a user, a password, a query or a fragment");
            context.mistake(at, message, Remedy::Hint(hint));
            return None;
        }
        item.parsed("\"https://dns.example.org/api\"", address).map(Self)
    }
}

/// https, or http that does not leave this machine.
pub fn address(text: &str) -> Result<Url, Refusal> {
    let url = Url::parse(text)
        .map_err(|_| Refusal::new("it is not a URL", "as in \"https://dns.example.org/api\""))?;
    let here = url.host_str().is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    });
    if url.scheme() == "https" || (url.scheme() == "http" && here) {
        return Ok(url);
    }
    Err(Refusal::new(
        "secrets go over https only, or over http within this machine",
        "put a TLS proxy before it, or reach it by an SSH tunnel as http://127.0.0.1:PORT",
    ))
}

/// Reads `timeout`: how long the other side may take for one answer.
pub fn timeout(section: &mut Section<'_>, default: Duration) -> Duration {
    let example = format!("\"{}s\"", default.as_secs());
    let read = |text: &str| {
        let time = duration(text)?;
        if (SignedDuration::from_secs(1)..=SignedDuration::from_mins(5)).contains(&time) {
            return Ok(time.unsigned_abs());
        }
        Err(Refusal::new("it goes from 1 second to 5 minutes", format!("as in `timeout = {example}`")))
    };
    section.parsed("timeout", &example, read).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_leave_the_machine_by_https_only() {
        for good in
            ["https://api.example.org/v1", "http://127.0.0.1:8081", "http://[::1]:1/", "http://localhost"]
        {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "api.example.org",
            "http://192.0.2.1",
            "http://localhost.example.org",
            "http://127.0.0.1.example.org/",
            "ftp://127.0.0.1",
        ] {
            assert!(address(bad).is_err(), "{bad} was taken");
        }
    }
}
