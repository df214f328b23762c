//! Orders that are cut off, and CAs that are limited, broken, hostile or away.

use certfleet::acme::{Error, Wanted, new_key};
use certfleet::model::desired::KeyType;
use certfleet::model::problem::{Blame, Diagnose, Retry};
use jiff::{SignedDuration, Timestamp};

use super::between::{Act, Answer, Asked};
use super::{Bench, said, wanted};
use crate::world::pebble::Behaviour;

type Rule = fn(&Asked) -> Act;
type Change = fn(Answer) -> Answer;

#[tokio::test]
async fn an_order_is_resumed_wherever_it_was_left() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    let cut: [(&str, Rule); 5] = [
        ("pending", |asked| stop(asked, "/chalZ/")),
        ("ready", |asked| stop(asked, "/finalize-order/")),
        ("processing or valid", |asked| lose_then_stop(asked)),
        ("valid", |asked| stop(asked, "/certZ/")),
        ("validating", |asked| stop(asked, "/my-order/")),
    ];
    for (at, (state, rule)) in cut.into_iter().enumerate() {
        between.rule(rule);
        let name = format!("n{at}.social.test");
        let order = wanted(&[&name]);
        let error = bench.issue(&ca, &order).await.expect_err(state);
        assert!(!error.order_is_over(), "{state}: {}", said(&error));
        assert_eq!(error.retry(), Retry::Backoff);
        between.rule(|_| Act::Pass);
        between.asked();
        // A new process, too: nothing but what was recorded.
        let ca = bench.open().await.unwrap();
        let resume = bench.journal.last();
        let issued = bench.issue(&ca, &Wanted { resume, ..order }).await.expect(state);
        assert_eq!(issued.leaf.domains[0].to_string(), name);
        let asked = between.asked();
        assert!(!asked.iter().any(|asked| asked.contains("order-plz")), "{state}: {asked:?}");
        let made = (bench.world.pebble.orders(), bench.world.pebble.issued());
        assert_eq!(made, (at + 1, at + 1), "{state}");
    }
}

fn stop(asked: &Asked, path: &str) -> Act {
    if asked.path.starts_with(path) {
        Act::Answer(Answer::new(500, "text/plain", "out of order"))
    } else {
        Act::Pass
    }
}

/// The answer to the signing request is lost, and the CA is gone from then on.
fn lose_then_stop(asked: &Asked) -> Act {
    use std::sync::atomic::{AtomicBool, Ordering};
    static LOST: AtomicBool = AtomicBool::new(false);
    if LOST.load(Ordering::Relaxed) {
        return Act::Answer(Answer::new(502, "text/html", "<h1>bad gateway</h1>"));
    }
    if asked.path.starts_with("/finalize-order/") {
        LOST.store(true, Ordering::Relaxed);
        return Act::Lose;
    }
    Act::Pass
}

#[tokio::test]
async fn lost_answers_are_made_good_within_one_attempt() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    let paths = ["/authZ/", "/chalZ/", "/my-order/", "/finalize-order/", "/certZ/"];
    for (at, path) in paths.into_iter().enumerate() {
        let mut lost = false;
        between.rule(move |asked| {
            if asked.path.starts_with(path) && !std::mem::replace(&mut lost, true) {
                Act::Lose
            } else {
                Act::Pass
            }
        });
        let name = format!("n{at}.social.test");
        bench.issue(&ca, &wanted(&[&name])).await.expect(path);
        assert_eq!((bench.world.pebble.orders(), bench.world.pebble.issued()), (at + 1, at + 1), "{path}");
    }
}

#[tokio::test]
async fn a_ca_with_too_many_requests_at_this_moment_is_asked_again_within_one_attempt() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    let crowded = || {
        let words = "Service busy; retry later.";
        Act::Answer(Answer::problem(503, "rateLimited", words).header("retry-after", "0"))
    };
    let mut turned_away = Vec::new();
    between.rule(move |asked| {
        let first = !turned_away.contains(&asked.path) && asked.path != "/dir";
        turned_away.push(asked.path.clone());
        if first { crowded() } else { Act::Pass }
    });
    bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap();
    assert_eq!((bench.world.pebble.orders(), bench.world.pebble.issued()), (1, 1));
    // Not for ever.
    between.rule(move |_| crowded());
    let error = bench.issue(&ca, &wanted(&["b.social.test"])).await.unwrap_err();
    assert_eq!(error.code(), "acme.rate-limited", "{}", said(&error));
}

