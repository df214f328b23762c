//! BIND, serving zones that take RFC 2136 updates signed with a TSIG key.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::dns::{self, Key};
use super::made::write_private;
use super::parts;
use super::ports::Port;
use super::process::{Service, Watchdog};

/// The name of the key that certfleet is given.
pub(crate) const KEY_NAME: &str = "certfleet";

/// A second key, which may change anything: the world's own hand.
const WORLD_KEY_NAME: &str = "world";

/// How a secondary hears of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notify {
    /// Never by itself; see [`NameServer::notify_secondary`].
    Off,
    /// This many seconds after a change.
    After(u32),
}

/// What a name server is asked to serve.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zones {
    /// The zones' names.
    pub(crate) names: Vec<String>,
    /// Those of them in which only the world's own key may change anything.
    pub(crate) locked: Vec<String>,
    /// Lines of their zone files, each with its full owner name: `a.social.test. 60 IN A 127.0.0.1`.
    pub(crate) records: Vec<String>,
    /// Whether there is a secondary server, and how it hears of changes.
    pub(crate) secondary: Option<Notify>,
}

/// The primary name server of a world, and its secondary where there is one.
///
/// It is also the resolver: names of its zones are answered with authority, CNAMEs from one zone to another
/// are followed, and as it has a root zone of its own all other names do not exist.
pub(crate) struct NameServer {
    /// The primary's address and port.
    pub(crate) address: SocketAddr,
    /// The secondary's address and port.
    pub(crate) secondary: Option<SocketAddr>,
    /// The key with which TXT records may be changed.
    pub(crate) key: Key,
    /// A file with that key's secret in base64, mode 0600.
    pub(crate) secret_file: PathBuf,
    /// The primary, to stop, start or freeze it.
    pub(crate) primary_service: Service,
    /// The secondary, likewise.
    pub(crate) secondary_service: Option<Service>,
    zones: Vec<String>,
    world_key: Key,
    _ports: [Option<Port>; 2],
}

impl NameServer {
    /// Writes the configuration and starts the servers in `folder`.
    pub(crate) fn start(folder: &Path, zones: &Zones, watchdog: &Arc<Watchdog>) -> Result<Self, String> {
        let program = parts::named()?;
        let port = Port::claim()?;
        let address = port.address();
        let second_port = zones.secondary.map(|_| Port::claim()).transpose()?;
        let secondary = second_port.as_ref().map(Port::address).zip(zones.secondary);
        let key = Key { name: KEY_NAME.to_owned(), secret: random_secret()? };
        let world_key = Key { name: WORLD_KEY_NAME.to_owned(), secret: random_secret()? };

        let home = folder.join("primary");
        create(&home)?;
        let secret_file = folder.join("tsig");
        write_private(&secret_file, &STANDARD.encode(&key.secret))?;
        let mut config = options(&home, address);
        for key in [&key, &world_key] {
            let _ = writeln!(
                config,
                "key \"{}\" {{ algorithm hmac-sha256; secret \"{}\"; }};",
                key.name,
                STANDARD.encode(&key.secret)
            );
        }
        let notify = match secondary {
            Some((to, Notify::After(delay))) => format!(
                "notify explicit; notify-delay {delay}; also-notify {{ {} port {}; }};",
                to.ip(),
                to.port()
            ),
            _ => "notify no;".to_owned(),
        };
        for zone in &zones.names {
            let file = home.join(format!("{zone}.zone"));
            let servers = [Some(address.ip()), secondary.map(|(address, _)| address.ip())];
            fs::write(&file, zone_file(zone, servers, zones))
                .map_err(|e| format!("{}: {e}", file.display()))?;
            let grant = match zones.locked.contains(zone) {
                true => String::new(),
                false => format!("grant {KEY_NAME} zonesub TXT; "),
            };
            let _ = writeln!(
                config,
                "zone \"{zone}\" {{ type primary; file \"{}\"; {notify}\n  \
                 update-policy {{ {grant}grant {WORLD_KEY_NAME} zonesub ANY; }}; }};",
                file.display()
            );
        }
        let primary_service =
            service("name server", &program, &home, &config, address, &zones.names, watchdog)?;
        primary_service.start()?;

        let secondary_service = match secondary {
            Some((own, _)) => {
                let home = folder.join("secondary");
                create(&home)?;
                let mut config = options(&home, own);
                for zone in &zones.names {
                    let _ = writeln!(
                        config,
                        "zone \"{zone}\" {{ type secondary; file \"{zone}.zone\"; notify no; \
                         allow-notify {{ any; }}; primaries {{ {} port {}; }}; }};",
                        address.ip(),
                        address.port()
                    );
                }
                let service = service("secondary", &program, &home, &config, own, &zones.names, watchdog)?;
                service.start()?;
                Some(service)
            }
            None => None,
        };
        Ok(Self {
            address,
            secondary: secondary.map(|(address, _)| address),
            key,
            secret_file,
            primary_service,
            secondary_service,
            zones: zones.names.clone(),
            world_key,
            _ports: [Some(port), second_port],
        })
    }

    /// The answers of the primary, as zone file lines; none for a name that does not exist.
    pub(crate) fn ask(&self, name: &str, kind: &str) -> Result<Vec<String>, String> {
        dns::ask(self.address, name, kind).map(|(_, lines)| lines)
    }

