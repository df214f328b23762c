//! Making a host known, and us to it.

use std::os::unix::fs::PermissionsExt;

use crate::world::parts;
use crate::world::process::run;

use super::*;

/// A certs.toml that pins no key.
fn unpinned(world: &World) -> PathBuf {
    let config = world.config(CERTIFICATE).unwrap();
    for host in &world.hosts {
        edit(&config, &format!("host-key = [\"{}\"]\n", host.host_key), "");
    }
    config
}

/// The fingerprint as the host's own tools say it.
fn fingerprint(host: &Host) -> String {
    let key = host.root.join("ssh/host_key.pub");
    let text = run(parts::ssh_keygen().unwrap().command().arg("-lf").arg(key)).unwrap();
    text.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn a_key_is_noted_once_a_person_says_that_it_is_the_hosts() {
    let world = world(&["edge"]);
    let host = world.host("edge");
    let config = unpinned(&world);
    let known = config.with_file_name("known_hosts");
    fs::write(&known, "# ours\nother.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti")
        .unwrap();
    let before = fs::read_to_string(&known).unwrap();

    certfleet(&config, &["host", "pin", "edge"]).ended(3).said(&fingerprint(host)).said("--yes");
    assert_eq!(fs::read_to_string(&known).unwrap(), before);

    certfleet(&config, &["host", "pin", "edge", "--yes"]).ended(0).printed(&fingerprint(host));
    let line = format!("[{}]:{} {}\n", host.address, host.ssh_port, host.host_key);
    assert_eq!(fs::read_to_string(&known).unwrap(), format!("{before}\n{line}"));
    assert_eq!(host.connections(), 0, "somebody logged in");
    assert!(!host.sshd.log().contains("publickey"), "a key of ours was shown: {}", host.sshd.log());

    certfleet(&config, &["host", "pin", "edge", "--yes"]).ended(0).printed("is known");
    assert_eq!(fs::read_to_string(&known).unwrap(), format!("{before}\n{line}"));
    certfleet(&config, &["renew"]).ended(0);
    assert!(!host.served(NAME).unwrap().expired());
}

#[test]
fn a_key_in_place_of_a_known_one_is_not_noted() {
    let world = world(&["edge", "core"]);
    let (edge, core) = (world.host("edge"), world.host("core"));
    let config = unpinned(&world);
    let known = config.with_file_name("known_hosts");
    let line = format!("[{}]:{} {}\n", edge.address, edge.ssh_port, core.host_key);
    fs::write(&known, &line).unwrap();

    certfleet(&config, &["host", "pin", "edge", "--yes"])
        .ended(1)
        .said(&fingerprint(edge))
        .said("expected was");

    assert_eq!(fs::read_to_string(&known).unwrap(), line);
    certfleet(&config, &["host", "pin", "nobody"]).ended(2).said("edge");
}

#[test]
fn a_host_is_set_up_with_what_setup_prints() {
    let world = world(&["edge"]);
    let host = world.host("edge");
    let config = world.config(CERTIFICATE).unwrap();
    edit(&config, &format!("identity = {:?}\n", host.identity), "");
    certfleet(&config, &["renew"]).ended(1).said("certfleet host setup");

    let said = certfleet(&config, &["--json", "host", "setup", "edge"]).ended(0).json();
    assert_eq!((&said["made"], &said["sudoers"]), (&true.into(), &serde_json::Value::Null));
    let identity = world.store().join("ssh/id_ed25519");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&identity), mode(identity.parent().unwrap())), (0o600, 0o700));
    let line = said["authorized-keys"].as_str().unwrap();
    assert!(line.starts_with("restrict ssh-ed25519 "), "{line}");
    fs::write(host.root.join("ssh/authorized_keys"), format!("{line}\n")).unwrap();

    // The same key again, and nothing but the key.
    edit(&config, "sudo = false", "sudo = true");
    let again = certfleet(&config, &["host", "setup", "edge"]).ended(0).printed(line);
    assert!(again.out.contains(&format!("{} ALL=(root) NOPASSWD: ", host.user)), "{}", again.out);
    edit(&config, "sudo = true", "sudo = false");
    certfleet(&config, &["renew"]).ended(0);
    assert!(!host.served(NAME).unwrap().expired());
}

#[test]
fn setup_names_what_nginx_includes() {
    let world = world(&["edge"]);
    let config = unpinned(&world);
    let line = format!("include {}/{NAME}.conf;", world.host("edge").live.display());
    let setup = |args: &[&str]| certfleet(&config, &[args, &["host", "setup", "edge"]].concat()).ended(0);
    assert!(!setup(&[]).out.contains(&line));
    assert_eq!(setup(&["--json"]).json()["includes"], serde_json::json!([]));
    edit(&config, "[host.edge]\n", "[host.edge]\nlayout = \"include\"\n");
    setup(&[]).printed(&line);
    assert_eq!(setup(&["--json"]).json()["includes"], serde_json::json!([line]));
}
