//! Taking over what a real certbot left behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::tool::{Ran, certfleet, finish};
use crate::world::made::{self, Authority, DAY};
use crate::world::pebble::Behaviour;
use crate::world::process::run;
use crate::world::{World, parts};

mod forms;
mod from_host;
mod lying;

/// Names of lineages, their domains, and what certbot is told besides.
const LINEAGES: [(&str, &[&str], &[&str]); 5] = [
    ("media.social.test", &["media.social.test"], &[]),
    ("social.test", &["social.test", "*.social.test"], &["--key-type", "rsa", "--rsa-key-size", "2048"]),
    (
        "shop.social.test",
        &["shop.social.test", "a.social.test"],
        &["--key-type", "ecdsa", "--elliptic-curve", "secp384r1"],
    ),
    ("old-name", &["blog.social.test"], &[]),
    ("wiki.social.test", &["wiki.social.test"], &["--key-type", "ecdsa"]),
];

/// A folder of certbot's with these, made by certbot.
fn made_by_certbot(world: &World, root: &Path, lineages: &[(&str, &[&str], &[&str])]) {
    for &(name, domains, extra) in lineages {
        let mut certbot = parts::certbot().unwrap();
        certbot
            .env("REQUESTS_CA_BUNDLE", &world.pebble.directory_ca)
            .args(["certonly", "--non-interactive", "--agree-tos", "--email", "ops@social.test"])
            .args(["--manual", "--preferred-challenges", "dns", "--manual-auth-hook", "true"])
            .args(["--server", &world.pebble.directory, "--cert-name", name])
            .args(domains.iter().flat_map(|domain| ["-d", domain]))
            .args(["--key-type", "ecdsa"].iter().filter(|_| extra.is_empty()))
            .args(extra)
            .arg("--config-dir")
            .arg(root)
            .arg("--work-dir")
            .arg(world.dir.path().join("certbot-work"))
            .arg("--logs-dir")
            .arg(world.dir.path().join("certbot-logs"));
        run(&mut certbot).unwrap();
    }
}

fn world() -> World {
    let behaviour = Behaviour { always_valid: true, ..Behaviour::default() };
    World::builder().hosts(&["sally"]).site(&["media.social.test"]).pebble(behaviour).start().unwrap()
}

