//! Ways to a host and into it: through another host, by the agent, with a key that has a passphrase.

use std::process::{Child, Command};

use crate::tool::{command, finish};
use crate::world::host::Script;
use crate::world::made::write_private;
use crate::world::parts;
use crate::world::process::run;

use super::*;

const ON_EDGE: &str = "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"edge\"]\n";

/// `edge` is reached through `core`.
fn behind(world: &World) -> PathBuf {
    let config = world.config(ON_EDGE).unwrap();
    edit(&config, "[host.edge]\n", "[host.edge]\nvia = \"core\"\n");
    config
}

#[test]
fn a_host_behind_another_is_reached_through_it() {
    let world = world(&["core", "edge"]);
    let (core, edge) = (world.host("core"), world.host("edge"));
    let config = behind(&world);

    certfleet(&config, &["renew"]).ended(0);

    assert!(!edge.served(NAME).unwrap().expired());
    assert_eq!((core.connections(), edge.connections()), (1, 1));
    assert!(core.served(NAME).unwrap().expired(), "nothing is installed on the way");
    // Its key is its own: that of the jump host is not good enough.
    edit(&config, &edge.host_key, &core.host_key);
    certfleet(&config, &["deploy", "--force"]).ended(1).said("`edge` shows the key").said("expected was");
    assert_eq!(edge.connections(), 1);
}

#[test]
fn a_host_behind_another_is_pinned_through_it() {
    let world = world(&["core", "edge"]);
    let edge = world.host("edge");
    let config = behind(&world);
    edit(&config, &format!("host-key = [\"{}\"]\n", edge.host_key), "");

    certfleet(&config, &["host", "pin", "edge", "--yes"]).ended(0);

    let known = fs::read_to_string(config.with_file_name("known_hosts")).unwrap();
    assert_eq!(known, format!("[{}]:{} {}\n", edge.address, edge.ssh_port, edge.host_key));
    assert_eq!((world.host("core").connections(), edge.connections()), (1, 0));
}

#[test]
fn a_way_that_ends_is_told_with_the_place_where_it_ends() {
    let world = world(&["core", "edge"]);
    let core = world.host("core");
    let config = behind(&world);
    let authorized = core.root.join("ssh/authorized_keys");
    let key = fs::read_to_string(&authorized).unwrap();
    fs::write(&authorized, format!("restrict {key}")).unwrap();
    certfleet(&config, &["renew"]).ended(1).said("`core` does not lead to `edge`").said("port-forwarding");

    // What setup prints for it leads there.
    fs::write(&authorized, format!("restrict,port-forwarding {key}")).unwrap();
    certfleet(&config, &["host", "setup", "core"]).ended(0).printed("restrict,port-forwarding ssh-ed25519 ");
    certfleet(&config, &["deploy"]).ended(0);

    core.stop_sshd();
    certfleet(&config, &["deploy", "--force"])
        .ended(1)
        .said("is reached via `core`")
        .said("refuses connections");
}

#[test]
fn hosts_behind_the_same_one_share_the_connection_to_it() {
    let world = world(&["core", "edge", "east", "west"]);
    let config = world.config(&CERTIFICATE.replace("\"cdn\"", "\"edge\", \"east\", \"west\"")).unwrap();
    for name in ["edge", "east", "west"] {
        edit(&config, &format!("[host.{name}]\n"), &format!("[host.{name}]\nvia = \"core\"\n"));
    }
    let connections = || world.hosts.iter().map(Host::connections).collect::<Vec<_>>();

    certfleet(&config, &["renew"]).ended(0);
    assert_eq!(connections(), [1, 1, 1, 1]);
    certfleet(&config, &["scan"]);
    assert_eq!(connections(), [2, 2, 2, 2], "the one that is looked at leads to the others, too");
    certfleet(&config, &["check"]);
    assert_eq!(connections(), [3, 3, 3, 3]);

    // One attempt for all of them, and all say where the way ends.
    let core = world.host("core");
    fs::write(core.root.join("ssh/authorized_keys"), "").unwrap();
    let ran = certfleet(&config, &["deploy", "--force"]).ended(1);
    for name in ["edge", "east", "west"] {
        let says = format!("`{name}` is reached via `core`, and that is not to be had");
        assert!(ran.err.contains(&says), "{}", ran.err);
    }
    assert_eq!(core.sshd.log().matches("Failed publickey").count(), 1);
}

