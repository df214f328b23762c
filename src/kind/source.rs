//! Where a secret is, as certs.toml says it: four forms, and never the secret itself.

use std::path::PathBuf;

use toml::de::DeValue;

use super::{Item, Refusal, Remedy, Value, quoted};
use crate::secret::Secret;

impl Value for Secret {
    fn read(item: Item<'_>) -> Option<Self> {
        const FORMS: &str = "write one of { file = \"/path\" }, { env = \"NAME\" }, \
                             { credential = \"NAME\" }, { command = [\"program\", \"argument\"] }";
        let Item { key, at, context, .. } = item;
        let DeValue::Table(mut table) = item.value else {
            context.hide(at.clone());
            let remedy = Remedy::Hint(FORMS.to_owned());
            context.mistake(at, format!("`{key}` is a secret: it is never written in certs.toml"), remedy);
            return None;
        };
        let before = context.count();
        let mut forms: Vec<Self> = Vec::new();
        let mut take = |form| table.remove(form).map(|value| Item::new(form, value, context));
        if let Some(item) = take("file") {
            forms.extend(PathBuf::read(item).map(Self::File));
        }
        if let Some(item) = take("env") {
            forms.extend(item.parsed("\"NAME\"", |text| env_name(text).map(Self::Env)));
        }
        if let Some(item) = take("credential") {
            forms.extend(item.parsed("\"NAME\"", |text| credential_name(text).map(Self::Credential)));
        }
        if let Some(item) = take("command") {
            forms.extend(command(item).map(Self::Command));
        }
        for (name, value) in &table {
            context.hide_texts(value);
            let remedy = Remedy::Hint(FORMS.to_owned());
            context.mistake(
                name.span(),
                format!("unknown key {} in a secret", quoted(name.get_ref())),
                remedy,
            );
        }
        if context.count() > before {
            return None;
        }
        match <[Self; 1]>::try_from(forms) {
            Ok([secret]) => {
                context.secret(&at, &key, &secret);
                Some(secret)
            }
            Err(forms) => {
                let why = if forms.is_empty() { "names no source" } else { "names more than one source" };
                context.mistake(at, format!("`{key}` {why}"), Remedy::Hint(FORMS.to_owned()));
                None
            }
        }
    }
}

fn env_name(text: &str) -> Result<String, Refusal> {
    let fits = !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if fits {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(
        "a variable's name has letters, digits and `_` only",
        "write the name without `$`, as in { env = \"TSIG_SECRET\" }",
    ))
}

fn credential_name(text: &str) -> Result<String, Refusal> {
    let fits = !matches!(text, "" | "." | "..")
        && text.len() <= 255
        && !text.contains(|c: char| c == '/' || c.is_control());
    if fits {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(
        "a credential is named by one file name",
        "write the NAME of `LoadCredential=NAME:/path` in the systemd unit",
    ))
}

fn command(item: Item<'_>) -> Option<Vec<String>> {
    const EXAMPLE: &str = "[\"/usr/bin/pass\", \"show\", \"tsig\"]";
    if matches!(item.value, DeValue::String(_)) {
        return item.mismatch("a list: the program and its arguments, no shell", EXAMPLE);
    }
    let at = item.at.clone();
    let context = item.context;
    let words: Vec<String> = Vec::read(item)?;
    let problem = match words.first() {
        None => "is empty",
        Some(program) if program.is_empty() => "has a program without a name",
        Some(_) if words.iter().any(|word| word.contains('\0')) => "contains a NUL character",
        Some(_) => return Some(words),
    };
    context.mistake(at, format!("`command` {problem}"), Remedy::Hint(format!("as in `command = {EXAMPLE}`")));
    None
}
