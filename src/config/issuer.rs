//! `[issuer.NAME]`

use super::ExternalAccount;
use crate::http::nobody_serves;
use crate::kind::{Item, Refusal, Remedy, Section, Value, listed, near};
use crate::model::desired::Issuer;
use crate::model::name::IssuerName;
use crate::model::problem::plain;

/// Issuers that are known by their name, with their directories.
const KNOWN: &[(&str, &str)] = &[
    ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
    ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
    ("google", "https://dv.acme-v02.api.pki.goog/directory"),
    ("zerossl", "https://acme.zerossl.com/v2/DV90"),
    ("sslcom", "https://acme.ssl.com/sslcom-dv-ecc"),
    ("actalis", "https://acme-api.actalis.com/acme/directory"),
];

/// A table to copy where there is none.
pub(super) const SAMPLE: &str =
    "add\n[issuer.letsencrypt]\ncontact = [\"ops@example.org\"]\naccept-terms = true";

/// Known issuers that bind each account to one that a person makes on their web site.
const BINDING: [&str; 4] = ["google", "zerossl", "sslcom", "actalis"];

/// Reads the table of the issuer `name`.
pub(super) fn read(name: IssuerName, mut section: Section<'_>) -> Option<(Issuer, Option<ExternalAccount>)> {
    let given = section.take("directory").map(|value| {
        Item::new("directory", value, section.context())
            .parsed("\"https://acme.example.org/directory\"", directory)
    });
    let known = KNOWN.iter().find(|(known, _)| *known == name.as_str()).map(|(_, url)| (*url).to_owned());
    let directory = match given {
        Some(given) => given,
        None if known.is_none() => {
            let names = || KNOWN.iter().map(|(known, _)| *known);
            let remedy = match near(name.as_str(), names()) {
                Some(meant) => Remedy::DidYouMean(meant.to_owned()),
                None => Remedy::Hint(format!(
                    "add `directory = \"https://…\"`; known without one are {}",
                    listed(names())
                )),
            };
            let message = format!("{} has no `directory`", section.title());
            section.missing("directory", message, remedy);
            None
        }
        None => known,
    };
    let contact = section.parsed_list("contact", "\"ops@example.org\"", contact).unwrap_or_default();
    accept_terms(&mut section, directory.as_deref());
    let directory_ca = section.optional("directory-ca");
    let roots = section.optional("roots");
    let external_account = external_account(&mut section, &name, directory.as_deref());
    let profile = section.parsed("profile", "\"shortlived\"", profile);
    let preferred_chain = section.parsed("preferred-chain", "\"ISRG Root X1\"", preferred_chain);
    section.finish();
    let issuer = Issuer {
        name,
        directory: directory?,
        contact: contact.into_iter().map(toml::Spanned::into_inner).collect(),
        directory_ca,
        roots,
        profile,
        preferred_chain,
    };
    Some((issuer, external_account))
}

/// What the account is bound to; issuers that are known to want it are named before they refuse.
fn external_account(
    section: &mut Section<'_>,
    name: &IssuerName,
    directory: Option<&str>,
) -> Option<ExternalAccount> {
    const EXAMPLE: &str = "{ key-id = \"…\", hmac-key = { file = \"/etc/certfleet/secrets/eab\" } }";
    let known = KNOWN
        .iter()
        .any(|(known, url)| BINDING.contains(known) && (*known == name.as_str() || directory == Some(*url)));
    let at = section.at();
    if let Some(mut table) = section.table("eab", "eab") {
        let key_id = table.required_parsed("key-id", "\"…\"", key_id);
        let hmac_key = table.required("hmac-key", "{ file = \"/etc/certfleet/secrets/eab\" }");
        table.finish();
        return Some(ExternalAccount { key_id: key_id?, hmac_key: hmac_key? });
    }
    if known && directory.is_some() {
        section.context().warning(
            at,
            format!("{} takes only accounts that are bound to one made on its web site", section.title()),
            format!("get a key id and an HMAC key there, then add `eab = {EXAMPLE}`"),
        );
    }
    None
}

fn key_id(text: &str) -> Result<String, Refusal> {
    match text.trim() {
        "" => Err(Refusal::new("it is empty", "copy it from the web site of the CA")),
        id if plain(id) != id => Err(Refusal::new("it has characters that no key id has", "copy it anew")),
        id => Ok(id.to_owned()),
    }
}

/// The name of a profile, as the CA's directory has it.
pub(super) fn profile(text: &str) -> Result<String, Refusal> {
    word(text, "the names are in the CA's directory, as \"shortlived\"")
}