    /// All records of a zone, as zone file lines.
    pub(crate) fn axfr(&self, zone: &str) -> Result<Vec<String>, String> {
        dns::transfer(self.address, zone)
    }

    /// The TXT records of all zones: none of ours may be left after an order.
    pub(crate) fn txt_records(&self) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        for zone in &self.zones {
            let lines = self.axfr(zone)?;
            found.extend(lines.into_iter().filter(|line| line.split_whitespace().nth(3) == Some("TXT")));
        }
        Ok(found)
    }

    /// What the primary has written about its doings.
    pub(crate) fn primary_log(&self) -> String {
        self.primary_service.log()
    }

    /// Adds a record by the world's own key; `line` is `NAME TTL TYPE DATA`.
    pub(crate) fn add(&self, line: &str) -> Result<(), String> {
        dns::update(self.address, &self.world_key, self.zone_of(line)?, line, true)
    }

    /// Removes that one record.
    pub(crate) fn remove(&self, line: &str) -> Result<(), String> {
        dns::update(self.address, &self.world_key, self.zone_of(line)?, line, false)
    }

    /// Tells the secondary that a zone has changed.
    pub(crate) fn notify_secondary(&self, zone: &str) -> Result<(), String> {
        let secondary = self.secondary.ok_or("this world has no secondary name server")?;
        dns::notify(secondary, zone)
    }

    fn zone_of(&self, line: &str) -> Result<&str, String> {
        let owner = line.split_whitespace().next().unwrap_or_default();
        let zones = self.zones.iter().filter(|zone| in_zone(owner, zone));
        zones
            .max_by_key(|zone| zone.len())
            .map(String::as_str)
            .ok_or_else(|| format!("{owner:?} is in no zone of this world"))
    }
}

fn service(
    name: &str,
    program: &parts::Program,
    home: &Path,
    config: &str,
    address: SocketAddr,
    zones: &[String],
    watchdog: &Arc<Watchdog>,
) -> Result<Service, String> {
    let file = home.join("named.conf");
    write_private(&file, config)?;
    let mut command = program.command();
    // -g: in the foreground, logging to standard error; -n 1: one thread is plenty.
    command.args(["-g", "-4", "-n", "1", "-c"]).arg(&file).current_dir(home);
    let zones = zones.to_vec();
    Service::new(name, command, &home.join("log"), watchdog, move || {
        // It listens before it has loaded its zones: they must be there, too.
        zones.iter().all(|zone| dns::ask(address, zone, "SOA").is_ok_and(|(_, answers)| !answers.is_empty()))
    })
}

/// Pebble asks over TCP, three times for each name: with room for ten connections only, as it is by default, those
/// that come at once beyond that are dropped, and begin again a second later.
fn options(home: &Path, address: SocketAddr) -> String {
    let root = home.join("root.zone");
    // An error shows when the server finds no such file.
    let _ = fs::write(
        &root,
        "$TTL 60\n@ IN SOA ns. nobody. 1 3600 600 86400 5\n@ IN NS ns.\nns. IN A 127.0.0.1\n",
    );
    let mut text = format!(
        "options {{\n\
         directory \"{home}\";\n\
         listen-on port {port} {{ {ip}; }};\n\
         listen-on-v6 {{ none; }};\n\
         query-source address {ip};\n\
         transfer-source {ip};\n\
         notify-source {ip};\n\
         pid-file none;\n\
         lock-file none;\n\
         session-keyfile \"{home}/session.key\";\n\
         managed-keys-directory \"{home}\";\n\
         dnssec-validation no;\n\
         recursion yes;\n\
         allow-query {{ 127.0.0.0/8; }};\n\
         allow-recursion {{ 127.0.0.0/8; }};\n\
         allow-transfer {{ 127.0.0.0/8; }};\n\
         empty-zones-enable no;\n\
         max-cache-size 8m;\n\
         tcp-clients 1000;\n\
         tcp-listen-queue 1000;\n\
         serial-query-rate 1000;\n\
         notify-rate 1000;\n\
         }};\n\
         controls {{ }};\n",
        home = home.display(),
        port = address.port(),
        ip = address.ip(),
    );
    let _ = writeln!(text, "zone \".\" {{ type primary; file \"{}\"; notify no; }};", root.display());
    text
}

fn zone_file(zone: &str, servers: [Option<IpAddr>; 2], zones: &Zones) -> String {
    // The last number is how long resolvers remember that a name does not exist.
    let mut text = format!("$TTL 60\n{zone}. IN SOA ns1.{zone}. hostmaster.{zone}. 1 3600 600 86400 5\n");
    for (number, ip) in (1..).zip(servers.into_iter().flatten()) {
        let _ = writeln!(text, "{zone}. IN NS ns{number}.{zone}.\nns{number}.{zone}. IN A {ip}");
    }
    for line in &zones.records {
        let owner = line.split_whitespace().next().unwrap_or_default();
        let longest = zones.names.iter().filter(|name| in_zone(owner, name)).max_by_key(|name| name.len());
        if longest.is_some_and(|name| name == zone) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn in_zone(owner: &str, zone: &str) -> bool {
    let owner = owner.trim_end_matches('.');
    owner == zone || owner.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.'))
}

fn random_secret() -> Result<Vec<u8>, String> {
    let mut secret = vec![0; 32];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut secret))
        .map_err(|e| format!("/dev/urandom: {e}"))?;
    Ok(secret)
}

fn create(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))
}
