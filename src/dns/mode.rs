//! The two modes of lego's `exec` and `httpreq`: the record that is wanted, or what it is made from.

use crate::kind::{Refusal, Section};
use crate::model::state::Proof;

use super::TxtRecord;

/// What a helper program or service is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    /// The name and the value of the TXT record.
    #[default]
    Default,
    /// The domain, the token and the key authorization; the other side makes the record of them.
    Raw,
}

/// A record of which it is not known any more what its value was made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{account}` is in raw mode, and what the record was made from is not known")]
pub struct NoProof {
    /// The account.
    pub account: String,
}

impl Mode {
    /// Reads `mode` of an account.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let mode = section.parsed("mode", "\"raw\"", |text| match text.to_ascii_lowercase().as_str() {
            "default" => Ok(Self::Default),
            "raw" => Ok(Self::Raw),
            _ => Err(Refusal::new(
                "it is not known",
                "\"default\" (name and value of the record) or \"raw\" (domain, token and key authorization)",
            )),
        });
        Some(mode.unwrap_or_default())
    }
}

/// What a record was made from: it has been noted with every record since raw mode is there.
pub(super) fn proof<'a>(record: &'a TxtRecord, account: &str) -> Result<&'a Proof, NoProof> {
    record.proof.as_ref().ok_or_else(|| NoProof { account: account.to_owned() })
}
