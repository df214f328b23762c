//! certbot's folder: `live/NAME/*.pem` (links into `archive/NAME`), `renewal/NAME.conf`, `accounts/…`.
//!
//! Whatever is in there is read with limits: pipes, devices and large files are no certificates.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::model::name::HostName;
use crate::model::problem::plain;

/// Where lineages come from. What is in there may be anybody's.
pub(super) trait Source {
    /// The names of its lineages.
    fn lineages(&self) -> Vec<String>;
    /// What a lineage has today.
    fn files(&self, name: &str) -> Result<Files, Unreadable>;
    /// The directory of the CA, from `[renewalparams]` of the lineage's own file.
    fn server(&self, name: &str) -> Option<String>;
    /// Its accounts.
    fn accounts(&self) -> Vec<Account>;
    /// The host that it was sent by.
    fn host(&self) -> Option<&HostName>;
    /// What to do about what cannot be read.
    fn hint(&self, error: &Unreadable) -> String;
}

/// Why a file, or the folder, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not there, not for us, or a link to nothing.
    #[error("cannot read {}: {source}", plain(&path.display().to_string()))]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A link that leads nowhere.
    #[error("{} is a link to a file that is not there", plain(&path.display().to_string()))]
    BrokenLink {
        /// The link.
        path: PathBuf,
    },
    /// A folder, a pipe, a device.
    #[error("{} is not a file", plain(&path.display().to_string()))]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// More than any such file has.
    #[error("{} is larger than {} KiB", plain(&path.display().to_string()), LIMIT >> 10)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not text.
    #[error("{} is not text", plain(&path.display().to_string()))]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// Not what certbot writes.
    #[error("{} is not what certbot writes there", plain(&path.display().to_string()))]
    Odd {
        /// The file.
        path: PathBuf,
    },
    /// There is no such folder.
    #[error("cannot read {}: {source}", plain(&path.display().to_string()))]
    NoFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder has no lineages.
    #[error("{} has neither `live` nor `renewal`: it is no folder of certbot's", plain(&path.display().to_string()))]
    NoTree {
        /// The folder.
        path: PathBuf,
    },
}

impl Unreadable {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File { source, .. } | Self::NoFolder { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                "run this as root; but on a store of another user, root goes on as that user: give it a copy that it \
                 may read, or `import` a host of `kind = \"local\"`"
            }
            Self::NoTree { .. } | Self::NoFolder { .. } => {
                "name the folder that has `live`, `archive` and `renewal`: mostly /etc/letsencrypt"
            }
            _ => "restore it from a backup, or let certfleet issue a new certificate",
        }
    }
}

/// A folder of certbot's.
pub(super) struct Tree {
    root: PathBuf,
}

/// What a lineage has today.
pub(super) struct Files {
    pub(super) fullchain: String,
    /// `None` = it was left where it is.
    pub(super) privkey: Option<Zeroizing<String>>,
    /// The names of the files in `archive` that the links of chain and key lead to.
    pub(super) behind: [Option<String>; 2],
}

impl Files {
    /// Which versions the links lead to, if they differ.
    pub(super) fn mixed(&self) -> Option<String> {
        let [Some(chain), Some(key)] = &self.behind else { return None };
        let number = |name: &str| name.chars().filter(char::is_ascii_digit).collect::<String>();
        (number(chain) != number(key))
            .then(|| format!("fullchain.pem leads to {}, privkey.pem to {}", plain(chain), plain(key)))
    }
}

impl Tree {
    pub(super) fn open(path: &Path) -> Result<Self, Unreadable> {
        fs::read_dir(path).map_err(|source| Unreadable::NoFolder { path: path.to_owned(), source })?;
        let root = path.to_owned();
        match root.join("live").is_dir() || root.join("renewal").is_dir() {
            true => Ok(Self { root }),
            false => Err(Unreadable::NoTree { path: root }),
        }
    }
}

