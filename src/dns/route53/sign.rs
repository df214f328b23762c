//! Signatures of requests to AWS, version 4.
//!
//! A request is put into a canonical form, whose hash is signed with a key that is good for one
//! day, one region and one service only.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Who signs.
pub(super) struct Credentials {
    /// The access key's name.
    pub(super) access_key_id: String,
    /// The access key itself.
    pub(super) secret_access_key: Zeroizing<String>,
    /// Goes with access keys for a limited time.
    pub(super) session_token: Option<Zeroizing<String>>,
}

/// What is signed.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// Host, and port where it is not the scheme's own.
    pub(super) host: &'a str,
    /// The path, percent-encoded once.
    pub(super) path: &'a str,
    /// The parameters, not encoded.
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
}

/// The headers that make a request a signed one.
pub(super) fn headers(
    request: &Request<'_>,
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: Timestamp,
) -> Vec<(&'static str, Zeroizing<String>)> {
    let time = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = &time[..8];
    let mut signed = vec![("host", Zeroizing::new(request.host.to_owned()))];
    signed.push(("x-amz-date", Zeroizing::new(time.clone())));
    if let Some(token) = &credentials.session_token {
        signed.push(("x-amz-security-token", token.clone()));
    }
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let mut canonical = Zeroizing::new(format!(
        "{}\n{}\n{}\n",
        request.method,
        // Everywhere but at S3 the path is encoded once more.
        encoded(request.path, true),
        query(request.query)
    ));
    for (name, value) in &signed {
        let _ = writeln!(canonical, "{name}:{}", value.trim());
    }
    let _ = write!(canonical, "\n{names}\n{}", hex(&Sha256::digest(request.body)));
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let first = Zeroizing::new(format!("AWS4{}", credentials.secret_access_key.as_str()));
    let mut key = mac(first.as_bytes(), date);
    for part in [region, service, "aws4_request"] {
        key = mac(&key, part);
    }
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
        credentials.access_key_id,
        hex(&mac(&key, &text))
    );
    // The client writes the host itself.
    signed.remove(0);
    signed.push(("authorization", Zeroizing::new(authorization)));
    signed
}

/// Parameters as they are signed and sent: encoded, then in order.
pub(super) fn query(parameters: &[(&str, &str)]) -> String {
    let mut parts: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name, false), encoded(value, false)))
        .collect();
    parts.sort();
    parts.join("&")
}

/// Percent-encodes everything but unreserved characters (RFC 3986 section 2.3).
fn encoded(text: &str, slashes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b'/' if slashes => out.push('/'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

fn mac(key: &[u8], text: &str) -> Zeroizing<Vec<u8>> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length (RFC 2104 section 2)");
    mac.update(text.as_bytes());
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The credentials of AWS's published test suite.
    fn suite(token: Option<&str>) -> Credentials {
        Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Zeroizing::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: token.map(|token| Zeroizing::new(token.to_owned())),
        }
    }

    /// Signature of a request of the suite: all to `service` in us-east-1, at one time.
    fn signature(method: &str, path: &str, query: &[(&str, &str)]) -> String {
        let request = Request { method, host: "example.amazonaws.com", path, query, body: b"" };
        let now = "2015-08-30T12:36:00Z".parse().unwrap();
        let headers = headers(&request, &suite(None), "us-east-1", "service", now);
        assert_eq!(headers[0].1.as_str(), "20150830T123600Z");
        let start = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                     SignedHeaders=host;x-amz-date, Signature=";
        headers[1].1.strip_prefix(start).unwrap().to_owned()
    }

    #[test]
    fn requests_of_the_test_suite_are_signed_as_published() {
        let vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        assert_eq!(signature("GET", "/", &[]), vanilla);
        assert_eq!(
            signature("POST", "/", &[]),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
        assert_eq!(
            signature("GET", "/", &[("Param2", "value2"), ("Param1", "value1")]),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
        );
    }

    #[test]
    fn what_is_sent_in_the_query_is_what_is_signed() {
        assert_eq!(query(&[("b", "x y"), ("a", "/é"), ("a", "*")]), "a=%2A&a=%2F%C3%A9&b=x%20y");
        assert_eq!(query(&[]), "");
    }

    #[test]
    fn a_session_token_is_signed_too() {
        let request = Request { method: "GET", host: "h", path: "/", query: &[], body: b"" };
        let headers = headers(&request, &suite(Some("t0ken")), "us-east-1", "route53", Timestamp::UNIX_EPOCH);
        let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["x-amz-date", "x-amz-security-token", "authorization"]);
        assert!(headers[2].1.contains("SignedHeaders=host;x-amz-date;x-amz-security-token,"));
    }
}
