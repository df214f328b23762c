//! The host that is this machine itself.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;

use crate::world::host::Script;

use super::*;

/// certs.toml with the host as this machine; a line more in its table.
fn here(world: &World, line: &str) -> PathBuf {
    let config = world.config("").unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let mut text = text[..text.find("\n[host.").unwrap()].to_owned();
    let host = world.host("edge");
    let _ = write!(
        text,
        "\n[host.here]\nkind = \"local\"\ndirectory = {:?}\ntest = {:?}\nreload = {:?}\nverify = [\"{}\"]\n{line}\n\n{}",
        host.live,
        host.test_command,
        host.reload_command,
        host.tls(),
        CERTIFICATE.replace("cdn", "here"),
    );
    fs::write(&config, text).unwrap();
    config
}

#[test]
fn this_machine_is_renewed_without_ssh() {
    let world = world(&["edge"]);
    let host = world.host("edge");
    host.stop_sshd();
    let config = here(&world, "");
    assert!(host.served(NAME).unwrap().expired());

    certfleet(&config, &["renew"]).ended(0);

    assert!(!host.served(NAME).unwrap().expired());
    for file in ["privkey.pem", "fullchain.pem", "cert.pem", "chain.pem"] {
        let mode = fs::metadata(host.live.join(NAME).join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{file}");
    }
    assert_eq!((host.reloads(), host.connections()), (1, 0));
    // What is done is seen to be done.
    certfleet(&config, &["renew"]).ended(0);
    assert_eq!((host.reloads(), world.pebble.orders()), (1, 1));
    certfleet(&config, &["check"]).printed("this machine, no login is needed");
    for what in ["setup", "pin"] {
        certfleet(&config, &["host", what, "here"]).ended(0).printed("nothing is needed");
    }
}

#[test]
fn a_failing_config_test_changes_nothing_here() {
    let world = world(&["edge"]);
    let host = world.host("edge");
    let config = here(&world, "");
    // Passes as long as certbot's certificate is there.
    let test = host.root.join("bin/picky");
    let text = format!(
        "#!/bin/sh\nopenssl x509 -noout -checkend 0 -in {}/{NAME}/cert.pem && {{ echo picky; exit 1; }}\nexit 0\n",
        host.live.display()
    );
    fs::write(&test, text).unwrap();
    fs::set_permissions(&test, fs::Permissions::from_mode(0o755)).unwrap();
    edit(&config, &host.test_command, &test.display().to_string());

    certfleet(&config, &["renew"]).ended(1);

    assert!(host.served(NAME).unwrap().expired());
    assert!(current(host).to_string_lossy().starts_with("0-"), "{:?}", current(host));
    assert_eq!(host.reloads(), 0);

    edit(&config, &test.display().to_string(), &host.test_command);
    host.set_test(Script::Fails).unwrap();
    certfleet(&config, &["deploy"]).ended(1).said("told to fail");
    host.set_test(Script::Works).unwrap();
    certfleet(&config, &["deploy"]).ended(0);
    assert!(!host.served(NAME).unwrap().expired());
    assert_eq!((host.reloads(), world.pebble.orders()), (1, 1));
}
