//! Answering challenges: where the records belong, noted, set, and seen by every name server.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::future::try_join_all;
use jiff::Timestamp;

use super::Engine;
use super::apart::blocking;
use super::clean::NoAccount;
use super::issue::boxed;
use crate::acme::{Challenge, Solver};
use crate::dns::{self, Change, TxtRecord};
use crate::model::desired::Certificate;
use crate::model::problem::Diagnose;
use crate::model::state::TxtDebt;

/// Answers the challenges of one certificate, whose lock is ours.
pub(super) struct Answers<'a> {
    pub(super) engine: &'a Engine,
    pub(super) certificate: &'a Certificate,
}

#[async_trait]
impl Solver for Answers<'_> {
    async fn present(&self, challenges: &[Challenge]) -> Result<(), Box<dyn Diagnose + Send + Sync>> {
        let engine = self.engine;
        let Some(account) = engine.account(&self.certificate.dns) else {
            return Err(boxed(NoAccount(self.certificate.dns.clone())));
        };
        // One name may have several values (the apex and its wildcard): resolve each name once.
        let mut wanted: BTreeMap<&str, Vec<&Challenge>> = BTreeMap::new();
        for challenge in challenges {
            wanted.entry(challenge.domain.base()).or_default().push(challenge);
        }
        let places = try_join_all(wanted.into_iter().map(|(domain, challenges)| async move {
            let place = engine.lookup.challenge(domain).await?;
            Ok::<_, dns::Error>((place, challenges))
        }))
        .await
        .map_err(boxed)?;
        // Noted before the effect: whatever happens next, the records are found and removed.
        let mut changes = Vec::new();
        for (place, challenges) in &places {
            for challenge in challenges {
                let debt = TxtDebt {
                    certificate: self.certificate.name.clone(),
                    dns: self.certificate.dns.clone(),
                    zone: place.zone.clone(),
                    owner: place.owner.clone(),
                    value: challenge.value.clone(),
                    since: Timestamp::now(),
                    proof: Some(challenge.proof.clone()),
                };
                blocking(|| engine.store.add_debt(&debt)).map_err(boxed)?;
                changes.push(Change::Add(TxtRecord {
                    zone: debt.zone,
                    owner: debt.owner,
                    value: debt.value,
                    ttl: account.ttl,
                    proof: debt.proof,
                }));
            }
        }
        try_join_all(changes.into_iter().map(|change| engine.zones.change(account, change)))
            .await
            .map_err(boxed)?;
        try_join_all(places.iter().map(|(place, challenges)| async move {
            let values: Vec<String> = challenges.iter().map(|challenge| challenge.value.clone()).collect();
            engine.lookup.propagated(account, &place.zone, &place.owner, &values).await
        }))
        .await
        .map_err(boxed)?;
        Ok(())
    }
}
