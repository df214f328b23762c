//! A TCP proxy that keeps every byte for a while, as distance does.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A proxy to one server; its threads end with the program.
pub(crate) struct Proxy {
    /// The port on 127.0.0.1.
    pub(crate) port: u16,
}

impl Proxy {
    /// Listens, and passes on what comes, each way `one_way` later.
    pub(crate) fn start(server: SocketAddr, one_way: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                thread::spawn(move || {
                    // The handshake of TCP crosses the distance once each way.
                    thread::sleep(one_way * 2);
                    if let Ok(far) = TcpStream::connect(server) {
                        let _ = join(&near, &far, one_way);
                    }
                });
            }
        });
        Ok(Self { port })
    }
}

fn join(near: &TcpStream, far: &TcpStream, one_way: Duration) -> io::Result<()> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    for (from, to) in [(near, far), (far, near)] {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || carry(from, to, one_way));
    }
    Ok(())
}

/// What is under way: when it arrives, and what it is; `None` is the end.
type Road = Arc<(Mutex<VecDeque<(Instant, Option<Vec<u8>>)>>, Condvar)>;

fn carry(mut from: TcpStream, mut to: TcpStream, one_way: Duration) {
    let road: Road = Arc::default();
    let arriving = Arc::clone(&road);
    thread::spawn(move || {
        loop {
            let (queue, signal) = &*arriving;
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            let (at, bytes) = loop {
                if let Some(first) = queue.pop_front() {
                    break first;
                }
                queue = signal.wait(queue).unwrap_or_else(PoisonError::into_inner);
            };
            drop(queue);
            thread::sleep(at.saturating_duration_since(Instant::now()));
            match bytes {
                Some(bytes) if to.write_all(&bytes).is_ok() => {}
                _ => {
                    let _ = to.shutdown(Shutdown::Write);
                    return;
                }
            }
        }
    });
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        let bytes = (read > 0).then(|| buffer[..read].to_vec());
        let (queue, signal) = &*road;
        queue.lock().unwrap_or_else(PoisonError::into_inner).push_back((Instant::now() + one_way, bytes));
        signal.notify_one();
        if read == 0 {
            return;
        }
    }
}
