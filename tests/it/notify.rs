//! Channels: each against the real thing or a stand-in, all by one contract.

mod email;
mod exec;
mod http;
mod journal;

use std::path::Path;
use std::sync::Arc;

use certfleet::config::parse;
use certfleet::model::alert::{Level, Notice, Occasion, Subject};
use certfleet::model::problem::{Diagnose, Problem};
use certfleet::notify::{Channel, Error, Message};
use serde_json::json;

/// What no message, log or program may ever be told.
const CANARY: &str = "canary1f8f7d1e-address";

/// What CAs, hosts and people of ill will say.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;pwn\u{7}\u{9b}31m</td><script>alert(1)</script> @everyone <!channel> \
                       <@1> [x](javascript:alert) ```\n`id` *b* _i_ ~s~ || \"}\\ \r\nBcc: evil@example.org\r\n\r\n.\r\n\
                       QUIT\r\n{{7*7}} https://evil.example \u{202e}gnp";

/// The channel of a table.
fn channel(table: &str) -> Arc<dyn Channel> {
    let text = format!(
        "[issuer.letsencrypt]\ncontact = [\"ops@example.org\"]\naccept-terms = true\n[dns.main]\nprovider = \"exec\"\n\
         command = \"/x\"\n[alert.ops]\n{table}\n[[certificate]]\ndomains = [\"www.example.org\"]\nhosts = []\n"
    );
    let config =
        parse(&text, Path::new("/etc/certfleet/certs.toml")).unwrap_or_else(|error| panic!("{error}"));
    Arc::clone(&config.channels[&config.alert_order[0]])
}

/// Sends, in a runtime of its own.
fn send(channel: &Arc<dyn Channel>, message: &Message) -> Result<Option<String>, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let channel = Arc::clone(channel);
    let message = message.clone();
    let sent = runtime.block_on(async move { channel.send(&message).await });
    runtime.shutdown_background();
    sent
}

/// That it fails with this code, with a remedy, and without the canary; all that is said.
fn fails(channel: &Arc<dyn Channel>, code: &str) -> String {
    let error = send(channel, &notice()).expect_err("it was delivered");
    let problem = Problem::of(&error);
    let shown = format!("{} {error:?} {channel:?} {problem:?}", problem.one_line());
    assert_eq!(error.code(), code, "{shown}");
    assert!(!shown.contains(CANARY), "{shown}");
    assert!(!shown.contains(|c: char| c.is_control()), "{shown:?}");
    assert!(problem.message.contains("`alert.ops"), "{shown}");
    format!("{} {}", problem.one_line(), problem.hint.unwrap_or_default())
}

fn a_notice() -> Notice {
    let subject = |host: &str| Subject {
        certificate: Some("media.example.org".parse().unwrap()),
        host: Some(host.parse().unwrap()),
        text: format!("{host} serves version 7, valid until 2026-12-05 09:00 UTC, 12 days left"),
    };
    Notice {
        alert: "k3v9".to_owned(),
        occasion: Occasion::Raised,
        level: Level::Critical,
        at: "2026-11-23T14:10:00Z".parse().unwrap(),
        since: "2026-11-20T10:00:00Z".parse().unwrap(),
        code: "served.expires".to_owned(),
        title: "media.example.org ends in 12 days on 2 hosts".to_owned(),
        subjects: vec![subject("sally"), subject("esme")],
        more: 0,
        reason: Some("letsencrypt refuses to issue for it".to_owned()),
        next: Some("tried again at 2026-11-23 15:00 UTC".to_owned()),
        remedy: Some("certfleet renew --force media.example.org".to_owned()),
    }
}

fn notice() -> Message {
    Message::Notice(Box::new(a_notice()))
}

/// A notice of which every text is hostile, long and many.
fn hostile() -> Message {
    let long = format!("{HOSTILE}{}", "x".repeat(5000));
    let subject = Subject { certificate: None, host: None, text: long.clone() };
    Message::Notice(Box::new(Notice {
        title: long.clone(),
        subjects: vec![subject; 50],
        more: 450,
        reason: Some(long.clone()),
        next: Some(long.clone()),
        remedy: Some(long),
        ..a_notice()
    }))
}

fn document() -> Message {
    Message::Document {
        title: "expiry report".to_owned(),
        text: format!(
            "certificate  host   days\nmedia        sally  12\n{}",
            "a further line\n".repeat(2000)
        ),
        html: Some("<!doctype html><title>r</title><p class=late>media: 12 days</p>".to_owned()),
        json: Some(json!({ "certificates": [{ "name": "media" }] })),
    }
}
