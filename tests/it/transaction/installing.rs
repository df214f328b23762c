//! What becomes of certificates: put in place, taken over, rolled back, refused.

use super::*;

#[test]
fn the_first_installation_makes_all_names_and_they_are_private() {
    for shell in SHELLS {
        let place = Place::new(shell);
        let answer = place.install(&[bundle("a.org", 1, "a1"), bundle("b.org", 1, "rootless")]);
        assert_eq!(
            answer.outcomes,
            [
                Outcome::Installed { installed: dir_name(1, "a1") },
                Outcome::Installed { installed: dir_name(1, "rootless") },
            ],
            "{shell:?}"
        );
        assert!(answer.reloaded() && answer.web_server_running());
        place.assert_ours("a.org", "a1");
        place.assert_ours("b.org", "rootless");
        assert_eq!(fs::read_to_string(place.path("live/b.org/chain.pem")).unwrap(), "");
        assert_eq!(place.loaded("a.org").as_deref(), Some("a1"));
        place.assert_private();
        assert!(!place.path("live/.certfleet/.work").exists());
    }
}

#[test]
fn a_directory_that_is_not_there_is_made() {
    let mut place = Place::new(Shell::Dash);
    place.host.directory = place.path("etc/some where/live").display().to_string();
    place.install(&[bundle("a.org", 1, "a1")]);
    let live = place.path("etc/some where/live/a.org/fullchain.pem");
    assert_eq!(tag(&fs::read_to_string(live).unwrap()), "a1");
}

#[test]
fn a_replacement_switches_and_the_same_again_does_not() {
    for shell in SHELLS {
        let place = Place::new(shell);
        place.install(&[bundle("a.org", 1, "a1")]);
        let answer = place.install(&[bundle("a.org", 2, "a2")]);
        assert_eq!(
            answer.outcomes,
            [Outcome::Switched { installed: dir_name(2, "a2"), previous: dir_name(1, "a1") }],
            "{shell:?}"
        );
        place.assert_ours("a.org", "a2");
        assert_eq!(place.loaded("a.org").as_deref(), Some("a2"));
        let answer = place.install(&[bundle("a.org", 2, "a2")]);
        assert_eq!(answer.outcomes, [Outcome::Unchanged { installed: dir_name(2, "a2") }]);
        assert!(answer.reloaded(), "whoever asks again does so because it is not served");
        assert_eq!(place.versions("a.org"), [dir_name(1, "a1"), dir_name(2, "a2")]);
    }
}

#[test]
fn what_certbot_left_is_taken_over_and_its_archive_stays() {
    for shell in SHELLS {
        let place = Place::new(shell);
        for tag in ["old1", "old2"] {
            install_as_certbot(place.dir.path(), "a.org", &pair_of(tag)).unwrap();
        }
        fs::write(place.path("live/a.org/README"), "certbot's").unwrap();
        let answer = place.install(&[bundle("a.org", 1, "a1")]);
        let [Outcome::Switched { previous, .. }] = &answer.outcomes[..] else { panic!("{answer:?}") };
        assert_eq!(previous, "0-before", "{shell:?}");
        place.assert_ours("a.org", "a1");
        assert_eq!(fs::read_dir(place.path("archive/a.org")).unwrap().count(), 8);
        assert!(place.path("live/a.org/README").exists());
        let before = place.path("live/.certfleet/a.org/0-before/privkey.pem");
        assert_eq!(tag(&fs::read_to_string(before).unwrap()), "old2");
        place.assert_private();

        let put_back = PutBack {
            certificate: "a.org".parse().unwrap(),
            installed: dir_name(1, "a1"),
            previous: "0-before".to_owned(),
        };
        let records = place.run(Conversation::put_back(&place.host, &[put_back]).unwrap()).unwrap();
        assert_eq!(records[0].word, "put-back", "{records:?}");
        place.assert_ours("a.org", "old2");
        assert_eq!(place.loaded("a.org").as_deref(), Some("old2"));
    }
}

#[test]
fn plain_files_and_edits_by_hand_are_taken_over() {
    let place = Place::new(Shell::Dash);
    let live = place.path("live/a.org");
    fs::create_dir(&live).unwrap();
    fs::write(live.join("privkey.pem"), pair_of("plain").key).unwrap();
    fs::write(live.join("fullchain.pem"), pair_of("plain").leaf).unwrap();
    place.install(&[bundle("a.org", 1, "a1")]);
    place.assert_ours("a.org", "a1");
    // Somebody puts his own files where our links were: also that can be gone back to.
    for file in ["privkey.pem", "fullchain.pem"] {
        fs::remove_file(live.join(file)).unwrap();
        fs::write(live.join(file), pair_of("hand").key).unwrap();
    }
    let answer = place.install(&[bundle("a.org", 2, "a2")]);
    let [Outcome::Switched { previous, .. }] = &answer.outcomes[..] else { panic!("{answer:?}") };
    assert_eq!(previous, "0-before.2");
    place.assert_ours("a.org", "a2");
    // A link that somebody removed comes back.
    fs::remove_file(live.join("cert.pem")).unwrap();
    place.install(&[bundle("a.org", 3, "a3")]);
    place.assert_ours("a.org", "a3");
}

