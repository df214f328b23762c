//! `certfleet run`: the built binary beside a test that plays service manager, monitoring and a person with an
//! editor.

mod asked;
mod clock;
mod ending;
mod journal;
mod reload;
mod service;
mod together;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::tool::{Ran, command, finish};
use crate::world::World;

const NAME: &str = "media.social.test";
/// A certificate for it that is on no host.
const STORED: &str = "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = []\n";
/// A certificate for it on every host.
const DEPLOYED: &str = "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"cdn\"]\n";

/// A daemon, with what it has said to its service manager and to its log.
struct Daemon {
    child: Option<Child>,
    log: Arc<Mutex<String>>,
    /// Ends with the last word.
    hearing: Option<JoinHandle<()>>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    /// Starts one as systemd would.
    fn start(folder: &Path, config: &Path) -> Self {
        Self::start_with(folder, config, &[])
    }

    /// The same with more environment.
    fn start_with(folder: &Path, config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = command(config, &["run"]);
        command.envs(environment.iter().copied());
        Self::spawn(folder, command)
    }

    /// The same by a command that becomes a daemon.
    fn spawn(folder: &Path, mut command: Command) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let socket = folder.join(format!("notify-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let (manager, heard) = (UnixDatagram::bind(&socket).unwrap(), Arc::downgrade(&told));
        manager.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Some(told) = heard.upgrade() {
                if let Ok(length) = manager.recv(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]);
                    told.lock().unwrap().extend(text.lines().map(str::to_owned));
                }
            }
        });
        let (errors, theirs) = std::io::pipe().unwrap();
        let stream = rustix::fs::fstat(&theirs).unwrap();
        // As it is with systemd; that there is a journal behind it is for the test to see to.
        command.env("JOURNAL_STREAM", format!("{}:{}", stream.st_dev, stream.st_ino));
        command.env("NOTIFY_SOCKET", &socket).stderr(theirs);
        let child = command.spawn().unwrap();
        // The command has the other end, too.
        drop(command);
        let log: Arc<Mutex<String>> = Arc::default();
        let written = Arc::clone(&log);
        let hearing = thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child: Some(child), log, hearing: Some(hearing), told }
    }

    /// A daemon of this world that has done its first pass.
    fn of(world: &World, config: &Path) -> Self {
        let daemon = Self::start(world.dir.path(), config);
        daemon.passes(1);
        daemon
    }

    /// All that it has written to its log.
    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log has a text.
    fn says(&self, text: &str) {
        self.eventually(&format!("it says {text:?}"), || self.log().contains(text));
    }

    /// Waits for the end of its n-th pass.
    fn passes(&self, number: usize) {
        self.eventually(&format!("{number} passes"), || self.log().matches("\npass of ").count() >= number);
    }

    /// What the service manager was told, in lines.
    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until the service manager has been told a line so many times.
    fn tells(&self, line: &str, times: usize) {
        let count = || self.told().iter().filter(|told| *told == line).count();
        self.eventually(&format!("{line} {times} times"), || count() >= times);
    }

    /// The last status.
    fn status(&self) -> String {
        let told = self.told();
        let status = told.iter().rev().find_map(|line| line.strip_prefix("STATUS="));
        status.unwrap_or_default().to_owned()
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap(), signal).unwrap();
    }

    /// Ends it and waits for that.
    fn end(mut self) -> Ran {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits for its end.
    fn ended(&mut self) -> Ran {
        let ran = finish(self.child.take().unwrap());
        self.hearing.take().unwrap().join().unwrap();
        Ran { err: self.log(), ..ran }
    }

    fn eventually(&self, what: &str, done: impl Fn() -> bool) {
        let begin = Instant::now();
        while !done() {
            let (log, told) = (self.log(), self.told());
            assert!(begin.elapsed().as_secs() < 90, "in vain: {what}\n--- log\n{log}\n--- told\n{told:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Changes a file of the test, as a person would in an editor; its mode stays.
fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from:?} is not in {}:\n{text}", file.display());
    fs::write(file, text.replacen(from, to, 1)).unwrap();
}

/// The records that the journal still has to remove.
fn noted_records(world: &World) -> usize {
    fs::read_dir(world.store().join("txt")).unwrap().count()
}
