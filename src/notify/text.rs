//! A message in words: the same for all channels, safe for a terminal, not yet escaped for anything else.

use jiff::Timestamp;

use super::Message;
use super::cut::cut;
use crate::model::alert::{Level, Notice, Occasion};
use crate::model::plan::minute;
use crate::model::problem::{clean, plain};

/// One part of what a notice says, for a channel to write in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// One thing that it is about.
    Subject(&'a str),
    /// How many more there are.
    More(usize),
    /// A label, and what there is to say.
    Fact(&'static str, &'a str),
    /// A label, and a command of ours that can be run as it is.
    Command(&'static str, &'a str),
}

/// A notice in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// What is so, beginning with how bad it is; one line.
    pub headline: String,
    subjects: Vec<String>,
    more: usize,
    facts: Vec<(&'static str, String)>,
    acknowledge: Option<String>,
}

impl Words {
    /// The notice in words.
    pub fn of(notice: &Notice) -> Self {
        let mut facts = Vec::new();
        let mut add = |label, text: Option<String>| facts.extend(text.map(|text| (label, text)));
        add("why", notice.reason.as_deref().map(plain));
        if notice.occasion != Occasion::Test {
            add("since", Some(since(notice.since, notice.at)));
        }
        add("next", notice.next.as_deref().map(plain));
        add("do", notice.remedy.as_deref().map(plain));
        let open = !matches!(notice.occasion, Occasion::Over | Occasion::Test);
        Self {
            headline: headline(notice),
            // One alone is the headline itself.
            subjects: notice
                .subjects
                .iter()
                .filter(|subject| subject.text != notice.title)
                .map(|subject| plain(&subject.text))
                .collect(),
            more: notice.more,
            facts,
            acknowledge: open.then(|| format!("certfleet alert ack {}", plain(&notice.alert))),
        }
    }

    /// Below the headline: as many subjects as fit into `limit` bytes, then all else; each part as `write` writes it.
    pub fn body(&self, limit: usize, write: impl Fn(Line<'_>) -> String) -> String {
        // Nothing of what is to be done is lost to a long text; where it has to be, all are shortened.
        const LONGEST: [usize; 4] = [usize::MAX, 300, 150, 75];
        let tail = |longest: usize| {
            let facts = self.facts.iter().map(|(label, text)| write(Line::Fact(label, &cut(text, longest))));
            let command = self.acknowledge.iter().map(|text| write(Line::Command("acknowledge", text)));
            facts.chain(command).collect::<String>()
        };
        let fits = |longest: &usize| tail(*longest).len() <= limit / 4 * 3;
        let longest = LONGEST.into_iter().find(fits).unwrap_or(LONGEST[3]);
        let tail = tail(longest);
        let room = limit.saturating_sub(tail.len() + write(Line::More(usize::MAX)).len());
        let mut body = String::new();
        let mut shown = 0;
        for subject in &self.subjects {
            let line = write(Line::Subject(&cut(subject, longest)));
            if body.len() + line.len() > room {
                break;
            }
            body.push_str(&line);
            shown += 1;
        }
        let more = self.more + self.subjects.len() - shown;
        if more > 0 {
            body.push_str(&write(Line::More(more)));
        }
        body + &tail
    }

    /// All of it in plain text of `limit` bytes at most, below the headline.
    pub fn plain_text(&self, limit: usize) -> String {
        let body = self.body(limit, |line| match line {
            Line::Subject(text) => format!("- {text}\n"),
            Line::More(count) => format!("- and {count} more\n"),
            Line::Fact(label, text) | Line::Command(label, text) => format!("{label}: {text}\n"),
        });
        body.trim_end().to_owned()
    }
}

/// A message in one line.
pub fn title(message: &Message) -> String {
    match message {
        Message::Notice(notice) => headline(notice),
        Message::Document { title, .. } => plain(title),
    }
}

/// What a message says below its title, in plain text.
pub fn body(message: &Message) -> String {
    match message {
        Message::Notice(notice) => Words::of(notice).plain_text(LONGEST_TEXT),
        Message::Document { text, .. } => clean(text),
    }
}

/// The machine that tells it.
pub fn sender() -> String {
    plain(&rustix::system::uname().nodename().to_string_lossy())
}

/// The word for a level.
pub fn level(level: Level) -> &'static str {
    match level {
        Level::Warning => "warning",
        Level::Critical => "critical",
        Level::Emergency => "emergency",
    }
}

