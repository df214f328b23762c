//! The package installed and its units run, by a real systemd; the servers that they talk to are outside.

use std::net::SocketAddr;
use std::path::Path;

use crate::package;
use crate::world::World;
use crate::world::look::{self, Served};
use crate::world::machine::Machine;
use crate::world::parts;

const NAME: &str = "www.social.test";

/// A machine with the package installed and nginx running, as an administrator would have them; certs.toml is for
/// its own web server.
struct Controller {
    // The machine goes first: it talks to the world.
    machine: Machine,
    world: World,
    tls: SocketAddr,
}

impl Controller {
    /// `None` where no systemd can be booted.
    fn new() -> Option<Self> {
        let world = World::builder().zone("social.test").start().unwrap();
        let nginx = parts::nginx().unwrap();
        // Of the distribution, or unpacked with its libraries.
        let unpacked = nginx
            .libraries()
            .and_then(|_| nginx.path().ancestors().nth(3))
            .unwrap_or_else(|| Path::new("/usr/share/nginx"));
        let package = package::built();
        let machine = world.machine(&[(package, "/srv/certfleet.deb"), (unpacked, "/srv/nginx")])?;
        let this = Self { tls: (world.spare_address(0), 443).into(), machine, world };
        this.start_nginx(nginx.libraries().is_some());
        Some(this)
    }

    fn start_nginx(&self, unpacked: bool) {
        if unpacked {
            let program = "#!/bin/sh\nexport LD_LIBRARY_PATH=$(echo /srv/nginx/usr/lib/*-linux-*)\n\
                           exec /srv/nginx/usr/sbin/nginx \"$@\"\n";
            self.machine.write("/usr/sbin/nginx", program);
            self.machine.sh("chmod 755 /usr/sbin/nginx; mkdir -p /var/log/nginx /var/lib/nginx");
        }
        self.machine.write("/etc/nginx/nginx.conf", &nginx_config(self.tls));
        self.machine.write(
            "/etc/systemd/system/nginx.service",
            "[Service]\nType=forking\nPIDFile=/run/nginx.pid\nExecStart=nginx\nExecReload=nginx -s reload\n",
        );
        self.machine.sh(
            "mkdir -p /etc/letsencrypt/live; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
             -subj /CN=default -days 9 -keyout /etc/nginx/default.key -out /etc/nginx/default.pem 2>/dev/null; \
             systemctl daemon-reload; systemctl start nginx",
        );
    }

    fn install(&self) {
        // Without an index of all manual pages of the machine.
        self.machine.sh("rm -f /var/lib/man-db/auto-update; dpkg --install /srv/certfleet.deb");
    }

    /// Fills in certs.toml as an administrator would; the secret is a credential of the units.
    fn configure(&self) {
        let (pebble, ns) = (&self.world.pebble, &self.world.ns);
        for (outside, inside) in [(&pebble.directory_ca, "ca.pem"), (&pebble.roots, "roots.pem")] {
            let text = std::fs::read_to_string(outside).unwrap();
            self.machine.write(&format!("/etc/certfleet/{inside}"), &text);
        }
        let secret = std::fs::read_to_string(&ns.secret_file).unwrap();
        self.machine.write("/etc/certfleet/secrets/tsig", &secret);
        self.machine.sh("chmod 644 /etc/certfleet/*.pem; chmod 600 /etc/certfleet/secrets/tsig");
        for unit in ["certfleet", "certfleet-renew"] {
            self.drop_in(unit, "LoadCredential=tsig:/etc/certfleet/secrets/tsig");
        }
        self.machine.write("/etc/certfleet/certs.toml", &self.config("systemctl reload nginx"));
        self.machine.sh("systemctl daemon-reload");
    }

    fn drop_in(&self, unit: &str, line: &str) {
        let file = line.split('=').next().unwrap();
        let path = format!("/etc/systemd/system/{unit}.service.d/{file}.conf");
        self.machine.write(&path, &format!("[Service]\n{line}\n"));
    }

