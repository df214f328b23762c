//! Hosts that judge for themselves what they are brought, because our key there can do nothing else.
//!
//! The transaction is the same script, installed there with [`receive.sh`](../deploy/receive.sh) at its end as the
//! forced command of the key. What is sent is a request: which action, and the data.

mod compare;

use std::fmt::Write;

use zeroize::Zeroizing;

pub use self::compare::{Difference, Installed, differences, install_again, is_ours};
use super::protocol::{Conversation, SCRIPT, access_words};
use crate::model::desired::{Certificate, Desired, Host, Issuer, MadeFile};
use crate::model::name::IssuerName;

/// What makes a receiver of the transaction.
const RECEIVE: &str = include_str!("receive.sh");
/// The last line of the transaction, which runs it as it comes.
const STREAMED: &str = "\nmain\n";

/// Where it is installed.
pub const PROGRAM: &str = "/usr/local/sbin/certfleet-receive";
/// Where it is told what is allowed.
pub const CONF: &str = "/etc/certfleet-receive.conf";
/// What ssh is asked to run. The forced command does not look at it.
pub(super) const COMMAND: &str = "certfleet-receive";

/// The program to install.
pub fn script() -> String {
    let transaction = SCRIPT.strip_suffix(STREAMED).unwrap_or(SCRIPT);
    format!("#!/bin/sh\n{transaction}\n{RECEIVE}")
}

/// What a host is sent: its own script knows the settings.
pub fn request(conversation: &mut Conversation) -> Zeroizing<Vec<u8>> {
    let request = conversation.take_request();
    let mut whole = Zeroizing::new(Vec::with_capacity(request.len() + 32));
    // The number goes up when the form of a request changes.
    whole.extend_from_slice(b"certfleet-receive 1 ");
    whole.extend_from_slice(&request);
    whole
}

/// The options of the line in authorized_keys.
pub fn options(host: &Host) -> String {
    let sudo = if host.sudo { "sudo -n " } else { "" };
    format!("restrict,command=\"{sudo}{PROGRAM}\"")
}

/// The lines of a sudoers file that let a user run the receiver, without arguments, and nothing else.
///
/// Where sudoers has no `secure_path`, sudo hands on the user's own PATH, and the programs in it would be run as root.
pub fn sudoers_lines(user: &str) -> String {
    format!(
        "Defaults!{PROGRAM} env_reset, secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\n\
         {user} ALL=(root) NOPASSWD: {PROGRAM} \"\""
    )
}

/// What certs.toml asks a host to allow, as its configuration.
pub fn conf_of(desired: &Desired, host: &Host) -> String {
    conf(host, of(desired, host), roots_of(desired, host))
}

fn of<'a>(desired: &'a Desired, host: &'a Host) -> impl Iterator<Item = &'a Certificate> {
    desired.certificates.values().filter(|one| one.hosts.contains(&host.name))
}

fn roots_of(desired: &Desired, host: &Host) -> Roots {
    // Everybody begins at a staging CA, which nobody trusts.
    let known = |issuer: &Issuer| issuer.roots.is_none() && !issuer.directory.contains("staging");
    let known = |name: &IssuerName| desired.issuers.get(name).is_some_and(known);
    match of(desired, host).flat_map(Certificate::issuers).all(known) {
        true => Roots::System,
        false => Roots::Any,
    }
}

/// What is allowed on a host, as its configuration: these certificates, if their chains lead to `roots`.
pub fn conf<'a>(
    host: &Host,
    certificates: impl IntoIterator<Item = &'a Certificate>,
    roots: Roots,
) -> String {
    let [owner, group, mode, passage, layout] = access_words(host);
    let mut text = format!(
        "# What {PROGRAM} may do. Changes count from the next request on.\n\
         directory {}\nowner {owner}\ngroup {group}\nmode {mode}\npassage {passage}\nlayout {layout}\n",
        host.directory
    );
    let files: Vec<String> = host.files.iter().map(MadeFile::line).collect();
    if !files.is_empty() {
        let _ = writeln!(text, "files {}", files.join(" "));
    }
    let _ =
        writeln!(text, "test {}\nreload {}", host.test.replace('\n', " "), host.reload.replace('\n', " "));
    text.push_str(match roots {
        Roots::System => "# Chains must lead to a root that this machine knows; or name a PEM file of roots.\nroots system\n",
        Roots::Any => {
            "# Not all issuers are known to machines. Better than `any`, which takes chains that nobody trusts, is a PEM\n\
             # file of their roots on this machine: `roots /etc/ssl/private-roots.pem`.\nroots any\n"
        }
    });
    text.push_str("# Each certificate by its name, and the names that may be in it. No other is taken.\n");
    for certificate in certificates {
        let domains: Vec<String> = certificate.domains.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "allow {} {}", certificate.name, domains.join(" "));
    }
    text
}

/// Where the chains of a host's certificates may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roots {
    /// To one that the host's own system trusts.
    System,
    /// Anywhere.
    Any,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_ends_with_the_receiver_and_never_takes_settings_from_outside() {
        let script = script();
        assert!(script.starts_with("#!/bin/sh\n"));
        assert!(!script.contains("\nmain\n"));
        assert!(script.ends_with("\nreceive \"$@\"\n"));
    }
}
