//! What an API answers, judged and made safe to show.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{About, ApiError};
use crate::model::problem::plain;

/// An answer with any status.
pub struct Answer {
    about: Arc<About>,
    host: String,
    secrets: Vec<Zeroizing<String>>,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Answer {
    pub(super) fn new(
        about: Arc<About>,
        host: String,
        secrets: Vec<Zeroizing<String>>,
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
    ) -> Self {
        Self { about, host, secrets, status, headers, body }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// A header, where it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The answer if its status is a success, else the error that it is.
    pub fn success(self) -> Result<Self, ApiError> {
        if self.status.is_success() { Ok(self) } else { Err(self.refused(&self.words())) }
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.body).map_err(|error| self.garbled(&error.to_string()))
    }

    /// The error that this answer is, whatever its status, in the API's own words.
    pub fn refused(&self, words: &str) -> ApiError {
        let (account, provider) = (self.about.account.clone(), self.about.provider);
        let (status, words) = (self.status.as_u16(), self.safe(words));
        match self.status {
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
            status: self.status.as_u16(),
            words: self.safe(words),
            rights: self.about.rights,
        }
    }

    /// The answer is not what the API promises; `why` says how.
    pub fn garbled(&self, why: &str) -> ApiError {
        ApiError::Garbled {
            account: self.about.account.clone(),
            host: self.host.clone(),
            why: self.safe(why),
            snippet: self.snippet(),
        }
    }

    /// What the API says went wrong, as far as it can be understood; else the start of the body.
    pub fn words(&self) -> String {
        let said = serde_json::from_slice::<Value>(&self.body).ok().map(|value| {
            let mut said = Vec::new();
            collect(&value, &mut said, 0);
            said.dedup();
            said.join(": ")
        });
        match said.filter(|said| !said.is_empty()) {
            Some(said) => self.safe(&said),
            None => self.snippet(),
        }
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

    pub(super) fn redirected(&self) -> ApiError {
        ApiError::Redirect {
            account: self.about.account.clone(),
            host: self.host.clone(),
            to: self.safe(self.header(LOCATION.as_str()).unwrap_or_default()),
        }
    }

    fn snippet(&self) -> String {
        const LIMIT: usize = 120;
        let safe = self.safe(&self.text());
        match safe.char_indices().nth(LIMIT) {
            Some((end, _)) => format!("{}…", &safe[..end]),
            None => safe,
        }
    }

    /// A text of the API without our secrets, which some send back, and safe to show.
    fn safe(&self, text: &str) -> String {
        let mut text = Cow::Borrowed(text);
        for secret in self.secrets.iter().filter(|secret| !secret.is_empty()) {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), "[secret]"));
            }
        }
        plain(&text)
    }
}

/// The texts by which APIs explain an error, in all the shapes that are around: `{"message": …}`,
/// `{"error": {"code", "message"}}`, `{"errors": [{"reason"}]}`, problem documents (RFC 9457),
/// `{"field": ["what is wrong with it"]}`.
fn collect(value: &Value, said: &mut Vec<String>, depth: usize) {
    const WORDS: [&str; 12] = [
        "code",
        "title",
        "message",
        "detail",
        "details",
        "description",
        "reason",
        "cause",
        "error",
        "errors",
        "error_chain",
        "non_field_errors",
    ];
    const MOST: usize = 8;
    if depth > 4 || said.len() >= MOST {
        return;
    }
    match value {
        Value::String(text) if !text.is_empty() => said.push(text.clone()),
        Value::Number(number) if depth > 0 => said.push(number.to_string()),
        Value::Array(list) => list.iter().for_each(|value| collect(value, said, depth + 1)),
        Value::Object(members) => {
            let known = WORDS.iter().filter_map(|word| members.get(*word));
            let before = said.len();
            known.for_each(|value| collect(value, said, depth + 1));
            if said.len() == before && depth == 0 {
                for (name, value) in members.iter().filter(|(_, value)| value.is_array()) {
                    let at = said.len();
                    collect(value, said, depth + 1);
                    if let Some(first) = said.get_mut(at) {
                        *first = format!("{name}: {first}");
                    }
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let about = About { account: "dns.main".to_owned(), provider: "x", rights: "few" };
        let secrets = vec![Zeroizing::new("hunter2".to_owned())];
        let status = StatusCode::from_u16(status).unwrap();
        Answer::new(
            Arc::new(about),
            "x.test".to_owned(),
            secrets,
            status,
            HeaderMap::new(),
            Bytes::from(body.to_owned()),
        )
    }

    #[test]
    fn errors_are_read_in_every_shape() {
        for (body, words) in [
            (r#"{"message": "no such zone"}"#, "no such zone"),
            (r#"{"error": {"code": "not_found", "message": "no such zone"}}"#, "not_found: no such zone"),
            (
                r#"{"success": false, "errors": [{"code": 9109, "message": "Invalid access token"}]}"#,
                "9109: Invalid access token",
            ),
            (r#"{"errors": [{"reason": "Not found"}]}"#, "Not found"),
            (r#"{"type": "about:blank", "title": "Denied", "detail": "not yours"}"#, "Denied: not yours"),
            (
                r#"{"ttl": ["Ensure this value is at least 3600."]}"#,
                "ttl: Ensure this value is at least 3600.",
            ),
            (r#"["one", "two"]"#, "one: two"),
            ("<html>\u{1b}[2Jno</html>", "<html>\\u{1b}[2Jno</html>"),
            ("", ""),
        ] {
            assert_eq!(answer(400, body).words(), words);
        }
    }

    #[test]
    fn our_secrets_are_not_shown_though_the_api_repeats_them() {
        let error = answer(403, r#"{"message": "the token hunter2 is wrong"}"#).success().unwrap_err();
        assert!(error.to_string().contains("the token [secret] is wrong"), "{error}");
        let error = answer(200, "\"hunter2\"").json::<u32>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
