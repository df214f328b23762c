//! Known-hosts files: the same verdict as that of OpenSSH's client.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::Mutex;

use certfleet::deploy::{Presented, presented};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

/// Generated files for each server.
const FILES: usize = 12;

/// What a server is that shows keys.
struct Server<'a> {
    host: &'a Host,
    folder: PathBuf,
    /// Its keys, and others: as one line each.
    keys: Vec<String>,
}

impl Server<'_> {
    fn keygen(&self, arguments: &[&str]) {
        run(parts::ssh_keygen().unwrap().command().current_dir(&self.folder).arg("-q").args(arguments))
            .unwrap();
    }

    fn key(&self, name: &str) -> String {
        let text = fs::read_to_string(self.folder.join(format!("{name}.pub"))).unwrap();
        text.trim().to_owned()
    }

    /// Serves with these keys, and with their certificates where `sign` has arguments for ssh-keygen.
    fn shows(&self, kinds: &[&str], sign: Option<&[&str]>) {
        let config = self.host.root.join("ssh/sshd_config");
        let old = fs::read_to_string(&config).unwrap();
        let mut text: String = old
            .lines()
            .filter(|line| !line.starts_with("Host"))
            .fold(String::new(), |text, line| text + line + "\n");
        for kind in kinds {
            let file = self.folder.join(kind);
            let _ = writeln!(text, "HostKey {}", file.display());
            if let Some(sign) = sign {
                let public = format!("{kind}.pub");
                let arguments: Vec<&str> = sign.iter().copied().chain([public.as_str()]).collect();
                self.keygen(&arguments);
                let _ = writeln!(text, "HostCertificate {}-cert.pub", file.display());
            }
        }
        fs::write(&config, text).unwrap();
        self.host.stop_sshd();
        self.host.start_sshd().unwrap();
    }

    fn names(&self) -> Vec<String> {
        let (address, port) = (self.host.address.to_string(), self.host.ssh_port);
        let net = address.rsplit_once('.').unwrap().0.to_owned();
        let exact = format!("[{address}]:{port}");
        vec![
            exact.clone(),
            address.clone(),
            self.hashed(&exact),
            self.hashed(&address),
            format!("{address}:{port}"),
            format!("[{address}]:{}", port ^ 1),
            format!("[{address}]"),
            format!("[{net}.*]:{port}"),
            format!("[{net}.*]:*"),
            format!("{net}.*"),
            format!("{net}.?,{net}.??,{net}.???"),
            "*".to_owned(),
            format!("*,!{exact}"),
            format!("!{address},*"),
            format!("edge.example,{exact}"),
            format!("EDGE,{address},"),
            "edge.example".to_owned(),
            "|1|AAAA|BBBB".to_owned(),
            "!*".to_owned(),
        ]
    }

    fn hashed(&self, name: &str) -> String {
        let file = self.folder.join("hashed");
        fs::write(&file, format!("{name} {}\n", self.keys[0])).unwrap();
        self.keygen(&["-H", "-f", file.to_str().unwrap()]);
        fs::read_to_string(&file).unwrap().split(' ').next().unwrap().to_owned()
    }

    /// Files with a few lines each.
    fn files(&self, runner: &mut TestRunner) -> Vec<String> {
        let markers =
            select(vec!["", "", "", "@cert-authority ", "@cert-authority\t", "@revoked ", "@REVOKED "]);
        let spaces = select(vec![" ", " ", "\t", "  \t"]);
        let ends = select(vec!["", "", " a comment", " # one", "\r", "x"]);
        let line = (markers, select(self.names()), spaces, select(self.keys.clone()), ends).prop_map(
            |(marker, names, space, key, end)| {
                format!("{marker}{names}{space}{}{end}", key.replacen(' ', space, 1))
            },
        );
        let junk = select(vec!["", "# a comment", "nonsense", "* ssh-ed25519", "@cert-authority *"]);
        let any = prop_oneof![8 => line, 1 => junk.prop_map(str::to_owned)];
        let files = vec(vec(any, 0..5).prop_map(|lines| lines.join("\n") + "\n"), FILES);
        files.new_tree(runner).unwrap().current()
    }

    fn openssh_accepts(&self, file: &Path) -> bool {
        let ssh = parts::ssh().unwrap();
        let mut command = ssh.command();
        command.args(["-F", "none", "-T", "-p", &self.host.ssh_port.to_string()]);
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "GlobalKnownHostsFile=/dev/null",
            "PubkeyAuthentication=no",
            "LogLevel=ERROR",
        ] {
            command.args(["-o", option]);
        }
        command.arg("-o").arg(format!("UserKnownHostsFile={}", file.display()));
        let output = command
            .arg(format!("{}@{}", self.host.user, self.host.address))
            .arg("true")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        match (said.contains("Permission denied"), said.contains("Host key verification failed")) {
            (true, false) => true,
            (false, true) => false,
            _ => panic!("neither yes nor no: {said}"),
        }
    }

    fn we_accept(&self, file: &Path) -> bool {
        let mut wanted = wanted(self.host);
        wanted.host_key = Vec::new();
        wanted.known_hosts = vec![file.to_owned()];
        match wait(presented(&wanted, None)) {
            Ok(Presented::Known(_)) => true,
            Ok(Presented::Unknown { .. }) | Err(ConnectError::HostKey(_)) => false,
            Err(error) => panic!("neither yes nor no: {error:?}"),
        }
    }

    /// With the names of keys in their place.
    fn shortened(&self, text: &str) -> String {
        let names = ["ed25519", "ecdsa", "rsa", "other", "ca", "rsa-ca"];
        self.keys.iter().zip(names).fold(text.to_owned(), |text, (key, name)| {
            text.replace(key.split_once(' ').map_or(key.as_str(), |(_, base64)| base64), name)
        })
    }

    /// Judges all files twice; how many were accepted.
    fn compare(&self, what: &str, files: &[String]) -> usize {
        let queue = Mutex::new(files.iter().enumerate());
        let (accepted, wrong) = (Mutex::new(0), Mutex::new(BTreeSet::new()));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let Some((number, text)) = queue.lock().unwrap().next() else { break };
                        let file = self.folder.join(format!("known_hosts-{number}"));
                        fs::write(&file, text).unwrap();
                        let (theirs, ours) = (self.openssh_accepts(&file), self.we_accept(&file));
                        *accepted.lock().unwrap() += usize::from(ours);
                        if theirs != ours {
                            let text = format!(
                                "{what}: ssh says {theirs}, we say {ours} of [{}]:{}:\n{}",
                                self.host.address,
                                self.host.ssh_port,
                                self.shortened(text)
                            );
                            wrong.lock().unwrap().insert(text);
                        }
                    }
                });
            }
        });
        let wrong = wrong.into_inner().unwrap();
        assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
        accepted.into_inner().unwrap()
    }
}

