//! A world to test in: an ACME server, name servers, and hosts with SSH and nginx, all of them the real ones.
//!
//! Everything listens on loopback addresses of this world alone, at ports that the system chose, writes into
//! one temporary folder, and ends with the [`World`]. Look at results from outside: [`look`] is a TLS client,
//! [`nameserver::NameServer`] answers what its zones hold.

#![allow(dead_code, reason = "the tests and the example each use a part of it")]

pub(crate) mod disk;
pub(crate) mod dns;
pub(crate) mod host;
pub(crate) mod look;
pub(crate) mod machine;
pub(crate) mod made;
pub(crate) mod nameserver;
pub(crate) mod parts;
pub(crate) mod pebble;
pub(crate) mod ports;
pub(crate) mod powerdns;
pub(crate) mod process;
pub(crate) mod smtp;
pub(crate) mod sshd;
pub(crate) mod tools;
pub(crate) mod web;

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use tempfile::TempDir;

use self::host::Host;
use self::machine::Machine;
use self::made::write_private;
use self::nameserver::{NameServer, Notify, Zones};
use self::pebble::{Behaviour, Pebble};
use self::ports::Range;
use self::process::{Watchdog, run};
use self::sshd::Identity;

/// Servers that run for as long as this value lives.
pub(crate) struct World {
    // Fields are dropped in this order: servers first, then their folder, their watchdog and addresses.
    /// The ACME server.
    pub(crate) pebble: Pebble,
    /// The name servers.
    pub(crate) ns: NameServer,
    /// The hosts, in the order they were asked for.
    pub(crate) hosts: Vec<Host>,
    /// Where all files are.
    pub(crate) dir: TempDir,
    watchdog: Arc<Watchdog>,
    range: Range,
}

/// What a world shall consist of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Builder {
    zones: Zones,
    hosts: Vec<String>,
    sites: Vec<Vec<String>>,
    pebble: Behaviour,
}

/// Lines added to the tables of a configuration written by [`World::config_with`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra<'a> {
    /// For `[issuer.pebble]`.
    pub(crate) issuer: &'a str,
    /// For `[dns.main]`.
    pub(crate) dns: &'a str,
    /// For each `[host.NAME]`.
    pub(crate) host: &'a str,
}

impl Builder {
    /// Adds a zone; without any there are `social.test` and `acme.test`.
    pub(crate) fn zone(mut self, name: &str) -> Self {
        self.zones.names.push(name.to_owned());
        self
    }

    /// Adds a zone in which certfleet's key may change nothing.
    pub(crate) fn locked_zone(mut self, name: &str) -> Self {
        self.zones.locked.push(name.to_owned());
        self.zone(name)
    }

    /// Adds a record: a line of a zone file with the full owner name.
    pub(crate) fn record(mut self, line: &str) -> Self {
        self.zones.records.push(line.to_owned());
        self
    }

    /// Adds a secondary name server.
    pub(crate) fn secondary(mut self, notify: Notify) -> Self {
        self.zones.secondary = Some(notify);
        self
    }

    /// Adds hosts.
    pub(crate) fn hosts(mut self, names: &[&str]) -> Self {
        self.hosts.extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// Has every host serve these names with one certificate, called after the first; it has expired.
    pub(crate) fn site(mut self, domains: &[&str]) -> Self {
        self.sites.push(domains.iter().map(|domain| (*domain).to_owned()).collect());
        self
    }

    /// Sets how the ACME server behaves.
    pub(crate) fn pebble(mut self, behaviour: Behaviour) -> Self {
        self.pebble = behaviour;
        self
    }

    /// Starts everything, and waits until everything answers.
    pub(crate) fn start(mut self) -> Result<World, String> {
        if self.zones.names.is_empty() {
            self.zones.names = ["social.test", "acme.test"].map(str::to_owned).to_vec();
        }
        let dir = tempfile::Builder::new()
            .prefix("certfleet-world-")
            .tempdir()
            .map_err(|e| format!("no temporary folder: {e}"))?;
        let range = Range::claim()?;
        let watchdog = Watchdog::start()?;
        let user = run(std::process::Command::new("id").arg("-un"))?.trim().to_owned();
        let identity = Identity::make(&dir.path().join("id_ed25519"))?;

        let folder = |name: &str| -> Result<PathBuf, String> {
            let folder = dir.path().join(name);
            fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
            Ok(folder)
        };
        let (ns_folder, pebble_folder, hosts_folder) = (folder("ns")?, folder("pebble")?, folder("hosts")?);
        let (builder, range_ref, watchdog_ref) = (&self, &range, &watchdog);
        let (identity, user) = (&identity, &user);
        let (ns, pebble, hosts) = thread::scope(|scope| {
            let hosts: Vec<_> = (FIRST_HOST..=LAST)
                .zip(&self.hosts)
                .map(|(last, name)| {
                    let (root, address) = (hosts_folder.join(name), range_ref.address(last));
                    scope.spawn(move || builder.host(name, &root, address, identity, user, watchdog_ref))
                })
                .collect();
            let ns = NameServer::start(&ns_folder, &self.zones, &watchdog)?;
            let pebble =
                Pebble::start(&pebble_folder, range.address(CA), ns.address, &self.pebble, &watchdog)?;
            let hosts: Result<Vec<Host>, String> = hosts
                .into_iter()
                .map(|host| host.join().map_err(|_| "a host's thread panicked".to_owned())?)
                .collect();
            Ok::<_, String>((ns, pebble, hosts?))
        })?;
        if hosts.len() < self.hosts.len() {
            return Err(format!("a world has room for {} hosts", hosts.len()));
        }
        Ok(World { pebble, ns, hosts, dir, watchdog, range })
    }

    fn host(
        &self,
        name: &str,
        root: &Path,
        address: IpAddr,
        identity: &Identity,
        user: &str,
        watchdog: &Arc<Watchdog>,
    ) -> Result<Host, String> {
        let host = Host::new(name, root, address, identity, user, watchdog)?;
        for site in &self.sites {
            let domains: Vec<&str> = site.iter().map(String::as_str).collect();
            let name = domains.first().ok_or("a site needs a name")?;
            host.install_expired(name, &domains)?;
            host.add_server(name, &domains)?;
        }
        host.start()?;
        Ok(host)
    }
}

impl World {
    /// Begins the description of a world.
    pub(crate) fn builder() -> Builder {
        Builder::default()
    }

