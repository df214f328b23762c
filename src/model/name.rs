//! Names: parsed once, always valid afterwards.
//!
//! Every name of ours may become a path or a word of a shell script, so each is limited to
//! characters that are harmless in both.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name cannot be empty")]
    Empty,
    /// The text is longer than its kind allows (length, limit).
    #[error("{0} characters are too many, at most {1} are allowed")]
    TooLong(usize, usize),
    /// A character that the kind does not allow.
    #[error("the character {0:?} is not allowed here, only letters, digits, `-`, `_` and `.`")]
    BadCharacter(char),
    /// A character that no domain name has.
    #[error("the character {0:?} is not allowed in a domain name, only letters, digits, `-` and `.`")]
    BadDomainCharacter(char),
    /// A name of ours starts with `.` or `-`.
    #[error("a name cannot start with {0:?}")]
    BadStart(char),
    /// An empty label: two dots in a row, or one at the start.
    #[error("a label between two dots is empty")]
    EmptyLabel,
    /// A label of a DNS name over 63 octets.
    #[error("the label `{0}` is longer than 63 characters")]
    LongLabel(String),
    /// A DNS label that starts or ends with `-`.
    #[error("the label `{0}` starts or ends with `-`")]
    HyphenEdge(String),
    /// A `*` elsewhere than as the whole first label.
    #[error("`*` can only stand alone as the first label, as in `*.example.org`")]
    BadWildcard,
    /// A wildcard directly under a top-level domain, or no domain at all.
    #[error("a wildcard needs at least two labels after `*.`")]
    WildcardTooWide,
    /// One label only: no public CA issues for it.
    #[error("`{0}` has only one label; a certificate needs a full domain name")]
    SingleLabel(String),
    /// An IP address where a domain is needed.
    #[error("`{0}` is an IP address; DNS-01 proves domain names only")]
    IpAddress(String),
    /// Not convertible to its ASCII form.
    #[error("`{0}` is not a valid internationalised domain name")]
    BadIdna(String),
}

macro_rules! plain_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check_plain(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

plain_name!(
    /// The name of a certificate (of its lineage): also a folder in the store and on hosts.
    CertName
);
plain_name!(
    /// The name of a host entry.
    HostName
);
plain_name!(
    /// The name of a group of hosts.
    GroupName
);
plain_name!(
    /// The name of an issuer entry.
    IssuerName
);
plain_name!(
    /// The name of a DNS account entry.
    DnsAccountName
);
plain_name!(
    /// The name of an alert channel entry.
    ChannelName
);

fn check_plain(text: &str) -> Result<(), NameError> {
    let first = text.chars().next().ok_or(NameError::Empty)?;
    if let Some(bad) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        return Err(NameError::BadCharacter(bad));
    }
    if matches!(first, '.' | '-') {
        return Err(NameError::BadStart(first));
    }
    match text.len() {
        // A folder name of 255 octets at most, with room for suffixes of ours.
        len if len > 200 => Err(NameError::TooLong(len, 200)),
        _ => Ok(()),
    }
}

/// A domain name that a certificate can carry: lower-case A-labels, maybe a wildcard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain {
    base: String,
    wildcard: bool,
}

