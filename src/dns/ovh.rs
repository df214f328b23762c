//! OVHcloud: single records, of which none is live before the zone is refreshed.

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderName, Method};
use jiff::Timestamp;
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use zeroize::Zeroizing;

use super::bearer::{each, in_time};
use super::http::{Answer, Api, ApiError, Call, segment};
use super::rrset::{self, Wanted};
use super::{Change, Error, Provider};
use crate::kind::{Kind, Refusal, Section};
use crate::secret::Secret;

/// The table entry.
pub const KIND: Kind<dyn Provider> = Kind {
    name: "ovh",
    summary: "OVHcloud DNS",
    example: "endpoint = \"eu\"\napplication-key = \"7kbG7Bk7S9Nt7ZSV\"\n\
              application-secret = { file = \"/etc/certfleet/secrets/ovh-application\" }\n\
              consumer-key = { file = \"/etc/certfleet/secrets/ovh-consumer\" }\n",
    rights: "a consumer key with GET, POST and DELETE on /domain/zone/example.org/record*, and POST on /domain/zone/example.org/refresh, for each zone",
    build,
};

/// The endpoints by name.
const ENDPOINTS: [(&str, &str); 3] = [
    ("eu", "https://eu.api.ovh.com/1.0"),
    ("ca", "https://ca.api.ovh.com/1.0"),
    ("us", "https://api.us.ovhcloud.com/1.0"),
];

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Provider>> {
    let endpoint = section.required_parsed("endpoint", "\"eu\"", |text| {
        let found = ENDPOINTS.iter().find(|(name, _)| *name == text);
        found.map(|(_, base)| *base).ok_or_else(|| {
            Refusal::new("it is not known", "\"eu\", \"ca\" or \"us\": where the application key was made")
        })
    });
    let api = Api::read(section, &KIND, endpoint.unwrap_or(ENDPOINTS[0].1));
    let application_key = section.required("application-key", "\"7kbG7Bk7S9Nt7ZSV\"");
    let secret = |section: &mut Section<'_>, key, file: &str| {
        section.required(key, &format!("{{ file = \"/etc/certfleet/secrets/{file}\" }}"))
    };
    let application_secret = secret(section, "application-secret", "ovh-application");
    let consumer_key = secret(section, "consumer-key", "ovh-consumer");
    endpoint?;
    Some(Arc::new(Ovh {
        api: api?,
        application_key: application_key?,
        application_secret: application_secret?,
        consumer_key: consumer_key?,
    }))
}

#[derive(Debug)]
struct Ovh {
    api: Api,
    application_key: String,
    application_secret: Secret,
    consumer_key: Secret,
}

#[async_trait]
impl Provider for Ovh {
    async fn apply(&self, zone: &str, changes: &[Change]) -> Result<(), Error> {
        let all = rrset::wanted(zone, changes)?;
        if all.is_empty() {
            return Ok(());
        }
        let application_secret = self.api.secret("application-secret", &self.application_secret).await?;
        let consumer_key = self.api.secret("consumer-key", &self.consumer_key).await?;
        let work = async {
            let ahead = self.clock().await?;
            let session = Session { ovh: self, application_secret, consumer_key, ahead };
            let zone = zone.trim_end_matches('.');
            let written = each(&all, |wanted| session.one(zone, wanted)).await;
            // Always: an earlier attempt may have written and then been cut off before this.
            let refresh = format!("domain/zone/{}/refresh", segment(zone));
            let refreshed = session.send(Method::POST, &refresh, None).await.and_then(Answer::success);
            // Where both failed, the first says why.
            written?;
            refreshed.map(drop).map_err(Error::from)
        };
        in_time(&self.api, work).await
    }
}

impl Ovh {
    /// How many seconds OVH's clock is ahead of ours: it judges signatures by its own.
    async fn clock(&self) -> Result<i64, ApiError> {
        let now: i64 = self.api.send(Call::get("auth/time")).await?.success()?.json()?;
        Ok(now.saturating_sub(Timestamp::now().as_second()))
    }
}

#[derive(Deserialize)]
struct Record {
    id: u64,
    #[serde(default)]
    target: String,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(rename = "errorCode", default)]
    code: String,
}

/// An account at work.
struct Session<'a> {
    ovh: &'a Ovh,
    application_secret: Zeroizing<String>,
    consumer_key: Zeroizing<String>,
    ahead: i64,
}

