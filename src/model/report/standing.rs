//! The words for where certificates and hosts stand.

use serde::Serialize;

use crate::model::alert::Level;

/// Where a certificate stands; the first that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The newest version has ended.
    Expired,
    /// Not tried again until a person changes something.
    Blocked,
    /// Issuing failed and is tried again.
    Failing,
    /// Its renewal time has come.
    Due,
    /// There is no version yet.
    Missing,
    /// All is well.
    Valid,
}

/// Where a host stands, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostStanding {
    /// The newest version is what visitors get.
    Serving,
    /// Installed, but nothing uses it yet; or there is nothing to install yet.
    Pending,
    /// Never looked at.
    Unknown,
    /// No answer.
    Unreachable,
    /// Something else than the newest version is served.
    Stale,
    /// A valid certificate that is not ours, after ours.
    Foreign,
}

impl Standing {
    /// How urgent it is by itself, without what hosts serve.
    pub fn urgency(self) -> Option<Level> {
        match self {
            Self::Expired => Some(Level::Critical),
            Self::Blocked | Self::Failing | Self::Missing => Some(Level::Warning),
            // The next pass renews it.
            Self::Due | Self::Valid => None,
        }
    }

    /// As it is written in the report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Blocked => "blocked",
            Self::Failing => "failing",
            Self::Due => "due",
            Self::Missing => "missing",
            Self::Valid => "valid",
        }
    }

    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Expired, Self::Blocked, Self::Failing, Self::Due, Self::Missing, Self::Valid];
}

impl HostStanding {
    /// As it is written in the report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Pending => "pending",
            Self::Unknown => "unknown",
            Self::Unreachable => "unreachable",
            Self::Stale => "stale",
            Self::Foreign => "foreign",
        }
    }

    /// All of them, from good to bad.
    pub const ALL: [Self; 6] =
        [Self::Serving, Self::Pending, Self::Unknown, Self::Unreachable, Self::Stale, Self::Foreign];
}
