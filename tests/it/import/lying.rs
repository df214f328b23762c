//! Hosts that lie about what certbot has there.

use std::fmt::Write;

use crate::scan::lying::{EVIL, force, lie, record};
use crate::tool::command;
use crate::world::host::Host;
use crate::world::made::Pair;

use super::*;

const ENTRY: &str = "[[certificate]]\nname = \"www\"\ndomains = [\"www.social.test\"]\nhosts = []\n";

/// Has the host say this, whatever certbot has there.
fn says(host: &Host, records: &str) {
    let file = host.root.join("said");
    fs::write(&file, records).unwrap();
    lie(host, &format!("cat {} | say", file.display()));
}

/// A lineage, as an honest host sends it.
fn lineage(name: &str, pair: &Pair) -> String {
    record("lineage", "-", name)
        + &record("link", "chain", "fullchain1.pem")
        + &record("text", "chain", &format!("{}{}", pair.leaf, pair.chain))
        + &record("link", "key", "privkey1.pem")
        + &record("text", "key", &pair.key)
}

/// Every file below but those of the servers of this world.
fn files(world: &World) -> Vec<PathBuf> {
    let all = listing(world.dir.path()).into_iter().map(|(path, _)| path);
    all.filter(|path| {
        ["hosts", "ns", "pebble", "tmp"].iter().all(|part| !path.starts_with(world.dir.path().join(part)))
    })
    .collect()
}

