//! Any web service, by JSON; signed on request.

use std::sync::Arc;

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderName;
use jiff::Timestamp;
use sha2::Sha256;

use super::hook::secret;
use super::{Channel, Error, Hook, Message, json};
use crate::http::Call;
use crate::kind::{Kind, Section};
use crate::secret::Secret;

/// The table entry.
pub const KIND: Kind<dyn Channel> = Kind {
    name: "webhook",
    summary: "a web service of yours, which is sent JSON; signed with `secret`",
    example: "url = { file = \"/etc/certfleet/secrets/webhook\" }\nsecret = { file = \"/etc/certfleet/secrets/webhook-key\" }\n",
    rights: "whatever the receiver asks for in its address; the signature shows that it is from here, and new",
    build,
};

#[derive(Debug)]
struct Webhook {
    hook: Hook,
    secret: Option<Secret>,
}

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Channel>> {
    let hook = Hook::read(section, "put the address that the receiver has now");
    let secret = section.optional("secret");
    Some(Arc::new(Webhook { hook: hook?, secret }))
}

#[async_trait]
impl Channel for Webhook {
    async fn send(&self, message: &Message) -> Result<Option<String>, Error> {
        let url = self.hook.url().await?;
        let body = json::of(message).to_string();
        let mut call = Call::post("");
        if let Some(key) = &self.secret {
            let key = secret(self.hook.table(), "secret", key).await?;
            let signature = sign(key.as_bytes(), Timestamp::now().as_second(), body.as_bytes());
            call = call.header(HeaderName::from_static(SIGNATURE), &signature).hiding(&key);
        }
        self.hook.send(url, call.text("application/json", body)).await?;
        Ok(None)
    }
}

/// `t=SECONDS,v1=HEX`: the HMAC-SHA256 of `SECONDS.BODY`. With the time in it nobody can send it again later.
fn sign(key: &[u8], seconds: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let code = mac.finalize().into_bytes();
    let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

const SIGNATURE: &str = "certfleet-signature";
