//! The transaction script by itself, in every shell that hosts have, killed at every step.
//!
//! The web server is a stand-in of a few lines that is as strict as nginx: it refuses a key and a chain that
//! do not match, and what it "serves" is what it loaded at its last reload.

mod access;
mod guarding;
mod installing;
pub(crate) mod killed;
mod layouts;
mod receiving;
mod swaps;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use certfleet::deploy::protocol::{Conversation, Record};
use certfleet::deploy::{Answer, Bundle, Outcome, PutBack, Reload};
use certfleet::model::desired::Host;
use certfleet::model::name::{Fingerprint, VersionNumber};
use tempfile::TempDir;

use crate::facts;
use crate::world::made::{Pair, install_as_certbot};
use crate::world::parts;

const FILES: [&str; 4] = ["privkey.pem", "fullchain.pem", "cert.pem", "chain.pem"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shell {
    Dash,
    Bash,
    Busybox,
}

const SHELLS: [Shell; 3] = [Shell::Dash, Shell::Bash, Shell::Busybox];

/// A host without SSH: a directory, a stand-in for the web server, and a PATH with the tools of one shell.
struct Place {
    dir: TempDir,
    host: Host,
}

impl Place {
    fn new(shell: Shell) -> Self {
        let dir = tempfile::Builder::new().prefix("certfleet-host-").tempdir().unwrap();
        let root = dir.path();
        for folder in ["bin", "live", "archive"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        let found = |name: &str| parts::find(name).unwrap_or_else(|| panic!("no {name} here: install it"));
        match shell {
            Shell::Dash => symlink(found("dash"), root.join("bin/sh")).unwrap(),
            Shell::Bash => symlink(found("bash"), root.join("bin/sh")).unwrap(),
            Shell::Busybox => {
                let busybox = parts::busybox().unwrap();
                let applets = busybox.command().arg("--list").output().unwrap();
                for applet in String::from_utf8_lossy(&applets.stdout).lines() {
                    symlink(busybox.path(), root.join("bin").join(applet)).unwrap();
                }
            }
        }
        // The real one, if the machine has one, knows nothing of our stand-in.
        script(&root.join("bin/nginx"), "exit 1");
        script(&root.join("test"), &format!("cd {}\n{TEST}", root.display()));
        script(&root.join("reload"), &format!("cd {}\n{TEST}{RELOAD}", root.display()));
        let host = Host {
            directory: root.join("live").display().to_string(),
            test: root.join("test").display().to_string(),
            reload: root.join("reload").display().to_string(),
            ..facts::host(&"edge".parse().unwrap())
        };
        Self { dir, host }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Runs what a host would run; the answer is what it says.
    fn run(&self, mut conversation: Conversation) -> Option<Vec<Record>> {
        let input = conversation.take_input();
        let output = self.execute(&input, &format!("{}:/usr/bin:/bin", self.path("bin").display()));
        conversation.records_in(&output).map(|records| records.unwrap())
    }

    /// What the host's shell is told; the same for every transaction.
    fn command(&self) -> String {
        Conversation::install(&self.host, &[]).unwrap().command()
    }

    fn execute(&self, input: &[u8], path: &str) -> Vec<u8> {
        let output = self.say(&[Path::new("-c"), Path::new(&self.command())], input, path);
        if output.status.success() {
            assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        }
        output.stdout
    }

    /// Runs the host's shell with this on its standard input.
    fn say(&self, args: &[&Path], input: &[u8], path: &str) -> Output {
        let mut child = Command::new(self.path("bin/sh"))
            .args(args)
            .env_clear()
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        thread::scope(|scope| {
            // It may end before it has read all.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output().unwrap()
        })
    }

    fn install(&self, bundles: &[Bundle]) -> Answer {
        let records = self.run(Conversation::install(&self.host, bundles).unwrap()).expect("an answer");
        Answer::of(&records, bundles).unwrap_or_else(|error| panic!("{error}: {records:?}"))
    }

    /// How the transaction stopped itself: at what, and why.
    fn stopped(&self, bundles: &[Bundle]) -> (String, String) {
        let records = self.run(Conversation::install(&self.host, bundles).unwrap()).expect("an answer");
        let failed = records.iter().find(|record| record.word == "failed").expect("a failure");
        (failed.version.clone(), failed.text.clone())
    }

    /// What is to be read under `live/NAME`: the tags of key and chain. One that is there without the other is
    /// a web server that does not start.
    fn pair(&self, name: &str) -> Option<String> {
        let read = |file: &str| fs::read_to_string(self.path("live").join(name).join(file)).ok();
        match (read("privkey.pem"), read("fullchain.pem")) {
            (None, None) => None,
            (Some(key), Some(chain)) => {
                assert_eq!(tag(&key), tag(&chain), "{name} does not match");
                Some(tag(&key))
            }
            (key, chain) => panic!("{name}: only one of key ({key:?}) and chain ({chain:?})"),
        }
    }

    /// What the web server loaded last.
    fn loaded(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.path("loaded")).ok()?;
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    }

    /// Checks that `live/NAME` is complete, ours, and leads to this tag.
    fn assert_ours(&self, name: &str, tag_there: &str) {
        assert_eq!(self.pair(name).as_deref(), Some(tag_there), "{name}");
        for file in FILES {
            let link = fs::read_link(self.path("live").join(name).join(file)).unwrap();
            assert_eq!(link, Path::new("../.certfleet").join(name).join("current").join(file));
        }
    }

    fn versions(&self, name: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path("live/.certfleet").join(name))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "current")
            .collect();
        names.sort();
        names
    }

    /// Nobody but the owner ever gets at what is ours.
    fn assert_private(&self) {
        let base = self.path("live/.certfleet");
        if base.exists() {
            assert_tree_private(&base);
        }
    }
}

