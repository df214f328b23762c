//! What a transaction did, and what follows from that and from a look from outside.

use super::protocol::{Malformed, Record};
use super::{Bundle, Deployed, NotProven, Proof, PutBack};
use crate::model::desired::Host;
use crate::model::name::CertName;
use crate::model::problem::{Blame, Diagnose, Problem};

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
    pub fn of(records: &[Record], bundles: &[Bundle]) -> Result<Self, Malformed> {
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
            let name = bundle.certificate.as_str();
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
    /// The config test fails without us; nothing that is used was changed, nothing reloaded.
    HostBroken {
        /// What the test said.
        output: String,
    },
}

/// Why a certificate was not installed on a host, although the host could be talked to.
#[derive(Debug, thiserror::Error)]
pub enum NotInstalled {
    /// The config test failed with it.
    #[error(
        "cannot deploy `{certificate}` version {version} to `{host}`: its configuration does not work with it"
    )]
    TestFailed {
        /// The certificate.
        certificate: CertName,
        /// Its version's number.
        version: u32,
        /// The host's name.
        host: String,
        /// What the test said.
        #[source]
        said: Said,
    },
    /// The reload failed with it.
    #[error("cannot deploy `{certificate}` version {version} to `{host}`: the reload failed")]
    ReloadFailed {
        /// The certificate.
        certificate: CertName,
        /// Its version's number.
        version: u32,
        /// The host's name.
        host: String,
        /// What the reload said.
        #[source]
        said: Said,
    },
    /// The host cannot take this one.
    #[error("cannot deploy `{certificate}` version {version} to `{host}`: {reason}")]
    Refused {
        /// The certificate.
        certificate: CertName,
        /// Its version's number.
        version: u32,
        /// The host's name.
        host: String,
        /// Why; safe to show.
        reason: String,
    },
    /// The host's configuration was broken before.
    #[error(
        "cannot deploy `{certificate}` to `{host}`: its configuration was broken before, nothing was changed"
    )]
    HostBroken {
        /// The certificate.
        certificate: CertName,
        /// The host's name.
        host: String,
        /// What the test said.
        #[source]
        said: Said,
    },
    /// Another certificate is served in its place.
    #[error("`{host}` does not serve `{certificate}` version {version}{}", if *put_back { ", the version before is back" } else { "" })]
    NotServed {
        /// The certificate.
        certificate: CertName,
        /// Its version's number.
        version: u32,
        /// The host's name.
        host: String,
        /// Whether the version before is back in place.
        put_back: bool,
        /// What was seen, and what could not be done about it.
        #[source]
        seen: Seen,
    },
    /// Nothing serves it so far.
    #[error("nothing on `{host}` uses {directory}/{certificate} yet")]
    Unused {
        /// The certificate.
        certificate: CertName,
        /// The host's name.
        host: String,
        /// The host's `directory`.
        directory: String,
        /// What was seen.
        #[source]
        seen: Seen,
    },
    /// The web server does not run.
    #[error("`{certificate}` is installed on `{host}`, but no web server runs there")]
    NothingRuns {
        /// The certificate.
        certificate: CertName,
        /// The host's name.
        host: String,
        /// What the reload said.
        #[source]
        said: Said,
    },
}

/// A command of a host, and what it said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{command}` on `{host}` failed: {}", if output.is_empty() { "it said nothing" } else { output.as_str() })]
pub struct Said {
    host: String,
    command: String,
    output: String,
}

/// What was seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Seen(String);

