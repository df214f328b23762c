//! The keys of a table for mail.

use std::fmt;
use std::net::IpAddr;

use lettre::message::Mailbox;
use rustls_pki_types::ServerName;
use toml::Spanned;

use crate::kind::{OneOrMore, Refusal, Remedy, Section, quoted};
use crate::secret::Secret;

/// Where the mail server is.
#[derive(Debug)]
pub(super) struct Server {
    /// Its name or address; IPv6 without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// What its certificate is to be for.
    pub(super) name: ServerName<'static>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Server {
    fn is_here(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// How what is said to it is kept from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    /// TLS after a few words in clear (RFC 3207); nothing is sent without.
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Tls,
    /// None, within this machine.
    None,
}

/// Reads `server` and `encryption`.
pub(super) fn server(section: &mut Section<'_>) -> (Option<Server>, Encryption) {
    let server = section.required_parsed("server", "\"smtp.example.org:587\"", address);
    let encryption = section.parsed("encryption", "\"starttls\"", encryption);
    let encryption = encryption.unwrap_or(match &server {
        Some((_, _, Some(IMPLICIT_TLS))) => Encryption::Tls,
        _ => Encryption::StartTls,
    });
    let server = server.map(|(host, name, port)| Server {
        host,
        name,
        port: port.unwrap_or(match encryption {
            Encryption::StartTls => SUBMISSION,
            Encryption::Tls => IMPLICIT_TLS,
            Encryption::None => SMTP,
        }),
    });
    if encryption == Encryption::None && server.as_ref().is_some_and(|server| !server.is_here()) {
        section.mistake(
            section.at(),
            format!("{} would send mail without encryption to another machine", section.title()),
            Remedy::Hint("write `encryption = \"starttls\"` or `encryption = \"tls\"`".to_owned()),
        );
    }
    (server, encryption)
}

/// Reads `username` and `password`; none where they are wrong.
pub(super) fn login(section: &mut Section<'_>) -> Option<Option<(String, Secret)>> {
    let username: Option<String> = section.optional("username");
    let password: Option<Secret> = section.optional("password");
    match (username, password) {
        (None, None) => Some(None),
        (Some(username), Some(password)) => Some(Some((username, password))),
        _ => {
            section.mistake(
                section.at(),
                format!("{} has `username` or `password` without the other", section.title()),
                Remedy::Hint("write both, or none where the server takes mail without login".to_owned()),
            );
            None
        }
    }
}

/// Reads `from` and `to`.
pub(super) fn addresses(section: &mut Section<'_>) -> (Option<Mailbox>, Option<Vec<Mailbox>>) {
    let from = section.required_parsed("from", "\"certfleet@example.org\"", mailbox);
    let to: Option<OneOrMore<Spanned<String>>> = section.required("to", "[\"ops@example.org\"]");
    let Some(OneOrMore(list)) = to else { return (from, None) };
    let mut known = Vec::new();
    for entry in list {
        match mailbox(entry.get_ref()) {
            Ok(mailbox) => known.push(mailbox),
            Err(refusal) => section.mistake(
                entry.span(),
                format!("`to` cannot contain {}: {}", quoted(entry.get_ref()), refusal.why),
                refusal.remedy,
            ),
        }
    }
    (from, (!known.is_empty()).then_some(known))
}

fn mailbox(text: &str) -> Result<Mailbox, Refusal> {
    let refuse = |why| Refusal::new(why, "as in \"ops@example.org\" or \"Operations <ops@example.org>\"");
    if text.contains(char::is_control) {
        return Err(refuse("an address has no control characters"));
    }
    text.parse().map_err(|_| refuse("it is not a mail address"))
}

fn address(text: &str) -> Result<(String, ServerName<'static>, Option<u16>), Refusal> {
    let refuse = |why| Refusal::new(why, "as in \"smtp.example.org:587\" or \"[2001:db8::25]:587\"");
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or_default())),
        None if text.matches(':').count() > 1 => (text, None),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let refused = refuse("it does not begin with a name or an address");
    let Ok(name) = ServerName::try_from(host.to_owned()) else { return Err(refused) };
    match port.map(str::parse::<u16>) {
        None => Ok((host.to_owned(), name, None)),
        Some(Ok(port)) if port > 0 => Ok((host.to_owned(), name, Some(port))),
        Some(_) => Err(refuse("its port is none")),
    }
}

fn encryption(text: &str) -> Result<Encryption, Refusal> {
    match text {
        "starttls" => Ok(Encryption::StartTls),
        "tls" => Ok(Encryption::Tls),
        "none" => Ok(Encryption::None),
        _ => Err(Refusal::new(
            "it is not known",
            "\"starttls\" (port 587), \"tls\" (port 465), or \"none\" within this machine",
        )),
    }
}

const SMTP: u16 = 25;
const SUBMISSION: u16 = 587;
const IMPLICIT_TLS: u16 = 465;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_names_or_addresses_with_or_without_port() {
        for (text, host, port) in [
            ("smtp.example.org", "smtp.example.org", None),
            ("smtp.example.org:25", "smtp.example.org", Some(25)),
            ("192.0.2.1:465", "192.0.2.1", Some(465)),
            ("[2001:db8::1]:25", "2001:db8::1", Some(25)),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("2001:db8::1", "2001:db8::1", None),
        ] {
            let found = address(text).map(|(host, _, port)| (host, port));
            assert_eq!(found, Ok((host.to_owned(), port)), "{text}");
        }
        for bad in
            ["", ":25", "a:0", "a:b", "a:", "a b:1", "[::1", "[::1]x", "smtp://a", "-a", "a:65536", "a\r\n"]
        {
            assert!(address(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn addresses_cannot_bring_headers() {
        assert!(mailbox("Operations <ops@example.org>").is_ok());
        for bad in ["", "ops", "a@b\r\nBcc: c@d", "A\n <a@example.org>", "a@b, c@d"] {
            assert!(mailbox(bad).is_err(), "{bad:?} was taken");
        }
    }
}
