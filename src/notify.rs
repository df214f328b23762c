//! Telling people: one file per channel.
//!
//! A channel makes one attempt. What is sent, when again and to whom next is decided elsewhere. What a
//! [`Message`] says may come from a hostile CA or host: [`text`] makes it words without control characters,
//! each channel escapes these for what it writes.

use std::fmt;

use async_trait::async_trait;

use crate::kind::Kind;
use crate::model::alert::Notice;

mod cut;
pub mod discord;
pub mod email;
mod error;
pub mod exec;
mod hook;
pub mod journal;
mod json;
pub mod ntfy;
pub mod slack;
pub mod text;
pub mod webhook;

pub use email::{MailError, Step};
pub use error::Error;
pub use hook::Hook;

/// The channels. To add one: write notify/NAME.rs with a `KIND`, add it here, and its bench to tests/it/notify.rs.
pub const KINDS: &[Kind<dyn Channel>] =
    &[journal::KIND, discord::KIND, slack::KIND, email::KIND, ntfy::KIND, webhook::KIND, exec::KIND];

/// What a channel is to deliver.
#[derive(Debug, Clone)]
pub enum Message {
    /// An alert.
    Notice(Box<Notice>),
    /// A document, such as the expiry report, in the forms that channels can use.
    Document {
        /// One line: a subject.
        title: String,
        /// For every channel: what it says in plain text.
        text: String,
        /// For those that can show a page.
        html: Option<String>,
        /// For programs.
        json: Option<serde_json::Value>,
    },
}

/// A way to reach people.
#[async_trait]
pub trait Channel: fmt::Debug + Send + Sync {
    /// One attempt to deliver; returns within its own deadline, with what the other side called the message, if it did.
    ///
    /// After an error the message may have arrived nevertheless; of one that [is partly](Error::is_partly) it is known.
    async fn send(&self, message: &Message) -> Result<Option<String>, Error>;
}
