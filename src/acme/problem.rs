//! What a CA says when it refuses: problem documents (RFC 7807, RFC 8555 section 6.7).

use std::fmt;

use serde::Deserialize;

use crate::model::problem::{Blame, plain};

/// A refusal in the CA's own words, made safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    kind: &'static Kind,
    /// The type without ACME's prefix, as `rejectedIdentifier`; empty when the CA gave none.
    type_name: String,
    detail: String,
    /// A page of the CA about this case, as with `userActionRequired`.
    instance: Option<String>,
    /// The name that it is about, where the CA says so.
    name: Option<String>,
    subproblems: Vec<Self>,
    status: Option<u16>,
}

/// What follows from a problem type.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// The type without ACME's prefix.
    name: &'static str,
    /// Our stable code.
    pub(super) code: &'static str,
    /// Whose move it is.
    pub(super) blame: Blame,
    /// Whether the same request is pointless until something has been changed.
    pub(super) after_change: bool,
}

impl Refusal {
    /// Reads the body of an answer; `None` when it is no problem document.
    pub(super) fn parse(body: &[u8], status: u16) -> Option<Self> {
        let document: Document = serde_json::from_slice(body).ok()?;
        if document.r#type.is_none() && document.detail.is_none() {
            return None;
        }
        Some(Self { status: Some(status), ..document.into() })
    }

    /// The same refusal, said of a name.
    pub(super) fn about(self, name: &str) -> Self {
        Self { name: Some(plain(name)), ..self }
    }

    /// What follows from it. A type that only says "see below" gives way to the first
    /// subproblem, and one that waits for a change goes before one that does not.
    pub(super) fn kind(&self) -> &'static Kind {
        let inner = strictest(&self.subproblems);
        match inner {
            Some(inner) if inner.after_change || self.is("malformed") || self.is("compound") => inner,
            _ => self.kind,
        }
    }

    /// Whether the type is this one, named without ACME's prefix.
    pub(super) fn is(&self, name: &str) -> bool {
        self.type_name == name
    }

    /// The HTTP status of the answer that carried it.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the CA refuses")?;
        if let Some(name) = &self.name {
            write!(f, " `{name}`")?;
        }
        match self.detail.as_str() {
            "" => f.write_str(" without saying why")?,
            detail => write!(f, ": {detail}")?,
        }
        if !self.type_name.is_empty() {
            write!(f, " ({})", self.type_name)?;
        }
        if let Some(page) = &self.instance {
            write!(f, ", see {page}")?;
        }
        if !self.subproblems.is_empty() {
            write!(f, "; {}", Listed(&self.subproblems))?;
        }
        Ok(())
    }
}

/// Refusals in one line, the first few in full.
pub(super) struct Listed<'a>(pub(super) &'a [Refusal]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        for (at, refusal) in self.0.iter().take(SHOWN).enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            refusal.fmt(f)?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// The kind that decides for several refusals: the first that waits for a change, else the first.
pub(super) fn strictest(refusals: &[Refusal]) -> Option<&'static Kind> {
    let kinds = || refusals.iter().map(Refusal::kind);
    kinds().find(|kind| kind.after_change).or_else(|| kinds().next())
}

impl From<instant_acme::Problem> for Refusal {
    fn from(problem: instant_acme::Problem) -> Self {
        let subproblems = problem.subproblems.into_iter().map(|sub| Document {
            r#type: sub.r#type,
            detail: sub.detail,
            identifier: sub
                .identifier
                .map(|identifier| Identifier { value: identifier.authorized(false).to_string() }),
            ..Document::default()
        });
        Self {
            status: problem.status,
            ..Document {
                r#type: problem.r#type,
                detail: problem.detail,
                subproblems: subproblems.collect(),
                ..Document::default()
            }
            .into()
        }
    }
}

#[derive(Default, Deserialize)]
struct Document {
    r#type: Option<String>,
    detail: Option<String>,
    instance: Option<String>,
    identifier: Option<Identifier>,
    #[serde(default)]
    subproblems: Vec<Self>,
}

#[derive(Deserialize)]
struct Identifier {
    value: String,
}

impl From<Document> for Refusal {
    fn from(document: Document) -> Self {
        let full = document.r#type.unwrap_or_default();
        let name = full.strip_prefix(PREFIX).unwrap_or(&full);
        Self {
            kind: KINDS.iter().find(|kind| kind.name == name).unwrap_or(&OTHER),
            // RFC 7807 section 4.2: this type says nothing.
            type_name: if name == "about:blank" { String::new() } else { plain(name) },
            detail: plain(&document.detail.unwrap_or_default()),
            instance: document.instance.map(|page| plain(&page)),
            name: document.identifier.map(|identifier| plain(&identifier.value)),
            subproblems: document.subproblems.into_iter().map(Self::from).collect(),
            status: None,
        }
    }
}

const PREFIX: &str = "urn:ietf:params:acme:error:";

const fn kind(name: &'static str, code: &'static str, blame: Blame, after_change: bool) -> Kind {
    Kind { name, code, blame, after_change }
}

