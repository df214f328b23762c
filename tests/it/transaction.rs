//! The transaction script by itself, in every shell that hosts have, killed at every step.
//!
//! The web server is a stand-in of a few lines that is as strict as nginx: it refuses a key and a chain that
//! do not match, and what it "serves" is what it loaded at its last reload.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use certfleet::deploy::protocol::{Conversation, Record};
use certfleet::deploy::{Answer, Bundle, Outcome, PutBack, Reload};
use certfleet::model::desired::Host;
use certfleet::model::name::{Fingerprint, VersionNumber};
use tempfile::TempDir;

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
        let (name, package) = match shell {
            Shell::Dash => ("dash", "dash"),
            Shell::Bash => ("bash", "bash"),
            Shell::Busybox => ("busybox", "busybox"),
        };
        let program =
            parts::find(name).unwrap_or_else(|| panic!("no {name} here: install the package {package}"));
        if shell == Shell::Busybox {
            let applets = Command::new(&program).arg("--list").output().unwrap();
            for applet in String::from_utf8_lossy(&applets.stdout).lines() {
                symlink(&program, root.join("bin").join(applet)).unwrap();
            }
        } else {
            symlink(&program, root.join("bin/sh")).unwrap();
        }
        // The real one, if the machine has one, knows nothing of our stand-in.
        script(&root.join("bin/nginx"), "exit 1");
        script(&root.join("test"), &format!("cd {}\n{TEST}", root.display()));
        script(&root.join("reload"), &format!("cd {}\n{TEST}{RELOAD}", root.display()));
        let host = Host {
            name: "edge".parse().unwrap(),
            address: "edge".to_owned(),
            port: 22,
            user: "root".to_owned(),
            identity: None,
            host_key: Vec::new(),
            known_hosts: Vec::new(),
            directory: root.join("live").display().to_string(),
            test: root.join("test").display().to_string(),
            reload: root.join("reload").display().to_string(),
            verify: Vec::new(),
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
        let mut child = Command::new(self.path("bin/sh"))
            .args(["-c", &self.command()])
            .env_clear()
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let (output, complaint) = thread::scope(|scope| {
            // It may end before it has read all.
            scope.spawn(move || drop(stdin.write_all(input)));
            let complaint = scope.spawn(move || {
                let mut text = String::new();
                stderr.read_to_string(&mut text).unwrap();
                text
            });
            let mut output = Vec::new();
            stdout.read_to_end(&mut output).unwrap();
            (output, complaint.join().unwrap())
        });
        if child.wait().unwrap().success() {
            assert_eq!(complaint, "");
        }
        output
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
            assert_eq!(meta.permissions().mode() & 0o7777, 0o600, "{}", path.display());
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
        privkey: pair.key.into(),
        fullchain: format!("{}{}", pair.leaf, pair.chain),
        cert: pair.leaf,
        // A CA may issue from its root.
        chain: if tag.starts_with("rootless") { String::new() } else { pair.chain },
    }
}

fn dir_name(version: u32, tag: &str) -> String {
    bundle("x", version, tag).directory_name()
}

#[test]
fn the_first_installation_makes_all_names_and_they_are_private() {
    for shell in SHELLS {
        let place = Place::new(shell);
        let answer = place.install(&[bundle("a.org", 1, "a1"), bundle("b.org", 1, "rootless")]);
        assert_eq!(
            answer.outcomes,
            [
                Outcome::Installed { installed: dir_name(1, "a1") },
                Outcome::Installed { installed: dir_name(1, "rootless") },
            ],
            "{shell:?}"
        );
        assert!(answer.reloaded() && answer.web_server_running());
        place.assert_ours("a.org", "a1");
        place.assert_ours("b.org", "rootless");
        assert_eq!(fs::read_to_string(place.path("live/b.org/chain.pem")).unwrap(), "");
        assert_eq!(place.loaded("a.org").as_deref(), Some("a1"));
        place.assert_private();
        assert!(!place.path("live/.certfleet/.work").exists());
    }
}

#[test]
fn a_directory_that_is_not_there_is_made() {
    let mut place = Place::new(Shell::Dash);
    place.host.directory = place.path("etc/some where/live").display().to_string();
    place.install(&[bundle("a.org", 1, "a1")]);
    let live = place.path("etc/some where/live/a.org/fullchain.pem");
    assert_eq!(tag(&fs::read_to_string(live).unwrap()), "a1");
}

