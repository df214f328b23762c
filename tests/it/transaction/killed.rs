//! Input that is cut short, and a power cut at every step.

use certfleet::model::desired::Layout;

use super::*;

/// What the script does its steps with.
pub(crate) const TOOLS: [&str; 9] = ["awk", "chmod", "dd", "ln", "mkdir", "mv", "rm", "sync", "timeout"];

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

    /// A host with a past.
    fn with_a_past(shell: Shell, work: &Work) -> Self {
        let mut place = Self::new(shell);
        place.host.layout = work.layout;
        let ours = work.names.iter().filter_map(|name| match name.before {
            Before::Ours(tag) => Some(bundle(name.name, 1, tag)),
            _ => None,
        });
        place.install(&ours.collect::<Vec<_>>());
        for name in work.names {
            if let Before::Certbots(tag) = name.before {
                install_as_certbot(place.dir.path(), name.name, &pair_of(tag)).unwrap();
            }
        }
        place
    }

    /// The same past, somewhere else.
    pub(super) fn copy_of(other: &Self, shell: Shell) -> Self {
        let mut place = Self::new(shell);
        place.host.layout = other.host.layout;
        let copied = Command::new("cp")
            .arg("-a")
            .args([other.path("live"), other.path("archive"), place.path(".")])
            .status()
            .unwrap();
        assert!(copied.success());
        // Files to include have whole paths in them.
        let [from, to] = [other, &place].map(|place| fs::canonicalize(place.path("live")).unwrap());
        for entry in fs::read_dir(&to).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "conf") {
                let text = fs::read_to_string(&path).unwrap();
                fs::write(&path, text.replace(from.to_str().unwrap(), to.to_str().unwrap())).unwrap();
            }
        }
        place
    }

    /// What `live/NAME.conf` leads to, if it is there: the tag of its key and its chain.
    fn included(&self, name: &str) -> Option<String> {
        if !self.path("live").join(format!("{name}.conf")).exists() {
            return None;
        }
        let version = self.path("live/.certfleet").join(name).join(self.named(name));
        let read = |file: &str| tag(&fs::read_to_string(version.join(file)).unwrap());
        assert_eq!(read("privkey.pem"), read("fullchain.pem"), "{name}.conf");
        Some(read("privkey.pem"))
    }
}

/// What is done to a host with a past.
struct Work {
    layout: Layout,
    names: &'static [Name],
}

/// One certificate: what is there, what is sent, and what is there in the end.
struct Name {
    name: &'static str,
    before: Before,
    sent: &'static str,
    end: &'static str,
}

#[derive(Clone, Copy)]
enum Before {
    Ours(&'static str),
    Certbots(&'static str),
    Nothing,
}

const fn name(name: &'static str, before: Before, sent: &'static str, end: &'static str) -> Name {
    Name { name, before, sent, end }
}

/// One of each kind, and one that makes all be switched back and tried alone.
const MIXED: &[Name] = &[
    name("a.org", Before::Ours("a1"), "a2", "a2"),
    name("b.org", Before::Ours("b1"), "bad", "b1"),
    name("c.org", Before::Certbots("c-old"), "c1", "c1"),
    name("d.org", Before::Nothing, "d1", "d1"),
];

/// Several that go together, some of them with versions that are called the same.
const SEVERAL: &[Name] = &[
    name("a.org", Before::Ours("a1"), "a2", "a2"),
    name("e.org", Before::Ours("same1"), "same2", "same2"),
    name("f.org", Before::Ours("same1"), "same2", "same2"),
    name("g.org", Before::Ours("same1"), "g2", "g2"),
    name("h.org", Before::Ours("h1"), "same2", "same2"),
    name("i.org", Before::Certbots("i-old"), "i1", "i1"),
];

impl Name {
    fn version(&self) -> u32 {
        if matches!(self.before, Before::Ours(_)) { 2 } else { 1 }
    }
}

impl Before {
    fn tag(self) -> Option<&'static str> {
        match self {
            Self::Ours(tag) | Self::Certbots(tag) => Some(tag),
            Self::Nothing => None,
        }
    }
}

impl Work {
    fn batch(&self) -> Vec<Bundle> {
        self.names.iter().map(|name| bundle(name.name, name.version(), name.sent)).collect()
    }

