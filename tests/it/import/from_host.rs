//! Taking over what a certbot has on a host.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::scan::lying::force;
use crate::tool::command;

use super::*;

/// A few are enough here.
const SOME: &[(&str, &[&str], &[&str])] = LINEAGES.split_at(3).0;

/// Entries for them; the first goes to sally, the others stay in the store.
fn entries() -> String {
    let keys = ["", "key = \"rsa-2048\"\n", "key = \"ecdsa-p384\"\n"];
    let entry = |((name, domains, _), key): (&(&str, &[&str], &[&str]), &str)| {
        let hosts = if *name == SOME[0].0 { "\"sally\"" } else { "" };
        format!("[[certificate]]\nname = \"{name}\"\ndomains = {domains:?}\nhosts = [{hosts}]\n{key}\n")
    };
    SOME.iter().zip(keys).map(entry).collect()
}

/// The lines of a private key that are the key.
fn secret_lines(key: &Path) -> Vec<String> {
    let text = fs::read_to_string(key).unwrap();
    text.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect()
}

#[test]
fn what_certbot_has_on_a_host_is_neither_issued_nor_pushed_again() {
    let behaviour = Behaviour { always_valid: true, ..Behaviour::default() };
    let world = World::builder().hosts(&["sally"]).pebble(behaviour).start().unwrap();
    let sally = world.host("sally");
    made_by_certbot(&world, &sally.root, SOME);
    sally.add_server(SOME[0].0, SOME[0].1).unwrap();
    sally.reload_quietly().unwrap();
    crate::trouble::settles(sally, "that of certbot", |served| served.issuer.contains("Pebble"));
    let served = sally.served(SOME[0].0).unwrap();
    let wire = sally.root.join("log/wire");
    force(sally, &format!("{{ eval \\\"$SSH_ORIGINAL_COMMAND\\\"; }} | tee -a {}", wire.display()));
    let before: Vec<_> =
        ["live", "archive", "renewal", "accounts"].map(|part| listing(&sally.root.join(part))).into();
    let orders = world.pebble.orders();
    let from = ["--from", sally.root.to_str().unwrap()];

    // Before certs.toml names any of them: entries to paste, and no key leaves the host.
    let config = world.config("").unwrap();
    let first = certfleet(&config, &["import", "sally", from[0], from[1]]).ended(0);
    assert_eq!(first.out.matches("[[certificate]]").count(), SOME.len(), "{}", first.out);
    assert!(!fs::read_to_string(&wire).unwrap().contains("PRIVATE KEY"));
    let connections = sally.connections();

    let config = world.config(&entries()).unwrap();
    let taken = command(&config, &["import", "sally", from[0], from[1], "--accounts", "--json"])
        .env("RUST_LOG", "trace")
        .spawn()
        .map(finish)
        .unwrap()
        .ended(0);

    let json = taken.json();
    for lineage in json["lineages"].as_array().unwrap() {
        assert_eq!(lineage["taken-over"], true, "{lineage:#}");
    }
    assert!(json["accounts"][0]["problem"].as_str().unwrap().contains("an RSA key"), "{json:#}");
    assert_eq!(json["incomplete"], false);
    assert_eq!(sally.connections(), connections + 1);
    for &(name, ..) in SOME {
        let stored = world.store().join("certificates").join(name).join("versions/1");
        let live = sally.live.join(name);
        for file in ["privkey.pem", "fullchain.pem", "cert.pem", "chain.pem"] {
            assert_eq!(
                fs::read(stored.join(file)).unwrap(),
                fs::read(live.join(file)).unwrap(),
                "{name}/{file}"
            );
        }
        let mode = fs::metadata(stored.join("privkey.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for line in secret_lines(&live.join("privkey.pem")) {
            assert!(!taken.err.contains(&line) && !taken.out.contains(&line), "a key is shown");
        }
    }

    // The next pass finds nothing to do.
    certfleet(&config, &["run", "--once"]).ended(0);
    certfleet(&config, &["plan"]).ended(0).printed("not due, renews 20");
    assert_eq!(world.pebble.orders(), orders, "something was issued before its time");
    assert_eq!((sally.reloads(), sally.tests()), (0, 0), "what is served was pushed");
    assert_eq!(sally.served(SOME[0].0).unwrap().leaf(), served.leaf());
    let after: Vec<_> =
        ["live", "archive", "renewal", "accounts"].map(|part| listing(&sally.root.join(part))).into();
    assert_eq!(after, before, "something of certbot's was changed");
    certfleet(&config, &["history", SOME[0].0]).ended(0).printed("sally").printed("from certbot");
    certfleet(&config, &["import", "sally", from[0], from[1]])
        .ended(0)
        .printed("the store has versions of it already");

    // And when it is time, what certbot made gives way.
    certfleet(&config, &["renew", "--force", SOME[0].0]).ended(0);
    assert_eq!(world.pebble.orders(), orders + 1);
    assert_ne!(sally.served(SOME[0].0).unwrap().leaf(), served.leaf());
    certfleet(&config, &["import", "sally", from[0], from[1]]).ended(0);
    // What certfleet keeps beside them is no lineage.
    certfleet(&config, &["import", from[1]]).ended(0);

    this_machine(&world, &config);
}

/// The same folder, as that of this machine, into another store; with an account of the kind that we use.
fn this_machine(world: &World, config: &Path) {
    let sally = world.host("sally");
    sally.stop_sshd();
    let store = world.dir.path().join("second");
    let text = fs::read_to_string(config).unwrap();
    let text = text.replace(world.store().to_str().unwrap(), store.to_str().unwrap());
    let here =
        format!("[host.here]\nkind = \"local\"\ndirectory = {:?}\nsudo = false\n\n[group]", sally.live);
    fs::write(config, text.replace("[group]", &here)).unwrap();
    let server = world.pebble.directory.strip_prefix("https://").unwrap();
    let account = sally.root.join("accounts").join(server).join("zz");
    fs::create_dir_all(&account).unwrap();
    let url = format!("{}/of-certbot", world.pebble.directory);
    fs::write(account.join("regr.json"), json!({ "uri": url, "body": {} }).to_string()).unwrap();
    let key = KeyPair::generate().unwrap();
    let (der, point) = (key.serialize_der(), key.public_key_raw().to_vec());
    let at = der.windows(2).position(|two| two == [0x04, 0x20]).unwrap() + 2;
    let [d, x, y] = [&der[at..at + 32], &point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
    let jwk = json!({ "kty": "EC", "crv": "P-256", "d": d, "x": x, "y": y }).to_string();
    fs::write(account.join("private_key.json"), jwk).unwrap();
    let import = |more: &[&str]| {
        let args = ["import", "here", "--from", sally.root.to_str().unwrap()];
        certfleet(config, &[&args[..], more].concat())
    };

    let without = import(&[]).ended(0);

    assert_eq!(without.out.matches("taken over as version 1").count(), SOME.len(), "{}", without.out);
    assert!(!without.out.contains("account"), "{}", without.out);
    certfleet(config, &["account", "show"]).printed("none yet");
    let with = import(&["--accounts"]).ended(0).printed("zz: used for pebble from now on");
    let with = with.printed("an RSA key").printed("here:").printed("the store has versions of it already");
    assert!(!with.out.contains(&d), "{}", with.out);
    certfleet(config, &["account", "show"]).printed(&url);
    certfleet(config, &["history"]).printed("an account, from certbot");
}

/// All that lies below, by name.
fn names_below(folder: &Path) -> String {
    run(Command::new("find").arg(folder).args(["-printf", "%p %y %l %s\\n"])).unwrap()
}

/// What came of each lineage, whoever read it.
fn judged(ran: &Ran, host: &str) -> Value {
    let text = ran.json()["lineages"].to_string().replace(&format!("{host}:/"), "/");
    serde_json::from_str(&text).unwrap()
}

/// Which of them has this name.
fn at(judged: &Value, name: &str) -> usize {
    judged.as_array().unwrap().iter().position(|lineage| lineage["name"] == name).unwrap()
}

#[test]
fn a_host_is_judged_as_a_folder_is_whatever_shell_it_has() {
    let shells = ["dash", "bash", "busybox"];
    let world = World::builder().hosts(&shells).start().unwrap();
    let root = world.dir.path().join("letsencrypt");
    bad_tree(&root);
    let authority = Authority::new("some CA").unwrap();
    for name in ["dash", "bash"] {
        symlink(parts::find(name).unwrap(), world.host(name).root.join("bin/sh")).unwrap();
    }
    let busybox = parts::busybox().unwrap();
    let applets = busybox.command().arg("--list").output().unwrap();
    for applet in String::from_utf8_lossy(&applets.stdout).lines() {
        let place = world.host("busybox").root.join("bin").join(applet);
        // Its test command has the name of one.
        if !place.exists() {
            symlink(busybox.path(), place).unwrap();
        }
    }
    // Not all that lies beside a key is ASCII, and what is sent is counted.
    made::install_as_certbot(&root, "umlaut", &authority.issue(&["www.social.test"], -DAY, DAY).unwrap())
        .unwrap();
    let key = root.join("archive/umlaut/privkey1.pem");
    fs::write(&key, format!("Schlüssel für 東京\r\n{}", fs::read_to_string(&key).unwrap())).unwrap();
    let names = BAD.into_iter().map(|(name, _)| name).chain(["good", "umlaut"]);
    let tables: String = names
        .map(|name| {
            format!("[[certificate]]\nname = \"{name}\"\ndomains = [\"www.social.test\"]\nhosts = []\n\n")
        })
        .collect();
    let config = world.config(&tables).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let before = names_below(&root);
    let from = root.to_str().unwrap();
    let by_path = judged(&certfleet(&config, &["import", from, "--json"]).ended(1), "");
    for (name, why) in BAD {
        let found = &by_path[at(&by_path, name)];
        assert!(found["outcome"].as_str().unwrap().contains(why), "{found:#}");
    }

    for shell in shells {
        let store = world.dir.path().join(shell);
        let here = text.replace(world.store().to_str().unwrap(), store.to_str().unwrap());
        fs::write(&config, here).unwrap();

        let by_host = certfleet(&config, &["import", shell, "--from", from, "--json"]).ended(1);

        let (mut judged, mut expected) = (judged(&by_host, shell), by_path.clone());
        // What is no key at all does not leave the host.
        let binary = at(&judged, "binary");
        assert_eq!(judged[binary]["outcome"], "its private key cannot be read", "{shell}");
        for list in [&mut judged, &mut expected] {
            list.as_array_mut().unwrap().remove(binary);
        }
        assert_eq!(judged, expected, "{shell}: {}", by_host.err);
        for name in ["good", "umlaut"] {
            let stored =
                fs::read(store.join("certificates").join(name).join("versions/1/privkey.pem")).unwrap();
            assert_eq!(stored, fs::read(root.join("live").join(name).join("privkey.pem")).unwrap());
        }
        assert_eq!(fs::read_dir(store.join("certificates")).unwrap().count(), 2);
    }
    assert_eq!(names_below(&root), before, "something was written there");
}

#[test]
fn what_cannot_be_read_there_is_told_with_the_way_to_it() {
    let world = World::builder().hosts(&["sally", "esme", "edge"]).start().unwrap();
    let (sally, esme, edge) = (world.host("sally"), world.host("esme"), world.host("edge"));
    let authority = Authority::new("some CA").unwrap();
    for host in [sally, esme, edge] {
        host.install("www", &authority.issue(&["www.social.test"], -DAY, 80 * DAY).unwrap()).unwrap();
        fs::create_dir_all(host.root.join("accounts/ca.test")).unwrap();
    }
    // A user who may not look in there, also where that user is root's.
    let rights = "-dac_override,-dac_read_search";
    let less = format!(
        "exec setpriv --inh-caps={rights} --bounding-set={rights} sh -c \\\"$SSH_ORIGINAL_COMMAND\\\""
    );
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if rustix::process::geteuid().is_root() {
        force(sally, &less);
        force(esme, &less);
    }
    let closed = [sally.live.clone(), esme.root.join("archive/www"), esme.root.join("accounts")];
    closed.iter().for_each(|path| set(path, 0o000));
    let sudo = edge.root.join("bin/sudo");
    made::write_private(&sudo, "#!/bin/sh\n[ \"$1\" = -n ] || exit 1\nshift; exec \"$@\"\n").unwrap();
    fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755)).unwrap();
    let config = world
        .config("[[certificate]]\nname = \"www\"\ndomains = [\"www.social.test\"]\nhosts = []\n")
        .unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let (before, after) = text.split_once("[host.edge]").unwrap();
    let after = after.replacen("sudo = false", "sudo = true\nvia = \"sally\"", 1);
    fs::write(&config, format!("{before}[host.edge]{after}")).unwrap();
    let import = |host: &str, folder: &Path, more: &[&str]| {
        let folder = folder.to_str().unwrap();
        certfleet(&config, &[&["import", host, "--from", folder][..], more].concat())
    };

    let all = import("sally", &sally.root, &[])
        .ended(2)
        .said("cannot read sally:/")
        .said("/live: Permission denied");
    all.said(&format!("`{}` may not read it: set `sudo = true`", sally.user));
    let some = import("esme", &esme.root, &["--accounts"]).ended(1);
    let some = some.printed("live/www/fullchain.pem: Permission denied").printed("in [host.esme]");
    some.printed("/accounts: cannot read esme:/");
    import("sally", Path::new("/nowhere"), &[])
        .ended(2)
        .said("cannot read sally:/nowhere: No such")
        .said("--from DIR");
    import("sally", Path::new("/usr"), &[]).ended(2).said("sally:/usr has neither `live` nor `renewal`");
    for store in ["certificates", "accounts"] {
        let held = fs::read_dir(world.store().join(store)).map_or(0, Iterator::count);
        assert_eq!(held, 0, "{store}");
    }
    let (through, connections) = (sally.connections(), edge.connections());

    import("edge", &edge.root, &["--accounts"])
        .ended(0)
        .printed("taken over")
        .printed("there are no accounts");

    assert_eq!((sally.connections(), edge.connections()), (through + 1, connections + 1));

    // What is neither.
    let args = |args: &[&str]| certfleet(&config, &[&["import"], args].concat()).ended(2);
    args(&["salyl"]).said("did you mean `sally`?").said("nor is it a folder here");
    args(&["/etc", "--from", "/etc"]).said("`--from` names a folder on a host");
    args(&["sally", "--from", "etc"]).said("begin with `/`");
    args(&["sally", "--from", "/a\nb"]).said("no folder should have");
    without_config(&["import", "sally"])
        .ended(2)
        .said("no folder here, and without certs.toml there are no hosts");
    // A host that shows another key is shown nothing, and asked for nothing.
    fs::write(&config, text.replace(&edge.host_key, &made_up_key())).unwrap();
    import("edge", &edge.root, &[]).ended(1).said("`edge` shows the key");
    // One where our key can bring certificates only.
    fs::write(&config, text.replace("[host.edge]", "[host.edge]\nreceiver = true")).unwrap();
    import("edge", &edge.root, &[]).ended(1).said("`edge` takes certificates only").said("import PATH");
    esme.stop_sshd();
    import("esme", &esme.root, &[]).ended(1).said("`esme` refuses connections");
    // To be cleared away.
    closed.iter().for_each(|path| set(path, 0o700));
}

