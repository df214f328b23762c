//! What is not done now, and why.

use std::net::SocketAddr;

use jiff::Timestamp;

use crate::model::name::{CertName, DnsAccountName, Fingerprint, HostName};
use crate::model::problem::Problem;
use crate::model::schedule::Rule;

/// Where a new version was no good.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// The host that was given it.
    pub at: HostName,
    /// When.
    pub when: Timestamp,
    /// What was wrong.
    pub problem: Problem,
}

/// Why something is not done now.
#[derive(Debug, Clone, PartialEq)]
pub enum Waiting {
    /// The certificate is good until then.
    NotDue(CertName, Timestamp, Rule),
    /// Issuing failed; the next attempt is at that time.
    Backoff(CertName, Timestamp, u32, Problem),
    /// Issuing failed in a way that only a change of certs.toml can mend.
    NeedsChange(CertName, Problem),
    /// The CA would refuse another certificate of these names before that time.
    DuplicateLimit(CertName, usize, Timestamp),
    /// A host serves a valid certificate that is not ours, after ours was served there.
    Foreign(CertName, HostName, Fingerprint, Timestamp),
    /// A valid certificate that is not ours lies on its disk, where ours was served; from memory it serves ours still.
    ForeignOnDisk(CertName, HostName, Fingerprint, Timestamp),
    /// Ours would not be trusted, what is served there is.
    Downgrade(CertName, HostName, String),
    /// The roll-out of the newest version begins with the canary, which does not serve it yet.
    Canary(CertName, HostName, HostName),
    /// The roll-out goes on there once it is proven where it is now: so many hosts at once.
    Batch(CertName, HostName, usize),
    /// The roll-out is stopped by what happened elsewhere.
    Stopped(CertName, HostName, Box<Stop>),
    /// The newest version has fewer domains than certs.toml asks for.
    Narrower(CertName, HostName),
    /// Installed; nothing on the host uses it yet.
    Pending(CertName, HostName),
    /// Served there, but this address of the host does not answer.
    Unreachable(CertName, HostName, SocketAddr),
    /// There is no version to deploy, or it expired at that time; and nothing is to be issued.
    NothingToDeploy(CertName, Option<Timestamp>),
    /// The newest version was revoked at that time: no host gets it.
    Revoked(CertName, Timestamp),
    /// The newest version is valid only from that time.
    NotYetValid(CertName, Timestamp),
    /// What the store has of the certificate, or of the host, cannot be read.
    Unreadable(CertName, Option<HostName>, Problem),
    /// TXT records are left, and the account that could remove them is not in certs.toml.
    Stranded(CertName, DnsAccountName, usize),
}

impl Waiting {
    /// The moment at which it may become an action by itself.
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::NotDue(_, until, _)
            | Self::Backoff(_, until, ..)
            | Self::DuplicateLimit(_, _, until)
            | Self::NotYetValid(_, until) => Some(*until),
            _ => None,
        }
    }

    /// Whether a person has to do something.
    pub fn needs_person(&self) -> bool {
        matches!(
            self,
            Self::NeedsChange(..)
                | Self::Foreign(..)
                | Self::ForeignOnDisk(..)
                | Self::Downgrade(..)
                | Self::Stopped(..)
                | Self::DuplicateLimit(..)
                | Self::NothingToDeploy(..)
                | Self::Revoked(..)
                | Self::Stranded(..)
                | Self::Unreadable(..)
        )
    }

    /// The host it is about, where it is about one.
    pub fn host(&self) -> Option<&HostName> {
        match self {
            Self::Foreign(_, host, ..)
            | Self::ForeignOnDisk(_, host, ..)
            | Self::Downgrade(_, host, _)
            | Self::Narrower(_, host)
            | Self::Canary(_, host, _)
            | Self::Batch(_, host, _)
            | Self::Stopped(_, host, ..)
            | Self::Pending(_, host)
            | Self::Unreachable(_, host, _)
            | Self::Unreadable(_, Some(host), _) => Some(host),
            _ => None,
        }
    }

    /// The certificate it is about.
    pub fn certificate(&self) -> &CertName {
        match self {
            Self::NotDue(name, ..)
            | Self::Backoff(name, ..)
            | Self::NeedsChange(name, ..)
            | Self::DuplicateLimit(name, ..)
            | Self::Foreign(name, ..)
            | Self::ForeignOnDisk(name, ..)
            | Self::Downgrade(name, ..)
            | Self::Narrower(name, ..)
            | Self::Canary(name, ..)
            | Self::Batch(name, ..)
            | Self::Stopped(name, ..)
            | Self::Pending(name, ..)
            | Self::Unreachable(name, ..)
            | Self::NothingToDeploy(name, ..)
            | Self::Revoked(name, _)
            | Self::NotYetValid(name, ..)
            | Self::Unreadable(name, ..)
            | Self::Stranded(name, ..) => name,
        }
    }
}