    fn config(&self, reload: &str) -> String {
        let (pebble, ns) = (&self.world.pebble, &self.world.ns);
        format!(
            "[issuer.pebble]\ndirectory = \"{directory}\"\ndirectory-ca = \"ca.pem\"\nroots = \"roots.pem\"\n\
             contact = [\"ops@social.test\"]\naccept-terms = true\n\n\
             [dns.main]\nprovider = \"rfc2136\"\nserver = \"{ns}\"\nkey-name = \"{key}\"\n\
             secret = {{ credential = \"tsig\" }}\nauthoritative = [\"{ns}\"]\n\n\
             [resolver]\nnameservers = [\"{ns}\"]\n\n\
             [host.here]\nkind = \"local\"\nverify = [\"{tls}\"]\nreload = \"{reload}\"\n\n\
             [[certificate]]\ndomains = [\"{NAME}\"]\nhosts = [\"here\"]\n",
            directory = pebble.directory,
            ns = ns.address,
            key = ns.key.name,
            tls = self.tls,
        )
    }

    /// nginx has a server for the name from now on, as soon as there is a certificate.
    fn serve(&self) {
        let live = format!("/etc/letsencrypt/live/{NAME}");
        let server = format!(
            "server {{ listen {tls} ssl; server_name {NAME}; ssl_certificate {live}/fullchain.pem; \
             ssl_certificate_key {live}/privkey.pem; }}\n",
            tls = self.tls,
        );
        self.machine.sh(format_args!("mkdir -p {live}; cd {live}; cp /etc/nginx/default.key privkey.pem; cp /etc/nginx/default.pem fullchain.pem"));
        self.machine.write("/etc/nginx/sites/www.conf", &server);
        self.machine.sh("systemctl reload nginx");
    }

    /// The daemon says what is next when it has made one.
    fn wait_for_a_pass(&self) {
        let says = || self.machine.property("certfleet", "StatusText");
        self.machine.wait("the daemon has made a pass", || says().contains("1 certificate, 1 host; next: "));
    }

    fn served(&self) -> Served {
        look::served(self.tls, NAME).unwrap()
    }

    fn wait_until_served(&self) {
        self.machine.wait("a certificate of the CA is served", || self.served().issuer.contains("Pebble"));
    }
}

fn nginx_config(tls: SocketAddr) -> String {
    format!(
        "user www-data;\npid /run/nginx.pid;\nevents {{}}\nhttp {{\n\
         server {{ listen {tls} ssl default_server; ssl_certificate /etc/nginx/default.pem; \
         ssl_certificate_key /etc/nginx/default.key; }}\ninclude /etc/nginx/sites/*.conf;\n}}\n"
    )
}