/// A host key that no host has.
fn made_up_key() -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&file))
        .unwrap();
    fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned()
}

/// What root gives out by certfleet-local.socket is certbot's, whatever is asked for.
#[test]
fn root_reads_no_folder_that_somebody_else_names() {
    let world = World::builder().hosts(&["sally"]).start().unwrap();
    let config = world.config("[host.here]\nkind = \"local\"\n").unwrap();
    let secret = Authority::new("some CA").unwrap().issue(&["www.social.test"], -DAY, DAY).unwrap();
    let root = world.dir.path().join("elsewhere");
    made::install_as_certbot(&root, "certfleet-test", &secret).unwrap();
    let nonce = "0123456789abcdef0123456789abcdef";
    for (host, says) in [("here", None), ("sally", Some("no [host.sally] with `kind = \"local\"`"))] {
        let request =
            format!("certfleet-local 1 {host} lineages 1 {nonce}\n{}\ncertfleet-test\n", root.display());
        let mut command = command(&config, &["local-receive"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();

        let ran = finish(child);

        assert!(ran.out.starts_with(&format!("{nonce} begin\n")), "{ran:?}");
        assert!(ran.out.ends_with(&format!("{nonce} end\n")), "{ran:?}");
        assert!(!ran.out.contains("certfleet-test") && !ran.out.contains("PRIVATE KEY"), "{ran:?}");
        match says {
            Some(says) => assert!(ran.out.contains(says), "{ran:?}"),
            None => assert!(!ran.out.contains("failed -"), "{ran:?}"),
        }
    }
}
