//! What was seen of the world in this pass. Not seeing is a value, never an error.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cert::{ChainEnd, Leaf};
use super::name::{CertName, Domain, Fingerprint, HostName, VersionNumber};
use super::problem::Problem;

/// Everything seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Observed {
    /// By host, then certificate: one look for each address and name.
    #[serde(default)]
    pub looks: BTreeMap<HostName, BTreeMap<CertName, Vec<Look>>>,
    /// Versions of ours whose chain does not lead to the issuer's `roots`, and why.
    #[serde(default)]
    pub untrusted: BTreeMap<CertName, BTreeMap<VersionNumber, String>>,
}

impl Observed {
    /// The looks at one certificate on one host.
    pub fn looks(&self, host: &HostName, certificate: &CertName) -> &[Look] {
        self.looks.get(host).and_then(|of| of.get(certificate)).map_or(&[], Vec::as_slice)
    }
}

/// One TLS handshake, or the attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Look {
    /// The address that was asked.
    pub address: SocketAddr,
    /// The name that was asked for (SNI).
    pub name: Domain,
    /// When.
    pub at: Timestamp,
    /// What came of it.
    pub seen: Seen,
}

impl Look {
    /// Why a visitor would not trust what was seen; `None` where it is trusted, or nothing was seen.
    pub fn distrust(&self) -> Option<&str> {
        match &self.seen {
            Seen::Serving(served) => served.distrust.as_deref(),
            Seen::Unreachable(_) => None,
        }
    }
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// A certificate was served.
    Serving(Served),
    /// No handshake: refused, timed out, not TLS.
    Unreachable(Problem),
}

/// A certificate as served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Served {
    /// SHA-256 of the leaf.
    pub fingerprint: Fingerprint,
    /// Serial number in lower-case hex.
    pub serial: String,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
    /// Common name of its issuer, made safe to show.
    pub issuer: String,
    /// Why a visitor would not trust it for that name and time; `None` = trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distrust: Option<String>,
    /// What came with it and ends before it does, so that visitors refuse it from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_end: Option<ChainEnd>,
}

impl Served {
    /// A leaf, and what visitors think of it.
    pub fn of(leaf: Leaf, distrust: Option<String>) -> Self {
        Self {
            fingerprint: leaf.fingerprint,
            serial: leaf.serial,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            issuer: leaf.issuer,
            distrust,
            chain_end: None,
        }
    }
}
