//! `certfleet alert test`, `list` and `ack`, as people use them.

use super::{Fleet, NAME};
use crate::world::web::Fault;

#[test]
fn trying_the_channels_says_of_each_whether_it_arrived() {
    let fleet = Fleet::new(&[NAME], &["chat", "mail"]);
    fleet
        .run(&["alert", "test"])
        .ended(0)
        .printed("ok    chat: delivered in ")
        .printed("ok    mail: delivered in ");
    assert_eq!(fleet.told(), ["chat warning test alerts.test", "mail warning test alerts.test"]);

    fleet.receiver("mail").fail(Some(Fault::Status(500, "no")));
    fleet
        .run(&["alert", "test"])
        .ended(1)
        .printed("ok    chat: delivered in ")
        .printed("fail  mail: ")
        .printed("answered `alert.mail` with 500");
    let json = fleet.run(&["alert", "test", "mail", "--json"]).ended(1).json();
    assert_eq!(
        (&json["channels"][0]["channel"], &json["channels"][0]["delivered"]),
        (&"mail".into(), &false.into())
    );
    fleet.run(&["alert", "test", "chat"]).ended(0);
    fleet.run(&["alert", "test", "chta"]).ended(2).said("`chta`").said("chat");
    assert!(!fleet.store().exists(), "trying a channel is nothing to remember");
}

#[test]
fn a_channel_that_is_not_in_order_is_tried_as_well() {
    let fleet = Fleet::with(&[NAME], &["chat", "mail"], "[alerting]\norder = [\"mail\"]\n");
    fleet
        .run(&["alert", "test"])
        .ended(0)
        .printed("ok    mail: delivered in ")
        .printed("ok    chat: delivered in ");
}

#[test]
fn an_unknown_alert_is_answered_with_those_there_are() {
    let fleet = Fleet::new(&[NAME], &["chat"]);
    fleet.run(&["alert", "list"]).ended(0).printed("nothing is wrong");
    fleet
        .run(&["alert", "ack", "a1b2c3"])
        .ended(2)
        .said("there is no alert `a1b2c3`")
        .said("nothing is wrong now");

    fleet.stored(NAME, 1, 100, 90);
    fleet.run(&["run", "--once"]);
    let alerts = fleet.open();
    let id = alerts[0]["id"].as_str().unwrap();
    fleet.run(&["alert", "ack", "a1b2c3"]).ended(2).said("open are").said(id).said(NAME);
    fleet
        .run(&["alert", "list"])
        .ended(0)
        .printed(&format!("{id}  EMERGENCY  `{NAME}` version 1 expired on "))
        .printed("told: chat, EMERGENCY at ")
        .printed(&format!("do: run `certfleet renew --force {NAME}`"))
        .printed(&format!("`certfleet alert ack {id}` takes it on"));
}

#[test]
fn a_unit_that_failed_is_told_unless_it_has_said_why_itself() {
    let fleet = Fleet::new(&[NAME], &["chat"]);
    fleet.stored(NAME, 1, 10, 90);
    let failed = |unit: &str, status: &str| {
        let mut command = crate::tool::command(&fleet.config, &["unit-failed", unit]);
        command.env("MONITOR_SERVICE_RESULT", "exit-code").env("MONITOR_EXIT_STATUS", status);
        crate::tool::finish(command.spawn().unwrap()).ended(0);
    };
    failed("certfleet-renew.service", "1");
    assert_eq!(fleet.told(), [""; 0], "a pass tells of its own failures");
    // A report that could not be made, or sent, is nobody's pass: nothing but this tells of it.
    failed("certfleet-report.service", "1");
    assert_eq!(fleet.told(), ["chat warning raised machine.unit-failed"]);
    let notice = fleet.receiver("chat").log()[0].json()["notice"].clone();
    assert!(
        notice["title"].as_str().unwrap().contains("`certfleet-report.service` has failed (exit-code 1)")
    );
    assert!(notice["next"].as_str().unwrap().contains("renewals go on"), "{notice}");
    assert!(fleet.open().is_empty());
    failed("certfleet-renew.service", "101");
    assert_eq!(fleet.told()[1..], ["chat critical raised pass.impossible"]);
}
