//! Mail servers: a real one, and one that says whatever it is told to say.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::made::{Pair, write_private};
use super::parts;
use super::process::{Service, Watchdog, read_lossy};

/// The login that [`Mail`] knows.
pub(crate) const LOGIN: (&str, &str) = ("certfleet@example.org", "canary1f8f7d1e-password");

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A mail server, until it is dropped.
pub(crate) struct Mail {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    _service: Service,
    dir: TempDir,
}

impl Mail {
    /// Starts one: `encryption` is `none`, `starttls` (then it wants a login) or `tls`.
    pub(crate) fn start(encryption: &str, pair: &Pair) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        write_private(&certificate, &format!("{}{}", pair.leaf, pair.chain))?;
        write_private(&key, &pair.key)?;
        let mut command = parts::python::aiosmtpd()?;
        command.arg(HERE.to_string()).arg(encryption).args([&certificate, &key]).arg(dir.path());
        let port = dir.path().join("port");
        let (watchdog, log) = (Watchdog::start()?, dir.path().join("smtp.log"));
        let there = port.clone();
        let service = Service::new("smtp", command, &log, &watchdog, move || there.exists())?;
        service.start()?;
        let port = read_lossy(&port).parse().map_err(|e| format!("the port of the mail server: {e}"))?;
        Ok(Self { address: SocketAddr::new(HERE, port), _service: service, dir })
    }

    /// The mails so far, as Python's parser reads them.
    pub(crate) fn received(&self) -> Vec<Value> {
        let entries = fs::read_dir(self.dir.path()).unwrap().flatten().map(|entry| entry.path());
        let mut files: Vec<_> =
            entries.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
        files.sort();
        files.iter().map(|file| serde_json::from_slice(&fs::read(file).unwrap()).unwrap()).collect()
    }
}

/// What a hostile or broken server does after `220`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Says nothing at all, not even a greeting.
    Silent,
    /// One byte in a while, of a line that does not end.
    Drip,
    /// A line that does not end, as fast as it can.
    EndlessLine,
    /// An answer of lines that does not end.
    EndlessLines,
    /// Hangs up at once.
    Close,
    /// Is a web server.
    Web,
    /// Greets with this, and then hangs up.
    Greeting(&'static str),
    /// Offers a login and nothing else, takes none, and says what it was told, byte by byte.
    Echo,
    /// Offers STARTTLS, and its answer to it comes with more.
    Inject,
    /// Takes all, and does not answer to the farewell.
    NoFarewell,
    /// Takes all, in words that are not UTF-8.
    Latin,
}

/// A server that behaves badly, until it is dropped.
pub(crate) struct Bad {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
}

impl Bad {
    /// Starts one.
    pub(crate) fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind((HERE, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (keep, over) = (Arc::clone(&heard), Arc::clone(&ended));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let keep = Arc::clone(&keep);
                // Ends when the other side has gone.
                thread::spawn(move || drop(talk(mood, stream, &keep)));
            }
        });
        Self { address, heard, ended }
    }

    /// The lines that it was told.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn talk(mood: Mood, mut stream: TcpStream, heard: &Mutex<Vec<String>>) -> std::io::Result<()> {
    match mood {
        Mood::Silent => return stream.read_to_end(&mut Vec::new()).map(drop),
        Mood::Close => return Ok(()),
        Mood::Drip => loop {
            stream.write_all(b"2")?;
            thread::sleep(Duration::from_millis(20));
        },
        Mood::EndlessLine => loop {
            stream.write_all(&[b'2'; 65_536])?;
        },
        Mood::EndlessLines => loop {
            stream.write_all(&b"220-and more\r\n".repeat(1000))?;
        },
        Mood::Web => return stream.write_all(b"HTTP/1.1 400 Bad Request\x1b[2J\r\n\r\n"),
        Mood::Greeting(text) => return stream.write_all(text.as_bytes()),
        _ => stream.write_all(b"220 there\r\n")?,
    }
    let mut in_letter = false;
    while let Some(line) = line(&mut stream)? {
        heard.lock().unwrap().push(line.clone());
        let word = line.split([' ', ':']).next().unwrap_or_default().to_owned();
        let answer = match (mood, word.as_str()) {
            (_, ".") => b"250 taken\r\n".to_vec(),
            _ if in_letter => continue,
            (Mood::Inject, "EHLO") => b"250-there\r\n250 STARTTLS\r\n".to_vec(),
            (Mood::Inject, "STARTTLS") => b"220 go on\r\n250-there\r\n250 AUTH PLAIN\r\n".to_vec(),
            (Mood::Echo, "EHLO") => b"250-there\r\n250 AUTH PLAIN LOGIN\r\n".to_vec(),
            (Mood::Echo, _) => format!("535 not taken: {line}\r\n").into_bytes(),
            (Mood::Latin, "DATA") => b"354 weiter\r\n".to_vec(),
            (Mood::Latin, _) => b"250 gr\xfc\xdfe\r\n".to_vec(),
            (Mood::NoFarewell, "QUIT") => continue,
            (_, "DATA") => b"354 go on\r\n".to_vec(),
            _ => b"250 fine\r\n".to_vec(),
        };
        in_letter = word == "DATA";
        stream.write_all(&answer)?;
    }
    Ok(())
}

fn line(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        if byte[0] == b'\n' {
            return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
        }
        line.push(byte[0]);
    }
    Ok(None)
}
