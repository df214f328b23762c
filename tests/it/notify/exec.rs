//! Programs that read notices.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use certfleet::notify::Channel;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{a_notice, channel, document, fails, hostile, notice, send};

struct Bench {
    dir: TempDir,
    channel: Arc<dyn Channel>,
}

impl Bench {
    /// A program with this shell text; `$D` is a folder of its own.
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook");
        fs::write(&path, format!("#!/bin/sh\nD={}\n{script}\n", dir.path().display())).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        let channel = channel(&format!("channel = 'exec'\ncommand = {path:?}\ntimeout = '2s'"));
        Self { dir, channel }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

#[test]
fn the_program_reads_the_documented_json_and_nothing_else_tells_it() {
    let bench = Bench::new("cat > $D/got; echo \"$#\" > $D/arguments; env > $D/environment");
    for message in [notice(), hostile(), document()] {
        send(&bench.channel, &message).unwrap();
        let got = fs::read_to_string(bench.file("got")).unwrap();
        assert_eq!(got.lines().count(), 1);
        let got: Value = serde_json::from_str(&got).unwrap();
        assert_eq!(got["version"], 1);
        assert_eq!(fs::read_to_string(bench.file("arguments")).unwrap(), "0\n");
    }
    send(&bench.channel, &notice()).unwrap();
    let got: Value = serde_json::from_str(&fs::read_to_string(bench.file("got")).unwrap()).unwrap();
    assert_eq!(
        (&got["kind"], &got["notice"]),
        (&json!("notice"), &serde_json::to_value(a_notice()).unwrap())
    );
    // cargo gives us many.
    let environment = fs::read_to_string(bench.file("environment")).unwrap();
    assert!(
        std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !environment.contains("CARGO"),
        "{environment}"
    );
    assert!(environment.contains("PATH="));
}

#[test]
fn a_program_that_does_not_read_is_none_the_worse() {
    send(&Bench::new("exit 0").channel, &document()).unwrap();
    send(&Bench::new("exec <&-; exit 0").channel, &hostile()).unwrap();
}

#[test]
fn a_program_that_fails_is_quoted() {
    let bench = Bench::new("cat >/dev/null; echo 'no \u{1b}[2Jpager there' >&2; exit 7");
    let said = fails(&bench.channel, "notify.command-failed");
    assert!(said.contains("ended with 7 and said: no \\u{1b}[2Jpager there"), "{said}");
    fails(&Bench::new("kill -9 $$").channel, "notify.command-failed");
    let endless = Bench::new("yes 'a lot of words' | head -c 1000000 >&2; exit 3");
    assert!(fails(&endless.channel, "notify.command-failed").len() < 2000);
}

#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let bench = Bench::new("sleep 1000 & echo $! > $D/child; echo $$ > $D/own; wait");
    let began = Instant::now();
    let said = fails(&bench.channel, "notify.timeout");
    assert!(said.contains("did not end within 2 s and was killed"), "{said}");
    for name in ["child", "own"] {
        let pid = fs::read_to_string(bench.file(name)).unwrap();
        let gone = || !is_running(pid.trim());
        while !gone() {
            assert!(began.elapsed() < Duration::from_secs(60), "{name} still runs");
            std::thread::yield_now();
        }
    }
    // Its output is not waited for.
    fails(&Bench::new("exec yes").channel, "notify.timeout");
}

#[test]
fn what_is_no_program_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &Path| channel(&format!("channel = 'exec'\ncommand = {path:?}"));
    let path = dir.path().join("hook");
    assert!(fails(&at(&path), "notify.command").contains("`alert.ops.command`"));
    fails(&at(dir.path()), "notify.command");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert!(fails(&at(&path), "notify.command").contains("chmod +x"));
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    assert!(fails(&at(&path), "notify.command-unsafe").contains("chmod o-w"));
}

/// Whether it is there and no zombie.
fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with('Z'))
}
