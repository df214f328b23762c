//! What the server's answer to an update means.

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::tsig::{TSIG, TsigError};
use hickory_proto::rr::{Name, TSigVerifier};

use super::super::lookup::text;
use super::super::{Change, Error, wire};
use super::{Rfc2136, now};

impl Rfc2136 {
    /// The signature's own error first: with it the rest is not signed, and says less.
    pub(super) fn judge(
        &self,
        zone: &Name,
        changes: &[Change],
        id: u16,
        verifier: Option<TSigVerifier>,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let server = || self.server.clone();
        let Ok(reply) = Message::from_vec(bytes) else {
            return Err(Error::BadReply { server: server() });
        };
        let head = &reply.metadata;
        if (head.id, head.message_type, head.op_code) != (id, MessageType::Response, OpCode::Update) {
            return Err(Error::BadReply { server: server() });
        }
        if let Some(signature) = reply.signature()
            && let Some(error) = signature.data.error
        {
            return Err(self.signature_refused(error, &signature.data));
        }
        let owner = || changes.first().map(|change| change.record().owner.clone()).unwrap_or_default();
        match head.response_code {
            ResponseCode::NoError if reply.signature().is_none() => {
                Err(Error::UnsignedReply { server: server() })
            }
            ResponseCode::NoError => match verifier.map(|mut verifier| verifier.verify(bytes)) {
                Some(Ok(_)) => Ok(()),
                _ => Err(Error::ForgedReply { server: server() }),
            },
            ResponseCode::NotAuth => Err(Error::NotAuthoritative { server: server(), zone: text(zone) }),
            ResponseCode::Refused => Err(Error::Refused {
                server: server(),
                key: self.key_name.clone(),
                owner: owner(),
                zone: text(zone),
            }),
            ResponseCode::NotZone => Err(Error::NotInZone { owner: owner(), zone: text(zone) }),
            code => Err(Error::Rejected { server: server(), zone: text(zone), code: wire::mnemonic(code) }),
        }
    }

    fn signature_refused(&self, error: TsigError, data: &TSIG) -> Error {
        let (server, key) = (self.server.clone(), self.key_name.clone());
        match error {
            TsigError::BadKey => Error::TsigBadKey { server, key, algorithm: self.algorithm.to_string() },
            TsigError::BadSig => Error::TsigBadSignature { server, key },
            TsigError::BadTime => Error::TsigBadTime { server, ahead: ahead(data) },
            other => Error::TsigOther { server, code: other.into() },
        }
    }
}

/// How far the server's clock is ahead of ours, in seconds (RFC 8945 section 5.2.3).
fn ahead(data: &TSIG) -> i64 {
    let theirs = data.other.iter().take(6).fold(0, |time, octet| time << 8 | u64::from(*octet));
    i64::try_from(theirs).unwrap_or(i64::MAX).saturating_sub_unsigned(now())
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
    use hickory_proto::rr::{DNSClass, Record, TSigResponseContext, TSigner};

    use super::super::super::TxtRecord;
    use super::super::super::lookup::parse;
    use super::super::{Algorithm, FUDGE, message};
    use super::*;
    use crate::model::problem::Diagnose;
    use crate::secret::Secret;

    fn server() -> Rfc2136 {
        let secret = Secret::Env("TSIG".to_owned());
        Rfc2136::new("ns1.example.org:53".to_owned(), "certfleet".to_owned(), Algorithm::HmacSha256, secret)
    }

    fn signer(secret: &[u8]) -> TSigner {
        TSigner::new(secret.to_vec(), TsigAlgorithm::HmacSha256, parse("certfleet").unwrap(), FUDGE).unwrap()
    }

    fn record() -> TxtRecord {
        TxtRecord {
            zone: "example.org.".to_owned(),
            owner: "_acme-challenge.example.org.".to_owned(),
            value: "v".to_owned(),
            ttl: 60,
            proof: None,
        }
    }

    /// What we say to a reply that `tell` has made, signed with `secret` where there is one.
    fn said(tell: impl FnOnce(&mut Message), secret: Option<&[u8]>) -> Result<(), Error> {
        let zone = parse("example.org").unwrap();
        let changes = [Change::Add(record())];
        let mut update = message(&zone, &changes).unwrap();
        let verifier = update.finalize(&signer(b"secret"), now()).unwrap();
        let mut reply = Message::response(update.metadata.id, OpCode::Update);
        tell(&mut reply);
        if let Some(secret) = secret {
            let mac = update.signature().unwrap().data.mac.clone();
            let context = TSigResponseContext::new(update.metadata.id, now(), signer(secret), mac, None);
            let signature = context.sign(&reply.to_vec().unwrap()).unwrap();
            reply.set_signature(signature);
        }
        server().judge(&zone, &changes, update.metadata.id, verifier, &reply.to_vec().unwrap())
    }

    fn code(result: Result<(), Error>) -> &'static str {
        result.err().map_or("", |error| error.code())
    }

    #[test]
    fn only_a_signed_reply_is_believed() {
        assert!(said(|_| {}, Some(b"secret")).is_ok());
        assert!(matches!(said(|_| {}, None), Err(Error::UnsignedReply { .. })));
        assert!(matches!(said(|_| {}, Some(b"other")), Err(Error::ForgedReply { .. })));
        assert_eq!(code(said(|reply| reply.metadata.id ^= 1, Some(b"secret"))), "dns.bad-reply");
        assert_eq!(code(said(|reply| reply.metadata.op_code = OpCode::Query, None)), "dns.bad-reply");
    }

    #[test]
    fn response_codes_become_errors_that_say_what_to_do() {
        let codes = [
            (ResponseCode::NotAuth, "dns.not-authoritative"),
            (ResponseCode::Refused, "dns.refused"),
            (ResponseCode::NotZone, "dns.not-in-zone"),
            (ResponseCode::FormErr, "dns.rejected"),
            (ResponseCode::ServFail, "dns.rejected"),
        ];
        for (rcode, expected) in codes {
            assert_eq!(code(said(|reply| reply.metadata.response_code = rcode, None)), expected);
        }
    }

    #[test]
    fn errors_of_the_signature_come_before_the_response_code() {
        let tsig = |error, other| {
            said(
                |reply| {
                    reply.metadata.response_code = ResponseCode::NotAuth;
                    let data =
                        TSIG::new(TsigAlgorithm::HmacSha256, 0, FUDGE, Vec::new(), 1, Some(error), other);
                    let mut signature = Record::from_rdata(parse("certfleet").unwrap(), 0, data);
                    signature.dns_class = DNSClass::ANY;
                    reply.set_signature(Box::new(signature));
                },
                None,
            )
        };
        assert_eq!(code(tsig(TsigError::BadKey, Vec::new())), "dns.tsig-bad-key");
        assert_eq!(code(tsig(TsigError::BadSig, Vec::new())), "dns.tsig-bad-signature");
        assert_eq!(code(tsig(TsigError::BadTrunc, Vec::new())), "dns.tsig");
        let theirs = (now() + 1200).to_be_bytes()[2..].to_vec();
        let Err(Error::TsigBadTime { ahead, .. }) = tsig(TsigError::BadTime, theirs) else {
            panic!("BADTIME is named");
        };
        assert!((1195..=1200).contains(&ahead), "{ahead}");
        // A hostile server's nonsense is a number too.
        assert_eq!(code(tsig(TsigError::BadTime, vec![0xff; 40])), "dns.tsig-bad-time");
    }
}