#[test]
fn certbot_at_work_at_the_same_time_wins() {
    let place = Place::new(Shell::Dash);
    install_as_certbot(place.dir.path(), "a.org", &pair_of("old")).unwrap();
    // It renews just after its files have been copied.
    let renew = format!(
        "{} \"$@\"\ncd {}\nfor part in privkey fullchain cert chain; do\n\
         echo 'pair newer' >archive/a.org/${{part}}2.pem\n\
         ln -sfn ../../archive/a.org/${{part}}2.pem live/a.org/$part.pem\ndone",
        parts::find("cp").unwrap().display(),
        place.dir.path().display(),
    );
    script(&place.path("bin/cp"), &renew);
    let answer = place.install(&[bundle("a.org", 1, "a1")]);
    let [Outcome::Refused { reason }] = &answer.outcomes[..] else { panic!("{answer:?}") };
    assert!(reason.contains("at the same time"), "{reason}");
    assert_eq!(place.pair("a.org").as_deref(), Some("newer"));
    fs::remove_file(place.path("bin/cp")).unwrap();
    let answer = place.install(&[bundle("a.org", 1, "a1")]);
    let [Outcome::Switched { previous, .. }] = &answer.outcomes[..] else { panic!("{answer:?}") };
    assert_eq!(previous, "0-before.2");
    place.assert_ours("a.org", "a1");
}

#[test]
fn a_host_that_was_broken_before_is_left_alone() {
    for shell in SHELLS {
        let place = Place::new(shell);
        place.install(&[bundle("a.org", 1, "a1")]);
        fs::write(place.path("broken"), "").unwrap();
        let answer = place.install(&[bundle("a.org", 2, "a2"), bundle("n.org", 1, "n1")]);
        for outcome in &answer.outcomes {
            let Outcome::HostBroken { output } = outcome else { panic!("{shell:?}: {answer:?}") };
            assert_eq!(output, "[emerg] the host is broken");
        }
        assert_eq!(answer.reload, Reload::NotNeeded);
        place.assert_ours("a.org", "a1");
        assert_eq!(place.loaded("a.org").as_deref(), Some("a1"));
    }
}

#[test]
fn one_bad_of_three_does_not_keep_the_others() {
    for shell in SHELLS {
        let place = Place::new(shell);
        place.install(&[bundle("a.org", 1, "a1"), bundle("b.org", 1, "b1"), bundle("c.org", 1, "c1")]);
        let reloads = fs::read_to_string(place.path("reloads")).unwrap();
        let three = [bundle("a.org", 2, "a2"), bundle("b.org", 2, "bad2"), bundle("c.org", 2, "c2")];
        let answer = place.install(&three);
        assert!(matches!(answer.outcomes[0], Outcome::Switched { .. }), "{shell:?}: {answer:?}");
        let Outcome::RolledBack { output } = &answer.outcomes[1] else { panic!("{answer:?}") };
        assert_eq!(output, "[emerg] live/b.org/privkey.pem is bad2", "without the warnings before it");
        assert!(matches!(answer.outcomes[2], Outcome::Switched { .. }));
        for (name, tag) in [("a.org", "a2"), ("b.org", "b1"), ("c.org", "c2")] {
            place.assert_ours(name, tag);
            assert_eq!(place.loaded(name).as_deref(), Some(tag));
        }
        assert_eq!(fs::read_to_string(place.path("reloads")).unwrap().len(), reloads.len() + 2, "one reload");
    }
}

#[test]
fn a_bad_one_alone_is_rolled_back_without_a_reload() {
    let place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    let reloads = fs::read(place.path("reloads")).unwrap();
    let answer = place.install(&[bundle("a.org", 2, "bad")]);
    assert!(matches!(answer.outcomes[..], [Outcome::RolledBack { .. }]), "{answer:?}");
    assert_eq!(answer.reload, Reload::NotNeeded);
    place.assert_ours("a.org", "a1");
    assert_eq!(fs::read(place.path("reloads")).unwrap(), reloads);
}

