//! What certfleet remembers: files in one folder, each written whole.
//!
//! ```text
//! format                                    what this folder is
//! lock, daemon.lock                         kernel locks
//! accounts/ISSUER-<directory>.json          credentials at a CA
//! certificates/NAME/state.json              facts of a certificate
//! certificates/NAME/order.key               the key of the open order
//! certificates/NAME/versions/N/*.pem        key and chain of a version
//! hosts/HOST.json                           what we did on a host
//! txt/<debt>.json                           TXT records to be removed
//! observed.json                             what the last pass saw: a cache
//! passes.json                               when the last passes ended
//! config-refused.json                       why the daemon goes on with an old certs.toml
//! history.jsonl, history.1.jsonl …         the audit log
//! alerts.json, alerts.lock                  what people were told, and are to be told
//! ssh/                                      the identity for hosts
//! ```
//!
//! Facts only: what follows from them is computed. What cannot be read is a problem of its own
//! certificate or host, never "nothing there". All calls block, most of them for a sync of the disk.

mod alerts;
mod document;
mod error;
mod facts;
mod files;
mod history;
mod locks;
mod open;
mod passes;
mod versions;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::model::name::{CertName, IssuerName};
use crate::model::state::CertState;
pub use alerts::AlertLock;
pub use error::{Damage, LoadError, LockError, Oddity, OpenError, SaveError};
pub use facts::Loaded;
use files::Survives;
pub use files::{Action, FileError};
pub use history::History;
pub use locks::{AccountLock, CertLock, DaemonLock, Holder};
pub use open::owner;
pub use versions::VersionFiles;

/// The store: cheap to clone, to be used from any thread.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    /// Device and inode of the folder that was opened.
    identity: (u64, u64),
    /// Threads of this process wait here, not in turns at the lock file.
    turn: Arc<Mutex<()>>,
}

