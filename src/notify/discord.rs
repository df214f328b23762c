//! A channel of Discord, by a webhook.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::cut::{cut, excerpt};
use super::text::{Line, Words};
use super::{Channel, Error, Hook, Message, text};
use crate::http::Call;
use crate::kind::{Kind, Section};
use crate::model::alert::{Level, Notice, Occasion};
use crate::model::problem::clean;

/// The table entry.
pub const KIND: Kind<dyn Channel> = Kind {
    name: "discord",
    summary: "a channel of Discord",
    example: "url = { file = \"/etc/certfleet/secrets/discord\" }\n",
    rights: "the URL of a webhook: Edit Channel, Integrations, Webhooks, New Webhook, Copy Webhook URL (by who may Manage Webhooks); it can only post there",
    build,
};

#[derive(Debug)]
struct Discord(Hook);

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Channel>> {
    let advice = "make a new webhook in the channel's settings (Integrations) and put its URL";
    Some(Arc::new(Discord(Hook::read(section, advice)?)))
}

#[async_trait]
impl Channel for Discord {
    async fn send(&self, message: &Message) -> Result<Option<String>, Error> {
        let mut url = self.0.url().await?;
        // The answer then says what became of it.
        url.query_pairs_mut().append_pair("wait", "true");
        let reply = self.0.send(url, Call::post("").json(&payload(message))).await?;
        let answer: Value = serde_json::from_slice(reply.body()).unwrap_or_default();
        Ok(answer["id"].as_str().map(|id| reply.safe(id)))
    }
}

fn payload(message: &Message) -> Value {
    let embed = match message {
        Message::Notice(notice) => {
            let words = Words::of(notice);
            json!({
                "title": cut(&escape(&words.headline), TITLE),
                "description": words.body(DESCRIPTION, line),
                "color": colour(notice),
                "timestamp": notice.at,
                "footer": { "text": cut(&format!("{} · {} · {}", notice.code, notice.alert, text::sender()), FOOTER) },
            })
        }
        Message::Document { text, .. } => json!({
            "title": cut(&escape(&text::title(message)), TITLE),
            "description": format!("```\n{}\n```", excerpt(&in_code(&clean(text)), DESCRIPTION - 8)),
            "footer": { "text": cut(&text::sender(), FOOTER) },
        }),
    };
    json!({ "embeds": [embed], "allowed_mentions": { "parse": [] } })
}

fn line(line: Line<'_>) -> String {
    match line {
        Line::Subject(text) => format!("- {}\n", escape(text)),
        Line::More(count) => format!("- and {count} more\n"),
        Line::Fact(label, text) => format!("**{label}:** {}\n", escape(text)),
        Line::Command(label, text) => format!("**{label}:** `{}`\n", in_code(text)),
    }
}

/// A text of which nothing is markup, mention or link.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation()
            && !matches!(c, '.' | ',' | '-' | '/' | '\'' | '"' | ';' | '%' | '=' | '?')
        {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A text for between backticks, where nothing but these means anything.
fn in_code(text: &str) -> String {
    text.replace('`', "'")
}

fn colour(notice: &Notice) -> u32 {
    match (notice.occasion, notice.level) {
        (Occasion::Over, _) => 0x2e_a0_43,
        (Occasion::Test, _) => 0x1f_6f_eb,
        (_, Level::Warning) => 0xe3_b3_41,
        (_, Level::Critical) => 0xf0_6a_20,
        (_, Level::Emergency) => 0xda_36_33,
    }
}

/// Discord counts characters; bytes are never fewer. Half of what an embed may have: its sum is limited too.
const TITLE: usize = 256;
const DESCRIPTION: usize = 4000;
const FOOTER: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(escape("a_b *c* [x](javascript:)"), r"a\_b \*c\* \[x\]\(javascript\:\)");
        assert_eq!(escape("@everyone <@1> <#2>"), r"\@everyone \<\@1\> \<\#2\>");
        assert_eq!(escape("https://evil.example/"), r"https\://evil.example/");
        assert_eq!(escape(r"\"), r"\\");
        assert_eq!(in_code("a`b"), "a'b");
    }
}
