//! What certbot has on a host: fetched over one connection, held in memory, wiped when it is done with.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use zeroize::Zeroizing;

use super::certbot::{Account, Files, Source, Unreadable, account_url, server};
use crate::config::Config;
use crate::deploy::{Lack, Lineages, NoTree, SentAccount, SentText, Wish};
use crate::engine::connections::Connections;
use crate::model::desired::Host;
use crate::model::name::{CertName, HostName};
use crate::model::problem::Problem;

/// What certbot has on a host.
pub struct HostTree {
    host: Host,
    /// The folder, as `scp` would write it: for messages.
    root: PathBuf,
    sent: Lineages,
}

/// Why nothing was fetched.
#[derive(Debug)]
pub enum NotFetched {
    /// The host cannot be asked.
    Problem(Box<Problem>),
    /// It has no such folder: why, and what to do.
    NoTree(Unreadable, String),
}

/// Fetches what certbot has in the folder `root` of a host. Private keys come of certificates that certs.toml has,
/// and of accounts only if those are asked for.
pub async fn fetch(config: &Config, host: &Host, root: &str, accounts: bool) -> Result<HostTree, NotFetched> {
    let failed = |problem| NotFetched::Problem(Box::new(problem));
    let connections = Connections::default();
    let identity = config.ssh_identity();
    let session = connections.session(config, &identity, host).await;
    let session = session.map_err(|error| failed(Problem::of(&*error)))?;
    let keys: Vec<&CertName> = config.desired.certificates.keys().collect();
    let answer = session.lineages(host, Wish { root, keys: &keys, accounts }).await;
    drop(session);
    connections.close().await;
    let mut tree = HostTree {
        host: host.clone(),
        root: PathBuf::from(format!("{}:{root}", host.name)),
        sent: Lineages::default(),
    };
    match answer.map_err(|error| failed(Problem::of(&error)))? {
        Ok(sent) => {
            tree.sent = sent;
            Ok(tree)
        }
        Err(NoTree { path, lack }) => {
            let path = PathBuf::from(format!("{}:{path}", host.name));
            let error = match lack {
                Lack::Odd => Unreadable::NoTree { path },
                Lack::Closed => Unreadable::NoFolder { path, source: Errno::ACCESS.into() },
                _ => Unreadable::NoFolder { path, source: Errno::NOENT.into() },
            };
            let hint = tree.hint(&error);
            Err(NotFetched::NoTree(error, hint))
        }
    }
}

impl HostTree {
    pub(super) fn is_cut(&self) -> bool {
        self.sent.cut
    }

    /// A path in it, for messages only: what the host calls something is never one of ours.
    fn shown(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("{}/{path}", self.root.display()))
    }

    fn account(&self, sent: &SentAccount) -> Account {
        let path = self.shown(&format!("accounts/{}", sent.path));
        let server = sent.path.rsplit_once('/').map_or("", |(above, _)| above).to_owned();
        Account { read: read_account(sent, &path), path, server }
    }
}

impl Source for HostTree {
    fn lineages(&self) -> Vec<String> {
        self.sent.lineages.keys().cloned().collect()
    }

    fn files(&self, name: &str) -> Result<Files, Unreadable> {
        let at = |file: &str| self.shown(&format!("live/{name}/{file}"));
        let (chain, key) = (at("fullchain.pem"), at("privkey.pem"));
        let Some(sent) = self.sent.lineages.get(name) else {
            return Err(Unreadable::File { path: chain, source: Errno::NOENT.into() });
        };
        let privkey = sent.privkey.as_ref();
        Ok(Files {
            fullchain: text(&sent.fullchain, chain)?.to_string(),
            behind: [sent.fullchain.link.clone(), privkey.and_then(|sent| sent.link.clone())],
            privkey: privkey.map(|sent| text(sent, key)).transpose()?,
        })
    }

    fn server(&self, name: &str) -> Option<String> {
        server(&self.sent.lineages.get(name)?.conf)
    }

    fn accounts(&self) -> Vec<Account> {
        let mut accounts: Vec<Account> = self.sent.accounts.iter().map(|sent| self.account(sent)).collect();
        if self.sent.accounts_closed {
            let path = self.shown("accounts");
            let read = Err(Unreadable::File { path: path.clone(), source: Errno::ACCESS.into() });
            accounts.push(Account { path, server: String::new(), read });
        }
        accounts
    }

    fn host(&self) -> Option<&HostName> {
        Some(&self.host.name)
    }

    fn hint(&self, error: &Unreadable) -> String {
        let Host { name, user, .. } = &self.host;
        match error {
            Unreadable::File { source, .. } | Unreadable::NoFolder { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                format!("`{user}` may not read it: set `sudo = true` or `user = \"root\"` in [host.{name}]")
            }
            Unreadable::NoFolder { .. } | Unreadable::NoTree { .. } => {
                "name the folder there that has `live`, `archive` and `renewal`: `--from DIR`".to_owned()
            }
            error => error.hint().to_owned(),
        }
    }
}

fn read_account(sent: &SentAccount, path: &Path) -> Result<(Zeroizing<String>, String), Unreadable> {
    let registration = path.join("regr.json");
    let url = account_url(&text(&sent.registration, registration.clone())?, &registration)?;
    Ok((text(&sent.key, path.join("private_key.json"))?, url))
}

/// The text of a file as it was sent, or why there is none.
fn text(sent: &SentText, path: PathBuf) -> Result<Zeroizing<String>, Unreadable> {
    let lack = match &sent.text {
        Ok(text) => return Ok(text.clone()),
        Err(lack) => lack,
    };
    Err(match lack {
        Lack::Absent => Unreadable::File { path, source: Errno::NOENT.into() },
        Lack::Closed => Unreadable::File { path, source: Errno::ACCESS.into() },
        Lack::Broken => Unreadable::BrokenLink { path },
        Lack::Odd => Unreadable::NotAFile { path },
        Lack::Large => Unreadable::TooLarge { path },
        Lack::NotText => Unreadable::NotText { path },
    })
}
