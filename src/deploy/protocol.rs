//! The transaction as bytes: what is sent to a host, and what may come back.
//!
//! Sent is the script, by its exact length, then the input as counted frames. Back come lines that start
//! with a nonce which only this transaction knows; everything else (greetings of login shells) is passed
//! over. What a host says is data: counted, capped, made safe to show by whoever shows it.

mod lineages;

use std::mem;

use rustls::crypto::aws_lc_rs;
use zeroize::Zeroizing;

use super::payload::Payload;
use super::{Bundle, PutBack};
use crate::model::desired::{Host, KeyAccess, Layout};
use crate::model::name::CertName;
use crate::model::problem::plain;

/// The step of a host on which nothing of ours has said a word yet.
pub(super) const AT_THE_START: &str = "the start";

/// The transaction itself.
pub(super) const SCRIPT: &str = include_str!("transaction.sh");
/// What only looks.
const EXAMINE: &str = include_str!("examine.sh");

/// What a host may say on its standard output, greetings included, beside the records of the answer.
const OUTPUT_LIMIT: usize = 64 * 1024;
/// What a record may take: two texts of 4 KiB, its names, and the lines that show progress.
const RECORD_LIMIT: usize = 12 * 1024;
/// What a host may say when it is asked for all its certificates.
const EXAMINE_LIMIT: usize = 8 << 20;

/// The command that takes a script from its input; with `sudo`, as root. What sudo says is in English, to be
/// understood.
fn taking(script: &str, sudo: bool) -> String {
    let root = if sudo { "env LC_ALL=C sudo -n " } else { "" };
    format!("exec {root}sh -c 'eval \"$(dd bs={} count=1 iflag=fullblock 2>/dev/null)\"'", script.len())
}

/// One conversation: the input of one transaction, and the reader of its answer.
pub struct Conversation {
    script: &'static str,
    sudo: bool,
    nonce: String,
    action: &'static str,
    count: usize,
    /// Script, settings and data.
    input: Zeroizing<Vec<u8>>,
    /// Where the data begin in it.
    data: usize,
    output: Zeroizing<Vec<u8>>,
    limit: usize,
    /// Whether private keys are in the answer: then it is wiped, and nothing of it is shown that makes no sense.
    secret: bool,
}

/// The random source of the machine failed.
#[derive(Debug, thiserror::Error)]
#[error("the random generator of this machine failed")]
pub struct NoRandomness;

/// More was said than any honest answer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuch;

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What became of it.
    pub word: String,
    /// The certificate, or `-`.
    pub name: String,
    /// The version that it is about, or another detail.
    pub version: String,
    /// The version before, or `-`.
    pub old: String,
    /// What a command said; safe to show.
    pub text: String,
}

/// What a host is asked, when nothing is to be changed there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question<'a> {
    /// Whether a transaction would find what it needs, and the config test passes.
    Check,
    /// The configuration of nginx.
    Config,
    /// The certificates in these places.
    Read(&'a [(Place, String)]),
    /// What lies where these certificates of ours are installed.
    Installed(&'a [&'a CertName]),
}

/// Where certificates are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// This file.
    File,
    /// The files in this folder.
    Folder,
    /// The files in each folder in this folder.
    Folders,
}

impl Place {
    fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Folder => "folder",
            Self::Folders => "folders",
        }
    }
}

/// One line of an answer to a [`Question`], or of certbot's lineages.
pub(super) struct RawRecord<T = String> {
    pub(super) word: String,
    pub(super) detail: String,
    /// As it came: hostile.
    pub(super) text: T,
}

/// The text of a record in which there are no secrets.
pub(super) fn public_text(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// An answer that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A line that should be a record.
    #[error("`{0}` is no record")]
    Record(String),
    /// The same, where it may be part of a private key.
    #[error("there is something in it that is no record, and may be part of a private key")]
    Hidden,
    /// A text that is shorter than its record says.
    #[error("a text ends too early")]
    Text,
    /// More of something than is ever sent.
    #[error("there is more in it than is ever sent")]
    Excess,
    /// A word that has no meaning here.
    #[error("the word `{0}` is not known")]
    Word(String),
    /// A certificate that was asked about has no record, or several.
    #[error("not exactly one record for `{0}`")]
    Count(String),
}

impl Conversation {
    /// The installation of certificates, as one transaction, with all of its data.
    pub fn install(host: &Host, bundles: &[Bundle]) -> Result<Self, NoRandomness> {
        let payload = Payload::of(&host.files, bundles);
        let mut this = Self::announce(host, &payload)?;
        this.take_in(payload);
        Ok(this)
    }

    /// The same without the data, which have to follow its input.
    pub(super) fn announce(host: &Host, payload: &Payload<'_>) -> Result<Self, NoRandomness> {
        let mut this = Self::new(host, "install", payload.count())?;
        this.input.extend_from_slice(payload.announcement().as_bytes());
        Ok(this)
    }

