//! Cloudflare: records by the API version 4, several changes of a zone in one batch.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::bearer::{Bearer, Session};
use super::http::{Answer, ApiError, Call, segment};
use super::rrset::{self, Wanted};
use super::{Change, Error, Provider};
use crate::kind::{Kind, Section};

/// The table entry.
pub const KIND: Kind<dyn Provider> = Kind {
    name: "cloudflare",
    summary: "Cloudflare DNS",
    example: "token = { file = \"/etc/certfleet/secrets/cloudflare\" }\n",
    rights: "an API token (not the global key) with Zone:Zone:Read and Zone:DNS:Edit, under zone resources only the zones in question",
    build,
};

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Provider>> {
    let api = Bearer::read(section, &KIND, "https://api.cloudflare.com/client/v4", "Bearer")?;
    Some(Arc::new(Cloudflare(api)))
}

#[derive(Debug)]
struct Cloudflare(Bearer);

#[async_trait]
impl Provider for Cloudflare {
    async fn apply(&self, zone: &str, changes: &[Change]) -> Result<(), Error> {
        let all = rrset::wanted(zone, changes)?;
        if all.is_empty() {
            return Ok(());
        }
        self.0.work(|session| async move { apply(&session, zone, &all).await }).await
    }
}

#[derive(Deserialize)]
struct Zone {
    id: String,
    name: String,
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct Record {
    id: String,
    name: String,
    #[serde(default)]
    content: String,
}

#[derive(Deserialize)]
struct Envelope<T> {
    success: bool,
    result: Option<T>,
    result_info: Option<Pages>,
}

#[derive(Deserialize, Default)]
struct Pages {
    #[serde(default)]
    total_pages: u32,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    errors: Vec<Code>,
}

#[derive(Deserialize)]
struct Code {
    code: u32,
}

async fn apply(session: &Session<'_>, zone: &str, all: &[Wanted]) -> Result<(), Error> {
    let zone = zone_id(session, zone).await?;
    let mut tries = 1;
    loop {
        let there = records(session, &zone, all).await?;
        let (deletes, posts) = batch(all, &there);
        match write(session, &zone, &deletes, &posts).await? {
            None => return Ok(()),
            // Somebody else changed the same records since we looked.
            Some(answer) if tries < TRIES && CHANGED_MEANWHILE.iter().any(|code| has(&answer, *code)) => {
                tries += 1
            }
            Some(answer) => return Err(refused(&answer).into()),
        }
    }
}

async fn zone_id(session: &Session<'_>, zone: &str) -> Result<String, ApiError> {
    let name = zone.trim_end_matches('.');
    let mut zones: Vec<Zone> = page(session, format!("zones?name={}&per_page=50", segment(name))).await?.0;
    zones.retain(|zone| zone.name == name);
    // Another account may hold the same name without being in charge of it.
    let found = zones.iter().position(|zone| zone.status == "active").unwrap_or(0);
    if !zones.is_empty() {
        return Ok(zones.swap_remove(found).id);
    }
    let (others, _): (Vec<Zone>, _) = page(session, "zones?per_page=6".to_owned()).await?;
    Err(session.api.no_zone_among(name, others.into_iter().map(|zone| zone.name).collect()))
}

/// The TXT records of the owner names, or of more.
async fn records(session: &Session<'_>, zone: &str, all: &[Wanted]) -> Result<Vec<Record>, ApiError> {
    let filter = match all {
        [one] => format!("&name.exact={}", segment(one.bare())),
        _ => String::new(),
    };
    let mut found = Vec::new();
    for number in 1..=MOST_PAGES {
        let path = format!("zones/{}/dns_records?type=TXT{filter}&per_page=500&page={number}", segment(zone));
        let (records, pages): (Vec<Record>, _) = page(session, path).await?;
        found.extend(records);
        if number >= pages {
            break;
        }
    }
    Ok(found)
}

/// What is to be deleted and made, each as the API takes it.
fn batch(all: &[Wanted], there: &[Record]) -> (Vec<Value>, Vec<Value>) {
    let (mut deletes, mut posts) = (Vec::new(), Vec::new());
    for wanted in all {
        let own: Vec<&Record> =
            there.iter().filter(|record| record.name.eq_ignore_ascii_case(wanted.bare())).collect();
        let gone = own.iter().filter(|record| wanted.unwanted(&record.content));
        deletes.extend(gone.map(|record| json!({ "id": record.id })));
        let values: Vec<String> = own.iter().map(|record| record.content.clone()).collect();
        posts.extend(wanted.missing(&values).map(|value| {
            json!({
                "type": "TXT",
                "name": wanted.bare(),
                "content": rrset::quoted(value),
                "ttl": ttl(wanted.ttl),
            })
        }));
    }
    (deletes, posts)
}

/// Writes what is to be deleted and made; the answer, if it is no success.
async fn write(
    session: &Session<'_>,
    zone: &str,
    deletes: &[Value],
    posts: &[Value],
) -> Result<Option<Answer>, ApiError> {
    let records = format!("zones/{}/dns_records", segment(zone));
    if deletes.len() + posts.len() == 1 {
        return singly(session, &records, deletes, posts).await;
    }
    let path = format!("{records}/batch");
    let parts = deletes.chunks(BATCH).map(|part| json!({ "deletes": part }));
    let parts = parts.chain(posts.chunks(BATCH).map(|part| json!({ "posts": part })));
    let mut bodies: Vec<Value> = parts.collect();
    if deletes.len() + posts.len() <= BATCH && bodies.len() > 1 {
        bodies = vec![json!({ "deletes": deletes, "posts": posts })];
    }
    for body in bodies {
        match rejected(session.send(Call::post(path.as_str()).json(&body)).await?)? {
            None => {}
            // A gateway (`api`) that knows single records only.
            Some(answer) if matches!(answer.status(), 404 | 405) && !has(&answer, GONE) => {
                return singly(session, &records, deletes, posts).await;
            }
            answer => return Ok(answer),
        }
    }
    Ok(None)
}

/// The same, record by record.
async fn singly(
    session: &Session<'_>,
    records: &str,
    deletes: &[Value],
    posts: &[Value],
) -> Result<Option<Answer>, ApiError> {
    for id in deletes.iter().filter_map(|delete| delete["id"].as_str()) {
        session.delete(format!("{records}/{}", segment(id))).await?;
    }
    for post in posts {
        if let Some(answer) = rejected(session.send(Call::post(records).json(post)).await?)? {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

/// The answer, if it is no success.
fn rejected(answer: Answer) -> Result<Option<Answer>, ApiError> {
    let done = (200..300).contains(&answer.status()) && answer.json::<Envelope<Value>>()?.success;
    Ok((!done).then_some(answer))
}

/// One page of a list, and how many pages there are.
async fn page<T: DeserializeOwned>(session: &Session<'_>, path: String) -> Result<(Vec<T>, u32), ApiError> {
    let answer = session.send(Call::get(path)).await?;
    if !(200..300).contains(&answer.status()) {
        return Err(refused(&answer));
    }
    let list: Envelope<Vec<T>> = answer.json()?;
    match list.result {
        Some(items) if list.success => Ok((items, list.result_info.unwrap_or_default().total_pages)),
        _ => Err(refused(&answer)),
    }
}

fn refused(answer: &Answer) -> ApiError {
    let words = answer.words();
    // A token that is none is a bad request to Cloudflare.
    if BAD_TOKEN.iter().any(|code| has(answer, *code)) {
        answer.unauthorized(&words)
    } else {
        answer.refused(&words)
    }
}

fn has(answer: &Answer, code: u32) -> bool {
    answer.json::<Failure>().is_ok_and(|failure| failure.errors.iter().any(|error| error.code == code))
}

/// 1 stands for "automatic"; below 60 only some plans may go.
fn ttl(asked: u32) -> u32 {
    if asked == 1 { asked } else { asked.max(60) }
}

/// Record is gone.
const GONE: u32 = 81044;
/// The same, and that it exists already (two codes).
const CHANGED_MEANWHILE: [u32; 3] = [81057, 81058, GONE];
/// Invalid request headers, invalid format for Authorization header, invalid token, authentication error.
const BAD_TOKEN: [u32; 4] = [6003, 6111, 9109, 10000];
const TRIES: u32 = 3;
/// Half of what the smallest plan may have in one batch.
const BATCH: usize = 100;
/// Far above what a zone can have.
const MOST_PAGES: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, name: &str, content: &str) -> Record {
        Record { id: id.to_owned(), name: name.to_owned(), content: content.to_owned() }
    }

    #[test]
    fn only_what_is_ours_and_missing_is_written() {
        let own = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        let wanted = Wanted {
            owner: "_acme-challenge.a.test.".to_owned(),
            name: "_acme-challenge".to_owned(),
            add: own(&["there", "new"]),
            remove: own(&["old"]),
            ttl: 10,
        };
        let there = [
            record("1", "_acme-challenge.a.test", "\"there\""),
            record("2", "_acme-challenge.a.test", "old"),
            record("3", "_acme-challenge.A.test", "\"old\""),
            record("4", "a.test", "\"old\""),
            record("5", "_acme-challenge.a.test", "\"foreign\""),
        ];
        let (deletes, posts) = batch(&[wanted], &there);
        assert_eq!(deletes, [json!({"id": "2"}), json!({"id": "3"})]);
        let post = json!({"type": "TXT", "name": "_acme-challenge.a.test", "content": "\"new\"", "ttl": 60});
        assert_eq!(posts, [post]);
    }
}