/// The common name of a root or intermediate.
pub(super) fn preferred_chain(text: &str) -> Result<String, Refusal> {
    word(text, "write the common name of who signed the top of the chain, as \"ISRG Root X1\"")
}

fn word(text: &str, hint: &str) -> Result<String, Refusal> {
    if text.trim().is_empty() || plain(text) != text {
        return Err(Refusal::new("it is no name", hint));
    }
    Ok(text.to_owned())
}

/// Taking a CA's terms is for a person: there is no default and no flag.
fn accept_terms(section: &mut Section<'_>, directory: Option<&str>) {
    let place = directory.unwrap_or("its directory");
    let message = format!("{} needs `accept-terms = true`: a person decides", section.title());
    let remedy = Remedy::Hint(format!(
        "read the terms (linked as termsOfService at {place}), then write `accept-terms = true`"
    ));
    let Some(value) = section.take("accept-terms") else {
        return section.missing("accept-terms", message, remedy);
    };
    let at = value.span();
    if bool::read(Item::new("accept-terms", value, section.context())) == Some(false) {
        section.mistake(at, message, remedy);
    }
}

/// RFC 8555 section 6.1: ACME is spoken over HTTPS only.
fn directory(text: &str) -> Result<String, Refusal> {
    const EXAMPLE: &str = "as in \"https://acme.example.org/directory\"";
    if text.to_ascii_lowercase().starts_with("http://") {
        return Err(Refusal::new(
            "ACME is spoken over https only (RFC 8555 section 6.1)",
            "write https://, and name the CA that signs it with `directory-ca` if it is a private one",
        ));
    }
    let refuse = |why: &str| Err(Refusal::new(why, EXAMPLE));
    let Ok(uri) = text.parse::<http::Uri>() else { return refuse("it is not a URL") };
    let Some(authority) = uri.authority() else { return refuse("it is not a full URL") };
    if uri.scheme() != Some(&http::uri::Scheme::HTTPS) {
        return refuse("it is not an https URL");
    }
    if authority.host().is_empty() || authority.as_str().contains('@') || text.contains('#') {
        return refuse("user names and fragments have no place in it");
    }
    if let Some(why) = nobody_serves(authority.host()) {
        return refuse(why);
    }
    let port = authority.as_str().len() > authority.host().len();
    if port && authority.port_u16().is_none_or(|port| port == 0) {
        return refuse("its port is not from 1 to 65535");
    }
    Ok(text.to_owned())
}

/// RFC 8555 section 7.3: one address, no header fields.
fn contact(text: &str) -> Result<String, Refusal> {
    let refuse = |why: &str| Err(Refusal::new(why, "as in contact = [\"ops@example.org\"]"));
    let address = text.strip_prefix("mailto:").unwrap_or(text);
    let Some((user, host)) = address.rsplit_once('@') else { return refuse("it is not an e-mail address") };
    let forbidden = |c: char| {
        c.is_control()
            || c.is_whitespace()
            || matches!(c, ':' | '?' | ',' | '@' | '"' | '<' | '>' | '/' | '\\')
    };
    if user.is_empty() || user.contains(forbidden) || !address.is_ascii() || address.len() > 254 {
        return refuse("it is not one plain e-mail address");
    }
    if host.parse::<crate::model::name::Domain>().is_err() {
        return refuse("what follows `@` is not a domain");
    }
    Ok(format!("mailto:{address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_an_https_url() {
        assert!(directory("https://127.0.0.1:14000/dir").is_ok());
        assert!(KNOWN.iter().all(|(_, url)| directory(url).is_ok()));
        for bad in [
            "",
            "x",
            "http://a.example/",
            "HTTP://a.example",
            "ftp://a.example/",
            "https://",
            "https:///x",
            "https://u:p@a.example/",
            "https://a.example/#x",
            "https://a example/",
            "https://a.example/\n",
            "/directory",
            "file:///etc/passwd",
            "https://169.254.169.254/",
            "https://[fe80::1]:14000/dir",
            "https://0.0.0.0/",
        ] {
            assert!(directory(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_contact_is_one_address() {
        assert_eq!(contact("ops@example.org").unwrap(), "mailto:ops@example.org");
        assert_eq!(contact("mailto:ops+a@example.org").unwrap(), "mailto:ops+a@example.org");
        for bad in [
            "",
            "ops",
            "@example.org",
            "ops@",
            "ops@localhost",
            "tel:+1234",
            "a@b.example,c@d.example",
            "ops@example.org?subject=x",
            "ops@example.org\n",
            "a b@example.org",
            "<ops@example.org>",
            "mailto:mailto:x",
            "óps@example.org",
        ] {
            assert!(contact(bad).is_err(), "{bad:?} was taken");
        }
    }
}