#[test]
fn a_jump_host_that_dies_on_the_way_is_named() {
    let world = world(&["core", "edge"]);
    let (core, edge) = (world.host("core"), world.host("edge"));
    let config = behind(&world);
    edge.set_test(Script::Hangs).unwrap();
    let child = command(&config, &["renew"]).spawn().unwrap();
    let began = std::time::Instant::now();
    while edge.tests() == 0 {
        assert!(began.elapsed() < std::time::Duration::from_secs(30), "no transaction began");
        std::thread::yield_now();
    }
    core.stop_sshd();
    finish(child).ended(1).said("was lost in").said("so was the one to `core`, through which it goes");
    assert!(edge.served(NAME).unwrap().expired());

    edge.set_test(Script::Works).unwrap();
    core.start_sshd().unwrap();
    certfleet(&config, &["deploy"]).ended(0);
    assert!(!edge.served(NAME).unwrap().expired());
}

#[test]
fn our_own_certificate_is_told_before_it_ends() {
    let world = world(&["edge"]);
    let host = world.host("edge");
    let config = world.config(CERTIFICATE).unwrap();
    let sign = |validity: &str| {
        run(parts::ssh_keygen()
            .unwrap()
            .command()
            .args(["-q", "-I", "us", "-n", &host.user, "-V", validity, "-s"])
            .arg(host.root.join("ssh/host_key"))
            .arg(host.identity.with_extension("pub")))
        .unwrap();
    };
    let line = |ran: crate::tool::Ran| {
        let line = ran.out.lines().find(|line| line.contains("-cert.pub")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{}", ran.out))
    };
    sign("-1d:+9d");
    assert!(line(certfleet(&config, &["check"])).contains("it holds until"));
    sign("-9d:+1d");
    assert!(line(certfleet(&config, &["check"])).contains("come to edge: it ends on"));
    sign("-9d:-1d");
    assert!(line(certfleet(&config, &["check"])).contains("it ended on"));
    // It does no harm as long as the key itself is let in.
    certfleet(&config, &["renew"]).ended(0);

    certfleet(&config, &["host", "setup", "edge"])
        .ended(0)
        .printed(&format!("restrict,cert-authority,principals=\"{}\" ssh-ed25519 ", host.user));
}

#[test]
fn ways_that_lead_nowhere_are_mistakes_of_the_file() {
    let world = world(&["core", "edge"]);
    let config = behind(&world);
    edit(&config, "[host.core]\n", "[host.core]\nvia = \"edge\"\n");
    certfleet(&config, &["plan"]).ended(2).said("one of them must be reached directly");
    edit(&config, "via = \"edge\"", "via = \"cor\"");
    certfleet(&config, &["plan"]).ended(2).said("which is not defined");
}

#[test]
fn a_passphrase_opens_the_identity() {
    let world = world(&["edge"]);
    let host = world.host("edge");
    let config = world.config(CERTIFICATE).unwrap();
    let key = world.dir.path().join("locked");
    let secret = world.dir.path().join("passphrase");
    run(parts::ssh_keygen()
        .unwrap()
        .command()
        .args(["-q", "-t", "ed25519", "-N", "open sesame", "-f"])
        .arg(&key))
    .unwrap();
    fs::copy(key.with_extension("pub"), host.root.join("ssh/authorized_keys")).unwrap();
    edit(&config, &format!("identity = {:?}", host.identity), &format!("identity = {key:?}"));
    certfleet(&config, &["renew"]).ended(1).said("has a passphrase").said("passphrase = { file");

    write_private(&secret, "wrong\n").unwrap();
    edit(&config, "[host.edge]\n", &format!("[host.edge]\npassphrase = {{ file = {secret:?} }}\n"));
    let ran = certfleet(&config, &["deploy"]).ended(1).said("does not open the SSH key");
    assert!(!ran.err.contains("wrong\n"), "{}", ran.err);

    write_private(&secret, "open sesame\n").unwrap();
    certfleet(&config, &["deploy"]).ended(0);
    assert!(!host.served(NAME).unwrap().expired());
}

/// An agent that is ended with the test.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(world: &World) -> Self {
        let socket = world.dir.path().join("agent");
        let child = tool("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let agent = Self { child, socket };
        let began = std::time::Instant::now();
        while !agent.socket.exists() {
            assert!(began.elapsed() < std::time::Duration::from_secs(20), "the agent does not start");
            std::thread::yield_now();
        }
        agent
    }

    fn add(&self, key: &Path) {
        run(tool("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket)).unwrap();
    }

    fn forget_all(&self) {
        run(tool("ssh-add").args(["-q", "-D"]).env("SSH_AUTH_SOCK", &self.socket)).unwrap();
    }

    fn certfleet(&self, config: &Path, args: &[&str]) -> crate::tool::Ran {
        finish(command(config, args).env("SSH_AUTH_SOCK", &self.socket).spawn().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of OpenSSH's client.
fn tool(name: &str) -> Command {
    let ssh = parts::ssh().unwrap();
    let mut command = Command::new(ssh.path().with_file_name(name));
    if let Some(libraries) = ssh.libraries() {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    command
}

#[test]
fn without_a_key_of_our_own_the_agent_is_asked() {
    let world = world(&["edge"]);
    let host = world.host("edge");
    let config = world.config(CERTIFICATE).unwrap();
    edit(&config, &format!("identity = {:?}\n", host.identity), "");
    let agent = Agent::start(&world);
    agent.certfleet(&config, &["renew"]).ended(1).said("the agent of $SSH_AUTH_SOCK has none");

    agent.add(&host.identity);
    agent.certfleet(&config, &["deploy"]).ended(0);
    assert!(!host.served(NAME).unwrap().expired());

    let socket = agent.socket.clone();
    drop(agent);
    finish(command(&config, &["deploy", "--force"]).env("SSH_AUTH_SOCK", &socket).spawn().unwrap())
        .ended(1)
        .said("cannot be asked");
}

#[test]
fn what_the_file_of_a_key_does_not_tell_the_agent_may_have() {
    let world = world(&["edge"]);
    let host = world.host("edge");
    let config = world.config(CERTIFICATE).unwrap();
    certfleet(&config, &["renew", "--no-deploy"]).ended(0);
    let (agent, authorized) = (Agent::start(&world), host.root.join("ssh/authorized_keys"));
    let mut before = host.identity.clone();
    let mut with_identity = |key: &Path| {
        edit(&config, &format!("identity = {before:?}"), &format!("identity = {key:?}"));
        before = key.to_owned();
    };
    for (kind, form) in [("ed25519", "RFC4716"), ("rsa", "RFC4716"), ("ecdsa", "PEM")] {
        let key = world.dir.path().join(kind);
        let generate = |passphrase: &str| {
            run(parts::ssh_keygen()
                .unwrap()
                .command()
                .args(["-q", "-t", kind, "-m", form, "-C", "ours", "-N", passphrase, "-f"])
                .arg(&key))
            .unwrap();
        };
        generate("");
        agent.forget_all();
        agent.add(&key);
        let lock = ["-q", "-p", "-P", "", "-N", "open sesame", "-m", form, "-f"];
        run(parts::ssh_keygen().unwrap().command().args(lock).arg(&key)).unwrap();
        fs::copy(key.with_extension("pub"), &authorized).unwrap();
        with_identity(&key);
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        certfleet(&config, &["host", "setup", "edge"]).ended(0).printed(public.trim_end_matches(" ours\n"));
        certfleet(&config, &["deploy", "--force"]).ended(1).said("has a passphrase").said("ssh-add");
        agent.certfleet(&config, &["deploy", "--force"]).ended(0);

        // Only the agent has the private half, and the authority is who is known there.
        run(parts::ssh_keygen()
            .unwrap()
            .command()
            .args(["-q", "-I", "us", "-n", &host.user, "-s"])
            .arg(host.root.join("ssh/host_key"))
            .arg(key.with_extension("pub")))
        .unwrap();
        fs::remove_file(&key).unwrap();
        fs::write(&authorized, format!("cert-authority {}\n", host.host_key)).unwrap();
        with_identity(&key.with_extension("pub"));
        agent.certfleet(&config, &["deploy", "--force"]).ended(0);
    }
    agent.forget_all();
    agent
        .certfleet(&config, &["deploy", "--force"])
        .ended(1)
        .said("no agent has the private one")
        .said("ssh-add");
}
