//! What lies on a host where we installed something, next to what we installed. Changes nothing.

use std::collections::BTreeMap;

use super::Bundle;
use super::error::InstallError;
use super::payload::hex_sum;
use super::protocol::{Conversation, Malformed, Place, Question};
use super::ssh::Session;
use crate::model::desired::{Host, KeyAccess, Layout, Part};
use crate::model::name::CertName;
use crate::model::problem::plain;

/// The files of one certificate as they were installed: by their sums, no key is kept.
pub struct Installed {
    certificate: CertName,
    /// Name and SHA-256 of each, and what is in it.
    files: Vec<(String, String, Vec<Part>)>,
}

/// How a certificate lies on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// As it was installed.
    Same,
    /// With other owners or modes: which, safe to show.
    Open(String),
    /// Files are missing or changed: which, safe to show; and the PEM of one that has a certificate in it, hostile.
    Changed(String, Option<String>),
}

impl Installed {
    /// What a host has of a bundle.
    pub fn of(host: &Host, bundle: &Bundle) -> Self {
        let usual = Part::ALL.map(|part| (format!("{}.pem", part.word()), vec![part]));
        let made = host.files.iter().map(|file| (file.name.clone(), file.parts.clone()));
        let files = usual.into_iter().chain(made);
        let files = files.map(|(name, parts)| (name, hex_sum(bundle, &parts), parts));
        Self { certificate: bundle.certificate.clone(), files: files.collect() }
    }
}

/// What a host says of its disk. Hostile.
#[derive(Default)]
struct Disk {
    /// The user that we are there, by number.
    me: String,
    /// SHA-256 of each file, by its path in the host's `directory`.
    sums: BTreeMap<String, String>,
    /// By path: mode, owner and group, as numbers and as names.
    modes: BTreeMap<String, Mode>,
    /// The versions that the files `NAME.conf` name.
    confs: BTreeMap<String, String>,
}

#[derive(Default)]
struct Mode {
    mode: String,
    owner: [String; 2],
    group: [String; 2],
}

impl Session {
    /// How these lie on the host, in the same order.
    pub async fn compare(&self, host: &Host, installed: &[Installed]) -> Result<Vec<Compared>, InstallError> {
        let names: Vec<&CertName> = installed.iter().map(|one| &one.certificate).collect();
        let records = self.ask(host, Conversation::examine(host, &Question::Installed(&names))?).await?;
        let mut disk = Disk::default();
        for record in records {
            match record.word.as_str() {
                "me" => disk.me = record.detail,
                "sums" => disk.sums = sums(&record.text),
                "numbers" => disk.take_modes(&record.text, 0),
                "names" => disk.take_modes(&record.text, 1),
                "conf" => drop(disk.confs.insert(record.text, record.detail)),
                word => return Err(InstallError::malformed(host, Malformed::Word(plain(word)))),
            }
        }
        let mut compared = Vec::new();
        for one in installed {
            compared.push(match disk.changed(host, one) {
                Some((what, readable)) => {
                    Compared::Changed(what, self.certificate_in(host, &one.certificate, &readable).await?)
                }
                None => disk.open(host, one).map_or(Compared::Same, Compared::Open),
            });
        }
        Ok(compared)
    }

    /// The PEM of the first of these files that has a certificate in it.
    async fn certificate_in(
        &self,
        host: &Host,
        name: &CertName,
        files: &[&str],
    ) -> Result<Option<String>, InstallError> {
        let path = |file: &&str| (Place::File, format!("{}/{name}/{file}", host.directory));
        let places: Vec<(Place, String)> = files.iter().map(path).collect();
        if places.is_empty() {
            return Ok(None);
        }
        let found = self.inventory(host, &places).await?;
        Ok(found.certificates.into_iter().next().map(|(_, pem)| pem))
    }
}

