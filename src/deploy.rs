//! Stub.
#![allow(missing_docs, dead_code, unused)]
use crate::model::desired::Host;
use crate::model::name::*;
use crate::model::problem::*;
use async_trait::async_trait;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;
pub struct Bundle {
    pub certificate: CertName,
    pub version: VersionNumber,
    pub fingerprint: Fingerprint,
    pub privkey: Zeroizing<String>,
    pub fullchain: String,
    pub cert: String,
    pub chain: String,
}
pub struct Session;
#[derive(Debug, thiserror::Error)]
#[error("c")]
pub struct ConnectError;
impl Diagnose for ConnectError {
    fn code(&self) -> &'static str {
        ""
    }
    fn blame(&self) -> Blame {
        Blame::Host
    }
}
#[derive(Debug, thiserror::Error)]
#[error("c")]
pub struct InstallError;
impl Diagnose for InstallError {
    fn code(&self) -> &'static str {
        ""
    }
    fn blame(&self) -> Blame {
        Blame::Host
    }
}
impl Session {
    pub async fn open(host: &Host, identity: &Path) -> Result<Self, ConnectError> {
        Err(ConnectError)
    }
    pub fn is_closed(&self) -> bool {
        true
    }
    pub async fn close(self) {}
}
#[async_trait]
pub trait Prove: Send + Sync {
    async fn proves(
        &self,
        host: &Host,
        certificate: &CertName,
        fingerprint: &Fingerprint,
    ) -> Result<Proof, NotProven>;
}
pub struct Proof {
    pub addresses: Vec<(SocketAddr, Domain)>,
    pub after: Duration,
}
pub enum NotProven {
    Other(Problem),
    Unused(Problem),
    Unreachable(Problem),
}
pub async fn deploy(
    session: &Session,
    host: &Host,
    bundles: &[Bundle],
    prove: &dyn Prove,
) -> Result<Vec<(CertName, Deployed)>, InstallError> {
    Err(InstallError)
}
pub enum Deployed {
    Served { proof: Proof },
    Pending { problem: Problem },
    RolledBack { problem: Problem },
    Failed { problem: Problem },
}
