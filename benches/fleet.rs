//! How long things take, on the world of the tests; beside what people use today, in the same run.
//!
//! `cargo bench` prints a table, seconds being medians of three. Nothing here asserts a time: machines differ, so
//! look at the ratios. What fails is said in its line, and the others go on. A part of a line's name as argument runs
//! only the lines that have it: `cargo bench -- "issue 10"`.

#[path = "../tests/world/mod.rs"]
mod world;

#[path = "fleet/delay.rs"]
mod delay;
#[path = "fleet/deploy.rs"]
mod deploy;
#[path = "fleet/idle.rs"]
mod idle;
#[path = "fleet/issue.rs"]
mod issue;
#[path = "fleet/still.rs"]
mod still;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

type Failed = Box<dyn Error>;

/// What one line of the table says.
struct Line {
    /// Our own median, in seconds.
    ours: f64,
    /// What it is measured against; what is not there says why.
    others: Vec<(String, Result<f64, Failed>)>,
    /// What else there is to say.
    note: String,
}

/// The table so far.
struct Table {
    wanted: Vec<String>,
    failed: bool,
}

fn main() -> ExitCode {
    let wanted = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let mut table = Table { wanted, failed: false };
    println!("{:<42} {:>8} {:>6}  ", "", "seconds", "ratio");
    for count in [1, 10, 100] {
        table.line(&format!("issue {count}"), || issue::line(count, None));
        // A round trip of 50 ms.
        table.line(&format!("issue {count}, 50 ms away"), || {
            issue::line(count, Some(Duration::from_millis(25)))
        });
    }
    for (count, hosts) in [(1, 4), (100, 4), (1, 40), (100, 40)] {
        table.line(&format!("deploy {count} to {hosts} hosts"), || deploy::line(count, hosts));
    }
    for count in [100, 1_000, 10_000] {
        table.line(&format!("nothing due, {count} certificates"), || still::line(count));
    }
    table.line("idle daemon, 10 certificates, 4 hosts", idle::line);
    if table.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl Table {
    fn line(&mut self, name: &str, measure: impl FnOnce() -> Result<Line, Failed>) {
        if !self.wanted.is_empty() && !self.wanted.iter().any(|part| name.contains(part.as_str())) {
            return;
        }
        let line = match measure() {
            Ok(line) => line,
            Err(error) => {
                self.failed = true;
                return println!("{name:<42}   failed: {error}");
            }
        };
        println!("{name:<42} {:>8.3} {:>6}  {}", line.ours, "", line.note);
        for (other, seconds) in line.others {
            let other = format!("  {other}");
            match seconds {
                Ok(seconds) => println!("{other:<42} {seconds:>8.3} {:>6.2}", line.ours / seconds),
                Err(error) => {
                    self.failed = true;
                    println!("{other:<42}   failed: {error}");
                }
            }
        }
    }
}

/// The middle of three.
fn median(mut run: impl FnMut() -> Result<f64, Failed>) -> Result<f64, Failed> {
    let mut times = [run()?, run()?, run()?];
    times.sort_by(f64::total_cmp);
    Ok(times[1])
}

/// Runs certfleet to its end, which has to be a good one.
fn certfleet(config: &Path, args: &[&str]) -> Result<Duration, Failed> {
    timed(&mut command(config, args))
}

fn command(config: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certfleet"));
    command.arg("--config").arg(config).args(args);
    command
}

/// Runs any program to its end, which has to be a good one.
fn timed(command: &mut Command) -> Result<Duration, Failed> {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(began.elapsed());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{command:?} ended with {}\n{}", output.status, String::from_utf8_lossy(&said)).into())
}

/// Seconds of processor time that a process has used, threads included.
fn processor(id: u32) -> f64 {
    cpu(&format!("/proc/{id}/stat"), 11)
}

/// The same of all children of ours that have ended.
fn processor_of_ended() -> f64 {
    cpu("/proc/self/stat", 13)
}

/// The sum of two fields of a stat file, counted from the state on (proc(5)), in seconds.
fn cpu(path: &str, field: usize) -> f64 {
    let stat = fs::read_to_string(path).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(field).take(2).filter_map(|it| it.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS
}

/// Of a second: the kernel shows no other to programs.
const TICKS: f64 = 100.0;
