//! Looking at a host from inside: whether a deployment would work there. Changes nothing.

use super::error::InstallError;
use super::protocol::{Conversation, Malformed, Place, Question};
use super::receiver::Installed;
use super::ssh::Session;
use crate::model::desired::Host;
use crate::model::problem::plain;

/// What a look at a host found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// What the config test said when it failed; `None` = it passed. Safe to show.
    pub broken: Option<String>,
    /// The programs that a transaction needs and that are missing.
    pub missing: Vec<String>,
    /// Where we may not write, if that is so: the host's `directory`, or the nearest that is there above it.
    pub closed: Option<String>,
    /// What is installed there, on a host with a receiver that says so.
    pub installed: Option<Installed>,
}

impl Session {
    /// Runs the host's config test and sees whether a transaction would find what it needs.
    pub async fn check(&self, host: &Host) -> Result<Tested, InstallError> {
        let records = self.ask(host, Conversation::examine(host, &Question::Check)?).await?;
        let mut tested = Tested { broken: None, missing: Vec::new(), closed: None, installed: None };
        let mut said = false;
        for record in records {
            match (record.word.as_str(), record.detail.as_str()) {
                ("test", "passed") => said = true,
                ("test", "failed") => {
                    said = true;
                    tested.broken = Some(plain(&record.text));
                }
                ("directory", "writable") => {}
                ("directory", "closed") => tested.closed = Some(plain(&record.text)),
                ("program", sum) => {
                    tested.installed.get_or_insert_default().program = sum.to_owned();
                }
                ("conf", _) => {
                    let installed = tested.installed.get_or_insert_default();
                    let (conf, says) = record.text.split_once('\n').unwrap_or((&record.text, ""));
                    (installed.conf, installed.says) = (plain(conf), says.to_owned());
                }
                ("missing", tool) => tested.missing.push(tool.to_owned()),
                (word, _) => return Err(InstallError::malformed(host, Malformed::Word(word.to_owned()))),
            }
        }
        match said {
            true => Ok(tested),
            false => Err(InstallError::malformed(host, Malformed::Count("test".to_owned()))),
        }
    }
}

/// The configuration of a host's nginx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NginxConfig {
    /// There is no nginx.
    None,
    /// nginx cannot load it; what it said, safe to show.
    Broken(String),
    /// What `nginx -T` prints. Hostile.
    Text(String),
}

/// The certificates and keys of some places on a host. All texts are hostile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Files with certificates: path and PEM.
    pub certificates: Vec<(String, String)>,
    /// Files with private keys: path, and SHA-256 (hex) of the public half's DER; `None` = it cannot be read.
    pub keys: Vec<(String, Option<String>)>,
    /// Places that were named and hold no file that could be read.
    pub unreadable: Vec<String>,
    /// Whether there was more than an answer may have.
    pub cut: bool,
}

impl Session {
    /// What nginx there is configured to do.
    pub async fn nginx_config(&self, host: &Host) -> Result<NginxConfig, InstallError> {
        let records = self.ask(host, Conversation::examine(host, &Question::Config)?).await?;
        let missing = || InstallError::malformed(host, Malformed::Count("config".to_owned()));
        let record = records.into_iter().next().ok_or_else(missing)?;
        match record.word.as_str() {
            "none" => Ok(NginxConfig::None),
            "broken" => Ok(NginxConfig::Broken(plain(&record.text))),
            "config" => Ok(NginxConfig::Text(record.text)),
            word => Err(InstallError::malformed(host, Malformed::Word(word.to_owned()))),
        }
    }

    /// The certificates in these places; of private keys only the hash of the public half.
    pub async fn inventory(
        &self,
        host: &Host,
        places: &[(Place, String)],
    ) -> Result<Inventory, InstallError> {
        let records = self.ask(host, Conversation::examine(host, &Question::Read(places))?).await?;
        let mut found = Inventory::default();
        let mut path = String::new();
        for record in records {
            match record.word.as_str() {
                "path" => path = record.text,
                "certificate" => found.certificates.push((path.clone(), record.text)),
                "key" => {
                    let known = record.detail.len() == 64;
                    found.keys.push((path.clone(), known.then_some(record.detail)));
                }
                "absent" | "odd" | "closed" => found.unreadable.push(record.text),
                "more" => found.cut = true,
                word => return Err(InstallError::malformed(host, Malformed::Word(word.to_owned()))),
            }
        }
        Ok(found)
    }
}
