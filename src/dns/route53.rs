//! Amazon Route 53: whole sets, all of a zone in one batch that is made as a whole or not at all.
//!
//! A set is not overwritten: the batch deletes it as it was read and creates it as it shall be, and Route
//! 53 refuses the deletion of a set that is different by then. So no value of anybody is lost.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderName, Method};
use jiff::Timestamp;
use reqwest::Url;
use tokio::time::sleep;

use self::batch::Set;
use self::sign::Credentials;
use self::xml::Element;
use super::bearer::in_time;
use super::http::{Answer, Api, ApiError, Call, segment};
use super::rrset::{self, Wanted};
use super::{Change, Error, Provider};
use crate::kind::{Kind, Refusal, Section};
use crate::secret::Secret;

mod batch;
mod sign;
mod xml;

/// The table entry.
pub const KIND: Kind<dyn Provider> = Kind {
    name: "route53",
    summary: "Amazon Route 53, with an access key (roles of the machine are not used)",
    example: "access-key-id = \"AKIAIOSFODNN7EXAMPLE\"\n\
              secret-access-key = { file = \"/etc/certfleet/secrets/aws\" }\n\
              session-token = { file = \"/etc/certfleet/secrets/aws-session\" }\n\
              hosted-zone-id = \"Z1D633PJN98FT9\"\n",
    rights: r#"this IAM policy, with ZONE the id of the hosted zone: {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["route53:ListHostedZonesByName","route53:GetChange"],"Resource":"*"},{"Effect":"Allow","Action":["route53:GetHostedZone","route53:ListResourceRecordSets"],"Resource":"arn:aws:route53:::hostedzone/ZONE"},{"Effect":"Allow","Action":"route53:ChangeResourceRecordSets","Resource":"arn:aws:route53:::hostedzone/ZONE","Condition":{"ForAllValues:StringLike":{"route53:ChangeResourceRecordSetsNormalizedRecordNames":["_acme-challenge.*"]},"ForAllValues:StringEquals":{"route53:ChangeResourceRecordSetsRecordTypes":["TXT"]}}}]}"#,
    build,
};

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Provider>> {
    let api = Api::read(section, &KIND, "https://route53.amazonaws.com");
    let access_key_id = section.required_parsed("access-key-id", "\"AKIAIOSFODNN7EXAMPLE\"", |text| {
        id(text, "as in \"AKIAIOSFODNN7EXAMPLE\": the name of the key, which is not secret")
    });
    let secret_access_key =
        section.required("secret-access-key", "{ file = \"/etc/certfleet/secrets/aws\" }");
    let session_token = section.optional("session-token");
    let hosted_zone = section.parsed("hosted-zone-id", "\"Z1D633PJN98FT9\"", |text| {
        id(text.trim_start_matches("/hostedzone/"), "as in \"Z1D633PJN98FT9\"")
    });
    Some(Arc::new(Route53 {
        api: api?,
        access_key_id: access_key_id?,
        secret_access_key: secret_access_key?,
        session_token,
        hosted_zone,
    }))
}

fn id(text: &str, hint: &str) -> Result<String, Refusal> {
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if fits { Ok(text.to_owned()) } else { Err(Refusal::new("an id has letters and digits only", hint)) }
}

#[derive(Debug)]
struct Route53 {
    api: Api,
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Option<Secret>,
    hosted_zone: Option<String>,
}

#[async_trait]
impl Provider for Route53 {
    async fn apply(&self, zone: &str, changes: &[Change]) -> Result<(), Error> {
        let all = rrset::wanted(zone, changes)?;
        if all.is_empty() {
            return Ok(());
        }
        let secret_access_key = self.api.secret("secret-access-key", &self.secret_access_key).await?;
        let session_token = match &self.session_token {
            Some(token) => Some(self.api.secret("session-token", token).await?),
            None => None,
        };
        let access_key_id = self.access_key_id.clone();
        let credentials = Credentials { access_key_id, secret_access_key, session_token };
        in_time(&self.api, Session { route53: self, credentials }.apply(zone, &all)).await
    }
}

/// An account at work.
struct Session<'a> {
    route53: &'a Route53,
    credentials: Credentials,
}