#[test]
fn a_replacement_switches_and_the_same_again_does_not() {
    for shell in SHELLS {
        let place = Place::new(shell);
        place.install(&[bundle("a.org", 1, "a1")]);
        let answer = place.install(&[bundle("a.org", 2, "a2")]);
        assert_eq!(
            answer.outcomes,
            [Outcome::Switched { installed: dir_name(2, "a2"), previous: dir_name(1, "a1") }],
            "{shell:?}"
        );
        place.assert_ours("a.org", "a2");
        assert_eq!(place.loaded("a.org").as_deref(), Some("a2"));
        let answer = place.install(&[bundle("a.org", 2, "a2")]);
        assert_eq!(answer.outcomes, [Outcome::Unchanged { installed: dir_name(2, "a2") }]);
        assert!(answer.reloaded(), "whoever asks again does so because it is not served");
        assert_eq!(place.versions("a.org"), [dir_name(1, "a1"), dir_name(2, "a2")]);
    }
}

#[test]
fn what_certbot_left_is_taken_over_and_its_archive_stays() {
    for shell in SHELLS {
        let place = Place::new(shell);
        for tag in ["old1", "old2"] {
            install_as_certbot(place.dir.path(), "a.org", &pair_of(tag)).unwrap();
        }
        fs::write(place.path("live/a.org/README"), "certbot's").unwrap();
        let answer = place.install(&[bundle("a.org", 1, "a1")]);
        let [Outcome::Switched { previous, .. }] = &answer.outcomes[..] else { panic!("{answer:?}") };
        assert_eq!(previous, "0-before", "{shell:?}");
        place.assert_ours("a.org", "a1");
        assert_eq!(fs::read_dir(place.path("archive/a.org")).unwrap().count(), 8);
        assert!(place.path("live/a.org/README").exists());
        let before = place.path("live/.certfleet/a.org/0-before/privkey.pem");
        assert_eq!(tag(&fs::read_to_string(before).unwrap()), "old2");
        place.assert_private();

        let put_back = PutBack {
            certificate: "a.org".parse().unwrap(),
            installed: dir_name(1, "a1"),
            previous: "0-before".to_owned(),
        };
        let records = place.run(Conversation::put_back(&place.host, &[put_back]).unwrap()).unwrap();
        assert_eq!(records[0].word, "put-back", "{records:?}");
        place.assert_ours("a.org", "old2");
        assert_eq!(place.loaded("a.org").as_deref(), Some("old2"));
    }
}

#[test]
fn plain_files_and_edits_by_hand_are_taken_over() {
    let place = Place::new(Shell::Dash);
    let live = place.path("live/a.org");
    fs::create_dir(&live).unwrap();
    fs::write(live.join("privkey.pem"), pair_of("plain").key).unwrap();
    fs::write(live.join("fullchain.pem"), pair_of("plain").leaf).unwrap();
    place.install(&[bundle("a.org", 1, "a1")]);
    place.assert_ours("a.org", "a1");
    // Somebody puts his own files where our links were: also that can be gone back to.
    for file in ["privkey.pem", "fullchain.pem"] {
        fs::remove_file(live.join(file)).unwrap();
        fs::write(live.join(file), pair_of("hand").key).unwrap();
    }
    let answer = place.install(&[bundle("a.org", 2, "a2")]);
    let [Outcome::Switched { previous, .. }] = &answer.outcomes[..] else { panic!("{answer:?}") };
    assert_eq!(previous, "0-before.2");
    place.assert_ours("a.org", "a2");
    // A link that somebody removed comes back.
    fs::remove_file(live.join("cert.pem")).unwrap();
    place.install(&[bundle("a.org", 3, "a3")]);
    place.assert_ours("a.org", "a3");
}

