//! Loopback addresses and ports: each world has a piece of 127.0.0.0/8 of its own.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

/// A /24 of the loopback net that no other world uses, in this process or any other.
///
/// The claim is a listening socket with an abstract name: the kernel gives it up when the process ends,
/// however it ends, so nothing has to be cleaned up and no port number is fixed.
pub(crate) struct Range {
    second: u8,
    third: u8,
    _claim: UnixListener,
}

impl Range {
    /// Claims a range, trying random ones until one is free.
    pub(crate) fn claim() -> Result<Self, String> {
        let mut last = String::new();
        for _ in 0..1000 {
            let [second, third, ..] = random().to_ne_bytes();
            // 127.0.x is where everybody's own services are.
            if second == 0 {
                continue;
            }
            let name = format!("certfleet-world-127.{second}.{third}");
            match UnixAddr::from_abstract_name(name).and_then(|addr| UnixListener::bind_addr(&addr)) {
                Ok(claim) => {
                    return Ok(Self { second, third, _claim: claim });
                }
                Err(error) => last = error.to_string(),
            }
        }
        Err(format!("no loopback range is free: {last}"))
    }

    /// The address with this last byte.
    pub(crate) fn address(&self, last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.second, self.third, last))
    }
}

/// Ports that the system says are free on this address, for TCP and UDP alike.
///
/// They are let go before the server takes them. Nobody else binds to an address of our range, so nobody
/// takes them in between, nor while a server of ours is stopped to be started again.
pub(crate) fn free<const N: usize>(address: IpAddr) -> Result<[u16; N], String> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    let mut found = 0;
    for _ in 0..100 {
        if found == N {
            break;
        }
        let listener =
            TcpListener::bind((address, 0)).map_err(|e| format!("cannot bind to {address}: {e}"))?;
        let port = listener.local_addr().map_err(|e| format!("no local address on {address}: {e}"))?.port();
        if let Ok(socket) = UdpSocket::bind(SocketAddr::new(address, port)) {
            ports[found] = port;
            found += 1;
            held.push((listener, socket));
        }
    }
    if found < N {
        return Err(format!("no {N} ports are free on {address}"));
    }
    Ok(ports)
}

/// A port of 127.0.0.1, for a server that listens only on addresses that the machine has by name, as BIND does.
///
/// There the whole machine comes and goes. So it is taken from below the range from which the system gives
/// ports to connections, and is ours while this value lives, also while the server is stopped.
pub(crate) struct Port {
    /// The port's number.
    pub(crate) number: u16,
    _claim: UnixListener,
}

impl Port {
    /// Claims one, trying random ones until one is free.
    pub(crate) fn claim() -> Result<Self, String> {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let lowest = range.split_whitespace().next().and_then(|word| word.parse().ok());
        let below = lowest.unwrap_or(32_768_u64).max(12_000);
        for _ in 0..1000 {
            let number = u16::try_from(10_000 + random() % (below - 10_000)).unwrap_or(10_000);
            let name = format!("certfleet-world-port-{number}");
            let Ok(claim) =
                UnixAddr::from_abstract_name(name).and_then(|addr| UnixListener::bind_addr(&addr))
            else {
                continue;
            };
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, number));
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, number));
            if tcp.is_ok() && udp.is_ok() {
                return Ok(Self { number, _claim: claim });
            }
        }
        Err("no port of 127.0.0.1 is free".to_owned())
    }

    /// The address and port.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// A random number, from the seed that the standard library takes for its hash maps.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