#[test]
fn files_are_judged_as_openssh_judges_them() {
    let world = World::builder().hosts(&["edge"]).start().unwrap();
    let host = world.host("edge");
    let folder = world.dir.path().join("keys");
    fs::create_dir(&folder).unwrap();
    let mut server = Server { host, folder, keys: Vec::new() };
    for (name, kind) in [
        ("ed25519", "ed25519"),
        ("ecdsa", "ecdsa"),
        ("rsa", "rsa"),
        ("other", "ed25519"),
        ("ca", "ed25519"),
        ("rsa-ca", "rsa"),
    ] {
        server.keygen(&["-t", kind, "-N", "", "-C", "", "-f", name]);
        server.keys.push(server.key(name));
    }
    let address = host.address.to_string();
    let sign = |more: &[&str], by: &str| -> Vec<String> {
        let start = ["-s", by, "-h", "-I", "edge"];
        start.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let good = ["-n", &address];
    let several = format!("other.example,{address}");
    /// What it is, the keys it shows, and how they are signed.
    type Case<'a> = (&'a str, Vec<&'a str>, Option<Vec<String>>);
    let cases: Vec<Case<'_>> = vec![
        ("one key", vec!["ed25519"], None),
        ("ecdsa and rsa", vec!["ecdsa", "rsa"], None),
        ("keys of all kinds", vec!["rsa", "ecdsa", "ed25519"], None),
        ("a certificate", vec!["ed25519"], Some(sign(&good, "ca"))),
        ("an rsa certificate", vec!["rsa"], Some(sign(&good, "rsa-ca"))),
        ("an ecdsa certificate", vec!["ecdsa"], Some(sign(&["-n", &several], "ca"))),
        ("a certificate of the past", vec!["ed25519"], Some(sign(&["-n", &address, "-V", "-9d:-1d"], "ca"))),
        (
            "a certificate of the future",
            vec!["ed25519"],
            Some(sign(&["-n", &address, "-V", "+1d:+9d"], "ca")),
        ),
        ("a certificate for others", vec!["ed25519"], Some(sign(&["-n", "other.example"], "ca"))),
        (
            "a certificate with a condition",
            vec!["ed25519"],
            Some(sign(&["-n", &address, "-O", "critical:x@example.org"], "ca")),
        ),
        (
            "a certificate signed with sha-1",
            vec!["ed25519"],
            Some(sign(&["-n", &address, "-t", "ssh-rsa"], "rsa-ca")),
        ),
    ];
    let mut runner = TestRunner::deterministic();
    let (mut accepted, mut all) = (0, 0);
    for (what, kinds, sign) in cases {
        let sign: Option<Vec<&str>> = sign.as_ref().map(|words| words.iter().map(String::as_str).collect());
        server.shows(&kinds, sign.as_deref());
        let exact = format!("[{address}]:{}", host.ssh_port);
        let key = |name: &str| server.key(name);
        // Where the names meet, and where a certificate and a plain key do.
        let mut files = vec![
            format!("{exact} {}\n{address} {}\n", key("other"), key("ed25519")),
            format!("{exact} {}\n@revoked {address} {}\n", key("ed25519"), key("ed25519")),
            format!("@revoked * {}\n{exact} {}\n", key("ed25519"), key("ed25519")),
            format!("@cert-authority {exact} {}\n", key("ca")),
            format!(
                "@cert-authority {address} {}\n@cert-authority {exact} {}\n",
                key("rsa-ca"),
                key("rsa-ca")
            ),
            format!("@cert-authority * {}\n@revoked * {}\n", key("ca"), key("ca")),
            format!("@cert-authority * {}\n@revoked * {}\n", key("ca"), key("ed25519")),
            format!("@cert-authority * {}\n{exact} {}\n", key("ca"), key("ed25519")),
            format!("@cert-authority {address} {}\n{exact} {}\n", key("ca"), key("other")),
            format!("{exact} {}\n", key("rsa")),
            format!("{address} {}\n", key("ecdsa")),
        ];
        files.extend(server.files(&mut runner));
        all += files.len();
        accepted += server.compare(what, &files);
    }
    println!("{all} files, {accepted} accepted");
    assert!(accepted * 8 > all && accepted * 8 < all * 7, "{accepted} of {all}: the files say too little");
}

