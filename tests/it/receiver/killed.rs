//! Killed at one step after the other, through real SSH, on both ways in: the shell on the host, and the controller.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;
use crate::tool::{command, finish};
use crate::world::parts;
use crate::world::process::{read_lossy, run};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// What the script does its steps with.
const TOOLS: [&str; 9] = ["awk", "chmod", "dd", "ln", "mkdir", "mv", "rm", "sync", "timeout"];
/// Moments that are tried for each victim.
const MOMENTS: usize = 5;

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Shell,
    Controller,
}

/// A host that is brought its certificates by the streamed script or by the installed one; what its sessions
/// call is counted.
struct Target<'a> {
    host: &'a Host,
    trap: PathBuf,
}

impl<'a> Target<'a> {
    fn of(host: &'a Host) -> Self {
        let trap = host.root.join("trap");
        fs::create_dir(&trap).unwrap();
        let real = |name: &str| parts::find(name).unwrap_or_else(|| panic!("no {name} here: install it"));
        for tool in TOOLS {
            let program = host.root.join("bin").join(tool);
            let text = format!(
                "#!/bin/sh\n\
                 echo \"{tool} $*\" >>{trap}/calls\n\
                 if [ -f {trap}/at ] && [ $(wc -l <{trap}/calls) -ge $(cat {trap}/at) ] && {mkdir} {trap}/sprung 2>/dev/null\n\
                 then case $(cat {trap}/victim) in\n\
                 Shell) kill -9 0 ;;\n\
                 Controller) while [ -f {trap}/at ] && [ ! -s {trap}/pid ]; do sleep 0.05; done\n\
                 pid=$(cat {trap}/pid)\n\
                 ! grep -q certfleet /proc/$pid/cmdline || kill -9 $pid ;;\n\
                 esac; fi 2>/dev/null\n\
                 exec {real} \"$@\"\n",
                trap = trap.display(),
                mkdir = real("mkdir").display(),
                real = real(tool).display(),
            );
            fs::write(&program, text).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { host, trap }
    }

    fn calls(&self) -> Vec<String> {
        read_lossy(&self.trap.join("calls")).lines().map(str::to_owned).collect()
    }

    fn reset(&self) {
        // Who is waiting for the process to kill sees from the first that there is none any more.
        for file in ["at", "calls", "victim", "pid"] {
            let _ = fs::remove_file(self.trap.join(file));
        }
        let _ = fs::remove_dir(self.trap.join("sprung"));
    }

    fn set(&self, at: usize, victim: Victim) {
        self.reset();
        fs::write(self.trap.join("victim"), format!("{victim:?}")).unwrap();
        fs::write(self.trap.join("at"), at.to_string()).unwrap();
    }

    /// That its web server would start with what is there now, and the keys are nobody else's.
    fn assert_sound(&self, what: &str) {
        // It may be at work alone: between a chain and its key there may be a switch, but not three times.
        let test = || run(Command::new(self.host.root.join("bin/nginx")).arg("-t"));
        let started = test().or_else(|_| test()).or_else(|_| test());
        started
            .unwrap_or_else(|error| panic!("{what}: nginx on {} would not start: {error}", self.host.name));
        for (path, facts) in listing(&self.host.live.join(".certfleet"), &[]) {
            let secret = path.extension().is_some_and(|end| end == "pem");
            assert!(
                !secret || facts.starts_with("100600 ") || facts.starts_with("120"),
                "{what}: {path:?}: {facts}"
            );
        }
    }

    /// Waits until nobody is at work on it.
    fn rests(&self, what: &str) {
        let lock = self.host.live.join(".certfleet/.lock");
        let held = || !Command::new("flock").arg("-n").arg(&lock).arg("true").status().unwrap().success();
        let deadline = Instant::now() + Duration::from_secs(60);
        while held() {
            assert!(Instant::now() < deadline, "{what}: {} does not come to an end", self.host.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it serves this leaf.
    fn comes_to_serve(&self, leaf: &[u8], what: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.host.served(NAME).unwrap().leaf() != leaf {
            assert!(Instant::now() < deadline, "{what}: {} serves another one", self.host.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The leaf of the newest stored version.
fn newest(world: &World) -> Vec<u8> {
    let versions = world.store().join("certificates").join(NAME).join("versions");
    let numbers = fs::read_dir(&versions).unwrap();
    let numbers = numbers.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    let leaf = versions.join(numbers.max().unwrap().to_string()).join("cert.pem");
    CertificateDer::from_pem_slice(&fs::read(leaf).unwrap()).unwrap().to_vec()
}

#[test]
fn whoever_is_killed_at_any_step_the_host_starts_and_the_next_run_ends_it() {
    let world = World::builder().hosts(&["edge", "streamed"]).site(&[NAME]).start().unwrap();
    let both = CERTIFICATE.replace("[\"edge\"]", "[\"edge\", \"streamed\"]");
    let config = world.config(&both).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[host.edge]\n", "[host.edge]\nreceiver = true\n")).unwrap();
    install(&world, &config);
    certfleet(&config, &["renew"]).ended(0);
    let targets = ["edge", "streamed"].map(|name| Target::of(world.host(name)));
    certfleet(&config, &["renew", "--force"]).ended(0);
    let whole = targets.each_ref().map(Target::calls);
    let switch = |calls: &Vec<String>| {
        let is_it = |call: &String| {
            call.starts_with("mv ") && call.contains(".work/to/") && call.ends_with("/current")
        };
        calls.iter().position(is_it).expect("there is a switch") + 1
    };

    let mut codes: BTreeMap<(String, i32), usize> = BTreeMap::new();
    let mut strike = |moments: [usize; 2], victim: Victim| {
        for (target, at) in targets.iter().zip(moments) {
            target.set(at, victim);
        }
        let child = command(&config, &["renew", "--force"]).spawn().unwrap();
        for target in &targets {
            fs::write(target.trap.join("pid"), child.id().to_string()).unwrap();
        }
        let ran = finish(child);
        let what = format!("{victim:?} killed at {moments:?}, {}", ran.code);
        assert!([-1, 0, 1].contains(&ran.code), "{what}: {}", ran.err);
        *codes.entry((format!("{victim:?}"), ran.code)).or_default() += 1;
        targets.iter().for_each(|target| target.assert_sound(&what));
        what
    };
    let converges = |what: &str| {
        targets.iter().for_each(Target::reset);
        let ran = certfleet(&config, &["renew"]);
        assert_eq!(ran.code, 0, "{what}: {}\n{}", ran.out, ran.err);
        for target in &targets {
            // A host that came to its end alone may still be at it, and nginx hand over to new workers.
            target.rests(what);
            target.assert_sound(what);
            target.comes_to_serve(&newest(&world), what);
            for leftover in [".work", ".switch"] {
                assert!(!target.host.live.join(".certfleet").join(leftover).exists(), "{what}: {leftover}");
            }
        }
    };
    for moment in 1..=MOMENTS {
        for victim in [Victim::Shell, Victim::Controller] {
            // Not the same moments for both.
            let part = 2 * moment - usize::from(victim == Victim::Shell);
            let what =
                strike(whole.each_ref().map(|calls| 1 + part * calls.len() / (2 * MOMENTS + 1)), victim);
            converges(&what);
        }
    }

    // Once it has switched, a host needs nobody to come to the end.
    let what = strike(whole.each_ref().map(|calls| switch(calls) + 1), Victim::Controller);
    let alone: Vec<&Target<'_>> =
        targets.iter().filter(|target| target.trap.join("sprung").exists()).collect();
    assert!(!alone.is_empty(), "{what}: nobody came so far");
    for target in alone {
        target.rests(&what);
        target.comes_to_serve(&newest(&world), &what);
        assert!(!target.host.live.join(".certfleet/.switch").exists(), "{what}");
    }
    converges(&what);
    println!("steps: {:?}; exit codes: {codes:?}", whole.each_ref().map(Vec::len));
    assert!(
        codes.keys().any(|(_, code)| *code == -1) && codes.keys().any(|(_, code)| *code == 1),
        "{codes:?}"
    );
}
