//! What is remembered: facts only. Standing is derived from them, never stored.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::desired::KeyType;
use super::disk::Disk;
use super::name::{CertName, DnsAccountName, Domain, Fingerprint, HostName, IssuerName, VersionNumber};
use super::passes::Passes;
use super::problem::Problem;

/// Everything the store holds, as read at one moment.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// By certificate; also those that certs.toml no longer names.
    pub certificates: BTreeMap<CertName, CertState>,
    /// By host, then certificate: what we did there.
    pub hosts: BTreeMap<HostName, BTreeMap<CertName, HostFacts>>,
    /// TXT records that we set, or were about to set, and have not removed.
    pub debts: Vec<TxtDebt>,
    /// Certificates whose facts cannot be read: nothing is done for them, for nobody knows what was.
    pub unreadable: BTreeMap<CertName, Problem>,
    /// Hosts whose facts cannot be read: nothing is deployed there.
    pub unreadable_hosts: BTreeMap<HostName, Problem>,
    /// When passes ended.
    pub passes: Passes,
}

/// What is remembered of one certificate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CertState {
    /// The versions whose key and chain are in the store.
    #[serde(default)]
    pub versions: BTreeMap<VersionNumber, Version>,
    /// The order that is under way; its key is in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OpenOrder>,
    /// How issuing failed since it last worked, by nobody's fault among the issuers: none of them is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How single issuers failed since it last worked: the others may be asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<IssuerName, Failure>,
    /// What the CA suggests for the newest version (RFC 9773).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_info: Option<RenewalInfo>,
}

impl CertState {
    /// The newest version, with its number.
    pub fn newest(&self) -> Option<(VersionNumber, &Version)> {
        self.versions.last_key_value().map(|(number, version)| (*number, version))
    }

    /// The versions that nobody needs any more: not among the newest three, installed nowhere, and too
    /// old for any CA to count them against a limit (a week, see [`schedule::duplicate_limit`]).
    ///
    /// [`schedule::duplicate_limit`]: super::schedule::duplicate_limit
    pub fn disposable(&self, installed: &BTreeSet<VersionNumber>, now: Timestamp) -> Vec<VersionNumber> {
        let old = |version: &Version| version.issued_at.duration_until(now) > COUNTED;
        let older = self.versions.iter().rev().skip(NEWEST);
        older
            .filter(|(number, version)| old(version) && !installed.contains(number))
            .map(|(number, _)| *number)
            .collect()
    }

    /// The last failure since issuing last worked.
    pub fn last_failure(&self) -> Option<&Failure> {
        self.failure.iter().chain(self.failures.values()).max_by_key(|failure| failure.last)
    }
}

/// How many of the newest versions stay whatever happens.
const NEWEST: usize = 3;
/// Above the week over which CAs count.
const COUNTED: SignedDuration = SignedDuration::from_hours(8 * 24);

/// One issued certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Version {
    /// The domains of the leaf.
    pub domains: Vec<Domain>,
    /// Who issued it, by its name in certs.toml.
    pub issuer: IssuerName,
    /// The directory it came from.
    pub directory: String,
    /// The type of its key.
    pub key: KeyType,
    /// Serial number in lower-case hex.
    pub serial: String,
    /// SHA-256 of the leaf.
    pub fingerprint: Fingerprint,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
    /// When we stored it.
    pub issued_at: Timestamp,
    /// Its identifier for ARI (RFC 9773 section 4.1), if it has the needed extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ari_id: Option<String>,
    /// That the CA revoked it because we asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
}

/// That a version was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Revoked {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// Why a certificate is revoked: those of RFC 5280 section 5.3.1 that are for its owner to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// None is given.
    Unspecified,
    /// Somebody else may have the key.
    KeyCompromise,
    /// Its owner's name has changed.
    AffiliationChanged,
    /// Another has taken its place.
    Superseded,
    /// The domains are no longer used.
    CessationOfOperation,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::ALL.iter().find(|(_, reason)| reason == self);
        f.write_str(found.map_or("unspecified", |(name, _)| name))
    }
}

impl Reason {
    /// All of them, by their names.
    pub const ALL: [(&str, Self); 5] = [
        ("unspecified", Self::Unspecified),
        ("key-compromise", Self::KeyCompromise),
        ("affiliation-changed", Self::AffiliationChanged),
        ("superseded", Self::Superseded),
        ("cessation-of-operation", Self::CessationOfOperation),
    ];
}

/// An order that has been started and not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OpenOrder {
    /// Its URL at the CA; `None` until the CA has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The domains ordered.
    pub domains: Vec<Domain>,
    /// The issuer it was sent to.
    pub issuer: IssuerName,
    /// That issuer's directory.
    pub directory: String,
    /// The type of the key that is kept for it.
    pub key: KeyType,
    /// The profile it was ordered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// When it was begun.
    pub started: Timestamp,
}

/// How an operation failed, repeatedly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failure {
    /// How many times in a row.
    pub count: u32,
    /// The first of them.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// What happened the last time.
    pub problem: Problem,
    /// The revision of the certificate's entry that failed.
    pub revision: String,
}

