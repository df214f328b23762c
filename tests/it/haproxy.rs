//! The real haproxy on a host: `service = "haproxy"`, and what happens when it does not take a certificate.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::tool::certfleet;
use crate::world::World;
use crate::world::look::{self, Served};
use crate::world::made::write_private;
use crate::world::parts;
use crate::world::ports;
use crate::world::process::{Service, Watchdog};

const NAME: &str = "media.social.test";

/// A host whose certificates are served by haproxy, from a combined.pem that somebody made of certbot's.
pub(crate) struct Balanced {
    pub(crate) world: World,
    pub(crate) config: PathBuf,
    haproxy: Service,
    address: SocketAddr,
}

pub(crate) fn start() -> Balanced {
    let world = World::builder().hosts(&["edge"]).site(&[NAME]).start().unwrap();
    let host = world.host("edge");
    host.stop_nginx();
    let combined = host.live.join(NAME).join("combined.pem");
    let read = |file: &str| fs::read_to_string(host.live.join(NAME).join(file)).unwrap();
    write_private(&combined, &(read("fullchain.pem") + &read("privkey.pem"))).unwrap();

    let [port] = ports::free::<1>(host.address).unwrap();
    let address = SocketAddr::new(host.address, port);
    let conf = host.root.join("haproxy.cfg");
    let text = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n\
         frontend tls\n bind {address} ssl crt {}\n http-request return status 204\n",
        combined.display()
    );
    fs::write(&conf, text).unwrap();
    let program = parts::haproxy().unwrap();
    let libraries = program
        .libraries()
        .map_or(String::new(), |path| format!("LD_LIBRARY_PATH='{}' ", path.to_string_lossy()));
    let (conf, pid) = (conf.display(), host.root.join("haproxy.pid").display().to_string());
    let test = format!("{libraries}{} -c -f {conf}", program.path().display());
    // What `systemctl reload haproxy` does.
    let reload = format!("kill -USR2 $(cat {pid})");

    let mut command = program.command();
    command.args(["-W", "-db", "-f", &conf.to_string(), "-p", &pid]);
    let ready = move || look::served(address, NAME).is_ok();
    let watchdog = Watchdog::start().unwrap();
    let haproxy =
        Service::new("haproxy of edge", command, &host.root.join("log/haproxy"), &watchdog, ready).unwrap();
    haproxy.start().unwrap();

    let config =
        world.config(&format!("[[certificate]]\ndomains = [\"{NAME}\"]\nhosts = [\"edge\"]\n")).unwrap();
    edit(&config, "[host.edge]\n", "[host.edge]\nservice = \"haproxy\"\n");
    edit(&config, &format!("{:?}", host.test_command), &format!("{test:?}"));
    edit(&config, &format!("{:?}", host.reload_command), &format!("{reload:?}"));
    edit(&config, &host.tls().to_string(), &address.to_string());
    Balanced { world, config, haproxy, address }
}

pub(crate) fn edit(config: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(config).unwrap();
    assert!(text.contains(from), "{from} is not in\n{text}");
    fs::write(config, text.replace(from, to)).unwrap();
}

impl Balanced {
    pub(crate) fn served(&self) -> Served {
        look::served(self.address, NAME).unwrap()
    }

    pub(crate) fn combined(&self) -> String {
        fs::read_to_string(self.world.host("edge").live.join(NAME).join("combined.pem")).unwrap()
    }

    /// Whether haproxy would start with what is there, and serve this.
    pub(crate) fn assert_starts_with(&self, leaf: &[u8]) {
        self.haproxy.stop();
        self.haproxy.start().unwrap();
        assert_eq!(self.served().leaf(), leaf);
    }
}

#[test]
fn haproxy_serves_what_was_renewed() {
    let edge = start();
    let master = edge.haproxy.id();
    assert!(edge.served().expired());

    certfleet(&edge.config, &["renew"]).ended(0);

    let served = edge.served();
    assert!(!served.expired() && served.chain.len() > 1, "{served:?}");
    let host = edge.world.host("edge");
    let read = |file: &str| fs::read_to_string(host.live.join(NAME).join(file)).unwrap();
    assert_eq!(edge.combined(), read("fullchain.pem") + &read("privkey.pem"));
    // It is the same that ran before, and what is there is good for another start.
    assert!(edge.haproxy.running() && edge.haproxy.id() == master);
    certfleet(&edge.config, &["renew"]).ended(0);
    assert_eq!((edge.world.pebble.orders(), host.connections()), (1, 1), "what is done was done again");
    edge.assert_starts_with(served.leaf());

    certfleet(&edge.config, &["renew", "--force", NAME]).ended(0);
    assert_ne!(edge.served().leaf(), served.leaf());
}

#[test]
fn what_haproxy_refuses_is_rolled_back() {
    let edge = start();
    let (before, combined) = (edge.served(), edge.combined());
    // A mistake that only haproxy itself knows: it finds no key in it.
    edit(&edge.config, "[host.edge]\n", "[host.edge]\nfiles = { \"combined.pem\" = [\"fullchain\"] }\n");

    let ran = certfleet(&edge.config, &["renew"]).ended(1);
    let said = ran.out + &ran.err;
    assert!(said.contains("No Private Key found"), "haproxy's own words are missing:\n{said}");
    assert_eq!(edge.combined(), combined);
    edge.assert_starts_with(before.leaf());

    edit(&edge.config, "files = { \"combined.pem\" = [\"fullchain\"] }\n", "");
    certfleet(&edge.config, &["deploy"]).ended(0);
    assert!(!edge.served().expired());
    assert_eq!(edge.world.pebble.orders(), 1);
}

#[test]
fn what_haproxy_does_not_serve_is_put_back() {
    let edge = start();
    let before = edge.served();
    let text = fs::read_to_string(&edge.config).unwrap();
    let reload = text.lines().find(|line| line.starts_with("reload = ")).unwrap();
    edit(&edge.config, reload, "reload = \"true\"");

    certfleet(&edge.config, &["renew"]).ended(1);

    assert!(edge.served().expired());
    edge.assert_starts_with(before.leaf());

    edit(&edge.config, "reload = \"true\"", reload);
    certfleet(&edge.config, &["deploy"]).ended(0);
    assert!(!edge.served().expired());
    assert_eq!(edge.world.pebble.orders(), 1);
}
