//! A host: an SSH server and nginx on an address of its own, with certificates as certbot lays them out.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::disk::Disk;
use super::look::{self, Served};
use super::made::{self, Authority, DAY, Pair, write_private};
use super::parts::{self, Program};
use super::ports;
use super::process::{Service, Watchdog, read_lossy, run};
use super::sshd::{self, Identity};

/// What the test or reload command of a host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// It does its work.
    Works,
    /// It does nothing and ends with 1.
    Fails,
    /// It does nothing and ends with 0.
    Lies,
    /// It does nothing and does not end.
    Hangs,
}

/// One host of a world.
pub(crate) struct Host {
    /// Its name, as in certs.toml.
    pub(crate) name: String,
    /// Its address, which no other host has.
    pub(crate) address: IpAddr,
    /// The SSH server's port.
    pub(crate) ssh_port: u16,
    /// The port where nginx serves TLS.
    pub(crate) tls_port: u16,
    /// The folder where all its files are.
    pub(crate) root: PathBuf,
    /// The folder of its certificates (`directory`).
    pub(crate) live: PathBuf,
    /// The command that tests nginx's configuration (`test`).
    pub(crate) test_command: String,
    /// The command that reloads nginx (`reload`).
    pub(crate) reload_command: String,
    /// The public key of its SSH server (`host-key`).
    pub(crate) host_key: String,
    /// The private key with which one comes in (`identity`).
    pub(crate) identity: PathBuf,
    /// The user as whom one comes in.
    pub(crate) user: String,
    /// The SSH server's process.
    pub(crate) sshd: Service,
    /// nginx's process.
    pub(crate) nginx: Service,
    sites: Mutex<Vec<(String, Vec<String>)>>,
    disk: OnceLock<Disk>,
}

impl Host {
    /// Configures a host in `root`; starts nothing.
    pub(crate) fn new(
        name: &str,
        root: &Path,
        address: IpAddr,
        guest: &Identity,
        user: &str,
        watchdog: &Arc<Watchdog>,
    ) -> Result<Self, String> {
        for folder in ["live", "archive", "bin", "log", "ssh", "nginx/sites", "nginx/tmp", "scripts"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        let [ssh_port, tls_port] = ports::free::<2>(address)?;
        let program = parts::nginx()?;
        let bin = root.join("bin");
        executable(&bin.join("nginx"), &nginx_script(root, &program))?;
        executable(&bin.join("test"), &counting_script(root, "test", "-t"))?;
        executable(&bin.join("reload"), &counting_script(root, "reload", "-s reload"))?;
        write_private(
            &root.join("nginx/nginx.conf"),
            &nginx_config(root, SocketAddr::new(address, tls_port)),
        )?;
        let default = made::self_signed(&["default.invalid"], -DAY, 3650 * DAY)?;
        write_private(&root.join("nginx/default.pem"), &default.leaf)?;
        write_private(&root.join("nginx/default.key"), &default.key)?;

        let mut command = Command::new(bin.join("nginx"));
        command.args(["-g", "daemon off;"]);
        let tls = SocketAddr::new(address, tls_port);
        let ready = move || std::net::TcpStream::connect(tls).is_ok();
        let log = root.join("log/nginx");
        let nginx = Service::new(format!("nginx of {name}"), command, &log, watchdog, ready)?;
        let ssh = SocketAddr::new(address, ssh_port);
        let what = format!("sshd of {name}");
        let (sshd, host_key) =
            sshd::service(&what, &root.join("ssh"), ssh, guest, &session_path(&bin), watchdog)?;
        Ok(Self {
            name: name.to_owned(),
            address,
            ssh_port,
            tls_port,
            live: root.join("live"),
            test_command: bin.join("test").display().to_string(),
            reload_command: bin.join("reload").display().to_string(),
            root: root.to_owned(),
            host_key: host_key.public,
            identity: guest.file.clone(),
            user: user.to_owned(),
            sshd,
            nginx,
            sites: Mutex::default(),
            disk: OnceLock::new(),
        })
    }

    /// The address and port where it serves TLS.
    pub(crate) fn tls(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.tls_port)
    }

