//! The table `[daemon]`: how often `certfleet run` looks, and where it can be asked.

use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::SignedDuration;
use toml::Spanned;

use crate::kind::{Item, Refusal, Section, Value, address};

/// The default of `interval`.
const INTERVAL: SignedDuration = SignedDuration::from_hours(1);
const SHORTEST: SignedDuration = SignedDuration::from_mins(1);
/// The certificates of some authorities live for six days.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);
/// Where Prometheus expects nobody else.
const PORT: u16 = 9469;

/// What `[daemon]` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// The time between the beginnings of two passes.
    pub interval: SignedDuration,
    /// Where metrics, health and report can be read, if anywhere.
    pub listen: Option<Listen>,
}

impl Default for Daemon {
    fn default() -> Self {
        Self { interval: INTERVAL, listen: None }
    }
}

/// A place to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address and port.
    Address(SocketAddr),
    /// A Unix socket.
    Socket(PathBuf),
}

impl Daemon {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let interval = section.optional::<Interval>("interval").map_or(INTERVAL, |it| it.0);
        let listen = section.optional::<Spanned<Listen>>("listen");
        if let Some(listen) = &listen
            && let Listen::Address(address) = listen.get_ref()
            && !address.ip().is_loopback()
        {
            section.context().warning(
                listen.span(),
                format!(
                    "`listen` is at {address}: who reaches it reads every name and host, without a password"
                ),
                format!("let a firewall guard it, or listen at \"127.0.0.1:{}\"", address.port()),
            );
        }
        section.finish();
        Self { interval, listen: listen.map(Spanned::into_inner) }
    }
}

struct Interval(SignedDuration);

impl Value for Interval {
    fn read(item: Item<'_>) -> Option<Self> {
        item.parsed("\"1h\"", |text| match crate::kind::duration(text)? {
            time if (SHORTEST..=LONGEST).contains(&time) => Ok(Self(time)),
            _ => Err(Refusal::new("it goes from one minute to one day", "as in `interval = \"1h\"`")),
        })
    }
}

impl Value for Listen {
    fn read(item: Item<'_>) -> Option<Self> {
        item.parsed("\"127.0.0.1:9469\"", |text| match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') && !path.ends_with('/') => Ok(Self::Socket(path.into())),
            Some(_) => Err(Refusal::new(
                "the path of a socket begins with `/`",
                "as in \"unix:/run/certfleet/http.sock\"",
            )),
            None => address(text, PORT).map(Self::Address),
        })
    }
}
