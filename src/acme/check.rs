//! Whether the chain that a CA handed out is what was asked for.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use x509_parser::error::X509Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Issued;
use crate::model::cert::{Leaf, ParseError};
use crate::model::name::Domain;
use crate::model::problem::plain;

/// Why an issued chain is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Larger than any chain in use.
    #[error("the chain has {0} bytes, at most {MAX_BYTES} are accepted")]
    TooLarge(usize),
    /// A PEM block that is no certificate (RFC 8555 section 11.4: maybe an attempt to plant a key).
    #[error("the chain contains something that is no certificate: `{0}`")]
    OtherBlock(String),
    /// A block that is cut short or not base64.
    #[error("the chain is not readable PEM")]
    BrokenPem,
    /// No certificate at all, as in a web page.
    #[error("the answer contains no certificate: `{0}`")]
    Empty(String),
    /// More certificates than any chain in use.
    #[error("the chain has more than {MAX_CERTIFICATES} certificates")]
    TooMany,
    /// A certificate that cannot be read (its place, from 1).
    #[error("certificate {0} of the chain cannot be read")]
    Unreadable(usize, #[source] ParseError),
    /// The leaf's public key is not ours.
    #[error("the certificate is for another key than the one asked for")]
    WrongKey,
    /// Domains that were asked for are missing.
    #[error("the certificate lacks {0}")]
    MissingNames(String),
    /// Names that were not asked for.
    #[error("the certificate has names that were not asked for: {0}")]
    ExtraNames(String),
    /// The leaf may sign certificates.
    #[error("the certificate is one of a CA")]
    IsCa,
    /// The leaf is signed by itself.
    #[error("the certificate is signed by itself")]
    SelfSigned,
    /// The leaf is not valid yet.
    #[error("the certificate is valid only from {0} on")]
    Future(Timestamp),
    /// The leaf has run out.
    #[error("the certificate ended at {0}")]
    Expired(Timestamp),
    /// The leaf lives longer than any CA may grant.
    #[error("the certificate is valid for {0} days, at most {MAX_DAYS} are accepted")]
    TooLong(i64),
    /// A certificate that the next one did not issue (its place, from 1).
    #[error("certificate {0} of the chain is not signed by the one after it")]
    Broken(usize),
}

impl CheckError {
    /// Whether the CA gave a certificate, and the wrong one: fetching it again brings the same.
    pub(super) fn is_final(&self) -> bool {
        !matches!(
            self,
            Self::TooLarge(_)
                | Self::OtherBlock(_)
                | Self::BrokenPem
                | Self::Empty(_)
                | Self::TooMany
                | Self::Unreadable(..)
        )
    }
}

/// Accepts `pem` if it is a certificate for exactly `domains` and `public_key` (DER,
/// SubjectPublicKeyInfo), usable at `now`, followed by the certificates that vouch for it.
///
/// Whether anybody trusts the last of them is not asked here: everyone begins at a staging CA.
pub(super) fn check(
    pem: &str,
    domains: &[Domain],
    public_key: &[u8],
    now: Timestamp,
) -> Result<Issued, CheckError> {
    let blocks = certificates(pem)?;
    let mut parsed = Vec::with_capacity(blocks.len());
    for (at, der) in blocks.iter().enumerate() {
        let unreadable = |_| CheckError::Unreadable(at + 1, ParseError::NotX509);
        let (rest, certificate) = X509Certificate::from_der(der).map_err(unreadable)?;
        if !rest.is_empty() {
            return Err(CheckError::Unreadable(at + 1, ParseError::NotX509));
        }
        parsed.push(certificate);
    }
    let leaf = Leaf::parse(&blocks[0]).map_err(|error| CheckError::Unreadable(1, error))?;
    check_leaf(&leaf, domains, public_key, now)?;
    if parsed[0].issuer().as_raw() == parsed[0].subject().as_raw() && signed_by(&parsed[0], &parsed[0]) {
        return Err(CheckError::SelfSigned);
    }
    for (at, pair) in parsed.windows(2).enumerate() {
        if pair[0].issuer().as_raw() != pair[1].subject().as_raw()
            || !pair[1].is_ca()
            || !signed_by(&pair[0], &pair[1])
        {
            return Err(CheckError::Broken(at + 1));
        }
    }
    let written: Vec<String> = blocks.iter().map(|der| block(der)).collect();
    Ok(Issued {
        leaf,
        cert: written[0].clone(),
        chain: written[1..].concat(),
        fullchain: written.concat(),
        // Its issuer's name; every chain has a first certificate.
        top: parsed.last().map(signer).unwrap_or_default(),
        offered: Vec::new(),
    })
}

/// Common name of who signed a certificate, else the whole name.
fn signer(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.issuer();
    let common = name.iter_common_name().next().and_then(|name| name.as_str().ok());
    plain(&common.map_or_else(|| name.to_string(), str::to_owned))
}

