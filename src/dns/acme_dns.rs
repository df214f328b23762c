//! acme-dns: a small name server that does nothing but hold challenge records.
//!
//! One registration there holds the records of one name: the `_acme-challenge` name of a domain is, once and
//! for all, made a CNAME to it. It keeps the last two values, enough for a domain and its wildcard; nothing
//! is ever removed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderName;
use serde::Deserialize;
use serde_json::json;

use super::http::{Api, Call};
use super::{Change, Error, Provider};
use crate::kind::{Kind, Refusal, Section};
use crate::model::problem::{Blame, Diagnose, plain};
use crate::secret::Secret;

/// The table entry.
pub const KIND: Kind<dyn Provider> = Kind {
    name: "acme-dns",
    summary: "a server of acme-dns, at the end of a CNAME: for zones whose own provider has no API to trust",
    example: r#"server = "https://acme-dns.example.org"
subdomain = "8e5700ea-a4bf-41c7-8a77-e990661dcc6a"
fulldomain = "8e5700ea-a4bf-41c7-8a77-e990661dcc6a.acme-dns.example.org"
username = "c36f50e8-4632-44f0-83fe-e070fef28a10"
password = { file = "/etc/certfleet/secrets/acme-dns" }
"#,
    rights: "one registration for each name (`curl -X POST SERVER/register` gives all four values): it can change nothing else",
    build,
};

/// One registration at a server.
#[derive(Debug)]
struct AcmeDns {
    api: Api,
    subdomain: String,
    /// Lower case, with final dot.
    fulldomain: String,
    username: String,
    password: Secret,
}

/// A record that belongs somewhere else than this registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherName {
    /// The account.
    pub account: String,
    /// Where the record belongs.
    pub owner: String,
    /// Where the registration has its records.
    pub fulldomain: String,
}

impl fmt::Display for OtherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, owner, fulldomain } = self;
        let (owner, fulldomain) = (plain(owner), plain(fulldomain));
        write!(f, "`{account}` writes records of `{fulldomain}` only, and this one belongs to `{owner}`")
    }
}

impl std::error::Error for OtherName {}

impl Diagnose for OtherName {
    fn code(&self) -> &'static str {
        "dns.not-delegated"
    }

    fn blame(&self) -> Blame {
        Blame::Operator
    }

    fn hint(&self) -> Option<String> {
        let (owner, fulldomain) = (plain(&self.owner), plain(&self.fulldomain));
        Some(format!(
            "add the record `{owner} CNAME {fulldomain}`; if there is another account for that name, set `dns` of the certificate"
        ))
    }
}

/// What the server says of an update.
#[derive(Deserialize)]
struct Updated {
    txt: String,
}

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Provider>> {
    let api = Api::read_required(section, &KIND, "server", "\"https://acme-dns.example.org\"");
    let subdomain =
        section.required_parsed("subdomain", "\"8e5700ea-a4bf-41c7-8a77-e990661dcc6a\"", registered);
    let fulldomain = section.required_parsed("fulldomain", "\"8e5700ea-….acme-dns.example.org\"", |text| {
        registered(text).map(|name| format!("{}.", name.trim_end_matches('.').to_ascii_lowercase()))
    });
    let username =
        section.required_parsed("username", "\"c36f50e8-4632-44f0-83fe-e070fef28a10\"", registered);
    let password = section.required("password", "{ file = \"/etc/certfleet/secrets/acme-dns\" }");
    Some(Arc::new(AcmeDns {
        api: api?,
        subdomain: subdomain?,
        fulldomain: fulldomain?,
        username: username?,
        password: password?,
    }))
}

fn registered(text: &str) -> Result<String, Refusal> {
    let fits = !text.is_empty()
        && text.len() <= 253
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if fits {
        return Ok(text.to_owned());
    }
    Err(Refusal::new("it is not what a registration has", "copy it from the answer of SERVER/register"))
}

#[async_trait]
impl Provider for AcmeDns {
    async fn apply(&self, _zone: &str, changes: &[Change]) -> Result<(), Error> {
        for change in changes {
            // The next values push it out; until then it proves nothing that is still asked.
            let Change::Add(record) = change else { continue };
            if record.owner != self.fulldomain {
                return Err(Error::OtherName(OtherName {
                    account: self.api.account().to_owned(),
                    owner: record.owner.trim_end_matches('.').to_owned(),
                    fulldomain: self.fulldomain.trim_end_matches('.').to_owned(),
                }));
            }
            let password = self.api.secret("password", &self.password).await?;
            let call = Call::post("update")
                .header(HeaderName::from_static("x-api-user"), &self.username)
                .secret_header(HeaderName::from_static("x-api-key"), &password, &password)
                .json(&json!({ "subdomain": self.subdomain, "txt": record.value }));
            let answer = self.api.send(call).await?.success()?;
            if answer.json::<Updated>()?.txt != record.value {
                return Err(answer.garbled("it took another value than ours").into());
            }
        }
        Ok(())
    }

    fn batches(&self) -> bool {
        false
    }
}
