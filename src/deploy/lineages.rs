//! certbot's lineages as a host sends them. Private keys are among them: what comes is wiped when it is done with.

use std::collections::BTreeMap;
use std::mem;

use zeroize::{Zeroize, Zeroizing};

use super::error::InstallError;
use super::protocol::{Conversation, Malformed, RawRecord, public_text};
use super::ssh::Session;
use crate::model::desired::Host;
use crate::model::name::CertName;
use crate::model::problem::plain;

/// The folder of certbot's that its packages use; root gives out no other by its socket.
pub const CERTBOT: &str = "/etc/letsencrypt";

/// What is to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The folder that has `live` and `renewal`: one line, absolute.
    pub root: &'a str,
    /// The certificates whose private keys are to be sent. No others leave the host.
    pub keys: &'a [&'a CertName],
    /// Whether accounts are to be sent, their private keys with them.
    pub accounts: bool,
}

/// Why a file was not sent, or a folder not looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// It is not there.
    Absent,
    /// It is a link to nothing.
    Broken,
    /// We may not read it.
    Closed,
    /// A file that is none, or a folder that is not certbot's.
    Odd,
    /// More than any such file has.
    Large,
    /// Not text.
    NotText,
}

impl Lack {
    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "absent" => Self::Absent,
            "broken" => Self::Broken,
            "closed" => Self::Closed,
            "odd" => Self::Odd,
            "large" => Self::Large,
            _ => return None,
        })
    }
}

/// The folder could not be looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoTree {
    /// Which: the one that was named, or one in it. Hostile.
    pub path: String,
    /// Why.
    pub lack: Lack,
}

/// What the host has. All texts are hostile.
#[derive(Default)]
pub struct Lineages {
    /// Its lineages by name.
    pub lineages: BTreeMap<String, SentLineage>,
    /// Its accounts.
    pub accounts: Vec<SentAccount>,
    /// Whether there are accounts that we may not read.
    pub accounts_closed: bool,
    /// Whether there was more than an answer may have.
    pub cut: bool,
}

/// One lineage.
#[derive(Default)]
pub struct SentLineage {
    /// The line of its file in `renewal` that names the CA.
    pub conf: String,
    /// The chain.
    pub fullchain: SentText,
    /// The private key, if it was asked for.
    pub privkey: Option<SentText>,
}

/// One account.
#[derive(Default)]
pub struct SentAccount {
    /// Its folder, from `accounts` on.
    pub path: String,
    /// What certbot notes of it.
    pub registration: SentText,
    /// Its private key.
    pub key: SentText,
}

/// What a file has in it.
pub struct SentText {
    /// The last part of what it is a link to.
    pub link: Option<String>,
    /// Its text; what is no certificate, key or account where one should be comes as nothing.
    pub text: Result<Zeroizing<String>, Lack>,
}

impl Default for SentText {
    fn default() -> Self {
        Self { link: None, text: Err(Lack::Absent) }
    }
}

impl Session {
    /// What certbot has on the host. Changes nothing there.
    pub async fn lineages(
        &self,
        host: &Host,
        wish: Wish<'_>,
    ) -> Result<Result<Lineages, NoTree>, InstallError> {
        if self.is_by_root() && wish.root != CERTBOT {
            return Err(InstallError::OnlyCertbots { host: host.name.to_string() });
        }
        let conversation = Conversation::lineages(host, wish.root, wish.keys, wish.accounts)?;
        let records = self.ask_for_secrets(host, conversation).await?;
        Reading::default().all(records).map_err(|source| InstallError::malformed(host, source))
    }
}

/// What the records that come are about.
#[derive(Default)]
enum About {
    #[default]
    Nothing,
    Lineage(String, SentLineage),
    Account(SentAccount),
}

/// An answer as it is read.
#[derive(Default)]
struct Reading {
    found: Lineages,
    about: About,
}

impl Reading {
    fn all(
        mut self,
        records: Vec<RawRecord<Zeroizing<Vec<u8>>>>,
    ) -> Result<Result<Lineages, NoTree>, Malformed> {
        for mut record in records {
            let (word, detail) = (record.word.as_str(), record.detail.as_str());
            match word {
                "lineage" | "account" if self.found.lineages.len() + self.found.accounts.len() > MOST => {
                    return Err(Malformed::Excess);
                }
                "tree" => {
                    let lack = Lack::named(detail).ok_or_else(|| odd(detail))?;
                    return Ok(Err(NoTree { path: public_text(&record.text), lack }));
                }
                "lineage" => {
                    self.keep()?;
                    self.about = About::Lineage(public_text(&record.text), SentLineage::default());
                }
                "account" => {
                    self.keep()?;
                    let path = public_text(&record.text);
                    self.about = About::Account(SentAccount { path, ..SentAccount::default() });
                }
                "conf" => match &mut self.about {
                    About::Lineage(_, lineage) => lineage.conf = public_text(&record.text),
                    _ => return Err(odd(word)),
                },
                "closed" if detail == "accounts" => self.found.accounts_closed = true,
                "link" => {
                    let link = public_text(&record.text);
                    self.file(detail)?.link = Some(link).filter(|link| !link.is_empty());
                }
                "text" if record.text.len() > LARGEST => return Err(Malformed::Excess),
                "text" => self.file(detail)?.text = text(&mut record.text),
                "more" => {
                    self.found.cut = true;
                    // In the middle of one, which is not whole then.
                    if detail != "part" {
                        self.keep()?;
                    }
                    return Ok(Ok(self.found));
                }
                word => {
                    let lack = Lack::named(word).ok_or_else(|| odd(word))?;
                    self.file(detail)?.text = Err(lack);
                }
            }
        }
        self.keep()?;
        Ok(Ok(self.found))
    }

    /// The file that a record is about.
    fn file(&mut self, which: &str) -> Result<&mut SentText, Malformed> {
        Ok(match (&mut self.about, which) {
            (About::Lineage(_, lineage), "chain") => &mut lineage.fullchain,
            (About::Lineage(_, lineage), "key") => lineage.privkey.get_or_insert_default(),
            (About::Account(account), "regr") => &mut account.registration,
            (About::Account(account), "jwk") => &mut account.key,
            _ => return Err(odd(which)),
        })
    }

    /// Takes what is whole now.
    fn keep(&mut self) -> Result<(), Malformed> {
        match mem::take(&mut self.about) {
            About::Nothing => {}
            About::Account(account) => self.found.accounts.push(account),
            About::Lineage(name, lineage) => {
                if self.found.lineages.contains_key(&name) {
                    return Err(Malformed::Count(plain(&name)));
                }
                self.found.lineages.insert(name, lineage);
            }
        }
        Ok(())
    }
}

fn odd(word: &str) -> Malformed {
    Malformed::Word(plain(word))
}

fn text(bytes: &mut Vec<u8>) -> Result<Zeroizing<String>, Lack> {
    String::from_utf8(mem::take(bytes)).map(Zeroizing::new).map_err(|error| {
        error.into_bytes().zeroize();
        Lack::NotText
    })
}

/// What the script sends at most: lineages and accounts, and bytes of a file.
const MOST: usize = 1000;
const LARGEST: usize = 128 << 10;
