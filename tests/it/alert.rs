//! Alerts by the built binary: what arrives at real receivers, what they are not told twice, and what is said
//! when they cannot be reached.

mod commands;
mod missed;
mod properties;
mod trouble;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use certfleet::model::cert::Leaf;
use certfleet::model::desired::KeyType;
use certfleet::model::name::{CertName, VersionNumber};
use certfleet::model::state::Version;
use certfleet::store::{Store, VersionFiles};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::tool::{Ran, command, finish};
use crate::world::made::{Authority, DAY, write_private};
use crate::world::parts;
use crate::world::web::{Reply, Web};

/// The name that most of these fleets have a certificate for.
const NAME: &str = "media.social.test";

/// A fleet whose CA is down, and whose people are reached by web services of this test.
struct Fleet {
    dir: TempDir,
    config: PathBuf,
    receivers: Vec<(&'static str, Web)>,
}

impl Fleet {
    /// With certificates of these names, on no host, and channels of these names, in this order.
    fn new(names: &[&str], channels: &[&'static str]) -> Self {
        Self::with(names, channels, "")
    }

    fn with(names: &[&str], channels: &[&'static str], more: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let mut text = format!(
            "[store]\npath = {:?}\n\n[issuer.ca]\n# Nobody listens there.\ndirectory = \"https://127.0.0.1:1/dir\"\n\
             contact = [\"ops@social.test\"]\naccept-terms = true\n\n\
             [dns.hook]\nprovider = \"exec\"\ncommand = \"/bin/true\"\npropagation-check = \"off\"\n\n",
            dir.path().join("store")
        );
        for name in names {
            text += &format!("[[certificate]]\ndomains = [\"{name}\"]\nhosts = []\n\n");
        }
        let mut receivers = Vec::new();
        for channel in channels {
            let web = Web::start(|_| Reply::empty(200));
            let address = dir.path().join(channel);
            write_private(&address, &web.url("/hook-of-a-secret")).unwrap();
            text += &format!(
                "[alert.{channel}]\nchannel = \"webhook\"\ntimeout = \"2s\"\nurl = {{ file = {address:?} }}\n\n"
            );
            receivers.push((*channel, web));
        }
        text += more;
        let config = dir.path().join("certs.toml");
        fs::write(&config, text).unwrap();
        Self { dir, config, receivers }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn receiver(&self, channel: &str) -> &Web {
        &self.receivers.iter().find(|(name, _)| *name == channel).expect("a channel of this fleet").1
    }

    /// Puts a version into the store, as a pass would, issued so many days ago for so many days.
    fn stored(&self, name: &str, number: u32, days_ago: i64, days: i64) {
        let store = Store::open(&self.store()).unwrap();
        let authority = Authority::new("Test CA").unwrap();
        let pair = authority.issue(&[name], -days_ago * DAY, (days - days_ago) * DAY).unwrap();
        let der = CertificateDer::from_pem_slice(pair.leaf.as_bytes()).unwrap();
        let leaf = Leaf::parse(&der).unwrap();
        let (name, number): (CertName, _) = (name.parse().unwrap(), VersionNumber(number));
        let lock = store.lock_certificate(&name, "a test", Timestamp::now()).unwrap();
        let files = VersionFiles {
            privkey: Zeroizing::new(pair.key),
            fullchain: format!("{}{}", pair.leaf, pair.chain),
            cert: pair.leaf,
            chain: pair.chain,
        };
        store.save_version(&lock, number, &files).unwrap();
        let mut state = store.certificate(&name).unwrap();
        let version = Version {
            domains: leaf.domains,
            issuer: "ca".parse().unwrap(),
            directory: "https://127.0.0.1:1/dir".to_owned(),
            key: KeyType::EcdsaP256,
            serial: leaf.serial,
            fingerprint: leaf.fingerprint,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            issued_at: leaf.not_before,
            ari_id: None,
            revoked: None,
        };
        state.versions.insert(number, version);
        (state.failure, state.failures) = (None, BTreeMap::new());
        store.save_certificate(&lock, &state).unwrap();
    }

    /// A command with the clock so far ahead, as `+3d`.
    fn command_at(&self, offset: &str, args: &[&str]) -> Command {
        let mut command = command(&self.config, args);
        let library = parts::faketime().unwrap();
        command.env("LD_PRELOAD", library).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    }

    fn run_at(&self, offset: &str, args: &[&str]) -> Ran {
        finish(self.command_at(offset, args).spawn().unwrap())
    }

    fn run(&self, args: &[&str]) -> Ran {
        finish(command(&self.config, args).spawn().unwrap())
    }

    /// What people were told, by channel, as `chat critical escalated certificate.expires`.
    fn told(&self) -> Vec<String> {
        self.receivers.iter().flat_map(|(channel, web)| notices(channel, web)).collect()
    }

    /// What is new since `known` was counted, by channel.
    fn news(&self, known: &mut BTreeMap<&'static str, usize>) -> Vec<String> {
        let news = self.receivers.iter().flat_map(|(channel, web)| {
            let told = notices(channel, web);
            let before = known.insert(channel, told.len()).unwrap_or(0);
            told[before..].to_vec()
        });
        news.collect()
    }

    /// The alerts that are open.
    fn open(&self) -> Vec<Value> {
        let list = self.run(&["alert", "list", "--json"]).ended(0).json();
        list["alerts"].as_array().expect("a list of alerts").clone()
    }
}

fn notices(channel: &str, web: &Web) -> Vec<String> {
    let posted = web.log().into_iter().filter(|request| request.method == "POST");
    posted
        .map(|request| {
            let notice = &request.json()["notice"];
            let word = |key: &str| notice[key].as_str().unwrap_or("?").to_owned();
            format!("{channel} {} {} {}", word("level"), word("occasion"), word("code"))
        })
        .collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
