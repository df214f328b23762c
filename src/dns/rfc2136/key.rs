//! The secret of a TSIG key, as people keep it: base64 alone, or BIND's own key file.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::Algorithm;
use crate::model::problem::plain;

/// Why the text of a secret is no TSIG key. Never says anything of the text itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Neither base64 nor a key file.
    #[error("it is not base64, nor a `key` statement as `tsig-keygen` prints it")]
    NotBase64,
    /// A key file without this key: the names of those it has.
    #[error("the key file has no key of that name, only: {}", .0.join(", "))]
    OtherKeys(Vec<String>),
    /// A key file that says another algorithm than certs.toml.
    #[error("the key file says `{0}`, certs.toml says `{1}`")]
    OtherAlgorithm(String, Algorithm),
    /// A `key` statement without `secret`.
    #[error("the key file has no `secret` for it")]
    NoSecret,
}

/// The octets of the key `name` (no final dot needed) from the text of a secret.
pub(super) fn decode(text: &str, name: &str, algorithm: Algorithm) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    match text {
        text if text.trim().is_empty() => Err(KeyError::Empty),
        text if text.contains('{') => octets(statement(text, name, algorithm)?),
        text => octets(text),
    }
}

fn octets(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let packed: Zeroizing<String> = Zeroizing::new(text.split_whitespace().collect());
    // The decoder's own error quotes an octet of the secret.
    let key = Zeroizing::new(BASE64.decode(packed.as_bytes()).map_err(|_| KeyError::NotBase64)?);
    if key.is_empty() { Err(KeyError::Empty) } else { Ok(key) }
}

/// The text after `secret` in the `key` statement with this name.
fn statement<'t>(text: &'t str, name: &str, algorithm: Algorithm) -> Result<&'t str, KeyError> {
    let words: Vec<&str> = text
        .lines()
        .filter(|line| !matches!(line.trim_start().as_bytes(), [b'#', ..] | [b'/', b'/', ..]))
        .flat_map(|line| line.split(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | ';' | '"')))
        .filter(|word| !word.is_empty())
        .collect();
    let same = |other: &str| other.trim_end_matches('.').eq_ignore_ascii_case(name.trim_end_matches('.'));
    let mut others = Vec::new();
    for statement in words.split(|word| *word == "key").skip(1) {
        let Some((found, rest)) = statement.split_first() else { continue };
        if !same(found) {
            others.push(plain(found));
            continue;
        }
        let after = |key| rest.iter().position(|word| *word == key).and_then(|at| rest.get(at + 1));
        if let Some(found) = after("algorithm")
            && !found.eq_ignore_ascii_case(algorithm.as_str())
        {
            return Err(KeyError::OtherAlgorithm(plain(found), algorithm));
        }
        return after("secret").copied().ok_or(KeyError::NoSecret);
    }
    if others.is_empty() { Err(KeyError::NotBase64) } else { Err(KeyError::OtherKeys(others)) }
}

/// With or without `=` at the end: both are in use.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# made by hand\nkey \"other\" {\n\talgorithm hmac-sha256;\n\tsecret \"AAAA\";\n};\n\
        key \"CertFleet.\" {\n\talgorithm hmac-sha512;\n\tsecret \"c2VjcmV0\";\n};\n";

    fn read(text: &str) -> Result<Vec<u8>, KeyError> {
        decode(text, "certfleet", Algorithm::HmacSha512).map(|key| key.to_vec())
    }

    #[test]
    fn base64_is_read_with_and_without_padding_and_white_space() {
        assert_eq!(read("c2VjcmV0MQ==\n"), Ok(b"secret1".to_vec()));
        assert_eq!(read(" c2Vjcm\nV0MQ"), Ok(b"secret1".to_vec()));
    }

    #[test]
    fn a_key_file_of_bind_is_read() {
        assert_eq!(read(FILE), Ok(b"secret".to_vec()));
    }

    #[test]
    fn a_key_file_for_something_else_is_refused() {
        assert_eq!(
            decode(FILE, "third", Algorithm::HmacSha256),
            Err(KeyError::OtherKeys(vec!["other".to_owned(), "CertFleet.".to_owned()]))
        );
        assert_eq!(
            decode(FILE, "certfleet", Algorithm::HmacSha256),
            Err(KeyError::OtherAlgorithm("hmac-sha512".to_owned(), Algorithm::HmacSha256))
        );
        assert_eq!(read("key certfleet { algorithm hmac-sha512; };"), Err(KeyError::NoSecret));
        assert_eq!(read("{ secret \"c2VjcmV0\" }"), Err(KeyError::NotBase64));
    }

    #[test]
    fn what_is_no_key_is_refused_without_a_word_of_it() {
        assert_eq!(read(" \n"), Err(KeyError::Empty));
        assert_eq!(read("="), Err(KeyError::NotBase64));
        let refusal = read("c2VjcmV0!hunter2").unwrap_err();
        assert_eq!(refusal, KeyError::NotBase64);
        assert!(!refusal.to_string().contains("hunter2"));
    }
}
