//! deSEC: whole sets, all of a zone in one request; read, merged, written and looked at again.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bearer::{Bearer, Session};
use super::http::{ApiError, Call, segment};
use super::rrset::{self, Wanted};
use super::{Change, Error, Provider};
use crate::kind::{Kind, Section};

/// The table entry.
pub const KIND: Kind<dyn Provider> = Kind {
    name: "desec",
    summary: "deSEC; its limits of writes are low: one for all names of a zone at once",
    example: "token = { file = \"/etc/certfleet/secrets/desec\" }\n",
    rights: "a token with a policy that allows writing (domain, `_acme-challenge`, `TXT`) only, one for each name, and a default policy that does not; without `manage tokens`",
    build,
};

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Provider>> {
    let api = Bearer::read(section, &KIND, "https://desec.io/api/v1", "Token")?;
    Some(Arc::new(Desec(api)))
}

#[derive(Debug)]
struct Desec(Bearer);

#[async_trait]
impl Provider for Desec {
    async fn apply(&self, zone: &str, changes: &[Change]) -> Result<(), Error> {
        let all = rrset::wanted(zone, changes)?;
        if all.is_empty() {
            return Ok(());
        }
        self.0.work(|session| async move { apply(&session, zone.trim_end_matches('.'), &all).await }).await
    }
}

#[derive(Deserialize)]
struct Domain {
    name: String,
    minimum_ttl: Option<u32>,
}

#[derive(Deserialize)]
struct Set {
    #[serde(default)]
    subname: String,
    #[serde(default)]
    ttl: u32,
    #[serde(default)]
    records: Vec<String>,
}

async fn apply(session: &Session<'_>, zone: &str, all: &[Wanted]) -> Result<(), Error> {
    let minimum = minimum_ttl(session, zone).await?;
    let path = format!("domains/{}/rrsets/", segment(zone));
    for _ in 0..TRIES {
        let there = sets(session, &path, all).await?;
        let body: Vec<Value> = all.iter().filter_map(|wanted| merged(wanted, &there, minimum)).collect();
        // Also the look after the writing.
        if body.is_empty() {
            return Ok(());
        }
        session.make(Call::patch(path.as_str()).json(&Value::Array(body))).await?;
    }
    Err(session.api.contended(zone).into())
}

async fn minimum_ttl(session: &Session<'_>, zone: &str) -> Result<u32, ApiError> {
    let found: Option<Domain> = session.find(Call::get(format!("domains/{}/", segment(zone)))).await?;
    if let Some(domain) = found {
        return Ok(domain.minimum_ttl.unwrap_or(TTL_MIN));
    }
    let others: Vec<Domain> = session.get(Call::get("domains/?cursor=")).await?;
    Err(session.api.no_zone_among(zone, others.into_iter().map(|domain| domain.name).collect()))
}

/// The TXT sets of the owner names, or of more.
async fn sets(session: &Session<'_>, path: &str, all: &[Wanted]) -> Result<Vec<Set>, ApiError> {
    let filter = match all {
        [one] => format!("&subname={}", segment(subname(one))),
        _ => String::new(),
    };
    let mut found = Vec::new();
    let mut cursor = String::new();
    for _ in 0..MOST_PAGES {
        let call = Call::get(format!("{path}?type=TXT{filter}&cursor={cursor}"));
        let answer = session.send(call).await?.success()?;
        found.extend(answer.json::<Vec<Set>>()?);
        match answer.header("link").and_then(next_cursor) {
            Some(next) => cursor = segment(&next),
            None => break,
        }
    }
    Ok(found)
}

/// The set of an owner name as it shall be written; `None` if it is as it should be.
fn merged(wanted: &Wanted, there: &[Set], minimum: u32) -> Option<Value> {
    let set = there.iter().find(|set| set.subname == subname(wanted));
    let records = wanted.merged(set.map_or(&[], |set| &set.records))?;
    // Those of others keep theirs.
    let ttl = set.map_or(wanted.ttl, |set| set.ttl).max(minimum);
    Some(json!({ "subname": subname(wanted), "type": "TXT", "ttl": ttl, "records": records }))
}

fn subname(wanted: &Wanted) -> &str {
    if wanted.name == "@" { "" } else { &wanted.name }
}

/// The cursor of the next page in a `Link` header (RFC 8288), decoded.
fn next_cursor(header: &str) -> Option<String> {
    let next = header.split(',').find(|link| link.contains("rel=\"next\""))?;
    let url = next.split('<').nth(1)?.split('>').next()?;
    let url = reqwest::Url::parse(url).ok()?;
    url.query_pairs().find(|(name, _)| name == "cursor").map(|(_, value)| value.into_owned())
}

/// Where a domain does not say: most have this.
const TTL_MIN: u32 = 3600;
/// The last time is only a look.
const TRIES: u32 = 4;
/// A page has 500 sets.
const MOST_PAGES: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc8288_links_lead_to_the_next_page() {
        let header = "<https://desec.io/api/v1/domains/a.test/rrsets/?cursor=>; rel=\"first\", \
                      <https://desec.io/api/v1/domains/a.test/rrsets/?cursor=cD0%3D&type=TXT>; rel=\"next\"";
        assert_eq!(next_cursor(header).as_deref(), Some("cD0="));
        assert_eq!(next_cursor("<https://desec.io/?cursor=x>; rel=\"prev\""), None);
        assert_eq!(next_cursor("rel=\"next\""), None);
    }
}
