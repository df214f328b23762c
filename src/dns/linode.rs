//! Linode (Akamai): single records. Its name servers know a change after some minutes only.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderName;
use serde::Deserialize;
use serde_json::json;

use super::bearer::{Bearer, Session, each};
use super::http::{ApiError, Call};
use super::rrset::{self, Wanted};
use super::{Change, Error, Provider};
use crate::kind::{Kind, Section};

/// The table entry.
pub const KIND: Kind<dyn Provider> = Kind {
    name: "linode",
    summary: "Linode (Akamai) DNS Manager; slow, waited for up to 20 minutes",
    example: "token = { file = \"/etc/certfleet/secrets/linode\" }\n",
    rights: "a personal access token with Domains: Read/Write and nothing else; it reaches all domains of its user, so use one who is limited to the domains in question",
    build,
};

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Provider>> {
    let api = Bearer::read(section, &KIND, "https://api.linode.com/v4", "Bearer")?;
    Some(Arc::new(Linode(api)))
}

#[derive(Debug)]
struct Linode(Bearer);

#[async_trait]
impl Provider for Linode {
    async fn apply(&self, zone: &str, changes: &[Change]) -> Result<(), Error> {
        let all = rrset::wanted(zone, changes)?;
        if all.is_empty() {
            return Ok(());
        }
        self.0
            .work(|session| async move {
                let id = domain_id(&session, zone.trim_end_matches('.')).await?;
                let there = records(&session, id).await?;
                each(&all, |wanted| one(&session, id, wanted, &there)).await
            })
            .await
    }

    fn propagation_timeout(&self) -> Duration {
        PROPAGATION_TIMEOUT
    }
}

#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    #[serde(default)]
    pages: u32,
}

#[derive(Deserialize)]
struct Domain {
    id: u64,
    domain: String,
}

#[derive(Deserialize)]
struct Record {
    id: u64,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    target: String,
}

async fn domain_id(session: &Session<'_>, zone: &str) -> Result<u64, ApiError> {
    let filter = json!({ "domain": zone }).to_string();
    let page: Page<Domain> = session.get(Call::get("domains").header(X_FILTER, &filter)).await?;
    if let Some(found) = page.data.iter().find(|domain| domain.domain == zone) {
        return Ok(found.id);
    }
    let others: Page<Domain> = session.get(Call::get("domains")).await?;
    Err(session.api.no_zone_among(zone, others.data.into_iter().map(|domain| domain.domain).collect()))
}

/// The TXT records of the zone.
async fn records(session: &Session<'_>, id: u64) -> Result<Vec<Record>, ApiError> {
    let filter = json!({ "type": "TXT" }).to_string();
    let mut found = Vec::new();
    for number in 1..=MOST_PAGES {
        let call = Call::get(format!("domains/{id}/records?page_size=500&page={number}"));
        let page: Page<Record> = session.get(call.header(X_FILTER, &filter)).await?;
        found.extend(page.data);
        if number >= page.pages {
            break;
        }
    }
    found.retain(|record| record.kind == "TXT");
    Ok(found)
}

async fn one(session: &Session<'_>, id: u64, wanted: &Wanted, all: &[Record]) -> Result<(), Error> {
    let name = if wanted.name == "@" { "" } else { &wanted.name };
    let there: Vec<&Record> = all.iter().filter(|record| record.name == name).collect();
    let values: Vec<String> = there.iter().map(|record| record.target.clone()).collect();
    for value in wanted.missing(&values) {
        let body =
            json!({ "type": "TXT", "name": name, "target": value, "ttl_sec": wanted.ttl.max(TTL_MIN) });
        session.make(Call::post(format!("domains/{id}/records")).json(&body)).await?;
    }
    for record in there.iter().filter(|record| wanted.unwanted(&record.target)) {
        session.delete(format!("domains/{id}/records/{}", record.id)).await?;
    }
    Ok(())
}

/// Name servers get a change every 15 minutes.
const PROPAGATION_TIMEOUT: Duration = Duration::from_secs(20 * 60);
const X_FILTER: HeaderName = HeaderName::from_static("x-filter");
/// Linode rounds to values of its own, of which this is the lowest.
const TTL_MIN: u32 = 30;
/// A zone has at most 12000 records.
const MOST_PAGES: u32 = 100;