    /// The address and port of its SSH server.
    pub(crate) fn ssh(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.ssh_port)
    }

    /// Starts both servers.
    pub(crate) fn start(&self) -> Result<(), String> {
        self.start_sshd()?;
        self.start_nginx()
    }

    /// Cuts its power: both servers, and all that runs there.
    pub(crate) fn stop(&self) {
        self.stop_sshd();
        self.stop_nginx();
    }

    /// Starts nginx, on the same port as ever.
    pub(crate) fn start_nginx(&self) -> Result<(), String> {
        self.nginx.start()
    }

    /// Kills nginx.
    pub(crate) fn stop_nginx(&self) {
        self.nginx.stop();
        // A killed nginx leaves it behind; a reload would then signal whoever has the number now.
        let _ = fs::remove_file(self.root.join("nginx/nginx.pid"));
    }

    /// Starts the SSH server, on the same port as ever and with the same key.
    pub(crate) fn start_sshd(&self) -> Result<(), String> {
        self.sshd.start()
    }

    /// Kills the SSH server with all its sessions: from outside the host is down.
    pub(crate) fn stop_sshd(&self) {
        self.sshd.stop();
    }

    /// Adds a line to nginx's configuration that it refuses.
    pub(crate) fn break_config(&self) -> Result<(), String> {
        write_private(&self.broken_file(), "this_is_no_directive on;\n")
    }

    /// Takes that line away.
    pub(crate) fn mend_config(&self) -> Result<(), String> {
        let file = self.broken_file();
        fs::remove_file(&file).map_err(|e| format!("{}: {e}", file.display()))
    }

    /// Sets what the test command does from now on.
    pub(crate) fn set_test(&self, script: Script) -> Result<(), String> {
        self.set_script("test", script)
    }

    /// Sets what the reload command does from now on.
    pub(crate) fn set_reload(&self, script: Script) -> Result<(), String> {
        self.set_script("reload", script)
    }

    /// Adds a server block for these names with the certificate `name`; nginx is not told.
    pub(crate) fn add_server(&self, name: &str, domains: &[&str]) -> Result<(), String> {
        let live = self.live.join(name);
        let block = format!(
            "server {{\n    listen {tls} ssl;\n    server_name {domains};\n    \
             ssl_certificate \"{live}/fullchain.pem\";\n    ssl_certificate_key \"{live}/privkey.pem\";\n    \
             return 200 \"{name}\\n\";\n}}\n",
            tls = self.tls(),
            domains = domains.join(" "),
            live = live.display(),
        );
        write_private(&self.root.join("nginx/sites").join(format!("{name}.conf")), &block)?;
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        sites.push((name.to_owned(), domains.iter().map(|domain| (*domain).to_owned()).collect()));
        Ok(())
    }

    /// The server blocks so far: the certificate's name, and the names served with it.
    pub(crate) fn sites(&self) -> Vec<(String, Vec<String>)> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a certificate where certbot would have put it; nginx is not told.
    pub(crate) fn install(&self, name: &str, pair: &Pair) -> Result<(), String> {
        made::install_as_certbot(&self.root, name, pair)
    }

    /// Installs one that ran out ten days ago, from a CA that nobody knows.
    pub(crate) fn install_expired(&self, name: &str, domains: &[&str]) -> Result<(), String> {
        let authority = Authority::new("a CA of the past")?;
        self.install(name, &authority.issue(domains, -100 * DAY, -10 * DAY)?)
    }

    /// Installs one that vouches for itself.
    pub(crate) fn install_selfsigned(&self, name: &str, domains: &[&str]) -> Result<(), String> {
        self.install(name, &made::self_signed(domains, -DAY, 90 * DAY)?)
    }

    /// Reloads nginx past the reload command, so that it is not counted.
    pub(crate) fn reload_quietly(&self) -> Result<(), String> {
        run(Command::new(self.root.join("bin/nginx")).args(["-s", "reload"])).map(drop)
    }

    /// Gives its certificates a disk of their own, and restarts its servers.
    pub(crate) fn give_disk(&self) -> Result<&Disk, String> {
        self.stop();
        let disk = Disk::under(&self.live)?;
        self.sshd.start_by(disk.entering())?;
        self.nginx.start_by(disk.entering())?;
        let disk = self.disk.get_or_init(|| disk);
        self.start()?;
        Ok(disk)
    }

    /// The disk of its certificates, if they have one of their own.
    pub(crate) fn disk(&self) -> Option<&Disk> {
        self.disk.get()
    }

    /// A path of the host as it can be opened from outside.
    pub(crate) fn seen(&self, path: &Path) -> PathBuf {
        self.disk().map_or_else(|| path.to_owned(), |disk| disk.outside(path))
    }

    /// nginx's own test of its configuration, past the test command; what it said if it failed.
    pub(crate) fn startable(&self) -> Result<(), String> {
        let nginx = self.root.join("bin/nginx");
        let mut command = self.disk().map_or_else(|| Command::new("env"), Disk::entering);
        run(command.arg(nginx).arg("-t")).map(drop)
    }

    /// What nginx serves for this name.
    pub(crate) fn served(&self, name: &str) -> Result<Served, String> {
        look::served(self.tls(), name)
    }

    /// How often somebody came in by SSH.
    pub(crate) fn connections(&self) -> usize {
        let log = self.sshd.log();
        log.lines().filter(|line| line.starts_with("Accepted publickey for ")).count()
    }

    /// How often the test command ran.
    pub(crate) fn tests(&self) -> usize {
        self.runs("test")
    }

    /// How often the reload command ran.
    pub(crate) fn reloads(&self) -> usize {
        self.runs("reload")
    }

    fn runs(&self, script: &str) -> usize {
        read_lossy(&self.root.join("log").join(script)).lines().count()
    }

    fn set_script(&self, which: &str, script: Script) -> Result<(), String> {
        let word = match script {
            Script::Works => "works",
            Script::Fails => "fails",
            Script::Lies => "lies",
            Script::Hangs => "hangs",
        };
        write_private(&self.root.join("scripts").join(which), word)
    }

    fn broken_file(&self) -> PathBuf {
        self.root.join("nginx/sites/broken.conf")
    }
}

