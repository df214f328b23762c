//! Certificates that are rolled out in steps: what is begun, and when the next step is.

use std::collections::BTreeSet;

use super::Pass;
use crate::engine::Event;
use crate::model::name::{CertName, HostName};
use crate::model::plan::{Deploying, Install};
use crate::model::problem::{Blame, Diagnose, Problem};

/// A roll-out goes on although something speaks against it.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{certificate}` goes to `{host}` out of turn, because what is served there is close to its end: {waiting}"
)]
struct OutOfTurn {
    certificate: CertName,
    host: HostName,
    waiting: String,
}

impl Diagnose for OutOfTurn {
    fn code(&self) -> &'static str {
        "rollout.out-of-turn"
    }

    fn blame(&self) -> Blame {
        Blame::Host
    }

    fn hint(&self) -> Option<String> {
        Some("see why it fails elsewhere; each host still goes back to its old version if it does not serve the new".to_owned())
    }
}

impl Pass<'_> {
    /// Whether a certificate comes to its hosts in steps.
    pub(super) fn goes_in_steps(&self, name: &CertName) -> bool {
        let forced = matches!(self.request.deploying, Deploying::Forced(_));
        let certificate = self.engine.config.desired.certificates.get(name);
        !forced && certificate.is_some_and(|certificate| certificate.rollout.is_some())
    }

    /// Those of a host that come in steps.
    pub(super) fn in_steps_on(&self, host: &HostName) -> Vec<CertName> {
        let certificates = self.engine.config.desired.certificates.values();
        certificates
            .filter(|certificate| certificate.hosts.contains(host) && self.goes_in_steps(&certificate.name))
            .map(|certificate| certificate.name.clone())
            .collect()
    }

    /// Whether everything is seen that the next step depends on; what does not come in steps waits for nobody.
    pub(super) fn may_roll(&self, name: &CertName) -> bool {
        let hosts = self.engine.config.desired.certificates.get(name).map(|certificate| &certificate.hosts);
        let mut hosts = hosts.into_iter().flatten().filter(|host| self.request.reaches(host));
        !self.goes_in_steps(name) || hosts.all(|host| self.seen.contains(host))
    }

    /// Plans the next step of these.
    pub(super) fn roll_out(&mut self, names: Vec<CertName>) {
        let seen: BTreeSet<HostName> = self.seen.clone();
        for name in names {
            if self.request.selects(&name) && self.may_roll(&name) {
                self.plan_deploying(Some(&name), &seen);
            }
        }
    }

    /// Notes that an install is on its way.
    pub(super) fn note_step(&mut self, install: &Install, host: &HostName) {
        if !self.goes_in_steps(&install.certificate) {
            return;
        }
        self.begun.under_way.insert((install.certificate.clone(), host.clone()));
        if let Some(waiting) = &install.despite {
            self.engine.tell(Event::Oddity(Problem::of(&OutOfTurn {
                certificate: install.certificate.clone(),
                host: host.clone(),
                waiting: waiting.to_string(),
            })));
        }
    }
}
