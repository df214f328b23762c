//! Why a certificate is not in use on a host that could be talked to.

use crate::model::name::CertName;
use crate::model::problem::{Blame, Diagnose, Problem};

/// Why a certificate was not installed on a host, although the host could be talked to.
#[derive(Debug, thiserror::Error)]
pub enum NotInstalled {
    /// The config test failed with it.
    #[error(
        "cannot deploy `{certificate}` version {version} to `{host}`: its configuration does not work with it"
    )]
    TestFailed {
        /// The certificate.
        certificate: CertName,
        /// Its version's number.
        version: u32,
        /// The host's name.
        host: String,
        /// What the test said.
        #[source]
        said: Said,
    },
    /// The reload failed with it.
    #[error("cannot deploy `{certificate}` version {version} to `{host}`: the reload failed")]
    ReloadFailed {
        /// The certificate.
        certificate: CertName,
        /// Its version's number.
        version: u32,
        /// The host's name.
        host: String,
        /// What the reload said.
        #[source]
        said: Said,
    },
    /// The host cannot take this one.
    #[error("cannot deploy `{certificate}` version {version} to `{host}`: {reason}")]
    Refused {
        /// The certificate.
        certificate: CertName,
        /// Its version's number.
        version: u32,
        /// The host's name.
        host: String,
        /// Why; safe to show.
        reason: String,
    },
    /// A newer version is there.
    #[error(
        "`{certificate}` version {version} does not go to `{host}`: a newer version is installed, {there}"
    )]
    Newer {
        /// The certificate.
        certificate: CertName,
        /// Its version's number.
        version: u32,
        /// The host's name.
        host: String,
        /// What the newer one is called there; safe to show.
        there: String,
    },
    /// The host's configuration was broken before.
    #[error(
        "cannot deploy `{certificate}` to `{host}`: its configuration was broken before, nothing was changed"
    )]
    HostBroken {
        /// The certificate.
        certificate: CertName,
        /// The host's name.
        host: String,
        /// What the test said.
        #[source]
        said: Said,
    },
    /// Another certificate is served in its place.
    #[error("`{host}` does not serve `{certificate}` version {version}{}", if *put_back { ", the version before is back" } else { "" })]
    NotServed {
        /// The certificate.
        certificate: CertName,
        /// Its version's number.
        version: u32,
        /// The host's name.
        host: String,
        /// Whether the version before is back in place.
        put_back: bool,
        /// What was seen.
        #[source]
        seen: Seen,
    },
    /// It is not what visitors get, and could not be put back.
    #[error(
        "`{host}` does not serve `{certificate}` version {version}, and putting the version before back failed: {why}"
    )]
    NotPutBack {
        /// The certificate.
        certificate: CertName,
        /// Its version's number.
        version: u32,
        /// The host's name.
        host: String,
        /// Why not; safe to show.
        why: String,
        /// What was seen.
        #[source]
        seen: Seen,
    },
    /// Nothing serves it so far.
    #[error("nothing on `{host}` uses {directory}/{certificate} yet")]
    Unused {
        /// The certificate.
        certificate: CertName,
        /// The host's name.
        host: String,
        /// The host's `directory`.
        directory: String,
        /// What its web server's configuration has to say.
        lines: String,
        /// What was seen.
        #[source]
        seen: Seen,
    },
    /// The web server does not run.
    #[error("`{certificate}` is installed on `{host}`, but no web server runs there")]
    NothingRuns {
        /// The certificate.
        certificate: CertName,
        /// The host's name.
        host: String,
        /// What the reload said.
        #[source]
        said: Said,
    },
}

/// A command of a host, and what it said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{command}` on `{host}` failed: {}", if output.is_empty() { "it said nothing" } else { output.as_str() })]
pub struct Said {
    pub(super) host: String,
    pub(super) command: String,
    pub(super) output: String,
}

/// What was seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Seen {
    what: String,
    /// What to do about it, where that is clear from outside.
    hint: Option<String>,
}

impl Seen {
    pub(super) fn of(problem: &Problem) -> Self {
        Self { what: problem.one_line(), hint: problem.hint.clone() }
    }
}

impl Diagnose for NotInstalled {
    fn code(&self) -> &'static str {
        match self {
            Self::TestFailed { .. } => "deploy.config-test",
            Self::ReloadFailed { .. } => "deploy.reload",
            Self::Refused { .. } => "deploy.refused",
            Self::Newer { .. } => "deploy.newer",
            Self::HostBroken { .. } => "deploy.host-broken",
            Self::NotServed { .. } => "deploy.not-served",
            Self::NotPutBack { .. } => "deploy.not-put-back",
            Self::Unused { .. } => "deploy.unused",
            Self::NothingRuns { .. } => "deploy.not-running",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Host
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TestFailed { said, .. } => format!(
                "the version before is back in place and passes `{}`; see what it says of the new one",
                said.command
            ),
            Self::HostBroken { said, .. } => format!("mend it on the host until `{}` passes", said.command),
            Self::ReloadFailed { said, .. } => {
                format!("the version before is back in place; run `{}` on the host", said.command)
            }
            Self::NotServed { seen: Seen { hint: Some(hint), .. }, .. } => hint.clone(),
            Self::NotPutBack { certificate, host, .. } => format!(
                "look at `{host}` now: does its web server run, and with which certificate? once it does, `certfleet \
                 deploy {certificate} --host {host}` tries again"
            ),
            Self::NotServed { host, .. } => format!(
                "look which server block answers there; if it is another machine's, set `verify` in [host.{host}]"
            ),
            Self::Unused { lines, .. } => format!("name it in the web server's configuration: {lines}"),
            Self::NothingRuns { .. } => "start it; it will find the new certificate".to_owned(),
            Self::Newer { certificate, host, .. } => format!(
                "does another certfleet deploy there, or is the store an old copy? to replace it: certfleet deploy \
                 {certificate} --host {host} --force"
            ),
            Self::Refused { host, .. } => {
                format!(
                    "once that is mended on `{host}` the next pass installs it; `certfleet deploy` does it now"
                )
            }
        })
    }
}
