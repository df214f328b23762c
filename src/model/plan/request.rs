//! What a plan is asked for.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Begun;
use crate::model::desired::{Certificate, Desired};
use crate::model::name::{CertName, HostName};

/// What the plan may contain.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Only these certificates; `None` = all.
    pub only: Option<BTreeSet<CertName>>,
    /// Only these hosts; `None` = all.
    pub hosts: Option<BTreeSet<HostName>>,
    /// Whether to issue.
    pub issuing: Issuing,
    /// Whether to deploy.
    pub deploying: Deploying,
    /// Replace a trusted certificate by an untrusted one of ours.
    pub allow_downgrade: bool,
    /// Issue beyond the duplicate limit that the CA is known to have.
    pub override_limits: bool,
    /// What this pass has begun already, for the certificates that are rolled out in steps.
    pub begun: Begun,
}

impl Request {
    /// Whether it is about this certificate.
    pub fn selects(&self, name: &CertName) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(name))
    }

    /// Those it is about: a pass asks for one of ten thousand, ten thousand times.
    pub(super) fn selected<'a>(
        &'a self,
        desired: &'a Desired,
    ) -> Box<dyn Iterator<Item = &'a Certificate> + 'a> {
        match &self.only {
            None => Box::new(desired.certificates.values()),
            Some(only) => Box::new(only.iter().filter_map(|name| desired.certificates.get(name))),
        }
    }

    /// Whether it is about this host.
    pub fn reaches(&self, host: &HostName) -> bool {
        self.hosts.as_ref().is_none_or(|only| only.contains(host))
    }

    /// Whether a pass with it does all that there is to do.
    pub fn is_complete(&self) -> bool {
        let narrowed = self.only.is_some() || self.hosts.is_some();
        !narrowed && self.issuing != Issuing::No && self.deploying != Deploying::No
    }
}

/// Which certificates are issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Issuing {
    /// None.
    No,
    /// Those that are due.
    #[default]
    Due,
    /// All, unless a version was stored since the person asked (two of them may ask at once).
    Forced(Timestamp),
}

/// Where certificates are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deploying {
    /// Nowhere.
    No,
    /// Where they are lacking.
    #[default]
    Lacking,
    /// Everywhere, foreign certificates included, unless it was installed since the person asked.
    Forced(Timestamp),
}
