//! exec: a shell script that keeps its records as files, called as lego calls it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::{Bench, OWNER, ZONE, account, account_of, add, add_at, apply, remove, shown, strings};
use certfleet::dns::Change;
use certfleet::model::problem::Blame;

pub(super) struct ExecBench {
    dir: TempDir,
}

/// A file for each record: its folder is the name, its own name the value.
pub(super) fn bench() -> ExecBench {
    let bench = ExecBench { dir: tempfile::tempdir().unwrap() };
    bench.script(
        "mkdir -p \"$top/records/$2\"\n\
         case $1 in\n\
         present) : >\"$top/records/$2/$3\" ;;\n\
         cleanup) rm -f \"$top/records/$2/$3\" ;;\n\
         *) exit 64 ;;\n\
         esac\n",
    );
    bench
}

impl ExecBench {
    /// Writes the program, which finds the bench's folder in `$top`.
    fn script(&self, text: &str) -> PathBuf {
        let path = self.dir.path().join("hook");
        let top = self.dir.path().display();
        // Another file each time: one that still runs cannot be written to.
        let _ = fs::remove_file(&path);
        fs::write(&path, format!("#!/bin/sh\nset -eu\ntop='{top}'\n{text}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("calls")).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Bench for ExecBench {
    fn table(&self) -> String {
        format!("command = {:?}\n", self.dir.path().join("hook"))
    }

    fn wrong(&self) -> String {
        unreachable!("the program has credentials, not we")
    }

    fn values(&self, owner: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("records").join(owner)) else {
            return Vec::new();
        };
        let mut values: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        values.sort();
        values
    }

    fn put(&self, owner: &str, value: &str) {
        let folder = self.dir.path().join("records").join(owner);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(value), "").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_arguments_are_those_of_lego_in_both_modes_and_no_shell_reads_them() {
    let bench = bench();
    bench.script("{ printf '%s|' \"$@\"; echo; } >>\"$top/calls\"\n");
    let value = "$(touch /tmp/never); `id` 'a\" *";
    apply(&account(&bench, &bench.table()), &[add(value), remove(value)]).await;
    let raw = account(&bench, &format!("{}mode = \"raw\"\n", bench.table()));
    apply(&raw, &[add("v"), remove("v")]).await;
    let proof = "--|media.social.test|the-token|the-token.the-thumbprint|";
    let expected = [
        format!("present|{OWNER}|{value}|"),
        format!("cleanup|{OWNER}|{value}|"),
        format!("present|{proof}"),
        format!("cleanup|{proof}"),
    ];
    assert_eq!(bench.lines(), expected);

    let Change::Remove(mut record) = remove("v") else { unreachable!() };
    record.proof = None;
    let error = raw.provider.apply(ZONE, &[Change::Remove(record)]).await.unwrap_err();
    assert_eq!(shown(&raw, &error).code, "dns.no-proof");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_never_runs_twice_at_the_same_time() {
    let bench = bench();
    bench.script(
        "mkdir \"$top/busy\" || { echo 'two at once' >&2; exit 1; }\n\
         echo x >>\"$top/calls\"\nsleep 0.05\nrmdir \"$top/busy\"\n",
    );
    let account = account(&bench, &bench.table());
    let zones = ["social.test.", "acme.test.", "a.test.", "b.test."];
    let changes = zones.map(|zone| [add_at(zone, &format!("_acme-challenge.{zone}"), "v")]);
    let calls = zones.iter().zip(&changes).map(|(zone, changes)| account.provider.apply(zone, changes));
    for result in futures::future::join_all(calls).await {
        result.unwrap();
    }
    assert_eq!(bench.lines().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_what_the_program_said_made_harmless() {
    let bench = bench();
    bench.script("echo 'looking for the zone'; printf 'no \\033[2Jrights\\n' >&2; exit 7\n");
    let account = account(&bench, &bench.table());
    let problem = shown(&account, &account.provider.apply(ZONE, &[add("v")]).await.unwrap_err());
    let path = bench.dir.path().join("hook");
    assert_eq!(
        problem.message,
        format!(
            "`{} present`, the command of `dns.main`, ended with 7 and said: no \\u{{1b}}[2Jrights looking for the zone",
            path.display()
        )
    );
    assert_eq!(problem.code, "dns.command-failed");

    // More than any pipe holds, and more than anybody reads.
    bench.script("head -c 1000000 /dev/zero | tr '\\0' x; exit 1\n");
    let problem = shown(&account, &account.provider.apply(ZONE, &[add("v")]).await.unwrap_err());
    assert!(problem.message.contains("xxx") && problem.message.len() < 1000);

    bench.script("kill -9 $$\n");
    let problem = shown(&account, &account.provider.apply(ZONE, &[add("v")]).await.unwrap_err());
    assert!(problem.message.contains("was killed by signal 9"), "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_end_is_killed_with_all_it_started() {
    let bench = bench();
    // The child holds a lock for as long as it lives.
    bench.script(
        "exec 9>\"$top/alive\"; flock 9\necho 'waiting for the zone'\nsleep 1000 &\necho $! >\"$top/calls\"\nwait\n",
    );
    let account = account(&bench, &format!("{}timeout = \"1s\"\n", bench.table()));
    let problem = shown(&account, &account.provider.apply(ZONE, &[add("v")]).await.unwrap_err());
    assert_eq!(problem.code, "dns.timeout");
    assert!(problem.message.ends_with("killed and said: waiting for the zone"), "{problem:?}");
    let lock = fs::File::open(bench.dir.path().join("alive")).unwrap();
    // Waits until the last of them is gone.
    tokio::time::timeout(Duration::from_secs(20), tokio::task::spawn_blocking(move || lock.lock()))
        .await
        .expect("the child that it started is dead")
        .unwrap()
        .unwrap();
    assert_eq!(bench.lines().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_goes_on_in_the_background_does_not_hold_us_up() {
    let bench = bench();
    bench.script("sleep 1000 & echo $! >\"$top/calls\"\n");
    let account = account(&bench, &format!("{}timeout = \"20s\"\n", bench.table()));
    let result = account.provider.apply(ZONE, &[add("v")]).await;
    let sleeper: i32 = bench.lines()[0].parse().unwrap();
    let _ = rustix::process::kill_process(
        rustix::process::Pid::from_raw(sleeper).unwrap(),
        rustix::process::Signal::KILL,
    );
    result.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_or_must_not_run_is_refused_with_the_remedy() {
    let bench = bench();
    let path = bench.dir.path().join("hook");
    let account = account(&bench, &bench.table());
    let refusal = async || {
        let problem = shown(&account, &account.provider.apply(ZONE, &[add("v")]).await.unwrap_err());
        assert_eq!(problem.blame, Blame::Operator);
        assert!(problem.one_line().contains("dns.main"));
        (problem.code, problem.hint.unwrap())
    };
    let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();

    mode(0o757);
    let (code, hint) = refusal().await;
    assert_eq!(code, "dns.command-unsafe");
    assert!(hint.contains(&format!("chmod o-w {}", path.display())), "{hint}");
    assert_eq!(bench.values(OWNER), strings(&[]));

    mode(0o644);
    let (code, hint) = refusal().await;
    assert_eq!(code, "dns.command");
    assert!(hint.contains(&format!("chmod +x {}", path.display())), "{hint}");

    fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    mode(0o755);
    assert!(refusal().await.1.contains("#!/bin/sh"));

    fs::remove_file(&path).unwrap();
    assert!(refusal().await.1.contains("dns.main.command"));
    fs::create_dir(&path).unwrap();
    assert!(refusal().await.1.contains("dns.main.command"));

    // Beside certs.toml, where it does not say otherwise.
    let beside = account_of("exec", "command = \"no-such-hook\"\n");
    let problem = shown(&beside, &beside.provider.apply(ZONE, &[add("v")]).await.unwrap_err());
    assert!(problem.message.contains("/etc/certfleet/no-such-hook"), "{problem:?}");
}
