//! A topic of ntfy, at ntfy.sh or a server of your own.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::cut::{cut, excerpt};
use super::hook::secret;
use super::text::Words;
use super::{Channel, Error, Hook, Message, text};
use crate::http::Call;
use crate::kind::{Kind, Section};
use crate::model::alert::{Level, Notice, Occasion};
use crate::model::problem::clean;
use crate::secret::Secret;

/// The table entry.
pub const KIND: Kind<dyn Channel> = Kind {
    name: "ntfy",
    summary: "phones, by a topic of ntfy",
    example: "url = { file = \"/etc/certfleet/secrets/ntfy\" }\n",
    rights: "the URL of a topic, as https://ntfy.sh/TOPIC; a topic without a token is open to all who know its name, so give it a long random one",
    build,
};

#[derive(Debug)]
struct Ntfy {
    hook: Hook,
    token: Option<Secret>,
}

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Channel>> {
    let hook = Hook::read(section, "put the topic's URL, and an access token that may write to it,");
    let token = section.optional("token");
    Some(Arc::new(Ntfy { hook: hook?, token }))
}

#[async_trait]
impl Channel for Ntfy {
    async fn send(&self, message: &Message) -> Result<Option<String>, Error> {
        let mut url = self.hook.url().await?;
        // As JSON a message goes to the server, with the topic in it: headers would be no place for titles.
        let parts = url.path_segments().into_iter().flatten();
        let topic = parts.rev().find(|part| !part.is_empty()).unwrap_or_default().to_owned();
        if topic.is_empty() {
            let why = "it names no topic, as in https://ntfy.sh/TOPIC".to_owned();
            return Err(Error::Url { table: self.hook.table().to_owned(), why });
        }
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().pop().push("");
        }
        let mut call = Call::post("").hiding(&topic).json(&payload(&topic, message));
        if let Some(token) = &self.token {
            call = call.bearer(&secret(self.hook.table(), "token", token).await?);
        }
        let reply = self.hook.send(url, call).await?;
        let answer: Value = serde_json::from_slice(reply.body()).unwrap_or_default();
        Ok(answer["id"].as_str().map(|id| reply.safe(id)))
    }
}

fn payload(topic: &str, message: &Message) -> Value {
    let (body, priority, tag) = match message {
        Message::Notice(notice) => {
            let (priority, tag) = weight(notice);
            (Words::of(notice).plain_text(BODY), priority, tag)
        }
        Message::Document { text, .. } => (excerpt(&clean(text), BODY), 3, "page_facing_up"),
    };
    let title = cut(&text::title(message), TITLE);
    json!({ "topic": topic, "title": title, "message": body, "priority": priority, "tags": [tag] })
}

/// How loud it is, 1 to 5, and the sign before its title.
fn weight(notice: &Notice) -> (u8, &'static str) {
    match (notice.occasion, notice.level) {
        (Occasion::Over, _) => (3, "white_check_mark"),
        (_, Level::Warning) => (3, "warning"),
        (_, Level::Critical) => (4, "rotating_light"),
        (_, Level::Emergency) => (5, "sos"),
    }
}

/// In bytes: a longer message becomes a file.
const BODY: usize = 4000;
const TITLE: usize = 250;