impl Source for Tree {
    fn lineages(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for name in entries(&self.root.join("renewal")) {
            names.extend(name.strip_suffix(".conf").map(str::to_owned));
        }
        let live = self.root.join("live");
        names.extend(entries(&live).into_iter().filter(|name| live.join(name).is_dir()));
        // certbot hides nothing: what is hidden there is ours.
        names.retain(|name| !name.starts_with('.'));
        names.into_iter().collect()
    }

    fn files(&self, name: &str) -> Result<Files, Unreadable> {
        let folder = self.root.join("live").join(name);
        let (chain, key) = (folder.join("fullchain.pem"), folder.join("privkey.pem"));
        let behind = |path: &Path| {
            fs::read_link(path).ok().and_then(|to| Some(to.file_name()?.to_string_lossy().into_owned()))
        };
        Ok(Files {
            fullchain: text(&chain)?.to_string(),
            privkey: Some(text(&key)?),
            behind: [behind(&chain), behind(&key)],
        })
    }

    fn server(&self, name: &str) -> Option<String> {
        server(&text(&self.root.join("renewal").join(format!("{name}.conf"))).ok()?)
    }

    /// Their folders are `accounts/HOST/PATH/HASH`.
    fn accounts(&self) -> Vec<Account> {
        let root = self.root.join("accounts");
        let mut found = Vec::new();
        let mut folders = vec![(root.clone(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            if folder.join("private_key.json").exists() {
                let server = folder.parent().and_then(|above| above.strip_prefix(&root).ok());
                let server = server.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
                let read = read_account(&folder);
                found.push(Account { path: folder, server, read });
            } else if depth < DEEPEST {
                let names = entries(&folder).into_iter().map(|name| (folder.join(name), depth + 1));
                // Links are other names for the same account.
                folders.extend(names.filter(|(path, _)| path.is_dir() && !path.is_symlink()));
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    fn host(&self) -> Option<&HostName> {
        None
    }

    fn hint(&self, error: &Unreadable) -> String {
        error.hint().to_owned()
    }
}

/// The directory of the CA that a lineage's file in `renewal` names.
pub(super) fn server(conf: &str) -> Option<String> {
    conf.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "server").then(|| value.trim().to_owned())
    })
}

/// An account of certbot's.
pub(super) struct Account {
    pub(super) path: PathBuf,
    /// The directory's URL without its scheme.
    pub(super) server: String,
    /// The private key as JWK, and the account's URL.
    pub(super) read: Result<(Zeroizing<String>, String), Unreadable>,
}

#[derive(Deserialize)]
struct Registration {
    uri: String,
}

impl Account {
    pub(super) fn is_of(&self, directory: &str) -> bool {
        directory.strip_prefix("https://").is_some_and(|rest| rest.trim_end_matches('/') == self.server)
    }
}

fn read_account(folder: &Path) -> Result<(Zeroizing<String>, String), Unreadable> {
    let path = folder.join("regr.json");
    let uri = account_url(&text(&path)?, &path)?;
    Ok((text(&folder.join("private_key.json"))?, uri))
}

/// The URL of an account, from what certbot notes of it in the file at `path`.
pub(super) fn account_url(registration: &str, path: &Path) -> Result<String, Unreadable> {
    match serde_json::from_str::<Registration>(registration) {
        Ok(Registration { uri }) if uri.starts_with("https://") => Ok(uri),
        _ => Err(Unreadable::Odd { path: path.to_owned() }),
    }
}

fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The text of a file that may be a link. Does not wait for the writer of a pipe.
fn text(path: &Path) -> Result<Zeroizing<String>, Unreadable> {
    let at = || path.to_owned();
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound if path.is_symlink() => Unreadable::BrokenLink { path: at() },
        _ => Unreadable::File { path: at(), source },
    };
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if !facts.is_file() {
        return Err(Unreadable::NotAFile { path: at() });
    }
    if facts.len() > LIMIT {
        return Err(Unreadable::TooLarge { path: at() });
    }
    // All of it at once: a growing buffer would leave copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(facts.len()).unwrap_or(0) + 1));
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Unreadable::NotText { path: at() })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Ten times a usual chain.
const LIMIT: u64 = 128 << 10;
/// Of the folders between `accounts` and an account.
const DEEPEST: u32 = 6;
