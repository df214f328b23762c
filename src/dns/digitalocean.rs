//! DigitalOcean: single records.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;

use super::bearer::{Bearer, Session, each};
use super::http::{ApiError, Call, segment};
use super::rrset::{self, Wanted};
use super::{Change, Error, Provider};
use crate::kind::{Kind, Section};

/// The table entry.
pub const KIND: Kind<dyn Provider> = Kind {
    name: "digitalocean",
    summary: "DigitalOcean DNS",
    example: "token = { file = \"/etc/certfleet/secrets/digitalocean\" }\n",
    rights: "a personal access token with the custom scopes domain:read, domain:create, domain:update and domain:delete; they reach all domains of the team",
    build,
};

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Provider>> {
    let api = Bearer::read(section, &KIND, "https://api.digitalocean.com/v2", "Bearer")?;
    Some(Arc::new(DigitalOcean(api)))
}

#[derive(Debug)]
struct DigitalOcean(Bearer);

#[async_trait]
impl Provider for DigitalOcean {
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
}

#[derive(Deserialize)]
struct Domains {
    domains: Vec<Domain>,
}

#[derive(Deserialize)]
struct Domain {
    name: String,
}

#[derive(Deserialize)]
struct Page {
    domain_records: Vec<Record>,
    #[serde(default)]
    links: Links,
}

#[derive(Deserialize)]
struct Record {
    id: u64,
    #[serde(rename = "type")]
    kind: String,
    name: String,
    #[serde(default)]
    data: String,
}

#[derive(Deserialize, Default)]
struct Links {
    #[serde(default)]
    pages: Pages,
}

#[derive(Deserialize, Default)]
struct Pages {
    next: Option<String>,
}

async fn unknown(session: &Session<'_>, zone: &str) -> Result<ApiError, ApiError> {
    let others: Domains = session.get(Call::get("domains?per_page=6")).await?;
    Ok(session.api.no_zone_among(zone, others.domains.into_iter().map(|domain| domain.name).collect()))
}

async fn one(session: &Session<'_>, zone: &str, wanted: &Wanted) -> Result<(), Error> {
    let there = records(session, zone, wanted).await?;
    let records = format!("domains/{}/records", segment(zone));
    let values: Vec<String> = there.iter().map(|record| record.data.clone()).collect();
    for value in wanted.missing(&values) {
        let body =
            json!({ "type": "TXT", "name": wanted.name, "data": value, "ttl": wanted.ttl.max(TTL_MIN) });
        session.make(Call::post(records.as_str()).json(&body)).await?;
    }
    for record in there.iter().filter(|record| wanted.unwanted(&record.data)) {
        session.delete(format!("{records}/{}", record.id)).await?;
    }
    Ok(())
}

/// The TXT records of the owner name.
async fn records(session: &Session<'_>, zone: &str, wanted: &Wanted) -> Result<Vec<Record>, ApiError> {
    let mut found = Vec::new();
    for number in 1..=MOST_PAGES {
        let call = Call::get(format!(
            "domains/{}/records?type=TXT&name={}&per_page=200&page={number}",
            segment(zone),
            segment(wanted.bare())
        ));
        let Some(page) = session.find::<Page>(call).await? else { return Err(unknown(session, zone).await?) };
        found.extend(page.domain_records);
        if page.links.pages.next.is_none() {
            break;
        }
    }
    found.retain(|record| record.kind == "TXT" && record.name == wanted.name);
    Ok(found)
}

const TTL_MIN: u32 = 30;
/// Far above what a name can have.
const MOST_PAGES: u32 = 1000;
