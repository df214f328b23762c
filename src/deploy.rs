//! Putting certificates on hosts, and not letting go before they are proven.
//!
//! One connection and one transaction for all certificates that wait for a host. The transaction
//! ([`transaction.sh`](../deploy/transaction.sh)) stages, tests, switches by rename, tests again, reloads,
//! and undoes itself where a test fails. What it cannot know, because the exit code of a reload proves
//! nothing, is whether visitors get the new certificate. So the host is looked at from outside, and what is
//! not served there is put back.

pub mod compare;
mod connect;
pub mod error;
pub mod examine;
pub mod host_key;
pub mod identity;
mod lineages;
mod local;
mod login;
pub mod outcome;
mod payload;
pub mod protocol;
pub mod receiver;
pub mod relay;
pub mod ssh;

use std::borrow::Borrow;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use zeroize::Zeroizing;

pub use compare::{Compared, Installed};
pub use connect::{Presented, presented};
pub use error::{ConnectError, InstallError, NotPutBack};
pub use examine::{Inventory, NginxConfig, Tested};
pub use lineages::{CERTBOT, Lack, Lineages, NoTree, SentAccount, SentLineage, SentText, Wish};
pub use outcome::{Answer, NotInstalled, Outcome, Reload};
pub use protocol::Place;
pub use ssh::{Login, Session};

use crate::model::desired::Host;
use crate::model::name::{CertName, Domain, Fingerprint, VersionNumber};
use crate::model::problem::Problem;

/// A version of a certificate with its key, to be installed. The texts are PEM.
pub struct Bundle {
    /// Its lineage.
    pub certificate: CertName,
    /// Its number.
    pub version: VersionNumber,
    /// SHA-256 of its leaf.
    pub fingerprint: Fingerprint,
    /// Whether it may take the place of a version with a higher number.
    pub force: bool,
    /// The private key.
    pub privkey: Zeroizing<String>,
    /// The leaf.
    pub cert: String,
    /// The intermediates; may be empty.
    pub chain: String,
}

impl Bundle {
    /// What its directory on a host is called.
    pub fn directory_name(&self) -> String {
        format!("{}-{}", self.version, self.fingerprint.short())
    }
}

/// One certificate that is to go back to the version before; both as named in the [`Outcome`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// The certificate.
    pub certificate: CertName,
    /// The version that was put in place. If it is another by now, nothing is done.
    pub installed: String,
    /// The version that was there before.
    pub previous: String,
}

/// Looks at a host from outside.
#[async_trait]
pub trait Prove: Send + Sync {
    /// Whether the host serves the certificate with this fingerprint: every address, every name, several
    /// times in a row. Has its own deadline.
    async fn proves(
        &self,
        host: &Host,
        certificate: &CertName,
        fingerprint: &Fingerprint,
    ) -> Result<Proof, NotProven>;
}

/// A host serves what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Where it was seen: each address with the name that was asked for.
    pub addresses: Vec<(SocketAddr, Domain)>,
    /// How long it took until the last of them served it.
    pub after: Duration,
}

/// Why it is not proven that a host serves a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotProven {
    /// Some address serves another certificate where ours has been, or should be.
    Other(Box<Problem>),
    /// Nothing there uses it: there is no name to ask for, or what is served has never been ours.
    Unused(Box<Problem>),
    /// Some address does not answer, although it did before, or was never asked.
    Unreachable(Box<Problem>),
}

/// What a deploy came to, for one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deployed {
    /// Installed, and seen to be served.
    Served {
        /// Where and when.
        proof: Proof,
    },
    /// Installed, nothing went wrong, and nothing serves it yet: it stays.
    Pending {
        /// What is missing.
        problem: Problem,
    },
    /// Installed, found wanting, and the version before is back.
    RolledBack {
        /// What was wrong.
        problem: Problem,
    },
    /// What is used on the host was not changed; or it is not as it should be, and the problem says how.
    Failed {
        /// What was wrong.
        problem: Problem,
    },
}

/// Deploys certificates to one host: installs all in one transaction, looks from outside at all at the same
/// time, puts back what took another's place and is not served.
///
/// The answer has one entry for each bundle, in the same order. An error means that nothing is known about
/// any of them: the next pass looks and decides.
pub async fn deploy<B: Borrow<Bundle> + Sync>(
    session: &Session,
    host: &Host,
    bundles: &[B],
    prove: &dyn Prove,
) -> Result<Vec<(CertName, Deployed)>, InstallError> {
    let answer = session.install(host, bundles).await?;
    let bundles: Vec<&Bundle> = bundles.iter().map(Borrow::borrow).collect();
    let looks = bundles.iter().zip(&answer.outcomes).map(|(bundle, outcome)| async move {
        match outcome.problem(host, bundle) {
            Some(problem) => Err(problem),
            None => Ok(prove.proves(host, &bundle.certificate, &bundle.fingerprint).await),
        }
    });
    let looks = join_all(looks).await;

    let mut deployed = Vec::with_capacity(bundles.len());
    let mut doubts = Vec::new();
    for ((bundle, outcome), look) in bundles.iter().zip(&answer.outcomes).zip(looks) {
        let name = bundle.certificate.clone();
        let judged = match look {
            Ok(look) => outcome.judge(host, bundle, &answer.reload, look),
            Err(problem) => Ok(outcome.undone(problem)),
        };
        match judged {
            Ok(done) => deployed.push((name, done)),
            Err(doubt) => {
                deployed.push((name, Deployed::Failed { problem: doubt.problem.clone() }));
                doubts.push((deployed.len() - 1, doubt));
            }
        }
    }
    if doubts.is_empty() {
        return Ok(deployed);
    }

    let what: Vec<PutBack> = doubts.iter().map(|(_, doubt)| doubt.put_back.clone()).collect();
    let results = session.put_back(host, &what).await;
    let failure = results.as_ref().err().map(|error| Problem::of(error).one_line());
    let results = results.unwrap_or_default();
    for (number, (index, doubt)) in doubts.into_iter().enumerate() {
        deployed[index].1 = match (&failure, results.get(number)) {
            (None, Some(Ok(()))) => doubt.put_back(host),
            (Some(why), _) => doubt.left(host, why),
            (None, Some(Err(why))) => doubt.left(host, &Problem::of(why).one_line()),
            (None, None) => doubt.left(host, "the host did not answer for it"),
        };
    }
    Ok(deployed)
}
