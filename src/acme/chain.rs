//! Which of the chains that a CA offers for one leaf is taken (RFC 8555 section 7.4.2).

use std::time::Duration;

use super::Issued;
use super::call::{CallError, Tries, Twice};
use super::http::https;
use super::key::Key;
use super::order::Run;
use crate::model::problem::plain;

/// For all other chains: a certificate is there already.
const ALTERNATES: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// The chain that is preferred, if the CA offers it; else `issued` as it is.
    ///
    /// `alternates` are the other chains to the same leaf. What is wrong with one of them costs
    /// nothing but the choice.
    pub(super) async fn prefer(&self, mut issued: Issued, alternates: &[String], key: &Key) -> Issued {
        let Some(wanted) = self.wanted.preferred_chain.as_deref() else { return issued };
        if is(wanted, &issued) {
            return issued;
        }
        let mut offered = vec![issued.top.clone()];
        let search = async {
            for url in alternates {
                match self.alternate(url, key, &issued).await {
                    Ok(other) if is(wanted, &other) => return Some(other),
                    Ok(other) => offered.push(other.top),
                    Err(why) => tracing::warn!(issuer = %self.issuer, "cannot use another chain: {why}"),
                }
            }
            None
        };
        if let Ok(Some(found)) = tokio::time::timeout(ALTERNATES, search).await {
            return found;
        }
        offered.sort_unstable();
        offered.dedup();
        issued.offered = offered;
        issued
    }

    async fn alternate(&self, url: &str, key: &Key, issued: &Issued) -> Result<Issued, String> {
        let pem = self.fetch_alternate(url).await.map_err(|error| plain(&error.to_string()))?;
        let other = self.accept(&pem, key).map_err(|error| plain(&error.to_string()))?;
        match other.leaf.fingerprint == issued.leaf.fingerprint {
            true => Ok(other),
            false => Err("it has another leaf".to_owned()),
        }
    }

    /// instant-acme fetches chains of orders only: it asks for this one as if it were an order, and our own
    /// client keeps the answer that it cannot read.
    async fn fetch_alternate(&self, url: &str) -> Result<String, CallError> {
        https(url)?;
        let mut tries = Tries::new();
        loop {
            self.session.keep_body();
            let result = self.account.order(url.to_owned()).await;
            if let Some(body) = self.session.kept_body() {
                return Ok(String::from_utf8_lossy(&body).into_owned());
            }
            match result {
                Ok(_) => return Err(CallError::Garbled("an order in place of a chain".to_owned())),
                Err(error) => tries.again(error, Twice::Harmless).await?,
            }
        }
    }
}

fn is(wanted: &str, issued: &Issued) -> bool {
    issued.top.eq_ignore_ascii_case(wanted)
}
