//! Gandi LiveDNS: whole sets, so they are read, merged, written and looked at again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bearer::{Bearer, Session, each};
use super::http::{ApiError, Call, segment};
use super::rrset::{self, Wanted};
use super::{Change, Error, Provider};
use crate::kind::{Kind, Section};

/// The table entry.
pub const KIND: Kind<dyn Provider> = Kind {
    name: "gandi",
    summary: "Gandi LiveDNS; slow, waited for up to 20 minutes",
    example: "token = { file = \"/etc/certfleet/secrets/gandi\" }\n",
    rights: "a personal access token, limited to the domains in question, with \"See and renew domain names\" and \"Manage domain name technical configurations\"; it ends after a year at most",
    build,
};

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Provider>> {
    let api = Bearer::read(section, &KIND, "https://api.gandi.net/v5/livedns", "Bearer")?;
    Some(Arc::new(Gandi(api)))
}

#[derive(Debug)]
struct Gandi(Bearer);

#[async_trait]
impl Provider for Gandi {
    async fn apply(&self, zone: &str, changes: &[Change]) -> Result<(), Error> {
        let all = rrset::wanted(zone, changes)?;
        if all.is_empty() {
            return Ok(());
        }
        self.0
            .work(|session| async move {
                let zone = zone.trim_end_matches('.');
                each(&all, |wanted| one(&session, zone, wanted)).await
            })
            .await
    }

    fn propagation_timeout(&self) -> Duration {
        PROPAGATION_TIMEOUT
    }
}

#[derive(Deserialize)]
struct Set {
    #[serde(default)]
    rrset_ttl: u32,
    rrset_values: Vec<String>,
}

#[derive(Deserialize)]
struct Domain {
    fqdn: String,
}

async fn known(session: &Session<'_>, zone: &str) -> Result<(), ApiError> {
    match session.find::<Value>(Call::get(format!("domains/{}", segment(zone)))).await? {
        Some(_) => Ok(()),
        None => Err(unknown(session, zone).await?),
    }
}

async fn unknown(session: &Session<'_>, zone: &str) -> Result<ApiError, ApiError> {
    let others: Vec<Domain> = session.get(Call::get("domains?per_page=6")).await?;
    Ok(session.api.no_zone_among(zone, others.into_iter().map(|domain| domain.fqdn).collect()))
}

async fn one(session: &Session<'_>, zone: &str, wanted: &Wanted) -> Result<(), Error> {
    let path = format!("domains/{}/records/{}/TXT", segment(zone), segment(&wanted.name));
    for _ in 0..TRIES {
        let set: Option<Set> = session.find(Call::get(path.as_str())).await?;
        let (ttl, there) = match set {
            // Those of others keep theirs.
            Some(set) => (set.rrset_ttl, set.rrset_values),
            None => {
                if wanted.add.is_empty() {
                    // Nothing will be written that would tell that the account has lost the zone.
                    known(session, zone).await?;
                }
                (wanted.ttl, Vec::new())
            }
        };
        // Also the look after the writing.
        let Some(merged) = wanted.merged(&there) else { return Ok(()) };
        if merged.is_empty() {
            session.delete(path.clone()).await?;
        } else {
            let body = json!({ "rrset_ttl": ttl.max(TTL_MIN), "rrset_values": merged });
            match session.send(Call::put(path.as_str()).json(&body)).await? {
                answer if answer.status() == 404 => return Err(unknown(session, zone).await?.into()),
                answer => answer.success().map(drop)?,
            }
        }
    }
    Err(session.api.contended(wanted.bare()).into())
}

/// Gandi's name servers take minutes now and then.
const PROPAGATION_TIMEOUT: Duration = Duration::from_secs(20 * 60);
const TTL_MIN: u32 = 300;
/// The last time is only a look.
const TRIES: u32 = 4;