fn headline(notice: &Notice) -> String {
    let level = level(notice.level);
    let title = plain(&notice.title);
    match notice.occasion {
        Occasion::Raised => format!("{level}: {title}"),
        Occasion::Worsened => format!("{level}, worse than before: {title}"),
        Occasion::Repeated => format!("{level}, still: {title}"),
        Occasion::Escalated => format!("{level}, not acknowledged: {title}"),
        Occasion::Over => format!("over: {title}"),
        Occasion::Test => format!("test: {title}"),
    }
}

fn since(since: Timestamp, at: Timestamp) -> String {
    let seconds = at.duration_since(since).as_secs().max(0);
    let lasted = match seconds {
        ..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    };
    if seconds < 60 { minute(since) } else { format!("{}, {lasted} ago", minute(since)) }
}

/// Where nothing else limits it: fifty subjects and the rest fit, whatever they say.
const LONGEST_TEXT: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::alert::Subject;

    fn notice() -> Notice {
        let subject = |text: &str| Subject { certificate: None, host: None, text: text.to_owned() };
        Notice {
            alert: "a1b2".to_owned(),
            occasion: Occasion::Raised,
            level: Level::Critical,
            at: "2026-11-23T14:10:00Z".parse().unwrap(),
            since: "2026-11-20T10:00:00Z".parse().unwrap(),
            code: "served.expires".to_owned(),
            title: "media.example.org ends in 12 days on sally".to_owned(),
            subjects: vec![subject("sally serves version 7"), subject("esme\u{1b}[2J\nserves version 7")],
            more: 2,
            reason: Some("the CA refuses".to_owned()),
            next: Some("retry at 15:00 UTC".to_owned()),
            remedy: Some("certfleet renew --force media.example.org".to_owned()),
        }
    }

    #[test]
    fn a_notice_says_what_why_since_next_and_what_to_do() {
        let words = Words::of(&notice());
        assert_eq!(words.headline, "critical: media.example.org ends in 12 days on sally");
        assert_eq!(
            words.plain_text(10_000),
            "- sally serves version 7\n- esme\\u{1b}[2J serves version 7\n- and 2 more\nwhy: the CA refuses\n\
             since: 2026-11-20 10:00 UTC, 3 days ago\nnext: retry at 15:00 UTC\n\
             do: certfleet renew --force media.example.org\nacknowledge: certfleet alert ack a1b2"
        );
        let subject = Subject { certificate: None, host: None, text: notice().title };
        let one = Words::of(&Notice { subjects: vec![subject], more: 0, ..notice() });
        assert!(one.plain_text(10_000).starts_with("why: the CA refuses"));
        let over = Words::of(&Notice { occasion: Occasion::Over, ..notice() });
        assert!(over.headline.starts_with("over: ") && !over.plain_text(10_000).contains("alert ack"));
    }

    #[test]
    fn what_does_not_fit_is_counted_and_the_rest_stays() {
        let subject = Subject { certificate: None, host: None, text: "s".repeat(500) };
        let long = Notice {
            subjects: vec![subject; 50],
            more: 450,
            reason: Some("r".repeat(2000)),
            next: Some("n".repeat(2000)),
            remedy: Some("d".repeat(2000)),
            ..notice()
        };
        for limit in [600, 1000, 3000, 20_000, 200_000] {
            let text = Words::of(&long).plain_text(limit);
            assert!(text.len() <= limit, "{limit}: {}", text.len());
            let shown = text.lines().filter(|line| line.starts_with("- s")).count();
            assert!(shown > 0, "{text}");
            assert!(text.contains(&format!("- and {} more", 500 - shown)), "{text}");
            for part in ["why: r", "next: n", "do: d", "acknowledge: certfleet alert ack a1b2"] {
                assert!(text.contains(part), "{limit}: {part}");
            }
        }
    }
}
