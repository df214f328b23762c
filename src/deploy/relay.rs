//! Transactions on this machine for a daemon that is not root: a socket, behind which root runs the same script.
//!
//! What may be done is not up to who asks: directory, test and reload come from root's own reading of certs.toml,
//! and a certificate goes to this machine only if its entry says so. What certbot has here comes from its own folder,
//! and of its keys those that root's certs.toml names. Both ends are here.

use std::future::pending;
use std::io::{self, BufRead, Read, Write};
use std::process::{ChildStdin, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::InstallError;
use super::lineages::CERTBOT;
use super::local::shell;
use super::protocol::Conversation;
use super::ssh::{Exchange, GOODBYE};
use crate::model::desired::{Desired, Host};
use crate::model::name::{CertName, HostName};
use crate::model::problem::plain;
use crate::probe::{Patience, TooLate};

/// Where certfleet-local.socket listens.
pub const SOCKET: &str = "/run/certfleet-local.sock";

/// What a request begins with; the number goes up when its form changes.
const GREETING: &str = "certfleet-local 1";
/// A line of a request: a few names.
const LINE: u64 = 1024;
/// More certificates than any one machine has.
const MOST: usize = 100_000;

impl Exchange<'_> {
    /// As [`run`](Self::run), on this machine, by root.
    pub(super) async fn run_by_root(&mut self) -> Result<(), InstallError> {
        let host = self.name();
        let failed = |source| InstallError::Socket { host: host.clone(), source };
        let connect = timeout(GOODBYE, UnixStream::connect(SOCKET)).await;
        let stream = connect.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(failed)?;
        let (mut read, mut write) = stream.into_split();
        let greeting = format!("{GREETING} {host} ");
        let request = self.conversation.take_request();
        let send = async move {
            // What could not be sent was not wanted: the answer says why.
            let _ = write.write_all(greeting.as_bytes()).await;
            let _ = write.write_all(&request).await;
            let _ = write.shutdown().await;
            write
        };
        tokio::pin!(send);
        let (mut said, mut sent) = ([0; 8192], None);
        loop {
            let mut quiet = Patience::of(self.silence);
            tokio::select! {
                write = &mut send, if sent.is_none() => sent = Some(write),
                got = read.read(&mut said) => match got {
                    Ok(count) if count > 0 => {
                        if self.hear_output(&said[..count])? {
                            return Ok(());
                        }
                    }
                    Ok(_) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
                    Err(source) => return Err(failed(source)),
                },
                late = self.left.wait(quiet.wait(pending::<()>())) => {
                    return Err(if late == Err(TooLate) { self.too_long() } else { self.silent() });
                }
            }
        }
    }
}

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("the request cannot be read")]
    Read(#[from] io::Error),
    /// It is none, or one of another version.
    #[error("this is not what certfleet asks; was it upgraded? `systemctl restart certfleet`")]
    Malformed,
    /// The host is not this machine.
    #[error("certs.toml has no [host.{0}] with `kind = \"local\"`")]
    Host(String),
    /// The certificate is for others.
    #[error("certs.toml does not have `{certificate}` on `{host}`")]
    Certificate {
        /// What was to be installed.
        certificate: String,
        /// Where.
        host: HostName,
    },
    /// No shell could be started.
    #[error("cannot start /bin/sh")]
    Start(#[source] io::Error),
}

/// A request, as far as it has to be understood.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    host: String,
    action: String,
    count: usize,
    nonce: String,
}

/// Does what a request asks for, if that is allowed; what there is to say goes to our standard output, which
/// is the connection. `desired` is why there may be nothing at all, or what certs.toml says.
pub fn serve(desired: Result<&Desired, String>, mut input: impl BufRead) -> Result<(), Refused> {
    let request = Request::read(&mut input)?;
    let done = match desired {
        Ok(desired) => admit(desired, &request, &mut input),
        Err(why) => return answer(&request.nonce, &why),
    };
    let (conversation, head) = match done {
        Ok(admitted) => admitted,
        Err(refused) => return answer(&request.nonce, &refused.to_string()).and(Err(refused)),
    };
    let mut child = shell(&conversation).stdin(Stdio::piped()).spawn().map_err(Refused::Start)?;
    if let Some(stdin) = child.stdin.take() {
        // What could not be given to it was not wanted: its answer says why.
        let _ = pass_on(conversation, &head, input, stdin);
    }
    child.wait()?;
    Ok(())
}

fn pass_on(
    mut conversation: Conversation,
    head: &str,
    mut input: impl Read,
    mut stdin: ChildStdin,
) -> io::Result<()> {
    stdin.write_all(&conversation.take_input())?;
    stdin.write_all(head.as_bytes())?;
    io::copy(&mut input, &mut stdin).map(drop)
}