#[test]
fn certbot_at_work_at_the_same_time_wins() {
    let place = Place::new(Shell::Dash);
    install_as_certbot(place.dir.path(), "a.org", &pair_of("old")).unwrap();
    // It renews just after its files have been copied.
    let renew = format!(
        "{} \"$@\"\ncd {}\nfor part in privkey fullchain cert chain; do\n\
         echo 'pair newer' >archive/a.org/${{part}}2.pem\n\
         ln -sfn ../../archive/a.org/${{part}}2.pem live/a.org/$part.pem\ndone",
        parts::find("cp").unwrap().display(),
        place.dir.path().display(),
    );
    script(&place.path("bin/cp"), &renew);
    let answer = place.install(&[bundle("a.org", 1, "a1")]);
    let [Outcome::Refused { reason }] = &answer.outcomes[..] else { panic!("{answer:?}") };
    assert!(reason.contains("at the same time"), "{reason}");
    assert_eq!(place.pair("a.org").as_deref(), Some("newer"));
    fs::remove_file(place.path("bin/cp")).unwrap();
    let answer = place.install(&[bundle("a.org", 1, "a1")]);
    let [Outcome::Switched { previous, .. }] = &answer.outcomes[..] else { panic!("{answer:?}") };
    assert_eq!(previous, "0-before.2");
    place.assert_ours("a.org", "a1");
}

#[test]
fn a_host_that_was_broken_before_is_left_alone() {
    for shell in SHELLS {
        let place = Place::new(shell);
        place.install(&[bundle("a.org", 1, "a1")]);
        fs::write(place.path("broken"), "").unwrap();
        let answer = place.install(&[bundle("a.org", 2, "a2"), bundle("n.org", 1, "n1")]);
        for outcome in &answer.outcomes {
            let Outcome::HostBroken { output } = outcome else { panic!("{shell:?}: {answer:?}") };
            assert_eq!(output, "[emerg] the host is broken");
        }
        assert_eq!(answer.reload, Reload::NotNeeded);
        place.assert_ours("a.org", "a1");
        assert_eq!(place.loaded("a.org").as_deref(), Some("a1"));
    }
}

#[test]
fn one_bad_of_three_does_not_keep_the_others() {
    for shell in SHELLS {
        let place = Place::new(shell);
        place.install(&[bundle("a.org", 1, "a1"), bundle("b.org", 1, "b1"), bundle("c.org", 1, "c1")]);
        let reloads = fs::read_to_string(place.path("reloads")).unwrap();
        let three = [bundle("a.org", 2, "a2"), bundle("b.org", 2, "bad2"), bundle("c.org", 2, "c2")];
        let answer = place.install(&three);
        assert!(matches!(answer.outcomes[0], Outcome::Switched { .. }), "{shell:?}: {answer:?}");
        let Outcome::RolledBack { output } = &answer.outcomes[1] else { panic!("{answer:?}") };
        assert_eq!(output, "[emerg] live/b.org/privkey.pem is bad2", "without the warnings before it");
        assert!(matches!(answer.outcomes[2], Outcome::Switched { .. }));
        for (name, tag) in [("a.org", "a2"), ("b.org", "b1"), ("c.org", "c2")] {
            place.assert_ours(name, tag);
            assert_eq!(place.loaded(name).as_deref(), Some(tag));
        }
        assert_eq!(fs::read_to_string(place.path("reloads")).unwrap().len(), reloads.len() + 2, "one reload");
    }
}

#[test]
fn a_bad_one_alone_is_rolled_back_without_a_reload() {
    let place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    let reloads = fs::read(place.path("reloads")).unwrap();
    let answer = place.install(&[bundle("a.org", 2, "bad")]);
    assert!(matches!(answer.outcomes[..], [Outcome::RolledBack { .. }]), "{answer:?}");
    assert_eq!(answer.reload, Reload::NotNeeded);
    place.assert_ours("a.org", "a1");
    assert_eq!(fs::read(place.path("reloads")).unwrap(), reloads);
}

#[test]
fn a_failing_reload_is_taken_back() {
    for shell in SHELLS {
        let place = Place::new(shell);
        place.install(&[bundle("a.org", 1, "a1")]);
        fs::write(place.path("stubborn"), "").unwrap();
        let answer = place.install(&[bundle("a.org", 2, "a2"), bundle("n.org", 1, "n1")]);
        let Outcome::ReloadFailed { output } = &answer.outcomes[0] else { panic!("{shell:?}: {answer:?}") };
        assert_eq!(output, "it will not reload");
        assert!(matches!(answer.outcomes[1], Outcome::Installed { .. }), "what replaced nothing stays");
        assert!(matches!(answer.reload, Reload::Failed { .. }));
        place.assert_ours("a.org", "a1");
    }
}

