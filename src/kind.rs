//! Reading tables of certs.toml so that every mistake is found at once, each with its place.
//!
//! serde stops at the first mistake and reports one in a tagged table at the table's header. A
//! [`Section`] takes one key after the other out of a table that knows where everything stands;
//! what is left over at the end nobody knows.

mod mistake;
mod source;
mod value;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use mistake::{Mistake, Mistakes, Remedy, SHOWN, Severity};
pub use value::{Item, OneOrMore, Refusal, Value, address, duration};

use crate::model::problem::plain;
use crate::secret::Secret;
use mistake::{Note, Source};

/// One way to be a `T`, chosen by name in certs.toml.
pub struct Kind<T: ?Sized> {
    /// The name in certs.toml.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Its own keys as they stand in certs.toml; a test parses them.
    pub example: &'static str,
    /// The narrowest rights that its credentials need, or where these come from, in one line.
    pub rights: &'static str,
    /// Takes its own keys out of the table and records what is wrong with them. Parses only: no
    /// I/O, no secret is read. Asks for every key before it gives up.
    pub build: fn(&mut Section<'_>) -> Option<Arc<T>>,
}

impl<T: ?Sized> fmt::Debug for Kind<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What all sections of one file share: the text, the mistakes so far, the keys asked for.
pub struct Context<'a> {
    source: Source<'a>,
    base: &'a Path,
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    notes: Vec<Note>,
    /// Mistakes ever recorded, those taken back included.
    count: usize,
    hidden: Vec<Range<usize>>,
    keys: Keys,
}

/// The keys of a file, each as (kind of table, key).
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// The keys that the reader asked for.
    pub known: BTreeSet<(&'static str, &'static str)>,
    /// The keys that the file has.
    pub used: BTreeSet<(&'static str, String)>,
    /// The secrets that the file names: line, key, and where each is.
    pub secrets: Vec<(usize, String, Secret)>,
}

impl<'a> Context<'a> {
    /// The context of a file named `file` whose relative paths start at `base`.
    pub fn new(file: &str, text: &'a str, base: &'a Path) -> Self {
        Self { source: Source::new(file, text), base, found: RefCell::default() }
    }

    /// Records a mistake.
    pub fn mistake(&self, at: Range<usize>, message: impl Into<String>, remedy: Remedy) {
        self.note(Severity::Error, at, message.into(), remedy);
    }

    /// Records what a person should look at, though the file is taken.
    pub fn warning(&self, at: Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.note(Severity::Warning, at, message.into(), Remedy::Hint(hint.into()));
    }

    fn note(&self, severity: Severity, at: Range<usize>, message: String, remedy: Remedy) {
        let mut found = self.found.borrow_mut();
        found.count += usize::from(severity == Severity::Error);
        found.notes.push(Note { severity, at, message, remedy });
    }

    fn take_back(&self, at: &Range<usize>, message: &str) {
        self.found.borrow_mut().notes.retain(|note| note.at != *at || note.message != message);
    }

    /// Keeps a place out of everything that is shown: it may hold a secret.
    pub fn hide(&self, at: Range<usize>) {
        self.found.borrow_mut().hidden.push(at);
    }

    /// Keeps every text in a value out of everything that is shown.
    pub fn hide_texts(&self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => table.iter().for_each(|(_, value)| self.hide_texts(value)),
            DeValue::Array(list) => list.iter().for_each(|value| self.hide_texts(value)),
            DeValue::Boolean(_) => {}
            _ => self.hide(value.span()),
        }
    }

    /// Notes a secret that the file names.
    fn secret(&self, at: &Range<usize>, key: &str, secret: &Secret) {
        self.found.borrow_mut().keys.secrets.push((self.line(at), key.to_owned(), secret.clone()));
    }

    /// The secrets that the file named so far.
    pub fn secrets(&self) -> Vec<Secret> {
        self.found.borrow().keys.secrets.iter().map(|(_, _, secret)| secret.clone()).collect()
    }

    /// The folder that relative paths start at.
    pub fn base(&self) -> &Path {
        self.base
    }

    /// The line of a place, from 1.
    pub fn line(&self, at: &Range<usize>) -> usize {
        self.source.line(at.start)
    }

    /// How many mistakes were recorded so far, warnings not counted: to see whether one was added.
    pub fn count(&self) -> usize {
        self.found.borrow().count
    }

    /// What was found: the mistakes, else the warnings.
    pub fn finish(self) -> Result<(Vec<Mistake>, Keys), Mistakes> {
        let Found { mut notes, hidden, keys, .. } = self.found.into_inner();
        notes.sort_by_key(|note| note.at.start);
        let (errors, warnings): (Vec<Note>, Vec<Note>) =
            notes.into_iter().partition(|note| note.severity == Severity::Error);
        let show = |notes: &[Note]| {
            notes.iter().take(SHOWN).map(|note| self.source.mistake(note, &hidden)).collect::<Vec<_>>()
        };
        if errors.is_empty() {
            return Ok((show(&warnings), keys));
        }
        Err(Mistakes { file: self.source.file().to_owned(), list: show(&errors), count: errors.len() })
    }
}

