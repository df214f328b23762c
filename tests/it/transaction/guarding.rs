//! What a host may have in our way: traps, locks, full disks, missing tools.

use super::*;

#[test]
fn traps_are_refused_and_nothing_is_followed() {
    let place = Place::new(Shell::Dash);
    let live = place.path("live");
    let elsewhere = place.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();

    symlink(&elsewhere, live.join(".certfleet")).unwrap();
    let (what, why) = place.stopped(&[bundle("a.org", 1, "a1")]);
    assert_eq!(what, "directory");
    assert!(why.contains(".certfleet is a symbolic link"), "{why}");
    fs::remove_file(live.join(".certfleet")).unwrap();

    fs::create_dir(live.join(".certfleet")).unwrap();
    fs::set_permissions(live.join(".certfleet"), fs::Permissions::from_mode(0o770)).unwrap();
    let (_, why) = place.stopped(&[bundle("a.org", 1, "a1")]);
    assert!(why.contains("chmod go-w"), "{why}");
    fs::set_permissions(live.join(".certfleet"), fs::Permissions::from_mode(0o700)).unwrap();

    // A trap for one certificate is no reason to leave the others.
    symlink(&elsewhere, live.join(".certfleet/a.org")).unwrap();
    symlink(&elsewhere, live.join("b.org")).unwrap();
    fs::create_dir_all(live.join("c.org/privkey.pem")).unwrap();
    let four = ["a.org", "b.org", "c.org", "d.org"].map(|name| bundle(name, 1, name));
    let answer = place.install(&four);
    for (index, reason) in
        [".certfleet/a.org is a symbolic link", "live/b.org is a symbolic link", "privkey.pem is not a file"]
            .iter()
            .enumerate()
    {
        let Outcome::Refused { reason: said } = &answer.outcomes[index] else { panic!("{answer:?}") };
        assert!(said.contains(reason), "{said}");
    }
    assert!(matches!(answer.outcomes[3], Outcome::Installed { .. }), "{answer:?}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);

    fs::set_permissions(&live, fs::Permissions::from_mode(0o777)).unwrap();
    let (what, why) = place.stopped(&[bundle("d.org", 2, "d2")]);
    assert_eq!(what, "directory");
    assert!(why.contains("chmod go-w"), "{why}");
    fs::set_permissions(&live, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (_, why) = place.stopped(&[bundle("d.org", 2, "d2")]);
    assert!(why.contains("can be changed by everybody"), "{why}");
}

#[test]
fn a_lock_that_is_held_names_its_holder() {
    let place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    let lock = fs::File::open(place.path("live/.certfleet/.lock")).unwrap();
    lock.lock().unwrap();
    // Thirty seconds are too long for a test: for it a second is nothing.
    script(&place.path("bin/sleep"), "exit 0");
    let (what, why) = place.stopped(&[bundle("a.org", 2, "a2")]);
    assert_eq!(what, "lock");
    assert!(why.contains("another run holds") && why.contains("pid "), "{why}");
    place.assert_ours("a.org", "a1");
}

#[test]
fn two_at_once_wait_for_each_other() {
    let place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    thread::scope(|scope| {
        for (version, tag) in [(2, "a2"), (3, "a3"), (4, "a4")] {
            let place = &place;
            scope.spawn(move || {
                let answer = place.install(&[bundle("a.org", version, tag)]);
                let [outcome] = &answer.outcomes[..] else { panic!("{answer:?}") };
                assert!(matches!(outcome, Outcome::Switched { .. } | Outcome::Newer { .. }), "{answer:?}");
            });
        }
    });
    // Whoever came first.
    place.assert_ours("a.org", "a4");
    assert_eq!(place.loaded("a.org").as_deref(), Some("a4"));
}

#[test]
fn a_disk_that_takes_no_more_leaves_what_is_there() {
    let place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    // As on a full disk, at each of the tools that need room there.
    for tool in ["awk", "ln", "mkdir", "cp", "sync"] {
        if tool == "cp" {
            // Only needed to take something over.
            install_as_certbot(place.dir.path(), "c.org", &pair_of("c-old")).unwrap();
        }
        let full = format!("echo '{tool}: no room for this' >&2; exit 1");
        script(&place.path("bin").join(tool), &full);
        let batch = [bundle("a.org", 2, "a2"), bundle("c.org", 2, "c2")];
        let (what, why) = place.stopped(&batch);
        assert_eq!((what.as_str(), why), ("staging", format!("{tool}: no room for this")));
        place.assert_ours("a.org", "a1");
        fs::remove_file(place.path("bin").join(tool)).unwrap();
    }
    assert_eq!(place.pair("c.org").as_deref(), Some("c-old"));
    // With room again, it goes on.
    let answer = place.install(&[bundle("a.org", 2, "a2"), bundle("c.org", 2, "c2")]);
    assert!(answer.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Switched { .. })), "{answer:?}");
}

#[test]
fn a_missing_tool_names_its_package() {
    let place = Place::new(Shell::Busybox);
    // Nothing but busybox, which in some distributions has no flock.
    let _ = fs::remove_file(place.path("bin/flock"));
    let mut conversation = Conversation::install(&place.host, &[bundle("a.org", 1, "a1")]).unwrap();
    let input = conversation.take_input();
    let output = place.execute(&input, &place.path("bin").display().to_string());
    let records = conversation.records_in(&output).unwrap().unwrap();
    assert_eq!(records[0].version, "tools");
    assert!(records[0].text.contains("flock is missing: install the package util-linux"), "{records:?}");
}
