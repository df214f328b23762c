//! README's first set-up, step by step, as whoever follows it would: its own certs.toml, its own commands.

use std::fmt::Write;
use std::fs;
use std::io::Write as _;

use crate::tool::certfleet;
use crate::world::World;

const NAME: &str = "www.example.org";
const README: &str = include_str!("../../README.md");

/// What README has in this step's block of code.
fn block(language: &str) -> String {
    let (_, section) = README.split_once("\n## A first real set-up\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let (_, from) = section.split_once(&format!("```{language}\n")).unwrap();
    let (block, _) = from.split_once("```").unwrap();
    block.lines().fold(String::new(), |text, line| text + line.trim_start() + "\n")
}

/// README's certs.toml, with what only this world needs: where its CA, its name server and its hosts are.
fn certs_toml(world: &World) -> String {
    let (pebble, ns) = (&world.pebble, &world.ns);
    let mut text = block("toml");
    let mut replace = |from: &str, to: &str| {
        assert!(text.contains(from), "{from:?} is not in README's certs.toml:\n{text}");
        text = text.replace(from, to);
    };
    replace("\"ns1.example.org:53\"", &format!("\"{}\"", ns.address));
    replace("\"/etc/certfleet/secrets/tsig\"", &format!("{:?}", ns.secret_file));
    replace(
        "[issuer.letsencrypt]\n",
        &format!(
            "[store]\npath = {:?}\n[resolver]\nnameservers = [\"{}\"]\n[issuer.letsencrypt]\ndirectory = \"{}\"\n\
             directory-ca = {:?}\nroots = {:?}\n",
            world.store(),
            ns.address,
            pebble.directory,
            pebble.directory_ca,
            pebble.roots,
        ),
    );
    replace("key-name = ", &format!("authoritative = [\"{}\"]\nkey-name = ", ns.address));
    for host in &world.hosts {
        let mut table = format!("[host.{}]\n", host.name);
        let _ = write!(
            table,
            "address = \"{}\"\nport = {}\nuser = \"{}\"\nsudo = false\ndirectory = {:?}\ntest = {:?}\nreload = {:?}\n\
             verify = [\"{}\"]\n",
            host.address,
            host.ssh_port,
            host.user,
            host.live,
            host.test_command,
            host.reload_command,
            host.tls(),
        );
        replace(&format!("[host.{}]\n", host.name), &table);
    }
    text
}

#[test]
fn whoever_follows_readme_has_a_renewed_fleet_at_its_end() {
    let hosts = ["cdn-frankfurt-1", "cdn-fremont-1"];
    let world = World::builder().zone("example.org").hosts(&hosts).site(&[NAME]).start().unwrap();
    let config = world.dir.path().join("certs.toml");
    fs::write(&config, certs_toml(&world)).unwrap();

    // Before anything is known of the hosts the preflight says what to do for each, and leaves no trace.
    let check = certfleet(&config, &["check"]).ended(1).printed("`certfleet host setup HOST` makes");
    assert_eq!(check.out.matches("login: cannot read the SSH key").count(), 2, "{}", check.out);
    assert!(!world.store().exists(), "looking made a store");

    for host in &world.hosts {
        let file = host.root.join("ssh/authorized_keys");
        fs::write(&file, "").unwrap();
        let setup = certfleet(&config, &["host", "setup", &host.name]).ended(0);
        let line = setup.out.lines().find(|line| line.contains("ssh-ed25519 ")).unwrap();
        let mut keys = fs::File::options().append(true).open(&file).unwrap();
        writeln!(keys, "{line}").unwrap();
        // The fingerprint is shown, and nothing is known of the host until somebody has compared it.
        certfleet(&config, &["host", "pin", &host.name]).ended(3).said("--yes");
        certfleet(&config, &["host", "pin", &host.name, "--yes"]).ended(0);
    }
    certfleet(&config, &["check"]).ended(0);

    let commands = block("sh");
    let (first, _) = commands.split_once('\n').unwrap();
    for step in ["check ", "plan ", "renew ", "report "] {
        assert!(
            README.contains(&format!("\n   certfleet {step}")),
            "README has other steps than this: {step}"
        );
    }
    assert!(first.starts_with("certfleet host setup cdn-frankfurt-1 "), "README has other steps: {commands}");
    certfleet(&config, &["plan"]).ended(3).printed(&format!("issue     {NAME}"));
    certfleet(&config, &["renew", "--dry-run"]).ended(0);
    assert_eq!((world.pebble.issued(), world.host(hosts[0]).reloads()), (0, 0));
    certfleet(&config, &["renew"]).ended(0);
    certfleet(&config, &["report"]).ended(0).printed(NAME).printed("1 fine");
    certfleet(&config, &["run", "--once"]).ended(0);

    assert_eq!(world.pebble.issued(), 1);
    for host in &world.hosts {
        assert!(!host.served(NAME).unwrap().expired(), "{}", host.name);
        assert_eq!(host.reloads(), 1);
    }
}