#[test]
fn a_web_server_that_does_not_run_is_not_an_error() {
    let place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    fs::write(place.path("stopped"), "").unwrap();
    let answer = place.install(&[bundle("a.org", 2, "a2")]);
    assert!(matches!(answer.outcomes[..], [Outcome::Switched { .. }]), "{answer:?}");
    assert!(!answer.web_server_running());
    place.assert_ours("a.org", "a2");
}

#[test]
fn three_versions_stay_and_the_one_before_us_for_ever() {
    let place = Place::new(Shell::Busybox);
    install_as_certbot(place.dir.path(), "a.org", &pair_of("old")).unwrap();
    for version in 1..=12 {
        place.install(&[bundle("a.org", version, &format!("a{version}"))]);
    }
    let mut expected: Vec<String> =
        (10..=12).map(|version| dir_name(version, &format!("a{version}"))).collect();
    expected.insert(0, "0-before".to_owned());
    assert_eq!(place.versions("a.org"), expected);
}

#[test]
fn other_bytes_never_go_under_a_name_that_is_taken() {
    let place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    let mut other = bundle("a.org", 1, "a1");
    other.chain.push_str("another intermediate\n");
    let answer = place.install(&[other]);
    let [Outcome::Switched { installed, .. }] = &answer.outcomes[..] else { panic!("{answer:?}") };
    assert_eq!(*installed, format!("{}.2", dir_name(1, "a1")));
}

#[test]
fn traps_are_refused_and_nothing_is_followed() {
    let place = Place::new(Shell::Dash);
    let live = place.path("live");
    let elsewhere = place.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();

    symlink(&elsewhere, live.join(".certfleet")).unwrap();
    let (what, why) = place.stopped(&[bundle("a.org", 1, "a1")]);
    assert_eq!(what, "directory");
    assert!(why.contains(".certfleet is a symbolic link"), "{why}");
    fs::remove_file(live.join(".certfleet")).unwrap();

    fs::create_dir(live.join(".certfleet")).unwrap();
    fs::set_permissions(live.join(".certfleet"), fs::Permissions::from_mode(0o770)).unwrap();
    let (_, why) = place.stopped(&[bundle("a.org", 1, "a1")]);
    assert!(why.contains("chmod go-w"), "{why}");
    fs::set_permissions(live.join(".certfleet"), fs::Permissions::from_mode(0o700)).unwrap();

    // A trap for one certificate is no reason to leave the others.
    symlink(&elsewhere, live.join(".certfleet/a.org")).unwrap();
    symlink(&elsewhere, live.join("b.org")).unwrap();
    fs::create_dir_all(live.join("c.org/privkey.pem")).unwrap();
    let four = ["a.org", "b.org", "c.org", "d.org"].map(|name| bundle(name, 1, name));
    let answer = place.install(&four);
    for (index, reason) in
        [".certfleet/a.org is a symbolic link", "live/b.org is a symbolic link", "privkey.pem is not a file"]
            .iter()
            .enumerate()
    {
        let Outcome::Refused { reason: said } = &answer.outcomes[index] else { panic!("{answer:?}") };
        assert!(said.contains(reason), "{said}");
    }
    assert!(matches!(answer.outcomes[3], Outcome::Installed { .. }), "{answer:?}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);

    fs::set_permissions(&live, fs::Permissions::from_mode(0o777)).unwrap();
    let (what, why) = place.stopped(&[bundle("d.org", 2, "d2")]);
    assert_eq!(what, "directory");
    assert!(why.contains("chmod go-w"), "{why}");
    fs::set_permissions(&live, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (_, why) = place.stopped(&[bundle("d.org", 2, "d2")]);
    assert!(why.contains("can be changed by everybody"), "{why}");
}

#[test]
fn a_lock_that_is_held_names_its_holder() {
    let place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    let lock = fs::File::open(place.path("live/.certfleet/.lock")).unwrap();
    lock.lock().unwrap();
    // Thirty seconds are too long for a test: for it a second is nothing.
    script(&place.path("bin/sleep"), "exit 0");
    let (what, why) = place.stopped(&[bundle("a.org", 2, "a2")]);
    assert_eq!(what, "lock");
    assert!(why.contains("another run holds") && why.contains("pid "), "{why}");
    place.assert_ours("a.org", "a1");
}

#[test]
fn two_at_once_wait_for_each_other() {
    let place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    thread::scope(|scope| {
        for (version, tag) in [(2, "a2"), (3, "a3"), (4, "a4")] {
            let place = &place;
            scope.spawn(move || {
                let answer = place.install(&[bundle("a.org", version, tag)]);
                assert!(matches!(answer.outcomes[..], [Outcome::Switched { .. }]), "{answer:?}");
            });
        }
    });
    let there = place.pair("a.org").unwrap();
    place.assert_ours("a.org", &there);
    assert_eq!(place.loaded("a.org"), Some(there));
}

#[test]
fn a_disk_that_takes_no_more_leaves_what_is_there() {
    let place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    // As on a full disk, at each of the tools that need room there.
    for tool in ["dd", "ln", "mkdir", "cp", "sync"] {
        if tool == "cp" {
            // Only needed to take something over.
            install_as_certbot(place.dir.path(), "c.org", &pair_of("c-old")).unwrap();
        }
        let real = parts::find(tool).unwrap();
        // It also reads, and that needs no room.
        let full = format!(
            "case $* in *bs=*) case $* in *of=*) ;; *) exec {} \"$@\" ;; esac ;; esac\n\
             echo '{tool}: no room for this' >&2; exit 1",
            real.display(),
        );
        script(&place.path("bin").join(tool), &full);
        let batch = [bundle("a.org", 2, "a2"), bundle("c.org", 2, "c2")];
        let (what, why) = place.stopped(&batch);
        assert_eq!((what.as_str(), why), ("staging", format!("{tool}: no room for this")));
        place.assert_ours("a.org", "a1");
        fs::remove_file(place.path("bin").join(tool)).unwrap();
    }
    assert_eq!(place.pair("c.org").as_deref(), Some("c-old"));
    // With room again, it goes on.
    let answer = place.install(&[bundle("a.org", 2, "a2"), bundle("c.org", 2, "c2")]);
    assert!(answer.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Switched { .. })), "{answer:?}");
}

