//! A channel of Slack, by an incoming webhook; Mattermost and Rocket.Chat understand it too.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::cut::{cut, excerpt};
use super::text::{Line, Words};
use super::{Channel, Error, Hook, Message, text};
use crate::http::Call;
use crate::kind::{Kind, Section};
use crate::model::alert::{Level, Notice, Occasion};
use crate::model::problem::{clean, plain};

/// The table entry.
pub const KIND: Kind<dyn Channel> = Kind {
    name: "slack",
    summary: "a channel of Slack, or of what takes its webhooks (Mattermost, Rocket.Chat)",
    example: "url = { file = \"/etc/certfleet/secrets/slack\" }\n",
    rights: "the URL of an incoming webhook: api.slack.com/apps, Create New App, Incoming Webhooks, Add New Webhook; it can only post to one channel",
    build,
};

#[derive(Debug)]
struct Slack(Hook);

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Channel>> {
    let advice = "make a new incoming webhook in your Slack app and put its URL";
    Some(Arc::new(Slack(Hook::read(section, advice)?)))
}

#[async_trait]
impl Channel for Slack {
    async fn send(&self, message: &Message) -> Result<Option<String>, Error> {
        let url = self.0.url().await?;
        self.0.send(url, Call::post("").json(&payload(message))).await?;
        Ok(None)
    }
}

fn payload(message: &Message) -> Value {
    let title = text::title(message);
    // Text that is plain knows no markup and no mentions; the rest is ours.
    let (body, colour, about) = match message {
        Message::Notice(notice) => {
            let body = Words::of(notice).body(SECTION, line);
            let body = json!({ "type": "plain_text", "text": body.trim_end(), "emoji": false });
            (body, colour(notice), format!("{} · {} · ", notice.code, notice.alert))
        }
        Message::Document { text, .. } => {
            let text = escape(&clean(text)).replace('`', "'");
            let body = format!("```\n{}\n```", excerpt(&text, SECTION - 8));
            (json!({ "type": "mrkdwn", "text": body }), "#1f6feb", String::new())
        }
    };
    let about = escape(&plain(&format!("{about}{}", text::sender())));
    json!({
        "text": cut_escaped(&title, SECTION),
        "attachments": [{
            "color": colour,
            "fallback": cut_escaped(&title, SECTION),
            "blocks": [
                { "type": "header", "text": { "type": "plain_text", "text": cut_escaped(&title, HEADER), "emoji": false } },
                { "type": "section", "text": body },
                { "type": "context", "elements": [{ "type": "plain_text", "text": about, "emoji": false }] },
            ],
        }],
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

fn line(line: Line<'_>) -> String {
    match line {
        Line::Subject(text) => format!("• {}\n", escape(text)),
        Line::More(count) => format!("• and {count} more\n"),
        Line::Fact(label, text) | Line::Command(label, text) => format!("{label}: {}\n", escape(text)),
    }
}

/// The three characters that mean something to Slack.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Cut before it is escaped, so that no escape is cut in two.
fn cut_escaped(text: &str, limit: usize) -> String {
    let mut room = limit;
    loop {
        let escaped = escape(&cut(text, room));
        if escaped.len() <= limit {
            return escaped;
        }
        room -= (escaped.len() - limit).div_ceil(4).min(room);
    }
}

fn colour(notice: &Notice) -> &'static str {
    match (notice.occasion, notice.level) {
        (Occasion::Over, _) => "#2ea043",
        (Occasion::Test, _) => "#1f6feb",
        (_, Level::Warning) => "#e3b341",
        (_, Level::Critical) => "#f06a20",
        (_, Level::Emergency) => "#da3633",
    }
}

/// Slack counts characters; bytes are never fewer.
const HEADER: usize = 150;
const SECTION: usize = 3000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_a_mention_or_a_link() {
        assert_eq!(escape("<!channel> & <https://x|y>"), "&lt;!channel&gt; &amp; &lt;https://x|y&gt;");
        assert_eq!(cut_escaped("<<<<", 100), "&lt;&lt;&lt;&lt;");
        for limit in [4, 10, 150] {
            let shown = cut_escaped(&"<".repeat(1000), limit);
            assert!(shown.len() <= limit && shown.trim_end_matches('…').len().is_multiple_of(4), "{shown}");
        }
    }
}