#[test]
fn a_certificate_that_does_not_hold_is_told_with_the_reason() {
    let world = World::builder().hosts(&["edge"]).start().unwrap();
    let host = world.host("edge");
    let folder = world.dir.path().join("keys");
    fs::create_dir(&folder).unwrap();
    let server = Server { host, folder, keys: Vec::new() };
    for name in ["ed25519", "ca"] {
        server.keygen(&["-t", "ed25519", "-N", "", "-C", "", "-f", name]);
    }
    let address = host.address.to_string();
    let file = server.folder.join("known_hosts");
    fs::write(&file, format!("@cert-authority * {}\n", server.key("ca"))).unwrap();
    let mut wanted = wanted(host);
    wanted.host_key = Vec::new();
    wanted.known_hosts = vec![file];
    let start = ["-s", "ca", "-h", "-I", "edge"];
    for (more, says) in [
        (vec!["-n", "a\u{1b}[2J.example"], "but for `a"),
        (vec!["-n", &address, "-V", "-9d:-1d"], "it ended on "),
        (vec!["-n", &address, "-V", "+1d:+9d"], "it holds from "),
        (vec!["-n", &address, "-O", "critical:x@example.org"], "x@example.org"),
        // Which OpenSSH took before its version 10.3: whoever has it could be every host.
        (vec![], "it names no host"),
    ] {
        server.shows(&["ed25519"], Some(&[&start[..], &more].concat()));
        let error = refused(&wanted);
        assert_eq!(error.code(), "ssh.host-certificate", "{error:?}");
        let problem = Problem::of(&error).one_line();
        assert!(problem.contains(says) && !problem.contains('\u{1b}'), "{problem}");
        assert!(error.hint().is_some());
    }
    // Patterns count since OpenSSH 10.3; before it they were names that no host has.
    let pattern = format!("other.example,{}.*", address.rsplit_once('.').unwrap().0);
    server.shows(&["ed25519"], Some(&[&start[..], &["-n", &pattern]].concat()));
    wait(async { session(&wanted).await.close().await });
    // A pin asks for the key itself.
    wanted.host_key = vec![server.key("ed25519")];
    wait(async { session(&wanted).await.close().await });
    assert_eq!(host.connections(), 2);
}
