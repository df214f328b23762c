//! Taking over what certbot has: so that nothing is issued anew before its time.

mod certbot;
mod host;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::history::{author, note};
use crate::acme::{self, AccountKeyError, TakeOverError};
use crate::config::Config;
use crate::model::desired::{Certificate, KeyType};
use crate::model::history::{Entry, How, What};
use crate::model::name::{CertName, Domain, HostName, IssuerName, VersionNumber};
use crate::model::problem::{Problem, plain};
use crate::model::state::Version;
use crate::store::{Store, VersionFiles};

pub use certbot::Unreadable;
use certbot::{Source, Tree};
pub use host::{HostTree, NotFetched, fetch};

/// What was found in a folder of certbot's.
#[derive(Debug, Default)]
pub struct Found {
    /// Its lineages, in the order of their names.
    pub lineages: Vec<Lineage>,
    /// Its accounts, if they were asked for.
    pub accounts: Vec<AccountFound>,
    /// Whether it had more lineages than a host may send.
    pub cut: bool,
}

/// One lineage.
#[derive(Debug)]
pub struct Lineage {
    /// Its name, safe to show.
    pub name: String,
    /// What it holds; else why it cannot be used, and what to do.
    pub content: Result<Content, (String, String)>,
    /// What became of it in the store.
    pub stored: Stored,
}

/// What a lineage holds.
#[derive(Debug, Clone)]
pub struct Content {
    /// Its domains, the one that it is called after first.
    pub domains: Vec<Domain>,
    /// The type of its key.
    pub key: KeyType,
    /// The end of its life.
    pub not_after: Timestamp,
    /// The directory of the CA that issued it, by certbot's word; safe to show.
    pub server: Option<String>,
    /// The issuer of certs.toml with that directory.
    pub issuer: Option<IssuerName>,
}

/// What became of a lineage in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// It is version 1 now.
    Now,
    /// The store has versions of that certificate already.
    HasVersions,
    /// certs.toml has no certificate of that name.
    NotInConfig,
    /// It will be issued anew, because certs.toml asks for something else; kept out of the store.
    Differs(String),
    /// It could not be stored.
    Failed(Box<Problem>),
    /// It cannot be used.
    Unusable,
}

/// One account.
#[derive(Debug)]
pub struct AccountFound {
    /// Where it was found.
    pub path: PathBuf,
    /// The issuer that it is used for from now on; else why it is not.
    pub taken: Result<IssuerName, String>,
}

/// Reads a folder of certbot's and stores what certs.toml has a name for. Without a configuration or a store
/// it only looks. Reads nothing but files below `path`, and what its links lead to.
pub fn import(
    path: &Path,
    config: Option<&Config>,
    store: Option<&Store>,
    accounts: bool,
) -> Result<Found, Unreadable> {
    Ok(take(&Tree::open(path)?, config, store, accounts))
}

/// The same with what a host has sent.
pub fn import_from(tree: &HostTree, config: &Config, store: &Store, accounts: bool) -> Found {
    let found = take(tree, Some(config), Some(store), accounts);
    Found { cut: tree.is_cut(), ..found }
}

fn take(tree: &dyn Source, config: Option<&Config>, store: Option<&Store>, accounts: bool) -> Found {
    let now = Timestamp::now();
    let mut found = Found::default();
    for name in tree.lineages() {
        found.lineages.push(lineage(tree, &name, config, store, now));
    }
    if accounts && let (Some(config), Some(store)) = (config, store) {
        for account in tree.accounts() {
            let (path, host) = (account.path.clone(), tree.host());
            found
                .accounts
                .push(AccountFound { path, taken: take_account(account, host, config, store, now) });
        }
    }
    found
}

fn lineage(
    tree: &dyn Source,
    name: &str,
    config: Option<&Config>,
    store: Option<&Store>,
    now: Timestamp,
) -> Lineage {
    let unusable = |why: String, hint: &str| Lineage {
        name: plain(name),
        content: Err((why, hint.to_owned())),
        stored: Stored::Unusable,
    };
    let Ok(cert_name) = name.parse::<CertName>() else {
        return unusable(
            "its name has characters that no certificate of certs.toml may have".to_owned(),
            ISSUE,
        );
    };
    let files = match tree.files(name) {
        Ok(files) => files,
        Err(error) => return unusable(error.to_string(), &tree.hint(&error)),
    };
    let taken = match &files.privkey {
        Some(privkey) => acme::take_over(&files.fullchain, privkey, now),
        None => acme::look_over(&files.fullchain, now),
    };
    let taken = match taken {
        Ok(taken) => taken,
        Err(TakeOverError::Certificate(acme::CheckError::WrongKey)) => {
            return unusable(
                match files.mixed() {
                    Some(mixed) => format!("its private key is that of another version: {mixed}"),
                    None => "its private key does not belong to its certificate".to_owned(),
                },
                "run `certbot certificates`; else let certfleet issue a new one",
            );
        }
        Err(error) => return unusable(plain(&error.to_string()), error.hint()),
    };
    let server = tree.server(name);
    let issuers = config.map(|config| &config.desired.issuers);
    let issuer = issuers.and_then(|issuers| {
        let same = |directory: &str| server.as_deref().is_some_and(|server| server == directory);
        issuers.values().find(|issuer| same(&issuer.directory)).map(|issuer| issuer.name.clone())
    });
    let mut domains = taken.domains.clone();
    // The name of the lineage is mostly its first domain; the CA has sorted them.
    domains.sort_by_key(|domain| domain.default_cert_name() != cert_name || domain.is_wildcard());
    let content = Content {
        domains,
        key: taken.key,
        not_after: taken.issued.leaf.not_after,
        server: server.as_deref().map(plain),
        issuer,
    };
    let wanted = config.and_then(|config| config.desired.certificates.get(&cert_name));
    if wanted.is_some() && files.privkey.is_none() {
        return unusable("its private key was not sent".to_owned(), NOT_SENT);
    }
    let stored = match (wanted, files.privkey, config, store) {
        (Some(wanted), Some(privkey), Some(config), Some(store)) => {
            let from = From { host: tree.host(), server: server.as_deref(), config, store, now };
            keep(wanted, &from, taken, privkey)
        }
        _ => Stored::NotInConfig,
    };
    Lineage { name: plain(name), content: Ok(content), stored }
}

