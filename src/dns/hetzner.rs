//! Hetzner: DNS in the Cloud API, which adds and removes single values of a set.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::bearer::{Bearer, Session};
use super::http::{Answer, ApiError, Call, segment};
use super::rrset::{self, Wanted, quoted};
use super::{Change, Error, Provider};
use crate::kind::{Kind, Remedy, Section};

/// The table entry.
pub const KIND: Kind<dyn Provider> = Kind {
    name: "hetzner",
    summary: "Hetzner DNS in the Cloud Console (tokens of the old DNS Console do not work)",
    example: "token = { file = \"/etc/certfleet/secrets/hetzner\" }\n",
    rights: "an API token with read and write of the Cloud project that has the zone; it reaches the whole project, so keep the zones in one of their own",
    build,
};

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Provider>> {
    let api = Bearer::read(section, &KIND, "https://api.hetzner.cloud/v1", "Bearer")?;
    if api.host() == OLD_CONSOLE {
        section.mistake(
            section.at(),
            format!("the DNS Console, {OLD_CONSOLE}, was shut down in May 2026"),
            Remedy::Hint(
                "leave `api` away, move the zones to the Cloud Console, and make an API token there"
                    .to_owned(),
            ),
        );
        return None;
    }
    Some(Arc::new(Hetzner(api)))
}

#[derive(Debug)]
struct Hetzner(Bearer);

#[async_trait]
impl Provider for Hetzner {
    async fn apply(&self, zone: &str, changes: &[Change]) -> Result<(), Error> {
        let all = rrset::wanted(zone, changes)?;
        if all.is_empty() {
            return Ok(());
        }
        self.0
            .work(|session| async move {
                let zone = zone.trim_end_matches('.');
                // One after the other: a zone is locked while a change of it is made.
                for wanted in &all {
                    one(&session, zone, wanted).await?;
                }
                Ok(())
            })
            .await
    }
}

#[derive(Deserialize)]
struct Zones {
    zones: Vec<Zone>,
}

#[derive(Deserialize)]
struct Zone {
    name: String,
}

#[derive(Deserialize)]
struct Set {
    rrset: Records,
}

#[derive(Deserialize)]
struct Records {
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    value: String,
}

#[derive(Deserialize)]
struct Started {
    action: Action,
}

#[derive(Deserialize)]
struct Action {
    id: u64,
    status: String,
}

async fn unknown(session: &Session<'_>, zone: &str) -> Result<ApiError, ApiError> {
    let others: Zones = session.get(Call::get("zones?per_page=6")).await?;
    Ok(session.api.no_zone_among(zone, others.zones.into_iter().map(|zone| zone.name).collect()))
}

async fn one(session: &Session<'_>, zone: &str, wanted: &Wanted) -> Result<(), Error> {
    // By its name, which stands for its id.
    let at = format!("zones/{}", segment(zone));
    let path = format!("{at}/rrsets/{}/TXT", segment(&wanted.name));
    let set: Option<Set> = session.find(Call::get(path.as_str())).await?;
    let exists = set.is_some();
    // Nothing would be written that tells that the account has lost the zone.
    if !exists && wanted.add.is_empty() && session.find::<Value>(Call::get(at)).await?.is_none() {
        return Err(unknown(session, zone).await?.into());
    }
    let there: Vec<String> =
        set.into_iter().flat_map(|set| set.rrset.records).map(|record| record.value).collect();
    let gone: Vec<Value> =
        there.iter().filter(|raw| wanted.unwanted(raw)).map(|raw| json!({ "value": raw })).collect();
    let new: Vec<Value> = wanted.missing(&there).map(|value| json!({ "value": quoted(value) })).collect();
    // First what is new: without any value left the set would be gone, and its time to live with it.
    if !new.is_empty() {
        let mut body = json!({ "records": new });
        // A set that is there keeps its own, and another one would be an error.
        if !exists {
            body["ttl"] = json!(wanted.ttl.max(TTL_MIN));
        }
        let call = Call::post(format!("{path}/actions/add_records")).json(&body);
        match session.send(call).await? {
            answer if answer.status() == 404 => return Err(unknown(session, zone).await?.into()),
            answer => finish(session, answer).await?,
        }
    }
    if !gone.is_empty() {
        let body = json!({ "records": gone });
        let call = Call::post(format!("{path}/actions/remove_records")).json(&body);
        finish(session, session.send(call).await?).await?;
    }
    Ok(())
}

/// Waits for the end of an action that was begun.
async fn finish(session: &Session<'_>, begun: Answer) -> Result<(), ApiError> {
    let mut answer = begun.success()?;
    let mut pause = PAUSE_MIN;
    loop {
        let action = answer.json::<Started>()?.action;
        match action.status.as_str() {
            "success" => return Ok(()),
            "running" => {}
            _ => return Err(failed(&answer)),
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        answer = session.send(Call::get(format!("actions/{}", action.id))).await?.success()?;
    }
}

/// The end of an action that did not go well; its status is that of a success.
fn failed(answer: &Answer) -> ApiError {
    let said = answer.json::<Value>().unwrap_or_default();
    let word = |name: &str| said["action"]["error"][name].as_str().unwrap_or("unknown").to_owned();
    answer.refused(&format!("the change failed with {}: {}", word("code"), word("message")))
}

const OLD_CONSOLE: &str = "dns.hetzner.com";
const TTL_MIN: u32 = 60;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
