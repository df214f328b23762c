//! A message for programs: what `webhook` sends and `exec` gives.

use serde_json::{Value, json};

use super::{Message, text};

/// The message as JSON, as README describes it: fields are added, never renamed.
pub(super) fn of(message: &Message) -> Value {
    let (title, text, controller) = (text::title(message), text::body(message), text::sender());
    let mut value = json!({ "version": 1, "controller": controller, "title": title, "text": text });
    match message {
        Message::Notice(notice) => {
            value["kind"] = json!("notice");
            value["notice"] = json!(notice);
        }
        Message::Document { json, .. } => {
            value["kind"] = json!("document");
            value["document"] = json!(json);
        }
    }
    value
}
