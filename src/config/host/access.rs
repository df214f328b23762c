//! With which keys we come to a host, and who can read keys on it.

use std::path::PathBuf;

use crate::kind::Refusal;
use crate::kind::{OneOrMore, Remedy, Section};

/// As many keys as fit, with a certificate for most of them, into what sshd lets one try (MaxAuthTries).
const IDENTITIES: usize = 3;

/// The private keys to log in with.
pub(super) fn identity(section: &mut Section<'_>) -> Option<Vec<PathBuf>> {
    let OneOrMore(mut paths) = section.optional("identity")?;
    let mut once = std::collections::BTreeSet::new();
    paths.retain(|path: &PathBuf| once.insert(path.clone()));
    if paths.len() > IDENTITIES {
        section.mistake(
            section.at(),
            format!("`identity` has {} keys, and hosts hang up on who tries so many", paths.len()),
            Remedy::Hint(format!("name those that the host lets in, {IDENTITIES} at most")),
        );
        return None;
    }
    Some(paths)
}

/// The owner or group of files: a name of letters, as useradd makes them, or a number.
pub(super) fn owner(text: &str) -> Result<String, Refusal> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !text.is_empty() && text.len() <= 64 && !text.starts_with(['-', '.']) && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(
        "a name of a user or group has letters, digits, `.`, `-` and `_` only",
        "as in \"haproxy\" or \"116\"; owner and group are two keys",
    ))
}

/// The mode of key files: one that lets others than owner and group read them would give the keys away.
pub(super) fn mode(text: &str) -> Result<u32, Refusal> {
    match text {
        "0400" => Ok(0o400),
        "0440" => Ok(0o440),
        "0600" => Ok(0o600),
        "0640" => Ok(0o640),
        _ => Err(Refusal::new(
            "a key is for its owner, and its group at most",
            "it is \"0600\", \"0400\", or with `group` \"0640\" or \"0440\"",
        )),
    }
}
