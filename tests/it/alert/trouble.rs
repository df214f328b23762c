//! Receivers that are broken, a store that is, and many who tell people at once.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{Fleet, NAME, read};
use crate::tool::{command, finish};
use crate::world::made::{Authority, write_private};
use crate::world::smtp::Mail;
use crate::world::web::{Fault, Reply, Web};

/// A fleet with a certificate that has expired: everybody is to be told, now.
fn expired(channels: &[&'static str]) -> Fleet {
    let fleet = Fleet::new(&[NAME], channels);
    fleet.stored(NAME, 1, 100, 90);
    fleet
}

#[test]
fn a_broken_channel_holds_up_no_other_and_is_told_when_it_works_again() {
    let faults = [
        Fault::Status(500, "no"),
        Fault::Hang,
        Fault::Drip,
        Fault::Redirect("http://127.0.0.1:1/elsewhere"),
        Fault::Close,
        Fault::Endless,
        Fault::Limited { status: 429, seconds: 10, times: 5 },
    ];
    thread::scope(|scope| {
        for fault in faults {
            scope.spawn(move || {
                let fleet = expired(&["chat", "mail"]);
                fleet.receiver("chat").fail(Some(fault));
                let mut known = BTreeMap::new();

                let ran = fleet.run_at("+0", &["run", "--once"]);
                assert_eq!(ran.code, 1, "{fault:?}\n{}", ran.err);
                assert_eq!(
                    fleet.news(&mut known),
                    ["mail emergency raised certificate.expires"],
                    "{fault:?}"
                );
                let ran =
                    ran.said("error: `chat` could not be told: `media.social.test` version 1 expired on ");
                let ran = ran.said("  cause: ").said("  next: tried again from ").said("  hint: ");
                assert!(
                    !ran.err.contains("hook-of-a-secret"),
                    "{fault:?}: the address is shown\n{}",
                    ran.err
                );

                fleet.receiver("chat").fail(None);
                fleet.run_at("+20m", &["run", "--once"]);
                assert_eq!(
                    fleet.news(&mut known),
                    ["chat emergency raised certificate.expires"],
                    "{fault:?}"
                );
            });
        }
    });
}

#[test]
fn with_all_channels_dead_the_journal_is_left_and_the_watcher_outside_hears_of_it() {
    let watcher = Web::start(|_| Reply::empty(200));
    let secret = tempfile::NamedTempFile::new().unwrap();
    write_private(secret.path(), &watcher.url("/ping/1f8a-secret")).unwrap();
    let heartbeat = format!("[heartbeat]\nurl = {{ file = {:?} }}\n", secret.path());
    let fleet = Fleet::with(&[NAME], &["chat", "mail"], &heartbeat);
    fleet.stored(NAME, 1, 10, 90);
    let calls = |from: usize| -> Vec<String> {
        let log = watcher.log();
        log[from..].iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    };

    fleet.run(&["run", "--once"]).ended(0);
    assert_eq!(calls(0), ["GET /ping/1f8a-secret"]);
    fleet.run(&["renew"]).ended(0);
    assert_eq!(calls(1), [""; 0], "a person's pass is no sign that the timer works");

    for channel in ["chat", "mail"] {
        fleet.receiver(channel).stop();
    }
    let ran = fleet.run_at("+81d", &["run", "--once"]).ended(1);
    let ran = ran.said("`chat` could not be told").said("`mail` could not be told");
    assert!(!ran.err.contains("1f8a-secret"), "{}", ran.err);
    assert_eq!(calls(1), ["POST /ping/1f8a-secret/fail"]);
    let body = watcher.log()[1].body.clone();
    assert!(body.contains("could not be delivered, the first to `chat`"), "{body}");
    let alerts = fleet.open();
    let told = alerts[0]["told"].as_array().unwrap();
    let of =
        |channel: &str| told.iter().find(|told| told["channel"] == channel).unwrap()["delivered"].clone();
    assert_eq!((of("chat"), of("mail"), of("journal")), (false.into(), false.into(), true.into()));

    // The watcher itself is dead: said, and tried again.
    watcher.stop();
    let fleet = Fleet::with(&[NAME], &["chat"], &heartbeat);
    fleet.stored(NAME, 1, 10, 90);
    let ran = fleet.run(&["run", "--once"]).ended(1);
    let ran = ran.said("next: called again after the next complete pass");
    assert!(!ran.err.contains("1f8a-secret"), "{}", ran.err);
    fleet.run_at("+100m", &["run", "--once"]).ended(1);
    assert_eq!(fleet.told(), ["chat warning raised heartbeat.failing"]);
}

#[test]
fn five_hundred_certificates_that_fail_for_one_cause_are_one_alert() {
    let names: Vec<String> = (0..500).map(|number| format!("n{number}.social.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let fleet = Fleet::new(&names, &["chat"]);

    fleet.run_at("+0", &["run", "--once"]).ended(1);
    assert_eq!(fleet.told(), [""; 0], "an hour of patience");
    fleet.run_at("+2h", &["run", "--once"]).ended(1);

    assert_eq!(fleet.told(), ["chat warning raised renewal.failing"]);
    let notice = fleet.receiver("chat").log()[0].json()["notice"].clone();
    assert_eq!((notice["subjects"].as_array().unwrap().len(), &notice["more"]), (50, &450.into()));
    assert!(notice["title"].as_str().unwrap().starts_with("500 certificates cannot be renewed"), "{notice}");
    assert_eq!(fleet.open()[0]["subjects"].as_array().unwrap().len(), 500);
}

#[test]
fn who_is_killed_while_telling_has_not_told() {
    let fleet = expired(&["chat"]);
    fleet.receiver("chat").fail(Some(Fault::Hang));
    let mut child = command(&fleet.config, &["run", "--once"]).spawn().unwrap();
    let begun = Instant::now();
    while fleet.receiver("chat").requests() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody calls");
        thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();

    fleet.receiver("chat").fail(None);
    fleet.run(&["run", "--once"]);
    fleet.run(&["run", "--once"]);
    assert_eq!(fleet.told(), ["chat emergency raised certificate.expires"]);
}

#[test]
fn many_at_once_tell_it_once() {
    let fleet = expired(&["chat", "mail"]);
    let children: Vec<_> = (0..12)
        .map(|number| match number % 3 {
            0 => command(&fleet.config, &["renew", "--force"]).spawn().unwrap(),
            _ => command(&fleet.config, &["run", "--once"]).spawn().unwrap(),
        })
        .collect();
    for child in children {
        finish(child);
    }
    assert_eq!(
        fleet.told(),
        ["chat emergency raised certificate.expires", "mail emergency raised certificate.expires"]
    );
}

#[test]
fn with_a_full_disk_people_are_told_of_that_too() {
    let fleet = expired(&["chat"]);
    // Files cannot grow: the same as a full disk, without a file system of one's own.
    let run = command(&fleet.config, &["run", "--once"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"]);
    shell.arg(run.get_program()).args(run.get_args());
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = finish(shell.spawn().unwrap()).ended(1);

    let ran = ran.said("a limit of file sizes is in force");
    assert_eq!(
        fleet.told(),
        ["chat emergency raised certificate.expires", "chat critical raised pass.impossible"],
        "{}",
        ran.err
    );
    // What was told then was not written down: told once more, and from then on as always.
    fleet.run(&["run", "--once"]);
    fleet.run(&["run", "--once"]);
    assert_eq!(fleet.told().len(), 3, "{:?}", fleet.told());
}

#[test]
fn a_damaged_memory_is_put_aside_and_alerts_go_on() {
    let fleet = expired(&["chat"]);
    fleet.run(&["run", "--once"]);
    let path = fleet.store().join("alerts.json");
    let damaged = &read(&path)[..100].to_owned();
    fs::write(&path, damaged).unwrap();

    fleet
        .run(&["run", "--once"])
        .ended(1)
        .said("what is remembered about alerts could not be read, and was moved to ")
        .said("alerts.json is damaged: its end is missing");

    let told = fleet.told();
    let expected = [
        "chat emergency raised certificate.expires",
        "chat emergency raised certificate.expires",
        "chat critical raised store.unreadable",
    ];
    assert_eq!(told, expected);
    let aside = fs::read_dir(fleet.store()).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<_> =
        aside.filter(|path| path.to_string_lossy().contains("alerts.json.damaged-")).collect();
    assert_eq!(aside.len(), 1);
    assert_eq!(&read(&aside[0]), damaged);
    fleet.run(&["run", "--once"]);
    let over = fleet.told();
    assert_eq!(over[3..], ["chat critical over store.unreadable"]);
}

#[test]
fn a_mail_that_not_all_get_is_told_elsewhere_and_sent_to_nobody_twice() {
    let pair = Authority::new("a CA").unwrap().issue_for_address("127.0.0.1".parse().unwrap()).unwrap();
    let mail = Mail::start("none", &pair).unwrap();
    let table = format!(
        "[alert.mail]\nchannel = \"email\"\nserver = \"{}\"\nencryption = \"none\"\n\
         from = \"certfleet@social.test\"\nto = [\"gone@social.test\", \"ops@social.test\"]\n\
         [alerting]\norder = [\"mail\", \"chat\"]\n",
        mail.address
    );
    let fleet = Fleet::with(&[NAME], &["chat"], &table);
    // A quarter: nobody but the first channel is told of that.
    fleet.stored(NAME, 1, 70, 90);
    let mut known = BTreeMap::new();

    fleet.run_at("+0", &["run", "--once"]);
    assert_eq!(mail.received().len(), 1);
    assert_eq!(mail.received()[0]["to"], json!(["ops@social.test"]));
    assert_eq!(fleet.news(&mut known), ["chat warning raised channel.partly"]);
    let open = fleet.open();
    let missed = open.iter().find(|alert| alert["code"] == "channel.partly").expect("it is open");
    let why = missed["reason"].as_str().unwrap();
    assert!(why.contains("but not to gone@social.test: it answered 550"), "{missed:#}");

    let ran = fleet.run_at("+30m", &["run", "--once"]);
    assert_eq!((mail.received().len(), fleet.news(&mut known)), (1, Vec::new()), "{}", ran.err);
    fleet.run(&["alert", "test", "mail"]).ended(1).printed("fail  mail").printed("gone@social.test");

    // The address is there: a try that reaches all ends it.
    let text = fs::read_to_string(&fleet.config).unwrap().replace("gone@", "there@");
    fs::write(&fleet.config, text).unwrap();
    fleet.run(&["alert", "test", "mail"]).ended(0);
    fleet.run_at("+40m", &["run", "--once"]);
    assert_eq!(fleet.news(&mut known), ["chat warning over channel.partly"]);
}

#[test]
fn where_nothing_can_be_written_down_people_are_told_nevertheless() {
    let fleet = expired(&["chat"]);
    // As on a disk that has become read-only: there is no way to a lock.
    fs::create_dir(fleet.store().join("alerts.lock")).unwrap();
    let ran = fleet.run(&["run", "--once"]).ended(1).said("what people are told cannot be written down");
    let mut told = fleet.told();
    told.sort();
    let expected = ["chat critical raised pass.impossible", "chat emergency raised certificate.expires"];
    assert_eq!(told, expected, "{}", ran.err);
}

#[test]
fn what_somebody_has_mended_meanwhile_is_not_told_by_a_pass_that_began_before() {
    // A CA that hangs up, and later one that says nothing.
    let ca = TcpListener::bind("127.0.0.1:0").unwrap();
    let (asked, is_asked) = mpsc::channel();
    let address = ca.local_addr().unwrap();
    let patient = Arc::new(AtomicBool::new(false));
    let is_patient = Arc::clone(&patient);
    thread::spawn(move || {
        for stream in ca.incoming().map_while(Result::ok) {
            if is_patient.load(Ordering::Relaxed) && asked.send(stream).is_err() {
                return;
            }
        }
    });
    let fleet = expired(&["chat"]);
    let edit = |from: &str, to: &str| {
        let text = fs::read_to_string(&fleet.config).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&fleet.config, text.replace(from, to)).unwrap();
    };
    edit("https://127.0.0.1:1/dir", &format!("https://{address}/dir"));
    let mut known = BTreeMap::new();
    fleet.run(&["run", "--once"]).ended(1);
    assert_eq!(fleet.news(&mut known), ["chat emergency raised certificate.expires"]);

    // Another certificate keeps a pass busy; the first is not tried again so soon.
    edit("[alert.chat]", "[[certificate]]\ndomains = [\"new.social.test\"]\nhosts = []\n\n[alert.chat]");
    patient.store(true, Ordering::Relaxed);
    let pass = command(&fleet.config, &["run", "--once"]).spawn().unwrap();
    let stream = is_asked.recv_timeout(Duration::from_secs(60)).expect("the CA is asked");
    fleet.stored(NAME, 2, 0, 90);
    fleet.run(&["deploy", NAME]);
    assert_eq!(fleet.news(&mut known), ["chat emergency over certificate.expires"]);

    patient.store(false, Ordering::Relaxed);
    drop(stream);
    let ran = finish(pass);
    assert_eq!(fleet.news(&mut known), [""; 0], "{}", ran.err);
}