fn check_leaf(leaf: &Leaf, domains: &[Domain], public_key: &[u8], now: Timestamp) -> Result<(), CheckError> {
    if leaf.public_key != public_key {
        return Err(CheckError::WrongKey);
    }
    let wanted: BTreeSet<&Domain> = domains.iter().collect();
    let given: BTreeSet<&Domain> = leaf.domains.iter().collect();
    if !given.is_superset(&wanted) {
        return Err(CheckError::MissingNames(listed(wanted.difference(&given))));
    }
    if !wanted.is_superset(&given) {
        return Err(CheckError::ExtraNames(listed(given.difference(&wanted))));
    }
    if leaf.other_names {
        return Err(CheckError::ExtraNames("names that are no domains".to_owned()));
    }
    if leaf.is_ca {
        return Err(CheckError::IsCa);
    }
    if leaf.not_before > now + CLOCK_SKEW {
        return Err(CheckError::Future(leaf.not_before));
    }
    if leaf.not_after <= now {
        return Err(CheckError::Expired(leaf.not_after));
    }
    match leaf.not_after.duration_since(leaf.not_before).as_hours() / 24 {
        days if days > MAX_DAYS => Err(CheckError::TooLong(days)),
        _ => Ok(()),
    }
}

/// The DER of each certificate in the text; nothing else may be in it but comments.
fn certificates(pem: &str) -> Result<Vec<Vec<u8>>, CheckError> {
    if pem.len() > MAX_BYTES {
        return Err(CheckError::TooLarge(pem.len()));
    }
    // The reader passes over blocks that it does not know, and over a first line that starts
    // with a byte order mark: then the leaf would be missing without a word.
    let mut begun = 0;
    for line in pem.lines().filter(|line| line.contains("-----BEGIN")) {
        if line.trim_end() != "-----BEGIN CERTIFICATE-----" {
            return Err(CheckError::OtherBlock(plain(line)));
        }
        begun += 1;
    }
    match begun {
        0 => return Err(CheckError::Empty(snippet(pem))),
        1..=MAX_CERTIFICATES => {}
        _ => return Err(CheckError::TooMany),
    }
    let blocks: Vec<Vec<u8>> = rustls_pemfile::certs(&mut pem.as_bytes())
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|_| CheckError::BrokenPem)?;
    if blocks.len() == begun { Ok(blocks) } else { Err(CheckError::BrokenPem) }
}

/// Whether the signature holds; one of an algorithm that we cannot check counts as one that does.
fn signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    matches!(
        certificate.verify_signature(Some(issuer.public_key())),
        Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm)
    )
}