fn assert_tree_private(folder: &Path) {
    let mode = fs::symlink_metadata(folder).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, if folder.ends_with(".work/live") { 0o755 } else { 0o700 }, "{}", folder.display());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            assert_tree_private(&path);
        } else if meta.is_file() {
            // Files for nginx to include hold no secret, and are on their way to where others may read.
            let includes = path.extension().is_some_and(|extension| extension == "conf");
            let public = includes && (folder.ends_with(".work/to") || folder.ends_with(".work/back"));
            let mode = if public { 0o644 } else { 0o600 };
            assert_eq!(meta.permissions().mode() & 0o7777, mode, "{}", path.display());
        }
    }
}

/// The stand-in's config test: every pair matches, and none is `bad`.
const TEST: &str = r#"
for key in live/*/privkey.pem; do
    [ -f "$key" ] || continue
    a=$(sed '/^pair /!d;s///;q' "$key") b=$(sed '/^pair /!d;s///;q' "${key%privkey.pem}fullchain.pem") || exit 1
    [ "$a" = "$b" ] || { echo "[emerg] $key does not match: $a, $b"; exit 1; }
    case $a in bad*) echo "[warn] nothing"; echo "[emerg] $key is $a"; exit 1 ;; esac
done
[ ! -e broken ] || { echo '[emerg] the host is broken'; exit 1; }
"#;

/// Its reload: what is there is what is served from now on.
const RELOAD: &str = r#"
[ ! -e stubborn ] || { echo 'it will not reload'; exit 1; }
[ ! -e stopped ] || { echo 'web.service is not active, cannot reload.'; exit 1; }
echo x >>reloads
for key in live/*/privkey.pem; do
    name=${key#live/}
    echo "${name%/privkey.pem} $(sed '/^pair /!d;s///;q' "$key")"
done >loaded
"#;

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn tag(text: &str) -> String {
    text.lines().find_map(|line| line.strip_prefix("pair ")).unwrap_or_default().to_owned()
}

fn pair_of(tag: &str) -> Pair {
    let text = |what: &str| format!("{what}\npair {tag}\n{}\n", "x".repeat(2000));
    Pair { key: text("key"), leaf: text("leaf"), chain: text("chain") }
}

fn bundle(name: &str, version: u32, tag: &str) -> Bundle {
    let pair = pair_of(tag);
    Bundle {
        certificate: name.parse().unwrap(),
        version: VersionNumber(version),
        fingerprint: Fingerprint::of(tag.as_bytes()),
        force: false,
        privkey: pair.key.into(),
        cert: pair.leaf,
        // A CA may issue from its root.
        chain: if tag.starts_with("rootless") { String::new() } else { pair.chain },
    }
}

fn dir_name(version: u32, tag: &str) -> String {
    bundle("x", version, tag).directory_name()
}
