//! A host whose sshd lets our key do one thing only: bring certificates to `certfleet-receive`.

mod compared;
mod killed;
mod kinds;
mod sudo;
mod thief;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use certfleet::deploy::receiver::{CONF, PROGRAM};
use certfleet::model::name::Fingerprint;

use crate::tool::certfleet;
use crate::world::host::{Host, Script};
use crate::world::{Extra, World};

const NAME: &str = "media.social.test";
const CERTIFICATE: &str = "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"edge\"]\n";

/// Every file with its mode and bytes, every link with where it leads.
pub(crate) fn listing(folder: &Path, except: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if except.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if meta.is_dir() {
            found.extend(listing(&path, except));
            String::new()
        } else if meta.is_file() {
            Fingerprint::of(&fs::read(&path).unwrap()).to_string()
        } else {
            String::new()
        };
        found.push((path, format!("{:o} {content}", meta.permissions().mode())));
    }
    found.sort();
    found
}

/// A world with one host, and what `host setup` prints installed there.
fn set_up() -> (World, PathBuf) {
    let world = World::builder().hosts(&["edge"]).site(&[NAME]).start().unwrap();
    let extra = Extra { host: "receiver = true", ..Extra::default() };
    let config = world.config_with(&extra, CERTIFICATE).unwrap();
    install(&world, &config);
    (world, config)
}

pub(crate) fn install(world: &World, config: &Path) {
    let host = world.host("edge");
    let (program, conf) = (host.root.join("certfleet-receive"), host.root.join("receive.conf"));
    let script = certfleet(config, &["host", "setup", "edge", "--script"]).ended(0).out;
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let said = certfleet(config, &["--json", "host", "setup", "edge"]).ended(0).json();
    let printed = said["receiver-conf"].as_str().unwrap();
    assert!(
        printed.contains("\nroots any\n")
            && printed.ends_with("\nallow media.social.test media.social.test\n")
    );
    let roots = format!("\nroots {}\n", world.pebble.roots.display());
    fs::write(&conf, printed.replace("\nroots any\n", &roots)).unwrap();
    let line = said["authorized-keys"].as_str().unwrap();
    assert!(line.starts_with(&format!("restrict,command=\"{PROGRAM}\" ssh-ed25519 ")), "{line}");
    let here = format!("{} {}", program.display(), conf.display());
    fs::write(host.root.join("ssh/authorized_keys"), format!("{}\n", line.replace(PROGRAM, &here))).unwrap();
}

fn current(host: &Host) -> PathBuf {
    fs::read_link(host.live.join(".certfleet").join(NAME).join("current")).unwrap()
}

#[test]
fn what_setup_prints_takes_certificates_from_renewal_to_proof() {
    let (world, config) = set_up();
    let host = world.host("edge");

    certfleet(&config, &["renew"]).ended(0);
    let first = host.served(NAME).unwrap();
    assert!(!first.expired());
    assert!(current(host).to_string_lossy().starts_with("1-"), "certbot's was taken over");
    certfleet(&config, &["renew", "--dry-run"]).ended(0);

    certfleet(&config, &["renew", "--force"]).ended(0);
    assert_ne!(host.served(NAME).unwrap().leaf(), first.leaf());
    certfleet(&config, &["deploy", "--force"]).ended(0);
    certfleet(&config, &["scan"]).ended(1).printed("takes certificates only");
}

#[test]
fn what_is_not_served_goes_back_by_the_same_door() {
    let (world, config) = set_up();
    let host = world.host("edge");
    certfleet(&config, &["renew"]).ended(0);
    let (before, served) = (current(host), host.served(NAME).unwrap());
    host.set_reload(Script::Lies).unwrap();

    certfleet(&config, &["renew", "--force"]).ended(1).said("the version before is back");

    assert_eq!(current(host), before);
    host.set_reload(Script::Works).unwrap();
    assert_eq!(host.served(NAME).unwrap().leaf(), served.leaf());
    certfleet(&config, &["deploy"]).ended(0);
    assert_ne!(current(host), before);
}

#[test]
fn a_broken_host_is_told_and_a_name_that_is_not_allowed_yet() {
    let (world, config) = set_up();
    let host = world.host("edge");
    host.break_config().unwrap();
    certfleet(&config, &["renew"]).ended(1).said("its configuration was broken before");
    host.mend_config().unwrap();
    let more = CERTIFICATE.replace("media.", "files.");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n{more}verify-names = []\n")).unwrap();

    certfleet(&config, &["renew"]).ended(1).said("receive.conf does not allow it");

    assert!(!host.served(NAME).unwrap().expired(), "the others go on");
    assert!(!host.live.join("files.social.test").exists());
}

#[test]
fn a_door_that_is_not_there_and_one_that_is_not_expected_are_told() {
    let (world, config) = set_up();
    let authorized = world.host("edge").root.join("ssh/authorized_keys");
    let restricted = fs::read_to_string(&authorized).unwrap();
    let (_, key) = restricted.split_once("\" ").unwrap();
    fs::write(&authorized, key).unwrap();
    certfleet(&config, &["renew"])
        .ended(1)
        .said("certfleet-receive on `edge` gave no answer (exit status 127)")
        .said("certfleet host setup edge");

    fs::write(&authorized, &restricted).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("receiver = true", "receiver = false")).unwrap();
    certfleet(&config, &["deploy"]).ended(1).said("this key only brings certificates");
    certfleet(&config, &["host", "setup", "edge", "--script"]).ended(2).said("receiver = true");

    let program = world.host("edge").root.join("certfleet-receive");
    let script = fs::read_to_string(&program).unwrap();
    fs::write(&program, script.replace("\"$edition\" = 1", "\"$edition\" = 0")).unwrap();
    fs::write(&config, text).unwrap();
    certfleet(&config, &["deploy"]).ended(1).said("is for requests of version").said("host setup edge");
}

#[test]
fn a_user_that_is_not_root_gets_sudo_for_that_program_alone() {
    let (world, config) = set_up();
    let text = fs::read_to_string(&config).unwrap();
    let host = world.host("edge");
    fs::write(&config, text.replace("sudo = false", "sudo = true")).unwrap();
    certfleet(&config, &["host", "setup", "edge"])
        .ended(0)
        .printed(&format!("restrict,command=\"sudo -n {PROGRAM}\" ssh-ed25519 "))
        .printed(&format!("{} ALL=(root) NOPASSWD: {PROGRAM} \"\"\n", host.user))
        .printed(CONF);
}
