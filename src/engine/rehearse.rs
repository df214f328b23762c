//! Going through it all without changing anything: issuers, DNS, hosts.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::solve::Answers;
use super::{Engine, Event};
use crate::acme::{self, Nowhere, Step, Wanted};
use crate::deploy::Tested;
use crate::model::desired::{Certificate, Host, Issuer};
use crate::model::name::{CertName, HostName, IssuerName};
use crate::model::plan::{Deploying, Request};
use crate::model::problem::{Blame, Diagnose, Problem};

/// Where Let's Encrypt lets everybody try.
const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
const PRODUCTION: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// What a rehearsal came to.
#[derive(Debug, Clone, Default)]
pub struct Rehearsal {
    /// Each certificate by each of its issuers.
    pub issued: Vec<(CertName, IssuerName, Result<Tried, Problem>)>,
    /// Each host.
    pub hosts: Vec<(HostName, Result<(), Problem>)>,
    /// Challenge records that could not be removed; they stay noted.
    pub left: Vec<(CertName, Problem)>,
    /// Certificates whose lock another process kept, with its holder.
    pub locked: Vec<(CertName, String)>,
    /// Whether it was cut short by a signal.
    pub interrupted: bool,
}

/// How far an issuer was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// It issued a certificate at Let's Encrypt's staging, which was thrown away.
    Staging,
    /// All authorizations are valid: it would issue.
    Authorized,
}

/// Why a host would not take a deployment.
#[derive(Debug, thiserror::Error)]
enum NotReady {
    #[error("the configuration of `{host}` fails its own test, `{test}`: {said}")]
    Broken { host: HostName, test: String, said: String },
    #[error("`{host}` lacks {}", .missing.join(", "))]
    Missing { host: HostName, missing: Vec<String> },
    #[error("`{user}` may not write to {path} on `{host}`")]
    Closed { host: HostName, user: String, path: String },
}

impl Diagnose for NotReady {
    fn code(&self) -> &'static str {
        match self {
            Self::Broken { .. } => "deploy.host-broken",
            Self::Missing { .. } => "deploy.tools",
            Self::Closed { .. } => "deploy.directory",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Host
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Broken { test, .. } => format!("mend it on the host until `{test}` passes"),
            Self::Missing { .. } => "install them on the host".to_owned(),
            Self::Closed { host, .. } => format!("set `user` or `directory` in [host.{host}]"),
        })
    }
}

impl Engine {
    /// Tries all that the request selects, due or not: every issuer of every certificate as far as it goes
    /// without issuing (at Let's Encrypt's staging the whole order), and every host without deploying.
    ///
    /// Kept are accounts at the CAs, and until it is removed the note of every challenge record.
    pub async fn rehearse(&self, request: &Request, stop: impl Future<Output = ()>) -> Rehearsal {
        let mut rehearsal = Rehearsal::default();
        tokio::select! {
            done = self.rehearse_all(request) => rehearsal = done,
            () = stop => {
                self.tell(Event::Ending);
                rehearsal.interrupted = true;
                self.clean_up_everything(request).await;
            }
        }
        self.connections.close().await;
        rehearsal
    }

    async fn rehearse_all(&self, request: &Request) -> Rehearsal {
        let desired = &self.config.desired;
        let selected: Vec<&Certificate> =
            desired.certificates.values().filter(|certificate| request.selects(&certificate.name)).collect();
        let hosts: BTreeSet<&HostName> = match request.deploying {
            Deploying::No => BTreeSet::new(),
            _ => selected.iter().flat_map(|certificate| &certificate.hosts).collect(),
        };
        let tries = join_all(selected.into_iter().map(|certificate| self.rehearse_certificate(certificate)));
        let tests = join_all(hosts.into_iter().map(|name| async move {
            let result = self.rehearse_host(&desired.hosts[name]).await;
            self.tell(match &result {
                Ok(()) => Event::HostTested(name.clone()),
                Err(problem) => Event::HostFailed(name.clone(), problem.clone()),
            });
            (name.clone(), result)
        }));
        let (parts, hosts) = futures::join!(tries, tests);
        let mut whole = Rehearsal { hosts, ..Rehearsal::default() };
        for part in parts {
            whole.issued.extend(part.issued);
            whole.left.extend(part.left);
            whole.locked.extend(part.locked);
        }
        whole
    }

