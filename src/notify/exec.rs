//! A program of yours, which reads the message as JSON.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Channel, Error, Message, hook, json};
use crate::kind::{Kind, Section};
use crate::program::Program;

/// The table entry.
pub const KIND: Kind<dyn Channel> = Kind {
    name: "exec",
    summary: "a program of yours, which reads JSON on its standard input",
    example: "command = \"/etc/certfleet/alert-hook\"\n",
    rights: "the program runs as certfleet's user, with PATH, HOME, language and time zone as its environment: what it logs in with it has to read from a file",
    build,
};

#[derive(Debug)]
struct Exec(Program);

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Channel>> {
    let command = section.required("command", "\"/etc/certfleet/alert-hook\"");
    let timeout = crate::http::timeout(section, hook::TIMEOUT);
    Some(Arc::new(Exec(Program { owner: section.path(), command: command?, timeout })))
}

#[async_trait]
impl Channel for Exec {
    async fn send(&self, message: &Message) -> Result<Option<String>, Error> {
        self.0.feed(format!("{}\n", json::of(message)).into_bytes()).await?;
        Ok(None)
    }
}
