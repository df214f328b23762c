//! The layout `include`, and files that are made of others.

use certfleet::model::desired::{Layout, MadeFile, Part};

use super::*;

impl Place {
    /// The version that `live/NAME.conf` names for both key and chain.
    fn named(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path("live").join(format!("{name}.conf"))).unwrap();
        let base = fs::canonicalize(self.path("live")).unwrap().join(".certfleet").join(name);
        let path = |directive: &str, file: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{directive} \""))).unwrap();
            let path = line.strip_suffix("\";").unwrap();
            let version = Path::new(path).parent().unwrap();
            assert_eq!(Path::new(path), version.join(file));
            assert!(Path::new(path).is_file(), "{path}");
            version.strip_prefix(&base).unwrap().to_str().unwrap().to_owned()
        };
        let key = path("ssl_certificate_key", "privkey.pem");
        assert_eq!(path("ssl_certificate", "fullchain.pem"), key);
        key
    }

    fn including(shell: Shell) -> Self {
        let mut place = Self::new(shell);
        place.host.layout = Layout::Include;
        place
    }
}

#[test]
fn a_file_to_include_names_both_of_one_version() {
    for shell in SHELLS {
        let place = Place::including(shell);
        install_as_certbot(place.dir.path(), "c.org", &pair_of("c-old")).unwrap();
        let first = [bundle("a.org", 1, "a1"), bundle("b.org", 1, "b1"), bundle("c.org", 1, "c1")];
        let answer = place.install(&first);
        assert!(answer.reloaded(), "{shell:?}: {answer:?}");
        let second = [bundle("a.org", 2, "a2"), bundle("b.org", 2, "bad"), bundle("c.org", 2, "c2")];
        place.install(&second);
        for (name, version, tag) in [("a.org", 2, "a2"), ("b.org", 1, "b1"), ("c.org", 2, "c2")] {
            assert_eq!(place.named(name), dir_name(version, tag), "{shell:?}");
            // Who goes on using the paths loses nothing.
            place.assert_ours(name, tag);
        }
        let mode = fs::metadata(place.path("live/a.org.conf")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o644, "it holds no secret, and who reads it may not be root");

        let put_back = PutBack {
            certificate: "a.org".parse().unwrap(),
            installed: dir_name(2, "a2"),
            previous: dir_name(1, "a1"),
        };
        place.run(Conversation::put_back(&place.host, &[put_back]).unwrap()).unwrap();
        assert_eq!(place.named("a.org"), dir_name(1, "a1"));
        place.assert_ours("a.org", "a1");
    }
}

#[test]
fn a_file_to_include_that_was_edited_or_removed_is_mended() {
    let place = Place::including(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    let conf = place.path("live/a.org.conf");
    let right = fs::read_to_string(&conf).unwrap();
    fs::remove_file(&conf).unwrap();
    place.install(&[bundle("a.org", 1, "a1")]);
    assert_eq!(fs::read_to_string(&conf).unwrap(), right);

    // Somebody went back by hand: that is what it would be put back to.
    place.install(&[bundle("a.org", 2, "a2")]);
    fs::write(&conf, &right).unwrap();
    let answer = place.install(&[bundle("a.org", 2, "a2")]);
    let [Outcome::Switched { previous, .. }] = &answer.outcomes[..] else { panic!("{answer:?}") };
    assert_eq!((previous.clone(), place.named("a.org")), (dir_name(1, "a1"), dir_name(2, "a2")));
}

#[test]
fn a_file_of_somebody_else_is_not_written_over() {
    let mut place = Place::including(Shell::Dash);
    fs::write(place.path("live/a.org.conf"), "server {}\n").unwrap();
    symlink(place.path("elsewhere"), place.path("live/b.org.conf")).unwrap();
    let answer = place.install(&["a.org", "b.org", "c.org"].map(|name| bundle(name, 1, name)));
    for (name, outcome) in ["a.org", "b.org"].iter().zip(&answer.outcomes) {
        let Outcome::Refused { reason } = outcome else { panic!("{answer:?}") };
        assert!(reason.contains(&format!("{name}.conf is not ours")), "{reason}");
    }
    assert!(matches!(answer.outcomes[2], Outcome::Installed { .. }), "{answer:?}");
    assert_eq!(fs::read_to_string(place.path("live/a.org.conf")).unwrap(), "server {}\n");
    assert!(!place.path("elsewhere").exists());

    // Without the layout it is nobody's business.
    place.host.layout = Layout::Directory;
    let answer = place.install(&[bundle("a.org", 1, "a.org")]);
    assert!(matches!(answer.outcomes[..], [Outcome::Installed { .. }]), "{answer:?}");
    assert_eq!(fs::read_to_string(place.path("live/a.org.conf")).unwrap(), "server {}\n");
}

#[test]
fn a_file_to_include_is_kept_right_when_the_layout_changes_back() {
    let mut place = Place::including(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    place.host.layout = Layout::Directory;
    for version in 2..=6 {
        place.install(&[bundle("a.org", version, &format!("a{version}"))]);
    }
    // Something may still include it, and the version that it named at first is gone.
    assert_eq!(place.named("a.org"), dir_name(6, "a6"));
    assert!(!place.versions("a.org").contains(&dir_name(1, "a1")));
}

#[test]
fn made_files_are_as_private_as_keys_and_switch_with_them() {
    for shell in SHELLS {
        let mut place = Place::new(shell);
        place.install(&[bundle("a.org", 1, "a1")]);
        place.host.files = vec![
            MadeFile { name: "combined.pem".to_owned(), parts: vec![Part::Fullchain, Part::Privkey] },
            MadeFile { name: "ca.pem".to_owned(), parts: vec![Part::Chain] },
        ];
        let answer = place.install(&[bundle("a.org", 1, "a1"), bundle("b.org", 1, "rootless")]);
        assert!(answer.reloaded(), "{shell:?}: {answer:?}");
        let read = |path: &str| fs::read_to_string(place.path("live").join(path)).unwrap();
        for (name, tag) in [("a.org", "a1"), ("b.org", "rootless")] {
            place.assert_ours(name, tag);
            let both = read(&format!("{name}/fullchain.pem")) + &read(&format!("{name}/privkey.pem"));
            assert_eq!(read(&format!("{name}/combined.pem")), both);
            assert_eq!(read(&format!("{name}/ca.pem")), read(&format!("{name}/chain.pem")));
        }
        place.assert_private();
        place.install(&[bundle("a.org", 2, "a2")]);
        assert!(read("a.org/combined.pem").ends_with(&pair_of("a2").key));
    }
}
