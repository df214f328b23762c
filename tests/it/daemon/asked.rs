//! `[daemon] listen`: what can be read there, by whom, and how long anybody may take.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::{Daemon, NAME, STORED, edit};
use crate::tool::certfleet;
use crate::world::World;

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

/// Sends bytes and reads until the other side ends.
fn talk(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

pub(super) fn get(address: SocketAddr, path: &str) -> Answer {
    talk(connect(address), &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

/// An address of this machine that nobody listens at.
pub(super) fn free(world: &World) -> SocketAddr {
    TcpListener::bind((world.spare_address(0), 0)).unwrap().local_addr().unwrap()
}

fn listening(world: &World, place: &str) -> PathBuf {
    world.config(&format!("[daemon]\nlisten = \"{place}\"\n{STORED}")).unwrap()
}

#[test]
fn what_it_answers_is_what_report_says_and_nothing_can_be_changed() {
    let world = World::builder().start().unwrap();
    let address = free(&world);
    let config = listening(&world, &address.to_string());
    let daemon = Daemon::of(&world, &config);

    let report = get(address, "/report.json");
    assert_eq!(report.status, 200);
    assert!(report.head.contains("content-type: application/json"), "{}", report.head);
    let mut there: serde_json::Value = serde_json::from_str(&report.body).unwrap();
    let mut here = certfleet(&config, &["report", "--json"]).ended(0).json();
    for one in [&mut there, &mut here] {
        assert!(one["generated-at"].take().is_string());
    }
    assert_eq!(there, here);
    let page = get(address, "/");
    assert!(page.status == 200 && page.body.contains(NAME), "{page:?}");
    assert!(page.head.contains("content-type: text/html") && page.body.starts_with("<!DOCTYPE html>"));
    let metrics = get(address, "/metrics");
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    let ours = |line: &str| line.starts_with("certfleet_") && line.contains(NAME);
    assert!(metrics.status == 200 && metrics.body.lines().any(ours), "{}", metrics.body);
    for header in ["content-security-policy: default-src 'none'", "nosniff", "cache-control: no-store"] {
        assert!(page.head.contains(header), "{}", page.head);
    }
    let head = talk(connect(address), &format!("HEAD / HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    assert!(head.status == 200 && head.body.is_empty(), "{head:?}");
    assert_eq!(get(address, "/../certs.toml").status, 404);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: {address}\r\nContent-Length: 3\r\n\r\nabc");
        let answer = talk(connect(address), &request);
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
    }
    daemon.end().ended(0);
}

#[test]
fn health_is_good_after_a_complete_pass_only() {
    let world = World::builder().start().unwrap();
    let address = free(&world);
    let config = listening(&world, &address.to_string());
    world.pebble.service.freeze();
    let daemon = Daemon::start(world.dir.path(), &config);
    daemon.tells("READY=1", 1);
    let health = get(address, "/healthz");
    assert_eq!(health.status, 503);
    assert!(health.body.contains("no pass has been completed since the start at 20"), "{}", health.body);
    world.pebble.service.thaw();

    daemon.passes(1);

    let health = get(address, "/healthz");
    assert_eq!(health.status, 200);
    assert!(health.body.starts_with("the last complete pass ended at 20"), "{}", health.body);
    daemon.end().ended(0);
}

#[test]
fn a_page_that_has_its_name_lead_here_reads_nothing() {
    let world = World::builder().start().unwrap();
    let address = free(&world);
    let daemon = Daemon::of(&world, &listening(&world, &address.to_string()));
    let ask = |host: &str| talk(connect(address), &format!("GET / HTTP/1.1\r\n{host}\r\n\r\n")).status;
    assert_eq!(ask("Host: evil.example"), 421);
    assert_eq!(ask(&format!("Host: evil.example:{}", address.port())), 421);
    assert_eq!(ask("X: y"), 421);
    assert_eq!(ask("Host: localhost\r\nHost: evil.example"), 421);
    assert_eq!(ask("Host: localhost"), 200);
    daemon.end().ended(0);
}

#[test]
fn those_who_are_slow_or_many_or_talk_nonsense_are_shown_out_and_keep_nobody_else_away() {
    let world = World::builder().start().unwrap();
    let address = free(&world);
    let daemon = Daemon::of(&world, &listening(&world, &address.to_string()));
    // More than there are places, each with half a request.
    let slow: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(b"GET / HTTP/1.1\r\nHost: local").unwrap();
            stream
        })
        .collect();

    // And one that never ends its first line, but says a little of it again and again.
    let mut dripping = connect(address);
    let drip = std::thread::spawn(move || {
        let sent = (0..600).take_while(|_| {
            std::thread::sleep(Duration::from_millis(100));
            dripping.write_all(b"G").is_ok()
        });
        sent.count()
    });

    // It waits for a place, and gets one.
    assert_eq!(get(address, "/healthz").status, 200);

    for mut stream in slow {
        let mut rest = Vec::new();
        // A reset is as good an end.
        let _ = stream.read_to_end(&mut rest);
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }
    assert!(drip.join().unwrap() < 600, "it may go on for ever");
    let large = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    for nonsense in
        [&large, "\x16\x03\x01\x02\0\x01\0\x01\u{1}\r\n\r\n", "GET\r\n\r\n", "\r\n\r\n\r\nnothing\r\n\r\n"]
    {
        let mut stream = connect(address);
        let _ = stream.write_all(nonsense.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!String::from_utf8_lossy(&answer).contains("200 OK"), "{nonsense:.40}");
    }
    // One connection, one answer.
    let two = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n").repeat(2);
    let answer = talk(connect(address), &two);
    assert!(answer.status == 200 && !answer.body.contains("HTTP/1.1"), "{answer:?}");
    assert_eq!(get(address, "/healthz").status, 200);
    daemon.end().ended(0);
}

#[test]
fn a_socket_is_for_owner_and_group_replaces_one_of_the_dead_and_nothing_else() {
    let world = World::builder().start().unwrap();
    let socket = world.dir.path().join("http.sock");
    let config = listening(&world, &format!("unix:{}", socket.display()));
    let ask = |socket: &Path| {
        talk(UnixStream::connect(socket).unwrap(), "GET /healthz HTTP/1.1\r\nHost: any.name\r\n\r\n").status
    };
    // What a killed process leaves behind.
    drop(UnixListener::bind(&socket).unwrap());
    let daemon = Daemon::of(&world, &config);
    assert_eq!(ask(&socket), 200);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    daemon.end().ended(0);
    assert!(!socket.exists());

    let living = UnixListener::bind(&socket).unwrap();
    certfleet(&config, &["run"]).ended(1).said("another process does");
    drop(living);
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "a file of somebody's").unwrap();
    certfleet(&config, &["run"]).ended(1).said("something else than a socket is there");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "a file of somebody's");
}

#[test]
fn the_place_changes_with_the_file_and_stays_where_the_new_one_is_taken() {
    let world = World::builder().start().unwrap();
    let (first, taken) = (free(&world), TcpListener::bind((world.spare_address(1), 0)));
    let second = world.dir.path().join("http.sock");
    let config = listening(&world, &first.to_string());
    let daemon = Daemon::of(&world, &config);
    let holder = taken.unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let (first_text, second_text) = (first.to_string(), format!("unix:{}", second.display()));

    edit(&config, &first_text, &taken);
    daemon.signal(Signal::HUP);
    daemon.passes(2);
    drop(holder);
    daemon.says(&format!("cannot listen at http://{taken}/"));
    assert_eq!(get(first, "/healthz").status, 200);

    edit(&config, &taken, &second_text);
    daemon.signal(Signal::HUP);
    daemon.passes(3);
    assert!(fs::metadata(&second).unwrap().file_type().is_socket());
    daemon.eventually("nobody is at the first", || TcpStream::connect(first).is_err());

    edit(&config, &format!("listen = \"{second_text}\"\n"), "");
    daemon.signal(Signal::HUP);
    daemon.passes(4);
    assert!(!second.exists());
    daemon.end().ended(0);
}
