//! What is no store, not ours, damaged or newer is refused, each with what to do.

use super::*;

fn refused(path: &Path) -> OpenError {
    let error = Store::open(path).unwrap_err();
    assert!(error.hint().is_some(), "{error} has no remedy");
    error
}

#[test]
fn a_folder_is_made_but_not_its_parents() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Store::open_existing(&folder.path().join("store")).unwrap().is_none());
    assert!(!folder.path().join("store").exists());
    let error = refused(&folder.path().join("no/store"));
    assert!(matches!(error, OpenError::NoParent { .. }), "{error}");
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(matches!(refused(&folder.path().join("file")), OpenError::NotAFolder(_)));
    // No store can be made below a file, for root neither.
    assert!(Store::open(&folder.path().join("file/store")).is_err());
    // An empty folder becomes a store, and so does one whose making was cut short.
    fs::create_dir_all(folder.path().join("begun/accounts")).unwrap();
    assert!(Store::open_existing(&folder.path().join("begun")).unwrap().is_none());
    Store::open(&folder.path().join("begun")).unwrap();
    Store::open(&folder.path().join("begun")).unwrap();
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("holiday.jpg"), "").unwrap();
    let error = refused(folder.path());
    assert!(error.to_string().contains("holiday.jpg"), "{error}");
    assert_eq!(everything(folder.path()).len(), 2);
}

#[test]
fn a_store_that_others_can_write_or_own_is_refused() {
    let (_folder, store) = fresh();
    let mode = |mode| fs::set_permissions(store.path(), fs::Permissions::from_mode(mode)).unwrap();
    for open in [0o770, 0o702, 0o777] {
        mode(open);
        let error = refused(store.path());
        assert_eq!(error.code(), "store.writable-by-others");
        assert_eq!(error.hint().unwrap(), format!("run `chmod go-w {}`", store.path().display()));
        assert!(Store::open_existing(store.path()).is_err());
    }
    mode(0o755);
    Store::open(store.path()).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(store.path(), Some(12345), None).unwrap();
        let error = refused(store.path());
        assert!(matches!(error, OpenError::Owner { owner: 12345, us: 0, .. }), "{error}");
        assert_eq!(owner(store.path()).unwrap(), Some(12345));
    }
}

#[test]
fn a_format_that_is_newer_or_lost_is_refused() {
    let (_folder, store) = fresh();
    use_all(&store);
    let format = store.path().join("format");
    for (text, code) in [
        ("certfleet-store 2\n", "store.newer"),
        ("certfleet-store 0\n", "store.damaged"),
        ("", "store.damaged"),
        ("\0\0\0\0", "store.damaged"),
        ("certfleet-store", "store.damaged"),
    ] {
        fs::write(&format, text).unwrap();
        assert_eq!(refused(store.path()).code(), code, "{text:?}");
        assert_eq!(Store::open_existing(store.path()).unwrap_err().code(), code, "{text:?}");
    }
    fs::remove_file(&format).unwrap();
    assert_eq!(refused(store.path()).code(), "store.missing");
    assert_eq!(Store::open_existing(store.path()).unwrap_err().code(), "store.missing");
}

#[test]
fn a_store_that_is_lost_in_use_is_not_an_empty_one() {
    let (folder, store) = fresh();
    use_all(&store);
    let lock = store.lock_certificate(&name("shop"), "renewing", NOW).unwrap();
    let away = folder.path().join("away");
    fs::rename(store.path(), &away).unwrap();
    assert!(matches!(store.load(NOW), Err(LoadError::Gone(_))));
    assert!(store.lock_certificate(&name("blog"), "renewing", NOW).is_err());
    assert!(store.save_certificate(&lock, &state(&[1])).is_err());
    assert!(store.add_debt(&debt("x")).is_err());
    Store::open(store.path()).unwrap();
    assert!(matches!(store.load(NOW), Err(LoadError::Gone(_))), "another folder of the same name");
    assert!(store.lock_certificate(&name("blog"), "renewing", NOW).is_err());
    fs::remove_dir_all(away.join("certificates")).unwrap();
    assert_eq!(refused(&away).code(), "store.missing");
}

