//! Hosts that are somebody else, closed, frozen, or behind a network that swallows everything.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use super::{DEPLOYED, NAME, below, edit};
use crate::tool::{Ran, certfleet};
use crate::world::host::Host;
use crate::world::process::run;
use crate::world::{Builder, Extra, World, parts};

fn world(hosts: &[&str]) -> World {
    Builder::default().hosts(hosts).site(&[NAME]).start().unwrap()
}

/// The fingerprint of a host's key, as people compare it.
fn fingerprint(host: &Host) -> String {
    let file = host.root.join("ssh/host_key.pub");
    let mut command = parts::ssh_keygen().unwrap().command();
    let shown = run(command.arg("-lf").arg(file)).unwrap();
    shown.split_whitespace().nth(1).unwrap().to_owned()
}

/// That nobody tried to log in, and that nothing was written.
fn untouched(host: &Host) {
    let log = host.sshd.log();
    for word in ["Accepted", "Failed", "Postponed", "userauth", "publickey"] {
        assert!(!log.contains(word), "{}: {word:?} is in the log:\n{log}", host.name);
    }
    assert!(!host.live.join(".certfleet").exists(), "{} was written to", host.name);
    assert_eq!((host.tests(), host.reloads()), (0, 0), "{}", host.name);
}

/// Where a text begins in what was said; everything is said when it happens.
fn when(ran: &Ran, text: &str) -> usize {
    ran.err.find(text).unwrap_or_else(|| panic!("{text:?} is not in:\n{}", ran.err))
}

/// A known-hosts file with one key, its name hashed as `HashKnownHosts yes` does it.
fn hashed_known_hosts(file: &Path, host: &Host) {
    fs::write(file, format!("[{}]:{} {}\n", host.address, host.ssh_port, host.host_key)).unwrap();
    run(parts::ssh_keygen().unwrap().command().args(["-q", "-H", "-f"]).arg(file)).unwrap();
    let text = fs::read_to_string(file).unwrap();
    assert!(text.starts_with("|1|"), "not hashed: {text}");
}

#[test]
fn a_host_with_another_key_gets_nothing_and_the_others_get_theirs() {
    let world = world(&["cdn-frankfurt-1", "cdn-fremont-1", "sally", "esme"]);
    let config = world.config(DEPLOYED).unwrap();
    let [frankfurt, fremont, sally, esme] =
        ["cdn-frankfurt-1", "cdn-fremont-1", "sally", "esme"].map(|name| world.host(name));
    let pin = |host: &Host| format!("host-key = [\"{}\"]", host.host_key);
    // sally is pinned to frankfurt's key; nothing is known of fremont; esme's name is hashed.
    let hashed = world.dir.path().join("hashed");
    hashed_known_hosts(&hashed, esme);
    edit(&config, &pin(sally), &pin(frankfurt).replace("host-key", "host-key "));
    edit(&config, &pin(fremont), &format!("known-hosts = [{hashed:?}]"));
    edit(&config, &pin(esme), &format!("known-hosts = [{hashed:?}]"));

    let ran = certfleet(&config, &["renew"])
        .ended(1)
        .said(&format!(
            "`sally` shows the key ssh-ed25519 {}, expected was ssh-ed25519 {} (pinned)",
            fingerprint(sally),
            fingerprint(frankfurt)
        ))
        .said("hint: either the host got a new key or this is not the host")
        .said(&format!(
            "the key of `cdn-fremont-1` is not known: it shows ssh-ed25519 {}",
            fingerprint(fremont)
        ))
        .said(&format!("looked for [{}]:{} in {}", fremont.address, fremont.ssh_port, hashed.display()))
        .printed("media.social.test on sally: FAILED")
        .printed("media.social.test on cdn-fremont-1: FAILED");
    assert!(ran.err.contains("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"), "{}", ran.err);

    untouched(sally);
    untouched(fremont);
    for host in [frankfurt, esme] {
        assert!(!host.served(NAME).unwrap().expired(), "{} was held up", host.name);
    }
    for host in [sally, fremont] {
        assert!(host.served(NAME).unwrap().expired());
    }

    edit(&config, &pin(frankfurt).replace("host-key", "host-key "), &pin(sally));
    edit(&config, &format!("known-hosts = [{hashed:?}]"), &pin(fremont));
    certfleet(&config, &["run", "--once"]).ended(0);
    assert!(world.hosts.iter().all(|host| !host.served(NAME).unwrap().expired()));
    assert_eq!(world.pebble.orders(), 1);
}