/// A certificate in the strict PEM of RFC 7468 section 3.
fn block(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// The start of an answer that was expected to be something else.
pub(super) fn snippet(text: &str) -> String {
    plain(&text.chars().take(120).collect::<String>())
}

fn listed<'a>(names: impl Iterator<Item = &'a &'a Domain>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Ten times a usual chain.
const MAX_BYTES: usize = 128 * 1024;
const MAX_CERTIFICATES: usize = 10;
/// A little over what the Baseline Requirements ever allowed since 2020 (398 days).
const MAX_DAYS: i64 = 400;
/// Our clock may be behind by this much; CAs date certificates back by an hour for the same reason.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData, SanType,
    };

    use super::*;

    const DAY: i64 = 86_400;

    struct Ca {
        root: CertifiedIssuer<'static, KeyPair>,
        inter: CertifiedIssuer<'static, KeyPair>,
        key: KeyPair,
    }

    impl Ca {
        fn new() -> Self {
            let params = |name: &str| {
                let mut params = CertificateParams::default();
                params.distinguished_name.push(DnType::CommonName, name);
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params
            };
            let key = || KeyPair::generate().unwrap();
            let root = CertifiedIssuer::self_signed(params("root"), key()).unwrap();
            let inter = CertifiedIssuer::signed_by(params("inter"), key(), &root).unwrap();
            Self { root, inter, key: key() }
        }

        /// Issues for `names`, valid from and to so many days from now, then as `change` likes.
        fn issue(
            &self,
            names: &[&str],
            days: (i64, i64),
            change: impl FnOnce(&mut CertificateParams),
        ) -> String {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let mut params = CertificateParams::new(names).unwrap();
            let at = |days: i64| (std::time::SystemTime::now() + std::time::Duration::ZERO, days);
            params.not_before = moved(at(days.0));
            params.not_after = moved(at(days.1));
            change(&mut params);
            params.signed_by(&self.key, &self.inter).unwrap().pem()
        }

        fn check(&self, pem: &str) -> Result<Issued, CheckError> {
            let domains = ["a.example", "*.a.example"].map(|name| name.parse().unwrap());
            check(pem, &domains, &self.key.subject_public_key_info(), Timestamp::now())
        }

        fn good(&self) -> String {
            self.issue(&["*.a.example", "a.example"], (-1, 89), |_| {})
        }
    }

    fn moved<T: From<std::time::SystemTime>>((base, days): (std::time::SystemTime, i64)) -> T {
        let by = std::time::Duration::from_secs(days.unsigned_abs() * DAY as u64);
        T::from(if days < 0 { base - by } else { base + by })
    }

    #[test]
    fn a_good_chain_is_accepted_and_written_anew() {
        let ca = Ca::new();
        let (leaf, inter) = (ca.good(), ca.inter.pem());
        let text = format!("issued for you\r\n{leaf}{}", inter.replace('\n', "\r\n"));
        let chain = ca.check(&text).unwrap();
        assert_eq!(chain.cert, leaf.replace("\r\n", "\n"));
        assert_eq!(chain.chain, inter.replace("\r\n", "\n"));
        assert_eq!(chain.fullchain, format!("{}{}", chain.cert, chain.chain));
        assert_eq!(chain.leaf.issuer, "inter");
        let with_root = format!("{leaf}{inter}{}", ca.root.pem());
        assert_eq!(ca.check(&with_root).unwrap().fullchain.matches("BEGIN").count(), 3);
    }

    #[test]
    fn a_leaf_that_was_not_asked_for_is_refused() {
        let ca = Ca::new();
        let both = ["a.example", "*.a.example"];
        let refused = |pem: String| ca.check(&(pem + &ca.inter.pem())).unwrap_err();
        assert_eq!(
            refused(ca.issue(&["a.example"], (-1, 89), |_| {})),
            CheckError::MissingNames("`*.a.example`".to_owned())
        );
        assert_eq!(
            refused(ca.issue(&["a.example", "*.a.example", "b.example"], (-1, 89), |_| {})),
            CheckError::ExtraNames("`b.example`".to_owned())
        );
        let ip = refused(ca.issue(&both, (-1, 89), |params| {
            params.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()));
        }));
        assert!(matches!(ip, CheckError::ExtraNames(_)), "{ip}");
        assert!(matches!(refused(ca.issue(&both, (-90, -1), |_| {})), CheckError::Expired(_)));
        assert!(matches!(refused(ca.issue(&both, (1, 90), |_| {})), CheckError::Future(_)));
        assert!(matches!(refused(ca.issue(&both, (-1, 420), |_| {})), CheckError::TooLong(421)));
        let is_ca =
            ca.issue(&both, (-1, 89), |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        assert_eq!(refused(is_ca), CheckError::IsCa);
        let other = Ca::new();
        assert_eq!(
            ca.check(&format!("{}{}", other.good(), other.inter.pem())).unwrap_err(),
            CheckError::WrongKey
        );
        let mut own = CertificateParams::new(both.map(str::to_owned)).unwrap();
        own.not_before = moved((std::time::SystemTime::now(), -1));
        own.not_after = moved((std::time::SystemTime::now(), 89));
        assert_eq!(ca.check(&own.self_signed(&ca.key).unwrap().pem()).unwrap_err(), CheckError::SelfSigned);
    }

    #[test]
    fn a_chain_that_does_not_hold_is_refused() {
        let (ca, other) = (Ca::new(), Ca::new());
        let (leaf, inter, root) = (ca.good(), ca.inter.pem(), ca.root.pem());
        assert_eq!(ca.check(&format!("{leaf}{root}")).unwrap_err(), CheckError::Broken(1));
        assert_eq!(ca.check(&format!("{leaf}{root}{inter}")).unwrap_err(), CheckError::Broken(1));
        assert_eq!(ca.check(&format!("{inter}{leaf}")).unwrap_err(), CheckError::WrongKey);
        // The same names, another key.
        assert_eq!(ca.check(&format!("{leaf}{}", other.inter.pem())).unwrap_err(), CheckError::Broken(1));
        let foreign_root = format!("{leaf}{inter}{}", other.root.pem());
        assert_eq!(ca.check(&foreign_root).unwrap_err(), CheckError::Broken(2));
    }

    #[test]
    fn what_is_no_chain_is_refused() {
        let ca = Ca::new();
        let (leaf, inter) = (ca.good(), ca.inter.pem());
        let key = ca.key.serialize_pem();
        for planted in [format!("{leaf}{key}{inter}"), format!("{key}{leaf}{inter}")] {
            let error = ca.check(&planted).unwrap_err();
            assert_eq!(error, CheckError::OtherBlock("-----BEGIN PRIVATE KEY-----".to_owned()));
        }
        assert!(matches!(ca.check(&format!("\u{feff}{leaf}{inter}")), Err(CheckError::OtherBlock(_))));
        assert_eq!(ca.check("").unwrap_err(), CheckError::Empty(String::new()));
        let page = ca.check("<html>\u{1b}[2J nothing here").unwrap_err();
        assert_eq!(page, CheckError::Empty("<html>\\u{1b}[2J nothing here".to_owned()));
        assert_eq!(ca.check(&leaf.repeat(11)).unwrap_err(), CheckError::TooMany);
        assert!(matches!(ca.check(&"x".repeat(200_000)), Err(CheckError::TooLarge(200_000))));
        assert_eq!(ca.check(&leaf[..leaf.len() / 2]).unwrap_err(), CheckError::BrokenPem);
        assert_eq!(ca.check(&leaf.replace("MII", "M?I")).unwrap_err(), CheckError::BrokenPem);
        let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(ca.check(not_x509).unwrap_err(), CheckError::Unreadable(1, ParseError::NotX509));
        let inside = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(
            ca.check(&format!("{leaf}{inside}")).unwrap_err(),
            CheckError::Unreadable(2, ParseError::NotX509)
        );
    }
}