    /// The host with this name.
    ///
    /// # Panics
    ///
    /// If there is none: the test names a host that it did not ask for.
    pub(crate) fn host(&self, name: &str) -> &Host {
        let found = self.hosts.iter().find(|host| host.name == name);
        found.unwrap_or_else(|| panic!("this world has no host {name}"))
    }

    /// The folder of certfleet's state (`[store] path`).
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// An address of this world that nothing uses, for servers of the test's own; `n` is below 40.
    pub(crate) fn spare_address(&self, n: u8) -> IpAddr {
        self.range.address(FIRST_SPARE + n.min(39))
    }

    /// Starts another ACME server, at the spare address `n`, that knows nothing of the first. What it issues leads
    /// to roots of its own.
    pub(crate) fn another_pebble(&self, n: u8, behaviour: &Behaviour) -> Result<Pebble, String> {
        let folder = self.dir.path().join(format!("pebble-{n}"));
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        Pebble::start(&folder, self.spare_address(n), self.ns.address, behaviour, &self.watchdog)
    }

    /// Boots a machine with a systemd of its own, on the same network; `None` where that is not possible.
    pub(crate) fn machine(&self, shown: &[(&Path, &str)]) -> Option<Machine> {
        Machine::boot(self.dir.path(), &self.watchdog, shown)
    }

    /// Writes certs.toml for this world, with these `[[certificate]]` and other tables at the end.
    pub(crate) fn config(&self, tables: &str) -> Result<PathBuf, String> {
        self.config_with(&Extra::default(), tables)
    }

    /// The same, with lines added to the tables of the world's own parts.
    pub(crate) fn config_with(&self, extra: &Extra<'_>, tables: &str) -> Result<PathBuf, String> {
        let path = self.dir.path().join("certs.toml");
        let mut text = format!(
            "[store]\npath = {store:?}\n\n\
             [resolver]\nnameservers = [\"{ns}\"]\n\n\
             [issuer.pebble]\ndirectory = \"{directory}\"\ndirectory-ca = {directory_ca:?}\nroots = {roots:?}\n\
             contact = [\"ops@social.test\"]\naccept-terms = true\n{issuer}\n\n\
             [dns.main]\nprovider = \"rfc2136\"\nserver = \"{ns}\"\nkey-name = \"{key}\"\n\
             secret = {{ file = {secret:?} }}\nauthoritative = [{authoritative}]\n{dns}\n",
            store = self.store(),
            ns = self.ns.address,
            directory = self.pebble.directory,
            directory_ca = self.pebble.directory_ca,
            roots = self.pebble.roots,
            issuer = extra.issuer,
            key = self.ns.key.name,
            secret = self.ns.secret_file,
            authoritative = list([Some(self.ns.address), self.ns.secondary].into_iter().flatten()),
            dns = extra.dns,
        );
        for host in &self.hosts {
            // The user of the tests owns all of the host.
            let sudo = if extra.host.contains("sudo = ") { "" } else { "sudo = false\n" };
            let _ = write!(
                text,
                "\n[host.{name}]\naddress = \"{address}\"\nport = {port}\nuser = \"{user}\"\n\
                 identity = {identity:?}\nhost-key = [\"{host_key}\"]\ndirectory = {live:?}\n\
                 test = {test:?}\nreload = {reload:?}\nverify = [\"{tls}\"]\n{sudo}{host}\n",
                name = host.name,
                address = host.address,
                port = host.ssh_port,
                user = host.user,
                identity = host.identity,
                host_key = host.host_key,
                live = host.live,
                test = host.test_command,
                reload = host.reload_command,
                tls = host.tls(),
                host = extra.host,
            );
        }
        if !self.hosts.is_empty() {
            let names = list(self.hosts.iter().map(|host| &host.name));
            let _ = write!(text, "\n[group]\ncdn = [{names}]\n");
        }
        let _ = write!(text, "\n{tables}\n");
        write_private(&path, &text)?;
        Ok(path)
    }
}

/// The inside of a TOML array of strings.
fn list<T: std::fmt::Display>(items: impl Iterator<Item = T>) -> String {
    let quoted: Vec<String> = items.map(|item| format!("\"{item}\"")).collect();
    quoted.join(", ")
}

/// The last bytes of addresses.
const CA: u8 = 3;
const FIRST_HOST: u8 = 11;
const LAST: u8 = 210;
const FIRST_SPARE: u8 = 211;