/// One table of certs.toml, of which key after key is taken.
pub struct Section<'a> {
    kind: &'static str,
    title: String,
    at: Range<usize>,
    table: DeTable<'a>,
    asked: Vec<&'static str>,
    missing: Vec<(&'static str, String)>,
    context: &'a Context<'a>,
}

impl<'a> Section<'a> {
    /// A table of the kind `kind` (`issuer`), named `title` in messages (`issuer "main"`).
    pub fn new(
        kind: &'static str,
        title: impl Into<String>,
        at: Range<usize>,
        table: DeTable<'a>,
        context: &'a Context<'a>,
    ) -> Self {
        let used = table.keys().map(|key| (kind, key.get_ref().to_string()));
        context.found.borrow_mut().keys.used.extend(used);
        Self { kind, title: title.into(), at, table, asked: Vec::new(), missing: Vec::new(), context }
    }

    /// Takes a value out, as it stands in the file.
    pub fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'a>>> {
        self.asked.push(key);
        self.context.found.borrow_mut().keys.known.insert((self.kind, key));
        self.table.remove(key)
    }

    /// A value that stays where it is.
    pub fn peek(&self, key: &'static str) -> Option<&DeValue<'a>> {
        self.table.get(key).map(Spanned::get_ref)
    }

    /// A value that may be absent. `None` also when it is wrong: then a mistake is recorded, and
    /// whatever is made of the default is thrown away.
    pub fn optional<T: Value>(&mut self, key: &'static str) -> Option<T> {
        let value = self.take(key)?;
        T::read(Item::new(key, value, self.context))
    }

    /// A value that must be there; `example` is one as it would stand in the file.
    pub fn required<T: Value>(&mut self, key: &'static str, example: &str) -> Option<T> {
        let value = self.needed(key, example)?;
        T::read(Item::new(key, value, self.context))
    }

    /// A text that must be there, and that `parse` makes into something.
    pub fn required_parsed<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        let value = self.needed(key, example)?;
        Item::new(key, value, self.context).parsed(example, parse)
    }

    fn needed(&mut self, key: &'static str, example: &str) -> Option<Spanned<DeValue<'a>>> {
        let value = self.take(key);
        if value.is_none() {
            let message = format!("{} needs `{key}`", self.title);
            self.missing(key, message, Remedy::Hint(format!("add `{key} = {example}`")));
        }
        value
    }

    /// A text that `parse` makes into something.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        let value = self.take(key)?;
        Item::new(key, value, self.context).parsed(example, parse)
    }

    /// A list of texts, each made into something by `parse`, each with its place.
    pub fn parsed_list<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Option<Vec<Spanned<T>>> {
        let value = self.take(key)?;
        let items = Item::new(key, value, self.context).items(example)?;
        let parsed = items.into_iter().filter_map(|item| {
            let at = item.at.clone();
            Some(Spanned::new(at, item.parsed(example, &parse)?))
        });
        Some(parsed.collect())
    }

    /// A table inside this one.
    pub fn table(&mut self, kind: &'static str, key: &'static str) -> Option<Self> {
        let value = self.take(key)?;
        let at = value.span();
        let title = format!("`{key}` of {}", self.title);
        let context = self.context;
        let table = Item::new(key, value, context).table()?;
        Some(Self::new(kind, title, at, table, context))
    }

    /// How messages name this table: `issuer "main"`.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// How people write it: `issuer.main`.
    pub fn path(&self) -> String {
        self.title.replacen(' ', ".", 1).replace('"', "")
    }

    /// The place of its header.
    pub fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    /// What all sections of the file share.
    pub fn context(&self) -> &'a Context<'a> {
        self.context
    }

    /// Records a mistake.
    pub fn mistake(&self, at: Range<usize>, message: impl Into<String>, remedy: Remedy) {
        self.context.mistake(at, message, remedy);
    }

    /// Records at the header that a key is missing. Taken back when a slip for it turns up.
    pub fn missing(&mut self, key: &'static str, message: impl Into<String>, remedy: Remedy) {
        let message = message.into();
        self.mistake(self.at.clone(), message.clone(), remedy);
        self.missing.push((key, message));
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self) {
        for (key, value) in &self.table {
            let name = key.get_ref();
            let is_table = matches!(value.get_ref(), DeValue::Table(_));
            self.context.hide_texts(value);
            let what = if self.kind.is_empty() && is_table { "table" } else { "key" };
            let remedy = match near(name, self.asked.iter().copied()) {
                Some(meant) => {
                    for (_, message) in self.missing.iter().filter(|(key, _)| *key == meant) {
                        self.context.take_back(&self.at, message);
                    }
                    Remedy::DidYouMean(meant.to_owned())
                }
                None if is_table && ["issuer", "dns", "host", "alert"].contains(&self.kind) => Remedy::Hint(
                    format!("a name with dots is written in quotes: [{}.\"NAME.WITH.DOTS\"]", self.kind),
                ),
                None => Remedy::Hint(format!("known here are {}", listed(self.asked.iter().copied()))),
            };
            self.mistake(key.span(), format!("unknown {what} {}", quoted(name)), remedy);
        }
    }
}

