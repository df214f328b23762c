//! Keys of certificates, and the signing requests made with them.

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_RSA_SHA256, PublicKeyData, RsaKeySize,
};
use zeroize::Zeroizing;

use crate::model::desired::KeyType;
use crate::model::name::Domain;
use crate::model::problem::{Blame, Diagnose};

/// Why a key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The random generator or the algorithm failed.
    #[error("cannot make a new private key")]
    Generate(#[source] rcgen::Error),
    /// The text is not a private key in PKCS#8 PEM.
    #[error("the stored private key cannot be read")]
    Read(#[source] rcgen::Error),
    /// The key is of another type than the certificate asks for.
    #[error("the stored private key is not of the type that certs.toml asks for")]
    OtherType,
    /// The certificate signing request could not be made.
    #[error("cannot make the certificate signing request")]
    Request(#[source] rcgen::Error),
}

impl Diagnose for KeyError {
    fn code(&self) -> &'static str {
        "acme.key"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }
}

/// Makes a private key, as PKCS#8 PEM.
///
/// RSA takes up to seconds of computing: call it where that blocks nothing.
pub fn new_key(kind: KeyType) -> Result<Zeroizing<String>, KeyError> {
    let pair = match kind {
        KeyType::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        KeyType::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        KeyType::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyType::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
    };
    pair.map(|pair| Zeroizing::new(pair.serialize_pem())).map_err(KeyError::Generate)
}

/// A private key that was read back.
pub(super) struct Key(KeyPair);

impl Key {
    /// Reads a key that [`new_key`] made for the same type.
    pub(super) fn read(pem: &str, kind: KeyType) -> Result<Self, KeyError> {
        let pair = KeyPair::from_pem(pem).map_err(KeyError::Read)?;
        let same = match kind {
            KeyType::EcdsaP256 => pair.is_compatible(&PKCS_ECDSA_P256_SHA256),
            KeyType::EcdsaP384 => pair.is_compatible(&PKCS_ECDSA_P384_SHA384),
            KeyType::Rsa2048 | KeyType::Rsa4096 => pair.is_compatible(&PKCS_RSA_SHA256),
        };
        if same { Ok(Self(pair)) } else { Err(KeyError::OtherType) }
    }

    /// DER of its public half (SubjectPublicKeyInfo).
    pub(super) fn public(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// DER of a request for exactly these domains. The subject stays empty: the common name
    /// is deprecated, limited to 64 characters, and left out by newer profiles anyway.
    pub(super) fn request(&self, domains: &[Domain]) -> Result<Vec<u8>, KeyError> {
        let names: Vec<String> = domains.iter().map(Domain::to_string).collect();
        let mut params = CertificateParams::new(names).map_err(KeyError::Request)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.0).map_err(KeyError::Request)?;
        Ok(request.der().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::prelude::{FromDer, ParsedExtension};

    use super::*;

    #[test]
    fn a_request_names_the_domains_and_nothing_else() {
        for kind in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Rsa2048] {
            let pem = new_key(kind).unwrap();
            let key = Key::read(&pem, kind).unwrap();
            let domains = ["*.example.org", "example.org"].map(|name| name.parse().unwrap());
            let der = key.request(&domains).unwrap();
            let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
            request.verify_signature().unwrap();
            let info = &request.certification_request_info;
            assert_eq!(info.subject_pki.raw, key.public());
            assert_eq!(info.subject.iter().count(), 0);
            let names: Vec<String> = request
                .requested_extensions()
                .unwrap()
                .filter_map(|extension| match extension {
                    ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                    _ => None,
                })
                .flatten()
                .map(ToString::to_string)
                .collect();
            assert_eq!(names, ["DNSName(*.example.org)", "DNSName(example.org)"]);
        }
    }

    #[test]
    fn a_key_of_another_type_is_refused() {
        let pem = new_key(KeyType::EcdsaP256).unwrap();
        assert!(matches!(Key::read(&pem, KeyType::EcdsaP384), Err(KeyError::OtherType)));
        assert!(matches!(Key::read("no key", KeyType::EcdsaP256), Err(KeyError::Read(_))));
    }
}
