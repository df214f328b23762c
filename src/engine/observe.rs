//! Looking: what every host serves, and whether what we have would be trusted. Changes nothing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::endpoint::Endpoint;
use super::{Engine, StartError};
use crate::config::Config;
use crate::model::desired::Certificate;
use crate::model::name::{CertName, HostName, VersionNumber};
use crate::model::observed::{Look, Observed, Seen, Served};
use crate::model::plan::Request;
use crate::model::problem::Problem;
use crate::model::state::State;
use crate::probe::{self, Probe, Question, Roots};
use crate::store::Store;

/// Handshakes under way at once.
const LOOKS: usize = 64;

/// Looks at the hosts of a configuration.
pub struct Observer {
    config: Arc<Config>,
    pub(super) probe: Probe,
    /// By the files that the issuers of a certificate name, none for the system's.
    roots: BTreeMap<BTreeSet<Option<PathBuf>>, Roots>,
    pub(super) looks: Semaphore,
}

impl Observer {
    /// Reads the roots that served chains should lead to.
    pub fn new(config: Arc<Config>) -> Result<Self, StartError> {
        let mut roots = BTreeMap::new();
        for certificate in config.desired.certificates.values() {
            if let Entry::Vacant(place) = roots.entry(sources(&config, certificate)) {
                let read = Roots::of_all(place.key().iter().map(Option::as_deref));
                place.insert(read.map_err(|error| StartError::Roots(certificate.issuer.clone(), error))?);
            }
        }
        Ok(Self { config, probe: Probe::new(), roots, looks: Semaphore::new(LOOKS) })
    }

    /// What every host of a request serves now, and which of our versions would not be trusted.
    /// Without a store nothing is ours yet.
    pub async fn observe(&self, store: Option<&Store>, state: &State, request: &Request) -> Observed {
        let mut observed =
            store.map_or_else(Observed::default, |store| self.judge_ours(store, state, request));
        let hosts = self.hosts_of(request);
        let looks = hosts.into_iter().map(|(host, names)| async move {
            let looks = self.look_at(&host, &names).await;
            (host, looks)
        });
        observed.looks = join_all(looks).await.into_iter().collect();
        observed
    }

    /// The roots that chains of a certificate should lead to.
    pub(super) fn roots(&self, certificate: &Certificate) -> &Roots {
        &self.roots[&sources(&self.config, certificate)]
    }

    /// The hosts that a request is about, each with its certificates.
    pub(super) fn hosts_of(&self, request: &Request) -> BTreeMap<HostName, Vec<CertName>> {
        let mut hosts: BTreeMap<HostName, Vec<CertName>> = BTreeMap::new();
        for certificate in self.config.desired.certificates.values().filter(|c| request.selects(&c.name)) {
            for host in certificate
                .hosts
                .iter()
                .filter(|host| request.hosts.as_ref().is_none_or(|only| only.contains(host)))
            {
                hosts.entry(host.clone()).or_default().push(certificate.name.clone());
            }
        }
        hosts
    }

    /// One look at each address of a host with each name of each certificate.
    pub(super) async fn look_at(&self, host: &HostName, names: &[CertName]) -> BTreeMap<CertName, Vec<Look>> {
        let entry = &self.config.desired.hosts[host];
        let certificates = names.iter().map(|name| &self.config.desired.certificates[name]);
        let probed: Vec<&Certificate> =
            certificates.filter(|certificate| !certificate.verify_names.is_empty()).collect();
        if probed.is_empty() {
            return BTreeMap::new();
        }
        let addresses = match probe::addresses(entry).await {
            Ok(addresses) => addresses,
            Err(error) => {
                let problem = Problem::of(&error);
                return probed
                    .into_iter()
                    .map(|certificate| (certificate.name.clone(), unseen(certificate, &problem)))
                    .collect();
            }
        };
        let endpoints: Vec<(SocketAddr, Endpoint)> =
            addresses.into_iter().map(|address| (address, Endpoint::new())).collect();
        join_all(probed.into_iter().map(|certificate| {
            let endpoints = &endpoints;
            async move {
                let roots = self.roots(certificate);
                let looks = endpoints.iter().flat_map(|(address, endpoint)| {
                    certificate.verify_names.iter().map(move |name| async move {
                        let question =
                            Question { address: *address, name, key: Some(certificate.key), roots };
                        let look = async {
                            // Closed only with the engine.
                            let _permit = self.looks.acquire().await.ok();
                            self.probe.look(question, Timestamp::now).await
                        };
                        endpoint.look(question, look).await
                    })
                });
                (certificate.name.clone(), join_all(looks).await)
            }
        }))
        .await
        .into_iter()
        .collect()
    }

    /// Which of our newest versions would not be trusted, and why.
    pub(super) fn judge_ours(&self, store: &Store, state: &State, request: &Request) -> Observed {
        let mut observed = Observed::default();
        for name in self.config.desired.certificates.keys().filter(|name| request.selects(name)) {
            self.judge_one(store, name, state, &mut observed);
        }
        observed
    }