/// What the script says when it stops itself.
fn answer(nonce: &str, why: &str) -> Result<(), Refused> {
    let why = plain(why);
    let mut out = io::stdout().lock();
    write!(out, "{nonce} begin\nfailed - refused - {}\n{why}\n{nonce} end\n", why.len())?;
    Ok(out.flush()?)
}

/// The conversation as root begins it, and the lines of the request that name certificates.
fn admit(
    desired: &Desired,
    request: &Request,
    input: &mut impl BufRead,
) -> Result<(Conversation, String), Refused> {
    let host = desired.hosts.values().find(|host| host.local && host.name.as_str() == request.host);
    let host = host.ok_or_else(|| Refused::Host(plain(&request.host)))?;
    // Root needs no sudo.
    let ours = Host { sudo: false, ..host.clone() };
    // Of certbot's keys those that certs.toml names, in the folder that is certbot's.
    let names: Vec<&CertName> = desired.certificates.keys().collect();
    let (action, nonce) = (request.action.as_str(), request.nonce.as_str());
    if let Some(conversation) = Conversation::lineages_by_root(&ours, CERTBOT, &names, action, nonce) {
        return Ok((conversation, String::new()));
    }
    let conversation = Conversation::requested(&ours, &request.action, request.count, &request.nonce)
        .ok_or(Refused::Malformed)?;
    let mut head = String::new();
    if ["install", "put-back"].contains(&request.action.as_str()) {
        for _ in 0..request.count {
            let line = line(input)?;
            let words: Vec<&str> = line.split(' ').collect();
            let [name, _, _, numbers @ ..] = &words[..] else { return Err(Refused::Malformed) };
            let is_number =
                |word: &&str| (1..=7).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit());
            if !numbers.iter().all(is_number) {
                return Err(Refused::Malformed);
            }
            let is_here = name
                .parse::<CertName>()
                .ok()
                .and_then(|name| desired.certificates.get(&name))
                .is_some_and(|certificate| certificate.hosts.contains(&host.name));
            if !is_here {
                return Err(Refused::Certificate { certificate: plain(name), host: host.name.clone() });
            }
            head.push_str(&line);
            head.push('\n');
        }
    }
    Ok((conversation, head))
}

impl Request {
    fn read(input: &mut impl BufRead) -> Result<Self, Refused> {
        let line = line(input)?;
        let rest = line.strip_prefix(GREETING).ok_or(Refused::Malformed)?;
        let words: Vec<&str> = rest.split(' ').collect();
        let ["", host, action, count, nonce] = words[..] else { return Err(Refused::Malformed) };
        let count = count.parse().ok().filter(|count| *count <= MOST).ok_or(Refused::Malformed)?;
        let is_nonce = nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_nonce {
            return Err(Refused::Malformed);
        }
        Ok(Self { host: host.to_owned(), action: action.to_owned(), count, nonce: nonce.to_owned() })
    }
}

/// A line of words without anything that a shell could take for something else.
fn line(input: &mut impl BufRead) -> Result<String, Refused> {
    let mut line = String::new();
    input.take(LINE).read_line(&mut line)?;
    let line = line.strip_suffix('\n').ok_or(Refused::Malformed)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " ._-".contains(c);
    if line.chars().all(is_plain) { Ok(line.to_owned()) } else { Err(Refused::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::{Refused, Request, line};

    const NONCE: &str = "0123456789abcdef0123456789abcdef";

    fn read(text: &str) -> Result<Request, Refused> {
        Request::read(&mut text.as_bytes())
    }

    #[test]
    fn a_request_is_five_words() {
        let request = read(&format!("certfleet-local 1 here install 2 {NONCE}\na.org 1-ab -\n")).unwrap();
        assert_eq!((request.host.as_str(), request.action.as_str(), request.count), ("here", "install", 2));
        for wrong in [
            format!("certfleet-local 2 here install 2 {NONCE}\n"),
            format!("certfleet-local 1 here install 2 {NONCE} more\n"),
            format!("certfleet-local 1 here install -1 {NONCE}\n"),
            format!("certfleet-local 1 here install 100001 {NONCE}\n"),
            format!("certfleet-local 1 here install 2 {NONCE}"),
            "certfleet-local 1 here install 2 short\n".to_owned(),
            "GET / HTTP/1.1\n".to_owned(),
            String::new(),
        ] {
            assert!(matches!(read(&wrong), Err(Refused::Malformed)), "{wrong}");
        }
    }

    #[test]
    fn no_line_has_what_a_shell_could_take_for_something_else() {
        for wrong in ["a;b\n", "a$(b)\n", "a\tb\n", "../a\n", "a\u{e9}\n", "no end", &"x".repeat(2000)] {
            assert!(line(&mut wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert_eq!(
            line(&mut &b"www.a.org 12-abcdef01 force 5 1 2\n"[..]).unwrap(),
            "www.a.org 12-abcdef01 force 5 1 2"
        );
    }
}
