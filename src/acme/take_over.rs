//! Certificates and accounts that another ACME client obtained.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use serde::Deserialize;
use serde_json::json;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use super::Issued;
use super::check::{CheckError, check};
use crate::model::cert::{Leaf, ParseError};
use crate::model::desired::KeyType;
use crate::model::name::Domain;

/// A certificate with its key, both found good.
#[derive(Debug)]
pub struct TakenOver {
    /// The certificate and its chain.
    pub issued: Issued,
    /// Its domains.
    pub domains: Vec<Domain>,
    /// The type of its key.
    pub key: KeyType,
}

/// Why a certificate cannot be taken over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeOverError {
    /// The key has a passphrase.
    #[error("its private key has a passphrase, which nobody can type when it is used")]
    EncryptedKey,
    /// There is no key, or none that can be read.
    #[error("its private key cannot be read")]
    NoKey,
    /// The key is of a kind that certs.toml has no word for.
    #[error("its private key is {0}, which certs.toml has no word for")]
    OddKey(String),
    /// The first block is no certificate.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CheckError),
}

impl TakeOverError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::EncryptedKey => "take the passphrase away: `openssl pkey -in privkey.pem -out new.pem`",
            Self::NoKey => "restore privkey.pem from a backup",
            _ => "let certfleet issue a new one: add the entry to certs.toml and run `certfleet renew`",
        }
    }
}

/// Accepts a chain (leaf first) with its private key, both PEM, if they belong together and are usable at `now`.
pub fn take_over(fullchain: &str, privkey: &str, now: Timestamp) -> Result<TakenOver, TakeOverError> {
    if privkey.contains("ENCRYPTED") {
        return Err(TakeOverError::EncryptedKey);
    }
    let key = rustls_pemfile::private_key(&mut privkey.as_bytes())
        .ok()
        .flatten()
        .and_then(|der| any_supported_type(&der).ok()?.public_key().map(|public| public.to_vec()))
        .ok_or(TakeOverError::NoKey)?;
    accept(fullchain, Some(&key), now)
}

/// The same of a chain alone, whose private key was left where it is.
pub fn look_over(fullchain: &str, now: Timestamp) -> Result<TakenOver, TakeOverError> {
    accept(fullchain, None, now)
}

/// `key` is the public half of the private key: DER, SubjectPublicKeyInfo.
fn accept(fullchain: &str, key: Option<&[u8]>, now: Timestamp) -> Result<TakenOver, TakeOverError> {
    let kind = key.map(kind_of).transpose()?;
    let first = rustls_pemfile::certs(&mut fullchain.as_bytes()).next().and_then(Result::ok);
    let leaf = Leaf::parse(&first.ok_or(TakeOverError::NoCertificate)?)
        .map_err(|error: ParseError| CheckError::Unreadable(1, error))?;
    let kind = kind.map_or_else(|| kind_of(&leaf.public_key), Ok)?;
    let issued = check(fullchain, &leaf.domains, key.unwrap_or(&leaf.public_key), now)?;
    Ok(TakenOver { issued, domains: leaf.domains, key: kind })
}

fn kind_of(public: &[u8]) -> Result<KeyType, TakeOverError> {
    let odd = |what: String| Err(TakeOverError::OddKey(what));
    let Ok((_, info)) = SubjectPublicKeyInfo::from_der(public) else { return Err(TakeOverError::NoKey) };
    match info.parsed() {
        Ok(PublicKey::EC(point)) => match point.key_size() {
            256 => Ok(KeyType::EcdsaP256),
            384 => Ok(KeyType::EcdsaP384),
            // Its coordinates have whole bytes.
            528 => odd("an EC key of 521 bits".to_owned()),
            bits => odd(format!("an EC key of {bits} bits")),
        },
        Ok(PublicKey::RSA(key)) => match key.key_size() {
            2048 => Ok(KeyType::Rsa2048),
            4096 => Ok(KeyType::Rsa4096),
            bits => odd(format!("an RSA key of {bits} bits")),
        },
        _ => odd("neither an RSA nor an EC key".to_owned()),
    }
}

