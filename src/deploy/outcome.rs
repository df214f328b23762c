//! What a transaction did, and what follows from that and from a look from outside.

mod not_installed;

use std::borrow::Borrow;

use super::protocol::{Malformed, Record};
use super::{Bundle, Deployed, NotProven, Proof, PutBack};
pub use not_installed::{NotInstalled, Said, Seen};

use crate::model::desired::{Host, Layout};
use crate::model::name::CertName;
use crate::model::problem::Problem;

/// What one transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For each bundle, in the order of the bundles.
    pub outcomes: Vec<Outcome>,
    /// What became of the reload.
    pub reload: Reload,
}

impl Answer {
    /// The records of an installation as its answer: one for each bundle.
    pub fn of<B: Borrow<Bundle>>(records: &[Record], bundles: &[B]) -> Result<Self, Malformed> {
        let mut reload = Reload::NotNeeded;
        for record in records.iter().filter(|record| record.word == "reload") {
            let output = record.text.clone();
            reload = match record.version.as_str() {
                "ok" => Reload::Done,
                "nothing-runs" => Reload::NothingRuns { output },
                "failed" => Reload::Failed { output },
                other => return Err(Malformed::Word(other.to_owned())),
            };
        }
        let mut outcomes = Vec::with_capacity(bundles.len());
        for bundle in bundles {
            let name = bundle.borrow().certificate.as_str();
            let mut of = records.iter().filter(|record| record.name == name);
            let (Some(record), None) = (of.next(), of.next()) else {
                return Err(Malformed::Count(name.to_owned()));
            };
            let (installed, text) = (record.version.clone(), record.text.clone());
            // They go back to the host as words of a line, should it have to put the certificate back.
            for version in [&installed, &record.old] {
                if !version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
                    return Err(Malformed::Word(version.clone()));
                }
            }
            outcomes.push(match record.word.as_str() {
                "switched" => Outcome::Switched { installed, previous: record.old.clone() },
                "installed" => Outcome::Installed { installed },
                "unchanged" => Outcome::Unchanged { installed },
                "rolled-back" => Outcome::RolledBack { output: text },
                "reload-failed" => Outcome::ReloadFailed { output: text },
                "refused" => Outcome::Refused { reason: text },
                "newer" => Outcome::Newer { there: record.old.clone() },
                "broken" => Outcome::HostBroken { output: text },
                other => return Err(Malformed::Word(crate::model::problem::plain(other))),
            });
        }
        Ok(Self { outcomes, reload })
    }

    /// Whether the web server was told to load what is there, and took the order.
    pub fn reloaded(&self) -> bool {
        self.reload == Reload::Done
    }

    /// False when there is no web server to load anything; it is not for us to start one.
    pub fn web_server_running(&self) -> bool {
        !matches!(self.reload, Reload::NothingRuns { .. })
    }
}

/// What became of the reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// The command ended well: which proves nothing yet.
    Done,
    /// The command failed because no web server runs. What was installed stays.
    NothingRuns {
        /// What it said.
        output: String,
    },
    /// The command failed. What had taken another's place was put back.
    Failed {
        /// What it said.
        output: String,
    },
    /// There was nothing to load.
    NotNeeded,
}

/// What a transaction did with one certificate. Versions are named as their directories on the host are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It took the place of another version.
    Switched {
        /// What it is called there.
        installed: String,
        /// What was there before.
        previous: String,
    },
    /// It is there for the first time, and replaced nothing.
    Installed {
        /// What it is called there.
        installed: String,
    },
    /// The same bytes were there already.
    Unchanged {
        /// What it is called there.
        installed: String,
    },
    /// With it the config test failed; the version before is back, and that passes the test.
    RolledBack {
        /// What the test said.
        output: String,
    },
    /// With it the reload failed; the version before is back.
    ReloadFailed {
        /// What the reload said.
        output: String,
    },
    /// It was not put in place.
    Refused {
        /// Why.
        reason: String,
    },
    /// A version with a higher number is there, and stays.
    Newer {
        /// What it is called there.
        there: String,
    },
    /// The config test fails without us; nothing that is used was changed, nothing reloaded.
    HostBroken {
        /// What the test said.
        output: String,
    },
}

/// A certificate that took another's place and is not served: it should go back.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) put_back: PutBack,
    /// What to say if nothing can be done about it.
    pub(super) problem: Problem,
    version: u32,
    seen: Problem,
}

impl Doubt {
    /// The version before is back.
    pub(super) fn put_back(self, host: &Host) -> Deployed {
        Deployed::RolledBack {
            problem: not_served(self.put_back.certificate, self.version, host, true, &self.seen),
        }
    }

    /// The version before could not be put back.
    pub(super) fn left(self, host: &Host, why: &str) -> Deployed {
        let error = NotInstalled::NotPutBack {
            certificate: self.put_back.certificate,
            version: self.version,
            host: host.name.to_string(),
            why: why.to_owned(),
            seen: Seen::of(&self.seen),
        };
        Deployed::Failed { problem: Problem::of(&error) }
    }
}

