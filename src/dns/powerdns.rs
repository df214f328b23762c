//! PowerDNS by its HTTP API: values are merged into the record set of their name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderName;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use super::http::{Answer, Api, ApiError, Call, segment};
use super::{Change, Error, Provider};
use crate::kind::{Kind, Refusal, Section};
use crate::secret::Secret;

/// The table entry.
pub const KIND: Kind<dyn Provider> = Kind {
    name: "powerdns",
    summary: "PowerDNS Authoritative Server 4 or newer, by its HTTP API",
    example: r#"api = "https://dns.example.org:8081"
api-key = { file = "/etc/certfleet/secrets/powerdns" }
"#,
    rights: "PowerDNS knows one key for everything: rather let it take dynamic updates (`rfc2136`) with `TSIG-ALLOW-DNSUPDATE` for the zone, or a CNAME to a zone of its own",
    build,
};

/// A PowerDNS server.
#[derive(Debug)]
struct PowerDns {
    api: Api,
    key: Secret,
    server_id: String,
}

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Provider>> {
    let api = Api::read_required(section, &KIND, "api", "\"https://dns.example.org:8081\"");
    let key = section.required("api-key", "{ file = \"/etc/certfleet/secrets/powerdns\" }");
    let server_id = section.parsed("server-id", "\"localhost\"", |text| match text {
        "" => Err(Refusal::new("it is empty", "PowerDNS itself is `localhost`; leave the key away")),
        text => Ok(text.to_owned()),
    });
    let server_id = server_id.unwrap_or_else(|| "localhost".to_owned());
    Some(Arc::new(PowerDns { api: api?, key: key?, server_id }))
}

/// A zone as far as it was asked for.
#[derive(Deserialize)]
struct Zone {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    rrsets: Vec<RecordSet>,
}

/// All records of a name and type.
#[derive(Debug, Deserialize)]
struct RecordSet {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    ttl: u32,
    #[serde(default)]
    records: Vec<TxtEntry>,
}

/// One record, as it came: what is not ours goes back unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
struct TxtEntry {
    content: String,
    #[serde(default)]
    disabled: bool,
}

/// The TXT records of one name, being changed.
struct Set {
    ttl: u32,
    records: Vec<TxtEntry>,
    changed: bool,
}

impl Set {
    fn make(&mut self, change: &Change) {
        let content = quoted(&change.record().value);
        let is_ours = |entry: &TxtEntry| entry.content == content && !entry.disabled;
        match change {
            Change::Add(record) if !self.records.iter().any(is_ours) => {
                if self.records.is_empty() {
                    self.ttl = record.ttl;
                }
                // The same value, switched off, could not stand beside it.
                self.records.retain(|entry| entry.content != content);
                self.records.push(TxtEntry { content, disabled: false });
                self.changed = true;
            }
            Change::Remove(_) if self.records.iter().any(is_ours) => {
                self.records.retain(|entry| !is_ours(entry));
                self.changed = true;
            }
            _ => {}
        }
    }
}

impl PowerDns {
    fn path(&self, zone: &str) -> String {
        format!("api/v1/servers/{}/zones/{}", segment(&self.server_id), zone_id(zone))
    }

    async fn send(&self, key: &Zeroizing<String>, call: Call) -> Result<Answer, ApiError> {
        self.api.send(call.secret_header(HeaderName::from_static("x-api-key"), key, key)).await
    }

    /// The TXT records of a name, and the kind of its zone.
    async fn set(&self, key: &Zeroizing<String>, zone: &str, owner: &str) -> Result<(Set, String), ApiError> {
        // Servers that do not know the filter send the whole zone.
        let path = format!("{}?rrset_name={}&rrset_type=TXT", self.path(zone), segment(owner));
        let answer = self.send(key, Call::get(path)).await?;
        // 422 is how versions before 4.2 say it.
        if matches!(answer.status(), 404 | 422) {
            return Err(self.api.no_zone(zone));
        }
        let answer = answer.success()?;
        let found: Zone = answer.json()?;
        let own = |set: &RecordSet| set.kind == "TXT" && set.name.eq_ignore_ascii_case(owner);
        let set = found.rrsets.into_iter().find(own);
        let (ttl, records) = set.map_or((0, Vec::new()), |set| (set.ttl, set.records));
        Ok((Set { ttl, records, changed: false }, found.kind))
    }
}

#[async_trait]
impl Provider for PowerDns {
    async fn apply(&self, zone: &str, changes: &[Change]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let key = self.api.secret("api-key", &self.key).await?;
        let mut sets: BTreeMap<&str, Set> = BTreeMap::new();
        let mut notify = false;
        for change in changes {
            let owner = change.record().owner.as_str();
            let set = match sets.entry(owner) {
                Entry::Occupied(set) => set.into_mut(),
                Entry::Vacant(place) => {
                    let (set, kind) = self.set(&key, zone, owner).await?;
                    notify |= matches!(kind.as_str(), "Master" | "Primary" | "Producer");
                    place.insert(set)
                }
            };
            set.make(change);
        }
        let changed: Vec<_> = sets
            .into_iter()
            .filter(|(_, set)| set.changed)
            .map(|(owner, set)| match set.records.is_empty() {
                true => json!({ "name": owner, "type": "TXT", "changetype": "DELETE" }),
                false => json!({
                    "name": owner, "type": "TXT", "changetype": "REPLACE", "ttl": set.ttl, "records": set.records,
                }),
            })
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        // All or none: the server makes one transaction of it.
        let call = Call::patch(self.path(zone)).json(&json!({ "rrsets": changed }));
        self.send(&key, call).await?.success()?;
        if notify {
            let told = self.send(&key, Call::put(format!("{}/notify", self.path(zone)))).await;
            // Secondaries look by themselves, too; whether they know is checked afterwards.
            if let Err(error) = told.and_then(Answer::success) {
                tracing::debug!(zone, "secondaries are not notified: {error}");
            }
        }
        Ok(())
    }
}

/// A zone as PowerDNS writes it in paths.
fn zone_id(zone: &str) -> String {
    let mut id = String::with_capacity(zone.len());
    for byte in zone.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') {
            id.push(char::from(byte));
        } else {
            id.push_str(&format!("={byte:02X}"));
        }
    }
    id
}

/// A value as the strings of a TXT record in a zone file (RFC 1035 section 5.1).
fn quoted(value: &str) -> String {
    let mut text = String::new();
    for part in value.as_bytes().chunks(255) {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push('"');
        for byte in part {
            match byte {
                b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
                b' '..=b'~' => text.push(char::from(*byte)),
                byte => text.push_str(&format!("\\{byte:03}")),
            }
        }
        text.push('"');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_in_a_zone_file() {
        assert_eq!(quoted("abc"), "\"abc\"");
        assert_eq!(quoted("a\"b\\c\u{e9}"), "\"a\\\"b\\\\c\\195\\169\"");
        assert_eq!(quoted(&"x".repeat(300)), format!("\"{}\" \"{}\"", "x".repeat(255), "x".repeat(45)));
    }

    #[test]
    fn zones_are_named_as_the_server_names_them() {
        assert_eq!(zone_id("example.org."), "example.org.");
        assert_eq!(zone_id("_acme-challenge.a/b."), "=5Facme-challenge.a=2Fb.");
    }
}
