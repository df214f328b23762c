//! A look at a CA that changes nothing: is it there, what does its directory say, what time is it there.

use jiff::Timestamp;
use serde::Deserialize;

use super::error::{Doing, Error};
use super::http::Http;
use super::tls;
use crate::model::desired::Issuer;
use crate::model::problem::plain;

/// What a CA's directory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// The time at the CA when it answered, to the second; `None` when it does not say.
    pub date: Option<Timestamp>,
    /// The names by which CAA records let it in (RFC 8555 section 7.1.1, RFC 8659); lower case, safe to show.
    pub caa_identities: Vec<String>,
    /// Whether accounts must be bound to one made elsewhere.
    pub needs_external_account: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    caa_identities: Vec<String>,
    external_account_required: bool,
}

#[derive(Deserialize)]
struct WithMeta {
    #[serde(default)]
    meta: Meta,
}

/// Reads an issuer's directory: one request.
pub async fn glance(issuer: &Issuer) -> Result<Glance, Error> {
    let failed = |cause| Error::Call { issuer: issuer.name.clone(), doing: Doing::Directory, cause };
    let http = Http::open(&issuer.directory, tls(issuer)?).await.map_err(failed)?;
    // What is missing or odd in there is nothing to fail for.
    let meta = serde_json::from_slice(http.directory_body())
        .map_or_else(|_| Meta::default(), |of: WithMeta| of.meta);
    Ok(Glance {
        date: http.date(),
        caa_identities: meta.caa_identities.iter().map(|name| plain(name).to_ascii_lowercase()).collect(),
        needs_external_account: meta.external_account_required,
    })
}

/// The URL of the account that stored credentials belong to.
pub fn account_url(credentials: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Saved {
        id: String,
    }
    serde_json::from_str::<Saved>(credentials).ok().map(|saved| saved.id)
}
