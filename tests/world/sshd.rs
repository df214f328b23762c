//! One OpenSSH server, with keys of its own, reachable for the user who runs the tests.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::look;
use super::made::write_private;
use super::parts::{self, Program};
use super::process::{Service, Watchdog, read_lossy, run};

/// The key pair with which the tests come in.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The private key's file, in OpenSSH's format, without a passphrase.
    pub(crate) file: PathBuf,
    /// The public key as one line, without a comment.
    pub(crate) public: String,
}

impl Identity {
    /// Makes an ed25519 key pair in this file.
    pub(crate) fn make(file: &Path) -> Result<Self, String> {
        let mut keygen = parts::ssh_keygen()?.command();
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(file);
        run(&mut keygen)?;
        let public = file.with_extension("pub");
        Ok(Self { file: file.to_owned(), public: read_lossy(&public).trim().to_owned() })
    }
}

/// Configures a server in `folder`: `path` is the PATH of its sessions, `guest` who may come in.
pub(crate) fn service(
    name: &str,
    folder: &Path,
    address: SocketAddr,
    guest: &Identity,
    path: &str,
    watchdog: &Arc<Watchdog>,
) -> Result<(Service, Identity), String> {
    let program = parts::sshd()?;
    let host_key = Identity::make(&folder.join("host_key"))?;
    write_private(&folder.join("authorized_keys"), &format!("{}\n", guest.public))?;
    // Also the home of its sessions: what the start-up files of the tester's own shell do (wait for a lock,
    // print a greeting) is no part of this world.
    let folder_text = folder.display();
    // HOME: what this machine's user has in its .bashrc is slow, and leaves locks behind when it is killed.
    let mut config = format!(
        "ListenAddress {address}\n\
         HostKey {folder_text}/host_key\n\
         AuthorizedKeysFile {folder_text}/authorized_keys\n\
         PidFile none\n\
         StrictModes no\n\
         UsePAM no\n\
         UseDNS no\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         PermitRootLogin prohibit-password\n\
         PrintMotd no\n\
         PrintLastLog no\n\
         LogLevel VERBOSE\n\
         Subsystem sftp internal-sftp\n\
         SetEnv \"PATH={path}\" \"HOME={folder_text}\"\n"
    );
    config.push_str(&of_newer_versions(&program));
    let config_file = folder.join("sshd_config");
    write_private(&config_file, &config)?;
    let mut command = command(&program, folder)?;
    command.args(["-D", "-e", "-f"]).arg(&config_file);
    let ready = move || look::banner(address).is_ok_and(|banner| banner.starts_with("SSH-"));
    let service = Service::new(name, command, &folder.join("log"), watchdog, ready)?;
    Ok((service, host_key))
}

/// Settings that only newer servers know: since 9.8 a server is several programs, and punishes addresses.
fn of_newer_versions(program: &Program) -> String {
    let mut text = String::new();
    let Some(prefix) = program.path().ancestors().nth(3) else {
        return text;
    };
    let helper = |name: &str| prefix.join("usr/lib/openssh").join(name);
    if helper("sshd-session").is_file() {
        text.push_str(&format!("SshdSessionPath {}\n", helper("sshd-session").display()));
        text.push_str("PerSourcePenalties no\n");
    }
    if helper("sshd-auth").is_file() {
        text.push_str(&format!("SshdAuthPath {}\n", helper("sshd-auth").display()));
    }
    text
}

/// The server's command, in a mount namespace of its own where root's server lacks something here.
///
/// As root sshd demands a user `sshd`, a directory /run/sshd, and that root is not locked. A machine without
/// an installed server has none of them. They are shown to this one process and its sessions only.
fn command(program: &Program, folder: &Path) -> Result<Command, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(program.command());
    }
    let mut setup = Vec::new();
    let passwd = read_lossy(Path::new("/etc/passwd"));
    if !passwd.lines().any(|line| line.starts_with("sshd:")) {
        let own = folder.join("passwd");
        let line = "sshd:x:65534:65534::/run/sshd:/usr/sbin/nologin\n";
        fs::write(&own, format!("{passwd}{line}")).map_err(|e| format!("{}: {e}", own.display()))?;
        setup.push(format!("mount --bind '{}' /etc/passwd", own.display()));
    }
    let shadow = read_lossy(Path::new("/etc/shadow"));
    if let Some(rest) = shadow.lines().find_map(|line| line.strip_prefix("root:!")) {
        // "!" is a locked account, "*" one without a password.
        let own = folder.join("shadow");
        write_private(&own, &shadow.replace(&format!("root:!{rest}"), &format!("root:*{rest}")))?;
        setup.push(format!("mount --bind '{}' /etc/shadow", own.display()));
    }
    if !Path::new("/run/sshd").is_dir() {
        setup.push("mount -t tmpfs -o mode=0755 tmpfs /run && mkdir -m 0755 /run/sshd".to_owned());
    }
    if setup.is_empty() {
        return Ok(program.command());
    }
    setup.push("exec \"$0\" \"$@\"".to_owned());
    if run(Command::new("unshare").args(["--mount", "true"])).is_err() {
        return Err(
            "sshd as root needs what comes with its package: sudo apt-get install openssh-server".to_owned()
        );
    }
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", &setup.join(" && ")])
        .arg(program.path());
    if let Some(libraries) = program.libraries() {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    Ok(command)
}