#[test]
fn a_missing_tool_names_its_package() {
    let place = Place::new(Shell::Busybox);
    // Nothing but busybox, which in some distributions has no flock.
    let _ = fs::remove_file(place.path("bin/flock"));
    let mut conversation = Conversation::install(&place.host, &[bundle("a.org", 1, "a1")]).unwrap();
    let input = conversation.take_input();
    let output = place.execute(&input, &place.path("bin").display().to_string());
    let records = conversation.records_in(&output).unwrap().unwrap();
    assert_eq!(records[0].version, "tools");
    assert!(records[0].text.contains("flock is missing: install the package util-linux"), "{records:?}");
}

#[test]
fn input_that_is_cut_changes_nothing() {
    let place = Place::new(Shell::Dash);
    place.install(&[bundle("a.org", 1, "a1")]);
    let whole = Conversation::install(&place.host, &[bundle("a.org", 2, "a2")]).unwrap().take_input();
    // From inside the script to just before the last word of the data.
    for share in [1, 5, 15, 30, 60, 80, 90, 95, 99] {
        place.execute_cut(&whole[..whole.len() * share / 100]);
        place.assert_ours("a.org", "a1");
    }
    place.execute_cut(&whole[..whole.len() - 2]);
    place.assert_ours("a.org", "a1");
}

impl Place {
    /// Runs it with less than the whole input: it may say what it likes.
    fn execute_cut(&self, input: &[u8]) {
        let mut child = Command::new(self.path("bin/sh"))
            .args(["-c", &self.command()])
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait().unwrap();
    }

