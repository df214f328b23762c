//! A message as a mail (RFC 5322).

use jiff::Timestamp;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use sha2::{Digest, Sha256};

use super::MailError;
use crate::model::alert::Notice;
use crate::notify::cut::cut;
use crate::notify::{Message, text};

/// The mail, and its Message-ID.
pub(super) fn write(
    message: &Message,
    from: &Mailbox,
    to: &[Mailbox],
) -> Result<(lettre::Message, String), MailError> {
    let (id, thread) = ids(message, from);
    let mut builder = lettre::Message::builder()
        .from(from.clone())
        .subject(cut(&text::title(message), SUBJECT))
        .message_id(Some(id.clone()))
        // Answers of holiday programs help nobody (RFC 3834).
        .raw_header(header("Auto-Submitted", "auto-generated"))
        .raw_header(header("X-Auto-Response-Suppress", "All"));
    for mailbox in to {
        builder = builder.to(mailbox.clone());
    }
    if let Some(thread) = thread {
        // Nobody ever sent a mail of this name: all that refer to it stand together.
        builder = builder.references(thread.clone()).in_reply_to(thread);
    }
    if let Message::Notice(notice) = message {
        builder = builder
            .raw_header(header("X-Certfleet-Alert", &word(&notice.alert)))
            .raw_header(header("X-Certfleet-Code", &word(&notice.code)))
            .raw_header(header("X-Certfleet-Level", text::level(notice.level)));
    }
    let body = format!("{}\n\n-- \ncertfleet on {}\n", text::body(message), text::sender());
    let letter = match message {
        Message::Document { html: Some(html), .. } => {
            builder.multipart(MultiPart::alternative_plain_html(body, html.clone()))
        }
        Message::Document { .. } | Message::Notice(_) => builder.singlepart(SinglePart::plain(body)),
    };
    Ok((letter?, id))
}

/// The name of the mail, the same when it is sent again; and of the thread it belongs to.
fn ids(message: &Message, from: &Mailbox) -> (String, Option<String>) {
    let domain = from.email.domain();
    match message {
        Message::Notice(notice) => {
            let alert = word(&notice.alert);
            (
                format!("<certfleet.{alert}.{}@{domain}>", mark(notice)),
                Some(format!("<certfleet.{alert}@{domain}>")),
            )
        }
        Message::Document { title, text, .. } => {
            let now = Timestamp::now().to_string();
            (format!("<certfleet.document.{}@{domain}>", digest(&[title, text, &now])), None)
        }
    }
}

/// What tells one mail of an alert from the others.
fn mark(notice: &Notice) -> String {
    let (at, occasion) = (notice.at.to_string(), format!("{:?}", notice.occasion));
    digest(&[&at, &occasion, &notice.title])
}

fn digest(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// Only what a header or an id may have anywhere.
fn word(text: &str) -> String {
    let kept = text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    kept.take(64).collect()
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    let name = HeaderName::new_from_ascii(name.to_owned()).expect("a name of ours is a header's name");
    HeaderValue::new(name, value.to_owned())
}

/// In bytes; longer ones are cut by programs anyway.
const SUBJECT: usize = 300;
