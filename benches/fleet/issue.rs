//! Issuing, beside the bare protocol and other clients.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::world::made::write_private;
use super::world::pebble::Behaviour;
use super::world::{World, parts};
use super::{Failed, Line, certfleet, delay, median, processor, processor_of_ended, timed};

/// Where others find the CA, and what they write into.
struct Place<'a> {
    world: &'a World,
    directory: String,
    folder: PathBuf,
}

/// Issuing so many certificates at once, the account made before; then what others need in the same world.
pub(crate) fn line(count: usize, one_way: Option<Duration>) -> Result<Line, Failed> {
    let world = World::builder().pebble(Behaviour { hurries: true, ..Behaviour::default() }).start()?;
    let proxy = one_way.map(|time| delay::Proxy::start(world.pebble.address, time)).transpose()?;
    let directory = match &proxy {
        Some(proxy) => format!("https://localhost:{}/dir", proxy.port),
        None => world.pebble.directory.clone(),
    };
    let mut tables = String::new();
    for number in 0..count {
        write!(tables, "[[certificate]]\ndomains = [\"n{number}.social.test\"]\n")?;
    }
    let config = world.config(&tables)?;
    let text = fs::read_to_string(&config)?;
    fs::write(&config, text.replace(&world.pebble.directory, &directory))?;
    certfleet(&config, &["renew", "n0.social.test"])?;

    let servers = || {
        let ids = [world.pebble.service.id(), world.ns.primary_service.id()];
        ids.into_iter().flatten().map(processor).sum::<f64>()
    };
    let before = (world.pebble.requests(), processor_of_ended(), servers());
    let ours = median(|| Ok(certfleet(&config, &["renew", "--force"])?.as_secs_f64()))?;
    let requests = (world.pebble.requests() - before.0) as f64 / (3 * count) as f64;
    let (own, servers) = (processor_of_ended() - before.1, servers() - before.2);
    let note = format!(
        "{requests:.1} requests each, the directory's included; processor time {:.2} s, of CA and name server {:.2} s",
        own / 3.0,
        servers / 3.0
    );

    let mut others = Vec::new();
    if let Some(time) = one_way {
        // For TCP, TLS, the directory, and eight requests one after the other, two of them at least 50 ms after the
        // one before, which they are here anyway.
        others.push(("bare protocol, 12 round trips".to_owned(), Ok(24.0 * time.as_secs_f64())));
    }
    if count <= MOST_BY_OTHERS {
        let how = if count == 1 { "" } else { ", one after the other" };
        let place = Place { world: &world, directory, folder: world.dir.path().to_owned() };
        others.push((format!("lego{how}"), place.lego(count)));
        others.push((format!("certbot{how}"), place.certbot(count)));
    }
    Ok(Line { ours, others, note })
}

impl Place<'_> {
    /// lego, which takes one certificate at a time; its account is made before.
    fn lego(&self, count: usize) -> Result<f64, Failed> {
        let program = parts::lego()?;
        let issue = |name: &str| -> Result<f64, Failed> {
            let mut command = program.command();
            command
                .env("LEGO_CA_CERTIFICATES", &self.world.pebble.directory_ca)
                .env("RFC2136_NAMESERVER", self.world.ns.address.to_string())
                .env("RFC2136_TSIG_ALGORITHM", "hmac-sha256.")
                .env("RFC2136_TSIG_KEY", &self.world.ns.key.name)
                .env("RFC2136_TSIG_SECRET", fs::read_to_string(&self.world.ns.secret_file)?.trim())
                .args(["--server", &self.directory, "--accept-tos", "--email", "ops@social.test"])
                .args(["--dns", "rfc2136", "--dns.resolvers", &self.world.ns.address.to_string()])
                // It would look for the zone's name servers at port 53.
                .args(["--dns.disable-cp", "--domains", name, "--path"])
                .arg(self.folder.join("lego"))
                .arg("run");
            Ok(timed(&mut command)?.as_secs_f64())
        };
        several(count, "lego", issue)
    }

    /// certbot, likewise.
    fn certbot(&self, count: usize) -> Result<f64, Failed> {
        let ns = &self.world.ns;
        let credentials = self.folder.join("certbot.ini");
        let secret = fs::read_to_string(&ns.secret_file)?;
        let settings = [
            ("server", ns.address.ip().to_string()),
            ("port", ns.address.port().to_string()),
            ("name", ns.key.name.clone()),
            ("secret", secret.trim().to_owned()),
            ("algorithm", "HMAC-SHA256".to_owned()),
        ];
        let settings: Vec<String> =
            settings.iter().map(|(key, value)| format!("dns_rfc2136_{key} = {value}\n")).collect();
        write_private(&credentials, &settings.concat())?;
        let issue = |name: &str| -> Result<f64, Failed> {
            let mut command: Command = parts::certbot_rfc2136()?;
            command
                .env("REQUESTS_CA_BUNDLE", &self.world.pebble.directory_ca)
                .args(["certonly", "--non-interactive", "--agree-tos", "--email", "ops@social.test"])
                .args(["--server", &self.directory, "--key-type", "ecdsa", "--domain", name])
                .args(["--dns-rfc2136", "--dns-rfc2136-propagation-seconds", "0"])
                .arg("--dns-rfc2136-credentials")
                .arg(&credentials);
            for (option, folder) in
                [("--config-dir", "config"), ("--work-dir", "work"), ("--logs-dir", "logs")]
            {
                command.arg(option).arg(self.folder.join("certbot").join(folder));
            }
            Ok(timed(&mut command)?.as_secs_f64())
        };
        several(count, "certbot", issue)
    }
}

/// After a first that makes the account: the median of three, or the sum of many.
fn several(count: usize, who: &str, issue: impl Fn(&str) -> Result<f64, Failed>) -> Result<f64, Failed> {
    issue(&format!("first.{who}.social.test"))?;
    if count > 1 {
        return (0..count).map(|number| issue(&format!("n{number}.{who}.social.test"))).sum();
    }
    let mut round = 0;
    median(|| {
        round += 1;
        issue(&format!("round{round}.{who}.social.test"))
    })
}

/// Those that take one certificate after the other would take minutes for more.
const MOST_BY_OTHERS: usize = 10;
