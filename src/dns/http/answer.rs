//! What an API answers, judged and made safe to show.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::{About, ApiError};
use crate::http::Reply;

/// An answer with any status.
pub struct Answer {
    about: Arc<About>,
    host: String,
    reply: Reply,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.reply.status()).finish_non_exhaustive()
    }
}

impl Answer {
    pub(super) fn new(about: Arc<About>, host: String, reply: Reply) -> Self {
        Self { about, host, reply }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.reply.status().as_u16()
    }

    /// A header, where it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.reply.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> Cow<'_, str> {
        self.reply.text()
    }

    /// The answer if its status is a success, else the error that it is.
    pub fn success(self) -> Result<Self, ApiError> {
        if self.reply.status().is_success() { Ok(self) } else { Err(self.refused(&self.words())) }
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(self.reply.body()).map_err(|error| self.garbled(&error.to_string()))
    }

    /// The error that this answer is, whatever its status, in the API's own words.
    pub fn refused(&self, words: &str) -> ApiError {
        let (account, provider) = (self.about.account.clone(), self.about.provider);
        let (status, words) = (self.status(), self.reply.safe(words));
        match self.reply.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ApiError::Unauthorized { account, provider, status, words, rights: self.about.rights }
            }
            _ => ApiError::Refused { account, provider, status, words },
        }
    }

    /// The credentials or their rights are refused by an answer whose status does not say so.
    pub fn unauthorized(&self, words: &str) -> ApiError {
        ApiError::Unauthorized {
            account: self.about.account.clone(),
            provider: self.about.provider,
            status: self.status(),
            words: self.reply.safe(words),
            rights: self.about.rights,
        }
    }

    /// The answer is not what the API promises; `why` says how.
    pub fn garbled(&self, why: &str) -> ApiError {
        ApiError::Garbled {
            account: self.about.account.clone(),
            host: self.host.clone(),
            why: self.reply.safe(why),
            snippet: self.reply.snippet(),
        }
    }

    /// What the API says went wrong, as far as it can be understood; else the start of the body.
    pub fn words(&self) -> String {
        self.reply.words()
    }

    /// Whether the API asks us to wait, and for how long if it says so.
    pub(super) fn limited(&self) -> Option<Option<Duration>> {
        self.reply.limited(Timestamp::now())
    }

    /// The API limits us, though the status does not say so.
    pub(in crate::dns) fn rate_limited(&self, until: Timestamp) -> ApiError {
        ApiError::RateLimited {
            account: self.about.account.clone(),
            provider: self.about.provider,
            until,
            words: self.words(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use zeroize::Zeroizing;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let about = About { account: "dns.main".to_owned(), provider: "x", rights: "few" };
        let secrets = vec![Zeroizing::new("hunter2".to_owned())];
        let status = StatusCode::from_u16(status).unwrap();
        let reply = Reply::new(secrets, status, HeaderMap::new(), Bytes::from(body.to_owned()));
        Answer::new(Arc::new(about), "x.test".to_owned(), reply)
    }

    #[test]
    fn our_secrets_are_not_shown_though_the_api_repeats_them() {
        let error = answer(403, r#"{"message": "the token hunter2 is wrong"}"#).success().unwrap_err();
        assert!(error.to_string().contains("the token [secret] is wrong"), "{error}");
        let error = answer(200, "\"hunter2\"").json::<u32>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
