//! What happened, as the audit log keeps it: who, when, what, and what came of it. Never a secret.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::name::{CertName, Fingerprint, HostName, IssuerName, VersionNumber};
use super::problem::Problem;

/// One thing that happened: one line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: What,
    /// To which certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertName>,
    /// On which host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// At which issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<IssuerName>,
    /// With which version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionNumber>,
    /// SHA-256 of that version's leaf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// What went wrong: the code and the message, made safe to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Wrong>,
    /// Anything else that is worth a word, made safe to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Who did it.
    pub by: Author,
}

impl Entry {
    /// An entry that says no more than this.
    pub fn new(at: Timestamp, event: What, by: Author) -> Self {
        Self {
            at,
            event,
            certificate: None,
            host: None,
            issuer: None,
            version: None,
            fingerprint: None,
            problem: None,
            detail: None,
            by,
        }
    }
}

/// A kind of thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A new version is in the store.
    Issued,
    /// No new version.
    IssueFailed,
    /// A host serves a version, proven from outside, or has it and is not to be probed.
    Deployed,
    /// A host has a version, and nothing there uses it yet.
    Installed,
    /// A version was put on a host, found wanting, and the one before is back.
    PutBack,
    /// A version was not put on a host.
    DeployFailed,
    /// What lies on a host's disk is not what we installed there.
    Drifted,
    /// A version was revoked.
    Revoked,
    /// Challenge records that an earlier run left are gone.
    CleanedUp,
    /// Challenge records could not be removed.
    CleanUpFailed,
    /// An account was made at an issuer.
    AccountRegistered,
    /// A version or an account was taken over from another program.
    Imported,
    /// Somebody was told of an alert.
    Told,
    /// Somebody has taken an alert on.
    Acknowledged,
    /// Something that a newer certfleet wrote.
    #[serde(other)]
    Other,
}

impl What {
    /// As it is written in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::IssueFailed => "issue-failed",
            Self::Deployed => "deployed",
            Self::Installed => "installed",
            Self::PutBack => "put-back",
            Self::DeployFailed => "deploy-failed",
            Self::Drifted => "drifted",
            Self::Revoked => "revoked",
            Self::CleanedUp => "cleaned-up",
            Self::CleanUpFailed => "clean-up-failed",
            Self::AccountRegistered => "account-registered",
            Self::Imported => "imported",
            Self::Told => "told",
            Self::Acknowledged => "acknowledged",
            Self::Other => "other",
        }
    }
}

/// What went wrong, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Wrong {
    /// The stable code.
    pub code: String,
    /// Message and causes in one line.
    pub message: String,
}

impl From<&Problem> for Wrong {
    fn from(problem: &Problem) -> Self {
        // The parts are safe to show; a long chain of causes is not worth a long line.
        let message = super::problem::plain(&problem.one_line());
        Self { code: problem.code.clone(), message }
    }
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Author {
    /// The user, by name where the machine knows one.
    pub user: String,
    /// The person behind `sudo`, by its word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_user: Option<String>,
    /// The process.
    pub pid: u32,
    /// What had it run.
    pub how: How,
}

/// What had certfleet run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Somebody at the command line.
    #[default]
    Cli,
    /// `run --once`.
    Timer,
    /// `run`.
    Daemon,
}

impl How {
    /// As it is written in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Timer => "timer",
            Self::Daemon => "daemon",
        }
    }
}
