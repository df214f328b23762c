//! Who can read the keys on a host, and which version may take the place of which.

use std::os::unix::fs::MetadataExt;

use certfleet::model::desired::KeyAccess;

use super::*;

/// Owner, group and mode.
fn access(path: &Path) -> (u32, u32, u32) {
    let meta = fs::metadata(path).unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

#[test]
fn a_group_can_read_the_keys_of_all_versions_and_nobody_else() {
    // Only root may give files away; a user may to a group of its own, which it always has one of.
    let us = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let group = if us.0 == 0 { 65534 } else { us.1 };
    for shell in SHELLS {
        let mut place = Place::new(shell);
        install_as_certbot(place.dir.path(), "a.org", &pair_of("old")).unwrap();
        place.install(&[bundle("a.org", 1, "a1")]);
        place.assert_private();
        place.host.access = KeyAccess { owner: None, group: Some(group.to_string()), mode: 0o640 };
        place.install(&[bundle("a.org", 2, "a2"), bundle("b.org", 1, "b1")]);
        let base = place.path("live/.certfleet");
        assert_eq!(access(&base), (us.0, group, 0o710), "{shell:?}");
        for name in ["a.org", "b.org"] {
            assert_eq!(access(&base.join(name)), (us.0, group, 0o710));
            let versions = place.versions(name);
            assert_eq!(versions.len(), if name == "a.org" { 3 } else { 1 });
            for version in versions {
                let folder = base.join(name).join(version);
                assert_eq!(access(&folder), (us.0, group, 0o710));
                for file in fs::read_dir(folder).unwrap() {
                    assert_eq!(access(&file.unwrap().path()), (us.0, group, 0o640));
                }
            }
        }
        // Closed again by the next transaction that has to do with it.
        place.host.access = KeyAccess::default();
        place.install(&[bundle("a.org", 2, "a2"), bundle("b.org", 1, "b1")]);
        place.assert_private();
    }
}

#[test]
fn an_owner_of_its_own_gets_to_its_keys() {
    if !rustix::process::geteuid().is_root() {
        println!("only root can give files away: not tried");
        return;
    }
    let mut place = Place::new(Shell::Dash);
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    place.host.access = KeyAccess { owner: Some("65534".to_owned()), group: None, mode: 0o400 };
    place.install(&[bundle("a.org", 1, "a1")]);
    let key = place.path("live/a.org/privkey.pem");
    assert_eq!(access(&key), (65534, 0, 0o400));
    let read = |uid: u32| Command::new("cat").arg(&key).uid(uid).gid(uid).output().unwrap();
    assert!(read(65534).status.success(), "{:?}", read(65534));
    assert!(!read(65533).status.success());
}

#[test]
fn a_group_that_is_not_there_changes_nothing_in_use() {
    let mut place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    place.host.access = KeyAccess { owner: None, group: Some("no-such-group".to_owned()), mode: 0o640 };
    let (what, why) = place.stopped(&[bundle("a.org", 2, "a2")]);
    assert_eq!(what, "staging");
    assert!(why.contains("no-such-group"), "{why}");
    place.assert_ours("a.org", "a1");
}

#[test]
fn an_older_version_takes_the_place_of_a_newer_one_by_force_only() {
    for shell in SHELLS {
        let place = Place::new(shell);
        place.install(&[bundle("a.org", 12, "a12"), bundle("b.org", 1, "b1")]);
        let answer = place.install(&[bundle("a.org", 9, "a9"), bundle("b.org", 2, "b2")]);
        assert_eq!(answer.outcomes[0], Outcome::Newer { there: dir_name(12, "a12") }, "{shell:?}");
        assert!(matches!(answer.outcomes[1], Outcome::Switched { .. }), "others go on: {answer:?}");
        place.assert_ours("a.org", "a12");
        assert_eq!(place.versions("a.org"), [dir_name(12, "a12")], "nothing of it stays");

        let forced = Bundle { force: true, ..bundle("a.org", 9, "a9") };
        let answer = place.install(&[forced]);
        assert!(matches!(answer.outcomes[..], [Outcome::Switched { .. }]), "{answer:?}");
        place.assert_ours("a.org", "a9");
    }
}

#[test]
fn what_somebody_put_in_the_place_of_a_newer_one_is_taken_over() {
    let place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 12, "a12")]);
    for file in FILES {
        fs::remove_file(place.path("live/a.org").join(file)).unwrap();
    }
    install_as_certbot(place.dir.path(), "a.org", &pair_of("hand")).unwrap();
    // Ours is not in use any more: its number says nothing.
    place.install(&[bundle("a.org", 9, "a9")]);
    place.assert_ours("a.org", "a9");
}
