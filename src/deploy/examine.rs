//! Looking at a host from inside: whether a deployment would work there. Changes nothing.

use super::error::InstallError;
use super::protocol::{Conversation, Malformed, Question};
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
}

impl Session {
    /// Runs the host's config test and sees whether a transaction would find what it needs.
    pub async fn check(&self, host: &Host) -> Result<Tested, InstallError> {
        let records = self.ask(host, Conversation::examine(host, &Question::Check)?).await?;
        let mut tested = Tested { broken: None, missing: Vec::new(), closed: None };
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
