//! The host that is this machine itself.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;

use crate::tool::{Ran, command, finish};
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

#[test]
fn an_answer_that_is_none_is_told_as_what_it_is_here() {
    let world = world(&["edge"]);
    let config = here(&world, "");
    let bin = world.dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let dd = bin.join("dd");
    fs::write(&dd, "#!/bin/sh\necho exec yes installed everything\n").unwrap();
    fs::set_permissions(&dd, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let ran = finish(command(&config, &["renew"]).env("PATH", path).spawn().unwrap());
    ran.ended(1)
        .said("`here` said more than any answer takes")
        .said("what /bin/sh, dd and sudo are on this machine");
}

/// What a host that hangs leaves behind.
fn still_there(pids: &Path) -> Vec<String> {
    let text = fs::read_to_string(pids).unwrap();
    let is_running = |pid: &&str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
    };
    text.lines().filter(is_running).map(str::to_owned).collect()
}

/// A program that does not end, nor do its children, one of which does not listen.
fn hanging(path: &Path, pids: &Path) {
    let text = format!(
        "#!/bin/sh\necho $$ >>{pids}\nsleep 3600 & echo $! >>{pids}\n\
         sh -c 'trap \"\" TERM HUP INT; echo $$ >>{pids}; sleep 3600; sleep 3600' &\nwait\n",
        pids = pids.display()
    );
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_hangs_here_is_ended_with_all_that_it_started() {
    let world = world(&["in-test", "in-reload", "in-check"]);
    let config = world.config("").unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let mut text = text[..text.find("\n[host.").unwrap()].to_owned();
    for host in &world.hosts {
        host.stop_sshd();
        let hang = host.root.join("bin/hang");
        hanging(&hang, &host.root.join("pids"));
        let word = host.root.join("hangs");
        fs::write(&word, "").unwrap();
        let wrapped = |command: &str| {
            format!("if [ -e {} ]; then {}; else {command}; fi", word.display(), hang.display())
        };
        let (mut test, mut reload) = (host.test_command.clone(), host.reload_command.clone());
        match host.name.as_str() {
            "in-reload" => reload = wrapped(&reload),
            _ => test = wrapped(&test),
        }
        let _ = write!(
            text,
            "\n[host.{}]\nkind = \"local\"\ndirectory = {:?}\ntest = {test:?}\nreload = {reload:?}\nverify = [\"{}\"]\n",
            host.name,
            host.live,
            host.tls(),
        );
    }
    text.push_str(&CERTIFICATE.replace("\"cdn\"", "\"in-test\", \"in-reload\""));
    text.push_str(
        "\n[[certificate]]\nname = \"other\"\ndomains = [\"other.social.test\"]\nhosts = [\"in-check\"]\n",
    );
    fs::write(&config, text).unwrap();

    let (renewed, checked) = thread::scope(|scope| {
        let check = scope.spawn(|| certfleet(&config, &["check"]));
        (certfleet(&config, &["renew", NAME]).ended(1), check.join().unwrap())
    });

    let said: Vec<&str> =
        renewed.err.lines().filter(|line| line.contains("did not end within 20 s")).collect();
    for host in ["in-test", "in-reload"] {
        assert!(said.iter().any(|line| line.contains(host)), "{host}: {renewed:?}");
    }
    assert!(!renewed.err.to_lowercase().contains("ssh"), "{}", renewed.err);
    checked.printed("did not end within 20 s");
    for host in &world.hosts {
        assert_eq!(still_there(&host.root.join("pids")), Vec::<String>::new(), "{}", host.name);
        assert!(host.served(NAME).unwrap().expired());
        assert!(!host.live.join(".certfleet/.switch").exists(), "{} is half done", host.name);
        fs::remove_file(host.root.join("hangs")).unwrap();
    }

    certfleet(&config, &["renew", NAME]).ended(0);

    for host in ["in-test", "in-reload"] {
        assert!(!world.host(host).served(NAME).unwrap().expired(), "{host}");
    }
    assert_eq!(world.pebble.orders(), 1);
}

/// As a user who is not root, with a `sudo` of this text in front of the machine's own.
fn with_sudo(world: &World, config: &Path, sudo: &str, args: &[&str]) -> Ran {
    let bin = world.host("edge").root.join("bin");
    fs::write(bin.join("sudo"), format!("#!/bin/sh\n{sudo}\n")).unwrap();
    fs::set_permissions(bin.join("sudo"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(world.dir.path().join("certfleet"));
    command.arg("--config").arg(config).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    if rustix::process::geteuid().is_root() {
        owner::give_away(world.dir.path());
        command.uid(owner::OTHER).gid(owner::OTHER);
    }
    finish(command.spawn().unwrap())
}

#[test]
fn a_user_who_is_not_root_becomes_root_by_sudo() {
    let world = world(&["edge"]);
    let host = world.host("edge");
    host.stop_sshd();
    let config = here(&world, "sudo = true");
    // The master process of nginx is that of whoever runs this, and no `sudo` of ours makes anybody root.
    let loads = format!("echo run >>{}", host.root.join("log/reload").display());
    edit(&config, &format!("{:?}", host.reload_command), &format!("{loads:?}"));
    edit(&config, "hosts = [\"here\"]", "hosts = [\"here\"]\nverify-names = []");
    owner::copy_program(&world);
    certfleet(&config, &["renew", "--no-deploy"]).ended(0);
    let (calls, pids) = (host.root.join("sudo.log"), host.root.join("pids"));

    for said in [
        "sudo: a password is required",
        "Sorry, user ops is not allowed to execute '/bin/sh -c x' as root on here.",
        "env: 'sudo': No such file or directory",
    ] {
        let ran = with_sudo(&world, &config, &format!("echo \"{said}\" >&2; exit 1"), &["deploy"]).ended(1);
        let ran = ran.said("cannot become root on `here`").said(said);
        assert!(!ran.err.to_lowercase().contains("ssh"), "{}", ran.err);
    }
    with_sudo(&world, &config, "echo \"env: 'sudo': No such file or directory\" >&2; exit 127", &["deploy"])
        .said("install sudo, or run `systemctl enable --now certfleet-local.socket`");
    let line = "NOPASSWD: /bin/sh, /usr/bin/sh";
    with_sudo(&world, &config, "echo 'sudo: a password is required' >&2; exit 1", &["check"]).printed(line);
    // One that waits for a finger, and its children.
    hanging(&host.root.join("bin/hang"), &pids);
    let hang = format!("exec {}", host.root.join("bin/hang").display());
    let ran = with_sudo(&world, &config, &hang, &["deploy"]).ended(1);
    let ran = ran.said("`here` said nothing for 30 s, in the start").said("or sudo, wait for something?");
    assert!(!ran.err.to_lowercase().contains("ssh") && !ran.err.contains("login"), "{}", ran.err);
    assert_eq!(still_there(&pids), Vec::<String>::new());
    assert!(!host.live.join(".certfleet").exists(), "something was done without root");

    let works = format!("echo \"$*\" >>{}; [ \"$1\" = -n ] || exit 1\nshift; exec \"$@\"", calls.display());
    with_sudo(&world, &config, &works, &["deploy"]).ended(0);

    let stored = world.store().join("certificates").join(NAME).join("versions/1/fullchain.pem");
    assert_eq!(fs::read(host.live.join(NAME).join("fullchain.pem")).unwrap(), fs::read(stored).unwrap());
    assert_eq!((host.reloads(), world.pebble.orders()), (1, 1));
    let calls = fs::read_to_string(calls).unwrap();
    assert_eq!(calls.lines().count(), 1, "{calls}");
    assert!(calls.starts_with("-n sh -c eval "), "{calls}");
}