    async fn rehearse_certificate(&self, certificate: &Certificate) -> Rehearsal {
        let mut part = Rehearsal::default();
        let name = &certificate.name;
        let _turn = match self.turn(name, "rehearsing").await {
            Ok(Some(turn)) => turn,
            Ok(None) => {
                part.locked.push((name.clone(), self.holder(name)));
                return part;
            }
            Err(error) => {
                let problem = Problem::of(&error);
                self.tell(Event::RehearsalFailed(name.clone(), problem.clone()));
                part.issued.push((name.clone(), certificate.issuer.clone(), Err(problem)));
                return part;
            }
        };
        for issuer in certificate.issuers() {
            let result = self.rehearse_at(certificate, &self.config.desired.issuers[issuer]).await;
            let result = result.map_err(|error| Problem::of(&*error));
            if let Err(problem) = self.clean_up_of(name).await {
                self.tell(Event::CleanUpFailed(name.clone(), problem.clone()));
                part.left.push((name.clone(), problem));
            }
            self.tell(match &result {
                Ok(tried) => Event::Rehearsed(name.clone(), issuer.clone(), *tried),
                Err(problem) => Event::RehearsalFailed(name.clone(), problem.clone()),
            });
            part.issued.push((name.clone(), issuer.clone(), result));
        }
        part
    }

    async fn rehearse_at(
        &self,
        certificate: &Certificate,
        issuer: &Issuer,
    ) -> Result<Tried, std::sync::Arc<acme::Error>> {
        let stand_in = stand_in(issuer);
        let ca = self.ca(&stand_in).await?;
        let key_pem = acme::new_key(certificate.key).map_err(acme::Error::from)?;
        let wanted = Wanted {
            domains: certificate.domains.clone(),
            key: certificate.key,
            profile: certificate.profile(issuer).map(str::to_owned),
            preferred_chain: None,
            replaces: None,
            resume: None,
            key_pem,
        };
        let answers = Answers { engine: self, certificate };
        let progress = |step: Step| self.tell(Event::Step(certificate.name.clone(), step));
        if stand_in.directory == STAGING {
            ca.issue(&wanted, &Nowhere, &answers, &progress).await?;
            return Ok(Tried::Staging);
        }
        ca.rehearse(&wanted, &answers, &progress).await?;
        Ok(Tried::Authorized)
    }

    async fn rehearse_host(&self, host: &Host) -> Result<(), Problem> {
        let session = self.session(host).await.map_err(|error| Problem::of(&*error))?;
        let Tested { broken, missing, closed, installed: _ } =
            session.check(host).await.map_err(|error| Problem::of(&error))?;
        let name = host.name.clone();
        let found = match (missing.is_empty(), closed, broken) {
            (false, ..) => NotReady::Missing { host: name, missing },
            (true, Some(path), _) => NotReady::Closed { host: name, user: host.user.clone(), path },
            (true, None, Some(said)) => NotReady::Broken { host: name, test: host.test.clone(), said },
            (true, None, None) => return Ok(()),
        };
        Err(Problem::of(&found))
    }
}

/// Who is asked in place of an issuer whose certificates count: Let's Encrypt has a staging that does the same.
fn stand_in(issuer: &Issuer) -> Issuer {
    let directory = if issuer.directory == PRODUCTION { STAGING } else { &issuer.directory };
    Issuer { directory: directory.to_owned(), ..issuer.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lets_encrypts_own_directory_has_a_stand_in() {
        let issuer = |directory: &str| Issuer {
            name: "ca".parse().unwrap(),
            directory: directory.to_owned(),
            contact: Vec::new(),
            directory_ca: None,
            roots: None,
            profile: Some("shortlived".to_owned()),
            preferred_chain: None,
        };
        assert_eq!(stand_in(&issuer(PRODUCTION)), issuer(STAGING));
        for same in [STAGING, "https://ca.example/directory"] {
            assert_eq!(stand_in(&issuer(same)), issuer(same));
        }
    }
}