#[test]
fn the_package_installs_a_daemon_that_renews_this_machine_and_goes_without_a_trace() {
    let Some(controller) = Controller::new() else { return };
    let machine = &controller.machine;
    controller.install();

    // Installed, and nothing runs: there is no configuration.
    assert_eq!(
        machine.sh("systemctl is-enabled certfleet certfleet-local.socket || true"),
        "disabled\ndisabled\n"
    );
    assert_eq!(machine.property("certfleet", "ActiveState"), "inactive");
    let rights = machine.sh("cd /etc/certfleet; stat -c '%a %U:%G' . certs.toml secrets /var/lib/certfleet");
    assert_eq!(
        rights,
        "750 root:certfleet\n640 root:certfleet\n750 root:certfleet\n700 certfleet:certfleet\n"
    );

    controller.configure();
    controller.serve();
    // Returns when the daemon says that it is ready.
    machine.sh("systemctl enable --now --quiet certfleet-local.socket certfleet.service");
    assert_eq!(machine.property("certfleet", "ActiveState"), "active");
    controller.wait_until_served();

    // Root put them there, for the daemon that is not root.
    let live = format!("/etc/letsencrypt/live/{NAME}");
    assert_eq!(machine.sh(format_args!("stat -L -c '%a %U' {live}/privkey.pem")), "600 root\n");
    let daemon = machine.property("certfleet", "MainPID");
    assert_eq!(machine.sh(format_args!("stat -c %U /proc/{daemon}")), "certfleet\n");
    controller.wait_for_a_pass();
    assert_eq!(controller.world.ns.txt_records().unwrap(), Vec::<String>::new());
    assert_eq!(controller.world.pebble.orders(), 1);

    // What the unit denies is denied.
    let status = machine.sh(format_args!("cat /proc/{daemon}/status"));
    for line in ["CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
    for place in ["/etc/certfleet/x", "/etc/nginx/x", "/usr/x", "/var/lib/x"] {
        // Even by root, in the daemon's view of the machine.
        let said = machine.sh(format_args!("nsenter -t {daemon} -m touch {place} 2>&1 || true"));
        assert!(said.contains("Read-only file system"), "{place}: {said}");
    }

    // Commands of a person go on as certfleet, also when root gives them.
    let report = machine.sh("cd /; certfleet report 2>&1");
    assert!(report.contains(NAME) && report.contains("going on as that user"), "{report}");

    // What lies here can be taken into another store, through root, who gives out that folder and no other.
    machine.sh(
        "cd /etc/certfleet; { printf '[store]\\npath = \"/var/lib/certfleet/second\"\\n'; cat certs.toml; } >second.toml",
    );
    let second = "cd /; setpriv --reuid=certfleet --regid=certfleet --clear-groups \
                  certfleet --config /etc/certfleet/second.toml import here 2>&1";
    let taken = machine.sh(second);
    assert!(taken.contains("taken over as version 1"), "{taken}");
    let said = machine.run(&format!("{second} --from /opt")).unwrap_err();
    assert!(said.contains("gives out /etc/letsencrypt of `here` and no other folder"), "{said}");
    machine.sh("rm -r /etc/certfleet/second.toml /var/lib/certfleet/second");

    // A configuration that cannot be used is refused, and the one before goes on.
    machine.sh("sed -i.good 's/^domains/domain/' /etc/certfleet/certs.toml; systemctl reload certfleet");
    machine.wait("the mistake is told", || machine.journal().contains("did you mean \"domains\"?"));
    assert_eq!(machine.property("certfleet", "MainPID"), daemon);
    machine.sh("mv /etc/certfleet/certs.toml.good /etc/certfleet/certs.toml; systemctl reload certfleet");
    assert_eq!(machine.property("certfleet", "ActiveState"), "active");

    // An upgrade starts it anew, and nothing is issued for that.
    controller.install();
    assert_ne!(machine.property("certfleet", "MainPID"), daemon);
    controller.wait_for_a_pass();
    assert_eq!(controller.world.pebble.orders(), 1);

    // Told to end, it ends in order and in time.
    machine.sh("systemctl stop certfleet");
    assert_eq!(machine.property("certfleet", "Result"), "success");

    // Removed: keys stay, whatever is asked for.
    machine.sh("dpkg --remove certfleet");
    assert_eq!(machine.property("certfleet-local.socket", "LoadState"), "not-found");
    assert_eq!(machine.sh("find /etc/systemd/system -name 'certfleet*' -type l"), "");
    machine.sh("test -f /etc/certfleet/certs.toml -a -f /var/lib/certfleet/format");
    machine.sh("dpkg --purge certfleet; test ! -e /etc/certfleet/certs.toml -a -f /var/lib/certfleet/format");
    assert!(controller.served().issuer.contains("Pebble"));
    assert!(machine.is_up());
}

#[test]
fn what_hangs_is_started_again_and_what_fails_is_told() {
    let Some(controller) = Controller::new() else { return };
    let machine = &controller.machine;
    controller.install();
    let told = |code: &str| {
        let found =
            machine.sh(format_args!("journalctl --quiet --output=json CERTFLEET_CODE={code} || true"));
        found.lines().any(|line| line.contains("certfleet.service") && line.contains("\"PRIORITY\":\"2\""))
    };

    // Started without a configuration: nothing but the journal can be told.
    machine.run("systemctl start certfleet").unwrap_err();
    machine.wait("a unit without configuration is told", || told("machine.unit-failed"));

    controller.configure();
    controller.drop_in("certfleet", "WatchdogSec=2s");
    controller.drop_in("certfleet", "RestartSec=100ms");
    machine.sh("systemctl daemon-reload; systemctl start certfleet");
    controller.wait_for_a_pass();
    machine.sh(format_args!("kill -STOP {}", machine.property("certfleet", "MainPID")));
    machine.wait("the one that hung is started again", || {
        machine.property("certfleet", "NRestarts") == "1"
            && machine.property("certfleet", "SubState") == "running"
    });
    assert!(machine.journal().contains("Watchdog timeout"));

    // What systemd does not start again is told through the channels, with fields.
    controller.drop_in("certfleet", "Restart=no");
    machine.sh("systemctl daemon-reload; systemctl kill --kill-whom=main --signal=ABRT certfleet");
    machine.wait("the crash is told", || told("pass.impossible"));
    assert_eq!(machine.property("certfleet", "ActiveState"), "failed");
}

#[test]
fn a_timer_does_without_a_daemon_and_root_does_not_do_what_it_is_told() {
    let Some(controller) = Controller::new() else { return };
    let machine = &controller.machine;
    controller.install();
    controller.configure();
    controller.serve();
    let often = "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/2\nRandomizedDelaySec=0\nAccuracySec=1ms\n";
    machine.write("/etc/systemd/system/certfleet-renew.timer.d/often.conf", often);
    machine.sh("systemctl daemon-reload; systemctl enable --now --quiet certfleet-local.socket certfleet-renew.timer");
    controller.wait_until_served();
    machine.wait("the pass is over", || machine.property("certfleet-renew", "ExecMainStatus") == "0");
    machine.sh("systemctl disable --now --quiet certfleet-renew.timer");
    machine.wait("no pass is under way", || machine.property("certfleet-renew", "ActiveState") == "inactive");
    assert_eq!(controller.world.pebble.orders(), 1);

    machine.sh("systemctl start certfleet-report");
    let report = machine.sh("journalctl --unit certfleet-report --output=cat");
    assert!(report.contains(NAME), "{report}");

    // Whoever has taken certfleet's user over cannot have root run commands of his.
    let deploy = |config: &str| {
        machine.sh(format_args!(
            "chown root:certfleet /etc/certfleet/*.toml; chmod 640 /etc/certfleet/*.toml; cd /; \
             setpriv --reuid=certfleet --regid=certfleet --clear-groups \
             certfleet --config /etc/certfleet/{config} deploy --force 2>&1 || true"
        ))
    };
    let own = controller.config("touch /run/taken-over; systemctl reload nginx");
    machine.write("/etc/certfleet/own.toml", &own);
    let said = deploy("own.toml");
    assert!(said.contains("proven by TLS"), "{said}");
    machine.sh("test ! -e /run/taken-over");

    // Nor have certificates installed that are not for this machine.
    let none = controller.config("systemctl reload nginx").replace("hosts = [\"here\"]", "hosts = []");
    machine.write("/etc/certfleet/certs.toml", &none);
    let said = deploy("own.toml");
    assert!(
        said.contains("root does not allow it") && said.contains("does not have `www.social.test`"),
        "{said}"
    );

    // And certs.toml is root's word only as long as nobody else can write it.
    machine.sh("chown certfleet /etc/certfleet/certs.toml");
    machine.sh("chown certfleet /etc/certfleet");
    let said = deploy("own.toml");
    assert!(said.contains("can be changed by others than root"), "{said}");
}

#[test]
fn what_else_an_administrator_asks_of_the_units() {
    let Some(controller) = Controller::new() else { return };
    let machine = &controller.machine;
    controller.install();
    controller.configure();
    let config = |listen: &str| {
        let stored = controller.config("true").replace("hosts = [\"here\"]", "hosts = []");
        machine.write("/etc/certfleet/certs.toml", &format!("{stored}\n[daemon]\nlisten = \"{listen}\"\n"));
    };

    // Asked at the socket that the unit's own folder is for, by somebody of its group, and at an address.
    config("unix:/run/certfleet/http.sock");
    machine.sh("systemctl start certfleet");
    let socket = "setpriv --reuid=nobody --regid=certfleet --clear-groups \
                  curl --silent --unix-socket /run/certfleet/http.sock http://any.name";
    machine.wait("a pass has ended", || {
        machine.run(&format!("{socket}/healthz")).is_ok_and(|said| said.starts_with("the last complete pass"))
    });
    assert!(machine.sh(format_args!("{socket}/report.json")).contains(NAME));
    assert_eq!(machine.sh("stat -c '%a %U:%G' /run/certfleet/http.sock"), "660 certfleet:certfleet\n");
    machine
        .run("setpriv --reuid=nobody --regid=nogroup --clear-groups curl --unix-socket /run/certfleet/http.sock http://x/")
        .unwrap_err();
    let address = SocketAddr::from((controller.world.spare_address(1), 9469));
    config(&address.to_string());
    machine.sh("systemctl reload certfleet");
    machine.wait("it listens there", || std::net::TcpStream::connect(address).is_ok());
    machine.sh("test ! -e /run/certfleet/http.sock");
    let metrics = machine.sh(format_args!("curl --silent http://{address}/metrics"));
    assert!(metrics.contains(&format!("{{name=\"{NAME}\"")), "{metrics}");

    // The store's disk becomes read-only: the daemon lives, people are told, and all is well when it is back.
    let daemon = machine.property("certfleet", "MainPID");
    let mount = |how: &str| {
        machine.sh(format_args!("nsenter -t {daemon} -m sh -ec '{how}'"));
        machine.sh("systemctl reload certfleet");
    };
    let told = |what: &str| machine.journal().matches(what).count();
    mount("cd /var/lib; mount --bind certfleet certfleet; mount -o remount,bind,ro certfleet");
    machine.wait("people are told", || {
        told("certfleet cannot work: what people are told cannot be written down") > 0
    });
    let passes = told("pass of ");
    mount("umount /var/lib/certfleet");
    machine.wait("a pass has ended again", || told("pass of ") > passes);
    assert_eq!(machine.property("certfleet", "MainPID"), daemon);
    assert_eq!(machine.sh("certfleet alert list 2>/dev/null"), "nothing is wrong\n");

    // What README has for node_exporter.
    let drop_in = readme_block("# /etc/systemd/system/certfleet-report.service.d/textfile.conf");
    machine.write("/etc/systemd/system/certfleet-report.service.d/textfile.conf", &drop_in);
    machine.sh("systemctl daemon-reload");
    let folder = "/var/lib/prometheus/node-exporter";
    machine.sh(format_args!("mkdir -p {folder}"));
    machine.run("systemctl start certfleet-report").unwrap_err();
    machine
        .sh(format_args!("chgrp certfleet {folder}; chmod g+w {folder}; systemctl start certfleet-report"));
    let text =
        machine.sh(format_args!("stat -c '%a %U' {folder}/certfleet.prom; cat {folder}/certfleet.prom"));
    assert!(text.starts_with("644 certfleet\n") && text.contains(NAME), "{text}");

    // Certificates for another folder of this machine, which root has to allow its unit first.
    let elsewhere = controller
        .config("true")
        .replace("kind = \"local\"\n", "kind = \"local\"\ndirectory = \"/opt/tls\"\ntest = \"true\"\n");
    machine.write("/etc/certfleet/certs.toml", &format!("{elsewhere}verify-names = []\n"));
    machine.sh("mkdir -p /opt/tls; systemctl start certfleet-local.socket");
    let said = machine.run("cd /; certfleet deploy").unwrap_err();
    assert!(said.contains("Read-only file system"), "{said}");
    controller.drop_in("certfleet-local@", "ReadWritePaths=/opt/tls");
    machine.sh("systemctl daemon-reload; cd /; certfleet deploy 2>&1");
    machine.sh(format_args!("openssl x509 -in /opt/tls/{NAME}/fullchain.pem -noout -checkend 0"));
}

/// A block of README that begins with this line.
fn readme_block(first: &str) -> String {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once(&format!("\n{first}\n")).expect("README has it");
    rest.split_once("\n```").expect("it ends").0.to_owned() + "\n"
}
