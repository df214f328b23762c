//! The real sudo, with the lines that `host setup` prints, for a user who is nobody else.

use std::io::Write;
use std::process::{Command, Output};

use super::*;
use crate::world::made::write_private;
use crate::world::parts;

/// Puts a sudo before all others of this host's sessions: the real one, as `nobody` calls it, in a mount namespace
/// where /etc and the folders of programs have some more files.
fn real_sudo(host: &Host, lines: &str) {
    let (etc, sbin) = (host.root.join("sudo/etc"), host.root.join("sudo/sbin"));
    fs::create_dir_all(etc.join("pam.d")).unwrap();
    fs::create_dir_all(&sbin).unwrap();
    // What it does is nothing for the machine's log.
    fs::write(etc.join("sudoers"), format!("Defaults !syslog\n{lines}\n")).unwrap();
    fs::set_permissions(etc.join("sudoers"), fs::Permissions::from_mode(0o440)).unwrap();
    fs::write(etc.join("sudo.conf"), "").unwrap();
    let permit =
        ["auth", "account", "session"].map(|kind| format!("{kind} required pam_permit.so\n")).concat();
    fs::write(etc.join("pam.d/sudo"), permit).unwrap();
    fs::copy(host.root.join("receive.conf"), etc.join("certfleet-receive.conf")).unwrap();
    let program = sbin.join("certfleet-receive");
    fs::write(&program, fs::read(host.root.join("certfleet-receive")).unwrap()).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let mut layers = vec![(etc, "/etc"), (sbin, "/usr/local/sbin")];
    let sudo = parts::sudo().unwrap();
    let mut real = sudo.path().display().to_string();
    if sudo.libraries().is_some() {
        real = "/usr/bin/sudo".to_owned();
        let usr = sudo.path().ancestors().nth(2).unwrap();
        layers.extend([(usr.join("bin"), "/usr/bin"), (usr.join("libexec"), "/usr/libexec")]);
    }
    let mounts: String = layers
        .iter()
        .map(|(own, place)| {
            format!("mount -t overlay -o lowerdir={}:{place} overlay {place} && ", own.display())
        })
        .collect();
    let become_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let script = format!(
        "#!/bin/sh\nexec unshare --mount --propagation private sh -c '{mounts}exec {become_nobody} {real} \"$@\"' sudo \"$@\"\n"
    );
    let wrapper = host.root.join("bin/sudo");
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
}

fn asked(host: &Host, words: &[&str]) -> Output {
    Command::new(host.root.join("bin/sudo")).args(words).output().unwrap()
}

#[test]
fn sudo_lets_a_user_run_that_program_and_nothing_else() {
    if !rustix::process::geteuid().is_root() {
        let said = "only root can be two users, so the real sudo is not asked what its line allows";
        let _ = writeln!(std::io::stderr(), "{said}");
        return;
    }
    let (world, config) = set_up();
    let host = world.host("edge");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("sudo = false", "sudo = true")).unwrap();
    let setup = certfleet(&config, &["--json", "host", "setup", "edge"]).ended(0).json();
    let (kept, user) = (format!("\n{} ALL=(root) ", host.user), "\nnobody ALL=(root) ");
    let lines = setup["sudoers"].as_str().unwrap().replace(&kept, user);
    assert!(lines.ends_with(&format!("\nnobody ALL=(root) NOPASSWD: {PROGRAM} \"\"")), "{lines}");
    real_sudo(host, &lines);
    let authorized = setup["authorized-keys"].as_str().unwrap();
    write_private(&host.root.join("ssh/authorized_keys"), &format!("{authorized}\n")).unwrap();

    let pwned = host.root.join("pwned").display().to_string();
    for words in [
        &["-n", PROGRAM, "/etc/other.conf"][..],
        &["-n", "touch", &pwned],
        &["-n", "sh", "-c", &format!("touch {pwned}")],
        &["-n", "-s", "touch", &pwned],
        &["-n", "-e", &pwned],
        &["-n", "-u", "daemon", PROGRAM],
        &["-n", "-E", PROGRAM],
        &["-n", "PATH=/tmp", PROGRAM],
        &["-n", "OPENSSL_CONF=/tmp/x", PROGRAM],
        &["-n", "sh", PROGRAM],
    ] {
        let output = asked(host, words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.starts_with("sudo: "), "{words:?}: {output:?}");
    }
    // The programs that it runs are not those of whoever calls it.
    let own = world.dir.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("id"), format!("#!/bin/sh\ntouch {pwned}\n")).unwrap();
    fs::set_permissions(own.join("id"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", own.display());
    let mut call = Command::new(host.root.join("bin/sudo"));
    let output = call.args(["-n", PROGRAM]).env("PATH", &path).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("this key only brings"), "{output:?}");
    assert!(!Path::new(&pwned).exists());

    certfleet(&config, &["renew"]).ended(0);
    assert!(!host.served(NAME).unwrap().expired());
    certfleet(&config, &["renew", "--force"]).ended(0);
    certfleet(&config, &["check"]).printed("allows what certs.toml asks for");

    // Without them: what sudo says is told.
    let sudoers = host.root.join("sudo/etc/sudoers");
    fs::set_permissions(&sudoers, fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(&sudoers, "Defaults !syslog\n").unwrap();
    fs::set_permissions(&sudoers, fs::Permissions::from_mode(0o440)).unwrap();
    certfleet(&config, &["deploy", "--force"])
        .ended(1)
        .said("sudo: a password is required")
        .said("certfleet host setup edge");
}
