//! The channels that are web addresses, against a server of our own.

use std::path::PathBuf;
use std::sync::Arc;

use certfleet::model::alert::{Level, Notice, Occasion};
use certfleet::model::problem::{Diagnose, Retry};
use certfleet::notify::{Channel, Message};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;

use super::{CANARY, a_notice, channel, document, fails, hostile, notice, send};
use crate::world::made::{Authority, write_private};
use crate::world::web::{Fault, Reply, Request, Web};

/// The channels, each with the path that its addresses have, and what the real one answers.
const CHANNELS: [(&str, &str); 4] = [
    ("discord", "/api/webhooks/1234567890/"),
    ("slack", "/services/T00000000/B00000000/"),
    ("ntfy", "/"),
    ("webhook", "/hooks/"),
];

struct Bench {
    web: Web,
    channel: Arc<dyn Channel>,
    dir: TempDir,
}

impl Bench {
    fn new(kind: &str, path: &str) -> Self {
        Self::with(kind, path, "timeout = '1s'", Web::start(answer))
    }

    fn with(kind: &str, path: &str, more: &str, web: Web) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = secret(&dir, "url", &web.url(&format!("{path}{CANARY}")));
        let channel = channel(&format!("channel = '{kind}'\nurl = {url}\n{more}"));
        Self { web, channel, dir }
    }

    fn received(&self, message: &Message) -> Request {
        send(&self.channel, message).unwrap_or_else(|error| panic!("{error:?}"));
        self.web.log().pop().unwrap()
    }
}

fn secret(dir: &TempDir, name: &str, text: &str) -> String {
    let path: PathBuf = dir.path().join(name);
    write_private(&path, text).unwrap();
    format!("{{ file = {path:?} }}")
}

/// As the four services answer: discord and ntfy with an id.
fn answer(request: &Request) -> Reply {
    match request.json() {
        Value::Object(_) => Reply::json(200, &json!({ "id": "77" })),
        _ => Reply::json(400, &json!({ "message": "not JSON" })),
    }
}

#[test]
fn a_notice_arrives_with_all_that_it_says() {
    for (kind, path) in CHANNELS {
        let bench = Bench::new(kind, path);
        let got = bench.received(&notice());
        assert_eq!((got.method.as_str(), got.header("content-type")), ("POST", "application/json"), "{kind}");
        let said = got.json().to_string().replace("\\\\", "");
        for part in [
            "critical: media.example.org ends in 12 days on 2 hosts",
            "sally serves version 7, valid until 2026-12-05 09:00 UTC, 12 days left",
            "letsencrypt refuses",
            "2026-11-20 10:00 UTC, 3 days ago",
            "tried again at 2026-11-23 15:00 UTC",
            "certfleet renew --force media.example.org",
            "certfleet alert ack k3v9",
        ] {
            // Discord has a backslash before a colon.
            assert!(
                said.contains(part) || said.replace('\\', "").contains(part),
                "{kind}: {part} is not in {said}"
            );
        }
        assert!(!got.json().to_string().contains(CANARY) || kind == "ntfy", "{kind}");
        send(&bench.channel, &document()).unwrap();
        assert_eq!(bench.web.requests(), 2);
    }
}

#[test]
fn what_goes_wrong_is_told_and_never_the_address() {
    for (kind, path) in CHANNELS {
        let bench = Bench::new(kind, path);
        for (fault, code) in [
            (Fault::Status(500, "{\"message\": \"no \u{1b}[2J\"}"), "notify.receiver-down"),
            (Fault::Status(502, "<html>bad gateway</html>"), "notify.receiver-down"),
            (Fault::Status(400, "invalid_payload"), "notify.refused"),
            (
                Fault::Status(404, "{\"message\": \"Unknown Webhook\", \"code\": 10015}"),
                "notify.unauthorized",
            ),
            (Fault::Status(401, ""), "notify.unauthorized"),
            (Fault::Status(403, "invalid_token"), "notify.unauthorized"),
            (Fault::Status(410, "channel_is_archived"), "notify.unauthorized"),
            (Fault::Hang, "notify.timeout"),
            (Fault::Drip, "notify.timeout"),
            (Fault::Endless, "notify.bad-reply"),
            (Fault::Close, "notify.connection"),
            (Fault::Redirect("http://127.0.0.1:1/elsewhere/canary1f8f7d1e-address"), "notify.redirect"),
        ] {
            bench.web.fail(Some(fault));
            fails(&bench.channel, code);
        }
        bench.web.fail(Some(Fault::Limited { status: 429, seconds: 120, times: 1 }));
        let error = send(&bench.channel, &notice()).unwrap_err();
        assert_eq!(error.code(), "notify.rate-limited");
        let Retry::NotBefore(until) = error.retry() else { panic!("{error:?}") };
        let wait = until.duration_since(jiff::Timestamp::now()).as_secs();
        assert!((60..=120).contains(&wait), "{wait}");
        // Mended, it works at once.
        bench.received(&notice());
        bench.web.stop();
        assert!(fails(&bench.channel, "notify.connection").contains("refused"));
    }
}

