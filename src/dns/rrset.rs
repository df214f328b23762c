//! What changes come to, for APIs that know records or whole sets, and how these write TXT values.

use super::{Change, Error};

/// What is to become of the TXT records of one owner name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The owner name, with final dot.
    pub(super) owner: String,
    /// The owner name within its zone, `@` for the zone's own.
    pub(super) name: String,
    /// Values that shall be there.
    pub(super) add: Vec<String>,
    /// Values that shall be gone.
    pub(super) remove: Vec<String>,
    /// The time to live of new records, in seconds.
    pub(super) ttl: u32,
}

impl Wanted {
    /// The owner name without final dot.
    pub(super) fn bare(&self) -> &str {
        self.owner.trim_end_matches('.')
    }

    /// The set with our values put in and taken out, those of others as they stand; `None` if
    /// nothing is to be done.
    pub(super) fn merged(&self, there: &[String]) -> Option<Vec<String>> {
        let mut set: Vec<String> =
            there.iter().filter(|raw| !self.remove.contains(&unquoted(raw))).cloned().collect();
        let new = self.missing(there).map(quoted).collect::<Vec<_>>();
        if new.is_empty() && set.len() == there.len() {
            return None;
        }
        set.extend(new);
        Some(set)
    }

    /// Our values that are not there yet.
    pub(super) fn missing<'a>(&'a self, there: &[String]) -> impl Iterator<Item = &'a str> {
        let there: Vec<String> = there.iter().map(|raw| unquoted(raw)).collect();
        self.add.iter().filter(move |value| !there.contains(value)).map(String::as_str)
    }

    /// Whether a value, as the API writes it, shall be gone.
    pub(super) fn unwanted(&self, raw: &str) -> bool {
        self.remove.contains(&unquoted(raw))
    }
}

/// What the changes of one zone come to for each owner name, in order of their first change.
///
/// Of several changes of one value the last counts.
pub(super) fn wanted(zone: &str, changes: &[Change]) -> Result<Vec<Wanted>, Error> {
    let mut all: Vec<Wanted> = Vec::new();
    for change in changes {
        let record = change.record();
        let at = match all.iter().position(|wanted| wanted.owner == record.owner) {
            Some(at) => at,
            None => {
                let name = within(&record.owner, zone)?;
                let (add, remove) = (Vec::new(), Vec::new());
                all.push(Wanted { owner: record.owner.clone(), name, add, remove, ttl: record.ttl });
                all.len() - 1
            }
        };
        let wanted = &mut all[at];
        wanted.add.retain(|value| *value != record.value);
        wanted.remove.retain(|value| *value != record.value);
        match change {
            Change::Add(_) => {
                wanted.add.push(record.value.clone());
                wanted.ttl = record.ttl;
            }
            Change::Remove(_) => wanted.remove.push(record.value.clone()),
        }
    }
    Ok(all)
}

/// An owner name within its zone, `@` for the zone's own.
fn within(owner: &str, zone: &str) -> Result<String, Error> {
    if owner == zone {
        return Ok("@".to_owned());
    }
    match owner.strip_suffix(zone).and_then(|rest| rest.strip_suffix('.')) {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(Error::NotInZone { owner: owner.to_owned(), zone: zone.to_owned() }),
    }
}

/// A TXT value as zone files write it (RFC 1035 section 5.1): strings of at most 255 octets.
pub(super) fn quoted(value: &str) -> String {
    let strings = value.as_bytes().chunks(255).map(|part| {
        let mut text = String::from("\"");
        for byte in part {
            match byte {
                b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
                b' '..=b'~' => text.push(char::from(*byte)),
                _ => text.push_str(&format!("\\{byte:03}")),
            }
        }
        text + "\""
    });
    let text = strings.collect::<Vec<_>>().join(" ");
    if text.is_empty() { "\"\"".to_owned() } else { text }
}

