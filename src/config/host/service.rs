//! What serves certificates on a host, and which files it wants.

use crate::kind::{Item, Refusal, Remedy, Section, listed, near};
use crate::model::desired::{Layout, MadeFile, Part};

/// Servers whose commands and files are known.
pub(super) const SERVICES: &[Service] = &[
    Service { name: "nginx", test: "nginx -t", reload: "systemctl reload nginx", files: &[] },
    Service {
        name: "haproxy",
        test: "haproxy -c -f /etc/haproxy/haproxy.cfg",
        reload: "systemctl reload haproxy",
        // Key and chain in one file is all that `crt` took for twenty years.
        files: &[("combined.pem", &[Part::Fullchain, Part::Privkey])],
    },
];

/// The usual four, which every certificate has.
const USUAL: [&str; 4] = ["privkey.pem", "fullchain.pem", "cert.pem", "chain.pem"];
const FILES: &str = "{ \"combined.pem\" = [\"fullchain\", \"privkey\"] }";

pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) test: &'static str,
    pub(super) reload: &'static str,
    files: &'static [(&'static str, &'static [Part])],
}

impl Service {
    pub(super) fn files(&self) -> Vec<MadeFile> {
        let made =
            |(name, parts): &(&str, &[Part])| MadeFile { name: (*name).to_owned(), parts: parts.to_vec() };
        self.files.iter().map(made).collect()
    }
}

pub(super) fn service(text: &str) -> Result<&'static Service, Refusal> {
    SERVICES.iter().find(|service| service.name == text).ok_or_else(|| {
        let names = || SERVICES.iter().map(|service| service.name);
        let mut refusal = Refusal::new(
            "it is not known",
            format!("known are {}; for others write your own `test` and `reload`", listed(names())),
        );
        if let Some(meant) = near(text, names()) {
            refusal.remedy = Remedy::DidYouMean(meant.to_owned());
        }
        refusal
    })
}

/// A command line for the host's shell.
pub(super) fn command(text: &str) -> Result<String, Refusal> {
    let refuse = |why: &str| Err(Refusal::new(why, "as in \"nginx -t\" and \"systemctl reload nginx\""));
    if text.trim().is_empty() {
        return refuse("a command cannot be empty");
    }
    if text.contains(char::is_control) {
        return refuse("a command is one line without control characters");
    }
    if text.len() > 4096 {
        return refuse("a command has at most 4096 characters; put it into a script on the host");
    }
    Ok(text.to_owned())
}

pub(super) fn layout(text: &str) -> Result<Layout, Refusal> {
    match text {
        "directory" => Ok(Layout::Directory),
        "include" => Ok(Layout::Include),
        _ => Err(Refusal::new(
            "a layout is \"directory\" or \"include\"",
            "remove it to have certbot's paths; \"include\" also writes NAME.conf for nginx to include",
        )),
    }
}

/// The files that are made beside the usual four: a table of names, each with its parts.
pub(super) fn files(section: &mut Section<'_>) -> Option<Vec<MadeFile>> {
    let context = section.context();
    let value = section.take("files")?;
    let mut files = Vec::new();
    for (key, value) in Item::new("files", value, context).table()? {
        let name = key.get_ref().to_string();
        if let Err(refusal) = file_name(&name) {
            let message = format!("`files` cannot make {}: {}", crate::kind::quoted(&name), refusal.why);
            context.mistake(key.span(), message, refusal.remedy);
            continue;
        }
        let at = value.span();
        let Some(items) = Item::new(name.clone(), value, context).items(FILES) else { continue };
        if items.is_empty() {
            let hint = Remedy::Hint(format!("as in `files = {FILES}`"));
            context.mistake(at, format!("`files` says nothing of what is in \"{name}\""), hint);
        }
        let parts = items.into_iter().filter_map(|item| item.parsed("\"privkey\"", part)).collect();
        files.push(MadeFile { name, parts });
    }
    Some(files)
}

fn part(text: &str) -> Result<Part, Refusal> {
    let words = || Part::ALL.into_iter().map(Part::word);
    Part::ALL.into_iter().find(|part| part.word() == text).ok_or_else(|| {
        let mut refusal = Refusal::new("there is no such part", format!("parts are {}", listed(words())));
        if let Some(meant) = near(text, words()) {
            refusal.remedy = Remedy::DidYouMean(meant.to_owned());
        }
        refusal
    })
}

/// A word that every shell takes as it is, and that is none of our own names.
fn file_name(text: &str) -> Result<(), Refusal> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.is_empty() || text.len() > 64 || text.starts_with(['-', '.']) || !text.chars().all(fits) {
        return Err(Refusal::new(
            "a file name has letters, digits, `.`, `-` and `_` only",
            format!("as in `files = {FILES}`"),
        ));
    }
    if USUAL.contains(&text) {
        return Err(Refusal::new("every certificate has that file", "remove it from `files`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_one_shell_word_and_not_one_of_ours() {
        assert!(file_name("combined.pem").is_ok());
        for bad in ["", "privkey.pem", "../x", ".x", "-x", "a b", "a/b", "a=b", "a,b", "a*", "é"] {
            assert!(file_name(bad).is_err(), "{bad:?} was taken");
        }
    }
}