#[test]
fn a_server_that_repeats_the_address_does_not_get_it_into_a_message() {
    for (kind, path) in CHANNELS {
        let web = Web::start(|request| {
            let said = format!("not taken: {} {}", request.path, request.json());
            Reply::json(400, &json!({ "message": said }))
        });
        let bench = Bench::with(kind, path, "", web);
        assert!(fails(&bench.channel, "notify.refused").contains("[secret]"), "{kind}");
    }
}

#[test]
fn https_is_trusted_with_a_ca_of_ones_own_and_not_without() {
    let ca = Authority::new("a CA of our own").unwrap();
    let pair = ca.issue_for_address("127.0.0.1".parse().unwrap()).unwrap();
    for (kind, path) in CHANNELS {
        let bench = Bench::with(kind, path, "", Web::start_tls(&pair, answer));
        assert!(fails(&bench.channel, "notify.untrusted").contains("`alert.ops.ca`"));
        let file = bench.dir.path().join("ca.pem");
        std::fs::write(&file, ca.pem()).unwrap();
        let trusting = Bench::with(kind, path, &format!("ca = {file:?}"), Web::start_tls(&pair, answer));
        trusting.received(&notice());
        std::fs::write(&file, "nothing").unwrap();
        let broken = Bench::with(kind, path, &format!("ca = {file:?}"), Web::start_tls(&pair, answer));
        fails(&broken.channel, "notify.ca");
    }
}

#[test]
fn addresses_that_are_none_are_refused_unseen() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, _) in CHANNELS {
        for bad in ["http://192.0.2.1/canary1f8f7d1e-address", "canary1f8f7d1e-address", "file:///etc/passwd"]
        {
            let url = secret(&dir, "url", bad);
            fails(&channel(&format!("channel = '{kind}'\nurl = {url}")), "notify.bad-url");
        }
        fails(&channel(&format!("channel = '{kind}'\nurl = {{ file = '/nowhere/url' }}")), "notify.secret");
    }
    let url = secret(&dir, "url", "https://ntfy.sh/");
    assert!(fails(&channel(&format!("channel = 'ntfy'\nurl = {url}")), "notify.bad-url").contains("topic"));
}

#[test]
fn discord_gets_an_embed_that_nothing_hostile_can_shape() {
    let bench = Bench::new("discord", "/api/webhooks/1/");
    let got = bench.received(&notice());
    assert_eq!(got.query["wait"], "true");
    let embed = got.json()["embeds"][0].clone();
    assert_eq!(embed["color"], 0xf0_6a_20);
    assert_eq!(send(&bench.channel, &notice()).unwrap().as_deref(), Some("77"));
    for message in [hostile(), document()] {
        let payload = bench.received(&message).json();
        assert_eq!(payload["allowed_mentions"], json!({ "parse": [] }));
        assert!(payload.get("content").is_none());
        let text = |key: &str| payload["embeds"][0][key].as_str().unwrap().to_owned();
        let (title, description) = (text("title"), text("description"));
        assert!(title.chars().count() <= 256 && description.chars().count() <= 4096);
        assert!(!description.contains(|c: char| c.is_control() && c != '\n'));
        if matches!(message, Message::Notice(_)) {
            for bad in [" @everyone", " <@", "[x](", " `id`", "s://", " *b*", " _i_", " ||", "\n`"] {
                assert!(!description.contains(bad), "{bad} is in {description}");
            }
            assert!(description.contains("certfleet alert ack k3v9"));
        } else {
            assert!(description.starts_with("```\n") && description.ends_with("```"));
            assert_eq!(description.matches("```").count(), 2);
            assert!(description.contains("more lines do not fit here"));
        }
    }
}