/// Every type that is known; RFC 8555 section 6.7, RFC 9773 section 7.4, the profiles draft.
/// `rateLimited` is handled where the answer's headers are, see [`super::http`].
#[rustfmt::skip]
const KINDS: &[Kind] = &[
    kind("accountDoesNotExist",     "acme.account-unknown",          Blame::Operator, true),
    kind("alreadyReplaced",         "acme.already-replaced",         Blame::Issuer,   false),
    kind("alreadyRevoked",          "acme.already-revoked",          Blame::Operator, true),
    kind("badCSR",                  "acme.bad-csr",                  Blame::Operator, true),
    kind("badNonce",                "acme.bad-nonce",                Blame::Issuer,   false),
    kind("badPublicKey",            "acme.bad-public-key",           Blame::Operator, true),
    kind("badRevocationReason",     "acme.bad-revocation-reason",    Blame::Operator, true),
    kind("badSignatureAlgorithm",   "acme.bad-signature-algorithm",  Blame::Issuer,   false),
    kind("caa",                     "acme.caa",                      Blame::Operator, true),
    kind("compound",                "acme.compound",                 Blame::Issuer,   false),
    kind("connection",              "acme.connection",               Blame::Dns,      false),
    kind("dns",                     "acme.dns",                      Blame::Dns,      false),
    kind("externalAccountRequired", "acme.external-account-required", Blame::Operator, true),
    kind("incorrectResponse",       "acme.incorrect-response",       Blame::Dns,      false),
    kind("invalidContact",          "acme.invalid-contact",          Blame::Operator, true),
    kind("invalidProfile",          "acme.invalid-profile",          Blame::Operator, true),
    kind("malformed",               "acme.malformed",                Blame::Issuer,   false),
    kind("orderNotReady",           "acme.order-not-ready",          Blame::Issuer,   false),
    kind("rateLimited",             "acme.rate-limited",             Blame::Issuer,   false),
    kind("rejectedIdentifier",      "acme.rejected-identifier",      Blame::Operator, true),
    kind("serverInternal",          "acme.server-error",             Blame::Issuer,   false),
    kind("tls",                     "acme.tls",                      Blame::Dns,      false),
    kind("unauthorized",            "acme.unauthorized",             Blame::Dns,      false),
    kind("unsupportedContact",      "acme.invalid-contact",          Blame::Operator, true),
    kind("unsupportedIdentifier",   "acme.unsupported-identifier",   Blame::Operator, true),
    kind("userActionRequired",      "acme.user-action-required",     Blame::Operator, true),
];

/// A type that no document we know of defines.
static OTHER: Kind = kind("", "acme.refused", Blame::Issuer, false);

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> Refusal {
        Refusal::parse(json.as_bytes(), 400).unwrap()
    }

    #[test]
    fn only_a_change_mends_what_policy_forbids() {
        let waits: Vec<_> = KINDS.iter().filter(|kind| kind.after_change).map(|kind| kind.name).collect();
        assert_eq!(
            waits,
            [
                "accountDoesNotExist",
                "alreadyRevoked",
                "badCSR",
                "badPublicKey",
                "badRevocationReason",
                "caa",
                "externalAccountRequired",
                "invalidContact",
                "invalidProfile",
                "rejectedIdentifier",
                "unsupportedContact",
                "unsupportedIdentifier",
                "userActionRequired",
            ]
        );
    }

    #[test]
    fn an_unknown_type_is_tried_again_later() {
        let unknown = refusal(r#"{"type":"urn:ietf:params:acme:error:brandNew","detail":"so new"}"#);
        assert_eq!((unknown.kind().code, unknown.kind().after_change), ("acme.refused", false));
        assert_eq!(unknown.to_string(), "the CA refuses: so new (brandNew)");
    }

    #[test]
    fn subproblems_name_their_names() {
        let both = refusal(
            r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"some were rejected","subproblems":[
                {"type":"urn:ietf:params:acme:error:dns","detail":"SERVFAIL",
                 "identifier":{"type":"dns","value":"a.example"}},
                {"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"never",
                 "identifier":{"type":"dns","value":"b.example"}}]}"#,
        );
        assert_eq!(both.kind().code, "acme.rejected-identifier");
        assert_eq!(
            both.to_string(),
            "the CA refuses: some were rejected (malformed); the CA refuses `a.example`: SERVFAIL (dns); \
             the CA refuses `b.example`: never (rejectedIdentifier)"
        );
    }

    #[test]
    fn hostile_words_are_shown_as_data_and_cut() {
        let subproblems = vec![r#"{"detail":"\u001b[2J<b>x</b>"}"#; 500].join(",");
        let many = refusal(&format!(r#"{{"type":"about:blank","subproblems":[{subproblems}]}}"#));
        let shown = many.to_string();
        assert!(shown.contains("\\u{1b}[2J<b>x</b>") && !shown.contains('\u{1b}'), "{shown}");
        assert!(shown.ends_with("and 495 more"), "{shown}");
    }

    #[test]
    fn what_is_no_problem_document_is_none() {
        for body in ["", "<html>", "[]", "{}", "null", "\"x\"", r#"{"status":500}"#] {
            assert_eq!(Refusal::parse(body.as_bytes(), 500), None, "{body}");
        }
    }
}
