//! Deploying, beside what people do by hand: one tar over ssh for each host.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use super::world::host::Host;
use super::world::{World, parts};
use super::{Failed, certfleet, median};

/// How many ssh run at a time.
const HANDS: usize = 16;

/// Seconds for deploying everything to every host: ours, proof included; then tar over ssh with
/// one test and one reload for each host, unproven.
pub(crate) fn deploy(count: usize, hosts: usize) -> Result<(f64, f64), Failed> {
    let names: Vec<String> = (0..hosts).map(|number| format!("edge-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sites: Vec<String> = (0..count).map(|number| format!("n{number}.social.test")).collect();
    let mut builder = World::builder().hosts(&names);
    for site in &sites {
        builder = builder.site(&[site]);
    }
    let world = builder.start()?;
    let mut tables = String::new();
    for site in &sites {
        write!(tables, "[[certificate]]\ndomains = [\"{site}\"]\nhosts = [\"cdn\"]\n")?;
    }
    let config = world.config(&tables)?;
    // Each time new versions: nothing is on the hosts already.
    let ours = median(|| {
        certfleet(&config, &["renew", "--force", "--no-deploy"])?;
        Ok(certfleet(&config, &["deploy"])?.as_secs_f64())
    })?;
    let bundle = tar(&world, &sites)?;
    let theirs = median(|| by_hand(&world, &bundle))?;
    Ok((ours, theirs))
}

/// The newest versions, as a tar to unpack in the hosts' folder.
fn tar(world: &World, sites: &[String]) -> Result<Vec<u8>, Failed> {
    let folder = world.dir.path().join("bundle");
    for site in sites {
        let versions = world.store().join("certificates").join(site).join("versions");
        let newest = fs::read_dir(&versions)?
            .flatten()
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())))
            .max()
            .ok_or("no version in the store")?;
        let to = folder.join("by-hand").join(site);
        fs::create_dir_all(&to)?;
        for file in ["privkey.pem", "fullchain.pem", "cert.pem", "chain.pem"] {
            fs::copy(newest.1.join(file), to.join(file))?;
        }
    }
    let output = Command::new("tar").arg("-C").arg(&folder).args(["-c", "by-hand"]).output()?;
    if output.status.success() { Ok(output.stdout) } else { Err("tar failed".into()) }
}

fn by_hand(world: &World, bundle: &[u8]) -> Result<f64, Failed> {
    let began = Instant::now();
    let waiting = Mutex::new(world.hosts.iter());
    let failed = thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let next = waiting.lock().map_err(|_| "a hand panicked".to_owned())?.next();
                        match next {
                            Some(host) => push(host, bundle)?,
                            None => return Ok::<(), String>(()),
                        }
                    }
                })
            })
            .collect();
        hands
            .into_iter()
            .find_map(|hand| hand.join().map_or_else(|_| Some("a hand panicked".into()), Result::err))
    });
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(began.elapsed().as_secs_f64()),
    }
}

fn push(host: &Host, bundle: &[u8]) -> Result<(), String> {
    let live = host.live.display();
    let remote =
        format!("umask 077; tar -C {live} -xf - && {} && {}", host.test_command, host.reload_command);
    let mut child = parts::ssh()?
        .command()
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ])
        .args(["-p", &host.ssh_port.to_string(), "-l", &host.user, "-i"])
        .arg(&host.identity)
        .arg(host.address.to_string())
        .arg(remote)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start ssh: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(bundle).map_err(|error| format!("{}: {error}", host.name))?;
    }
    let output = child.wait_with_output().map_err(|error| format!("{}: {error}", host.name))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{}: {}: {said}", host.name, output.status)) }
}