#[test]
fn a_failing_reload_is_taken_back() {
    for shell in SHELLS {
        let place = Place::new(shell);
        place.install(&[bundle("a.org", 1, "a1")]);
        fs::write(place.path("stubborn"), "").unwrap();
        let answer = place.install(&[bundle("a.org", 2, "a2"), bundle("n.org", 1, "n1")]);
        let Outcome::ReloadFailed { output } = &answer.outcomes[0] else { panic!("{shell:?}: {answer:?}") };
        assert_eq!(output, "it will not reload");
        assert!(matches!(answer.outcomes[1], Outcome::Installed { .. }), "what replaced nothing stays");
        assert!(matches!(answer.reload, Reload::Failed { .. }));
        place.assert_ours("a.org", "a1");
    }
}

#[test]
fn a_web_server_that_does_not_run_is_not_an_error() {
    let place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    fs::write(place.path("stopped"), "").unwrap();
    let answer = place.install(&[bundle("a.org", 2, "a2")]);
    assert!(matches!(answer.outcomes[..], [Outcome::Switched { .. }]), "{answer:?}");
    assert!(!answer.web_server_running());
    place.assert_ours("a.org", "a2");
}

#[test]
fn three_versions_stay_and_the_one_before_us_for_ever() {
    let place = Place::new(Shell::Busybox);
    install_as_certbot(place.dir.path(), "a.org", &pair_of("old")).unwrap();
    for version in 1..=12 {
        place.install(&[bundle("a.org", version, &format!("a{version}"))]);
    }
    let mut expected: Vec<String> =
        (10..=12).map(|version| dir_name(version, &format!("a{version}"))).collect();
    expected.insert(0, "0-before".to_owned());
    assert_eq!(place.versions("a.org"), expected);
}

#[test]
fn other_bytes_never_go_under_a_name_that_is_taken() {
    let place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    let mut other = bundle("a.org", 1, "a1");
    other.chain.push_str("another intermediate\n");
    let answer = place.install(&[other]);
    let [Outcome::Switched { installed, .. }] = &answer.outcomes[..] else { panic!("{answer:?}") };
    assert_eq!(*installed, format!("{}.2", dir_name(1, "a1")));
}

#[test]
fn many_are_renamed_by_perl_where_it_is_and_by_mv_elsewhere() {
    let names: Vec<String> = (1..=9).map(|n| format!("n{n}.org")).collect();
    let batch = |version| -> Vec<Bundle> {
        names.iter().map(|name| bundle(name, version, &format!("v{version}"))).collect()
    };
    for shell in SHELLS {
        let place = Place::new(shell);
        let real = parts::find("perl").expect("perl is part of every Debian");
        let perl =
            |body: &str| script(&place.path("bin/perl"), &body.replace("PERL", &real.display().to_string()));
        perl("echo x >>\"${0%/*}/ran\"; exec PERL \"$@\"");
        for version in [1, 2] {
            place.install(&batch(version));
            names.iter().for_each(|name| place.assert_ours(name, &format!("v{version}")));
        }
        let ran = fs::read_to_string(place.path("bin/ran")).unwrap().lines().count();
        assert_eq!(ran, 4, "{shell:?}: once to put there, once to switch");

        // It stops half-way. While they are put there, that is all for now.
        let half = "head -n 3 | PERL \"$@\"; echo 'no more' >&2; exit 1";
        perl(half);
        assert_eq!(place.stopped(&batch(3)), ("staging".to_owned(), "no more".to_owned()), "{shell:?}");
        names.iter().for_each(|name| place.assert_ours(name, "v2"));
        // While they are switched, all go back, and then each is tried alone.
        let second = "echo x >>\"${0%/*}/turn\"; [ \"$(wc -l <\"${0%/*}/turn\")\" -eq 2 ]";
        perl(&format!("if {second}; then {half}; fi; exec PERL \"$@\""));
        let answer = place.install(&batch(3));
        let switched = |outcome: &Outcome| matches!(outcome, Outcome::Switched { .. });
        assert!(answer.outcomes.iter().all(switched), "{shell:?}: {answer:?}");
        names.iter().for_each(|name| place.assert_ours(name, "v3"));
    }
    // Nothing but busybox, and flock, which some distributions leave out of it.
    let place = Place::new(Shell::Busybox);
    let _ = fs::remove_file(place.path("bin/flock"));
    symlink(parts::find("flock").unwrap(), place.path("bin/flock")).unwrap();
    for version in [1, 2] {
        let bundles = batch(version);
        let mut conversation = Conversation::install(&place.host, &bundles).unwrap();
        let input = conversation.take_input();
        let output = place.execute(&input, &place.path("bin").display().to_string());
        let answer = Answer::of(&conversation.records_in(&output).unwrap().unwrap(), &bundles).unwrap();
        assert_eq!(answer.outcomes.len(), names.len());
        names.iter().for_each(|name| place.assert_ours(name, &format!("v{version}")));
    }
}
