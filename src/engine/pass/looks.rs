//! Looks at the disks of hosts: after what there is to deploy, one for each host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Done, Pass};
use crate::engine::Event;
use crate::engine::look::Looked;
use crate::model::disk;
use crate::model::name::{CertName, HostName};
use crate::model::state::HostFacts;

impl Pass<'_> {
    /// Looks at the disk of a host, if that is wanted and something is there that this pass has not just installed.
    pub(super) fn look(&mut self, host: &HostName) {
        if !self.to_look.remove(host) || self.looked.contains(host) {
            return;
        }
        let all = disk::comparable(&self.engine.config.desired, &self.state, self.request, host);
        let here = self.tried.iter().filter(|(_, at, _)| at == host);
        let tried: BTreeSet<&CertName> = here.map(|(name, ..)| name).collect();
        let known: BTreeMap<CertName, HostFacts> = all
            .filter(|(name, _)| !tried.contains(name))
            .map(|(name, facts)| (name.clone(), facts.clone()))
            .collect();
        if known.is_empty() {
            return;
        }
        self.looked.insert(host.clone());
        self.busy.insert(host.clone());
        let (engine, host) = (Arc::clone(self.engine), host.clone());
        self.running.push(Box::pin(self.work.begin(async move {
            let looked = engine.look_into(&host, known).await;
            Done::Looked(host, looked)
        })));
    }

    /// Mends what was found.
    pub(super) fn take_looked(&mut self, host: &HostName, looked: Looked) {
        self.busy.remove(host);
        self.state.hosts.entry(host.clone()).or_default().extend(looked.facts);
        let found = looked.found.into_iter().map(|(name, what)| (name, host.clone(), what));
        self.summary.drifted.extend(found);
        if let Some(problem) = looked.problem {
            self.engine.tell(Event::NotSeen(host.clone(), problem.clone()));
            self.summary.unseen.push((host.clone(), problem));
        }
        self.enqueue(None, &[host.clone()].into());
        self.feed(host);
    }
}
