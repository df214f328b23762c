//! The daemon when there is nothing to do.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::still::memory;
use super::world::World;
use super::{Failed, Line, certfleet, command};

/// The first pass with nothing due over four hosts and ten certificates, and what memory is left in use.
pub(crate) fn line() -> Result<Line, Failed> {
    let sites: Vec<String> = (0..10).map(|number| format!("n{number}.social.test")).collect();
    let mut builder = World::builder().hosts(&["frankfurt", "fremont", "sally", "esme"]);
    for site in &sites {
        builder = builder.site(&[site]);
    }
    let world = builder.start()?;
    let mut tables = String::new();
    for site in &sites {
        write!(tables, "[[certificate]]\ndomains = [\"{site}\"]\nhosts = [\"cdn\"]\n")?;
    }
    let config = world.config(&tables)?;
    certfleet(&config, &["run", "--once"])?;

    let log = world.dir.path().join("daemon.log");
    let began = Instant::now();
    let mut daemon = command(&config, &["run"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .spawn()?;
    let measured = measure(&mut daemon, &log, began);
    if let Some(pid) = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::TERM)?;
    }
    daemon.wait()?;
    measured
}

fn measure(daemon: &mut Child, log: &Path, began: Instant) -> Result<Line, Failed> {
    let said = || fs::read_to_string(log).unwrap_or_default();
    while !said().contains("\npass of ") {
        if daemon.try_wait()?.is_some() || began.elapsed() > PATIENCE {
            return Err(format!("the daemon made no pass:\n{}", said()).into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    let ours = began.elapsed().as_secs_f64();
    thread::sleep(IDLE);
    let (now, peak) = (memory(daemon.id(), "VmRSS:"), memory(daemon.id(), "VmHWM:"));
    let megabytes = |kilobytes: u64| kilobytes as f64 / 1024.0;
    let note = format!(
        "to the end of the first pass; memory {IDLE:?} later {:.1} MB, its peak {:.1} MB",
        megabytes(now),
        megabytes(peak)
    );
    Ok(Line { ours, others: Vec::new(), note })
}

const IDLE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
