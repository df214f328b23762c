//! Records written by a web service that speaks the protocol of lego's `httpreq`.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::http::{Api, Call};
use super::mode::{Mode, proof};
use super::{Change, Error, Provider};
use crate::kind::{Kind, Refusal, Remedy, Section};
use crate::secret::Secret;

/// The table entry.
pub const KIND: Kind<dyn Provider> = Kind {
    name: "httpreq",
    summary: "a web service of yours, asked as lego asks it (POST /present and /cleanup)",
    example: r#"endpoint = "https://dns-hook.example.org"
username = "certfleet"
password = { file = "/etc/certfleet/secrets/httpreq" }
"#,
    rights: "a user of its own, whom the service lets change TXT of the challenge names only",
    build,
};

/// A web service with an account of ours.
#[derive(Debug)]
struct Httpreq {
    api: Api,
    mode: Mode,
    login: Option<(String, Secret)>,
}

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Provider>> {
    let api = Api::read_required(section, &KIND, "endpoint", "\"https://dns-hook.example.org\"");
    let mode = Mode::read(section);
    let username = section.parsed("username", "\"certfleet\"", username);
    let password: Option<Secret> = section.optional("password");
    if username.is_some() != password.is_some() && section.context().count() == 0 {
        section.mistake(
            section.at(),
            format!("{} has `username` or `password` without the other", section.title()),
            Remedy::Hint("set both, or none where the service asks for none".to_owned()),
        );
        return None;
    }
    Some(Arc::new(Httpreq { api: api?, mode: mode?, login: username.zip(password) }))
}

fn username(text: &str) -> Result<String, Refusal> {
    if text.is_empty() || text.contains(|c: char| c == ':' || c.is_control()) {
        let hint = "as in `username = \"certfleet\"`";
        return Err(Refusal::new("a user has no colon and no control characters (RFC 7617)", hint));
    }
    Ok(text.to_owned())
}

#[async_trait]
impl Provider for Httpreq {
    async fn apply(&self, _zone: &str, changes: &[Change]) -> Result<(), Error> {
        let password = match &self.login {
            Some((user, password)) if !changes.is_empty() => {
                Some((user, self.api.secret("password", password).await?))
            }
            _ => None,
        };
        for change in changes {
            let path = match change {
                Change::Add(_) => "present",
                Change::Remove(_) => "cleanup",
            };
            let record = change.record();
            let body = match self.mode {
                Mode::Default => json!({ "fqdn": record.owner, "value": record.value }),
                Mode::Raw => {
                    let proof = proof(record, self.api.account())?;
                    json!({
                        "domain": proof.domain.to_string(),
                        "token": proof.token,
                        "keyAuth": proof.key_authorization,
                    })
                }
            };
            let mut call = Call::post(path).json(&body);
            if let Some((user, password)) = &password {
                call = call.basic(user, password);
            }
            self.api.send(call).await?.success()?;
        }
        Ok(())
    }

    fn batches(&self) -> bool {
        false
    }
}
