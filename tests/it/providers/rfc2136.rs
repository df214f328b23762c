//! rfc2136: BIND. What only it has is tested in `dns.rs`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::{Bench, WRONG};
use crate::world::made::write_private;
use crate::world::nameserver::{NameServer, Zones};
use crate::world::process::Watchdog;

pub(super) struct Rfc2136Bench {
    server: NameServer,
    dir: TempDir,
    _watchdog: Arc<Watchdog>,
}

pub(super) fn bench() -> Rfc2136Bench {
    let zones = Zones { names: vec!["social.test".to_owned()], ..Zones::default() };
    let (dir, watchdog) = (tempfile::tempdir().unwrap(), Watchdog::start().unwrap());
    let server = NameServer::start(dir.path(), &zones, &watchdog).unwrap();
    Rfc2136Bench { server, dir, _watchdog: watchdog }
}

impl Rfc2136Bench {
    fn with(&self, file: &std::path::Path) -> String {
        let (server, key) = (self.server.address, &self.server.key.name);
        format!("server = \"{server}\"\nkey-name = \"{key}\"\nsecret = {{ file = {file:?} }}\n")
    }
}

impl Bench for Rfc2136Bench {
    fn table(&self) -> String {
        self.with(&self.server.secret_file)
    }

    fn wrong(&self) -> String {
        let file = self.dir.path().join("wrong");
        write_private(&file, &STANDARD.encode(WRONG)).unwrap();
        self.with(&file)
    }

    fn values(&self, owner: &str) -> Vec<String> {
        let lines = self.server.ask(owner, "TXT").unwrap();
        let mut values: Vec<String> =
            lines.iter().filter_map(|line| Some(line.split_once(" TXT ")?.1.to_owned())).collect();
        values.sort();
        values
    }

    fn put(&self, owner: &str, value: &str) {
        self.server.add(&format!("{owner} 60 TXT \"{value}\"")).unwrap();
    }

    fn names(&self) -> &'static str {
        "`certfleet`"
    }
}
