//! `certfleet host`

use std::fmt::Write;
use std::io::{IsTerminal, stdin};
use std::sync::Arc;

use clap::Subcommand;
use serde_json::json;

use super::{Exit, Output, Refusal, complain, unknown};
use crate::config::Config;
use crate::deploy::error::sudoers_line;
use crate::deploy::receiver;
use crate::deploy::{Presented, host_key, identity, presented};
use crate::engine::Engine;
use crate::model::desired::{Host, Layout};
use crate::model::name::HostName;
use crate::model::problem::Problem;
use crate::render::Progress;
use crate::store::Store;

/// What to do for a host.
#[derive(Debug, Subcommand)]
pub(super) enum HostCommand {
    /// Show the key of a host and, once it is compared, add it to the first known-hosts file
    Pin {
        /// The host, by its name in certs.toml
        host: String,
        /// Add it without asking: it is compared already
        #[arg(long)]
        yes: bool,
    },
    /// Print what the host needs to let us in; makes our SSH key if there is none
    Setup {
        /// The host, by its name in certs.toml
        host: String,
        /// Print the program that is installed there with `receiver = true`, and nothing else
        #[arg(long)]
        script: bool,
    },
}

impl Output {
    pub(super) async fn host(&self, config: Config, what: &HostCommand) -> Result<Exit, Refusal> {
        match what {
            HostCommand::Pin { host, yes } => {
                let host = find(&config, host)?.clone();
                self.pin(config, &host, *yes).await
            }
            HostCommand::Setup { host, script } => {
                let host = find(&config, host)?;
                if *script {
                    return self.receiver_script(host);
                }
                self.set_up(&config, host)
            }
        }
    }

    async fn pin(&self, config: Config, host: &Host, yes: bool) -> Result<Exit, Refusal> {
        if host.local {
            return Ok(self.nothing_to_do(&config, host));
        }
        let via = match &host.via {
            Some(_) => {
                let store =
                    Store::open(&config.store).map_err(|error| Refusal::problem(&Problem::of(&error)))?;
                let engine = Engine::new(Arc::new(config), store, Arc::new(Progress::new()), self.wait)
                    .map_err(|error| Refusal::failed(&error))?;
                engine.way_to(host).await.map_err(|error| Refusal::problem(&Problem::of(&error)))?
            }
            None => None,
        };
        let shown =
            presented(host, via.as_deref()).await.map_err(|error| Refusal::problem(&Problem::of(&error)))?;
        let (address, key) = match shown {
            Presented::Known(expected) => {
                self.print(
                    &format!("`{}` shows a key that is known: {expected}", host.name),
                    &json!({ "host": host.name.as_str(), "known": true, "key": expected }),
                );
                return Ok(Exit::Done);
            }
            Presented::Unknown { address, key } => (address, key),
        };
        complain(&format!(
            "`{}` shows the key\n  {key}\ncompare it on the host itself, on its console or another way that you \
             trust:\n  ssh-keygen -lf {}",
            host.name,
            key.file(),
        ));
        if !yes && !agreed() {
            complain(&format!(
                "nothing was written; when the two are the same: certfleet host pin {} --yes",
                host.name
            ));
            return Ok(Exit::Attention);
        }
        let path =
            host_key::pin(host, &address, &key).map_err(|error| Refusal::problem(&Problem::of(&error)))?;
        self.print(
            &format!("`{}` is pinned in {}: {key}", host.name, path.display()),
            &json!({
                "host": host.name.as_str(), "known": false, "key": key.to_string(),
                "file": path.display().to_string(),
            }),
        );
        Ok(Exit::Done)
    }

    /// What is not reached by SSH has no key to pin, and needs none of ours.
    fn nothing_to_do(&self, config: &Config, host: &Host) -> Exit {
        let includes = includes(config, host);
        let sudoers = host.sudo.then(|| sudoers_line(&host.user));
        let mut text =
            format!("nothing is needed: `{}` is this machine (`kind = \"local\"`), without SSH", host.name);
        if let Some(sudoers) = &sudoers {
            let _ = write!(
                text,
                "; for `sudo = true`, with `visudo -f /etc/sudoers.d/certfleet` (it makes that user root in all \
                 but name):\n\n{sudoers}"
            );
        }
        if !includes.is_empty() {
            let _ = write!(text, "\n\n{}", say_includes(&includes));
        }
        self.print(
            &text,
            &json!({ "host": host.name.as_str(), "local": true, "sudoers": sudoers, "includes": includes }),
        );
        Exit::Done
    }

    fn receiver_script(&self, host: &Host) -> Result<Exit, Refusal> {
        if !host.receiver {
            let (name, hint) = (&host.name, "set `receiver = true` in its table first");
            return Err(Refusal::usage(format!("nothing is to be installed on `{name}`; {hint}")));
        }
        let script = receiver::script();
        self.print(script.trim_end(), &json!({ "host": host.name.as_str(), "script": script }));
        Ok(Exit::Done)
    }

