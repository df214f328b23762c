//! Asking for certbot's lineages: the one conversation whose answer has private keys in it.

use zeroize::Zeroizing;

use super::{Conversation, EXAMINE_LIMIT, NoRandomness};
use crate::model::desired::Host;
use crate::model::name::CertName;

/// What sends them.
const LINEAGES: &str = include_str!("../lineages.sh");
/// The actions: without, and with accounts.
const ACTIONS: [&str; 2] = ["lineages", "lineages-and-accounts"];

impl Conversation {
    /// What certbot has in the folder `root`; of private keys those of these certificates only.
    pub(in crate::deploy) fn lineages(
        host: &Host,
        root: &str,
        keys: &[&CertName],
        accounts: bool,
    ) -> Result<Self, NoRandomness> {
        let this = Self::with(LINEAGES, host, ACTIONS[usize::from(accounts)], keys.len())?;
        Ok(this.about(root, keys))
    }

    /// The same as root begins it for somebody else, who has no say in where to look; `None` if it is not that which
    /// is asked for.
    pub(in crate::deploy) fn lineages_by_root(
        host: &Host,
        root: &str,
        keys: &[&CertName],
        action: &str,
        nonce: &str,
    ) -> Option<Self> {
        let action = ACTIONS.into_iter().find(|known| *known == action)?;
        Some(Self::assemble(LINEAGES, host, action, keys.len(), nonce.to_owned()).about(root, keys))
    }

    fn about(mut self, root: &str, keys: &[&CertName]) -> Self {
        self.input.extend_from_slice(format!("{root}\n").as_bytes());
        for name in keys {
            self.input.extend_from_slice(format!("{name}\n").as_bytes());
        }
        // All of it at once: a buffer that grows leaves copies of keys behind.
        let output = Zeroizing::new(Vec::with_capacity(EXAMINE_LIMIT));
        Self { limit: EXAMINE_LIMIT, secret: true, output, ..self }
    }
}
