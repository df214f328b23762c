//! Mail, to a real server, read from outside; and to servers that nobody would want.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use certfleet::model::alert::{Notice, Occasion};
use certfleet::notify::{Channel, Message};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{a_notice, channel, document, fails, hostile, notice, send};
use crate::world::made::{Authority, write_private};
use crate::world::smtp::{Bad, LOGIN, Mail, Mood};

/// A server, and the files that a channel needs to reach it.
struct Bench {
    mail: Mail,
    dir: TempDir,
}

impl Bench {
    fn start(encryption: &str) -> Self {
        let ca = Authority::new("a CA of our own").unwrap();
        let pair = ca.issue_for_address("127.0.0.1".parse().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        write_private(&dir.path().join("right"), LOGIN.1).unwrap();
        write_private(&dir.path().join("wrong"), "canary1f8f7d1e-address").unwrap();
        Self { mail: Mail::start(encryption, &pair).unwrap(), dir }
    }

    fn channel(&self, more: &str) -> Arc<dyn Channel> {
        self.channel_to("to = ['ops@example.org']", more)
    }

    fn channel_to(&self, to: &str, more: &str) -> Arc<dyn Channel> {
        channel(&format!(
            "channel = 'email'\nserver = '{}'\nfrom = 'certfleet <certfleet@example.org>'\n{to}\n{more}",
            self.mail.address
        ))
    }

    fn ca(&self) -> String {
        format!("ca = {:?}\n", self.dir.path().join("ca.pem"))
    }

    fn login(&self, file: &str) -> String {
        format!("username = '{}'\npassword = {{ file = {:?} }}\n", LOGIN.0, self.dir.path().join(file))
    }

    /// The one mail that a message makes.
    fn received(&self, channel: &Arc<dyn Channel>, message: &Message) -> Value {
        let before = self.mail.received().len();
        let id = send(channel, message).unwrap_or_else(|error| panic!("{error:?}")).unwrap();
        let mut mails = self.mail.received();
        assert_eq!(mails.len(), before + 1);
        let mail = mails.pop().unwrap();
        assert_eq!(header(&mail, "Message-ID"), id);
        mail
    }
}

/// The one header of this name.
fn header(mail: &Value, name: &str) -> String {
    let found = headers(mail, name);
    assert_eq!(found.len(), 1, "{name}: {mail:#}");
    found[0].clone()
}

fn headers(mail: &Value, name: &str) -> Vec<String> {
    let all = mail["headers"].as_array().unwrap().iter();
    let named = all.filter(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(name));
    named.map(|header| header[1].as_str().unwrap().to_owned()).collect()
}

const PLAIN: &str = "encryption = 'none'";

#[test]
fn a_notice_is_a_mail_that_a_reader_understands() {
    let bench = Bench::start("none");
    let to = "to = ['ops@example.org', '\"Müller, die\" <second@example.org>']";
    let mail = bench.received(&bench.channel_to(to, PLAIN), &notice());
    assert_eq!(mail["from"], "certfleet@example.org");
    assert_eq!(mail["to"], json!(["ops@example.org", "second@example.org"]));
    assert_eq!(header(&mail, "From"), "certfleet <certfleet@example.org>");
    assert_eq!(header(&mail, "To"), "ops@example.org, \"Müller, die\" <second@example.org>");
    assert_eq!(header(&mail, "Subject"), "critical: media.example.org ends in 12 days on 2 hosts");
    assert_eq!(header(&mail, "Auto-Submitted"), "auto-generated");
    assert_eq!(header(&mail, "X-Certfleet-Level"), "critical");
    assert_eq!(header(&mail, "X-Certfleet-Alert"), "k3v9");
    assert_eq!((headers(&mail, "Date").len(), headers(&mail, "Bcc").len()), (1, 0));
    assert_eq!(
        (&mail["type"], &mail["tls"], &mail["login"]),
        (&json!("text/plain"), &json!(false), &json!(false))
    );
    let text = mail["parts"][0][1].as_str().unwrap();
    for part in [
        "- sally serves version 7, valid until 2026-12-05 09:00 UTC, 12 days left",
        "why: letsencrypt refuses to issue for it",
        "do: certfleet renew --force media.example.org",
        "acknowledge: certfleet alert ack k3v9",
        "\n-- \ncertfleet on ",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    well_made(&mail);
}

/// That no server on the way has a reason to change or refuse it.
fn well_made(mail: &Value) {
    assert_eq!(mail["defects"], json!([]), "{mail:#}");
    assert_eq!((&mail["ascii"], &mail["bare"]), (&json!(true), &json!(0)), "{mail:#}");
    // RFC 5322 section 2.1.1.
    assert!(mail["longest"].as_u64().unwrap() <= 998, "{mail:#}");
    assert!(!header(mail, "Date").is_empty());
}

#[test]
fn all_mails_of_an_alert_are_one_thread_and_each_has_a_name_of_its_own() {
    let bench = Bench::start("none");
    let channel = bench.channel(PLAIN);
    let of = |alert: &str, occasion, title: &str| {
        let notice = Notice { alert: alert.to_owned(), occasion, title: title.to_owned(), ..a_notice() };
        bench.received(&channel, &Message::Notice(Box::new(notice)))
    };
    let raised = of("k3v9", Occasion::Raised, "it is so");
    let again = of("k3v9", Occasion::Raised, "it is so");
    let over = of("k3v9", Occasion::Over, "it is so no more");
    let other = of("m2c4", Occasion::Raised, "it is so");
    let id = |mail: &Value| header(mail, "Message-ID");
    assert_eq!(id(&raised), id(&again), "sent again it is the same mail");
    assert!(id(&raised) != id(&over) && id(&raised) != id(&other));
    let thread = header(&raised, "References");
    for mail in [&raised, &again, &over] {
        assert_eq!((&header(mail, "References"), &header(mail, "In-Reply-To")), (&thread, &thread));
    }
    assert!(header(&other, "References") != thread);
    let document = bench.received(&channel, &document());
    assert!(headers(&document, "References").is_empty());
    assert!(
        id(&document) != id(&bench.received(&channel, &super::document())),
        "every report is a mail of its own"
    );
}

#[test]
fn hostile_words_bring_no_header_no_recipient_and_no_second_mail() {
    let bench = Bench::start("none");
    let mail = bench.received(&bench.channel(PLAIN), &hostile());
    well_made(&mail);
    assert_eq!(mail["to"], json!(["ops@example.org"]));
    assert_eq!((headers(&mail, "Bcc").len(), headers(&mail, "To").len()), (0, 1));
    assert_eq!(mail["type"], "text/plain");
    let (subject, text) = (header(&mail, "Subject"), mail["parts"][0][1].as_str().unwrap());
    assert!(subject.len() <= 300 && subject.contains("Bcc: evil@example.org"), "{subject}");
    let safe = |text: &str| !text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}');
    assert!(safe(&subject) && safe(text) && text.contains("certfleet alert ack k3v9"));
    // A line that is a dot is a line.
    let message = Message::Document {
        title: "a\r\nBcc: evil@example.org\r\n\r\nbody".to_owned(),
        text: "one\r\n.\r\nQUIT\n.\n..two\n\nüäö".to_owned(),
        html: None,
        json: None,
    };
    let mail = bench.received(&bench.channel(PLAIN), &message);
    well_made(&mail);
    assert_eq!(headers(&mail, "Bcc").len(), 0);
    let text = mail["parts"][0][1].as_str().unwrap();
    assert!(text.starts_with("one\n.\nQUIT\n.\n..two\n\nüäö\n"), "{text:?}");
}

#[test]
fn a_report_is_text_and_page() {
    let bench = Bench::start("none");
    let mail = bench.received(&bench.channel(PLAIN), &document());
    assert_eq!(
        (&mail["type"], header(&mail, "Subject").as_str()),
        (&json!("multipart/alternative"), "expiry report")
    );
    let parts = mail["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 2);
    assert_eq!((&parts[0][0], &parts[1][0]), (&json!("text/plain"), &json!("text/html")));
    assert!(parts[0][1].as_str().unwrap().contains("media        sally  12\na further line\n"));
    assert!(parts[1][1].as_str().unwrap().contains("<p class=late>media: 12 days</p>"));
    well_made(&mail);
    // As pages are: one line without an end, in all alphabets.
    let html = format!("<!doctype html><p>{}</p>", "жüд ".repeat(20_000));
    let message = Message::Document {
        title: "Übersicht: жизнь 🔒".repeat(20),
        text: "x".repeat(5000),
        html: Some(html.clone()),
        json: None,
    };
    let mail = bench.received(&bench.channel(PLAIN), &message);
    well_made(&mail);
    assert!(header(&mail, "Subject").starts_with("Übersicht: жизнь 🔒Übersicht"));
    assert_eq!(mail["parts"][1][1].as_str().unwrap().trim_end(), html);
}

#[test]
fn with_starttls_and_with_tls_the_certificate_must_be_trusted_and_the_login_right() {
    for encryption in ["starttls", "tls"] {
        let bench = Bench::start(encryption);
        let mode = format!("encryption = '{encryption}'\n");
        let (ca, right) = (bench.ca(), bench.login("right"));
        let mail = bench.received(&bench.channel(&format!("{mode}{ca}{right}")), &notice());
        assert_eq!((&mail["tls"], &mail["login"]), (&json!(true), &json!(true)), "{encryption}");
        assert_eq!(mail["hello"].as_str().unwrap().matches(['.', '[']).count().min(1), 1);

        let said =
            fails(&bench.channel(&format!("{mode}{ca}{}", bench.login("wrong"))), "notify.unauthorized");
        assert!(
            said.contains("535 to the login: 5.7.8 who is that?") && said.contains("`alert.ops.username`"),
            "{said}"
        );
        let said = fails(&bench.channel(&format!("{mode}{right}")), "notify.untrusted");
        assert!(said.contains("`alert.ops.ca`"), "{said}");
        let other = bench.dir.path().join("other.pem");
        std::fs::write(&other, Authority::new("somebody else").unwrap().pem()).unwrap();
        fails(&bench.channel(&format!("{mode}{right}ca = {other:?}\n")), "notify.untrusted");
        std::fs::write(&other, "nothing").unwrap();
        fails(&bench.channel(&format!("{mode}{right}ca = {other:?}\n")), "notify.ca");
        fails(&bench.channel(&format!("{mode}{ca}{}", bench.login("none"))), "notify.secret");
        assert_eq!(bench.mail.received().len(), 1);
    }
    let bench = Bench::start("starttls");
    let said =
        fails(&bench.channel(&format!("encryption = 'starttls'\n{}", bench.ca())), "notify.unauthorized");
    assert!(said.contains("530"), "{said}");
    // The one where the other is wanted.
    let said = fails(
        &bench.channel(&format!("encryption = 'tls'\ntimeout = '2s'\n{}", bench.ca())),
        "notify.connection",
    );
    assert!(said.contains("`alert.ops.encryption`"), "{said}");
    let bench = Bench::start("tls");
    let said = fails(
        &bench.channel(&format!("encryption = 'starttls'\ntimeout = '1s'\n{}", bench.ca())),
        "notify.timeout",
    );
    assert!(said.contains("465 is \"tls\""), "{said}");
}

#[test]
fn without_starttls_nothing_is_said_that_matters() {
    let bench = Bench::start("none");
    let login = bench.login("right");
    let said = fails(&bench.channel(&format!("encryption = 'starttls'\n{login}")), "notify.refused");
    assert!(said.contains("it offers no STARTTLS, so nothing was sent"), "{said}");
    assert_eq!(bench.mail.received().len(), 0);
    let mail = bench.received(&bench.channel(&format!("{PLAIN}\n{login}")), &notice());
    assert_eq!(mail["login"], true);
}

#[test]
fn what_the_server_says_to_sender_recipients_and_mail_is_told() {
    let bench = Bench::start("none");
    let to = |to: &str| bench.channel_to(&format!("to = {to}"), PLAIN);
    let said = fails(&to("['gone@example.org']"), "notify.refused");
    assert!(
        said.contains("550 to the recipient: 5.1.1 no such user") && said.contains("`alert.ops.to`"),
        "{said}"
    );
    assert!(fails(&to("['later@example.org']"), "notify.receiver-down").contains("451"));
    assert!(fails(&to("['full@example.org']"), "notify.refused").contains("552 to the mail"));
    let stranger = format!(
        "channel = 'email'\nserver = '{}'\nfrom = 'stranger@example.org'\nto = 'ops@example.org'\n{PLAIN}",
        bench.mail.address
    );
    assert!(fails(&channel(&stranger), "notify.refused").contains("553 to the sender"));
    assert_eq!(bench.mail.received().len(), 0);
    // One address that is gone keeps the alert from nobody else, and is named.
    let some = to("['gone@example.org', 'ops@example.org', 'later@example.org']");
    let said = fails(&some, "notify.partly");
    assert!(said.contains("gone@example.org: it answered 550") && said.contains("later@"), "{said}");
    assert!(said.contains("but not to ") && said.contains("`alert.ops.to`"), "{said}");
    assert_eq!(bench.mail.received()[0]["to"], json!(["ops@example.org"]));
    let all = fails(&to("['gone@example.org', 'gone@example.com']"), "notify.refused");
    assert!(all.contains("550"), "{all}");
    assert_eq!(bench.mail.received().len(), 1);
    // Addresses in other alphabets, where the server can.
    let mail = bench.received(&to("['почта@example.org']"), &notice());
    assert_eq!(mail["to"], json!(["почта@example.org"]));
}

#[test]
fn a_bad_server_is_given_up_in_time_and_in_little_memory() {
    let to = |bad: &Bad, more: &str| {
        channel(&format!(
            "channel = 'email'\nserver = '{}'\nfrom = 'certfleet@example.org'\nto = 'ops@example.org'\n{more}",
            bad.address
        ))
    };
    for (mood, code, words) in [
        (Mood::Silent, "notify.timeout", "within 1 s"),
        (Mood::Drip, "notify.timeout", "within 1 s"),
        (Mood::EndlessLine, "notify.bad-reply", "an answer of more than 64 KiB"),
        (Mood::EndlessLines, "notify.bad-reply", "an answer of more than 64 KiB"),
        (Mood::Close, "notify.connection", "closed the connection"),
        (Mood::Web, "notify.bad-reply", "HTTP/1.1 400 Bad Request"),
        (Mood::Greeting("554 go away\r\n"), "notify.refused", "554 to the connection: go away"),
        (
            Mood::Greeting("421-busy\r\n421 later\r\n"),
            "notify.receiver-down",
            "421 to the connection: busy later",
        ),
        (Mood::Greeting("220 half a li"), "notify.connection", "closed the connection"),
        (Mood::Greeting("2\r\n"), "notify.bad-reply", "no answer of a mail server"),
        (Mood::Greeting("220+x\r\n"), "notify.bad-reply", "no answer of a mail server"),
        (Mood::Greeting("étrange\r\n"), "notify.bad-reply", "no answer of a mail server"),
    ] {
        for encryption in ["none", "starttls"] {
            let bad = Bad::start(mood);
            let said = fails(&to(&bad, &format!("encryption = '{encryption}'\ntimeout = '1s'")), code);
            assert!(said.contains(words), "{mood:?}: {said}");
        }
    }
    let bad = Bad::start(Mood::Inject);
    let said = fails(&to(&bad, "encryption = 'starttls'"), "notify.bad-reply");
    assert!(said.contains("somebody may be in between"), "{said}");
    assert!(!bad.heard().iter().any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")));
    for mood in [Mood::NoFarewell, Mood::Latin] {
        let bad = Bad::start(mood);
        send(&to(&bad, PLAIN), &notice()).unwrap_or_else(|error| panic!("{mood:?}: {error:?}"));
        assert_eq!(bad.heard().iter().filter(|line| *line == "DATA").count(), 1);
    }
    let gone = Bad::start(Mood::Close).address;
    let table = format!(
        "channel = 'email'\nserver = '{gone}'\nfrom = 'a@example.org'\nto = 'b@example.org'\n{PLAIN}"
    );
    assert!(!fails(&channel(&table), "notify.connection").is_empty());
}

#[test]
fn a_server_that_repeats_the_login_does_not_get_it_into_a_message() {
    let dir = tempfile::tempdir().unwrap();
    write_private(&dir.path().join("password"), "canary1f8f7d1e-address").unwrap();
    let bad = Bad::start(Mood::Echo);
    let channel = channel(&format!(
        "channel = 'email'\nserver = '{}'\nfrom = 'certfleet@example.org'\nto = 'ops@example.org'\n{PLAIN}\n\
         username = 'certfleet'\npassword = {{ file = {:?} }}",
        bad.address,
        dir.path().join("password")
    ));
    let said = fails(&channel, "notify.unauthorized");
    assert!(said.contains("not taken: AUTH PLAIN [secret]"), "{said}");
    // It did get it.
    let login = STANDARD.encode("\0certfleet\0canary1f8f7d1e-address");
    assert!(bad.heard().contains(&format!("AUTH PLAIN {login}")), "{:?}", bad.heard());
}
