//! What other processes have done meanwhile: a daemon, a timer and a person may be at work at once.

use std::collections::BTreeMap;

use super::pass::Pass;
use crate::model::name::{CertName, VersionNumber};
use crate::model::observed::{Look, Seen};
use crate::model::state::CertState;

impl Pass<'_> {
    /// Reads again what the store has of a certificate: other processes are at work, too. Whether its newest
    /// version is another than this one.
    pub(super) fn learn(&mut self, name: &CertName, version: Option<VersionNumber>) -> bool {
        let Ok(known) = self.engine.store.certificate(name) else { return false };
        let other = known.newest().map(|(number, _)| number) != version;
        if other {
            self.state.certificates.insert(name.clone(), known);
            self.judge(name);
        }
        other
    }

    /// A leaf that we do not know may be one that another process has just issued.
    pub(super) fn learn_what_is_served(&mut self, looks: &BTreeMap<CertName, Vec<Look>>) {
        for (name, looks) in looks {
            let known = self.state.certificates.get(name);
            let strange = |look: &Look| match (&look.seen, known) {
                (Seen::Serving(served), Some(known)) => {
                    known.versions.values().all(|version| version.fingerprint != served.fingerprint)
                }
                _ => false,
            };
            if looks.iter().any(strange) {
                let newest = known.and_then(CertState::newest).map(|(number, _)| number);
                self.learn(name, newest);
            }
        }
    }
}