/// Where a lineage comes from, and where it goes.
struct From<'a> {
    host: Option<&'a HostName>,
    server: Option<&'a str>,
    config: &'a Config,
    store: &'a Store,
    now: Timestamp,
}

fn keep(
    wanted: &Certificate,
    &From { host, server, config, store, now }: &From<'_>,
    taken: acme::TakenOver,
    privkey: zeroize::Zeroizing<String>,
) -> Stored {
    let issuer = match server {
        Some(server) => config.desired.issuer_at(wanted, server),
        // It does not say where it comes from; the CA that is asked next is as good a guess as any.
        None => config.desired.issuers.get(&wanted.issuer),
    };
    let sorted = |domains: &[Domain]| domains.iter().cloned().collect::<std::collections::BTreeSet<_>>();
    if sorted(&wanted.domains) != sorted(&taken.domains) {
        return Stored::Differs("certs.toml asks for other domains than it has".to_owned());
    }
    if wanted.key != taken.key {
        return Stored::Differs("certs.toml asks for another type of key than it has".to_owned());
    }
    let Some(issuer) = issuer else {
        let server = plain(server.unwrap_or("a CA that it does not name"));
        return Stored::Differs(format!(
            "it comes from {server}, which none of its issuers in certs.toml is"
        ));
    };
    let failed = |problem| Stored::Failed(Box::new(problem));
    let held = match store.lock_certificate(&wanted.name, "importing", now) {
        Ok(held) => held,
        Err(error) => return failed(Problem::of(&error)),
    };
    let mut known = match store.certificate(&wanted.name) {
        Ok(known) if !known.versions.is_empty() => return Stored::HasVersions,
        Ok(known) => known,
        Err(error) => return failed(Problem::of(&error)),
    };
    let number = VersionNumber::FIRST;
    let acme::Issued { leaf, cert, chain, fullchain, .. } = taken.issued;
    let files = VersionFiles { privkey, fullchain, cert, chain };
    if let Err(error) = store.save_version(&held, number, &files) {
        return failed(Problem::of(&error));
    }
    let fingerprint = leaf.fingerprint;
    known.versions.insert(
        number,
        Version {
            domains: taken.domains,
            issuer: issuer.name.clone(),
            directory: issuer.directory.clone(),
            key: taken.key,
            serial: leaf.serial,
            fingerprint,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            // Of a time before us: a forced renewal is never taken for done because of it.
            issued_at: leaf.not_before.min(now),
            ari_id: leaf.ari_id,
            revoked: None,
        },
    );
    known.failure = None;
    if let Err(error) = store.save_certificate(&held, &known) {
        return failed(Problem::of(&error));
    }
    let entry = Entry::new(now, What::Imported, author(How::Cli));
    note(
        store,
        &Entry {
            certificate: Some(wanted.name.clone()),
            version: Some(number),
            fingerprint: Some(fingerprint),
            host: host.cloned(),
            detail: Some("from certbot".to_owned()),
            ..entry
        },
    );
    Stored::Now
}

fn take_account(
    account: certbot::Account,
    host: Option<&HostName>,
    config: &Config,
    store: &Store,
    now: Timestamp,
) -> Result<IssuerName, String> {
    let mut issuers = config.desired.issuers.values();
    let issuer = issuers.find(|issuer| account.is_of(&issuer.directory));
    let (jwk, url) = account.read.map_err(|error| error.to_string())?;
    let issuer = issuer.ok_or("no issuer of certs.toml has its directory")?;
    let own = "certfleet makes an account of its own; certificates stay valid, and CAA records that name the \
               account (accounturi) must follow";
    let credentials =
        acme::credentials_of_jwk(&jwk, &url, &issuer.directory).map_err(|error| match error {
            AccountKeyError::OtherKind(_) => format!("it cannot be taken over: {error}. {own}"),
            AccountKeyError::Damaged => error.to_string(),
        })?;
    let (name, directory) = (&issuer.name, &issuer.directory);
    let _turn = store
        .lock_account(name, directory, "importing", now)
        .map_err(|error| Problem::of(&error).one_line())?;
    match store.account(name, directory) {
        Ok(None) => {}
        Ok(Some(_)) => {
            return Err(format!("the store has an account at {name} already, and goes on with that"));
        }
        Err(error) => return Err(Problem::of(&error).one_line()),
    }
    store.save_account(name, directory, &credentials).map_err(|error| Problem::of(&error).one_line())?;
    let entry = Entry::new(now, What::Imported, author(How::Cli));
    note(
        store,
        &Entry {
            issuer: Some(name.clone()),
            host: host.cloned(),
            detail: Some("an account, from certbot".to_owned()),
            ..entry
        },
    );
    Ok(name.clone())
}

const ISSUE: &str = "let certfleet issue a new one under another name";
/// The one who may ask has not the last word on what is given out.
const NOT_SENT: &str =
    "where root answers at its socket, certs.toml as root reads it has to have that certificate";
