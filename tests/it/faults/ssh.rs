//! SSH servers and accounts that are not as they should be.

use std::fs;
use std::io::Read;
use std::net::TcpStream;

use super::place::{both, replaced};
use super::{Case, Ends, tried};
use crate::world::parts;
use crate::world::tools;

const CASES: &[Case] = &[
    Case::new(
        "refused",
        "sshd does not run",
        |place| {
            place.host.stop_sshd();
            Box::new(|| place.host.start_sshd().unwrap())
        },
        Ends::Old("ssh.refused"),
        &["refuses connections at", "is sshd running there?"],
    ),
    Case::new(
        "other-key",
        "the host has a new key of the same kind",
        |place| other_key(place, "ed25519"),
        Ends::Old("ssh.host-key"),
        &["shows the key ssh-ed25519 SHA256:", "expected was", "not the host"],
    ),
    Case::new(
        "other-kind",
        "the host has a new key of another kind",
        |place| other_key(place, "ecdsa"),
        Ends::Old("ssh.host-key"),
        &["ecdsa", "expected was"],
    ),
    Case::new(
        "no-entry",
        "authorized_keys is empty",
        |place| replaced(place.path("ssh/authorized_keys"), "", 0o600),
        Ends::Old("ssh.auth"),
        &["does not let", "add this line to the authorized_keys"],
    ),
    Case::new(
        "from",
        "our key may come from another address only (`from=`)",
        |place| {
            let keys = place.path("ssh/authorized_keys");
            let key = fs::read_to_string(&keys).unwrap();
            replaced(keys, &format!("from=\"192.0.2.1\" {key}"), 0o600)
        },
        Ends::Old("ssh.auth"),
        &["does not let", "add this line"],
    ),
    Case::new(
        "startups",
        "strangers take all places for a login (MaxStartups)",
        |place| {
            let limited = place.sshd("MaxStartups 1:100:1\nLoginGraceTime 600");
            // It has its place once it is greeted; whoever looked if the server runs may still have it.
            let stranger = loop {
                let mut stranger = TcpStream::connect(place.host.ssh()).unwrap();
                let mut greeting = [0; 4];
                if stranger.read_exact(&mut greeting).is_ok() && greeting == *b"SSH-" {
                    break stranger;
                }
            };
            both(limited, Box::new(move || drop(stranger)))
        },
        Ends::Old("ssh.ended"),
        &["MaxStartups"],
    ),
    Case::new(
        "sessions",
        "no session may be opened (MaxSessions 0)",
        |place| place.sshd("MaxSessions 0"),
        Ends::Old("ssh.channel"),
        &["opens no session", "MaxSessions"],
    ),
    Case::new(
        "hangs-up",
        "the connection is cut right after the login",
        |place| place.sessions("kill -9 $PPID"),
        Ends::Old("ssh.lost"),
        &["was lost in the start"],
    ),
    Case::new(
        "nologin",
        "the login shell is nologin",
        |place| place.sessions("echo 'This account is currently not available.'; exit 1"),
        Ends::Old("deploy.no-answer"),
        &["This account is currently not available.", "login shell"],
    ),
    Case::new(
        "sftp-only",
        "the account may do SFTP only (`ForceCommand internal-sftp`)",
        |place| place.sshd("ForceCommand internal-sftp"),
        Ends::Old("deploy.no-answer"),
        &["ForceCommand"],
    ),
    Case::served("fish", "the login shell is fish", |place| shell(place, &tools::fish().unwrap())),
    Case::served("zsh", "the login shell is zsh", |place| shell(place, &tools::zsh().unwrap())),
    Case::served("tcsh", "the login shell is tcsh", |place| shell(place, &tools::tcsh().unwrap())),
    Case::served(
        "noise",
        "a banner, a motd and a `.bashrc` that prints on both outputs, before, meanwhile and after",
        |place| {
            let banner = replaced(place.path("ssh/banner"), "UNAUTHORIZED USE\x1b[2J IS FORBIDDEN\n", 0o600);
            let shown = place.sshd(&format!("Banner {}", place.path("ssh/banner").display()));
            let noise = "printf 'You have new mail, and no newline'; printf '\\033[1mhello\\n' >&2
                (for n in 1 2 3 4 5 6 7 8 9; do echo \"uptime $n\"; sleep 0.05; done) &
                sh -c \"$SSH_ORIGINAL_COMMAND\"; status=$?; echo bye; echo bye >&2; wait; exit $status";
            both(banner, both(shown, place.sessions(noise)))
        },
    ),
];

#[test]
fn servers_and_accounts() {
    tried(CASES);
}

/// The server has another key than the one that is pinned.
fn other_key<'a>(place: &'a super::Place<'a>, kind: &str) -> super::Mend<'a> {
    let file = place.path(&format!("ssh/another_{kind}"));
    let mut keygen = parts::ssh_keygen().unwrap().command();
    keygen.args(["-q", "-t", kind, "-N", "", "-C", "", "-f"]).arg(&file);
    crate::world::process::run(&mut keygen).unwrap();
    let config = place.path("ssh/sshd_config");
    let text = fs::read_to_string(&config).unwrap();
    let ours = format!("HostKey {}\n", place.path("ssh/host_key").display());
    assert!(text.contains(&ours));
    let undo = replaced(config, &text.replace(&ours, &format!("HostKey {}\n", file.display())), 0o600);
    place.host.stop_sshd();
    place.host.start_sshd().unwrap();
    Box::new(move || {
        undo();
        place.host.stop_sshd();
        place.host.start_sshd().unwrap();
    })
}

/// What sshd does for an account with this shell.
fn shell<'a>(place: &'a super::Place<'a>, program: &parts::Program) -> super::Mend<'a> {
    let libraries = program
        .libraries()
        .map_or_else(String::new, |libraries| format!("LD_LIBRARY_PATH={} ", libraries.display()));
    place.sessions(&format!("{libraries}exec {} -c \"$SSH_ORIGINAL_COMMAND\"", program.path().display()))
}
