//! SMTP, as far as one needs it to hand over a letter (RFC 5321, with RFC 3207 and RFC 4954).
//!
//! What the server says is capped, whatever it says; the deadline is the caller's.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lettre::Address;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use zeroize::Zeroizing;

use super::MailError;
use crate::model::problem::plain;
use crate::secret::hide;

/// Where in the talk something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Before we said anything.
    Greeting,
    /// `EHLO`.
    Hello,
    /// `STARTTLS`.
    StartTls,
    /// `AUTH`.
    Login,
    /// `MAIL FROM`.
    Sender,
    /// `RCPT TO`.
    Recipient,
    /// `DATA`, and the letter itself.
    Letter,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "the connection",
            Self::Hello => "our greeting",
            Self::StartTls => "STARTTLS",
            Self::Login => "the login",
            Self::Sender => "the sender",
            Self::Recipient => "the recipient",
            Self::Letter => "the mail",
        })
    }
}

/// A user and a password.
pub(super) struct Login<'a> {
    pub(super) user: &'a str,
    pub(super) password: Zeroizing<String>,
}

impl Login<'_> {
    /// The answer to `AUTH PLAIN` (RFC 4616).
    fn plain(&self) -> Zeroizing<String> {
        encoded(&Zeroizing::new(format!("\0{}\0{}", self.user, *self.password)))
    }
}

fn encoded(text: &str) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(text))
}

/// A letter as it is handed over.
pub(super) struct Letter<'a> {
    pub(super) from: &'a Address,
    pub(super) to: Vec<&'a Address>,
    /// Headers and body.
    pub(super) text: Vec<u8>,
}

/// What the server can do, one extension a line.
pub(super) struct Extensions(Vec<String>);

impl Extensions {
    fn has(&self, wanted: &str) -> bool {
        self.parameters(wanted).is_some()
    }

    fn parameters(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find_map(|line| {
            // Some old ones say AUTH=LOGIN.
            let (name, rest) = line.split_once([' ', '=']).unwrap_or((line, ""));
            name.eq_ignore_ascii_case(wanted).then_some(rest)
        })
    }
}

struct Reply {
    code: u16,
    lines: Vec<String>,
}

