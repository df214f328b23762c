//! Deploying, beside what people do with ssh: tar, scp, rsync.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use super::world::host::Host;
use super::world::process::run;
use super::world::{World, parts};
use super::{Failed, Line, certfleet, median};

/// How many hosts are worked on at a time.
const HANDS: usize = 16;

/// Deploying everything to every host: ours, proof included; then what people do with ssh, with one test and one
/// reload for each host, unproven.
pub(crate) fn line(count: usize, hosts: usize) -> Result<Line, Failed> {
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
        issue(&config, &sites)?;
        Ok(certfleet(&config, &["deploy"])?.as_secs_f64())
    })?;
    let note = "proof included".to_owned();
    let bundle = Bundle::make(&world, &sites)?;
    let tar = median(|| by_hand(&world, |host| bundle.by_tar(host)));
    let scp = median(|| by_hand(&world, |host| bundle.by_scp(host)));
    let rsync = median(|| by_hand(&world, |host| bundle.by_rsync(host)));
    let others = [("tar over ssh", tar), ("scp, then ssh", scp), ("rsync, then ssh", rsync)]
        .map(|(what, seconds)| (format!("{what}, {HANDS} hosts at a time"), seconds));
    Ok(Line { ours, others: others.into(), note })
}

/// New versions of all. Not a hundred at once: Pebble 2.10 looks up an authorization with its whole store locked, and
/// answers for one with that one locked and then wants the store. With many orders both meet, and it answers no more.
fn issue(config: &Path, sites: &[String]) -> Result<(), Failed> {
    for some in sites.chunks(10) {
        let names = some.iter().map(String::as_str);
        let words: Vec<&str> =
            ["renew", "--force", "--override-limits", "--no-deploy"].into_iter().chain(names).collect();
        certfleet(config, &words)?;
    }
    Ok(())
}

/// The newest versions, as a folder and as a tar.
struct Bundle {
    folder: PathBuf,
    tar: Vec<u8>,
}

impl Bundle {
    fn make(world: &World, sites: &[String]) -> Result<Self, Failed> {
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
        if !output.status.success() {
            return Err("tar failed".into());
        }
        Ok(Self { folder, tar: output.stdout })
    }

    fn by_tar(&self, host: &Host) -> Result<(), String> {
        let remote = format!("umask 077; tar -C {} -xf - && {}", host.live.display(), load(host));
        ssh(host, &remote, &self.tar)
    }

    fn by_scp(&self, host: &Host) -> Result<(), String> {
        let to = format!("{}@{}:{}", host.user, host.address, host.live.display());
        run(parts::scp()?
            .command()
            .args(["-q", "-r", "-P", &host.ssh_port.to_string(), "-i"])
            .arg(&host.identity)
            .args(UNKNOWN_HOSTS)
            .arg(self.folder.join("by-hand"))
            .arg(to))?;
        ssh(host, &load(host), &[])
    }

    /// All files again, as after a renewal.
    fn by_rsync(&self, host: &Host) -> Result<(), String> {
        let (program, ssh_client) = (parts::rsync()?, parts::ssh()?);
        let mut shell = vec![ssh_client.path().display().to_string()];
        shell.extend(UNKNOWN_HOSTS.map(str::to_owned));
        shell.extend(["-p".to_owned(), host.ssh_port.to_string(), "-i".to_owned()]);
        shell.push(host.identity.display().to_string());
        // The hosts are this machine.
        let mut there = program.path().display().to_string();
        if let Some(libraries) = program.libraries() {
            there = format!("env LD_LIBRARY_PATH={} {there}", libraries.display());
        }
        let to = format!("{}@{}:{}", host.user, host.address, host.live.display());
        run(program
            .command()
            .args(["--archive", "--ignore-times", "--rsync-path", &there, "--rsh", &shell.join(" ")])
            .arg(self.folder.join("by-hand"))
            .arg(to))?;
        ssh(host, &load(host), &[])
    }
}

/// What is run on the host once the files are there.
fn load(host: &Host) -> String {
    format!("{} && {}", host.test_command, host.reload_command)
}

/// Seconds for doing something with each host, some of them at a time.
fn by_hand(world: &World, push: impl Fn(&Host) -> Result<(), String> + Sync) -> Result<f64, Failed> {
    let began = Instant::now();
    let waiting = Mutex::new(world.hosts.iter());
    let next = || waiting.lock().map_err(|_| "a hand panicked".to_owned()).map(|mut hosts| hosts.next());
    let work = || {
        while let Some(host) = next()? {
            push(host).map_err(|error| format!("{}: {error}", host.name))?;
        }
        Ok::<(), String>(())
    };
    thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS).map(|_| scope.spawn(work)).collect();
        hands.into_iter().try_for_each(|hand| hand.join().map_err(|_| "a hand panicked".to_owned())?)
    })?;
    Ok(began.elapsed().as_secs_f64())
}

fn ssh(host: &Host, remote: &str, input: &[u8]) -> Result<(), String> {
    let mut child = parts::ssh()?
        .command()
        .args(UNKNOWN_HOSTS)
        .args(["-p", &host.ssh_port.to_string(), "-l", &host.user, "-i"])
        .arg(&host.identity)
        .arg(host.address.to_string())
        .arg(remote)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start ssh: {error}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input).map_err(|error| error.to_string())?;
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{}: {said}", output.status)) }
}

/// The hosts are as old as the benchmark.
const UNKNOWN_HOSTS: [&str; 6] =
    ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