impl Session<'_> {
    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer, ApiError> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let url = self.ovh.api.url(path);
        // As the client writes it.
        let url = Url::parse(&url).map_or(url, String::from);
        let time = Timestamp::now().as_second().saturating_add(self.ahead).to_string();
        let signed = [
            self.application_secret.as_str(),
            self.consumer_key.as_str(),
            method.as_str(),
            url.as_str(),
            body.as_str(),
            time.as_str(),
        ];
        let mut call = Call::new(method.clone(), path)
            .header(APPLICATION, &self.ovh.application_key)
            .header(TIMESTAMP, &time)
            .secret_header(CONSUMER, &self.consumer_key, &self.consumer_key)
            .header(SIGNATURE, &signature(signed))
            .hiding(&self.application_secret);
        if !body.is_empty() {
            call = call.text("application/json", body);
        }
        let answer = self.ovh.api.send(call).await?;
        match answer.json::<Failure>() {
            // A bad request, to OVH.
            Ok(failure) if answer.status() == 400 && UNAUTHORIZED.contains(&failure.code.as_str()) => {
                Err(answer.unauthorized(&answer.words()))
            }
            _ => Ok(answer),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.send(Method::GET, path, None).await?.success()?.json()
    }

    /// The records of a name, by their numbers.
    async fn list(&self, zone: &str, name: &str) -> Result<Vec<u64>, ApiError> {
        let query = format!("fieldType=TXT&subDomain={}", segment(name));
        let path = format!("domain/zone/{}/record?{query}", segment(zone));
        let answer = self.send(Method::GET, &path, None).await?;
        if answer.status() != 404 {
            return answer.success()?.json();
        }
        // A narrow key may not ask this.
        let others = self.get("domain/zone").await.unwrap_or_default();
        Err(self.ovh.api.no_zone_among(zone, others))
    }

    async fn one(&self, zone: &str, wanted: &Wanted) -> Result<(), Error> {
        let name = if wanted.name == "@" { "" } else { &wanted.name };
        let records = format!("domain/zone/{}/record", segment(zone));
        let mut there: Vec<Record> = Vec::new();
        for id in self.list(zone, name).await? {
            let answer = self.send(Method::GET, &format!("{records}/{id}"), None).await?;
            // Gone since.
            if answer.status() != 404 {
                there.push(answer.success()?.json()?);
            }
        }
        let values: Vec<String> = there.iter().map(|record| record.target.clone()).collect();
        for value in wanted.missing(&values) {
            let body = json!({
                "fieldType": "TXT",
                "subDomain": name,
                "target": rrset::quoted(value),
                "ttl": wanted.ttl.max(TTL_MIN),
            });
            self.send(Method::POST, &records, Some(body)).await?.success()?;
        }
        for record in there.iter().filter(|record| wanted.unwanted(&record.target)) {
            let path = format!("{records}/{}", record.id);
            let answer = self.send(Method::DELETE, &path, None).await?;
            if answer.status() != 404 {
                answer.success()?;
            }
        }
        Ok(())
    }
}

/// The signature of a request: secret, consumer key, method, URL, body and time joined by `+`, hashed.
fn signature(parts: [&str; 6]) -> String {
    let text = Zeroizing::new(parts.join("+"));
    let mut signature = String::from("$1$");
    for byte in Sha1::digest(text.as_bytes()) {
        let _ = write!(signature, "{byte:02x}");
    }
    signature
}

const APPLICATION: HeaderName = HeaderName::from_static("x-ovh-application");
const CONSUMER: HeaderName = HeaderName::from_static("x-ovh-consumer");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-ovh-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-ovh-signature");
const UNAUTHORIZED: [&str; 4] = ["INVALID_SIGNATURE", "INVALID_KEY", "INVALID_CREDENTIAL", "QUERY_TIME_OUT"];
const TTL_MIN: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_signed_with_sha1_of_all_that_they_say() {
        // The example of OVH's guide.
        let parts = [
            "EXEgWIz07P0HYwtQDs7cNIqCiQaWSuHF",
            "MtSwSrPpNjqfVSmJhLbPyr2i45lSwPU1",
            "GET",
            "https://eu.api.ovh.com/1.0/domains/",
            "",
            "1366560945",
        ];
        assert_eq!(signature(parts), "$1$d3705e8afb27a0d2970a322b96550abfc67bb798");
    }
}
