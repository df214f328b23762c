//! A mistake in certs.toml as people see it: where, what, and what to do.

use std::fmt;
use std::ops::Range;

use crate::model::problem::plain;

/// How bad a mistake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken; a person should look.
    Warning,
}

/// What to do about a mistake: there is always something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// The word that was probably meant.
    DidYouMean(String),
    /// What to write or run.
    Hint(String),
}

impl Remedy {
    /// The remedy as one text.
    pub fn text(&self) -> String {
        match self {
            Self::DidYouMean(word) => format!("did you mean \"{word}\"?"),
            Self::Hint(hint) => hint.clone(),
        }
    }
}

/// One mistake, with its place in the file.
///
/// `Display` shows it whole, the line of the file included; what could be a secret is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Whether the file is refused for it.
    pub severity: Severity,
    /// The file, as the user named it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: Remedy,
    excerpt: Excerpt,
}

impl Mistake {
    /// The message with what was meant, in one line without the place.
    pub fn summary(&self) -> String {
        match &self.remedy {
            Remedy::DidYouMean(_) => format!("{}, {}", self.message, self.remedy.text()),
            Remedy::Hint(_) => self.message.clone(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}: {}:{}:{}: {}", self.file, self.line, self.column, self.summary())?;
        let gutter = self.line.to_string().len();
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{} | {}", self.line, self.excerpt.text)?;
        write!(f, "{:gutter$} | {:2$}", "", "", self.excerpt.indent)?;
        write!(f, "{}", "^".repeat(self.excerpt.width))?;
        if let Remedy::Hint(hint) = &self.remedy {
            write!(f, "\n  hint: {}", hint.replace('\n', "\n    "))?;
        }
        Ok(())
    }
}

/// All mistakes of one file; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    /// The file, as the user named it.
    pub file: String,
    /// The mistakes in the order of the file, at most [`SHOWN`].
    pub list: Vec<Mistake>,
    /// How many there are.
    pub count: usize,
}

/// More mistakes than these help nobody; they are counted only.
pub const SHOWN: usize = 100;

impl Mistakes {
    /// `certs.toml has 3 mistakes`
    pub fn headline(&self) -> String {
        let word = if self.count == 1 { "mistake" } else { "mistakes" };
        format!("{} has {} {word}", self.file, self.count)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.list {
            writeln!(f, "{mistake}\n")?;
        }
        if self.count > self.list.len() {
            writeln!(f, "and {} more\n", self.count - self.list.len())?;
        }
        write!(f, "{}; nothing was done", self.headline())
    }
}

/// A mistake as it is found: with offsets in place of lines.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) severity: Severity,
    pub(super) at: Range<usize>,
    pub(super) message: String,
    pub(super) remedy: Remedy,
}

/// The text of a file and where its lines start.
pub(super) struct Source<'a> {
    file: String,
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &str, text: &'a str) -> Self {
        let starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        Self { file: plain(file), text, starts }
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// The number of the line that an offset is in, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// The mistake to show for a note; `hidden` are the places of what could be secrets.
    pub(super) fn mistake(&self, note: &Note, hidden: &[Range<usize>]) -> Mistake {
        let begin = self.text.floor_char_boundary(note.at.start.min(self.text.len()));
        let line = self.line(begin);
        let start = self.starts[line - 1];
        let rest = &self.text[start..];
        let content = rest.split('\n').next().unwrap_or_default();
        let content = content.strip_suffix('\r').unwrap_or(content);
        let span = begin - start..note.at.end.saturating_sub(start);
        let mut hidden: Vec<Range<usize>> = hidden
            .iter()
            .filter(|range| range.end > start && range.start < start + content.len())
            .map(|range| range.start.saturating_sub(start)..range.end - start)
            .collect();
        hidden.extend(sensitive(content));
        Mistake {
            severity: note.severity,
            file: self.file.clone(),
            line,
            column: self.text[start..begin].chars().count() + 1,
            message: note.message.clone(),
            remedy: note.remedy.clone(),
            excerpt: Excerpt::new(content, &span, &hidden),
        }
    }
}

/// A line of the file, harmless to show, and the place to point at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    text: String,
    /// Characters before the place.
    indent: usize,
    /// Characters of the place: at least one.
    width: usize,
}

