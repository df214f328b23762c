//! Hosts that lie, and hosts where odd things lie about.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread;

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use serde_json::Value;

use crate::tool::{Ran, certfleet, command, finish};
use crate::world::World;
use crate::world::host::Host;
use crate::world::made::{Authority, DAY};
use crate::world::process::run;

use super::{certificate, flags};

/// What no screen may get, nor anybody's shell, nor certs.toml.
pub(crate) const EVIL: &str =
    "\u{1b}[2J\u{1b}]0;pwn\u{7}</td><script>\"]\nname = \"evil\" # $(id)`id`\u{202e}\u{9b}31m";
const CANARY: &str = "canary-of-a-config-0x1d";

/// Has the host run this in place of what it is asked to: `$nonce` and `$action` are those of the question.
pub(crate) fn lie(host: &Host, answer: &str) {
    let script = host.root.join("lie");
    let text = format!(
        "exec 2>/dev/null\ninput=$(cat | tr -d '\\000')\n\
         question=$(printf '%s\\n' \"$input\" | grep -aoE '^[0-9a-f]{{32}} (config|read|lineages[a-z-]*) [0-9]+' | tail -n 1)\n\
         nonce=${{question%% *}} action=${{question#* }} action=${{action% *}}\n\
         say() {{ printf '%s begin\\n' \"$nonce\"; cat; printf '%s end\\n' \"$nonce\"; }}\n{answer}\n"
    );
    fs::write(&script, text).unwrap();
    force(host, &format!("sh {}", script.display()));
}

/// Has the host run this in place of the command that it is asked for.
pub(crate) fn force(host: &Host, command: &str) {
    let file = host.root.join("ssh/authorized_keys");
    let key = fs::read_to_string(&file).unwrap();
    let key = &key[key.find("ssh-ed25519").unwrap()..];
    fs::write(&file, format!("command=\"{command}\" {key}")).unwrap();
}

/// A record of an answer, with a text of any kind.
pub(crate) fn record(word: &str, detail: &str, text: &str) -> String {
    format!("{word} - {detail} - {}\n{text}\n", text.len())
}

fn config_of(text: &str) -> String {
    record("config", "-", &format!("# configuration file /etc/nginx/nginx.conf:\n{text}"))
}

/// Whoever looks at what came of it is none the worse.
fn harmless(ran: &Ran) {
    for text in [&ran.out, &ran.err] {
        let bad = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(bad, None, "{text}");
        assert!(!text.contains("PRIVATE KEY") && !text.contains(CANARY), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("name = \"evil\"")), "{text}");
    }
}