    pub(super) fn judge_one(&self, store: &Store, name: &CertName, state: &State, observed: &mut Observed) {
        let certificate = &self.config.desired.certificates[name];
        let Some((number, _)) = state.certificates.get(name).and_then(|known| known.newest()) else { return };
        if certificate.hosts.is_empty() {
            return;
        }
        if let Some(why) = self.distrust(store, certificate, number) {
            observed.untrusted.entry(name.clone()).or_default().insert(number, why);
        }
    }

    fn distrust(&self, store: &Store, certificate: &Certificate, number: VersionNumber) -> Option<String> {
        let files = match store.version(&certificate.name, number) {
            Ok(files) => files,
            Err(error) => return Some(Problem::of(&error).one_line()),
        };
        let chain: Vec<Vec<u8>> = rustls_pemfile::certs(&mut files.fullchain.as_bytes())
            .filter_map(Result::ok)
            .map(|der| der.to_vec())
            .collect();
        let name = certificate
            .verify_names
            .first()
            .or_else(|| certificate.domains.iter().find(|domain| !domain.is_wildcard()))?;
        self.roots(certificate).distrust(&chain, name, Timestamp::now())
    }

    /// Keeps what was seen for `report`; of what was not looked at, what was known before. Returns all of it.
    pub(super) fn record(&self, store: &Store, request: &Request, seen: Observed) -> Observed {
        let mut all = store.observed();
        // What is not said any more of those that were looked at is over.
        all.untrusted.retain(|name, _| !request.selects(name));
        for (host, looks) in seen.looks {
            let known = all.looks.entry(host).or_default();
            for (name, looks) in looks {
                // Somebody may have looked, and changed what is there, while this pass went on.
                let newer =
                    known.get(&name).and_then(|looks| last(looks)).filter(|at| *at <= Timestamp::now());
                if newer <= last(&looks) {
                    known.insert(name, looks);
                }
            }
        }
        all.untrusted.extend(seen.untrusted);
        all.looks.retain(|host, _| self.config.desired.hosts.contains_key(host));
        all.untrusted.retain(|name, _| self.config.desired.certificates.contains_key(name));
        if let Err(error) = store.save_observed(&all) {
            tracing::warn!("cannot keep what was seen for the report: {error}");
        }
        all
    }
}

/// Where the roots are that chains of a certificate should lead to, whoever of its issuers has issued it.
fn sources(config: &Config, certificate: &Certificate) -> BTreeSet<Option<PathBuf>> {
    certificate.issuers().map(|name| config.desired.issuers[name].roots.clone()).collect()
}

impl Engine {
    /// Notes where a certificate of ours is served that was not seen there before: a person has made use of
    /// what was installed. From then on another one in its place is foreign.
    pub(super) fn note_served(
        &self,
        host: &HostName,
        looks: &BTreeMap<CertName, Vec<Look>>,
        state: &mut State,
    ) {
        let facts = state.hosts.entry(host.clone()).or_default();
        let mut news = Vec::new();
        for (name, looks) in looks {
            let Some(versions) = state.certificates.get(name).map(|known| &known.versions) else { continue };
            let known = facts.get(name);
            let proven = known.is_some_and(|known| known.proven_at.is_some());
            let pending =
                known.and_then(|known| known.installed.as_ref()).filter(|installed| installed.pending);
            let is_news = |served: &Served| {
                pending.is_some_and(|installed| installed.fingerprint == served.fingerprint)
                    || (!proven && versions.values().any(|one| one.fingerprint == served.fingerprint))
            };
            let seen = looks.iter().find_map(|look| match &look.seen {
                Seen::Serving(served) if is_news(served) => Some((name.clone(), look.at, served.fingerprint)),
                _ => None,
            });
            news.extend(seen);
        }
        if news.is_empty() {
            return;
        }
        let saved = self.store.update_host(host, |stored| {
            for (name, at, fingerprint) in news {
                let known = stored.entry(name.clone()).or_default();
                known.proven_at = Some(at);
                if let Some(installed) = &mut known.installed {
                    installed.pending &= installed.fingerprint != fingerprint;
                }
                facts.insert(name, known.clone());
            }
        });
        if let Err(error) = saved {
            tracing::warn!(host = %host, "cannot note what is served: {error}");
        }
    }
}

/// When the last of these was.
fn last(looks: &[Look]) -> Option<Timestamp> {
    looks.iter().map(|look| look.at).max()
}

/// A host whose addresses are not known.
fn unseen(certificate: &Certificate, problem: &Problem) -> Vec<Look> {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 443));
    let look = |name| Look {
        address: nowhere,
        name,
        at: Timestamp::now(),
        seen: Seen::Unreachable(problem.clone()),
    };
    certificate.verify_names.iter().cloned().map(look).collect()
}
