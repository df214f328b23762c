//! A look at a CA that changes nothing: is it there, what does its directory say, what time is it there.

use jiff::Timestamp;
use serde::Deserialize;

use super::error::Error;
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

/// Reads an issuer's directory: one request, or a few where the first fails.
pub async fn glance(issuer: &Issuer) -> Result<Glance, Error> {
    let http = super::connect(issuer).await?;
    // What is missing or odd in there is nothing to fail for.
    let meta = serde_json::from_slice(http.directory_body())
        .map_or_else(|_| Meta::default(), |of: WithMeta| of.meta);
    Ok(Glance {
        date: http.clock().map(|clock| clock.there),
        caa_identities: meta.caa_identities.iter().map(|name| plain(name).to_ascii_lowercase()).collect(),
        needs_external_account: meta.external_account_required,
    })
}