#[tokio::test]
async fn an_order_whose_answer_is_lost_is_not_placed_twice() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    between.rule(|asked| if asked.path == "/order-plz" { Act::Lose } else { Act::Pass });
    let error = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("acme.unreachable", Retry::Backoff), "{}", said(&error));
    between.rule(|asked| match asked.path.as_str() {
        "/order-plz" => Act::alter(|answer| *answer = Answer::new(500, "text/plain", "oops")),
        _ => Act::Pass,
    });
    let error = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("acme.server-error", Retry::Backoff), "{}", said(&error));
    assert_eq!(bench.world.pebble.orders(), 2);
}

#[tokio::test]
async fn an_order_that_the_ca_forgot_is_over() {
    let bench = Bench::new(Behaviour::default());
    let ca = bench.open().await.unwrap();
    let (address, order) = (bench.world.pebble.address, wanted(&["a.social.test"]));
    let resume = Some(format!("https://{address}/my-order/nowhere"));
    let error = bench.issue(&ca, &Wanted { resume, ..order }).await.unwrap_err();
    assert!(matches!(error, Error::OrderGone { .. }), "{}", said(&error));
    // A restarted Pebble knows neither order nor account.
    bench.world.pebble.stop();
    let error = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap_err();
    assert_eq!((error.code(), error.blame()), ("acme.unreachable", Blame::Network), "{}", said(&error));
    bench.world.pebble.start_again().unwrap();
    let error = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap_err();
    assert_eq!(
        (error.code(), error.retry()),
        ("acme.account-unknown", Retry::AfterChange),
        "{}",
        said(&error)
    );
}

#[tokio::test]
async fn a_ca_that_limits_us_says_until_when() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    let date = |hours: i64| {
        let at = Timestamp::now() + SignedDuration::from_hours(hours);
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap()
    };
    for (status, header, minutes) in [
        (429, Some("7200".to_owned()), 120),
        (503, Some("600".to_owned()), 10),
        (429, Some(date(2)), 120),
        (429, Some(date(-2)), 1),
        (429, Some("0".to_owned()), 1),
        (429, Some("315360000".to_owned()), 1440),
        (429, Some("18446744073709551616".to_owned()), 1440),
        (429, Some("-5".to_owned()), 60),
        (429, Some("soon".to_owned()), 60),
        (429, None, 60),
    ] {
        let case = format!("{status} {header:?}");
        between.rule(move |asked| {
            if asked.path != "/order-plz" {
                return Act::Pass;
            }
            let answer =
                Answer::problem(status, "rateLimited", "too many certificates, see https://ca.test/");
            Act::Answer(match &header {
                Some(value) => answer.header("retry-after", value),
                None => answer,
            })
        });
        let error = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap_err();
        assert_eq!((error.code(), error.blame()), ("acme.rate-limited", Blame::Issuer), "{case}");
        let Retry::NotBefore(until) = error.retry() else { panic!("{case}: {:?}", error.retry()) };
        let off = until.duration_since(Timestamp::now()) - SignedDuration::from_mins(minutes);
        assert!(off.abs() < SignedDuration::from_secs(30), "{case}: {until}");
        assert!(said(&error).contains("too many certificates, see https://ca.test/"), "{}", said(&error));
        let asked = between.asked();
        assert_eq!(asked.iter().filter(|asked| asked.contains("order-plz")).count(), 1, "{asked:?}");
    }
    assert_eq!(bench.world.pebble.orders(), 0);
}

