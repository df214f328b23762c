//! Input that is cut short, and a power cut at every step.

use super::*;

/// What the script does its steps with.
pub(super) const TOOLS: [&str; 9] = ["awk", "chmod", "dd", "ln", "mkdir", "mv", "rm", "sync", "timeout"];

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
    pub(super) fn kill_at(&self, call: usize) {
        let _ = fs::remove_file(self.path("calls"));
        let wc = parts::find("wc").unwrap();
        for tool in TOOLS {
            let real = parts::find(tool).unwrap();
            let fake = self.path("bin").join(tool);
            let _ = fs::remove_file(&fake);
            let calls = self.path("calls");
            let text = format!(
                "echo x >>{calls}\n[ $({wc} -l <{calls}) -lt {call} ] || kill -9 0\nexec {real} \"$@\"",
                wc = wc.display(),
                calls = calls.display(),
                real = real.display(),
            );
            script(&fake, &text);
        }
    }

    pub(super) fn calls(&self) -> usize {
        fs::read_to_string(self.path("calls")).map_or(0, |text| text.lines().count())
    }

    /// A host with a past: two of ours, one of certbot's.
    fn with_a_past(shell: Shell) -> Self {
        let place = Self::new(shell);
        place.install(&[bundle("a.org", 1, "a1"), bundle("b.org", 1, "b1")]);
        install_as_certbot(place.dir.path(), "c.org", &pair_of("c-old")).unwrap();
        place
    }

    /// The same past, somewhere else.
    pub(super) fn copy_of(other: &Self, shell: Shell) -> Self {
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
    let tools: BTreeMap<_, _> =
        TOOLS.into_iter().map(|tool| (tool, fs::read_link(find_tools.join(tool)).ok())).collect();
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