#[test]
fn a_frozen_host_and_a_closed_one_delay_nobody_and_are_caught_up() {
    let world = world(&["cdn-frankfurt-1", "cdn-fremont-1", "sally", "esme"]);
    let config = world.config(DEPLOYED).unwrap();
    world.host("sally").sshd.freeze();
    world.host("esme").stop_sshd();

    let ran = certfleet(&config, &["renew"])
        .ended(1)
        .said(&format!("`esme` refuses connections at {}", world.host("esme").ssh()))
        .said("hint: is sshd running there? `port` in [host.esme] says where")
        .said("next: the version stays in the store; every pass tries again, without a new order");
    let frozen = when(&ran, "`sally` did not answer within");
    for served in [
        "media.social.test on cdn-frankfurt-1: version 1: serves it",
        "media.social.test on cdn-fremont-1: version 1",
    ] {
        assert!(when(&ran, served) < frozen, "waited for the frozen one:\n{}", ran.err);
    }
    for host in &world.hosts {
        let held_up = matches!(host.name.as_str(), "sally" | "esme");
        assert_eq!(host.served(NAME).unwrap().expired(), held_up, "{}", host.name);
    }

    world.host("sally").sshd.thaw();
    world.host("esme").start_sshd().unwrap();
    certfleet(&config, &["run", "--once"])
        .ended(0)
        .printed("media.social.test on esme: version 1 is what visitors get")
        .printed("media.social.test on sally: version 1 is what visitors get");
    assert!(world.hosts.iter().all(|host| !host.served(NAME).unwrap().expired()));
    assert_eq!(world.pebble.orders(), 1);
    assert_eq!(world.host("cdn-frankfurt-1").reloads(), 1, "a host that had it was touched again");
}

#[test]
fn an_address_that_swallows_everything_holds_up_neither_issuing_nor_other_hosts() {
    let world = world(&["sally", "esme"]);
    let config = world.config(DEPLOYED).unwrap();
    // The system accepts for a listener that never looks: whoever comes waits for an answer.
    let hole = TcpListener::bind((world.spare_address(0), 0)).unwrap();
    let hole_at = hole.local_addr().unwrap();
    let sally = world.host("sally").tls();
    edit(&config, &format!("verify = [\"{sally}\"]"), &format!("verify = [\"{sally}\", \"{hole_at}\"]"));

    let ran = certfleet(&config, &["renew"]);

    let looked = when(&ran, "sally: deploying");
    assert!(when(&ran, "media.social.test: version 1 issued") < looked, "{}", ran.err);
    assert!(when(&ran, "media.social.test on esme: version 1: serves it") < looked, "{}", ran.err);
    // It was silent before, so its silence says nothing against what the other address serves.
    ran.ended(0)
        .printed(&format!("media.social.test on sally: installed and served, but {hole_at} does not answer"));
    assert!(!world.host("sally").served(NAME).unwrap().expired());
    let report = certfleet(&config, &["report", "--json"]).ended(3).json();
    assert_eq!(report["certificates"][0]["hosts"][0]["standing"], "unreachable");
    drop(hole);
}

#[test]
fn an_address_that_falls_silent_with_the_new_version_brings_the_old_one_back() {
    let world = world(&["sally", "esme"]);
    let one = DEPLOYED.replace("\"cdn\"", "\"sally\"");
    let config = world.config(&one).unwrap();
    let (sally, esme) = (world.host("sally"), world.host("esme"));
    edit(
        &config,
        &format!("verify = [\"{}\"]", sally.tls()),
        &format!("verify = [\"{}\", \"{}\"]", sally.tls(), esme.tls()),
    );
    // The reload of sally takes what answers at the second address down.
    let stop = format!(
        "#!/bin/sh\n{}\nkill $(cat {}/nginx/nginx.pid) || true\n",
        sally.reload_command,
        esme.root.display()
    );
    let reload = sally.root.join("bin/reload-and-stop");
    fs::write(&reload, stop).unwrap();
    fs::set_permissions(&reload, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    edit(&config, &format!("reload = {:?}", sally.reload_command), &format!("reload = {reload:?}"));
    let before = below(&sally.live.join(NAME));

    certfleet(&config, &["renew"])
        .ended(1)
        .said("`sally` does not serve `media.social.test` version 1, the version before is back")
        .said(&format!("no TLS answer from {}", esme.tls()));

    assert!(sally.served(NAME).unwrap().expired());
    let old = fs::read(sally.root.join("archive").join(NAME).join("cert1.pem")).unwrap();
    assert_eq!(fs::read(sally.live.join(NAME).join("cert.pem")).unwrap(), old);
    assert_eq!(below(&sally.live.join(NAME)).len(), before.len());
}

#[test]
fn a_key_that_the_host_does_not_let_in_is_shown_as_the_line_to_add() {
    let world = world(&["sally"]);
    let config = world.config_with(&Extra::default(), DEPLOYED).unwrap();
    let keys = world.host("sally").root.join("ssh/authorized_keys");
    let line = fs::read_to_string(&keys).unwrap();
    fs::write(&keys, "").unwrap();

    certfleet(&config, &["renew"])
        .ended(1)
        .said("`sally` does not let")
        .said(&format!("there: {}", line.trim()));

    assert!(!world.host("sally").live.join(".certfleet").exists());
    fs::write(&keys, &line).unwrap();
    certfleet(&config, &["deploy"]).ended(0);
    assert!(!world.host("sally").served(NAME).unwrap().expired());
}