fn not_served(certificate: CertName, version: u32, host: &Host, put_back: bool, seen: &Problem) -> Problem {
    let host = host.name.to_string();
    let error = NotInstalled::NotServed { certificate, version, host, put_back, seen: Seen::of(seen) };
    Problem::of(&error)
}

impl Outcome {
    /// What is wrong by the transaction's own account; `None` for what is in place.
    pub fn problem(&self, host: &Host, bundle: &Bundle) -> Option<Problem> {
        let certificate = bundle.certificate.clone();
        let version = bundle.version.0;
        let name = host.name.to_string();
        let said = |command: &str, output: &str| Said {
            host: name.clone(),
            command: command.to_owned(),
            output: output.to_owned(),
        };
        let error = match self {
            Self::Switched { .. } | Self::Installed { .. } | Self::Unchanged { .. } => return None,
            Self::RolledBack { output } => {
                let said = said(&host.test, output);
                NotInstalled::TestFailed { certificate, version, host: name, said }
            }
            Self::ReloadFailed { output } => {
                let said = said(&host.reload, output);
                NotInstalled::ReloadFailed { certificate, version, host: name, said }
            }
            Self::Refused { reason } => {
                NotInstalled::Refused { certificate, version, host: name, reason: reason.clone() }
            }
            Self::Newer { there } => {
                NotInstalled::Newer { certificate, version, host: name, there: there.clone() }
            }
            Self::HostBroken { output } => {
                let said = said(&host.test, output);
                NotInstalled::HostBroken { certificate, host: name, said }
            }
        };
        Some(Problem::of(&error))
    }

    /// What it comes to when it is not in place.
    pub(super) fn undone(&self, problem: Problem) -> Deployed {
        match self {
            Self::RolledBack { .. } | Self::ReloadFailed { .. } => Deployed::RolledBack { problem },
            _ => Deployed::Failed { problem },
        }
    }

    /// What it comes to after a look from outside, or the doubt that asks for the version before.
    ///
    /// A first installation stays: it took nobody's place. What had been there before we came, and what a
    /// stopped web server will find, stays too. Only what replaced another version, and is not what
    /// visitors get, goes back.
    pub(super) fn judge(
        &self,
        host: &Host,
        bundle: &Bundle,
        reload: &Reload,
        look: Result<Proof, NotProven>,
    ) -> Result<Deployed, Box<Doubt>> {
        let certificate = bundle.certificate.clone();
        let version = bundle.version.0;
        let name = host.name.to_string();
        let (seen, other, unused) = match look {
            Ok(proof) => return Ok(Deployed::Served { proof }),
            Err(NotProven::Other(problem)) => (*problem, true, false),
            Err(NotProven::Unused(problem)) => (*problem, false, true),
            Err(NotProven::Unreachable(problem)) => (*problem, false, false),
        };
        let said = |output: &String| Said {
            host: name.clone(),
            command: host.reload.clone(),
            output: output.clone(),
        };
        match (self, reload) {
            // Something answers with another certificate: so something runs, whatever the reload said.
            (Self::Switched { installed, previous }, reload)
                if !unused && (other || !matches!(reload, Reload::NothingRuns { .. })) =>
            {
                let put_back = PutBack {
                    certificate: certificate.clone(),
                    installed: installed.clone(),
                    previous: previous.clone(),
                };
                Err(Box::new(Doubt { put_back, problem: seen.clone(), version, seen }))
            }
            (_, Reload::NothingRuns { output }) if !other => {
                let error = NotInstalled::NothingRuns { certificate, host: name.clone(), said: said(output) };
                Ok(Deployed::Pending { problem: Problem::of(&error) })
            }
            (_, Reload::Failed { output }) => {
                let said = said(output);
                let error = NotInstalled::ReloadFailed { certificate, version, host: name.clone(), said };
                Ok(Deployed::Failed { problem: Problem::of(&error) })
            }
            (Self::Unchanged { .. }, _) if !unused => {
                Ok(Deployed::Failed { problem: not_served(certificate, version, host, false, &seen) })
            }
            _ => {
                let lines = lines(host, &certificate);
                let error = NotInstalled::Unused {
                    certificate,
                    host: name.clone(),
                    directory: host.directory.clone(),
                    lines,
                    seen: Seen::of(&seen),
                };
                Ok(Deployed::Pending { problem: Problem::of(&error) })
            }
        }
    }
}

/// What the configuration of a host's web server has to say to use a certificate.
fn lines(host: &Host, certificate: &CertName) -> String {
    let at = format!("{}/{certificate}", host.directory.trim_end_matches('/'));
    match (host.layout, host.files.as_slice()) {
        (Layout::Include, _) => format!("include {at}.conf;"),
        (Layout::Directory, []) => {
            format!("ssl_certificate {at}/fullchain.pem; ssl_certificate_key {at}/privkey.pem;")
        }
        (Layout::Directory, [file, ..]) => format!("{at}/{}", file.name),
    }
}

#[cfg(test)]
mod tests;
