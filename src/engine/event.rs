//! What happens during a pass, as it happens: shown as progress, kept for the summary.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::Tried;
pub use crate::acme::Step;
use crate::model::name::{CertName, HostName, IssuerName, VersionNumber};
use crate::model::plan::{Because, Install, Waiting};
use crate::model::problem::Problem;
use crate::model::state::Reason;

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Hosts are being looked at.
    Observing(usize),
    /// Another process holds the lock of a certificate (pid, since, doing what).
    Locked(CertName, String),
    /// A certificate is being issued.
    Issuing(CertName, IssuerName, Because),
    /// A certificate is issued because somebody asked, although its newest version is in the store and not on
    /// these hosts.
    DeployWouldDo(CertName, VersionNumber, Vec<HostName>),
    /// An issuer failed, and the next of the list is asked.
    NextIssuer(CertName, Problem),
    /// How far its order is.
    Step(CertName, Step),
    /// The CA offers no chain whose top the preferred one signed: who signed that of the chain taken, and
    /// of all that are offered.
    OtherChain(CertName, String, Vec<String>),
    /// The CA has revoked a version, and why.
    Revoked(CertName, VersionNumber, Reason),
    /// An issuer would issue the certificate, or has issued one for a try; nothing was stored.
    Rehearsed(CertName, IssuerName, Tried),
    /// An issuer would not issue the certificate.
    RehearsalFailed(CertName, Problem),
    /// A host would not take a deployment.
    HostFailed(HostName, Problem),
    /// A host lets us in and passes its own config test; nothing was changed there.
    HostTested(HostName),
    /// A new version is in the store.
    Issued(CertName, VersionNumber, Timestamp, Duration),
    /// Another process has just issued it.
    AlreadyIssued(CertName),
    /// The order that a run had left open is over without a certificate; none is due.
    OrderOver(CertName),
    /// No new version; the problem, and when it is tried again.
    IssueFailed(CertName, Problem, Option<Timestamp>),
    /// Challenge records that an earlier run left are gone.
    CleanedUp(CertName, usize),
    /// Challenge records could not be removed; they stay noted.
    CleanUpFailed(CertName, Problem),
    /// Versions are being installed on a host.
    Deploying(HostName, Vec<Install>),
    /// A host serves a version: how many handshakes at how many addresses, after which time.
    Served(CertName, HostName, VersionNumber, usize, Duration),
    /// Installed; nothing on the host serves it yet.
    Pending(CertName, HostName, VersionNumber, Problem),
    /// Installed, found wanting, and the version before is back.
    PutBack(CertName, HostName, VersionNumber, Problem),
    /// What lies on a host's disk is not what we installed: what it is.
    Drifted(CertName, HostName, String),
    /// Nobody could see what lies on a host's disk.
    NotSeen(HostName, Problem),
    /// Not installed.
    DeployFailed(CertName, HostName, VersionNumber, Problem),
    /// An account was made at an issuer.
    Registered(IssuerName),
    /// What was done could not be written down; it is done nevertheless.
    NotNoted(Problem),
    /// Something in the store that cannot be read, or is odd; what depends on it is left alone.
    Oddity(Problem),
    /// The run was told to end.
    Ending,
}

/// Who is told of events.
pub trait Listener: Send + Sync {
    /// Takes note of one.
    fn notice(&self, event: &Event);
}

/// What a pass came to.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Versions that were issued.
    pub issued: Vec<(CertName, VersionNumber, Timestamp)>,
    /// What is now served where, and the addresses where that was seen; none when it is not to be probed.
    pub served: Vec<(CertName, HostName, VersionNumber, Vec<SocketAddr>)>,
    /// What visitors would not trust of it, and why.
    pub untrusted: Vec<(CertName, HostName, String)>,
    /// What was installed but is not used yet.
    pub pending: Vec<(CertName, HostName, Problem)>,
    /// What was found on disks that is not what we installed, in words.
    pub drifted: Vec<(CertName, HostName, String)>,
    /// Hosts whose disk was to be looked at, and could not be.
    pub unseen: Vec<(HostName, Problem)>,
    /// What failed; without a host: issuing or cleaning up.
    pub failed: Vec<(CertName, Option<HostName>, Problem)>,
    /// Certificates whose lock another process kept, with its holder.
    pub locked: Vec<(CertName, String)>,
    /// What waits, and why.
    pub waiting: Vec<Waiting>,
    /// When the next of them may become an action by itself.
    pub wake: Option<Timestamp>,
    /// When the next CA wants to be asked again for a renewal window.
    pub asks: Option<Timestamp>,
    /// Noted challenge records that cannot be read: they may still be in DNS.
    pub unreadable_debts: Vec<Problem>,
    /// Whether the pass was cut short by a signal.
    pub interrupted: bool,
    /// Whether it was over all certificates and hosts, and not cut short.
    pub complete: bool,
}