#[test]
fn a_damaged_state_stops_its_certificate_and_no_other() {
    let (_folder, store) = fresh();
    use_all(&store);
    let lock = store.lock_certificate(&name("blog"), "renewing", NOW).unwrap();
    store.save_certificate(&lock, &state(&[1, 2])).unwrap();
    let path = store.path().join("certificates/blog/state.json");
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let error = store.certificate(&name("blog")).expect_err(what);
        assert!(error.hint().unwrap().contains(&*path.to_string_lossy()) || error.code() == "store.newer");
        let error = store.save_certificate(&lock, &state(&[3])).expect_err(what);
        assert!(matches!(error, SaveError::Unreadable(_)) || what.contains("type"), "{what}: {error}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{what}: written over");
    };
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        store.certificate(&name("blog")).expect_err("truncated");
    }
    refused(&whole[..whole.len() / 2], "truncated");
    for at in (0..whole.len()).step_by(7) {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        fs::write(&path, &flipped).unwrap();
        store.certificate(&name("blog")).expect_err("a flipped bit");
    }
    refused(&vec![0; whole.len()], "zeros");
    refused(b"{\"format\":9,\"new\":true}\n", "newer format");
    refused(b"{}\n", "other JSON");
    let loaded = store.load(NOW).unwrap();
    assert_eq!(loaded.unreadable[&name("blog")].code, "store.damaged");
    assert!(!loaded.state.certificates.contains_key(&name("blog")));
    assert_eq!(loaded.state.certificates[&name("shop")], state(&[1]));
    fs::write(&path, &*document::encode(&"a text")).unwrap();
    assert!(matches!(store.certificate(&name("blog")), Err(LoadError::WrongContent { .. })));
    fs::write(&path, &whole).unwrap();
    assert_eq!(store.certificate(&name("blog")).unwrap(), state(&[1, 2]));
}

#[test]
fn versions_without_a_state_are_a_lost_state() {
    let (_folder, store) = fresh();
    use_all(&store);
    fs::remove_file(store.path().join("certificates/shop/state.json")).unwrap();
    let loaded = store.load(NOW).unwrap();
    assert_eq!(loaded.unreadable[&name("shop")].code, "store.missing");
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let (_folder, store) = fresh();
    use_all(&store);
    let path = store.path().join("certificates/shop/state.json");
    let whole = store.path().join("whole");
    fs::rename(&path, &whole).unwrap();
    let refused = |what: &str| {
        let error = store.certificate(&name("shop")).expect_err(what);
        assert!(matches!(error, LoadError::NotAFile(_)), "{what}: {error}");
    };
    std::os::unix::fs::symlink(&whole, &path).unwrap();
    refused("a link");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused("a folder");
    fs::remove_dir(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    refused("a pipe");
    fs::remove_file(&path).unwrap();
    let huge = fs::File::create(&path).unwrap();
    huge.set_len(DOCUMENT_LIMIT + 1).unwrap();
    assert!(matches!(store.certificate(&name("shop")), Err(LoadError::TooLarge(..))));
}

#[test]
fn damage_elsewhere_is_told_and_stays_where_it_is() {
    let (_folder, store) = fresh();
    use_all(&store);
    let spoil = |path: &str| fs::write(store.path().join(path), "{").unwrap();
    spoil("hosts/web1.json");
    spoil("observed.json");
    spoil("txt/0123456789abcdef.json");
    fs::write(store.path().join("hosts/notes.txt"), "").unwrap();
    let loaded = store.load(NOW - SignedDuration::from_hours(1)).unwrap();
    assert_eq!(loaded.unreadable_hosts.keys().map(HostName::as_str).collect::<Vec<_>>(), ["web1"]);
    assert_eq!((loaded.unreadable_debts.len(), loaded.state.debts.len()), (1, 1));
    let codes: Vec<_> = loaded.warnings.iter().map(|warning| warning.code.as_str()).collect();
    assert_eq!(codes, ["store.stranger", "clock.behind"]);
    assert_eq!(store.observed(), crate::model::observed::Observed::default());
    let error = store.update_host(&"web1".parse().unwrap(), |facts| facts.clear()).unwrap_err();
    assert!(matches!(error, SaveError::Unreadable(_)), "{error}");
    let accounts = files::names(&store.path().join("accounts")).unwrap();
    let account = accounts.iter().find(|name| name.ends_with(".json")).unwrap();
    spoil(&format!("accounts/{account}"));
    let issuer = "letsencrypt".parse().unwrap();
    assert!(store.account(&issuer, "https://ca.example/directory").is_err());
    assert!(store.save_account(&issuer, "https://ca.example/directory", "{}").is_err());
}

#[test]
fn a_damaged_version_is_not_handed_out() {
    let (_folder, store) = fresh();
    use_all(&store);
    let shop = name("shop");
    let folder = store.path().join("certificates/shop/versions/1");
    for file in ["privkey.pem", "fullchain.pem", "cert.pem", "chain.pem", "SHA256SUMS"] {
        let path = folder.join(file);
        let whole = fs::read(&path).unwrap();
        for bytes in [&whole[..whole.len() - 1], b"", &[0; 10], &[0xff; 10]] {
            fs::write(&path, bytes).unwrap();
            let error = store.version(&shop, VersionNumber(1)).unwrap_err();
            assert_eq!(error.code(), "store.damaged", "{file}: {error}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(store.version(&shop, VersionNumber(1)), Err(LoadError::Missing(_))));
        fs::write(&path, &whole).unwrap();
    }
    store.version(&shop, VersionNumber(1)).unwrap();
    for text in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n", "\0\0\0"] {
        fs::write(store.path().join("certificates/shop/order.key"), text).unwrap();
        assert!(store.order_key(&shop).is_err(), "{text:?}");
    }
}
