//! Channels, their order, and the heartbeat.

use certfleet::config::Config;

use super::wrong::{mistakes, wrong};
use super::{GOOD, read};

const OPS: &str = "[alert.ops]\nchannel = 'discord'\nurl = { env = 'URL' }\n";

fn config(tables: &str) -> Config {
    read(&format!("{GOOD}{tables}")).unwrap_or_else(|error| panic!("{error}"))
}

fn order(tables: &str) -> Vec<String> {
    config(tables).alert_order.iter().map(ToString::to_string).collect()
}

#[test]
fn without_tables_it_is_the_journal() {
    assert_eq!(order(""), ["journal"]);
    assert!(config("").heartbeat.is_none());
    let config = config("[heartbeat]\nurl = { env = 'BEAT' }\n");
    assert!(config.heartbeat.is_some() && config.secrets.iter().any(|(_, key, _)| key == "url"));
}

#[test]
fn the_order_is_the_files_unless_it_is_said() {
    let tables =
        format!("[alert.zz]\nchannel = 'exec'\ncommand = '/x'\n{OPS}[alert.aa]\nchannel = 'journal'\n");
    assert_eq!(order(&tables), ["zz", "ops", "aa"]);
    assert_eq!(order(&format!("{tables}[alerting]\norder = ['aa', 'ops']\n")), ["aa", "ops"]);
    assert_eq!(order(&format!("{tables}[alerting]\norder = 'ops'\n")), ["ops"]);
    // The journal is there for who asks.
    assert_eq!(order(&format!("{OPS}[alerting]\norder = ['ops', 'journal']\n")), ["ops", "journal"]);
    assert_eq!(config(&tables).channels.len(), 4);
    assert_eq!(config("[alert.journal]\nchannel = 'exec'\ncommand = '/x'\n").channels.len(), 1);
}

#[test]
fn each_channel_says_what_it_needs() {
    for (channel, needed) in [
        ("journal", &[][..]),
        ("discord", &["url"]),
        ("slack", &["url"]),
        ("webhook", &["url"]),
        ("ntfy", &["url"]),
        ("exec", &["command"]),
        ("email", &["server", "from", "to"]),
    ] {
        let text = format!("{GOOD}[alert.ops]\nchannel = '{channel}'\nx = 1\n");
        let list = mistakes(&text);
        let said: Vec<String> = list.iter().map(|mistake| mistake.summary().to_string()).collect();
        let needed = needed.iter().map(|key| format!("alert \"ops\" needs `{key}`"));
        let expected: Vec<String> = needed.chain(["unknown key \"x\"".to_owned()]).collect();
        assert_eq!(said, expected);
    }
}

#[test]
fn wrong_values_are_refused_with_their_remedy() {
    let with = |more: &str| format!("{GOOD}{OPS}{more}");
    for (tables, part) in [
        ("timeout = '0s'", "it goes from 1 second to 5 minutes"),
        ("timout = '5s'", "did you mean \"timeout\"?"),
        ("[alerting]\norder = ['opps']", "did you mean \"ops\"?"),
        ("[alerting]\norder = ['mail']", "defined are ops, journal"),
        ("[alerting]\norder = ['ops', 'ops']", "`order` names channel \"ops\" twice"),
        ("[alerting]\norder = []", "remove the key or name one"),
        ("[alerting]\norders = ['ops']", "did you mean \"order\"?"),
        ("[alert.b]", "alert \"b\" needs `channel`"),
        ("[alert.b]\nchannel = 'discrod'", "did you mean \"discord\"?"),
        ("[alert.b]\nchannel = 'pigeon'", "known are journal, discord"),
        (
            "[alert.b]\nchannel = 'slack'\nurl = 'https://hooks.slack.com/x'",
            "it is never written in certs.toml",
        ),
        ("[alert.\"b c\"]\nchannel = 'journal'", "cannot name a table of [alert]"),
        ("[alert]\nchannel = 'journal'", "stands directly in [alert]"),
        ("[heartbeat]", "[heartbeat] needs `url`"),
        ("[heartbeat]\nurl = 'https://hc.example/x'", "it is never written in certs.toml"),
    ] {
        wrong(&with(tables), part);
    }
}

#[test]
fn mail_needs_addresses_a_login_that_is_whole_and_encryption() {
    let mail = |more: &str| {
        let lines = "server = 'smtp.example.org'\nfrom = 'a@example.org'\nto = 'b@example.org'\n";
        let kept = lines.lines().filter(|line| {
            let key = line.split(' ').next().unwrap();
            !more.lines().any(|line| line.starts_with(&format!("{key} ")))
        });
        format!("{GOOD}[alert.m]\nchannel = 'email'\n{}\n{more}\n", kept.collect::<Vec<_>>().join("\n"))
    };
    assert!(read(&mail("")).is_ok());
    assert!(read(&mail("server = '127.0.0.1:25'\nencryption = 'none'")).is_ok());
    for (lines, part) in [
        ("server = 'smtp.example.org:x'", "its port is none"),
        ("server = 'smtp://example.org'", "as in \"smtp.example.org:587\""),
        ("encryption = 'ssl'", "\"starttls\" (port 587), \"tls\" (port 465)"),
        ("encryption = 'none'", "without encryption to another machine"),
        ("username = 'a'", "has `username` or `password` without the other"),
        ("username = 'a'\npassword = 'hunter2'", "it is never written in certs.toml"),
        ("from = 'certfleet'", "it is not a mail address"),
        ("from = \"a@example.org\\r\\nBcc: x@example.org\"", "an address has no control characters"),
        ("to = []", "remove the key or name one"),
        ("to = ['b@example.org', 'c']", "`to` cannot contain \"c\""),
    ] {
        let text = mail(lines);
        let list = mistakes(&text);
        assert!(list.iter().any(|mistake| mistake.to_string().contains(part)), "{part}: {list:?}");
        assert!(!format!("{}", read(&text).unwrap_err()).contains("hunter2"));
    }
}