/// A certificate whose names are what no CA would put into one.
fn odd_certificate() -> String {
    let mut params = CertificateParams::new(vec!["shop.social.test".to_owned()]).unwrap();
    for name in
        ["a\"]\nname = \"evil\"", "\u{1b}[2J.social.test", "<script>.social.test", "$(id).social.test"]
    {
        params.subject_alt_names.push(SanType::DnsName(name.try_into().unwrap()));
    }
    // Twice the same, and one that a certificate of certs.toml is called after.
    params.subject_alt_names.push(SanType::DnsName("shop.social.test".try_into().unwrap()));
    params.distinguished_name.push(DnType::CommonName, EVIL);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

#[test]
fn whatever_a_host_says_is_harmless_and_has_an_end() {
    let hosts =
        ["endless", "complains", "garbage", "nonsense", "short", "strange", "evil", "grows", "honest"];
    let world = World::builder().hosts(&hosts).start().unwrap();
    let host = |name: &str| world.host(name);
    lie(host("endless"), "yes");
    lie(host("complains"), "yes >&2");
    force(host("complains"), "yes a lot >&2");
    lie(host("garbage"), "head -c 100000 /dev/urandom");
    lie(host("nonsense"), "printf 'one two\\n' | say");
    lie(host("short"), "printf 'config - - - 99999999\\nshort\\n' | say");
    lie(host("strange"), "printf 'installed - - - 0\\n\\n' | say");
    // Names, paths and certificates that want to be more than that; records that contradict each other; a key.
    let authority = Authority::new("some CA").unwrap();
    let (one, two) = (
        authority.issue(&["shop.social.test", "a.social.test"], -DAY, 80 * DAY).unwrap(),
        authority.issue(&["shop.social.test"], -DAY, 80 * DAY).unwrap(),
    );
    let quoted = EVIL.replace('"', "\\\"");
    let config = config_of(&format!(
        "server {{ listen 443 ssl; server_name \"{quoted}\" ok.social.test; proxy_set_header A \"{CANARY}\";\n\
         ssl_certificate /a; ssl_certificate_key /k; ssl_certificate \"/{quoted}\"; ssl_certificate /e/c.pem; }}\n"
    ));
    let mut found = String::new();
    for (path, text) in [
        ("/a", &one.leaf),
        ("/a", &two.leaf),
        ("/b", &format!("{}{}", one.key, one.leaf)),
        (EVIL, &two.leaf),
        ("/e/c.pem", &odd_certificate()),
        ("/e/not.pem", &"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()),
    ] {
        found += &record("path", "-", path);
        found += &record("certificate", "-", text);
    }
    for detail in ["unknown", &"0".repeat(64), &"f".repeat(64), EVIL.split('\n').next().unwrap()] {
        found += &record("path", "-", "/k");
        found += &record("key", &detail.replace(' ', ""), &one.key);
    }
    found += &record("absent", "-", "/a");
    found += &record("odd", "-", EVIL);
    found += &record("more", "-", "");
    for (name, config, found) in [("evil", &config, &found), ("grows", &growing(), &String::new())] {
        let root = &host(name).root;
        fs::write(root.join("said-config"), config).unwrap();
        fs::write(root.join("said-read"), found).unwrap();
        lie(host(name), &format!("cat {}/said-$action | say", root.display()));
    }
    host("honest").install("mine", &authority.issue(&["mine.social.test"], -DAY, 80 * DAY).unwrap()).unwrap();
    host("honest").add_server("mine", &["mine.social.test"]).unwrap();
    let toml = world.config("").unwrap();

    let (ran, peak) = {
        let mut command = command(&toml, &["scan"]);
        command.env("RUST_LOG", "trace");
        let child = command.spawn().unwrap();
        let peak = crate::fleet::peak_memory(child.id());
        (finish(child).ended(1), peak.join().unwrap())
    };
    let json = certfleet(&toml, &["scan", "--json"]).ended(1);

    harmless(&ran);
    harmless(&json);
    for (host, why) in [
        ("endless", "said more than any answer takes"),
        ("complains", "said more than any answer takes"),
        ("garbage", "gave no answer"),
        ("nonsense", "makes no sense"),
        ("short", "makes no sense"),
        ("strange", "makes no sense"),
    ] {
        assert!(problem(&json.json(), host).contains(why), "{host}: {}", problem(&json.json(), host));
    }
    assert!((1..400_000).contains(&peak), "{peak} kB");
    assert_eq!(flags(certificate(&json.json(), "honest", "/mine/")), ["unmanaged"]);
    assert!(!world.store().exists(), "looking made a store");
    // What was printed can be pasted, although two are called the same.
    let (_, entries) = ran.out.split_once("add to certs.toml:\n\n").unwrap();
    assert!(entries.contains("name = \"shop.social.test-2\""), "{entries}");
    let pasted = world.config(entries).unwrap();
    let plan = certfleet(&pasted, &["plan"]).ended(3).printed("issue     mine.social.test");
    harmless(&plan);
}

fn problem(scan: &Value, host: &str) -> String {
    let hosts = scan["hosts"].as_array().unwrap();
    let host = hosts.iter().find(|of| of["host"] == host).unwrap();
    host["problem"]["message"].as_str().unwrap_or_default().to_owned()
}

/// A configuration of 4 MB that asks for a thousand times as much memory, or time, if each word is taken at its word.
fn growing() -> String {
    let path = format!("/{}", "x".repeat(4000));
    let mut text = format!("ssl_certificate {path}; ssl_certificate_key {path};\n").repeat(20);
    for n in 0..20_000 {
        let _ = writeln!(text, "# configuration file /{n}:");
    }
    let head = "include /*b;\n".repeat(20_000);
    let servers = "server { listen 1 ssl; server_name a.b; } x { }\n".repeat(40_000);
    config_of(&format!("{head}{text}# configuration file /etc/nginx/nginx.conf:\n{text}{servers}"))
}

#[test]
fn odd_files_are_passed_over_and_no_key_comes_over_the_wire() {
    let world = World::builder().hosts(&["edge", "hangs"]).start().unwrap();
    let edge = world.host("edge");
    let wire = edge.root.join("wire");
    force(edge, &format!("{{ eval \\\"$SSH_ORIGINAL_COMMAND\\\"; }} | tee -a {}", wire.display()));
    let authority = Authority::new("some CA").unwrap();
    let pair = authority.issue(&["odd.social.test"], -DAY, 80 * DAY).unwrap();
    let folder = edge.live.join("odd");
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name);
    // Half a certificate, and what follows it; both in one; a key where nobody looks for one.
    let half = pair.leaf.lines().take(3).collect::<Vec<_>>().join("\n");
    fs::write(file("half.pem"), format!("{half}\n{}", pair.key)).unwrap();
    fs::write(file("open.pem"), format!("-----BEGIN CERTIFICATE-----\n{}", pair.key)).unwrap();
    fs::write(file("both.pem"), format!("{}{}", pair.leaf, pair.key)).unwrap();
    fs::write(file("crlf.crt"), format!("{}{}", pair.key, pair.leaf).replace('\n', "\r\n")).unwrap();
    let odd = edge.root.join("nginx/a key without an ending");
    fs::write(&odd, &pair.key).unwrap();
    // What never ends, leads nowhere, is too large; a name that is more than one line.
    symlink("/dev/zero", file("zero.pem")).unwrap();
    symlink("loop.pem", file("loop.pem")).unwrap();
    symlink("../odd", file("again")).unwrap();
    symlink("/nowhere", file("nowhere.pem")).unwrap();
    run(Command::new("mkfifo").arg(file("pipe.pem"))).unwrap();
    fs::File::create(file("huge.pem")).unwrap().set_len(100 << 30).unwrap();
    fs::write(file("two\nlines.pem"), &pair.leaf).unwrap();
    for n in 0..20_000 {
        fs::write(folder.join(format!("{n}.pem")), "").unwrap();
    }
    fs::write(
        edge.root.join("nginx/sites/odd.conf"),
        format!(
            "server {{ listen {} ssl; server_name odd.social.test; ssl_certificate {both:?}; \
             ssl_certificate_key \"{odd}\"; add_header X {CANARY:?}; }}\n\
             # {key}\n",
            edge.tls(),
            both = file("both.pem"),
            odd = odd.display(),
            key = pair.key.replace('\n', "\n# "),
        ),
    )
    .unwrap();
    let hangs = world.host("hangs");
    fs::write(hangs.root.join("bin/nginx"), "#!/bin/sh\nsleep 3600 & sleep 3600\n").unwrap();
    let toml = world.config("").unwrap();

    let (one, other) = thread::scope(|scope| {
        let one = scope.spawn(|| certfleet(&toml, &["scan", "edge", "--json"]).ended(0));
        let other = certfleet(&toml, &["scan", "hangs"]).ended(0);
        (one.join().unwrap(), other)
    });

    harmless(&one);
    let sent = fs::read_to_string(&wire).unwrap();
    // What follows in it is its public half.
    let secret: Vec<&str> = pair.key.lines().filter(|line| !line.starts_with('-')).take(2).collect();
    assert!(!sent.contains("PRIVATE KEY") && !secret.iter().any(|line| sent.contains(line)), "{sent}");
    assert_eq!(flags(certificate(&one.json(), "edge", "both.pem")), ["unmanaged"]);
    other.printed("what is used is not known: ").printed("`nginx -T` did not end within 20 s");
}
