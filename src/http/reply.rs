//! An answer, made safe to show.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::model::problem::plain;
use crate::secret::hide;

/// An answer with any status.
pub struct Reply {
    secrets: Vec<Zeroizing<String>>,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Reply {
    /// An answer of which no message shows these secrets.
    pub(crate) fn new(
        secrets: Vec<Zeroizing<String>>,
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
    ) -> Self {
        Self { secrets, status, headers, body }
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A header, where it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as text.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// Whether we are asked to wait, and for how long if the answer says so.
    pub fn limited(&self, now: Timestamp) -> Option<Option<Duration>> {
        let wait = self.header(RETRY_AFTER.as_str()).and_then(|text| retry_after(text, now));
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => Some(wait),
            StatusCode::SERVICE_UNAVAILABLE if wait.is_some() => Some(wait),
            _ => None,
        }
    }

    /// What the other side says went wrong, as far as it can be understood; else the start of the body.
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

    /// The start of the body, safe to show.
    pub fn snippet(&self) -> String {
        const LIMIT: usize = 120;
        let safe = self.safe(&self.text());
        match safe.char_indices().nth(LIMIT) {
            Some((end, _)) => format!("{}…", &safe[..end]),
            None => safe,
        }
    }

    /// A text of the other side without our secrets, which some send back, and safe to show.
    pub fn safe(&self, text: &str) -> String {
        plain(&hide(text, &self.secrets))
    }

    pub(super) fn location(&self) -> String {
        self.safe(self.header(LOCATION.as_str()).unwrap_or_default())
    }
}

/// How long a `Retry-After` header asks us to wait (RFC 9110 section 10.2.3); `None` if it says nothing.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
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

    fn reply(body: &str) -> Reply {
        let secrets = vec![Zeroizing::new("hunter2".to_owned())];
        Reply::new(secrets, StatusCode::BAD_REQUEST, HeaderMap::new(), Bytes::from(body.to_owned()))
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
            assert_eq!(reply(body).words(), words);
        }
    }

    #[test]
    fn waits_are_seconds_or_dates() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(37)));
        for garbage in ["", "-5", "soon", "1.5"] {
            assert_eq!(retry_after(garbage, now), None, "{garbage}");
        }
    }
}