    /// What a visitor of a restarted machine would see: names that worked work, with one of the two pairs.
    fn assert_startable(&self, place: &Place, call: usize) {
        for Name { name, before, sent, .. } in self.names {
            let was = before.tag();
            let may = |tag: &str| tag == *sent || Some(tag) == was;
            match place.pair(name) {
                Some(pair) => assert!(may(&pair), "call {call}: {name} is {pair}"),
                None => assert!(was.is_none(), "call {call}: {name} is gone"),
            }
            match place.included(name) {
                Some(pair) => assert!(may(&pair), "call {call}: {name}.conf is {pair}"),
                None => assert!(
                    self.layout != Layout::Include || !matches!(before, Before::Ours(_)),
                    "call {call}: {name}.conf is gone"
                ),
            }
        }
    }
}

/// Kills at one call, looks, runs again, looks again.
fn killed_at(past: &Place, work: &Work, shell: Shell, call: usize) -> bool {
    let place = Place::copy_of(past, shell);
    let find_tools = place.path("bin");
    let tools: BTreeMap<_, _> =
        TOOLS.into_iter().map(|tool| (tool, fs::read_link(find_tools.join(tool)).ok())).collect();
    place.kill_at(call);
    let conversation = Conversation::install(&place.host, &work.batch()).unwrap();
    place.run(conversation);
    let reached = place.calls() >= call;
    let under_way = place.path("live/.certfleet/.switch").exists();
    work.assert_startable(&place, call);
    place.assert_private();
    for (tool, link) in tools {
        fs::remove_file(find_tools.join(tool)).unwrap();
        if let Some(link) = link {
            symlink(link, find_tools.join(tool)).unwrap();
        }
    }
    // The next run comes to the same end as one that nobody disturbed.
    let answer = place.install(&work.batch());
    assert!(answer.reloaded());
    for (name, outcome) in work.names.iter().zip(&answer.outcomes) {
        place.assert_ours(name.name, name.end);
        assert_eq!(place.loaded(name.name).as_deref(), Some(name.end), "call {call}");
        if work.layout == Layout::Include {
            assert_eq!(place.included(name.name).as_deref(), Some(name.end), "call {call}");
        }
        match (name.before, outcome) {
            _ if name.end != name.sent => {
                assert!(matches!(outcome, Outcome::RolledBack { .. }), "call {call}: {answer:?}");
            }
            // Nobody has looked yet whether the interrupted one is served: it can still be put back.
            (Before::Ours(tag), Outcome::Switched { previous, .. }) => {
                assert_eq!(*previous, dir_name(1, tag), "call {call}");
            }
            (Before::Ours(_), other) => {
                let done = !under_way && matches!(other, Outcome::Unchanged { .. });
                assert!(done, "call {call}: {}: {other:?}", name.name);
            }
            _ => {}
        }
    }
    for leftover in [".work", ".switch"] {
        assert!(!place.path("live/.certfleet").join(leftover).exists(), "call {call}: {leftover}");
    }
    reached
}

/// Kills at every `stride`-th step from `from` on.
fn sweep(work: &Work, shell: Shell, from: usize, stride: usize) {
    let past = Place::with_a_past(shell, work);
    let next = AtomicUsize::new(from);
    let last = AtomicUsize::new(0);
    let killed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let call = next.fetch_add(stride, Ordering::Relaxed);
                    if !killed_at(&past, work, shell, call) {
                        break;
                    }
                    last.fetch_max(call, Ordering::Relaxed);
                    killed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (last, killed) = (last.into_inner(), killed.into_inner());
    println!(
        "{:?}, {} certificates, {shell:?}: killed {killed} times, the last at step {last}",
        work.layout,
        work.names.len()
    );
    assert!(last > 45, "{shell:?}: only {last} steps, is the trick still working?");
}

#[test]
fn what_a_cut_run_put_in_place_is_what_a_later_one_goes_back_to() {
    const ONE: &[Name] = &[name("a.org", Before::Ours("a1"), "a2", "a2")];
    let work = Work { layout: Layout::Directory, names: ONE };
    let past = Place::with_a_past(Shell::Dash, &work);
    // At the first step after the switch.
    let cut = (1..).find_map(|call| {
        let place = Place::copy_of(&past, Shell::Dash);
        place.kill_at(call);
        place.run(Conversation::install(&place.host, &work.batch()).unwrap());
        assert!(place.calls() >= call, "nothing was switched in {call} steps");
        (place.pair("a.org").as_deref() == Some("a2")).then_some(place)
    });
    let place = cut.unwrap();
    assert!(place.path("live/.certfleet/.switch").exists());
    for tool in TOOLS {
        fs::remove_file(place.path("bin").join(tool)).unwrap();
    }
    // Nobody came for as long as the second was good, because it was served.
    let answer = place.install(&[bundle("a.org", 3, "bad")]);
    assert!(matches!(answer.outcomes[..], [Outcome::RolledBack { .. }]), "{answer:?}");
    place.assert_ours("a.org", "a2");
    let answer = place.install(&[bundle("a.org", 4, "a4")]);
    let [Outcome::Switched { previous, .. }] = &answer.outcomes[..] else { panic!("{answer:?}") };
    assert_eq!(*previous, dir_name(2, "a2"));
}

#[test]
fn killed_at_any_step_the_web_server_starts_and_the_next_run_ends_it() {
    // Every step in one shell, every few in the others: the steps are the same.
    let work = Work { layout: Layout::Directory, names: MIXED };
    for (shell, from, stride) in [(Shell::Dash, 1, 1), (Shell::Bash, 3, 13), (Shell::Busybox, 8, 13)] {
        sweep(&work, shell, from, stride);
    }
}

#[test]
fn killed_at_a_step_of_the_other_layout_or_of_a_batch_it_is_the_same() {
    for (layout, names, from, stride) in
        [(Layout::Include, MIXED, 2, 3), (Layout::Directory, SEVERAL, 1, 4), (Layout::Include, SEVERAL, 3, 4)]
    {
        sweep(&Work { layout, names }, Shell::Dash, from, stride);
    }
}