/// A CA's suggestion when to renew (RFC 9773 section 4.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RenewalInfo {
    /// The certificate it speaks of.
    pub fingerprint: Fingerprint,
    /// Start of the window; `None` when the CA answered without a usable one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<(Timestamp, Timestamp)>,
    /// Page on which the CA explains the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
    /// When to ask again.
    pub ask_again: Timestamp,
}

/// What we did with one certificate on one host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HostFacts {
    /// The version that our last completed transaction left current there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<Installed>,
    /// When a probe last saw a certificate of ours served there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_at: Option<Timestamp>,
    /// How deploying failed since it last worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The version that was tried there last and found wanting; none when it has worked since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<VersionNumber>,
    /// What lay on its disk when that was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

/// A version on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Installed {
    /// Its number.
    pub version: VersionNumber,
    /// SHA-256 of its leaf.
    pub fingerprint: Fingerprint,
    /// When the transaction ended.
    pub at: Timestamp,
    /// Installed, but nothing on the host served it yet.
    #[serde(default)]
    pub pending: bool,
}

/// A certs.toml that the daemon was to load again and could not: it goes on with the one before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConfigRefused {
    /// When it was told to.
    pub at: Timestamp,
    /// What is wrong with it.
    pub problem: Problem,
}

/// A TXT record that must be gone in the end; durable before it is set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TxtDebt {
    /// The certificate it was set for: its lock guards the record.
    pub certificate: CertName,
    /// The account that set it.
    pub dns: DnsAccountName,
    /// The zone it is in, with final dot.
    pub zone: String,
    /// Its owner name after all CNAMEs, with final dot.
    pub owner: String,
    /// Its value.
    pub value: String,
    /// When it was noted.
    pub since: Timestamp,
    /// What the value was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

/// What a challenge's value is made from, for those who make it themselves (RFC 8555 section 8.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Proof {
    /// The domain that is proven, never a wildcard.
    pub domain: Domain,
    /// The CA's token.
    pub token: String,
    /// The token and the thumbprint of our account's key.
    pub key_authorization: String,
}

impl fmt::Debug for Proof {
    /// Without what a log has no business with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("domain", &self.domain).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_older_versions_wrote_is_read() {
        let version = r#"{"domains":["a.example"],"issuer":"le","directory":"https://ca.example/d",
            "key":"ecdsa-p256","serial":"01",
            "fingerprint":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "not-before":"2026-01-01T00:00:00Z","not-after":"2026-04-01T00:00:00Z",
            "issued-at":"2026-01-01T00:00:00Z"}"#;
        let order = r#"{"domains":["a.example"],"issuer":"le","directory":"https://ca.example/d",
            "key":"ecdsa-p256","started":"2026-01-01T00:00:00Z"}"#;
        let failure = r#"{"count":2,"first":"2026-01-01T00:00:00Z","last":"2026-01-02T00:00:00Z",
            "problem":{"code":"acme.refused","blame":"issuer","retry":"backoff","message":"no"},"revision":"1"}"#;
        let text = format!(r#"{{"versions":{{"1":{version}}},"order":{order},"failure":{failure}}}"#);
        let known: CertState = serde_json::from_str(&text).unwrap();
        assert_eq!(known.newest().unwrap().1.revoked, None);
        assert!(known.failures.is_empty());
        assert_eq!(known.last_failure().unwrap().count, 2);
        assert_eq!(known.order.unwrap().profile, None);
    }

    #[test]
    fn old_versions_go_unless_a_host_has_them() {
        let day = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let version = |issued_at| Version {
            domains: vec!["a.example".parse().unwrap()],
            issuer: "ca".parse().unwrap(),
            directory: "https://ca.example/".to_owned(),
            key: KeyType::default(),
            serial: "01".to_owned(),
            fingerprint: Fingerprint([0; 32]),
            not_before: issued_at,
            not_after: issued_at,
            issued_at,
            ari_id: None,
            revoked: None,
        };
        let state = |days: &[i64]| CertState {
            versions: (1..).map(VersionNumber).zip(days.iter().map(|at| version(day(*at)))).collect(),
            ..CertState::default()
        };
        let gone = |days: &[i64], installed: &[u32]| -> Vec<u32> {
            let installed = installed.iter().copied().map(VersionNumber).collect();
            let mut gone: Vec<u32> =
                state(days).disposable(&installed, day(100)).iter().map(|number| number.0).collect();
            gone.sort_unstable();
            gone
        };
        assert!(gone(&[1, 2, 3], &[]).is_empty());
        assert_eq!(gone(&[1, 2, 3, 4, 5], &[]), [1, 2]);
        assert_eq!(gone(&[1, 2, 3, 4, 5], &[1]), [2]);
        // Young ones are counted by the CA, and so by us; a clock that was wrong makes none old.
        assert_eq!(gone(&[1, 94, 95, 96, 97, 98], &[]), [1]);
        assert!(gone(&[200, 201, 202, 203], &[]).is_empty());
    }
}