impl Domain {
    /// Whether this is `*.` and a base.
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The name without `*.`: where the challenge is answered.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether a certificate for `self` is valid for `other` (RFC 9525 section 6.3: a
    /// wildcard stands for exactly one label).
    pub fn covers(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        self.wildcard
            && !other.wildcard
            && other.base.split_once('.').is_some_and(|(_, rest)| rest == self.base)
    }

    /// The only wildcard that could cover it.
    pub fn wildcard_above(&self) -> Option<Self> {
        let (_, rest) = self.base.split_once('.').filter(|_| !self.wildcard)?;
        Some(Self { base: rest.to_owned(), wildcard: true })
    }

    /// The certificate name that follows from this domain, as certbot names it.
    pub fn default_cert_name(&self) -> CertName {
        CertName(self.base.clone())
    }
}

impl FromStr for Domain {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.parse::<std::net::IpAddr>().is_ok() {
            return Err(NameError::IpAddress(text.to_owned()));
        }
        let (rest, wildcard) = match text.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        if rest.contains('*') || rest.is_empty() {
            return Err(NameError::BadWildcard);
        }
        if rest.starts_with('.') || rest.ends_with('.') || rest.contains("..") {
            return Err(NameError::EmptyLabel);
        }
        if let Some(bad) =
            rest.chars().find(|c| c.is_ascii() && !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.')))
        {
            return Err(NameError::BadDomainCharacter(bad));
        }
        for label in rest.split('.') {
            if label.starts_with('-') || label.ends_with('-') {
                return Err(NameError::HyphenEdge(label.to_owned()));
            }
            if label.is_ascii() && label.len() > 63 {
                return Err(NameError::LongLabel(label.to_owned()));
            }
        }
        let base = idna::domain_to_ascii_strict(rest)
            .ok()
            .filter(|_| !rest.chars().any(is_symbol))
            .ok_or_else(|| NameError::BadIdna(rest.to_owned()))?;
        if base.len() > 253 {
            return Err(NameError::TooLong(base.len(), 253));
        }
        match base.split('.').count() {
            1 if wildcard => Err(NameError::WildcardTooWide),
            1 => Err(NameError::SingleLabel(base)),
            _ => Ok(Self { base, wildcard }),
        }
    }
}

/// Arrows, symbols, emoji: mapped by UTS 46, but no characters of IDNA 2008 (RFC 5892), so that CAs refuse them.
fn is_symbol(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}')
}

impl TryFrom<String> for Domain {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.to_string()
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wildcard {
            f.write_str("*.")?;
        }
        f.write_str(&self.base)
    }
}

/// The number of a version in a lineage, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionNumber(pub u32);

impl VersionNumber {
    /// The first number of a lineage.
    pub const FIRST: Self = Self(1);

    /// The number after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SHA-256 of a leaf certificate's DER, shown in lower-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate's DER.
    pub fn of(der: &[u8]) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(der).into())
    }

    /// The first eight hex digits, enough for people to tell two apart.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is not 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint has 64 hex digits")]
pub struct BadFingerprint;

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 || !bytes.iter().all(u8::is_ascii_hexdigit) {
            return Err(BadFingerprint);
        }
        let mut value = [0; 32];
        for (at, byte) in value.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| BadFingerprint)?;
        }
        Ok(Self(value))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = BadFingerprint;

    fn try_from(text: String) -> Result<Self, BadFingerprint> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_become_lower_case_a_labels() {
        assert_eq!("Bücher.Example.ORG".parse::<Domain>().unwrap().to_string(), "xn--bcher-kva.example.org");
        assert_eq!("*.Example.org".parse::<Domain>().unwrap().to_string(), "*.example.org");
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            ".a.b",
            "a.b.",
            "-a.example",
            "a-.example",
            "*",
            "*.",
            "*.com",
            "a*.example.org",
            "foo.*.example.org",
            "*.*.example.org",
            "localhost",
            "10.0.0.1",
            "::1",
            "exa mple.org",
            "a.example:443",
            "https://a.example",
            "a_b.example.org",
            "a\u{202e}.example.org",
            "a.example.org\n",
            "a.exa\u{0}mple",
        ] {
            assert!(bad.parse::<Domain>().is_err(), "{bad:?} was taken");
        }
        assert!(format!("{}.example.org", "a".repeat(64)).parse::<Domain>().is_err());
        assert!(format!("{}org", "abcdefghi.".repeat(26)).parse::<Domain>().is_err());
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let wildcard: Domain = "*.example.org".parse().unwrap();
        assert!(wildcard.covers(&"a.example.org".parse().unwrap()));
        assert!(!wildcard.covers(&"a.b.example.org".parse().unwrap()));
        assert!(!wildcard.covers(&"example.org".parse().unwrap()));
        assert_eq!("a.example.org".parse::<Domain>().unwrap().wildcard_above().unwrap(), wildcard);
        assert_eq!(wildcard.wildcard_above(), None);
    }

    #[test]
    fn names_of_ours_are_harmless_in_paths_and_shells() {
        for bad in
            ["", "..", "../x", "a/b", "-rf", "~", "$(id)", "a b", "a\nb", "`id`", "a;b", "%s\"", ".hidden"]
        {
            assert!(bad.parse::<CertName>().is_err(), "{bad:?} was taken");
        }
        assert!("media.hachyderm.io".parse::<CertName>().is_ok());
    }

    #[test]
    fn a_fingerprint_reads_back_as_written() {
        let fingerprint = Fingerprint::of(b"leaf");
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    }
}