/// Why the key of an account cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountKeyError {
    /// The key is of another kind than the one that we sign with.
    #[error("its key is {0}, and certfleet signs with ECDSA P-256 (ES256) only")]
    OtherKind(String),
    /// Not a private key as JWK (RFC 7517).
    #[error("its key cannot be read")]
    Damaged,
}

/// The members that we need, where they stand: base64url has nothing to unescape.
#[derive(Deserialize)]
struct Jwk<'a> {
    kty: &'a str,
    #[serde(default)]
    crv: &'a str,
    #[serde(default)]
    d: &'a str,
    #[serde(default)]
    x: &'a str,
    #[serde(default)]
    y: &'a str,
}

/// The credentials of an account whose private key is a JWK (RFC 7518 section 6.2.2), as we store them.
pub fn credentials_of_jwk(
    jwk: &str,
    url: &str,
    directory: &str,
) -> Result<Zeroizing<String>, AccountKeyError> {
    let jwk: Jwk<'_> = serde_json::from_str(jwk).map_err(|_| AccountKeyError::Damaged)?;
    if (jwk.kty, jwk.crv) != ("EC", "P-256") {
        let kind = match jwk.kty {
            "RSA" => "an RSA key".to_owned(),
            "EC" => "another EC key".to_owned(),
            _ => "of another kind".to_owned(),
        };
        return Err(AccountKeyError::OtherKind(kind));
    }
    let number = |text: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map(Zeroizing::new);
        bytes.ok().filter(|bytes| bytes.len() == 32).ok_or(AccountKeyError::Damaged)
    };
    let mut der = Zeroizing::new(Vec::with_capacity(PKCS8_HEAD.len() + 32 + PKCS8_PUBLIC.len() + 64));
    der.extend_from_slice(&PKCS8_HEAD);
    der.extend_from_slice(&number(jwk.d)?);
    der.extend_from_slice(&PKCS8_PUBLIC);
    der.extend_from_slice(&number(jwk.x)?);
    der.extend_from_slice(&number(jwk.y)?);
    // A private key whose public half is another's would sign what nobody accepts.
    rcgen::KeyPair::try_from(der.as_slice()).map_err(|_| AccountKeyError::Damaged)?;
    let key = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*der));
    Ok(Zeroizing::new(json!({ "id": url, "key_pkcs8": &*key, "directory": directory }).to_string()))
}

/// A P-256 private key in PKCS#8 (RFC 5208, RFC 5915) up to the secret number.
const PKCS8_HEAD: [u8; 36] = [
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01,
    0x04, 0x20,
];
/// What stands between it and the public point.
const PKCS8_PUBLIC: [u8; 6] = [0xa1, 0x44, 0x03, 0x42, 0x00, 0x04];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_an_account_survives_the_change_of_its_form() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let der = pair.serialize_der();
        let at = der.windows(2).position(|two| two == [0x04, 0x20]).unwrap() + 2;
        let point = pair.public_key_raw();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = |d: &[u8]| {
            json!({ "kty": "EC", "crv": "P-256", "d": text(d), "x": text(&point[1..33]), "y": text(&point[33..]) })
                .to_string()
        };
        let saved =
            credentials_of_jwk(&jwk(&der[at..at + 32]), "https://ca.test/1", "https://ca.test/dir").unwrap();
        let credentials: instant_acme::AccountCredentials = serde_json::from_str(&saved).unwrap();
        let again = rcgen::KeyPair::try_from(credentials.private_key().secret_pkcs8_der()).unwrap();
        assert_eq!(again.public_key_raw(), point);
        assert_eq!(super::super::account_facts(&saved).unwrap().id, "https://ca.test/1");
        let other = credentials_of_jwk(&jwk(&[7; 32]), "https://ca.test/1", "https://ca.test/dir");
        assert_eq!(other.unwrap_err(), AccountKeyError::Damaged);
    }

    #[test]
    fn a_key_of_another_kind_is_refused_with_its_name() {
        let refused = |jwk: &str| credentials_of_jwk(jwk, "u", "d").unwrap_err();
        assert!(refused(r#"{"kty":"RSA","n":"x","e":"AQAB","d":"x"}"#).to_string().contains("an RSA key"));
        assert_eq!(refused("{"), AccountKeyError::Damaged);
        assert_eq!(refused(r#"{"kty":"EC","crv":"P-256"}"#), AccountKeyError::Damaged);
    }
}