impl Excerpt {
    fn new(line: &str, span: &Range<usize>, hidden: &[Range<usize>]) -> Self {
        let mut shown: Vec<char> = Vec::new();
        let mut place = None..None;
        let mut in_hidden = false;
        for (offset, c) in line.char_indices() {
            let is_hidden = hidden.iter().any(|range| range.contains(&offset));
            // The place of a hidden run is its one `…`.
            let here = if is_hidden && in_hidden { shown.len() - 1 } else { shown.len() };
            if offset >= span.start {
                place.start.get_or_insert(here);
            }
            if offset >= span.end {
                place.end.get_or_insert(here);
            }
            match c {
                _ if is_hidden && in_hidden => {}
                _ if is_hidden => shown.push('…'),
                ' ' | '\t' => shown.push(' '),
                c => shown.extend(plain(&c.to_string()).chars()),
            }
            in_hidden = is_hidden;
        }
        let indent = place.start.unwrap_or(shown.len());
        let end = place.end.unwrap_or(shown.len());
        let mut from = 0;
        if shown.len() > WIDTH {
            from = indent.saturating_sub(WIDTH / 3).min(shown.len() - WIDTH);
        }
        let to = shown.len().min(from + WIDTH);
        let mut text: String = shown[from..to].iter().collect();
        let mut indent = indent - from;
        if from > 0 {
            text.insert(0, '…');
            indent += 1;
        }
        if to < shown.len() {
            text.push('…');
        }
        let width = (end.min(to) - from + usize::from(from > 0)).saturating_sub(indent).max(1);
        Self { text: text.trim_end().to_owned(), indent, width }
    }
}

/// Characters of a line that are shown.
const WIDTH: usize = 100;

/// Where a line sets something that sounds secret: also when it cannot be parsed.
fn sensitive(line: &str) -> Option<Range<usize>> {
    let (key, value) = line.split_once('=')?;
    let name = key.to_ascii_lowercase();
    let sounds_secret =
        ["secret", "token", "passw", "hmac", "private"].iter().any(|word| name.contains(word));
    let names_a_place = value.trim_start().starts_with('{');
    (sounds_secret && !names_a_place).then(|| {
        let blanks = value.len() - value.trim_start().len();
        key.len() + 1 + blanks..line.len()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, at: Range<usize>, hidden: &[Range<usize>]) -> String {
        let note = Note {
            severity: Severity::Error,
            at,
            message: "wrong".to_owned(),
            remedy: Remedy::Hint("mend it\nlike this".to_owned()),
        };
        Source::new("certs.toml", text).mistake(&note, hidden).to_string()
    }

    #[test]
    fn a_mistake_points_at_its_place() {
        assert_eq!(
            show("a = 1\r\nü = \"\u{1b}x\" # ö\r\n", 12..16, &[]),
            "error: certs.toml:2:5: wrong\n  |\n2 | ü = \"\\u{1b}x\" # ö\n  |     ^^^^^^^^^\n  hint: mend it\n    like this"
        );
    }

    #[test]
    fn the_end_of_the_file_is_a_place() {
        assert!(show("a = ", 4..4, &[]).contains("1 | a =\n  |     ^\n"));
        assert!(show("a = 1\n", 6..6, &[]).starts_with("error: certs.toml:2:1"));
        assert!(show("", 0..0, &[]).starts_with("error: certs.toml:1:1"));
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let line = format!("{}HERE{}", "a".repeat(5000), "b".repeat(5000));
        let shown = show(&line, 5000..5004, &[]);
        assert!(shown.lines().all(|line| line.chars().count() < 120), "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[3].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[2].chars().skip(caret).take(4).collect::<String>(), "HERE");
        assert!(lines[3].ends_with(" ^^^^"));
    }

    #[test]
    fn what_could_be_a_secret_is_left_out() {
        let hidden = 4..13;
        let shown = show("x = \"hunter2\" y", 4..13, std::slice::from_ref(&hidden));
        assert!(shown.contains("1 | x = … y\n  |     ^\n"));
        assert!(!show("api-token = 'hunter2", 20..20, &[]).contains("hunter2"));
        assert!(show("secret = { file = \"x\" }", 0..6, &[]).contains("file"));
    }
}
