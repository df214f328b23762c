//! What is installed on a host beside what would be installed there now.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::{PROGRAM, Roots, conf_of, roots_of, script};
use crate::model::desired::{Desired, Host};
use crate::model::problem::plain;

/// What a receiver says of itself. All texts are hostile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// The SHA-256 of the program, in hex.
    pub program: String,
    /// Where its configuration is.
    pub conf: String,
    /// What that says, in lines as [`conf`](super::conf) writes them, without comments.
    pub says: String,
}

/// Where what is there differs from what certs.toml asks for. Safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Whether deploying fails because of it.
    pub stops: bool,
    /// What is so there.
    pub what: String,
    /// Which line to change, and how.
    pub remedy: String,
}

/// Whether the program there is the one that we would install.
pub fn is_ours(installed: &Installed) -> bool {
    let ours: String = Sha256::digest(script()).iter().map(|byte| format!("{byte:02x}")).collect();
    installed.program == ours
}

/// How to install the program of this edition.
pub fn install_again(host: &Host) -> String {
    format!(
        "here `certfleet host setup {} --script >certfleet-receive`, and there, as root, `install -o root -g root -m 0755 \
         certfleet-receive {PROGRAM}`",
        host.name
    )
}

/// The lines of its configuration that do not fit certs.toml.
pub fn differences(desired: &Desired, host: &Host, installed: &Installed) -> Vec<Difference> {
    let asked = conf_of(desired, host);
    let wanted = Conf::read(&asked);
    let there = Conf::read(&installed.says);
    let mut found = Vec::new();
    for key in wanted.settings.keys().chain(there.settings.keys()).collect::<BTreeSet<_>>() {
        let line = |of: &Conf<'_>| of.settings.get(key).map(|value| plain(&format!("{key} {value}")));
        let (wanted, there) = (line(&wanted), line(&there));
        if wanted == there || *key == "roots" {
            continue;
        }
        found.push(Difference {
            // Made of other parts, the files are not those whose checksums come with them.
            stops: *key == "files",
            what: match &there {
                Some(there) => format!("says `{there}`, which counts whatever certs.toml says"),
                None => format!("has no line `{key}`"),
            },
            remedy: match wanted {
                Some(wanted) => {
                    format!("make it `{wanted}` there, or change `{key}` in [host.{}]", host.name)
                }
                None => format!("remove that line there, or set `{key}` in [host.{}]", host.name),
            },
        });
    }
    found.extend(roots(desired, host, there.settings.get("roots").map_or("system", String::as_str)));
    for (name, domains) in &wanted.allowed {
        let line = || plain(&format!("allow {name} {}", listed(domains)));
        match there.allowed.get(name) {
            None => found.push(Difference {
                stops: true,
                what: format!("does not allow the certificate {name}"),
                remedy: format!("add the line `{}` there", line()),
            }),
            Some(allowed) if allowed != domains => {
                let lacking: BTreeSet<&str> = domains.difference(allowed).copied().collect();
                let surplus: BTreeSet<&str> = allowed.difference(domains).copied().collect();
                found.push(Difference {
                    stops: !lacking.is_empty(),
                    what: match lacking.is_empty() {
                        true => plain(&format!("allows {} for {name}, which it has not", listed(&surplus))),
                        false => plain(&format!("does not allow {} for {name}", listed(&lacking))),
                    },
                    remedy: format!("make its line `{}` there", line()),
                });
            }
            Some(_) => {}
        }
    }
    for name in there.allowed.keys().filter(|name| !wanted.allowed.contains_key(*name)) {
        let name = plain(name);
        found.push(Difference {
            stops: false,
            what: format!("allows the certificate {name}, which certs.toml does not bring there"),
            remedy: format!("remove the line `allow {name} …` there"),
        });
    }
    found
}

/// A file of roots, which only the host has, may hold those that are asked for.
fn roots(desired: &Desired, host: &Host, there: &str) -> Option<Difference> {
    let (what, remedy) = match (roots_of(desired, host), there) {
        (Roots::System, "any") => (
            "says `roots any`: it takes chains that nobody trusts",
            "make it `roots system` there: all issuers of its certificates are known to machines",
        ),
        (Roots::Any, "system") => (
            "says `roots system`, and not all issuers of its certificates are known to machines",
            "unless their roots are installed there, make it `roots FILE` with a PEM file of them",
        ),
        _ => return None,
    };
    Some(Difference { stops: false, what: what.to_owned(), remedy: remedy.to_owned() })
}

fn listed(domains: &BTreeSet<&str>) -> String {
    domains.iter().copied().collect::<Vec<_>>().join(" ")
}

/// A configuration, read as the receiver reads it.
#[derive(Default)]
struct Conf<'a> {
    settings: BTreeMap<&'a str, String>,
    allowed: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Conf<'a> {
    fn read(text: &'a str) -> Self {
        let mut conf = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            if key == "allow" {
                let mut words = value.split_whitespace();
                if let Some(name) = words.next() {
                    // The first line of a name is the one that counts.
                    conf.allowed.entry(name).or_insert_with(|| words.collect());
                }
            } else {
                conf.settings.insert(key, value.trim().to_owned());
            }
        }
        conf
    }
}
