//! How long things take, on the world of the tests; beside `ssh`, in the same run.
//!
//! `cargo bench` prints a table. Nothing here asserts a time: machines differ, so look at the
//! ratios. A part of a name as argument runs only the lines that have it.

#[path = "../tests/world/mod.rs"]
mod world;

#[path = "fleet/delay.rs"]
mod delay;
#[path = "fleet/peers.rs"]
mod peers;
#[path = "fleet/still.rs"]
mod still;

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use world::World;

type Failed = Box<dyn Error>;

fn main() -> Result<(), Failed> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    println!("{:<58} {:>9} {:>9} {:>9}", "median of 3 (seconds)", "certfleet", "other", "ratio");
    for count in [1, 10, 100] {
        let name = format!("issue {count}");
        if wants(&name) {
            row(&name, issue(count, None)?, None);
        }
        let name = format!("issue {count}, 50 ms away");
        if wants(&name) {
            let trips = issue(count, Some(Duration::from_millis(25)))?;
            // Twelve round trips are the protocol's floor for a first certificate: TCP and TLS,
            // the directory, and eight requests in a row.
            row(&format!("{name} (other: the bare protocol)"), trips, Some(12.0 * 0.05));
        }
    }
    for hosts in [4, 40] {
        for count in [1, 100] {
            let name = format!("deploy {count} to {hosts} hosts");
            if wants(&name) {
                let (ours, theirs) = peers::deploy(count, hosts)?;
                row(&format!("{name} (other: tar over ssh, 16 at a time)"), ours, Some(theirs));
            }
        }
    }
    for count in [100, 1_000, 10_000] {
        let name = format!("nothing due, {count} certificates");
        if wants(&name) {
            let (seconds, peak) = still::pass(count)?;
            row(&format!("{name} (peak {peak} MB)"), seconds, None);
        }
    }
    Ok(())
}

fn row(name: &str, ours: f64, other: Option<f64>) {
    let other_shown = other.map_or_else(String::new, |other| format!("{other:.3}"));
    let ratio = other.map_or_else(String::new, |other| format!("{:.2}", ours / other));
    println!("{name:<58} {ours:>9.3} {other_shown:>9} {ratio:>9}");
}

/// Issuing so many certificates at once, the account made before.
fn issue(count: usize, one_way: Option<Duration>) -> Result<f64, Failed> {
    let world = World::builder().start()?;
    let proxy = one_way.map(|time| delay::Proxy::start(world.pebble.address, time)).transpose()?;
    let mut tables = String::new();
    for number in 0..count {
        write!(tables, "[[certificate]]\ndomains = [\"n{number}.social.test\"]\n")?;
    }
    let config = world.config(&tables)?;
    if let Some(proxy) = &proxy {
        let text = fs::read_to_string(&config)?;
        let far = format!("https://localhost:{}/dir", proxy.port);
        fs::write(&config, text.replace(&world.pebble.directory, &far))?;
    }
    certfleet(&config, &["renew", "n0.social.test"])?;
    median(|| Ok(certfleet(&config, &["renew", "--force"])?.as_secs_f64()))
}

/// The middle of three.
fn median(mut run: impl FnMut() -> Result<f64, Failed>) -> Result<f64, Failed> {
    let mut times = [run()?, run()?, run()?];
    times.sort_by(f64::total_cmp);
    Ok(times[1])
}

/// Runs certfleet to its end, which has to be a good one.
fn certfleet(config: &Path, args: &[&str]) -> Result<Duration, Failed> {
    let began = Instant::now();
    let output = command(config, args).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(began.elapsed());
    }
    Err(format!("certfleet {args:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

fn command(config: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certfleet"));
    command.arg("--config").arg(config).args(args);
    command
}