impl Disk {
    fn take_modes(&mut self, listing: &str, kind: usize) {
        for line in listing.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [mode, _, owner, group, .., path] = words[..] else { continue };
            let known = self.modes.entry(path.to_owned()).or_default();
            // Behind it may be a mark for what modes do not tell.
            known.mode = mode.chars().take(10).collect();
            (known.owner[kind], known.group[kind]) = (owner.to_owned(), group.to_owned());
        }
    }

    /// Which files are missing or changed, and which of the changed ones may have a certificate in them.
    fn changed<'a>(&self, host: &Host, one: &'a Installed) -> Option<(String, Vec<&'a str>)> {
        let name = &one.certificate;
        let (mut missing, mut changed, mut readable) = (Vec::new(), Vec::new(), Vec::new());
        for (file, sum, parts) in &one.files {
            match self.sums.get(&format!("{name}/{file}")) {
                None => missing.push(file.clone()),
                Some(found) if found == sum => {}
                Some(_) => {
                    changed.push(file.clone());
                    // What has a key in it as well is not asked for: only what is public leaves the host.
                    if parts.iter().any(|part| matches!(part, Part::Cert | Part::Fullchain)) {
                        readable.push(file.as_str());
                    }
                }
            }
        }
        if host.layout == Layout::Include && !self.is_included(one) {
            match self.confs.contains_key(name.as_str()) {
                true => changed.push(format!("{name}.conf")),
                false => missing.push(format!("{name}.conf")),
            }
        }
        let what = match (missing.len() >= one.files.len(), missing.is_empty(), changed.is_empty()) {
            (true, ..) => "nothing is left of it".to_owned(),
            (_, true, true) => return None,
            (_, false, true) => format!("{} missing", are(&missing)),
            (_, true, false) => format!("{} not as installed", are(&changed)),
            (_, false, false) => {
                format!("{} missing and {} not as installed", are(&missing), are(&changed))
            }
        };
        Some((what, readable))
    }

    /// Whether what `NAME.conf` names is what was installed.
    fn is_included(&self, one: &Installed) -> bool {
        let name = &one.certificate;
        let Some(version) = self.confs.get(name.as_str()) else { return false };
        let named = one.files.iter().filter(|(file, ..)| file == "privkey.pem" || file == "fullchain.pem");
        named.fold(true, |all, (file, sum, _)| {
            all && self.sums.get(&format!(".certfleet/{name}/{version}/{file}")) == Some(sum)
        })
    }

    /// Who can do with keys what they should not; or who cannot read them and should.
    fn open(&self, host: &Host, one: &Installed) -> Option<String> {
        let KeyAccess { owner, group, mode } = &host.access;
        let name = &one.certificate;
        let of_key = |parts: &[Part]| parts.contains(&Part::Privkey);
        let keys = one.files.iter().filter(|(_, _, parts)| of_key(parts));
        let keys = keys.map(|(file, ..)| (format!("{name}/{file}"), file.clone(), *mode));
        let folder = host.access.directory_mode();
        let folders = [format!(".certfleet/{name}"), format!(".certfleet/{name}/current/.")];
        let folders = folders.into_iter().map(|path| (path.clone(), format!("folder of {name}"), folder));
        let mut wrong = Vec::new();
        for (number, (path, shown, wanted)) in keys.chain(folders).enumerate() {
            let Some(found) = self.modes.get(&path) else { continue };
            let wanted = rights(wanted);
            if found.mode.get(1..) != Some(wanted.as_str()) {
                wrong.push(format!("{shown} has mode {}, not {wanted}", found.mode.get(1..).unwrap_or("-")));
            }
            let is_key = number < one.files.iter().filter(|(_, _, parts)| of_key(parts)).count();
            let is_owner = match owner {
                Some(owner) => found.owner.contains(owner),
                None => found.owner[0] == self.me || found.owner[0] == "0",
            };
            if is_key && !is_owner {
                wrong.push(format!("{shown} belongs to {}", found.owner[1]));
            }
            if group.as_ref().is_some_and(|group| !found.group.contains(group)) {
                wrong.push(format!("{shown} has the group {}", found.group[1]));
            }
        }
        wrong.dedup();
        (!wrong.is_empty()).then(|| plain(&wrong.join(", ")))
    }
}

fn sums(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let (sum, path) = line.split_once(' ')?;
        Some((path.trim_start_matches([' ', '*']).to_owned(), sum.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// A few names, and the verb.
fn are(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

/// `rw-r-----`.
fn rights(mode: u32) -> String {
    let bits = [(0o400, 'r'), (0o200, 'w'), (0o100, 'x'), (0o40, 'r'), (0o20, 'w'), (0o10, 'x')];
    let others = [(0o4, 'r'), (0o2, 'w'), (0o1, 'x')];
    bits.iter().chain(&others).map(|(bit, letter)| if mode & bit == 0 { '-' } else { *letter }).collect()
}
