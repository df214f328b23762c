//! Users that become root by sudo.

use std::os::unix::fs::PermissionsExt;

use crate::world::Extra;

use super::*;

/// Puts a program of this name in front of the host's own.
fn program(host: &Host, name: &str, text: &str) {
    let path = host.root.join("bin").join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn with_sudo(world: &World) -> PathBuf {
    world.config_with(&Extra { host: "sudo = true", ..Extra::default() }, CERTIFICATE).unwrap()
}

#[test]
fn the_whole_transaction_runs_by_sudo_without_a_question() {
    let world = world(&["edge"]);
    let host = world.host("edge");
    let log = host.root.join("sudo.log");
    program(
        host,
        "sudo",
        &format!("echo \"$*\" >>{log}; [ \"$1\" = -n ] || exit 1\nshift; exec \"$@\"", log = log.display()),
    );
    let config = with_sudo(&world);

    certfleet(&config, &["renew"]).ended(0);

    assert!(!host.served(NAME).unwrap().expired());
    let calls = fs::read_to_string(log).unwrap();
    assert_eq!(calls.lines().count(), 1, "{calls}");
    assert!(calls.starts_with("-n sh -c eval "), "{calls}");
}

#[test]
fn without_sudo_root_is_not_asked_for() {
    let world = world(&["edge"]);
    program(world.host("edge"), "sudo", "echo asked >&2; exit 1");
    let config = world.config(CERTIFICATE).unwrap();

    certfleet(&config, &["renew"]).ended(0);
}

#[test]
fn a_sudo_that_refuses_is_told_with_the_line_that_mends_it() {
    let world = world(&["edge"]);
    let host = world.host("edge");
    let config = with_sudo(&world);
    let line = format!("{} ALL=(root) NOPASSWD: /bin/sh, /usr/bin/sh", host.user);
    for said in [
        "sudo: a password is required",
        "Sorry, user deploy is not allowed to execute '/bin/sh -c x' as root on edge.",
        "sudo: sorry, you must have a tty to run sudo",
    ] {
        program(host, "sudo", &format!("echo \"{said}\" >&2; exit 1"));
        let ran = certfleet(&config, &["renew"]).ended(1).said(said).said(&line);
        assert!(ran.err.contains("cannot become root on `edge`"), "{}", ran.err);
    }
    assert!(host.served(NAME).unwrap().expired());
    assert_eq!(world.pebble.orders(), 1, "what is issued waits for the host");
}

#[test]
fn a_host_without_sudo_is_told_apart() {
    let world = world(&["edge"]);
    let config = with_sudo(&world);
    // As `env` and busybox say it: this machine may well have one.
    for says in
        ["env: 'sudo': No such file or directory", "env: can't execute 'sudo': No such file or directory"]
    {
        program(world.host("edge"), "sudo", &format!("echo \"{says}\" >&2; exit 127"));
        certfleet(&config, &["renew"]).ended(1).said("install sudo there");
    }
}