impl Diagnose for NotInstalled {
    fn code(&self) -> &'static str {
        match self {
            Self::TestFailed { .. } => "deploy.config-test",
            Self::ReloadFailed { .. } => "deploy.reload",
            Self::Refused { .. } => "deploy.refused",
            Self::HostBroken { .. } => "deploy.host-broken",
            Self::NotServed { .. } => "deploy.not-served",
            Self::Unused { .. } => "deploy.unused",
            Self::NothingRuns { .. } => "deploy.not-running",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Host
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TestFailed { said, .. } => format!(
                "the version before is back in place and passes `{}`; see what it says of the new one",
                said.command
            ),
            Self::HostBroken { said, .. } => format!("mend it on the host until `{}` passes", said.command),
            Self::ReloadFailed { said, .. } => {
                format!("the version before is back in place; run `{}` on the host", said.command)
            }
            Self::NotServed { host, .. } => format!(
                "look which server block answers there; if it is another machine's, set `verify` in [host.{host}]"
            ),
            Self::Unused { certificate, directory, .. } => format!(
                "name it in the web server's configuration: ssl_certificate {directory}/{certificate}/fullchain.pem; \
                 ssl_certificate_key {directory}/{certificate}/privkey.pem;"
            ),
            Self::NothingRuns { .. } => "start it; it will find the new certificate".to_owned(),
            Self::Refused { .. } => return None,
        })
    }
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
        Deployed::RolledBack { problem: self.not_served(host, true, self.seen.one_line()) }
    }

    /// The version before could not be put back.
    pub(super) fn left(self, host: &Host, why: &str) -> Deployed {
        let seen = format!("{}; it could not be put back: {why}", self.seen.one_line());
        Deployed::Failed { problem: self.not_served(host, false, seen) }
    }

    fn not_served(&self, host: &Host, put_back: bool, seen: String) -> Problem {
        Problem::of(&NotInstalled::NotServed {
            certificate: self.put_back.certificate.clone(),
            version: self.version,
            host: host.name.to_string(),
            put_back,
            seen: Seen(seen),
        })
    }
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
                let seen = Seen(seen.one_line());
                let error = NotInstalled::NotServed {
                    certificate,
                    version,
                    host: name.clone(),
                    put_back: false,
                    seen,
                };
                Ok(Deployed::Failed { problem: Problem::of(&error) })
            }
            _ => {
                let error = NotInstalled::Unused {
                    certificate,
                    host: name.clone(),
                    directory: host.directory.clone(),
                    seen: Seen(seen.one_line()),
                };
                Ok(Deployed::Pending { problem: Problem::of(&error) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::{Fingerprint, VersionNumber};
    use crate::model::problem::Retry;
    use std::time::Duration;

    fn host() -> Host {
        Host {
            name: "edge".parse().unwrap(),
            address: "edge".to_owned(),
            port: 22,
            user: "root".to_owned(),
            identity: None,
            host_key: Vec::new(),
            known_hosts: Vec::new(),
            directory: "/live".to_owned(),
            test: "nginx -t".to_owned(),
            reload: "systemctl reload nginx".to_owned(),
            verify: Vec::new(),
        }
    }

    fn bundle() -> Bundle {
        Bundle {
            certificate: "a.org".parse().unwrap(),
            version: VersionNumber(2),
            fingerprint: Fingerprint([0; 32]),
            privkey: String::new().into(),
            fullchain: String::new(),
            cert: String::new(),
            chain: String::new(),
        }
    }

    fn seen() -> Box<Problem> {
        Box::new(Problem {
            code: "probe".to_owned(),
            blame: Blame::Host,
            retry: Retry::Backoff,
            message: "it serves another".to_owned(),
            causes: Vec::new(),
            hint: None,
        })
    }

    #[test]
    fn what_follows_from_a_look() {
        let installed = || "2-00000000".to_owned();
        let first = Outcome::Installed { installed: installed() };
        let switched = Outcome::Switched { installed: installed(), previous: "1-ffffffff".to_owned() };
        let unchanged = Outcome::Unchanged { installed: installed() };
        let (done, idle) = (Reload::Done, Reload::NothingRuns { output: String::new() });
        let failed = Reload::Failed { output: "no".to_owned() };
        let other = || Err(NotProven::Other(seen()));
        let unused = || Err(NotProven::Unused(seen()));
        let silent = || Err(NotProven::Unreachable(seen()));
        let served = || Ok(Proof { addresses: Vec::new(), after: Duration::ZERO });
        for (outcome, reload, look, expected) in [
            (&first, &done, served(), "served"),
            (&switched, &idle, served(), "served"),
            (&first, &done, other(), "pending deploy.unused"),
            (&first, &done, unused(), "pending deploy.unused"),
            (&first, &done, silent(), "pending deploy.unused"),
            (&first, &idle, silent(), "pending deploy.not-running"),
            (&first, &failed, other(), "failed deploy.reload"),
            (&switched, &done, other(), "put back"),
            (&switched, &done, silent(), "put back"),
            (&switched, &done, unused(), "pending deploy.unused"),
            (&switched, &idle, silent(), "pending deploy.not-running"),
            (&switched, &idle, unused(), "pending deploy.not-running"),
            // It does run, whatever the reload said.
            (&switched, &idle, other(), "put back"),
            (&unchanged, &done, other(), "failed deploy.not-served"),
            (&unchanged, &done, silent(), "failed deploy.not-served"),
            (&unchanged, &done, unused(), "pending deploy.unused"),
            (&unchanged, &failed, other(), "failed deploy.reload"),
        ] {
            let what = format!("{outcome:?} {reload:?} {look:?}");
            let judged = match outcome.judge(&host(), &bundle(), reload, look) {
                Ok(Deployed::Served { .. }) => "served".to_owned(),
                Ok(Deployed::Pending { problem }) => format!("pending {}", problem.code),
                Ok(Deployed::RolledBack { problem }) => format!("rolled back {}", problem.code),
                Ok(Deployed::Failed { problem }) => format!("failed {}", problem.code),
                Err(doubt) => {
                    assert_eq!(doubt.put_back.previous, "1-ffffffff");
                    "put back".to_owned()
                }
            };
            assert_eq!(judged, expected, "{what}");
        }
    }

    #[test]
    fn every_bundle_has_exactly_one_record_and_versions_are_words() {
        let record = |word: &str, name: &str, version: &str| Record {
            word: word.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
            old: "-".to_owned(),
            text: String::new(),
        };
        let of = |records: &[Record]| Answer::of(records, &[bundle()]);
        let good = record("installed", "a.org", "2-00000000");
        assert!(of(std::slice::from_ref(&good)).is_ok());
        assert_eq!(of(&[]), Err(Malformed::Count("a.org".to_owned())));
        assert_eq!(of(&[good.clone(), good]), Err(Malformed::Count("a.org".to_owned())));
        assert!(of(&[record("installed", "b.org", "2-00000000")]).is_err());
        assert!(of(&[record("switched", "a.org", "../../etc")]).is_err());
        assert!(of(&[record("improved", "a.org", "2-00000000")]).is_err());
    }
}