#[test]
fn what_certbot_has_is_renewed_when_its_time_comes_and_not_before() {
    let world = world();
    let root = world.dir.path().join("letsencrypt");
    made_by_certbot(&world, &root, &LINEAGES);
    let before = listing(&root);
    let path = root.to_str().unwrap();

    // First without a configuration, as whoever begins has none.
    let first = without_config(&["import", path]).ended(0);
    let (_, entries) = first.out.split_once("this again:\n\n").unwrap();
    assert_eq!(entries.matches("[[certificate]]").count(), 5, "{}", first.out);
    let hosts = "hosts = [\"sally\"]";
    let tables = entries
        .replace("\n\n", &format!("\n{hosts}\n\n"))
        .lines()
        .map(|line| format!("{line}\n"))
        .collect::<String>();
    let config = world.config(&format!("{tables}{hosts}\n")).unwrap();
    let orders = world.pebble.orders();

    let taken = certfleet(&config, &["import", path, "--accounts", "--json"]).ended(0).json();

    for lineage in taken["lineages"].as_array().unwrap() {
        assert_eq!(lineage["taken-over"], true, "{lineage:#}");
    }
    let account = &taken["accounts"][0];
    assert!(account["problem"].as_str().unwrap().contains("an RSA key"), "{taken:#}");
    certfleet(&config, &["import", path]).ended(0).printed("the store has versions of it already");
    let plan = certfleet(&config, &["plan", "--json"]).ended(3).json();
    let actions = plan["actions"].as_array().unwrap();
    assert!(actions.iter().all(|action| action["action"] == "deploy"), "{plan:#}");
    certfleet(&config, &["plan"]).printed("old-name: not due, renews 20").printed("share of its life left");
    for (name, ..) in LINEAGES {
        let stored = world.store().join("certificates").join(name).join("versions/1");
        for file in ["privkey.pem", "fullchain.pem", "cert.pem"] {
            assert_eq!(
                fs::read(stored.join(file)).unwrap(),
                fs::read(root.join("live").join(name).join(file)).unwrap(),
                "{name}/{file}"
            );
        }
        let mode = fs::metadata(stored.join("privkey.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    certfleet(&config, &["renew"]).ended(0);
    assert_eq!(world.pebble.orders(), orders, "something was issued before its time");
    let served = world.host("sally").served("media.social.test").unwrap();
    assert!(!served.expired(), "what was taken over is not deployed");

    certfleet(&config, &["renew", "--force", "media.social.test"]).ended(0);
    assert_eq!(world.pebble.orders(), orders + 1);
    assert_ne!(world.host("sally").served("media.social.test").unwrap().leaf(), served.leaf());
    certfleet(&config, &["history", "media.social.test"])
        .ended(0)
        .printed("imported")
        .printed("from certbot");
    assert_eq!(listing(&root), before, "something of certbot's was changed");
}

/// What is wrong with the lineages of [`bad_tree`].
const BAD: [(&str, &str); 11] = [
    ("dangling", "is a link to a file that is not there"),
    ("mixed", "fullchain.pem leads to fullchain2.pem, privkey.pem to privkey1.pem"),
    ("other-key", "does not belong to its certificate"),
    ("pipe", "is not a file"),
    ("huge", "is larger than"),
    ("locked", "has a passphrase"),
    ("expired", "the certificate ended at"),
    ("binary", "is not text"),
    ("empty", "there is no certificate in it"),
    ("zero", "is not a file"),
    ("gone", "No such file"),
];

/// Lineages that are all bad but one, `good`.
fn bad_tree(root: &Path) {
    let authority = Authority::new("some CA").unwrap();
    let lineage = |name: &str, from: i64, until: i64| {
        let pair = authority.issue(&["www.social.test"], from, until).unwrap();
        made::install_as_certbot(root, name, &pair).unwrap();
    };
    let names = [
        "good",
        "dangling",
        "mixed",
        "other-key",
        "pipe",
        "huge",
        "locked",
        "expired",
        "binary",
        "empty",
        "zero",
    ];
    for name in names {
        lineage(name, -DAY, if name == "expired" { -60 } else { 80 * DAY });
    }
    // A second version, of which only the chain is in use.
    lineage("mixed", -DAY, 80 * DAY);
    let file = |name: &str, which: &str| root.join("live").join(name).join(which);
    let replace = |name: &str, which: &str| {
        fs::remove_file(file(name, which)).unwrap();
        file(name, which)
    };
    symlink("../../archive/mixed/privkey1.pem", replace("mixed", "privkey.pem")).unwrap();
    symlink("../../archive/dangling/fullchain9.pem", replace("dangling", "fullchain.pem")).unwrap();
    symlink("../../archive/good/privkey1.pem", replace("other-key", "privkey.pem")).unwrap();
    run(Command::new("mkfifo").arg(replace("pipe", "privkey.pem"))).unwrap();
    fs::File::create(replace("huge", "fullchain.pem")).unwrap().set_len(100 << 20).unwrap();
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(replace("locked", "privkey.pem"), locked).unwrap();
    fs::write(replace("binary", "privkey.pem"), [0xff, 0xfe, 0x00]).unwrap();
    fs::write(replace("empty", "fullchain.pem"), "").unwrap();
    symlink("/dev/zero", replace("zero", "fullchain.pem")).unwrap();
    fs::create_dir_all(root.join("live/-rf \u{1b}[2J")).unwrap();
    fs::create_dir_all(root.join("renewal")).unwrap();
    fs::write(root.join("renewal/gone.conf"), "cert = nothing\n").unwrap();
}

#[test]
fn each_bad_lineage_has_a_message_of_its_own_and_the_others_are_taken() {
    let world = World::builder().start().unwrap();
    let root = world.dir.path().join("letsencrypt");
    bad_tree(&root);
    let config = world
        .config("[[certificate]]\nname = \"good\"\ndomains = [\"www.social.test\"]\nhosts = []\n")
        .unwrap();

    let taken = certfleet(&config, &["import", root.to_str().unwrap(), "--json"]).ended(1);

    let json = taken.json();
    let lineages = json["lineages"].as_array().unwrap();
    let outcome = |name: &str| {
        let found = lineages.iter().find(|lineage| lineage["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {json:#}"))["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(outcome("good"), "taken over as version 1");
    for (name, why) in BAD.into_iter().chain([("-rf \\u{1b}[2J", "characters that no certificate")]) {
        assert!(outcome(name).contains(why), "{name}: {}", outcome(name));
    }
    assert!(!taken.out.contains('\u{1b}') && !taken.out.contains("PRIVATE KEY"));
    certfleet(&config, &["import", "/nowhere"]).ended(2).said("cannot read /nowhere");
    certfleet(&config, &["import", "/usr"]).ended(2).said("no folder of certbot's");
}

/// A tree that somebody else has made, to be read by root.
#[test]
fn a_hostile_tree_hangs_nobody_shows_nothing_and_is_harmless_to_paste() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("letsencrypt");
    let authority = Authority::new("some CA").unwrap();
    let pair = authority.issue(&["www.social.test"], -DAY, 80 * DAY).unwrap();
    for name in ["good", "out", "conf", "fifo-conf", "huge-conf", "key-as-chain"] {
        made::install_as_certbot(&root, name, &pair).unwrap();
    }
    fs::create_dir_all(root.join("renewal")).unwrap();
    let live = |name: &str, file: &str| {
        let path = root.join("live").join(name).join(file);
        let _ = fs::remove_file(&path);
        path
    };
    // Out of the tree, to what is a secret and no certificate; and to one that is.
    let secret = folder.path().join("shadow");
    fs::write(&secret, "root:$6$canary-of-a-shadow:19000:0:99999:7:::\n").unwrap();
    symlink(&secret, live("out", "fullchain.pem")).unwrap();
    symlink(root.join("live/good/privkey.pem"), live("key-as-chain", "fullchain.pem")).unwrap();
    symlink("/proc/self/environ", root.join("renewal/environ.conf")).unwrap();
    symlink("/dev/zero", root.join("renewal/zero.conf")).unwrap();
    symlink("loop.conf", root.join("renewal/loop.conf")).unwrap();
    run(Command::new("mkfifo").arg(root.join("renewal/fifo-conf.conf"))).unwrap();
    fs::File::create(root.join("renewal/huge-conf.conf")).unwrap().set_len(100 << 30).unwrap();
    let evil = "[renewalparams]\nserver = https://ca.test/\u{1b}[2J\"\u{202e}\rname = \"evil\"\n\
                pre_hook = touch PWNED\ndeploy_hook = `touch PWNED`\nserver = second\n";
    fs::write(
        root.join("renewal/conf.conf"),
        evil.replace("PWNED", &folder.path().join("pwned").to_string_lossy()),
    )
    .unwrap();
    // Accounts that are none: pipes, links in a circle, a bomb of brackets.
    let account = root.join("accounts/ca.test/directory/1");
    fs::create_dir_all(&account).unwrap();
    run(Command::new("mkfifo").arg(account.join("private_key.json"))).unwrap();
    fs::write(account.join("regr.json"), "[".repeat(100_000)).unwrap();
    symlink(root.join("accounts"), root.join("accounts/again")).unwrap();
    fs::create_dir_all(root.join("live/README")).unwrap();

    let path = root.to_str().unwrap();
    let (text, json) = (
        without_config(&["import", path]).ended(1),
        without_config(&["import", path, "--json"]).ended(1).json(),
    );

    for shown in [text.out.clone(), text.err.clone(), json.to_string()] {
        assert!(!shown.contains("canary-of-a-shadow") && !shown.contains("PRIVATE KEY"), "{shown}");
        assert!(!shown.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{shown:?}");
        assert!(!shown.contains("CARGO"), "the environment is shown: {shown}");
    }
    assert!(!folder.path().join("pwned").exists(), "a hook was run");
    let outcome = |name: &str| {
        let all = json["lineages"].as_array().unwrap();
        let found = all.iter().find(|lineage| lineage["name"] == name).unwrap_or_else(|| panic!("{json:#}"));
        found["outcome"].as_str().unwrap().to_owned()
    };
    for (name, what) in [
        ("good", "not in certs.toml yet"),
        ("conf", "not in certs.toml yet"),
        ("fifo-conf", "not in certs.toml yet"),
        ("huge-conf", "not in certs.toml yet"),
        ("out", "there is no certificate in it"),
        ("key-as-chain", "there is no certificate in it"),
        ("zero", "No such file"),
        ("loop", "No such file"),
    ] {
        assert!(outcome(name).contains(what), "{name}: {}", outcome(name));
    }
    // What it prints is a certs.toml that has what it says, and nothing else.
    let (_, entries) = text.out.split_once("this again:\n\n").unwrap();
    let config = folder.path().join("certs.toml");
    let head = "[issuer.letsencrypt]\naccept-terms = true\n[dns.main]\nprovider = \"exec\"\ncommand = \"/bin/true\"\n";
    let store = folder.path().join("store");
    fs::write(&config, format!("[store]\npath = {store:?}\n{head}\n{entries}")).unwrap();
    let plan = certfleet(&config, &["plan", "--json"]).ended(3).json();
    let names: Vec<&str> = plan["actions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|action| action["certificate"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["conf", "fifo-conf", "good", "huge-conf"], "{plan:#}");
    let taken = certfleet(&config, &["import", path, "--accounts"]).ended(1).printed("good: ");
    assert!(!taken.out.contains("canary-of-a-shadow") && !taken.out.contains('\u{1b}'), "{}", taken.out);
}

fn without_config(args: &[&str]) -> Ran {
    let empty = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_certfleet"));
    command.args(args).current_dir(empty.path()).env_remove("CERTFLEET_CONFIG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn().unwrap())
}

/// Every file below, with its bytes or where it leads.
fn listing(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match fs::read_link(&path) {
                Ok(to) => found.push((path, to.into_os_string().into_encoded_bytes())),
                Err(_) if path.is_dir() => folders.push(path),
                Err(_) => found.push((path.clone(), fs::read(path).unwrap())),
            }
        }
    }
    found.sort();
    found
}