    /// Adds the data.
    pub(super) fn take_in(&mut self, payload: Payload<'_>) {
        // All the room at once: a buffer that grows leaves copies of keys behind.
        let mut whole = Zeroizing::new(Vec::with_capacity(self.input.len() + payload.size()));
        whole.extend_from_slice(&self.input);
        payload.for_each(|piece| whole.extend_from_slice(&piece));
        self.input = whole;
    }

    /// Putting certificates back to the versions before.
    pub fn put_back(host: &Host, what: &[PutBack]) -> Result<Self, NoRandomness> {
        let mut this = Self::new(host, "put-back", what.len())?;
        for PutBack { certificate, installed, previous } in what {
            this.input.extend_from_slice(format!("{certificate} {installed} {previous}\n").as_bytes());
        }
        this.input.extend_from_slice(b"end\n");
        Ok(this)
    }

    /// A look at the host that changes nothing.
    pub(super) fn examine(host: &Host, question: &Question<'_>) -> Result<Self, NoRandomness> {
        let (action, places, names) = match question {
            Question::Check => ("check", &[][..], &[][..]),
            Question::Config => ("config", &[][..], &[][..]),
            Question::Read(places) => ("read", *places, &[][..]),
            Question::Installed(names) => ("installed", &[][..], *names),
        };
        // A receiver also says what it allows.
        let little = action == "check" && !host.receiver;
        let limit = if little { OUTPUT_LIMIT } else { EXAMINE_LIMIT };
        let mut this = Self { limit, ..Self::with(EXAMINE, host, action, places.len() + names.len())? };
        for name in names {
            this.input.extend_from_slice(format!("{name}\n").as_bytes());
        }
        for (kind, path) in places {
            this.input.extend_from_slice(format!("{}\n{}\n{path}", kind.word(), path.len()).as_bytes());
        }
        Ok(this)
    }

    /// The command that takes the script from its input, whatever shell the user has.
    ///
    /// By its exact length: a shell that reads its script from the same input as the data reads ahead.
    pub fn command(&self) -> String {
        taking(self.script, self.sudo)
    }

    /// What is sent to the one who runs it for us as root: its parameters, and the data. The script and the
    /// settings are his.
    pub(super) fn take_request(&mut self) -> Zeroizing<Vec<u8>> {
        let input = self.take_input();
        let mut request = Zeroizing::new(Vec::with_capacity(input.len()));
        request.extend_from_slice(format!("{} {} {}\n", self.action, self.count, self.nonce).as_bytes());
        request.extend_from_slice(&input[self.data..]);
        request
    }

    /// How many certificates, or places, it is about.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether it only asks if a transaction would work.
    pub(super) fn is_check(&self) -> bool {
        self.action == "check"
    }

    /// The same seen from there: a conversation without data; `None` if there is no such action.
    pub(super) fn requested(host: &Host, action: &str, count: usize, nonce: &str) -> Option<Self> {
        let (script, action) = match action {
            "install" => (SCRIPT, "install"),
            "put-back" => (SCRIPT, "put-back"),
            "check" => (EXAMINE, "check"),
            "config" => (EXAMINE, "config"),
            "read" => (EXAMINE, "read"),
            "installed" => (EXAMINE, "installed"),
            _ => return None,
        };
        Some(Self::assemble(script, host, action, count, nonce.to_owned()))
    }

    fn new(host: &Host, action: &'static str, count: usize) -> Result<Self, NoRandomness> {
        Self::with(SCRIPT, host, action, count)
    }