impl Store {
    /// Opens the store, makes it if there is none, and tries whether the disk keeps what is written.
    ///
    /// Also removes what runs that died more than an hour ago have left unfinished.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        open::open(path)
    }

    /// Opens the store to read it: makes and writes nothing; `None` when there is no store yet.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, OpenError> {
        open::open_existing(path)
    }

    /// Reads everything, as it is at this moment.
    ///
    /// Fails only when there is nothing to read from; problems of single items are in the result.
    pub fn load(&self, now: Timestamp) -> Result<Loaded, LoadError> {
        facts::load(self, now)
    }

    /// The right to work on a certificate. Does not wait.
    ///
    /// What was read before having the lock may be old: read it again.
    pub fn lock_certificate(
        &self,
        name: &CertName,
        doing: &str,
        now: Timestamp,
    ) -> Result<CertLock, LockError> {
        self.check_same()?;
        let folder = self.certificate_folder(name);
        files::make_folder(&folder)?;
        files::make_folder(&folder.join("versions"))?;
        let lock = CertLock::take(name, &folder, doing, now)?;
        // Only who has the lock writes in here, so whatever is unfinished was left by the dead.
        files::sweep(&folder, std::time::Duration::ZERO);
        files::sweep(&folder.join("versions"), std::time::Duration::ZERO);
        Ok(lock)
    }

    /// The right to be the daemon of this store. Does not wait.
    pub fn lock_daemon(&self, doing: &str, now: Timestamp) -> Result<DaemonLock, LockError> {
        self.check_same()?;
        DaemonLock::take(&self.root, doing, now)
    }

    /// The right to register or change an account. Does not wait.
    pub fn lock_account(
        &self,
        issuer: &IssuerName,
        directory: &str,
        doing: &str,
        now: Timestamp,
    ) -> Result<AccountLock, LockError> {
        self.check_same()?;
        AccountLock::take(&self.account_path(issuer, directory).with_extension("lock"), doing, now)
    }

    /// The facts of one certificate; those of a new one if nothing is known.
    pub fn certificate(&self, name: &CertName) -> Result<CertState, LoadError> {
        let folder = self.certificate_folder(name);
        let path = folder.join("state.json");
        if let Some(bytes) = files::read(&path, DOCUMENT_LIMIT)? {
            return document::decode(&path, &bytes);
        }
        // A version is only ever stored when there is a state: it was here and has been lost.
        match versions::numbers(&folder)?.is_empty() {
            true => Ok(CertState::default()),
            false => Err(LoadError::Missing(path)),
        }
    }

    /// Stores the facts of a certificate.
    pub fn save_certificate(&self, lock: &CertLock, state: &CertState) -> Result<(), SaveError> {
        self.save(&lock.folder().join("state.json"), &document::encode(state))
    }

    /// Stores the private key (PKCS#8 PEM) of the order that is about to be made.
    pub fn save_order_key(&self, lock: &CertLock, pem: &str) -> Result<(), SaveError> {
        self.check_same()?;
        Ok(files::write(&lock.folder().join("order.key"), pem.as_bytes(), Survives::PowerCut)?)
    }

    /// The private key of the open order.
    pub fn order_key(&self, name: &CertName) -> Result<Option<Zeroizing<String>>, LoadError> {
        let path = self.certificate_folder(name).join("order.key");
        let Some(bytes) = files::read(&path, versions::PEM_LIMIT)? else { return Ok(None) };
        versions::key_text(&path, &bytes).map(Some)
    }

    /// Forgets the key of the open order: the order has ended.
    pub fn drop_order_key(&self, lock: &CertLock) -> Result<(), SaveError> {
        Ok(files::remove(&lock.folder().join("order.key"))?)
    }

    /// Our credentials at a CA, as they were saved.
    pub fn account(
        &self,
        issuer: &IssuerName,
        directory: &str,
    ) -> Result<Option<Zeroizing<String>>, LoadError> {
        let path = self.account_path(issuer, directory);
        let Some(bytes) = files::read(&path, DOCUMENT_LIMIT)? else { return Ok(None) };
        document::decode::<String>(&path, &bytes).map(Zeroizing::new).map(Some)
    }

    /// Stores our credentials at a CA.
    pub fn save_account(
        &self,
        issuer: &IssuerName,
        directory: &str,
        credentials: &str,
    ) -> Result<(), SaveError> {
        self.save(&self.account_path(issuer, directory), &document::encode(&credentials))
    }

    /// Whether [`open`](Self::open) could make one there, by all that can be seen without doing it.
    pub fn could_be_made(path: &Path) -> Result<(), OpenError> {
        open::could_be_made(path)
    }

    /// The file of the SSH identity that certfleet makes for itself.
    pub fn ssh_identity(&self) -> PathBuf {
        self.root.join("ssh").join("id_ed25519")
    }

    /// The store's folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    fn certificate_folder(&self, name: &CertName) -> PathBuf {
        self.root.join("certificates").join(name.as_str())
    }

    fn account_path(&self, issuer: &IssuerName, directory: &str) -> PathBuf {
        let directory = document::hex(&Sha256::digest(directory)[..4]);
        self.root.join("accounts").join(format!("{issuer}-{directory}.json"))
    }

    /// Replaces a document, but never one that cannot be read: that is for a person to decide.
    fn save(&self, path: &Path, bytes: &[u8]) -> Result<(), SaveError> {
        self.check_same()?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(SaveError::TooLarge(path.to_owned(), DOCUMENT_LIMIT));
        }
        if let Some(before) = files::read(path, DOCUMENT_LIMIT)? {
            document::data(path, &before)?;
        }
        Ok(files::write(path, bytes, Survives::PowerCut)?)
    }

    /// Whether the folder is still the one that was opened.
    fn check_same(&self) -> Result<(), LoadError> {
        match open::identity(&self.root) {
            Ok(identity) if identity == self.identity => Ok(()),
            _ => Err(LoadError::Gone(self.root.clone())),
        }
    }
}

/// Far above any honest document: a certificate of 100 names and a long history has 20 KiB.
const DOCUMENT_LIMIT: u64 = 8 << 20;
