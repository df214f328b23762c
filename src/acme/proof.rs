//! What an order asks to be proven, all of it at once.
//!
//! instant-acme goes through the authorizations of an order one after the other, two round trips for each name. So
//! each gets an order for itself here, made of what the CA has answered already.

use futures::future::try_join_all;
use instant_acme::{
    AuthorizationHandle, AuthorizationStatus, ChallengeHandle, ChallengeStatus, ChallengeType, Identifier,
    Order,
};
use serde_json::json;
use tokio::sync::Semaphore;

use super::call::{CallError, Tries, Twice, Violation};
use super::order::Run;
use super::{Challenge, plain};
use crate::model::name::Domain;
use crate::model::state::Proof;

impl Run<'_> {
    /// The order again and again, with one of its authorizations each; no request.
    pub(super) async fn parts(&self, order: &mut Order) -> Result<Vec<Order>, CallError> {
        let url = order.url().to_owned();
        let authorizations: Vec<String> =
            order.state().authorizations.iter().map(|authorization| authorization.url.clone()).collect();
        let (asked, names) = (authorizations.len(), self.wanted.domains.len());
        if asked > names {
            return Err(Violation::TooManyAuthorizations(asked, names).into());
        }
        let mut parts = Vec::new();
        for authorization in authorizations {
            let answer = json!({ "status": "pending", "authorizations": [authorization], "finalize": url });
            self.session.pretend(answer.to_string());
            parts.push(self.account.order(url.clone()).await?);
        }
        Ok(parts)
    }

    /// What is still to be proven; names that the CA still remembers need no proof.
    pub(super) async fn open_challenges(&self, parts: &mut [Order]) -> Result<Vec<Challenge>, CallError> {
        let hands = Semaphore::new(AT_ONCE);
        let open = try_join_all(parts.iter_mut().map(|part| self.open_challenge(part, &hands))).await?;
        let mut open: Vec<Challenge> = open.into_iter().flatten().collect();
        open.sort_unstable();
        open.dedup();
        Ok(open)
    }

    async fn open_challenge(
        &self,
        part: &mut Order,
        hands: &Semaphore,
    ) -> Result<Option<Challenge>, CallError> {
        let _hand = hands.acquire().await;
        let mut tries = Tries::new();
        loop {
            // An error drops its item from the stream; a new stream fetches it again.
            match part.authorizations().next().await {
                Some(Ok(authorization)) if authorization.status == AuthorizationStatus::Pending => {
                    return Ok(Some(self.challenge(authorization)?));
                }
                Some(Ok(_)) | None => return Ok(None),
                Some(Err(error)) => tries.again(error, Twice::Harmless).await?,
            }
        }
    }

    /// The TXT record that one authorization asks for.
    fn challenge(&self, authorization: AuthorizationHandle<'_>) -> Result<Challenge, Violation> {
        // Bound anew, because the challenge borrows it for as long as it lives.
        let mut authorization = authorization;
        let shown = plain(&authorization.identifier().to_string());
        let domain = match authorization.identifier().identifier {
            Identifier::Dns(name) => name.parse::<Domain>().ok().filter(|domain| {
                !domain.is_wildcard() && self.wanted.domains.iter().any(|ours| ours.base() == domain.base())
            }),
            _ => None,
        };
        let domain = domain.ok_or_else(|| Violation::ForeignName(shown.clone()))?;
        let Some(challenge) = authorization.challenge(ChallengeType::Dns01) else {
            return Err(Violation::NoDnsChallenge(shown));
        };
        let base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if challenge.token.is_empty()
            || challenge.token.len() > MAX_TOKEN
            || !challenge.token.bytes().all(base64url)
        {
            return Err(Violation::Token(shown));
        }
        let key_authorization = challenge.key_authorization();
        let proof = Proof {
            domain: domain.clone(),
            token: challenge.token.clone(),
            key_authorization: key_authorization.as_str().to_owned(),
        };
        Ok(Challenge { domain, value: key_authorization.dns_value(), proof })
    }
}

/// Tells the CA that it may look; a challenge that it looks at already is left alone.
pub(super) async fn announce(parts: &mut [Order]) -> Result<(), CallError> {
    let hands = &Semaphore::new(AT_ONCE);
    try_join_all(parts.iter_mut().map(|part| async move {
        let _hand = hands.acquire().await;
        // Fetched before: no request.
        let mut authorizations = part.authorizations();
        let Some(authorization) = authorizations.next().await else { return Ok(()) };
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Pending {
            return Ok(());
        }
        match authorization.challenge(ChallengeType::Dns01) {
            Some(challenge) if challenge.status == ChallengeStatus::Pending => announce_one(challenge).await,
            _ => Ok(()),
        }
    }))
    .await
    .map(drop)
}

async fn announce_one(mut challenge: ChallengeHandle<'_>) -> Result<(), CallError> {
    let mut tries = Tries::new();
    let mut maybe_done = false;
    loop {
        let error = match challenge.set_ready().await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // The challenge's own error, from a CA that looked at once: the order will tell it.
        let own = matches!(&error, instant_acme::Error::Api(_));
        let error = CallError::from(error);
        let refused = error.refusal().is_some_and(|refusal| !refusal.is("badNonce"));
        // If an earlier answer was lost, "you did that before" is no failure.
        if refused && (own || maybe_done) {
            return Ok(());
        }
        maybe_done |= error.maybe_done();
        tries.again(error, Twice::Harmless).await?;
    }
}

/// Requests of one order at once. Each needs a nonce of its own, of which few should have to be fetched.
const AT_ONCE: usize = 10;
/// A token has at least 22 characters (RFC 8555 section 8.3); those in use have 43.
const MAX_TOKEN: usize = 512;
