//! Every fault that a host can have, on real servers, with one check after each.
//!
//! A world has a host for each fault. All of them serve a first version; then each is broken in its own way, a
//! second version is issued, and one pass brings it to those that can take it. What it says of the others is one
//! line of a table that is printed. After that the fault is over, web servers are restarted, and the next pass has
//! to make all good, and leave nothing behind.

mod answers;
pub(crate) mod check;
mod folders;
mod full;
mod killed;
mod nginx;
mod place;
mod session;
mod ssh;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use self::check::Others;
use self::place::{Mend, Place};
use crate::tool::{Ran, certfleet};
use crate::trouble;
use crate::world::World;
use crate::world::host::Host;
use crate::world::look::Served;

/// The name that is ours.
const NAME: &str = "media.social.test";
/// One on the same hosts that is certbot's.
const OTHER: &str = "other.social.test";
const OURS: [&str; 1] = [NAME];

/// A fault: how it comes about, what is said, what visitors get.
struct Case {
    /// What its host is called.
    host: &'static str,
    /// What is done to it, for people.
    what: &'static str,
    /// Breaks it; what comes back is how it ends.
    fault: Fault,
    ends: Ends,
    /// Words of the message and its remedy.
    says: &'static [&'static str],
    sound: Sound,
}

/// How a host is broken.
type Fault = for<'a> fn(&'a Place<'a>) -> Mend<'a>;

impl Case {
    /// One that leaves the web server serving, and the host able to start it.
    const fn new(
        host: &'static str,
        what: &'static str,
        fault: Fault,
        ends: Ends,
        says: &'static [&'static str],
    ) -> Self {
        Self { host, what, fault, ends, says, sound: Sound::All }
    }

    /// One that is none: the new version is served, and nothing is said.
    const fn served(host: &'static str, what: &'static str, fault: Fault) -> Self {
        Self::new(host, what, fault, Ends::Served, &[])
    }

    /// The same, leaving less.
    const fn leaves(self, sound: Sound) -> Self {
        Self { sound, ..self }
    }
}

