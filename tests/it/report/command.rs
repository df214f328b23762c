//! `certfleet report`, as people and monitoring run it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::tool::{certfleet, command, finish};
use crate::world::{World, parts};

const NAME: &str = "media.social.test";

fn world() -> (World, std::path::PathBuf) {
    let world = World::builder().hosts(&["sally", "esme"]).site(&[NAME]).start().unwrap();
    let config =
        world.config(&format!("[[certificate]]\ndomains = [\"{NAME}\"]\nhosts = [\"cdn\"]\n")).unwrap();
    (world, config)
}

#[test]
fn monitoring_is_told_by_exit_code_and_line() {
    let (world, config) = world();
    certfleet(&config, &["report", "--check"]).ended(1).printed("no pass has got through everything yet");
    certfleet(&config, &["report", "--check", "--live"])
        .ended(2)
        .printed("CERTFLEET CRITICAL: media.social.test");

    certfleet(&config, &["run", "--once"]).ended(0);
    let fine =
        certfleet(&config, &["report", "--check"]).ended(0).printed("CERTFLEET OK: 1 certificate on 2 hosts");
    assert_eq!(
        (fine.out.lines().count(), fine.out.contains("| 'media.social.test'=")),
        (1, true),
        "{}",
        fine.out
    );

    // Nobody makes passes any more, for longer and longer.
    for (later, code) in [("+2h", 0), ("+4h", 1)] {
        let mut late = command(&config, &["report", "--check"]);
        late.env("LD_PRELOAD", parts::faketime().unwrap()).env("FAKETIME", later);
        finish(late.spawn().unwrap()).ended(code);
    }
    world.host("sally").stop();
    certfleet(&config, &["report", "--check"]).ended(0);
    certfleet(&config, &["report", "--check", "--live"])
        .ended(1)
        .printed("media.social.test on sally: unreachable (probe.");

    let broken = world.dir.path().join("broken.toml");
    fs::write(&broken, "[issuer\n").unwrap();
    certfleet(&broken, &["report", "--check"]).ended(3).printed("CERTFLEET UNKNOWN: ").said("broken.toml");
    let gone = world.dir.path().join("none.toml");
    certfleet(&gone, &["report", "--check"]).ended(3).printed("CERTFLEET UNKNOWN: ");
    certfleet(&config, &["report", "--check", "--frmat"]).ended(3).printed("CERTFLEET UNKNOWN: ");
    certfleet(&config, &["report", "--check", "--json"]).ended(3).said("needs `--output`");
    certfleet(&config, &["report", "--frmat"]).ended(2);
}

#[test]
fn a_file_is_replaced_as_a_whole_and_readable_by_all() {
    let (world, config) = world();
    certfleet(&config, &["run", "--once"]).ended(0);
    let folder = world.dir.path().join("textfile");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("certfleet.prom");
    let text = path.to_str().unwrap();
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

    let ran = certfleet(&config, &["report", "--format", "prometheus", "--output", text]).ended(0);

    assert_eq!(ran.out, "");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    assert!(fs::read_to_string(&path).unwrap().contains("certfleet_served_match{name=\"media.social.test\""));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "something is left beside it");

    // What a link leads to is replaced, not the link.
    let link = world.dir.path().join("report.html");
    let page = folder.join("page.html");
    fs::write(&page, "old").unwrap();
    symlink(&page, &link).unwrap();
    let page_to = link.to_str().unwrap();
    certfleet(&config, &["report", "--check", "--format", "html", "--output", page_to])
        .ended(0)
        .printed("OK");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&page).unwrap().starts_with("<!DOCTYPE html>"));

    let none = folder.join("none").join("report.csv");
    certfleet(&config, &["report", "--format", "csv", "--output", none.to_str().unwrap()])
        .ended(1)
        .said("cannot write the report to");
    certfleet(&config, &["report", "--output", folder.to_str().unwrap()]).ended(1).said("not a regular file");
    certfleet(&config, &["report", "--output", "/dev/null"]).ended(1).said("not a regular file");
}

#[test]
fn it_is_sent_through_a_channel() {
    let (world, config) = world();
    let sent = world.dir.path().join("sent");
    let program = world.dir.path().join("tell");
    fs::write(&program, format!("#!/bin/sh\ncat > {}\n", sent.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let tables = fs::read_to_string(&config).unwrap();
    let program = program.display();
    fs::write(&config, format!("{tables}\n[alert.ops]\nchannel = \"exec\"\ncommand = \"{program}\"\n"))
        .unwrap();

    let ran = certfleet(&config, &["report", "--to", "ops"]).ended(3).said("the report is sent to `ops`");

    assert_eq!(ran.out, "");
    let sent = fs::read_to_string(sent).unwrap();
    for part in ["1 certificate on 2 hosts", "\"missing\"", "\"standing\""] {
        assert!(sent.contains(part), "{part}:\n{sent}");
    }
    certfleet(&config, &["report", "--to", "opps"]).ended(2).said("did you mean `ops`?");
    certfleet(&config, &["report", "--to", "ops", "--check"]).ended(1).printed("CERTFLEET WARNING");
    fs::write(&config, format!("{tables}\n[alert.ops]\nchannel = \"exec\"\ncommand = \"/bin/false\"\n"))
        .unwrap();
    certfleet(&config, &["report", "--to", "ops"]).ended(1).said("ops");
}

#[test]
fn the_store_is_enough_and_stays_as_it_is() {
    let (world, config) = world();
    certfleet(&config, &["run", "--once"]).ended(0);
    let before = listing(&world.store());
    // Nobody else is there, and somebody is at work: no lock is waited for.
    world.pebble.service.freeze();
    world.hosts.iter().for_each(|host| host.stop());
    for form in ["table", "json", "csv", "html", "markdown", "prometheus"] {
        certfleet(&config, &["report", "--format", form]).ended(0).printed(NAME);
    }
    assert_eq!(listing(&world.store()), before);
}

fn listing(store: &std::path::Path) -> Vec<(String, std::time::SystemTime)> {
    let mut all: Vec<_> = fs::read_dir(store)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().to_string_lossy().into_owned(), entry.metadata().unwrap().modified().unwrap())
        })
        .collect();
    all.sort();
    all
}
