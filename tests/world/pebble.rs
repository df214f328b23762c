//! Pebble, the ACME server made for tests, with a HTTPS certificate of its own made here.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::look;
use super::made::{Authority, Pair, write_private};
use super::parts;
use super::ports;
use super::process::{Service, Watchdog};

/// The name by which CAA records let it in.
pub(crate) const CAA_IDENTITY: &str = "ca.test";

/// How this Pebble behaves.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// The life of what it issues, in seconds.
    pub(crate) validity: u64,
    /// Names that it refuses, with all below them.
    pub(crate) blocked: Vec<String>,
    /// The key id and the base64url MAC key that accounts must be bound to.
    pub(crate) external_account: Option<(String, String)>,
    /// The percentage of good nonces it rejects; `None` is its own 5.
    pub(crate) reject_nonces: Option<u8>,
    /// The percentage of valid authorizations it uses again; `None` is its own 50.
    pub(crate) reuse_authorizations: Option<u8>,
    /// Whether it waits up to 15 seconds before it validates.
    pub(crate) sleeps: bool,
    /// Uses all processors, as it does by itself: quicker, but with many orders at once it may lock itself up.
    pub(crate) hurries: bool,
    /// Whether it calls every challenge answered without a look.
    pub(crate) always_valid: bool,
    /// More profiles than the one called `default`, each with the life of what it issues, in seconds. Then an
    /// order that names none gets any of them.
    pub(crate) profiles: Vec<(String, u64)>,
    /// How many other roots it offers chains to.
    pub(crate) alternate_roots: u8,
}

impl Default for Behaviour {
    /// The calm one: the same every time, and at once.
    fn default() -> Self {
        Self {
            validity: 90 * 86_400,
            blocked: Vec::new(),
            external_account: None,
            reject_nonces: Some(0),
            reuse_authorizations: Some(0),
            sleeps: false,
            hurries: false,
            always_valid: false,
            profiles: Vec::new(),
            alternate_roots: 0,
        }
    }
}

impl Behaviour {
    /// Pebble as it is by itself: moody, to find clients that take anything for granted.
    pub(crate) fn chaos(mut self) -> Self {
        self.reject_nonces = None;
        self.reuse_authorizations = None;
        self.sleeps = true;
        self
    }
}

/// A running Pebble.
pub(crate) struct Pebble {
    /// The ACME directory's URL.
    pub(crate) directory: String,
    /// The address of the ACME service.
    pub(crate) address: SocketAddr,
    /// The address of the management interface.
    pub(crate) management: SocketAddr,
    /// A PEM file with the CA of Pebble's own HTTPS (`directory-ca`).
    pub(crate) directory_ca: PathBuf,
    /// A PEM file with the root of the certificates it issues (`roots`), and that of another CA.
    pub(crate) roots: PathBuf,
    /// The process, to freeze it or read its log.
    pub(crate) service: Service,
    alternate_roots: u8,
    other: Authority,
}