impl Session<'_> {
    async fn apply(&self, zone: &str, all: &[Wanted]) -> Result<(), Error> {
        let id = match &self.route53.hosted_zone {
            Some(id) => self.is_called(id, zone).await?,
            None => self.zone_id(zone).await?,
        };
        for part in all.chunks(BATCH) {
            self.part(&id, part).await?;
        }
        Ok(())
    }

    /// Changes as many owner names as one batch takes.
    async fn part(&self, zone: &str, part: &[Wanted]) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            let mut changes = Vec::new();
            for wanted in part {
                let there = self.set(zone, &wanted.owner).await?;
                changes.extend(batch::changes(wanted, there.as_ref()));
            }
            if changes.is_empty() {
                return Ok(());
            }
            let path = format!("{VERSION}/hostedzone/{zone}/rrset");
            let answer = self.send(Method::POST, &path, &[], batch::document(&changes)).await?;
            let done = match self.judge(answer) {
                Ok(done) => done,
                // Somebody else changed the set since we looked.
                Err((Some(code), _)) if code == "InvalidChangeBatch" && tries < TRIES => {
                    tries += 1;
                    continue;
                }
                Err((_, error)) => return Err(error.into()),
            };
            // Nobody waits for the end of what is gone.
            if part.iter().all(|wanted| wanted.add.is_empty()) {
                return Ok(());
            }
            return Ok(self.in_sync(&done).await?);
        }
    }

    /// The hosted zone with that id, if it has that name.
    async fn is_called(&self, id: &str, zone: &str) -> Result<String, ApiError> {
        let found = self.get(&format!("{VERSION}/hostedzone/{id}"), &[]).await?;
        match found.child("HostedZone").and_then(|hosted| hosted.text_of("Name")) {
            Some(name) if name == zone => Ok(id.to_owned()),
            name => {
                let others = name.map(|name| name.trim_end_matches('.').to_owned()).into_iter().collect();
                Err(self.route53.api.no_zone_among(zone, others))
            }
        }
    }

    /// The public hosted zone of that name.
    async fn zone_id(&self, zone: &str) -> Result<String, ApiError> {
        let query = [("dnsname", zone), ("maxitems", "100")];
        let found = self.get(&format!("{VERSION}/hostedzonesbyname"), &query).await?;
        let public = |zone: &&Element| {
            zone.child("Config").and_then(|config| config.text_of("PrivateZone")) != Some("true")
        };
        let name = |zone: &Element| zone.text_of("Name").unwrap_or_default().to_owned();
        // In the order of names, from this one on.
        let zones = || found.list("HostedZones").iter().filter(public);
        match zones().find(|hosted| name(hosted) == zone).and_then(|hosted| hosted.text_of("Id")) {
            Some(id) => Ok(segment(id.trim_start_matches("/hostedzone/"))),
            None => {
                let all = self.get(&format!("{VERSION}/hostedzonesbyname"), &[("maxitems", "100")]).await?;
                let others = all.list("HostedZones").iter().filter(public).map(name);
                let others = others.map(|name| name.trim_end_matches('.').to_owned()).collect();
                Err(self.route53.api.no_zone_among(zone, others))
            }
        }
    }

    /// The TXT set of an owner name.
    async fn set(&self, zone: &str, owner: &str) -> Result<Option<Set>, ApiError> {
        let path = format!("{VERSION}/hostedzone/{zone}/rrset");
        // The list starts there, whether there is such a set or not.
        let query = [("name", owner), ("type", "TXT"), ("maxitems", "1")];
        let list = self.get(&path, &query).await?;
        Ok(list.list("ResourceRecordSets").iter().find_map(|set| Set::read(set, owner)))
    }

    /// Waits until all name servers of Route 53 have a change.
    async fn in_sync(&self, answer: &Element) -> Result<(), ApiError> {
        let info = |answer: &Element, name: &str| {
            let info = answer.child("ChangeInfo").and_then(|info| info.text_of(name));
            info.unwrap_or_default().trim_start_matches("/change/").to_owned()
        };
        let path = format!("{VERSION}/change/{}", segment(&info(answer, "Id")));
        let mut status = info(answer, "Status");
        let mut pause = PAUSE_MIN;
        while status != "INSYNC" {
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            status = info(&self.get(&path, &[]).await?, "Status");
        }
        Ok(())
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Element, ApiError> {
        let answer = self.send(Method::GET, path, query, String::new()).await?;
        self.judge(answer).map_err(|(_, error)| error)
    }

    /// Sends a signed request; again after a moment where Route 53 has too much to do.
    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: String,
    ) -> Result<Answer, ApiError> {
        let mut pause = PAUSE_MIN;
        loop {
            let answer = self.route53.api.send(self.signed(&method, path, query, &body)).await?;
            let busy = failure(&answer).is_some_and(|(code, _)| BUSY.contains(&code.as_str()));
            if !busy {
                return Ok(answer);
            }
            if pause > PAUSE_MAX {
                return Err(answer.rate_limited(Timestamp::now() + LIMITED));
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    fn signed(&self, method: &Method, path: &str, query: &[(&str, &str)], body: &str) -> Call {
        let url = self.route53.api.url(path);
        let parsed = Url::parse(&url).ok();
        let host = parsed.as_ref().and_then(|url| {
            let host = url.host_str()?;
            Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
        });
        let request = sign::Request {
            method: method.as_str(),
            host: &host.unwrap_or_default(),
            path: parsed.as_ref().map_or("/", Url::path),
            query,
            body: body.as_bytes(),
        };
        // One service for the whole world, whose signatures are of this region.
        let headers = sign::headers(&request, &self.credentials, "us-east-1", "route53", Timestamp::now());
        let target =
            if query.is_empty() { path.to_owned() } else { format!("{path}?{}", sign::query(query)) };
        let mut call = Call::new(method.clone(), target).hiding(&self.credentials.secret_access_key);
        if let Some(token) = &self.credentials.session_token {
            call = call.hiding(token);
        }
        for (name, value) in headers {
            call = call.secret_header(HeaderName::from_static(name), &value, &value);
        }
        if body.is_empty() { call } else { call.text("application/xml", body.to_owned()) }
    }

    /// The document of a success, else the error with Route 53's code for it.
    fn judge(&self, answer: Answer) -> Result<Element, (Option<String>, ApiError)> {
        if (200..300).contains(&answer.status()) {
            return xml::parse(&answer.text()).ok_or_else(|| (None, answer.garbled("it is not XML")));
        }
        let Some((code, message)) = failure(&answer) else {
            return Err((None, answer.refused(&answer.words())));
        };
        let words = format!("{code}: {message}");
        let error = match code.as_str() {
            "NoSuchHostedZone" => {
                let id = self.route53.hosted_zone.as_deref().unwrap_or("unknown");
                self.route53.api.no_zone(id)
            }
            code if UNAUTHORIZED.contains(&code) => answer.unauthorized(&words),
            _ => answer.refused(&words),
        };
        Err((Some(code), error))
    }
}

/// Code and message of an error; these come in two shapes.
fn failure(answer: &Answer) -> Option<(String, String)> {
    if (200..300).contains(&answer.status()) {
        return None;
    }
    let root = xml::parse(&answer.text())?;
    if root.name == "InvalidChangeBatch" {
        let said: Vec<_> = root.list("Messages").iter().map(|message| message.text.trim()).collect();
        return Some((root.name.clone(), said.join("; ")));
    }
    // Alone, or one of a list.
    let error = root.child("Error").or_else(|| root.list("Errors").first())?;
    let text = |name| error.text_of(name).unwrap_or_default().to_owned();
    Some((text("Code"), text("Message")))
}

const VERSION: &str = "2013-04-01";
/// What Route 53 says when a request is fine and comes at a bad time.
const BUSY: [&str; 3] = ["Throttling", "ThrottlingException", "PriorRequestNotComplete"];
const UNAUTHORIZED: [&str; 7] = [
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "InvalidClientTokenId",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];
/// Owner names in one batch: it may have 1000 records, and a challenge name has some.
const BATCH: usize = 100;
const TRIES: u32 = 3;
/// Five requests a second are what an account has, for all that it does.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(4);
/// When waiting did not help.
const LIMITED: Duration = Duration::from_secs(60);