    fn with(
        script: &'static str,
        host: &Host,
        action: &'static str,
        count: usize,
    ) -> Result<Self, NoRandomness> {
        let mut random = [0; 16];
        aws_lc_rs::default_provider().secure_random.fill(&mut random).map_err(|_| NoRandomness)?;
        let nonce = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self::assemble(script, host, action, count, nonce))
    }

    fn assemble(
        script: &'static str,
        host: &Host,
        action: &'static str,
        count: usize,
        nonce: String,
    ) -> Self {
        let mut input = Zeroizing::new(Vec::with_capacity(script.len() + 4096));
        input.extend_from_slice(script.as_bytes());
        input.extend_from_slice(format!("{nonce} {action} {count}\n").as_bytes());
        input.extend_from_slice(settings(host).as_bytes());
        let (data, limit) = (input.len(), OUTPUT_LIMIT + count * RECORD_LIMIT);
        let output = Zeroizing::default();
        Self { script, sudo: host.sudo, nonce, action, count, input, data, output, limit, secret: false }
    }

    /// Script and input, to be sent once.
    pub fn take_input(&mut self) -> Zeroizing<Vec<u8>> {
        mem::take(&mut self.input)
    }

    /// Takes what the host says; true when the answer is complete.
    pub(super) fn hear(&mut self, data: &[u8]) -> Result<bool, TooMuch> {
        if self.output.len() + data.len() > self.limit {
            return Err(TooMuch);
        }
        // The mark may have begun in what came before.
        let mark = format!("{} end\n", self.nonce);
        let from = self.output.len().saturating_sub(mark.len());
        self.output.extend_from_slice(data);
        Ok(find(&self.output[from..], mark.as_bytes()).is_some())
    }

    /// The step that the host was in when last heard of.
    pub(super) fn step(&self) -> Option<String> {
        let mark = format!("{} at ", self.nonce);
        let heard = String::from_utf8_lossy(&self.output);
        heard.lines().rev().find_map(|line| Some(plain(line.split_once(&mark)?.1)))
    }

    /// The last that the host said beside lines of ours, for want of an answer.
    pub(super) fn tail(&self) -> String {
        if self.secret && find(&self.output, format!("{} begin\n", self.nonce).as_bytes()).is_some() {
            return "its answer has no end".to_owned();
        }
        let heard = String::from_utf8_lossy(&self.output);
        let others: Vec<&str> = heard.lines().filter(|line| !line.starts_with(&self.nonce)).collect();
        let others = others.join(" ");
        let from = others.chars().count().saturating_sub(300);
        plain(&others.chars().skip(from).collect::<String>())
    }

    /// The records of the answer; `None` when there is none.
    pub fn records(&self) -> Option<Result<Vec<Record>, Malformed>> {
        self.records_in(&self.output)
    }

    /// The records in a host's whole output; `None` when there is no answer in it.
    pub fn records_in(&self, output: &[u8]) -> Option<Result<Vec<Record>, Malformed>> {
        let (rest, end) = self.body(output)?;
        Some(records(rest, &end, shown))
    }

    /// The records of an answer to a question: word, detail, and the text as it came. Hostile.
    pub(super) fn raw_records<T>(
        &self,
        make: fn(&[u8]) -> T,
    ) -> Option<Result<Vec<RawRecord<T>>, Malformed>> {
        let (rest, end) = self.body(&self.output)?;
        let raw = |fields: [&str; 4], text: &[u8]| RawRecord {
            word: plain(fields[0]),
            detail: plain(fields[2]),
            text: make(text),
        };
        Some(match records(rest, &end, raw) {
            Err(Malformed::Record(_)) if self.secret => Err(Malformed::Hidden),
            records => records,
        })
    }

    fn body<'a>(&self, output: &'a [u8]) -> Option<(&'a [u8], Vec<u8>)> {
        let begin = format!("{} begin\n", self.nonce);
        let end = format!("{} end", self.nonce);
        let start = find(output, begin.as_bytes())? + begin.len();
        find(&output[start..], format!("{end}\n").as_bytes())?;
        Some((&output[start..], end.into_bytes()))
    }
}

/// How the host wants it, in four lines: access, layout and made files in words; then three texts.
fn settings(host: &Host) -> String {
    let mut lines = access_words(host).join(" ");
    for file in &host.files {
        lines.push(' ');
        lines.push_str(&file.line());
    }
    lines.push('\n');
    for text in [&host.directory, &host.test, &host.reload] {
        // A line each: certs.toml takes no others.
        lines.push_str(&text.replace('\n', " "));
        lines.push('\n');
    }
    lines
}

/// Owner, group and mode of the keys, mode of their directories, layout.
pub(super) fn access_words(host: &Host) -> [String; 5] {
    let KeyAccess { owner, group, mode } = &host.access;
    let word = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
    let layout = match host.layout {
        Layout::Directory => "directory",
        Layout::Include => "include",
    };
    let passage = host.access.directory_mode();
    [word(owner), word(group), format!("{mode:04o}"), format!("{passage:04o}"), layout.to_owned()]
}

fn shown(fields: [&str; 4], text: &[u8]) -> Record {
    Record {
        word: fields[0].to_owned(),
        name: fields[1].to_owned(),
        version: plain(fields[2]),
        old: plain(fields[3]),
        text: plain(&telling(&String::from_utf8_lossy(text))),
    }
}

fn records<T>(
    mut rest: &[u8],
    end: &[u8],
    make: impl Fn([&str; 4], &[u8]) -> T,
) -> Result<Vec<T>, Malformed> {
    let mut records = Vec::new();
    loop {
        let line_end = find(rest, b"\n").ok_or(Malformed::Text)?;
        let line = &rest[..line_end];
        if line == end {
            return Ok(records);
        }
        let line = String::from_utf8_lossy(line);
        let bad = || Malformed::Record(plain(&line).chars().take(80).collect());
        let fields: Vec<&str> = line.split(' ').collect();
        let [word, name, version, old, length] = fields[..] else { return Err(bad()) };
        let length: usize = length.parse().map_err(|_| bad())?;
        rest = &rest[line_end + 1..];
        let text = rest.get(..length).ok_or(Malformed::Text)?;
        if rest.get(length) != Some(&b'\n') {
            return Err(Malformed::Text);
        }
        records.push(make([word, name, version, old], text));
        rest = &rest[length + 1..];
    }
}

/// The lines of a program's output that say why it failed: nginx warns at length before it does.
fn telling(text: &str) -> String {
    let fatal: Vec<_> = text.lines().filter(|line| line.contains("[emerg]")).collect();
    if fatal.is_empty() { text.to_owned() } else { fatal.join("; ") }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests;
