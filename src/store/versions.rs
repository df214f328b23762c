//! Versions: key and chain of what was issued, in folders that never change.

use std::fmt;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Store;
use super::document::hex;
use super::error::{Damage, LoadError, SaveError};
use super::files::{self, Action, FileError};
use super::locks::CertLock;
use crate::model::name::{CertName, VersionNumber};
use crate::model::state::CertState;

/// The four files of a version, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct VersionFiles {
    /// The private key, PKCS#8.
    pub privkey: Zeroizing<String>,
    /// The leaf, then the chain.
    pub fullchain: String,
    /// The leaf alone.
    pub cert: String,
    /// The chain without the leaf.
    pub chain: String,
}

impl fmt::Debug for VersionFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionFiles").field("fullchain", &self.fullchain).finish_non_exhaustive()
    }
}

impl VersionFiles {
    fn named(&self) -> [(&'static str, &str); 4] {
        [
            ("privkey.pem", &self.privkey),
            ("fullchain.pem", &self.fullchain),
            ("cert.pem", &self.cert),
            ("chain.pem", &self.chain),
        ]
    }

    /// As `sha256sum` writes it, so that people can check a version with `sha256sum -c`.
    fn sums(&self) -> String {
        self.named().iter().map(|(name, text)| format!("{}  {name}\n", hex(&Sha256::digest(text)))).collect()
    }
}

impl Store {
    /// Stores a version: all of its files, or nothing.
    ///
    /// A version that the state does not know (its run died before saying so) is replaced; one
    /// that it knows is never changed.
    pub fn save_version(
        &self,
        lock: &CertLock,
        number: VersionNumber,
        version: &VersionFiles,
    ) -> Result<(), SaveError> {
        self.check_same()?;
        let state = self.certificate(lock.name())?;
        if state.versions.contains_key(&number) {
            return match self.version(lock.name(), number)? == *version {
                true => Ok(()),
                false => Err(SaveError::VersionExists(number)),
            };
        }
        if state == CertState::default() {
            // Versions without any state are taken for a lost state.
            self.save_certificate(lock, &state)?;
        }
        let folder = lock.folder().join("versions");
        let place = folder.join(number.to_string());
        let fresh = unfinished(&place)?;
        for (name, text) in version.named() {
            let path = fresh.path().join(name);
            if text.len() as u64 > PEM_LIMIT {
                return Err(SaveError::TooLarge(place.join(name), PEM_LIMIT));
            }
            files::write_new(&path, text.as_bytes())?;
        }
        files::write_new(&fresh.path().join(SUMS), version.sums().as_bytes())?;
        files::sync_folder(fresh.path())?;
        clear(&place)?;
        fs::rename(fresh.path(), &place).map_err(FileError::new(Action::Rename, &place))?;
        // It has another name now; there is nothing left to remove.
        let _ = fresh.keep();
        Ok(files::sync_folder(&folder)?)
    }

    /// The files of a version, byte for byte as they were stored.
    pub fn version(&self, name: &CertName, number: VersionNumber) -> Result<VersionFiles, LoadError> {
        let folder = self.certificate_folder(name).join("versions").join(number.to_string());
        let read = |name: &str| {
            let path = folder.join(name);
            let bytes = files::read(&path, PEM_LIMIT)?.ok_or_else(|| LoadError::Missing(path.clone()))?;
            text(&path, &bytes)
        };
        let version = VersionFiles {
            privkey: read("privkey.pem")?,
            fullchain: read("fullchain.pem")?.to_string(),
            cert: read("cert.pem")?.to_string(),
            chain: read("chain.pem")?.to_string(),
        };
        let sums = read(SUMS)?;
        let expected = version.sums();
        let differing = sums.lines().zip(expected.lines()).find(|(stored, found)| stored != found);
        match differing {
            None if *sums == expected => Ok(version),
            found => Err(LoadError::Damaged {
                path: folder.join(found.and_then(|(_, line)| line.split("  ").nth(1)).unwrap_or(SUMS)),
                damage: Damage::Checksum,
            }),
        }
    }

    /// Removes all versions but these; also those that the state does not know.
    pub fn prune_versions(&self, lock: &CertLock, keep: &[VersionNumber]) -> Result<(), SaveError> {
        for number in numbers(lock.folder())? {
            if !keep.contains(&number) {
                clear(&lock.folder().join("versions").join(number.to_string()))?;
            }
        }
        Ok(())
    }
}

/// The numbers of the versions that are on disk.
pub(super) fn numbers(certificate: &Path) -> Result<Vec<VersionNumber>, FileError> {
    let names = files::names(&certificate.join("versions"))?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).map(VersionNumber).collect())
}

/// The text of a private key file, if it is a whole one.
pub(super) fn key_text(path: &Path, bytes: &[u8]) -> Result<Zeroizing<String>, LoadError> {
    let text = text(path, bytes)?;
    match rustls_pemfile::private_key(&mut text.as_bytes()) {
        Ok(Some(_)) => Ok(text),
        _ => Err(LoadError::Damaged { path: path.to_owned(), damage: Damage::NoKey }),
    }
}

fn text(path: &Path, bytes: &[u8]) -> Result<Zeroizing<String>, LoadError> {
    let damage = match std::str::from_utf8(bytes) {
        _ if bytes.is_empty() => Damage::Empty,
        _ if bytes.iter().all(|byte| *byte == 0) => Damage::Zeros,
        Ok(text) => return Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Damage::NoDocument,
    };
    Err(LoadError::Damaged { path: path.to_owned(), damage })
}

/// Removes a version; at every instant it is whole or gone.
fn clear(place: &Path) -> Result<(), FileError> {
    if !place.try_exists().map_err(FileError::new(Action::Read, place))? {
        return Ok(());
    }
    let aside = unfinished(place)?;
    fs::rename(place, aside.path()).map_err(FileError::new(Action::Rename, place))?;
    files::sync_folder(files::folder_of(place))?;
    aside.close().map_err(FileError::new(Action::Remove, place))
}

/// A new folder of 0700 beside a version, removed when dropped.
fn unfinished(place: &Path) -> Result<tempfile::TempDir, FileError> {
    let folder = tempfile::Builder::new()
        .prefix(files::UNFINISHED)
        .rand_bytes(16)
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(files::folder_of(place))
        .map_err(FileError::new(Action::CreateFolder, place))?;
    files::protect_folder(folder.path())?;
    Ok(folder)
}

const SUMS: &str = "SHA256SUMS";

/// Far above any honest chain.
pub(super) const PEM_LIMIT: u64 = 1 << 20;
