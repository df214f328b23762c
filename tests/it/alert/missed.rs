//! An alert that nobody sees: step by step, up to everybody; and the end of it.

use std::collections::BTreeMap;

use certfleet::model::history::How;
use jiff::Timestamp;

use super::{Fleet, NAME};

/// One step: what time it is, and what people are told then.
fn step(fleet: &Fleet, known: &mut BTreeMap<&'static str, usize>, at: &str, expected: &[&str]) {
    let ran = fleet.run_at(at, &["run", "--once"]);
    let news = fleet.news(known);
    // A transcript for people, with `--nocapture`.
    println!(
        "{at:>8}: {}",
        if news.is_empty() { "nobody is told anything".to_owned() } else { news.join("; ") }
    );
    assert_eq!(news, expected, "at {at}\n{}\n{}", ran.out, ran.err);
}

#[test]
fn a_missed_alert_climbs_until_somebody_sees_it_and_ends_with_a_notice_to_all() {
    let fleet = Fleet::new(&[NAME], &["chat", "mail", "pager"]);
    fleet.stored(NAME, 1, 70, 90);
    let mut known = BTreeMap::new();

    // Twenty days of ninety are left, and the CA is down.
    step(&fleet, &mut known, "+0", &["chat warning raised certificate.expires"]);
    step(&fleet, &mut known, "+2h", &[]);
    step(&fleet, &mut known, "+25h", &["chat warning repeated certificate.expires"]);
    // A sixth: nobody acknowledges it.
    step(&fleet, &mut known, "+7200m", &["chat critical worsened certificate.expires"]);
    step(&fleet, &mut known, "+7261m", &["mail critical escalated certificate.expires"]);
    step(&fleet, &mut known, "+7322m", &["pager critical escalated certificate.expires"]);
    step(&fleet, &mut known, "+7570m", &["chat critical repeated certificate.expires"]);

    let alerts = fleet.open();
    let main = alerts.iter().find(|alert| alert["code"] == "certificate.expires").expect("it is open");
    assert_eq!((main["level"].as_str(), main["told"].as_array().map(Vec::len)), (Some("critical"), Some(3)));
    let id = main["id"].as_str().unwrap();
    let mut ack = fleet.command_at("+7600m", &["alert", "ack", id]);
    ack.env("SUDO_USER", "eva");
    crate::tool::finish(ack.spawn().unwrap()).ended(0).printed("eva").printed(NAME);
    let alerts = fleet.open();
    let main = alerts.iter().find(|alert| alert["id"] == id).unwrap();
    assert_eq!(main["acknowledged"]["by"], "eva");

    step(&fleet, &mut known, "+9000m", &[]);
    // A twelfth: that was not acknowledged.
    step(
        &fleet,
        &mut known,
        "+18001m",
        &[
            "chat emergency worsened certificate.expires",
            "mail emergency worsened certificate.expires",
            "pager emergency worsened certificate.expires",
        ],
    );
    step(&fleet, &mut known, "+18031m", &[]);

    fleet.stored(NAME, 2, 0, 90);
    let ran = fleet.run_at("+18040m", &["renew"]).ended(0);
    let news = fleet.news(&mut known);
    println!("renewed : {}", news.join("; "));
    assert_eq!(
        news,
        [
            "chat emergency over certificate.expires",
            "mail emergency over certificate.expires",
            "pager emergency over certificate.expires",
        ],
        "{}",
        ran.err
    );
    assert!(fleet.open().is_empty());
    fleet.run(&["alert", "list"]).ended(0).printed("nothing is wrong");
    let history = fleet.run(&["history", "--json"]).ended(0).out;
    assert!(history.contains("\"acknowledged\"") && history.contains("\"told\""), "{history}");
}

#[test]
fn a_daemon_that_has_been_dead_for_ten_days_is_missed_by_the_timer() {
    let fleet = Fleet::new(&[NAME], &["chat"]);
    fleet.stored(NAME, 1, 10, 365);
    let store = certfleet::store::Store::open(&fleet.store()).unwrap();
    store.note_pass(How::Daemon, Timestamp::now(), true).unwrap();
    let mut known = BTreeMap::new();

    step(&fleet, &mut known, "+1h", &[]);
    step(&fleet, &mut known, "+10d", &[]);
    step(&fleet, &mut known, "+14462m", &["chat warning raised pass.silent"]);

    let alerts = fleet.open();
    let title = alerts[0]["title"].as_str().unwrap();
    assert!(title.starts_with("no complete pass by the daemon since "), "{title}");
    // It was removed on purpose: not an alarm for ever.
    fleet.run_at("+14470m", &["alert", "ack", alerts[0]["id"].as_str().unwrap()]).ended(0);
    step(&fleet, &mut known, "+14530m", &["chat warning over pass.silent"]);
    step(&fleet, &mut known, "+30d", &[]);
}
