//! Our account at a CA (RFC 8555 section 7.3), and what only it may ask for: revoking.

use instant_acme::{Account, ExternalAccountKey, NewAccount, RevocationReason, RevocationRequest};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::call::{CallError, Tries, Twice};
use super::error::{Doing, Error};
use super::http::Http;
use super::{Accounts, Binding, Ca};
use crate::model::desired::Issuer;
use crate::model::problem::{Diagnose, plain};
use crate::model::state::Reason;

/// What may be shown of an account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AccountFacts {
    /// Its URL at the CA, as CAA records name it (RFC 8657).
    pub id: String,
}

/// Reads what may be shown of saved credentials.
pub fn account_facts(credentials: &str) -> Option<AccountFacts> {
    let facts: AccountFacts = serde_json::from_str(credentials).ok()?;
    Some(AccountFacts { id: plain(&facts.id) })
}

impl Ca {
    /// Registers a new account and saves it, in place of one that is saved already.
    pub async fn register(issuer: &Issuer, accounts: &dyn Accounts) -> Result<Self, Error> {
        let http = super::connect(issuer).await?;
        let credentials = register(&http, issuer, accounts).await?;
        Self::with(issuer, http, credentials)
    }

    /// Revokes a certificate (DER) that this account was issued; done also when it was revoked before.
    pub async fn revoke(&self, certificate: &[u8], reason: Reason) -> Result<(), Error> {
        let certificate = CertificateDer::from(certificate);
        let account = self.account(&self.0.http.session()).await?;
        let mut tries = Tries::new();
        loop {
            let request = RevocationRequest { certificate: &certificate, reason: Some(wire(reason)) };
            let Err(error) = account.revoke(&request).await else { return Ok(()) };
            let error = CallError::from(error);
            if error.refusal().is_some_and(|refusal| refusal.is("alreadyRevoked")) {
                return Ok(());
            }
            let failed = |cause| Error::Call { issuer: self.0.issuer.clone(), doing: Doing::Revoke, cause };
            tries.again(error, Twice::Harmless).await.map_err(failed)?;
        }
    }
}

fn wire(reason: Reason) -> RevocationReason {
    match reason {
        Reason::Unspecified => RevocationReason::Unspecified,
        Reason::KeyCompromise => RevocationReason::KeyCompromise,
        Reason::AffiliationChanged => RevocationReason::AffiliationChanged,
        Reason::Superseded => RevocationReason::Superseded,
        Reason::CessationOfOperation => RevocationReason::CessationOfOperation,
    }
}

/// Creates the account and saves it. A crash between the two leaves one behind at the CA that nobody uses.
pub(super) async fn register(
    http: &Http,
    issuer: &Issuer,
    accounts: &dyn Accounts,
) -> Result<Zeroizing<String>, Error> {
    let name = || issuer.name.clone();
    let no_binding =
        |cause: Box<dyn Diagnose + Send + Sync>| Error::NoBinding { issuer: name(), cause: cause.into() };
    let binding = accounts.binding(&issuer.name).await.map_err(no_binding)?;
    let made = create(http, issuer, binding.as_ref()).await.map_err(|cause| match binding {
        Some(_) if refuses_binding(&cause) => Error::Binding { issuer: name(), cause },
        _ => Error::Call { issuer: name(), doing: Doing::Register, cause },
    })?;
    let not_saved = |cause: Box<dyn Diagnose + Send + Sync>| Error::Accounts {
        issuer: name(),
        verb: "save",
        cause: cause.into(),
    };
    accounts.save(&issuer.name, &issuer.directory, &made).map_err(not_saved)?;
    Ok(made)
}

async fn create(
    http: &Http,
    issuer: &Issuer,
    binding: Option<&Binding>,
) -> Result<Zeroizing<String>, CallError> {
    let key = binding.map(|binding| ExternalAccountKey::new(binding.key_id.clone(), &binding.hmac_key));
    let contact: Vec<&str> = issuer.contact.iter().map(String::as_str).collect();
    let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let mut tries = Tries::new();
    let credentials = loop {
        let builder = Account::builder_with_http(Box::new(http.session()));
        match builder.create(&wanted, issuer.directory.clone(), key.as_ref()).await {
            Ok((_, credentials)) => break credentials,
            Err(error) => tries.again(error, Twice::Harmful).await?,
        };
    };
    serde_json::to_string(&credentials)
        .map(Zeroizing::new)
        .map_err(|error| CallError::Garbled(error.to_string()))
}

/// Whether it is what the new account should be bound to that the CA does not take: CAs have no
/// word of their own for it.
fn refuses_binding(error: &CallError) -> bool {
    const WORDS: [&str; 4] = ["unauthorized", "malformed", "externalAccountRequired", "accountDoesNotExist"];
    error.refusal().is_some_and(|refusal| WORDS.iter().any(|word| refusal.is(word)))
}