/// How the pass ends for the host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// The new version is served: it is no fault at all.
    Served,
    /// The old one goes on, with this problem.
    Old(&'static str),
    /// The new one is in place, with this problem.
    New(&'static str),
    /// It was cut off: either is served, with this problem where that is still to be found out.
    Cut(&'static str),
}

/// What the fault itself leaves sound.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sound {
    /// Everything: the web server serves, and can be started.
    All,
    /// The web server is down, or somebody else answers in its place; it can be started.
    Startable,
    /// The host is broken by itself: nothing can be asked of it until it is mended.
    Nothing,
}

/// A pass over broken hosts.
struct Pass {
    /// What they served before.
    old: Served,
    /// What visitors got meanwhile on each host, one after the other.
    seen: BTreeMap<String, Vec<&'static str>>,
    ran: Ran,
    report: Value,
}

/// Tries all of them, and prints what became of each.
fn tried(cases: &[Case]) {
    let names: Vec<&str> = cases.iter().map(|case| case.host).collect();
    let world = World::builder().hosts(&names).site(&[NAME]).site(&[OTHER]).start().unwrap();
    let config =
        world.config(&format!("[[certificate]]\ndomains = [\"{NAME}\"]\nhosts = [\"cdn\"]\n")).unwrap();
    certfleet(&config, &["renew"]).ended(0);
    let old = world.hosts[0].served(NAME).unwrap();
    assert!(world.hosts.iter().all(|host| host.served(NAME).unwrap() == old));

    let places: Vec<Place<'_>> = world.hosts.iter().map(|host| Place { host, config: &config }).collect();
    let mends: Vec<Mend<'_>> = cases.iter().zip(&places).map(|(case, place)| (case.fault)(place)).collect();
    let before: Vec<Others> = world.hosts.iter().map(|host| Others::of(host, &OURS)).collect();
    let pass = Pass::over(&world, &config, old);
    let failed = cases.iter().any(|case| matches!(case.ends, Ends::Old(_) | Ends::Cut(_)));
    assert_eq!(pass.ran.code, i32::from(failed), "{:?}", pass.ran);
    let mut wrong = Vec::new();
    for ((case, host), others) in cases.iter().zip(&world.hosts).zip(&before) {
        wrong.extend(pass.wrong_with(case, host));
        if case.sound != Sound::Nothing {
            check::assert_startable(host, &OURS, case.what);
        }
        others.assert_untouched(host, &OURS, case.what);
    }
    assert!(wrong.is_empty(), "{}\n{}\n{}", wrong.join("\n"), pass.ran.out, pass.ran.err);

    mends.into_iter().for_each(|mend| mend());
    let mended: Vec<Others> = world.hosts.iter().map(|host| Others::of(host, &OURS)).collect();
    for (case, host) in cases.iter().zip(&world.hosts) {
        check::assert_startable(host, &OURS, case.what);
        check::assert_private(host, case.what);
        host.stop_nginx();
        host.start_nginx().unwrap_or_else(|error| panic!("{}: {error}", case.what));
        // Workers of before may take a moment to die.
        trouble::settles(host, case.what, |served| {
            served.names == [NAME] && case.ends.may_be(*served == pass.old)
        });
    }
    certfleet(&config, &["renew"]).ended(0);
    assert_eq!(world.pebble.issued(), 2);
    let new = newest(&world);
    for ((case, host), others) in cases.iter().zip(&world.hosts).zip(&mended) {
        trouble::settles(host, case.what, |served| served.leaf() == new);
        check::assert_startable(host, &OURS, case.what);
        check::assert_private(host, case.what);
        check::assert_settled(host, case.what);
        others.assert_untouched(host, &OURS, case.what);
        println!("{}", pass.line(case, host));
    }
}

impl Pass {
    /// Brings a new version, and looks at what visitors get meanwhile.
    fn over(world: &World, config: &Path, old: Served) -> Self {
        let (done, seen) = (AtomicBool::new(false), Mutex::new(BTreeMap::new()));
        let ran = thread::scope(|scope| {
            scope.spawn(|| {
                let mut new = None;
                loop {
                    // Once more when it is over.
                    let last = done.load(Ordering::Relaxed);
                    for host in &world.hosts {
                        let word = word(host, &old, &mut new);
                        let mut seen = seen.lock().unwrap();
                        let words: &mut Vec<_> = seen.entry(host.name.clone()).or_default();
                        if words.last() != Some(&word) {
                            words.push(word);
                        }
                    }
                    if last {
                        break;
                    }
                    thread::sleep(Duration::from_millis(400));
                }
            });
            let ran = certfleet(config, &["renew", "--force", NAME]);
            done.store(true, Ordering::Relaxed);
            ran
        });
        let report = certfleet(config, &["report", "--json"]).json();
        Self { old, seen: seen.into_inner().unwrap(), ran, report }
    }

    /// What is not as it should be on one host.
    fn wrong_with(&self, case: &Case, host: &Host) -> Vec<String> {
        let code = self.problem(host, "code");
        let (all, got) = (self.said(host), self.seen[&host.name].join(", "));
        let mut wrong = Vec::new();
        let mut must = |is_so: bool, why: &str| {
            if !is_so {
                wrong.push(format!(
                    "{} ({}): {why}\n{code}: {all}\nvisitors got: {got}",
                    case.what, case.host
                ));
            }
        };
        // What turned out to be served by itself is no problem any more.
        let solved = matches!(case.ends, Ends::Cut(_)) && code.is_empty();
        must(code == case.ends.code() || solved, &format!("not {:?}", case.ends.code()));
        for words in case.says {
            must(all.contains(words), &format!("{words:?} is not said"));
        }
        must(code.is_empty() || !self.problem(host, "hint").is_empty(), "no remedy is told");
        must(!all.contains('\u{1b}'), "control characters are shown");
        if case.sound == Sound::All {
            let expected = self.seen[&host.name].iter().all(|word| ["old", "new"].contains(word));
            must(expected, "visitors got something else");
            let served = host.served(NAME);
            let is_old = served.as_ref().is_ok_and(|served| *served == self.old);
            must(served.is_ok() && case.ends.may_be(is_old), "something else is served in the end");
        }
        wrong
    }

    /// What the report has of a host's problem.
    fn problem(&self, host: &Host, key: &str) -> String {
        let hosts = self.report["certificates"][0]["hosts"].as_array().unwrap();
        let entry = hosts.iter().find(|entry| entry["host"] == *host.name).unwrap();
        entry["problem"][key].as_str().unwrap_or_default().to_owned()
    }

    /// All that is said of it, by the report and by the pass.
    fn said(&self, host: &Host) -> String {
        let mut said = format!("{}\n{}\n", self.problem(host, "message"), self.problem(host, "hint"));
        let mut its = false;
        for line in self.ran.out.lines() {
            its = line.contains(&format!(" on {}: ", host.name)) || its && line.starts_with("    ");
            if its {
                said.push_str(line);
                said.push('\n');
            }
        }
        said
    }

    /// The line of the table.
    fn line(&self, case: &Case, host: &Host) -> String {
        let said = match case.ends {
            Ends::Served => "nothing".to_owned(),
            Ends::Cut(_) if self.problem(host, "code").is_empty() => {
                "nothing: it was served by then".to_owned()
            }
            _ => format!("`{}`: {}", case.ends.code(), shortened(&self.problem(host, "message"), host)),
        };
        let ended = match case.ends {
            Ends::Served => "served",
            Ends::Cut(_) => "made good by the next pass",
            Ends::Old(_) => "old one kept, made good by the next pass",
            Ends::New(_) => "new one in place, good when it runs",
        };
        format!("| {} | {said} | {} | {ended} |", case.what, self.seen[&host.name].join(", "))
    }
}

impl Ends {
    fn code(self) -> &'static str {
        match self {
            Self::Served => "",
            Self::Old(code) | Self::New(code) | Self::Cut(code) => code,
        }
    }

    /// Whether the old one may be what is served, or what is not the old one.
    fn may_be(self, old: bool) -> bool {
        match self {
            Self::Served | Self::New(_) => !old,
            Self::Old(_) => old,
            Self::Cut(_) => true,
        }
    }
}

/// What a visitor gets. The first that is not the old one is the new one: it has but one successor.
fn word(host: &Host, old: &Served, new: &mut Option<Vec<u8>>) -> &'static str {
    match host.served(NAME) {
        Err(_) => "nothing",
        Ok(served) if served == *old => "old",
        Ok(served) if served.names != [NAME] => "another name",
        Ok(served) if new.get_or_insert_with(|| served.leaf().to_vec()) == served.leaf() => "new",
        Ok(_) => "a third",
    }
}

/// The message without the paths of this run.
fn shortened(message: &str, host: &Host) -> String {
    let root = host.root.display().to_string();
    message.replace(&root, "…").replace('|', "/").chars().take(230).collect()
}

/// The newest version of the name in the store, in DER.
fn newest(world: &World) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let versions = world.store().join("certificates").join(NAME).join("versions");
    let newest = (1..).take_while(|number| versions.join(number.to_string()).exists()).last().unwrap();
    let file = versions.join(newest.to_string()).join("cert.pem");
    CertificateDer::from_pem_file(&file).unwrap().to_vec()
}
