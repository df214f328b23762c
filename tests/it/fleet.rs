//! Many hosts with many certificates, in one run.

use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::tool::{command, finish};
use crate::world::World;

/// Hosts and certificates: enough to see what grows, few enough for two cores. `CERTFLEET_FLEET=40x100` is the
/// whole of it, by hand.
const USUAL: (usize, usize) = (40, 10);

/// What the run may take of memory, in kB: so much in any case, and for each host (its connection). For a certificate on
/// a host only what is seen and known of it: neither keys nor chains, nor what is sent.
fn memory(hosts: usize, certificates: usize) -> usize {
    60_000 + 1_000 * hosts + 18 * hosts * certificates
}

fn size() -> (usize, usize) {
    let asked = std::env::var("CERTFLEET_FLEET").ok();
    let asked = asked.as_deref().and_then(|text| text.split_once('x'));
    asked.map_or(USUAL, |(hosts, certificates)| (hosts.parse().unwrap(), certificates.parse().unwrap()))
}

#[test]
fn every_host_is_one_connection_and_a_dead_one_costs_the_others_nothing() {
    let (hosts, certificates) = size();
    let hosts: Vec<String> = (1..=hosts).map(|n| format!("edge-{n}")).collect();
    let names: Vec<String> = (1..=certificates).map(|n| format!("n{n}.social.test")).collect();
    let mut builder = World::builder().hosts(&hosts.iter().map(String::as_str).collect::<Vec<_>>());
    for name in &names {
        builder = builder.site(&[name]);
    }
    let world = builder.start().unwrap();
    // It takes connections and says nothing, to SSH and to TLS.
    let hole = TcpListener::bind((world.spare_address(1), 0)).unwrap();
    let at = hole.local_addr().unwrap();
    let came: &'static AtomicUsize = Box::leak(Box::default());
    thread::spawn(move || {
        for stream in hole.incoming() {
            came.fetch_add(1, Ordering::Relaxed);
            // Held until the other side has had enough.
            thread::spawn(move || stream.and_then(|mut stream| stream.read_to_end(&mut Vec::new())));
        }
    });
    let mut tables = format!(
        "[host.hole]\naddress = \"{}\"\nport = {}\nverify = [\"{at}\"]\nidentity = {:?}\nhost-key = [\"{}\"]\n",
        at.ip(),
        at.port(),
        world.hosts[0].identity,
        world.hosts[0].host_key,
    );
    for name in &names {
        let _ = write!(tables, "\n[[certificate]]\ndomains = [\"{name}\"]\nhosts = [\"cdn\", \"hole\"]\n");
    }
    let config = world.config(&tables).unwrap();

    let began = Instant::now();
    let child = command(&config, &["renew"]).spawn().unwrap();
    let peak = peak_memory(child.id());
    let ran = finish(child).ended(1).said("`hole` did not answer within");
    let took = began.elapsed();
    let peak = peak.join().unwrap();

    let mut errors = ran.err.lines().filter(|line| line.starts_with("error:"));
    assert!(errors.all(|line| line.contains("`hole`")), "only the dead one has failed: {}", ran.err);
    for host in &world.hosts {
        for name in &names {
            let served = host.served(name).unwrap();
            assert!(!served.expired(), "{name} on {}", host.name);
        }
        assert_eq!(host.connections(), 1, "{}: {}", host.name, host.sshd.log());
        assert!(host.reloads() <= names.len(), "{} reloads", host.reloads());
    }
    assert_eq!(world.pebble.orders(), names.len());
    let reloads: Vec<usize> = world.hosts.iter().map(|host| host.reloads()).collect();
    println!(
        "{} hosts, {} certificates: {took:.1?}, {peak} kB, {} reloads each at most, the dead one was tried {} times",
        world.hosts.len(),
        names.len(),
        reloads.iter().max().unwrap(),
        came.load(Ordering::Relaxed),
    );
    let most = memory(world.hosts.len(), names.len());
    assert!((1..most).contains(&peak), "{peak} kB, {most} at most");
}

/// The most that a process has ever held, in kB, once it has ended.
pub(crate) fn peak_memory(pid: u32) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let mut peak = 0;
        loop {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let Some(now) = line.and_then(|line| line.split_whitespace().next()?.parse().ok()) else {
                return peak;
            };
            peak = now;
            thread::sleep(Duration::from_millis(20));
        }
    })
}
