//! Sets as Route 53 reads and writes them.

use super::xml::{Element, escaped};
use crate::dns::rrset::Wanted;

/// A TXT set of an owner name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    owner: String,
    ttl: u32,
    /// In Route 53's own form, with its escapes.
    values: Vec<String>,
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    action: &'static str,
    set: Set,
}

impl Set {
    /// Reads a set, if it is the TXT set of that owner name.
    pub(super) fn read(element: &Element, owner: &str) -> Option<Self> {
        if element.text_of("Type") != Some("TXT") || element.text_of("Name") != Some(owner) {
            return None;
        }
        let values = element.list("ResourceRecords").iter().filter_map(|record| record.text_of("Value"));
        Some(Self {
            owner: owner.to_owned(),
            ttl: element.text_of("TTL").and_then(|ttl| ttl.parse().ok()).unwrap_or_default(),
            values: values.map(str::to_owned).collect(),
        })
    }
}

/// What leads from the set that is there to the one that shall be.
pub(super) fn changes(wanted: &Wanted, there: Option<&Set>) -> Vec<Step> {
    let Some(merged) = wanted.merged(there.map_or(&[], |set| &set.values)) else { return Vec::new() };
    let mut steps = Vec::new();
    if let Some(set) = there {
        steps.push(Step { action: "DELETE", set: set.clone() });
    }
    if !merged.is_empty() {
        steps.push(Step {
            action: "CREATE",
            set: Set {
                owner: wanted.owner.clone(),
                // Those of others keep theirs.
                ttl: there.map_or(wanted.ttl, |set| set.ttl),
                values: merged,
            },
        });
    }
    steps
}

/// The request that makes the changes.
pub(super) fn document(steps: &[Step]) -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
         <ChangeBatch><Changes>",
    );
    for Step { action, set } in steps {
        let records: String = set
            .values
            .iter()
            .map(|value| format!("<ResourceRecord><Value>{}</Value></ResourceRecord>", escaped(value)))
            .collect();
        text.push_str(&format!(
            "<Change><Action>{action}</Action><ResourceRecordSet><Name>{}</Name><Type>TXT</Type>\
             <TTL>{}</TTL><ResourceRecords>{records}</ResourceRecords></ResourceRecordSet></Change>",
            escaped(&set.owner),
            set.ttl
        ));
    }
    text.push_str("</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>");
    text
}

#[cfg(test)]
mod tests {
    use super::super::xml::parse;
    use super::*;

    fn wanted(add: &[&str], remove: &[&str]) -> Wanted {
        let own = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let (owner, name) = ("_acme-challenge.a.test.".to_owned(), "_acme-challenge".to_owned());
        Wanted { owner, name, add: own(add), remove: own(remove), ttl: 60 }
    }

    fn there() -> Set {
        let element = parse(
            "<S><Name>_acme-challenge.a.test.</Name><Type>TXT</Type><TTL>300</TTL><ResourceRecords>\
             <ResourceRecord><Value>&quot;others \\303&quot; &quot;&lt;&quot;</Value></ResourceRecord>\
             <ResourceRecord><Value>\"old\"</Value></ResourceRecord></ResourceRecords></S>",
        );
        Set::read(&element.unwrap(), "_acme-challenge.a.test.").unwrap()
    }

    #[test]
    fn a_set_is_replaced_as_it_was_read() {
        let steps = changes(&wanted(&["new"], &["old"]), Some(&there()));
        let told: Vec<_> =
            steps.iter().map(|step| (step.action, step.set.ttl, step.set.values.len())).collect();
        assert_eq!(told, [("DELETE", 300, 2), ("CREATE", 300, 2)]);
        let text = document(&steps);
        let value = "<Value>&quot;others \\303&quot; &quot;&lt;&quot;</Value>";
        assert_eq!(text.matches(value).count(), 2, "{text}");
        assert_eq!(text.matches("<Value>&quot;new&quot;</Value>").count(), 1, "{text}");
        let written = parse(&text).unwrap();
        let second = &written.child("ChangeBatch").unwrap().list("Changes")[1];
        let set = Set::read(second.child("ResourceRecordSet").unwrap(), "_acme-challenge.a.test.");
        assert_eq!(set.as_ref(), Some(&steps[1].set));
    }

    #[test]
    fn nothing_is_written_where_nothing_changes() {
        assert_eq!(changes(&wanted(&["old"], &["never"]), Some(&there())), []);
        assert_eq!(changes(&wanted(&[], &["never"]), None), []);
    }

    #[test]
    fn an_empty_set_is_no_set() {
        let mut set = there();
        set.values.remove(0);
        let steps = changes(&wanted(&[], &["old"]), Some(&set));
        assert_eq!(steps, [Step { action: "DELETE", set }]);
        let steps = changes(&wanted(&["new"], &[]), None);
        assert_eq!((steps[0].action, steps[0].set.ttl), ("CREATE", 60));
    }
}