#[tokio::test]
async fn absurd_answers_are_errors_with_a_reason() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    let cases: [(&str, Change, &str, &str); 12] = [
        (
            "/order-plz",
            |_| Answer::new(503, "text/html", "<html>\u{1b}[2J down"),
            "acme.server-error",
            "status 503",
        ),
        (
            "/order-plz",
            |_| Answer::new(302, "text/html", "").header("location", "https://evil.test/"),
            "acme.server-error",
            "status 302",
        ),
        (
            "/order-plz",
            |_| Answer::problem(403, "userActionRequired", "new terms"),
            "acme.user-action-required",
            "new terms",
        ),
        (
            "/order-plz",
            |_| Answer::problem(400, "invalidProfile", "no such profile"),
            "acme.invalid-profile",
            "no such profile",
        ),
        (
            "/order-plz",
            |_| Answer::new(201, "application/json", "{}").header("location", "http://169.254.169.254/"),
            "acme.protocol",
            "169.254.169.254",
        ),
        (
            "/authZ/",
            |_| Answer::new(200, "application/json", vec![b' '; 2 << 20]),
            "acme.protocol",
            "more than 1048576 bytes",
        ),
        (
            "/authZ/",
            |mut answer| {
                answer.replace("\"token\": \"", "\"token\": \"../../etc/");
                answer
            },
            "acme.protocol",
            "base64url",
        ),
        (
            "/authZ/",
            |mut answer| {
                answer.replace("a.social.test", "victim.test");
                answer
            },
            "acme.protocol",
            "`victim.test`",
        ),
        (
            "/authZ/",
            |mut answer| {
                answer.replace("dns-01", "dns-99");
                answer
            },
            "acme.protocol",
            "no dns-01 challenge",
        ),
        (
            "/my-order/",
            |mut answer| {
                answer.replace("\"status\": \"", "\"status\": \"un\\u001b");
                answer
            },
            "acme.protocol",
            "cannot be understood",
        ),
        (
            "/finalize-order/",
            |_| Answer::problem(400, "badCSR", "key is too small"),
            "acme.bad-csr",
            "key is too small",
        ),
        (
            "/certZ/",
            |_| Answer::new(200, "text/html", "<html>no certificate"),
            "acme.wrong-certificate",
            "<html>no certificate",
        ),
    ];
    for (path, change, code, words) in cases {
        between.rule(move |asked| {
            if asked.path.starts_with(path) {
                Act::alter(move |answer| *answer = change(answer.clone()))
            } else {
                Act::Pass
            }
        });
        let error = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap_err();
        let line = said(&error);
        assert_eq!(error.code(), code, "{path}: {line}");
        assert!(line.contains(words) && !line.contains('\u{1b}'), "{path}: {line}");
    }
}

#[tokio::test]
async fn a_certificate_that_was_not_asked_for_is_not_accepted() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    let other = bench.issue(&ca, &wanted(&["other.social.test"])).await.unwrap();
    between.rule(move |asked| {
        let other = other.fullchain.clone();
        match asked.path.starts_with("/certZ/") {
            true => Act::alter(|answer| answer.body = other.into_bytes()),
            false => Act::Pass,
        }
    });
    let error = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap_err();
    assert_eq!((error.code(), error.blame()), ("acme.wrong-certificate", Blame::Issuer));
    assert!(error.order_is_over() && said(&error).contains("another key"), "{}", said(&error));
    let planted = new_key(KeyType::EcdsaP256).unwrap();
    between.rule(move |asked| {
        let planted = planted.clone();
        match asked.path.starts_with("/certZ/") {
            true => Act::alter(move |answer| answer.body.extend(planted.as_bytes())),
            false => Act::Pass,
        }
    });
    let order = wanted(&["a.social.test"]);
    let error = bench.issue(&ca, &order).await.unwrap_err();
    assert!(said(&error).contains("something that is no certificate"), "{}", said(&error));
    assert!(!said(&error).contains("MI"), "{}", said(&error));
    // The certificate itself is good: it is fetched again.
    assert!(!error.order_is_over());
    between.rule(|_| Act::Pass);
    let resume = bench.journal.last();
    bench.issue(&ca, &Wanted { resume, ..order }).await.unwrap();
    assert_eq!(bench.world.pebble.issued(), 3);
}