fn nginx_config(root: &Path, tls: SocketAddr) -> String {
    let root = root.display();
    let mut text = String::new();
    if rustix::process::geteuid().is_root() {
        // Other users cannot look into our temporary folder.
        text.push_str("user root;\n");
    }
    let _ = write!(
        text,
        "worker_processes 2;\n\
         pid \"{root}/nginx/nginx.pid\";\n\
         error_log \"{root}/log/nginx-error\" notice;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n\
         access_log off;\n\
         client_body_temp_path \"{root}/nginx/tmp/body\";\n\
         proxy_temp_path \"{root}/nginx/tmp/proxy\";\n\
         fastcgi_temp_path \"{root}/nginx/tmp/fastcgi\";\n\
         uwsgi_temp_path \"{root}/nginx/tmp/uwsgi\";\n\
         scgi_temp_path \"{root}/nginx/tmp/scgi\";\n\
         ssl_protocols TLSv1.2 TLSv1.3;\n\
         server {{\n\
         listen {tls} ssl default_server;\n\
         server_name _;\n\
         ssl_certificate \"{root}/nginx/default.pem\";\n\
         ssl_certificate_key \"{root}/nginx/default.key\";\n\
         return 404;\n\
         }}\n\
         include \"{root}/nginx/sites/*.conf\";\n\
         }}\n"
    );
    text
}

/// nginx with this host's configuration; arguments of its own come last and win.
fn nginx_script(root: &Path, program: &Program) -> String {
    let libraries = match program.libraries() {
        Some(libraries) => format!("export LD_LIBRARY_PATH={}\n", quoted(libraries)),
        None => String::new(),
    };
    format!(
        "#!/bin/sh\n{libraries}exec {program} -p {prefix} -e {log} -c {config} \"$@\"\n",
        program = quoted(program.path().as_os_str()),
        prefix = quoted(root.join("nginx").as_os_str()),
        log = quoted(root.join("log/nginx-error").as_os_str()),
        config = quoted(root.join("nginx/nginx.conf").as_os_str()),
    )
}

/// A command that adds a line to its log each time it runs, and that a test can break.
fn counting_script(root: &Path, name: &str, arguments: &str) -> String {
    format!(
        "#!/bin/sh\n\
         echo run >>{log}\n\
         case $(cat {behaviour} 2>/dev/null) in\n\
         fails) echo '{name}: told to fail' >&2; exit 1 ;;\n\
         lies) exit 0 ;;\n\
         hangs) exec sleep 3600 ;;\n\
         esac\n\
         exec {nginx} {arguments}\n",
        log = quoted(root.join("log").join(name).as_os_str()),
        behaviour = quoted(root.join("scripts").join(name).as_os_str()),
        nginx = quoted(root.join("bin/nginx").as_os_str()),
    )
}

fn executable(path: &Path, content: &str) -> Result<(), String> {
    write_private(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// The PATH of an SSH session: this host's nginx first, then where programs usually are.
fn session_path(bin: &Path) -> String {
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut path = format!("{}:{usual}", bin.display());
    for folder in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
        // Programs that only this machine's own PATH knows, such as a flock in an unusual place.
        if !usual.split(':').any(|known| Path::new(known) == folder) && folder.is_absolute() {
            let _ = write!(path, ":{}", folder.display());
        }
    }
    path
}

fn quoted(text: &OsStr) -> String {
    format!("'{}'", text.to_string_lossy().replace('\'', "'\\''"))
}