/// The TXT value that a text in a zone file's form stands for; a text that is not in that form
/// stands for itself.
///
/// Only good for comparing: escapes of octets are left as they are, since some APIs write them in
/// decimal and some in octal, and no value of ours has any.
pub(super) fn unquoted(raw: &str) -> String {
    let raw = raw.trim();
    if raw.len() < 2 || !raw.starts_with('"') || !raw.ends_with('"') {
        return raw.to_owned();
    }
    let (mut value, mut inside, mut escaped) = (String::new(), false, false);
    for c in raw.chars() {
        match c {
            '"' if !escaped => inside = !inside,
            '\\' if inside && !escaped => {
                escaped = true;
                continue;
            }
            c if inside => {
                if escaped && c.is_ascii_digit() {
                    value.push('\\');
                }
                value.push(c);
            }
            _ => {}
        }
        escaped = false;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::super::TxtRecord;
    use super::*;

    fn record(owner: &str, value: &str) -> TxtRecord {
        TxtRecord {
            zone: "example.org.".to_owned(),
            owner: owner.to_owned(),
            value: value.to_owned(),
            ttl: 60,
            proof: None,
        }
    }

    fn own(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn the_last_change_of_a_value_counts() {
        let a = "_acme-challenge.example.org.";
        let all = wanted(
            "example.org.",
            &[
                Change::Add(record(a, "1")),
                Change::Add(record("example.org.", "apex")),
                Change::Remove(record(a, "2")),
                Change::Remove(record(a, "1")),
                Change::Add(record(a, "2")),
                Change::Add(record(a, "2")),
            ],
        )
        .unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].name.as_str(), all[0].bare()), ("_acme-challenge", "_acme-challenge.example.org"));
        assert_eq!((&all[0].add, &all[0].remove), (&own(&["2"]), &own(&["1"])));
        assert_eq!((all[1].name.as_str(), &all[1].add), ("@", &own(&["apex"])));
    }

    #[test]
    fn names_of_other_zones_are_refused() {
        for owner in ["_acme-challenge.example.com.", "badexample.org.", ".example.org.", "org."] {
            let change = [Change::Add(record(owner, "v"))];
            assert!(matches!(wanted("example.org.", &change), Err(Error::NotInZone { .. })), "{owner}");
        }
    }

    #[test]
    fn values_of_others_stay_as_they_stand() {
        let wanted = Wanted {
            owner: "a.".to_owned(),
            name: "a".to_owned(),
            add: own(&["new", "there"]),
            remove: own(&["old", "never"]),
            ttl: 60,
        };
        let there = own(&["\"v=spf1 \\\"x\\\" -all\"", "old", "\"there\"", "\"a\" \"b\\303\""]);
        let set = wanted.merged(&there).unwrap();
        assert_eq!(set, own(&["\"v=spf1 \\\"x\\\" -all\"", "\"there\"", "\"a\" \"b\\303\"", "\"new\""]));
        assert_eq!(wanted.merged(&set), None);
    }

    #[test]
    fn rfc1035_5_1_values_are_quoted_in_strings_of_255() {
        assert_eq!(quoted("a\"b\\c\u{7f}é"), "\"a\\\"b\\\\c\\127\\195\\169\"");
        assert_eq!(quoted(""), "\"\"");
        let long = "x".repeat(300);
        assert_eq!(quoted(&long), format!("\"{}\" \"{}\"", "x".repeat(255), "x".repeat(45)));
        assert_eq!(unquoted(&quoted(&long)), long);
        assert_eq!(unquoted(&quoted("a \"b\" \\ c")), "a \"b\" \\ c");
        for (raw, value) in [("bare", "bare"), ("\"", "\""), (" \"x\" ", "x"), ("\"a\"\"b\"", "ab"), ("", "")]
        {
            assert_eq!(unquoted(raw), value);
        }
        assert_ne!(unquoted("\"\\141\""), "a");
    }
}