#[tokio::test]
async fn a_ca_that_wants_more_time_gets_it_and_the_order_is_kept() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    between.rule({
        let mut finalized = false;
        move |asked| {
            finalized |= asked.path.starts_with("/finalize-order/");
            match finalized && asked.path.starts_with("/my-order/") {
                true => Act::alter(|answer| {
                    let text = String::from_utf8_lossy(&answer.body).replace("\"valid\"", "\"processing\"");
                    answer.body = text.into_bytes();
                    answer.headers.retain(|(name, _)| *name != "retry-after");
                    answer.headers.push(("retry-after", "18446744073709551615".to_owned()));
                }),
                false => Act::Pass,
            }
        }
    });
    let order = wanted(&["a.social.test"]);
    let error = bench.issue(&ca, &order).await.unwrap_err();
    assert_eq!(error.code(), "acme.processing", "{}", said(&error));
    assert!(matches!(error.retry(), Retry::NotBefore(_)) && !error.order_is_over());
    between.rule(|_| Act::Pass);
    let resume = bench.journal.last();
    bench.issue(&ca, &Wanted { resume, ..order }).await.unwrap();
    assert_eq!((bench.world.pebble.orders(), bench.world.pebble.issued()), (1, 1));
}

#[tokio::test]
async fn a_directory_that_is_none_is_refused() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let cases: [(Change, &str, &str); 6] = [
        (|_| Answer::new(200, "text/html", "<html>"), "acme.protocol", "cannot be understood"),
        (|_| Answer::new(200, "application/json", "{}"), "acme.protocol", "newNonce"),
        (|_| Answer::new(200, "application/json", vec![b'x'; 10 << 20]), "acme.protocol", "more than"),
        (|_| Answer::problem(500, "serverInternal", "broken"), "acme.server-error", "broken"),
        (
            |_| Answer::new(301, "text/html", "").header("location", "https://other.test/dir"),
            "acme.server-error",
            "301",
        ),
        (
            |mut answer| {
                answer.replace("/nonce-plz\"", "[bad\"");
                answer.replace("https://127", "https://[127");
                answer
            },
            "acme.protocol",
            "no https URL",
        ),
    ];
    for (change, code, words) in cases {
        between.rule(move |_| Act::alter(move |answer| *answer = change(answer.clone())));
        let error = bench.open().await.err().unwrap();
        assert_eq!(error.code(), code, "{}", said(&error));
        assert!(said(&error).contains(words), "{}", said(&error));
    }
    assert!(bench.accounts.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_ca_that_is_not_trusted_or_silent_or_away_is_told_apart() {
    let mut bench = Bench::new(Behaviour::default());
    bench.issuer.directory_ca = Some(bench.world.pebble.roots.clone());
    let error = bench.open().await.err().unwrap();
    assert_eq!((error.code(), error.blame()), ("acme.untrusted", Blame::Operator), "{}", said(&error));
    assert!(error.hint().unwrap().contains("issuer.pebble.directory-ca"));

    bench.issuer.directory_ca = Some(bench.world.dir.path().join("nowhere.pem"));
    let error = bench.open().await.err().unwrap();
    assert_eq!(error.code(), "acme.directory-ca", "{}", said(&error));
    bench.issuer.directory_ca = Some(bench.world.ns.secret_file.clone());
    let error = bench.open().await.err().unwrap();
    assert_eq!(error.code(), "acme.directory-ca", "{}", said(&error));

    bench.issuer.directory_ca = Some(bench.world.pebble.directory_ca.clone());
    let silent = std::net::TcpListener::bind((bench.world.spare_address(1), 0)).unwrap();
    let address = silent.local_addr().unwrap();
    bench.issuer.directory = format!("https://{address}/dir");
    let error = bench.open().await.err().unwrap();
    assert_eq!((error.code(), error.blame()), ("acme.timeout", Blame::Network), "{}", said(&error));
    drop(silent);
    let error = bench.open().await.err().unwrap();
    assert_eq!(error.code(), "acme.unreachable", "{}", said(&error));
    bench.issuer.directory = format!("http://{address}/dir");
    let error = bench.open().await.err().unwrap();
    assert_eq!(error.code(), "acme.protocol", "{}", said(&error));
}
