//! What CAs say in headers.

use std::time::Duration;

use http::header::{AGE, DATE, LINK};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;

use crate::model::clock::Reading;

/// The URLs with `rel="alternate"` of `Link` headers (RFC 8288), as many as are worth a look.
pub(super) fn alternates(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(LINK).into_iter().filter_map(|value| value.to_str().ok());
    values
        // A comma stands in a URL, too, but not before the `<` of the next.
        .flat_map(|value| value.split('<').skip(1))
        .filter_map(|link| link.split_once('>'))
        .filter(|(_, parameters)| {
            parameters.split([';', ',']).any(|parameter| {
                let rel = parameter.trim().strip_prefix("rel=").unwrap_or_default();
                rel.trim_matches('"').split_whitespace().any(|rel| rel.eq_ignore_ascii_case("alternate"))
            })
        })
        .map(|(url, _)| url.to_owned())
        .take(MAX_ALTERNATES)
        .collect()
}

/// How long a `Retry-After` header asks us to wait (RFC 9110 section 10.2.3); `None` if it says nothing.
pub(super) fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean "very long", which the caller cuts.
        return Some(Duration::from_secs(text.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// What time it is at the CA, by the `Date` header of an answer that came at `here` (RFC 9110 section 6.6.1); nothing of
/// one that a cache has kept (RFC 9111 section 5.1).
pub(super) fn clock(headers: &HeaderMap, here: Timestamp) -> Option<Reading> {
    if headers.get(AGE).is_some_and(|age| age != "0") {
        return None;
    }
    let date = headers.get(DATE)?.to_str().ok()?;
    let there = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(Reading { here, there })
}

/// Those in use have up to four.
const MAX_ALTERNATES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        let waits = |text: &'static str| retry_after(&HeaderValue::from_static(text), now);
        assert_eq!(waits("120"), Some(Duration::from_secs(120)));
        assert_eq!(waits(" 0 "), Some(Duration::ZERO));
        assert_eq!(waits("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(37)));
        assert_eq!(waits("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(waits("99999999999999999999999"), Some(Duration::from_secs(u32::MAX.into())));
        assert_eq!(waits("18446744073709551615"), Some(Duration::from_secs(u32::MAX.into())));
        for garbage in ["", "-5", "soon", "1.5", "0x10", "12 34", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(waits(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn only_a_fresh_answer_says_what_time_it_is() {
        let here: Timestamp = "1994-11-06T09:00:00Z".parse().unwrap();
        let off = |headers: &[(http::HeaderName, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            clock(&headers.collect(), here).map(|reading| reading.ahead().as_secs())
        };
        let date = (DATE, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(off(std::slice::from_ref(&date)), Some(623));
        assert_eq!(off(&[date.clone(), (AGE, "0")]), Some(623));
        assert_eq!(off(&[date, (AGE, "600")]), None);
        assert_eq!((off(&[]), off(&[(DATE, "yesterday")])), (None, None));
    }

    #[test]
    fn alternates_are_the_links_that_say_so() {
        let links = |values: &[&'static str]| {
            let headers = values.iter().map(|value| (LINK, HeaderValue::from_static(value)));
            alternates(&headers.collect())
        };
        assert_eq!(links(&["<https://a.example/d>;rel=\"index\""]), Vec::<String>::new());
        assert_eq!(
            links(&[
                "<https://a.example/1>;rel=\"alternate\"",
                "<https://a.example/2?a,b>; title=x; rel=alternate, <https://a.example/up>; rel=\"up\"",
            ]),
            ["https://a.example/1", "https://a.example/2?a,b"]
        );
        assert_eq!(
            links(&["<https://a.example/1", "rel=alternate", "<>;rel=alternates", ""]),
            Vec::<String>::new()
        );
        assert_eq!(
            links(&[concat!("<a>;rel=alternate,", "<b>;rel=alternate")].repeat(99)).len(),
            MAX_ALTERNATES
        );
    }
}
