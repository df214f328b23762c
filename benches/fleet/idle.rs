//! The daemon at rest.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::{Failed, Line, command, still};

/// `run` over so many certificates without hosts, after its first pass: seconds until then, and its memory.
pub(crate) fn line(count: usize) -> Result<Line, Failed> {
    let (_world, config) = still::prepare(count)?;
    let began = Instant::now();
    let mut child = command(&config, &["run"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let errors = BufReader::new(child.stderr.take().ok_or("no standard error")?);
    let passed = errors.lines().map_while(Result::ok).any(|line| line.starts_with("pass of "));
    let seconds = began.elapsed().as_secs_f64();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let id = Pid::from_raw(i32::try_from(child.id())?).ok_or("no process")?;
    kill_process(id, Signal::TERM)?;
    let ended = child.wait()?;
    if !passed || !ended.success() {
        return Err(format!("the daemon ended with {ended}").into());
    }
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    };
    let note = format!(
        "at rest {:.1} MB, of which {:.1} are its own and the rest the program's file",
        field("VmRSS:"),
        field("RssAnon:")
    );
    Ok(Line { ours: seconds, others: Vec::new(), note })
}