#[test]
fn nothing_of_what_a_host_says_gets_further_than_it_should() {
    let refused = [
        ("endless", "said more than any answer takes"),
        ("complains", "said more than any answer takes"),
        ("garbage", "gave no answer"),
        ("half", "a text ends too early"),
        ("cut", "its answer has no end"),
        ("slipped", "may be part of a private key"),
        ("twice", "not exactly one record for `www`"),
        ("strange", "the word `installed` is not known"),
        ("astray", "the word `key` is not known"),
        ("bad-tree", "the word `perhaps` is not known"),
        ("flood", "there is more in it than is ever sent"),
        ("large", "there is more in it than is ever sent"),
        ("gone", "has neither `live` nor `renewal`"),
        ("impostor", "shows the key"),
    ];
    let hosts: Vec<&str> = refused.iter().map(|(host, _)| *host).chain(["evil", "many"]).collect();
    let world = World::builder().hosts(&hosts).start().unwrap();
    let host = |name: &str| world.host(name);
    let authority = Authority::new("some CA").unwrap();
    let issue = |domain: &str| authority.issue(&[domain], -DAY, 80 * DAY).unwrap();
    let (www, other) = (issue("www.social.test"), issue("www.social.test"));
    let good = lineage("www", &www);
    lie(host("endless"), "yes");
    force(host("complains"), "yes a lot >&2");
    lie(host("garbage"), "head -c 100000 /dev/urandom");
    // Each begins as it should, with a lineage that could be taken.
    says(host("half"), &format!("{good}text - key - 99999\n{}", www.key));
    fs::write(host("cut").root.join("said"), &good).unwrap();
    lie(host("cut"), &format!("echo \"$nonce begin\"; cat {}", host("cut").root.join("said").display()));
    says(host("slipped"), &good.replace(&format!("key - {}", www.key.len()), "key - 27"));
    says(host("twice"), &format!("{good}{}", lineage("www", &other)));
    says(host("strange"), &format!("{good}{}", record("installed", "-", "")));
    says(
        host("astray"),
        &format!("{good}{}{}", record("account", "-", "a"), record("text", "key", &www.key)),
    );
    says(host("bad-tree"), &record("tree", "perhaps", "/etc/letsencrypt"));
    says(host("gone"), &record("tree", "odd", EVIL));
    says(host("impostor"), &good);
    // Whatever is not what it should be, and one that is.
    let server = record("conf", "-", &format!("server = https://ca.test/{EVIL}"));
    let swapped = Pair { key: other.key.clone(), ..www.clone() };
    let mut evil = lineage("www", &swapped);
    for name in
        ["../../../../etc/cron.d/www", "/etc/www", "..", ".", "", "www/../../www", ".certfleet", "a\nb", EVIL]
    {
        evil += &lineage(name, &www);
    }
    evil += &lineage("unasked", &www);
    evil += &(record("lineage", "-", "keyless") + &record("text", "chain", &www.leaf));
    evil += &(lineage("good", &issue("good.social.test")) + &record("conf", "-", ""));
    evil += &(lineage("from-afar", &issue("afar.social.test")) + &server);
    evil += &lineage("for-others", &issue("bank.social.test"));
    evil += &record("lineage", "-", "empty");
    for path in ["../../../../root/.ssh", "/etc/x", EVIL, "ca.test/directory/1"] {
        evil += &record("account", "-", path);
        evil += &record("text", "regr", &"[".repeat(100_000));
        evil += &record("text", "jwk", &www.key);
    }
    evil += &record("closed", "accounts", "");
    says(host("evil"), &evil);
    let mut flood = String::new();
    for number in 0..200_000 {
        let _ = writeln!(flood, "lineage - - - 6\n{number:06}");
    }
    says(host("flood"), &flood);
    says(host("large"), &(record("lineage", "-", "www") + &record("text", "chain", &www.leaf.repeat(1000))));
    let half = record("lineage", "-", "unasked") + &record("text", "chain", &www.leaf);
    says(host("many"), &(lineage("for-others", &www) + &half + &record("more", "part", "")));
    let entry = |name: &str, domain: &str| {
        format!("[[certificate]]\nname = \"{name}\"\ndomains = [\"{domain}\"]\nhosts = []\n\n")
    };
    let tables = ENTRY.to_owned()
        + &entry("good", "good.social.test")
        + &entry("from-afar", "afar.social.test")
        + &entry("keyless", "www.social.test")
        + &entry("for-others", "shop.social.test");
    let config = world.config(&tables).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace(&host("impostor").host_key, &host("evil").host_key)).unwrap();
    force(host("impostor"), &format!("touch {}", host("impostor").root.join("asked").display()));
    let tmp = world.dir.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    let import = |host: &str| {
        let mut command = command(&config, &["import", host, "--accounts"]);
        command.env("TMPDIR", &tmp).current_dir(&tmp);
        let child = command.spawn().unwrap();
        let peak = crate::fleet::peak_memory(child.id());
        let ran = finish(child);
        let peak = peak.join().unwrap();
        assert!(peak < 400_000, "{host}: {peak} kB");
        let keys = [&www, &other].map(|pair| pair.key.lines().nth(1).unwrap().to_owned());
        for shown in [&ran.out, &ran.err] {
            let bad = shown.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
            assert_eq!(bad, None, "{host}: {shown}");
            assert!(!keys.iter().any(|key| shown.contains(key)), "{host}: {shown}");
            assert!(!shown.lines().any(|line| line.starts_with("name = \"evil\"")), "{host}: {shown}");
        }
        ran
    };
    let before = files(&world);

    for (host, why) in refused {
        let ran = import(host);
        assert!(matches!(ran.code, 1 | 2) && ran.err.contains(why), "{host}: {} {}", ran.code, ran.err);
    }

    assert_eq!(files(&world), before, "something was written");
    assert!(!host("impostor").root.join("asked").exists(), "who shows another key was asked");

    let ran = import("evil").ended(1);
    for line in [
        "good: good.social.test, ecdsa-p256",
        "www: cannot be taken over: its private key does not belong to its certificate",
        "..: cannot be taken over: its name has characters",
        "/etc/www: cannot be taken over: its name",
        "it would be issued anew: it comes from https://ca.test/",
        "it would be issued anew: certs.toml asks for other domains",
        "name = \"unasked\"",
        "keyless: cannot be taken over: its private key was not sent",
        "empty: cannot be taken over: cannot read evil:/etc/letsencrypt/live/empty/fullchain.pem: No such file",
        "account evil:/etc/letsencrypt/accounts/ca.test/directory/1: ",
        "account evil:/etc/letsencrypt/accounts: cannot read",
    ] {
        assert!(ran.out.contains(line), "{line} is not in\n{}", ran.out);
    }
    let many = import("many").ended(1).printed("for-others: www.social.test").printed("INCOMPLETE");
    assert!(!many.out.contains("unasked"), "{}", many.out);

    let versions: Vec<PathBuf> = fs::read_dir(world.store().join("certificates"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("versions").exists())
        .collect();
    assert_eq!(versions, [world.store().join("certificates/good")]);
    let outside = files(&world).into_iter().filter(|path| !path.starts_with(world.store()));
    assert!(outside.eq(before), "something was written outside of the store");
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0, "something was left");
}
