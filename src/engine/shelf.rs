//! What is to be installed, taken from the store once for all hosts that it goes to at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use super::{Engine, lock};
use crate::deploy::Bundle;
use crate::model::name::{CertName, VersionNumber};
use crate::model::problem::{Blame, Diagnose};
use crate::store::LoadError;

/// The bundles that some host is being brought, by certificate, version, and whether by force. Nobody else keeps them:
/// keys are in memory for as long as they are needed.
#[derive(Default)]
pub(super) struct Shelf(Mutex<HashMap<(CertName, VersionNumber, bool), Weak<Bundle>>>);

impl Shelf {
    /// Forgets what has been there.
    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}

/// A version cannot be taken from the store.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotInStore {
    #[error("cannot read version {1} of `{0}` from the store")]
    Unreadable(CertName, VersionNumber, #[source] LoadError),
    #[error("version {1} of `{0}` is no longer in the store")]
    Gone(CertName, VersionNumber),
}

impl Diagnose for NotInStore {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_, _, source) => source.code(),
            Self::Gone(..) => "store.version-gone",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable(_, _, source) => source.hint(),
            Self::Gone(name, _) => Some(format!("run `certfleet deploy {name}` for the newest one")),
        }
    }
}

impl Engine {
    /// A version to be installed. Blocks.
    pub(super) fn bundle(
        &self,
        name: &CertName,
        version: VersionNumber,
        force: bool,
    ) -> Result<Arc<Bundle>, NotInStore> {
        // Held while it is read: who wants the same waits for it, and has it then.
        let mut shelf = lock(&self.shelf.0);
        let place = shelf.entry((name.clone(), version, force)).or_default();
        if let Some(bundle) = place.upgrade() {
            return Ok(bundle);
        }
        let bundle = Arc::new(self.read_bundle(name, version, force)?);
        *place = Arc::downgrade(&bundle);
        Ok(bundle)
    }

    fn read_bundle(
        &self,
        name: &CertName,
        version: VersionNumber,
        force: bool,
    ) -> Result<Bundle, NotInStore> {
        let name = name.clone();
        let unreadable = |source| NotInStore::Unreadable(name.clone(), version, source);
        let files = self.store.version(&name, version).map_err(unreadable)?;
        let known = self.store.certificate(&name).map_err(unreadable)?;
        let Some(fingerprint) = known.versions.get(&version).map(|version| version.fingerprint) else {
            return Err(NotInStore::Gone(name, version));
        };
        Ok(Bundle {
            certificate: name,
            version,
            fingerprint,
            force,
            privkey: files.privkey,
            cert: files.cert,
            chain: files.chain,
        })
    }
}