/// The candidate that was probably meant by `word`: a letter or two away, or only written differently.
pub fn near<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Longer words are no slips, and the comparison is quadratic.
    const LIMIT: usize = 64;
    if word.len() > LIMIT {
        return None;
    }
    let bare = |text: &str| text.to_ascii_lowercase().replace(['_', ' ', '.'], "-");
    let wanted = bare(word);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LIMIT)
        .filter_map(|candidate| {
            let other = bare(candidate);
            let distance = strsim::damerau_levenshtein(&wanted, &other);
            let allowed = wanted.chars().count().max(other.chars().count()).div_ceil(3).min(3);
            (distance <= allowed).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// A text of the file in quotes, harmless and short.
pub fn quoted(text: &str) -> String {
    const LIMIT: usize = 80;
    let shown = plain(text);
    match shown.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("\"{}…\"", &shown[..end]),
        None => format!("\"{shown}\""),
    }
}

/// Words in a row, `a, b, c`, not too many.
pub fn listed<'c>(words: impl IntoIterator<Item = &'c str>) -> String {
    const LIMIT: usize = 40;
    let words: Vec<&str> = words.into_iter().collect();
    let mut shown = words[..words.len().min(LIMIT)].join(", ");
    if words.len() > LIMIT {
        shown.push_str(&format!(" and {} more", words.len() - LIMIT));
    }
    shown
}

/// A path of the file: relative ones start at the folder of certs.toml.
pub(crate) fn absolute(base: &Path, text: &str) -> Result<PathBuf, Refusal> {
    match text.chars().next() {
        None => Err(Refusal::new("a path cannot be empty", "write the path of a file")),
        Some('~' | '$') => Err(Refusal::new(
            "`~` and `$` are not expanded",
            "write the path from the root, as in \"/etc/certfleet/…\", or relative to certs.toml",
        )),
        _ if text.contains(char::is_control) => {
            Err(Refusal::new("a path cannot contain control characters", "remove them"))
        }
        // PATH_MAX of Linux.
        _ if text.len() > 4096 => {
            Err(Refusal::new("a path has at most 4096 bytes", "write the path of an existing file"))
        }
        _ => Ok(base.join(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        let keys = ["renew-before", "accept-terms", "host", "hosts"];
        assert_eq!(near("rewew_before", keys), Some("renew-before"));
        assert_eq!(near("acept-terms", keys), Some("accept-terms"));
        assert_eq!(near("HOSTS", keys), Some("hosts"));
        assert_eq!(near("xyz", keys), None);
        assert_eq!(near("", keys), None);
        assert_eq!(near(&"x".repeat(1_000_000), keys), None);
        assert_eq!(near("wbe1", ["web1", "web2"]), Some("web1"));
    }

    #[test]
    fn every_mistake_of_a_table_is_found() {
        let text = "port = 'x'\nacept-terms = true\n";
        let context = Context::new("certs.toml", text, Path::new("/etc"));
        let table = DeTable::parse(text).unwrap().into_inner();
        let mut section = Section::new("issuer", "issuer \"x\"", 0..0, table, &context);
        assert_eq!(section.optional::<u16>("port"), None);
        assert_eq!(section.required::<bool>("accept-terms", "true"), None);
        assert_eq!(section.required::<String>("contact", "\"…\""), None);
        section.finish();
        let mistakes = context.finish().unwrap_err();
        let summaries: Vec<_> = mistakes.list.iter().map(Mistake::summary).collect();
        assert_eq!(
            summaries,
            [
                "issuer \"x\" needs `contact`",
                "`port` must be a whole number, not a string",
                "unknown key \"acept-terms\", did you mean \"accept-terms\"?",
            ]
        );
    }
}