#[test]
fn slack_gets_blocks_that_nothing_hostile_can_shape() {
    let bench = Bench::new("slack", "/services/");
    for message in [notice(), hostile(), document()] {
        let payload = bench.received(&message).json();
        let blocks = payload["attachments"][0]["blocks"].as_array().unwrap();
        let header = blocks[0]["text"]["text"].as_str().unwrap();
        let section = blocks[1]["text"]["text"].as_str().unwrap();
        assert!(header.chars().count() <= 150 && section.chars().count() <= 3000);
        assert_eq!(blocks[0]["text"]["type"], "plain_text");
        let is_notice = matches!(message, Message::Notice(_));
        assert_eq!(blocks[1]["text"]["type"], if is_notice { "plain_text" } else { "mrkdwn" });
        for text in [header, section, payload["text"].as_str().unwrap()] {
            assert!(!text.contains(['<', '>']), "{text}");
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
            let entities =
                text.matches("&lt;").count() + text.matches("&gt;").count() + text.matches("&amp;").count();
            assert_eq!(text.matches('&').count(), entities, "{text}");
        }
        assert!(!is_notice || section.contains("certfleet alert ack k3v9"));
    }
}

#[test]
fn ntfy_gets_the_topic_in_its_json_and_a_priority() {
    let dir = tempfile::tempdir().unwrap();
    let token = secret(&dir, "token", "tk_canary1f8f7d1e-address");
    let bench = Bench::with("ntfy", "/", &format!("token = {token}"), Web::start(answer));
    for (level, occasion, priority) in [
        (Level::Warning, Occasion::Raised, 3),
        (Level::Critical, Occasion::Escalated, 4),
        (Level::Emergency, Occasion::Repeated, 5),
        (Level::Emergency, Occasion::Over, 3),
    ] {
        let notice = Notice { level, occasion, ..a_notice() };
        let got = bench.received(&Message::Notice(Box::new(notice)));
        assert_eq!(
            (got.path.as_str(), got.header("authorization")),
            ("/", "Bearer tk_canary1f8f7d1e-address")
        );
        let payload = got.json();
        assert_eq!((&payload["topic"], &payload["priority"]), (&json!(CANARY), &json!(priority)));
    }
    for message in [hostile(), document()] {
        let payload = bench.received(&message).json();
        let said = payload["message"].as_str().unwrap();
        assert!(said.len() <= 4096 && payload["title"].as_str().unwrap().len() <= 250);
        assert!(!said.contains(|c: char| c.is_control() && c != '\n'));
    }
    bench.web.fail(Some(Fault::Status(403, "tk_canary1f8f7d1e-address may not")));
    assert!(fails(&bench.channel, "notify.unauthorized").contains("token"));
}

#[test]
fn a_webhook_gets_the_documented_json_signed() {
    let dir = tempfile::tempdir().unwrap();
    let key = secret(&dir, "key", "canary1f8f7d1e-address-key");
    let bench = Bench::with("webhook", "/hooks/", &format!("secret = {key}"), Web::start(answer));
    let got = bench.received(&notice());
    let payload = got.json();
    assert_eq!((&payload["version"], &payload["kind"]), (&json!(1), &json!("notice")));
    assert_eq!(payload["notice"], serde_json::to_value(a_notice()).unwrap());
    assert_eq!(payload["notice"]["level"], "critical");

    let signature = got.header("certfleet-signature").to_owned();
    let (time, code) = signature.split_once(",v1=").unwrap();
    let seconds: i64 = time.strip_prefix("t=").unwrap().parse().unwrap();
    assert!((jiff::Timestamp::now().as_second() - seconds).abs() < 60);
    let mut mac = Hmac::<Sha256>::new_from_slice(b"canary1f8f7d1e-address-key").unwrap();
    mac.update(format!("{seconds}.{}", got.body).as_bytes());
    let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(code, expected);

    let payload = bench.received(&document()).json();
    assert_eq!((&payload["kind"], &payload["title"]), (&json!("document"), &json!("expiry report")));
    assert_eq!(payload["document"]["certificates"][0]["name"], "media");
    assert!(Bench::new("webhook", "/").received(&notice()).header("certfleet-signature").is_empty());
}
