//! Whether CAA records (RFC 8659) let a CA issue.

use hickory_proto::rr::{RData, RecordType};

use super::error::Error;
use super::lookup::{Lookup, parse, text};
use crate::model::name::Domain;
use crate::model::problem::plain;

/// The CAA records that count for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaaSet {
    /// The name that has them, with final dot.
    pub owner: String,
    /// The records.
    pub records: Vec<Caa>,
}

/// One CAA record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caa {
    /// Who does not understand the tag must not issue.
    pub critical: bool,
    /// What it is about, in lower case.
    pub tag: String,
    /// Its value. Hostile.
    pub value: String,
}

/// What CAA records say to a CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may issue.
    Allowed,
    /// It may issue to another account only (RFC 8657).
    OtherAccount,
    /// It may issue, but not by DNS-01 (RFC 8657).
    OtherMethod,
    /// It may not issue; the values that let others in, safe to show.
    Forbidden(Vec<String>),
}

impl Lookup {
    /// The CAA records that count for a domain: its own, else those of the nearest name above that has any.
    pub async fn caa(&self, domain: &Domain) -> Result<Option<CaaSet>, Error> {
        let mut name = parse(domain.base())?;
        while !name.is_root() {
            let answer = self.records(&name, RecordType::CAA).await?;
            let records: Vec<Caa> = answer
                .records
                .into_iter()
                .filter_map(|record| match record.data {
                    RData::CAA(caa) => Some(Caa {
                        critical: caa.issuer_critical,
                        tag: caa.tag.to_ascii_lowercase(),
                        value: String::from_utf8_lossy(&caa.value).into_owned(),
                    }),
                    _ => None,
                })
                .collect();
            if !records.is_empty() {
                return Ok(Some(CaaSet { owner: text(&name), records }));
            }
            name = name.base_name();
        }
        Ok(None)
    }
}

impl CaaSet {
    /// What it says to the CA with these identities, about this domain, for this account of ours.
    pub fn judge(&self, domain: &Domain, identities: &[String], account: Option<&str>) -> Verdict {
        let of = |tag: &str| self.records.iter().filter(|caa| caa.tag == tag).collect::<Vec<_>>();
        let (issue, wild) = (of("issue"), of("issuewild"));
        let counting = if domain.is_wildcard() && !wild.is_empty() { wild } else { issue };
        let unknown = |caa: &&Caa| caa.critical && !KNOWN.contains(&caa.tag.as_str());
        let values = |records: &[&Caa]| records.iter().map(|caa| plain(&caa.value)).collect();
        if let Some(caa) = self.records.iter().find(unknown) {
            return Verdict::Forbidden(vec![plain(&caa.tag)]);
        }
        if counting.is_empty() {
            return Verdict::Allowed;
        }
        let mut verdict = Verdict::Forbidden(values(&counting));
        for caa in &counting {
            let mut parts = caa.value.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
            if !identities.contains(&name) {
                continue;
            }
            let parameters: Vec<(&str, &str)> = parts
                .filter_map(|part| part.split_once('='))
                .map(|(key, value)| (key.trim(), value.trim()))
                .collect();
            let other = |key: &str, fits: &dyn Fn(&str) -> bool| {
                parameters.iter().any(|(name, value)| name.eq_ignore_ascii_case(key) && !fits(value))
            };
            if other("validationmethods", &|methods| {
                methods.split(',').any(|method| method.trim() == "dns-01")
            }) {
                verdict = Verdict::OtherMethod;
            } else if other("accounturi", &|uri| account == Some(uri)) {
                verdict = Verdict::OtherAccount;
            } else {
                return Verdict::Allowed;
            }
        }
        verdict
    }
}

const KNOWN: [&str; 6] = ["issue", "issuewild", "iodef", "issuemail", "contactemail", "contactphone"];

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(records: &[(&str, &str)], domain: &str) -> Verdict {
        let records = records.iter().map(|(tag, value)| Caa {
            critical: tag.ends_with('!'),
            tag: tag.trim_end_matches('!').to_owned(),
            value: (*value).to_owned(),
        });
        let set = CaaSet { owner: "a.example.".to_owned(), records: records.collect() };
        set.judge(&domain.parse().unwrap(), &["ca.test".to_owned()], Some("https://ca.test/acct/1"))
    }

    #[test]
    fn records_let_in_whom_they_name() {
        assert_eq!(judge(&[("iodef", "mailto:x@a.example")], "a.example"), Verdict::Allowed);
        assert_eq!(
            judge(&[("issue", "other.test"), ("issue", " CA.test ; x=y")], "a.example"),
            Verdict::Allowed
        );
        assert_eq!(judge(&[("issue", ";")], "a.example"), Verdict::Forbidden(vec![";".to_owned()]));
        assert!(matches!(judge(&[("issue", "other.test")], "a.example"), Verdict::Forbidden(_)));
        assert!(matches!(judge(&[("issue", "ca.test"), ("tbs!", "x")], "a.example"), Verdict::Forbidden(_)));
        assert_eq!(judge(&[("issue", "ca.test"), ("tbs", "x")], "a.example"), Verdict::Allowed);
    }

    #[test]
    fn wildcards_have_records_of_their_own() {
        let both = [("issue", "ca.test"), ("issuewild", "other.test")];
        assert_eq!(judge(&both, "a.example"), Verdict::Allowed);
        assert!(matches!(judge(&both, "*.a.example"), Verdict::Forbidden(_)));
        assert_eq!(judge(&[("issue", "ca.test")], "*.a.example"), Verdict::Allowed);
        assert_eq!(judge(&[("issuewild", ";")], "a.example"), Verdict::Allowed);
    }

    #[test]
    fn accounts_and_methods_can_be_named() {
        let with = |parameters: &str| judge(&[("issue", &format!("ca.test; {parameters}"))], "a.example");
        assert_eq!(with("accounturi=https://ca.test/acct/1"), Verdict::Allowed);
        assert_eq!(with("accounturi=https://ca.test/acct/2"), Verdict::OtherAccount);
        assert_eq!(with("validationmethods=http-01,dns-01"), Verdict::Allowed);
        assert_eq!(with("validationmethods=http-01"), Verdict::OtherMethod);
    }
}