    fn set_up(&self, config: &Config, host: &Host) -> Result<Exit, Refusal> {
        if host.local {
            return Ok(self.nothing_to_do(config, host));
        }
        let file = match host.identity.first() {
            Some(file) => file.clone(),
            None => {
                let store = Store::open(&config.store);
                store.map_err(|error| Refusal::problem(&Problem::of(&error)))?.ssh_identity()
            }
        };
        let made = identity::make(&file).and_then(|made| Ok((made, identity::public(&file)?)));
        let (made, public) = made.map_err(|error| Refusal::problem(&Problem::of(&error)))?;
        // Who leads to others must be allowed to.
        let leads = config.desired.hosts.values().any(|other| other.via.as_ref() == Some(&host.name));
        let options = if host.receiver { receiver::options(host) } else { "restrict".to_owned() };
        let options = if leads { format!("{options},port-forwarding") } else { options };
        let line = format!("{options} {public}");
        let mut text = String::new();
        if made {
            let _ = writeln!(text, "made the SSH key {}\n", file.display());
        }
        let conf = host.receiver.then(|| receiver::conf_of(&config.desired, host));
        if let Some(conf) = &conf {
            let _ = writeln!(text, "{}", installing(host, conf));
        }
        let _ = writeln!(text, "on `{}`, in ~{}/.ssh/authorized_keys:\n\n{line}\n", host.name, host.user);
        let authority = identity::authority(&file)
            .map(|(by, _)| format!("{options},cert-authority,principals=\"{}\" {by}", host.user));
        if let Some(authority) = &authority {
            let _ = writeln!(
                text,
                "or, for {} and those that follow it, the authority that signed it:\n\n{authority}\n",
                identity::beside(&file).display()
            );
        }
        let (lets, what) = match host.receiver {
            true => {
                (receiver::sudoers_lines(&host.user), "it may run this program as root, and nothing else")
            }
            false => (sudoers_line(&host.user), "it is root in all but name then"),
        };
        let sudoers = host.sudo.then_some(lets);
        if let Some(sudoers) = &sudoers {
            let _ = writeln!(
                text,
                "there with `visudo -f /etc/sudoers.d/certfleet`, for `{}` ({what}):\n\n{sudoers}\n",
                host.user
            );
        }
        let _ = writeln!(text, "then, here: certfleet host pin {}", host.name);
        let includes = includes(config, host);
        if !includes.is_empty() {
            let _ = write!(text, "\n{}", say_includes(&includes));
        }
        self.print(
            &text,
            &json!({
                "host": host.name.as_str(), "user": host.user, "identity": file.display().to_string(), "made": made,
                "authorized-keys": line, "cert-authority": authority, "sudoers": sudoers, "receiver-conf": conf,
                "includes": includes,
            }),
        );
        Ok(Exit::Done)
    }
}

fn installing(host: &Host, conf: &str) -> String {
    let (name, program, file) = (&host.name, receiver::PROGRAM, receiver::CONF);
    format!(
        "the program that takes certificates on `{name}`, and judges them; it needs openssl there. Here:\n\n\
         certfleet host setup {name} --script >certfleet-receive\n\n\
         and there, as root, once you have brought the file:\n\n\
         install -o root -g root -m 0755 certfleet-receive {program}\n\n\
         there, as {file}, which only root may change (again when names or settings of `{name}` change in \
         certs.toml):\n\n{conf}"
    )
}

fn find<'a>(config: &'a Config, name: &str) -> Result<&'a Host, Refusal> {
    let hosts = &config.desired.hosts;
    let found = hosts.values().find(|host| host.name.as_str() == name);
    found.ok_or_else(|| unknown("host", name, hosts.keys().map(HostName::as_str)))
}

/// The lines for nginx, of each certificate of this host, where its layout has them.
fn includes(config: &Config, host: &Host) -> Vec<String> {
    if host.layout != Layout::Include {
        return Vec::new();
    }
    let certificates = config.desired.certificates.values();
    let here = certificates.filter(|certificate| certificate.hosts.contains(&host.name));
    here.map(|certificate| {
        format!("include {}/{}.conf;", host.directory.trim_end_matches('/'), certificate.name)
    })
    .collect()
}

fn say_includes(includes: &[String]) -> String {
    format!(
        "once they are deployed, in nginx's `server` block of each, in place of `ssl_certificate` and \
         `ssl_certificate_key`:\n\n{}\n",
        includes.join("\n")
    )
}

/// Whether a person at the terminal says that the keys are the same.
fn agreed() -> bool {
    if !stdin().is_terminal() {
        return false;
    }
    complain("are they the same? type `yes`:");
    let mut answer = String::new();
    stdin().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}