impl Pebble {
    /// Writes the configuration and starts Pebble in `folder`.
    pub(crate) fn start(
        folder: &Path,
        ip: IpAddr,
        name_server: SocketAddr,
        behaviour: &Behaviour,
        watchdog: &Arc<Watchdog>,
    ) -> Result<Self, String> {
        let program = parts::pebble()?;
        let [acme, management, http, tls] = ports::free::<4>(ip)?;
        let (address, management) = (SocketAddr::new(ip, acme), SocketAddr::new(ip, management));
        let authority = Authority::new("the CA of the ACME server's own HTTPS")?;
        let own = authority.issue_for_address(ip)?;
        let file = |name: &str| folder.join(name);
        write_private(&file("https.key"), &own.key)?;
        write_private(&file("https.pem"), &own.leaf)?;
        write_private(&file("directory-ca.pem"), &authority.pem())?;
        let mut settings = json!({
            "listenAddress": address.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": file("https.pem"),
            "privateKey": file("https.key"),
            "httpPort": http,
            "tlsPort": tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": behaviour.external_account.is_some(),
            "domainBlocklist": behaviour.blocked,
            "caaIdentities": [CAA_IDENTITY],
            "retryAfter": { "authz": 1, "order": 1 },
            "keyAlgorithm": "ecdsa",
            // Only one: of several it takes any for an order that names none.
            "profiles": { "default": { "description": "the only one", "validityPeriod": behaviour.validity } },
        });
        for (name, life) in &behaviour.profiles {
            settings["profiles"][name] = json!({ "description": "another", "validityPeriod": life });
        }
        if let Some((id, key)) = &behaviour.external_account {
            settings["externalAccountMACKeys"] = json!({ id.as_str(): key });
        }
        write_private(&file("config.json"), &json!({ "pebble": settings }).to_string())?;

        let mut command = program.command();
        command
            .arg("-config")
            .arg(file("config.json"))
            .args(["-dnsserver", &name_server.to_string()])
            .current_dir(folder);
        let percentages = [
            ("PEBBLE_WFE_NONCEREJECT", behaviour.reject_nonces),
            ("PEBBLE_AUTHZREUSE", behaviour.reuse_authorizations),
        ];
        for (name, percentage) in percentages {
            match percentage {
                Some(percentage) => command.env(name, percentage.to_string()),
                None => command.env_remove(name),
            };
        }
        command.env("PEBBLE_VA_NOSLEEP", if behaviour.sleeps { "0" } else { "1" });
        command.env("PEBBLE_VA_ALWAYS_VALID", if behaviour.always_valid { "1" } else { "0" });
        command.env("PEBBLE_ALTERNATE_ROOTS", behaviour.alternate_roots.to_string());
        // It takes the locks of an authorization and of its store in both orders: with orders and answers to others
        // at the same instant it stands still for good. One at a time, and not interrupted by its garbage collector,
        // it hardly ever does.
        if !behaviour.hurries {
            command.env("GOMAXPROCS", "1").env("GOGC", "off").env("GOMEMLIMIT", "400MiB");
        }
        let service = Service::new("pebble", command, &file("log"), watchdog, move || {
            look::get(address, "/dir").is_ok() && look::get(management, "/roots/0").is_ok()
        })?;
        let pebble = Self {
            directory: format!("https://{address}/dir"),
            address,
            management,
            directory_ca: file("directory-ca.pem"),
            roots: file("roots.pem"),
            service,
            alternate_roots: behaviour.alternate_roots,
            other: Authority::new("another CA that everybody trusts")?,
        };
        pebble.start_again()?;
        Ok(pebble)
    }

    /// Stops it.
    pub(crate) fn stop(&self) {
        self.service.stop();
    }

    /// Starts it on the same ports. It has forgotten everything, and has a new root: `roots` is written anew.
    pub(crate) fn start_again(&self) -> Result<(), String> {
        self.service.start()?;
        let mut roots = self.other.pem();
        for number in 0..=self.alternate_roots {
            roots.insert_str(0, &look::get(self.management, &format!("/roots/{number}"))?);
        }
        fs::write(&self.roots, roots).map_err(|e| format!("{}: {e}", self.roots.display()))
    }

    /// How many orders were made since the first start.
    pub(crate) fn orders(&self) -> usize {
        self.count("Added order ")
    }

    /// How many certificates were issued since the first start.
    pub(crate) fn issued(&self) -> usize {
        self.count("Issued certificate serial ")
    }

    /// How many requests it was sent since the first start.
    pub(crate) fn requests(&self) -> usize {
        self.count("-> calling handler()")
    }

    /// Fixes what renewal information says of a certificate (PEM): a window, as RFC 3339 times.
    pub(crate) fn set_renewal_window(&self, certificate: &str, start: &str, end: &str) -> Result<(), String> {
        let answer = json!({ "suggestedWindow": { "start": start, "end": end } });
        self.set_renewal_info(certificate, &answer.to_string())
    }

    /// Fixes the whole answer to questions for renewal information, be it nonsense.
    pub(crate) fn set_renewal_info(&self, certificate: &str, answer: &str) -> Result<(), String> {
        let request = json!({ "certificate": certificate, "ariResponse": answer });
        look::post(self.management, "/set-renewal-info/", &request.to_string()).map(drop)
    }

    /// Whether the certificate with this serial number (hex) was revoked.
    pub(crate) fn revoked(&self, serial: &str) -> Result<bool, String> {
        let status = look::get(self.management, &format!("/cert-status-by-serial/{serial}"))?;
        let status: Value =
            serde_json::from_str(&status).map_err(|e| format!("the status of {serial}: {e}"))?;
        Ok(status["Status"] == "Revoked")
    }

    /// A certificate of another CA whose root is in `roots`, too: what somebody else put on a host.
    pub(crate) fn issue_aside(&self, domains: &[&str], from: i64, until: i64) -> Result<Pair, String> {
        self.other.issue(domains, from, until)
    }

    fn count(&self, what: &str) -> usize {
        self.service.log().lines().filter(|line| line.contains(what)).count()
    }
}
