//! One request, with its secrets marked as such.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, Method};
use serde::Serialize;
use zeroize::Zeroizing;

/// A request: a path below the address it is sent to, headers, and perhaps a body.
pub struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: Vec<Header>,
    pub(super) body: Option<Bytes>,
    secrets: Vec<Zeroizing<String>>,
}

pub(super) struct Header {
    pub(super) name: HeaderName,
    pub(super) value: Zeroizing<String>,
    pub(super) secret: bool,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

impl Call {
    /// A request to a path, which may have a query; see [`segment`] for what comes from outside.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        let call = Self { method, path: path.into(), headers: Vec::new(), body: None, secrets: Vec::new() };
        call.header(ACCEPT, "application/json")
    }

    /// GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// POST.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// PUT.
    pub fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path)
    }

    /// PATCH.
    pub fn patch(path: impl Into<String>) -> Self {
        Self::new(Method::PATCH, path)
    }

    /// DELETE.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// With a header that anybody may see; in place of an earlier one of this name.
    pub fn header(self, name: HeaderName, value: &str) -> Self {
        self.with(name, value, false)
    }

    /// With a header whose value is secret, or has `secret` in it.
    pub fn secret_header(self, name: HeaderName, value: &str, secret: &str) -> Self {
        let mut call = self.with(name, value, true);
        call.secrets.push(Zeroizing::new(value.to_owned()));
        call.hiding(secret)
    }

    /// With another text that no message may show, such as a secret that a signature is made with.
    pub fn hiding(mut self, secret: &str) -> Self {
        self.secrets.push(Zeroizing::new(secret.to_owned()));
        self
    }

    /// With `Authorization: Bearer TOKEN` (RFC 6750).
    pub fn bearer(self, token: &str) -> Self {
        self.secret_header(AUTHORIZATION, &Zeroizing::new(format!("Bearer {token}")), token)
    }

    /// With `Authorization: Basic …` (RFC 7617).
    pub fn basic(self, user: &str, password: &str) -> Self {
        let both = Zeroizing::new(format!("{user}:{password}"));
        let encoded = Zeroizing::new(STANDARD.encode(both.as_bytes()));
        let call =
            self.secret_header(AUTHORIZATION, &Zeroizing::new(format!("Basic {}", *encoded)), password);
        call.hiding(&encoded)
    }

    /// With a body of JSON.
    pub fn json(self, body: &serde_json::Value) -> Self {
        self.text("application/json", body.to_string())
    }

    /// With a body of JSON made from a type of ours.
    pub fn json_of<T: Serialize>(self, body: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(body).map(|text| self.text("application/json", text))
    }

    /// With a body of another kind.
    pub fn text(self, content_type: &str, body: String) -> Self {
        let mut call = self.header(CONTENT_TYPE, content_type);
        call.body = Some(body.into());
        call
    }

    fn with(mut self, name: HeaderName, value: &str, secret: bool) -> Self {
        self.headers.retain(|header| header.name != name);
        self.headers.push(Header { name, value: Zeroizing::new(value.to_owned()), secret });
        self
    }

    /// Its path.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn secrets(&self) -> Vec<Zeroizing<String>> {
        self.secrets.clone()
    }
}

/// A text made fit to be one segment of a path, or one value of a query (RFC 3986 section 2.3).
pub fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    // As a whole segment they would mean another folder.
    match encoded.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => encoded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_segment_ends_it() {
        assert_eq!(segment("_acme-challenge.www"), "_acme-challenge.www");
        assert_eq!(segment("a/b?c#d e&f\"\u{e9}"), "a%2Fb%3Fc%23d%20e%26f%22%C3%A9");
        assert_eq!(segment("*"), "%2A");
        assert_eq!(segment(".."), "%2E%2E");
    }

    #[test]
    fn secrets_are_not_in_what_is_printed() {
        let call = Call::get("zones").bearer("hunter2").basic("me", "hunter2");
        assert!(!format!("{call:?}").contains("hunter2"));
        assert_eq!(call.headers.len(), 2);
        assert!(call.secrets.iter().any(|secret| **secret == STANDARD.encode("me:hunter2")));
    }
}
