//! The reasons in words, for people.

use std::fmt;

use jiff::Timestamp;

use super::{Because, Lacks, Rule, Waiting};

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is none yet"),
            Self::DomainsChanged => f.write_str("its domains changed in certs.toml"),
            Self::KeyChanged => f.write_str("its key type changed in certs.toml"),
            Self::IssuerChanged => f.write_str("its issuer changed in certs.toml"),
            Self::Revoked(at) => write!(f, "it was revoked on {}", minute(*at)),
            Self::Due(at, rule) => write!(f, "due since {} ({rule})", minute(*at)),
            Self::Unfinished => f.write_str("an earlier run was cut off"),
            Self::Forced => f.write_str("you asked (--force)"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ari(None) => f.write_str("the CA's renewal window"),
            Self::Ari(Some(page)) => write!(f, "the CA's renewal window, see {page}"),
            Self::Lifetime => f.write_str("share of its life left"),
            Self::RenewBefore => f.write_str("renew-before"),
        }
    }
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("not installed there yet"),
            Self::Older(version) => write!(f, "version {version} is installed there"),
            Self::Serves(fingerprint, until) => {
                write!(f, "it serves {}… until {}", fingerprint.short(), minute(*until))
            }
            Self::Expired(fingerprint, end) => {
                write!(f, "what it serves, {}…, expired on {}", fingerprint.short(), minute(*end))
            }
            Self::Distrusted(fingerprint, why) => {
                write!(f, "what it serves, {}…, is not trusted ({why})", fingerprint.short())
            }
            Self::Silent => f.write_str("nothing answers there"),
            Self::OnDisk(what) => write!(f, "on its disk {what}"),
            Self::Unfinished => f.write_str("it is served, but how its transaction ended is not known"),
            Self::Forced => f.write_str("you asked (--force)"),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDue(name, until, rule) => {
                write!(f, "{name}: not due, renews {} ({rule})", minute(*until))
            }
            Self::Backoff(name, until, count, problem) => write!(
                f,
                "{name}: tried {count} {}, next attempt {}: {}",
                if *count == 1 { "time" } else { "times" },
                minute(*until),
                problem.one_line()
            ),
            Self::NeedsChange(name, problem) => {
                write!(
                    f,
                    "{name}: not tried again until certs.toml changes (or --force): {}",
                    problem.one_line()
                )
            }
            Self::DuplicateLimit(name, count, until) => write!(
                f,
                "{name}: the CA has issued {count} certificates for these names this week and would refuse until {}; \
                 `certfleet deploy {name}` pushes the newest again",
                minute(*until)
            ),
            Self::Foreign(name, host, fingerprint, until) => write!(
                f,
                "{name} on {host}: serves {}…, a valid certificate that is not ours, until {}; \
                 `certfleet deploy {name} --host {host} --force` replaces it",
                fingerprint.short(),
                minute(*until)
            ),
            Self::ForeignOnDisk(name, host, fingerprint, until) => write!(
                f,
                "{name} on {host}: on its disk is {}…, a valid certificate that is not ours, until {}; ours is served \
                 until the server starts anew; `certfleet deploy {name} --host {host} --force` replaces it",
                fingerprint.short(),
                minute(*until)
            ),
            Self::Downgrade(name, host, why) => {
                write!(
                    f,
                    "{name} on {host}: kept, it has a trusted certificate and ours would not be ({why}); --allow-downgrade replaces it"
                )
            }
            Self::Canary(name, host, canary) => {
                write!(f, "{name} on {host}: waits for the canary {canary} to serve the newest version")
            }
            Self::Batch(name, host, most) => write!(
                f,
                "{name} on {host}: waits for its turn in the roll-out, {most} {} at once",
                if *most == 1 { "host" } else { "hosts" }
            ),
            Self::Stopped(name, host, stop) => write!(
                f,
                "{name} on {host}: the roll-out is stopped, {} failed on {}: {}; it is tried there again, and goes \
                 on once it works; `certfleet deploy {name} --force` goes on at once",
                stop.at,
                minute(stop.when),
                stop.problem.one_line()
            ),
            Self::Narrower(name, host) => {
                write!(f, "{name} on {host}: waits for a version with all domains of certs.toml")
            }
            Self::Pending(name, host) => write!(f, "{name} on {host}: installed, nothing there uses it yet"),
            Self::Unreachable(name, host, address) => {
                write!(f, "{name} on {host}: installed and served, but {address} does not answer")
            }
            Self::NothingToDeploy(name, None) => {
                write!(f, "{name}: nothing in the store to deploy yet; `certfleet renew {name}` issues it")
            }
            Self::NothingToDeploy(name, Some(end)) => write!(
                f,
                "{name}: not deployed, the newest version expired on {}; `certfleet renew {name}` issues a new one",
                minute(*end)
            ),
            Self::Revoked(name, at) => write!(
                f,
                "{name}: not deployed, the newest version was revoked on {}; `certfleet renew {name}` issues a new one",
                minute(*at)
            ),
            Self::NotYetValid(name, from) => {
                write!(f, "{name}: the newest version is valid from {}", minute(*from))
            }
            Self::Unreadable(name, None, problem) => {
                write!(f, "{name}: nothing is done for it: {}", problem.one_line())
            }
            Self::Unreadable(name, Some(host), problem) => {
                write!(f, "{name} on {host}: nothing is deployed there: {}", problem.one_line())
            }
            Self::Stranded(name, dns, count) => {
                write!(
                    f,
                    "{name}: {} left, and the account [dns.{dns}] that set them is not in certs.toml",
                    records(*count)
                )
            }
        }
    }
}

/// A moment for people: to the minute, UTC.
pub fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn records(count: usize) -> String {
    format!("{count} challenge {}", if count == 1 { "record" } else { "records" })
}