/// A talk with a server, one command after the other.
pub(super) struct Talk<S> {
    stream: BufReader<S>,
    secrets: Vec<Zeroizing<String>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream), secrets: Vec::new() }
    }

    /// Waits for the server's greeting.
    pub(super) async fn greeted(&mut self) -> Result<(), MailError> {
        let reply = self.reply().await?;
        self.accept(Step::Greeting, reply, 2).map(drop)
    }

    /// Says who we are; what the server can do.
    pub(super) async fn hello(&mut self, name: &str) -> Result<Extensions, MailError> {
        let reply = self.command(Step::Hello, &format!("EHLO {name}"), 2).await?;
        Ok(Extensions(reply.lines.into_iter().skip(1).collect()))
    }

    /// The stream, on which TLS is to begin.
    pub(super) async fn start_tls(mut self, extensions: &Extensions) -> Result<S, MailError> {
        if !extensions.has("STARTTLS") {
            return Err(MailError::NoStartTls);
        }
        self.command(Step::StartTls, "STARTTLS", 2).await?;
        // What somebody on the way put behind the answer would pass for the server's own words.
        if !self.stream.buffer().is_empty() {
            return Err(MailError::Injected);
        }
        Ok(self.stream.into_inner())
    }

    /// Logs in by PLAIN or LOGIN, which do not differ under TLS.
    pub(super) async fn login(
        &mut self,
        extensions: &Extensions,
        login: &Login<'_>,
    ) -> Result<(), MailError> {
        let offered = extensions.parameters("AUTH").unwrap_or_default();
        let offers = |name: &str| offered.split_whitespace().any(|word| word.eq_ignore_ascii_case(name));
        let (both, user, password) = (login.plain(), encoded(login.user), encoded(&login.password));
        // The longest first: it may contain another.
        self.secrets = vec![both.clone(), password.clone(), login.password.clone()];
        if offers("PLAIN") {
            let command = Zeroizing::new(format!("AUTH PLAIN {}", *both));
            self.command(Step::Login, &command, 2).await?;
        } else if offers("LOGIN") {
            self.command(Step::Login, "AUTH LOGIN", 3).await?;
            self.command(Step::Login, &user, 3).await?;
            self.command(Step::Login, &password, 2).await?;
        } else {
            return Err(MailError::NoLogin(plain(offered)));
        }
        Ok(())
    }

    /// Hands a letter over: it is the server's when this returns. What it said of those whom it is not for;
    /// an error where these are all.
    pub(super) async fn hand_over(
        &mut self,
        extensions: &Extensions,
        letter: &Letter<'_>,
    ) -> Result<Vec<String>, MailError> {
        let parameters = match letter.text.is_ascii() {
            true => "",
            false if extensions.has("SMTPUTF8") => " BODY=8BITMIME SMTPUTF8",
            false => return Err(MailError::NoUtf8),
        };
        self.command(Step::Sender, &format!("MAIL FROM:<{}>{parameters}", letter.from), 2).await?;
        let mut refused = Vec::new();
        let mut last = None;
        for to in &letter.to {
            match self.command(Step::Recipient, &format!("RCPT TO:<{to}>"), 2).await {
                Ok(_) => {}
                Err(error @ MailError::Refused { .. }) => {
                    refused.push(format!("{to}: {error}"));
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        // One address that is gone must not keep the alert from the others.
        if let Some(error) = last.filter(|_| refused.len() == letter.to.len()) {
            return Err(error);
        }
        self.command(Step::Letter, "DATA", 3).await?;
        self.stream.write_all(&stuffed(&letter.text)).await.map_err(MailError::Broken)?;
        self.command(Step::Letter, ".", 2).await?;
        Ok(refused)
    }

    /// Says farewell.
    pub(super) async fn quit(&mut self) -> Result<(), MailError> {
        self.command(Step::Letter, "QUIT", 2).await.map(drop)
    }

    /// One command, whose answer is to begin with the digit `wanted`.
    async fn command(&mut self, step: Step, command: &str, wanted: u16) -> Result<Reply, MailError> {
        let line = Zeroizing::new(format!("{command}\r\n"));
        self.stream.write_all(line.as_bytes()).await.map_err(MailError::Broken)?;
        self.stream.flush().await.map_err(MailError::Broken)?;
        let reply = self.reply().await?;
        self.accept(step, reply, wanted)
    }

    fn accept(&self, step: Step, reply: Reply, wanted: u16) -> Result<Reply, MailError> {
        if reply.code / 100 == wanted {
            return Ok(reply);
        }
        let words = hide(&reply.lines.join(" "), &self.secrets);
        Err(MailError::Refused { step, code: reply.code, words: plain(&words) })
    }

    async fn reply(&mut self) -> Result<Reply, MailError> {
        let mut lines = Vec::new();
        let mut left = LONGEST_REPLY;
        loop {
            let mut line = Vec::new();
            let read = (&mut self.stream).take(left).read_until(b'\n', &mut line).await;
            let read = read.map_err(MailError::Broken)? as u64;
            if line.last() != Some(&b'\n') {
                return Err(if read == left {
                    MailError::TooLarge(LONGEST_REPLY)
                } else {
                    MailError::Closed
                });
            }
            left -= read;
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            let odd = || MailError::NotSmtp(plain(&hide(line, &self.secrets)));
            let (code, rest) = line.split_at_checked(3).ok_or_else(odd)?;
            let code = code.parse().ok().filter(|code| (200..600).contains(code)).ok_or_else(odd)?;
            lines.push(rest.get(1..).unwrap_or_default().to_owned());
            match rest.chars().next() {
                Some('-') => {}
                None | Some(' ') => return Ok(Reply { code, lines }),
                Some(_) => return Err(odd()),
            }
        }
    }
}

/// A letter with the line ends and dots that SMTP wants (RFC 5321 section 4.5.2), so that no line of it ends it.
fn stuffed(text: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(text.len() + 64);
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    for line in text.split(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed
}

/// In bytes, of all its lines; honest ones have less than one KiB.
const LONGEST_REPLY: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_letter_ends_it() {
        assert_eq!(stuffed(b"a\r\n.\r\nb\n.\n..c"), b"a\r\n..\r\nb\r\n..\r\n...c\r\n");
        assert_eq!(stuffed(b".\n"), b"..\r\n");
    }

    #[test]
    fn extensions_are_found_in_every_way_they_are_written() {
        let extensions = |lines: &[&str]| Extensions(lines.iter().map(|line| (*line).to_owned()).collect());
        assert!(extensions(&["SIZE 1000", "starttls"]).has("STARTTLS"));
        assert!(!extensions(&["STARTTLSX"]).has("STARTTLS"));
        assert_eq!(extensions(&["AUTH=LOGIN PLAIN"]).parameters("AUTH"), Some("LOGIN PLAIN"));
    }
}
