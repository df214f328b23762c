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
    if let Some(why) = url.host_str().and_then(nobody_serves) {
        return Err(Refusal::new(why, "as in \"https://dns.example.org/api\""));
    }
    if url.scheme() == "https" || (url.scheme() == "http" && here) {
        return Ok(url);
    }
    Err(Refusal::new(
        "secrets go over https only, or over http within this machine",
        "put a TLS proxy before it, or reach it by an SSH tunnel as http://127.0.0.1:PORT",
    ))
}

/// Why no service of ours can be at this host: the addresses by which clouds give their machines credentials, and those
/// that are no place at all. Loopback is one.
pub fn nobody_serves(host: &str) -> Option<&'static str> {
    const METADATA: &str =
        "it is where a cloud tells its machines their credentials, and no service of yours";
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    if ["metadata.google.internal", "metadata", "instance-data"].contains(&host.as_str()) {
        return Some(METADATA);
    }
    let Ok(ip) = host.parse::<IpAddr>() else {
        // Libraries of C take `2852039166`, `0xa9fea9fe` and `169.254.43518` for addresses.
        let last = host.rsplit('.').next().unwrap_or_default();
        let number = last.strip_prefix("0x").map_or_else(
            || !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()),
            |hex| !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()),
        );
        return number
            .then_some("it is a number that is no address: write four numbers with dots, or a name");
    };
    let link_local = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let ip = ip.to_canonical();
    // Amazon's over IPv6, Alibaba's, Oracle's.
    let metadata = ["fd00:ec2::254", "100.100.100.200", "192.0.0.192"];
    match ip {
        _ if metadata.iter().any(|known| known.parse() == Ok(ip)) => Some(METADATA),
        IpAddr::V4(ip) if ip.octets() == [169, 254, 169, 254] => Some(METADATA),
        ip if link_local(ip) => Some("it is a link-local address: it is another machine on each network"),
        ip if ip.is_unspecified() => Some("it is no address of a machine; this machine is 127.0.0.1"),
        ip if ip.is_multicast() || ip == IpAddr::from([255; 4]) => {
            Some("it is an address of many machines at once")
        }
        _ => None,
    }
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
            "https://169.254.169.254/latest",
            "http://[::]/",
        ] {
            assert!(address(bad).is_err(), "{bad} was taken");
        }
    }
    #[test]
    fn nobody_serves_where_clouds_keep_credentials() {
        for good in
            ["127.0.0.1", "[::1]", "localhost", "10.1.2.3", "[fd00::1]", "203.0.113.9", "ca.0x", "a.example"]
        {
            assert_eq!(nobody_serves(good), None, "{good}");
        }
        for (bad, why) in [
            ("169.254.169.254", "credentials"),
            ("[::ffff:169.254.169.254]", "credentials"),
            ("[fd00:ec2::254]", "credentials"),
            ("100.100.100.200", "credentials"),
            ("Metadata.Google.Internal.", "credentials"),
            ("169.254.1.1", "link-local"),
            ("[fe80::1]", "link-local"),
            ("0.0.0.0", "127.0.0.1"),
            ("[::]", "127.0.0.1"),
            ("224.0.0.1", "many machines"),
            ("255.255.255.255", "many machines"),
            ("[ff02::1]", "many machines"),
            ("2852039166", "no address"),
            ("0xa9fea9fe", "no address"),
            ("169.254.43518", "no address"),
        ] {
            assert!(nobody_serves(bad).is_some_and(|said| said.contains(why)), "{bad}");
        }
    }
}
