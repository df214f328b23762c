//! Replays the incident that certfleet is there to end, on real parts, and times it.
//!
//! Pebble as the certificate authority, BIND as the name server, four hosts with OpenSSH and nginx,
//! all on loopback addresses. Each host serves an expired certificate for a name behind a CNAME;
//! then one command, and each host is looked at from outside. With `--stay` the world goes on
//! afterwards, to try commands in.

#[path = "../tests/world/mod.rs"]
mod world;

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use world::{World, look};

const NAME: &str = "media.social.test";
const HOSTS: [&str; 4] = ["cdn-frankfurt-1", "cdn-fremont-1", "sally", "esme"];
/// As which this program runs the `certfleet` command, in a process of its own.
const AS_CERTFLEET: &str = "--as-certfleet";

fn main() -> ExitCode {
    let mut args = env::args_os();
    let program = args.next().unwrap_or_default();
    let rest: Vec<OsString> = args.collect();
    if let Some((first, rest)) = rest.split_first()
        && first == AS_CERTFLEET
    {
        return certfleet::cli::main_from(std::iter::once(program).chain(rest.iter().cloned()));
    }
    match replay(rest.iter().any(|arg| arg == "--stay")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: the incident could not be replayed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn replay(stay: bool) -> Result<bool, Box<dyn Error>> {
    say("Starting a certificate authority, a name server and four hosts (what is missing is fetched first).");
    let began = Instant::now();
    let world = World::builder()
        .zone("social.test")
        .zone("acme.test")
        .record("media.social.test. 60 IN CNAME cdn.social.test.")
        .record("_acme-challenge.media.social.test. 60 IN CNAME media.acme.test.")
        .hosts(&HOSTS)
        .site(&[NAME])
        .start()?;
    let config = world.config(&format!("[[certificate]]\ndomains = [\"{NAME}\"]\nhosts = [\"cdn\"]\n"))?;
    say(&format!("Ready after {}.", seconds(began.elapsed())));

    say(&format!("The incident: what visitors of {NAME} get from each host, by a TLS handshake."));
    look_at_each(&world)?;
    say("The name is a CNAME to the CDN; so is its challenge name, into a zone that takes updates.");
    println!("{}", world.ns.ask(&format!("_acme-challenge.{NAME}."), "CNAME")?.join("\n"));

    say("The command of the evening:");
    let began = Instant::now();
    let ended = certfleet(&config, &["renew", "--force", NAME])?;
    let took = began.elapsed();
    say(&format!("It took {} and ended with exit code {ended}. The same look from outside:", seconds(took)));
    let mended = look_at_each(&world)?;

    say("A second renewal makes no order, and says when the next is due:");
    let orders = world.pebble.orders();
    certfleet(&config, &["renew"])?;
    let more = world.pebble.orders() - orders;
    let left = world.ns.txt_records()?;
    say(&format!(
        "The CA saw {orders} order before it and {more} more; a transfer of both zones shows {} challenge records.",
        left.len()
    ));
    say("The report that was missing:");
    certfleet(&config, &["report"])?;
    let well = ended == 0 && mended && more == 0 && left.is_empty();
    if well {
        say(&format!("The incident ended in {}: four hosts, one order, proven from outside.", seconds(took)));
    } else {
        say("Something above is not as it should be.");
    }
    if stay {
        say("The world stays until you press Enter. Try:");
        println!("cargo run --quiet -- --config {} plan", config.display());
        std::io::stdin().read_exact(&mut [0])?;
    }
    Ok(well)
}

/// Shows what each host serves; tells whether all of them serve a certificate that has not expired.
fn look_at_each(world: &World) -> Result<bool, String> {
    let mut well = true;
    for host in &world.hosts {
        let served = look::served(host.tls(), NAME)?;
        let state = if served.expired() { "EXPIRED" } else { "valid" };
        well &= !served.expired();
        println!(
            "  {:<16} {:<22} {state:<8} until {}  {}",
            host.name,
            host.tls(),
            date(served.not_after),
            short(served.leaf())
        );
    }
    Ok(well)
}

/// Runs certfleet in a process of its own, its output on ours.
fn certfleet(config: &Path, args: &[&str]) -> Result<i32, Box<dyn Error>> {
    println!("$ certfleet {}", args.join(" "));
    let status = Command::new(env::current_exe()?)
        .arg(AS_CERTFLEET)
        .arg("--config")
        .arg(config)
        .args(args)
        .status()?;
    Ok(status.code().unwrap_or(-1))
}

fn say(text: &str) {
    println!("\n# {text}");
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn date(at: i64) -> String {
    jiff::Timestamp::from_second(at).map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

fn short(der: &[u8]) -> String {
    format!("{}…", certfleet::model::name::Fingerprint::of(der).short())
}
