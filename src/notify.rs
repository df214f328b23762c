//! Telling people: one file per channel.
//!
//! A channel makes one attempt. What is sent, when again and to whom next is decided elsewhere.

use std::fmt;

use async_trait::async_trait;

use crate::model::alert::Notice;
use crate::model::problem::Diagnose;

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
    async fn send(&self, message: &Message) -> Result<Option<String>, Box<dyn Diagnose + Send + Sync>>;
}