    /// Puts tools in front of the real ones that kill the whole process group at the n-th call: the power cut.
    fn kill_at(&self, call: usize) {
        let _ = fs::remove_file(self.path("calls"));
        for tool in ["dd", "ln", "mkdir", "mv", "rm", "sync", "timeout"] {
            let real = parts::find(tool).unwrap();
            let fake = self.path("bin").join(tool);
            let _ = fs::remove_file(&fake);
            let calls = self.path("calls");
            let text = format!(
                "n=0; read n 2>/dev/null <{calls}; echo $((n + 1)) >{calls}\n\
                 [ $((n + 1)) -ne {call} ] || kill -9 0\nexec {real} \"$@\"",
                calls = calls.display(),
                real = real.display(),
            );
            script(&fake, &text);
        }
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.path("calls")).map_or(0, |text| text.trim().parse().unwrap())
    }

    /// A host with a past: two of ours, one of certbot's.
    fn with_a_past(shell: Shell) -> Self {
        let place = Self::new(shell);
        place.install(&[bundle("a.org", 1, "a1"), bundle("b.org", 1, "b1")]);
        install_as_certbot(place.dir.path(), "c.org", &pair_of("c-old")).unwrap();
        place
    }

    /// The same past, somewhere else.
    fn copy_of(other: &Self, shell: Shell) -> Self {
        let place = Self::new(shell);
        let copied = Command::new("cp")
            .arg("-a")
            .args([other.path("live"), other.path("archive"), place.path(".")])
            .status()
            .unwrap();
        assert!(copied.success());
        place
    }
}

/// Kills at one call, looks, runs again, looks again.
fn killed_at(past: &Place, shell: Shell, call: usize) -> bool {
    let batch = || {
        [
            bundle("a.org", 2, "a2"),
            bundle("b.org", 2, "bad"),
            bundle("c.org", 1, "c1"),
            bundle("d.org", 1, "d1"),
        ]
    };
    let place = Place::copy_of(past, shell);
    let find_tools = place.path("bin");
    let tools: BTreeMap<_, _> = ["dd", "ln", "mkdir", "mv", "rm", "sync", "timeout"]
        .into_iter()
        .map(|tool| (tool, fs::read_link(find_tools.join(tool)).ok()))
        .collect();
    place.kill_at(call);
    let conversation = Conversation::install(&place.host, &batch()).unwrap();
    place.run(conversation);
    let reached = place.calls() >= call;
    let under_way = place.path("live/.certfleet/.switch").exists();
    // What a visitor of a restarted machine would see: names that worked work, with one of the two pairs.
    for (name, may) in [("a.org", ["a1", "a2"]), ("b.org", ["b1", "bad"]), ("c.org", ["c-old", "c1"])] {
        let pair = place.pair(name).unwrap_or_else(|| panic!("call {call}: {name} is gone"));
        assert!(may.contains(&pair.as_str()), "call {call}: {name} is {pair}");
    }
    place.pair("d.org");
    place.assert_private();
    for (tool, link) in tools {
        fs::remove_file(find_tools.join(tool)).unwrap();
        if let Some(link) = link {
            symlink(link, find_tools.join(tool)).unwrap();
        }
    }
    // The next run comes to the same end as one that nobody disturbed.
    let answer = place.install(&batch());
    assert!(matches!(answer.outcomes[1], Outcome::RolledBack { .. }), "call {call}: {answer:?}");
    assert!(answer.reloaded());
    for (name, tag) in [("a.org", "a2"), ("b.org", "b1"), ("c.org", "c1"), ("d.org", "d1")] {
        place.assert_ours(name, tag);
        assert_eq!(place.loaded(name).as_deref(), Some(tag), "call {call}");
    }
    for leftover in [".work", ".switch"] {
        assert!(!place.path("live/.certfleet").join(leftover).exists(), "call {call}: {leftover}");
    }
    // Nobody has looked yet whether the interrupted one is served: it can still be put back.
    match &answer.outcomes[0] {
        Outcome::Switched { previous, .. } => assert_eq!(*previous, dir_name(1, "a1"), "call {call}"),
        other => assert!(!under_way && matches!(other, Outcome::Unchanged { .. }), "call {call}: {other:?}"),
    }
    reached
}

#[test]
fn killed_at_any_step_the_web_server_starts_and_the_next_run_ends_it() {
    // Every step in one shell, every few in the others: the steps are the same.
    for (shell, from, stride) in [(Shell::Dash, 1, 1), (Shell::Bash, 3, 13), (Shell::Busybox, 8, 13)] {
        let past = Place::with_a_past(shell);
        let next = AtomicUsize::new(from);
        let last = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let call = next.fetch_add(stride, Ordering::Relaxed);
                        if !killed_at(&past, shell, call) {
                            break;
                        }
                        last.fetch_max(call, Ordering::Relaxed);
                    }
                });
            }
        });
        let last = last.into_inner();
        println!("{shell:?}: {last} steps");
        assert!(last > 60, "{shell:?}: only {last} steps, is the trick still working?");
    }
}
