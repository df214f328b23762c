//! What to do about each error: code, blame, retry, hint.

use super::error::Error;
use crate::model::problem::{Blame, Diagnose, Retry, plain};

impl Diagnose for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::BadName { .. } => "dns.bad-name",
            Self::Resolver(_) => "dns.resolver",
            Self::Lookup { .. } | Self::LookupTimeout { .. } => "dns.lookup",
            Self::CnameLoop { .. } | Self::CnameDepth { .. } => "dns.cname-loop",
            Self::NoZone(_) => "dns.no-zone",
            Self::NoNameServer(_) | Self::NoAddress { .. } => "dns.no-name-server",
            Self::NoRoute { .. } => "dns.no-route",
            Self::NotPropagated { .. } => "dns.not-propagated",
            Self::Lame { .. } => "dns.lame",
            Self::Secret { .. } | Self::SecretFormat { .. } => "dns.secret",
            Self::Encode { .. } => "dns.encode",
            Self::ServerAddress { .. } => "dns.server-address",
            Self::Connect { .. } | Self::Broken { .. } => "dns.connection",
            Self::Timeout { .. } => "dns.timeout",
            Self::BadReply { .. } | Self::UnsignedReply { .. } | Self::ForgedReply { .. } => "dns.bad-reply",
            Self::TsigBadKey { .. } => "dns.tsig-bad-key",
            Self::TsigBadSignature { .. } => "dns.tsig-bad-signature",
            Self::TsigBadTime { .. } => "dns.tsig-bad-time",
            Self::TsigOther { .. } => "dns.tsig",
            Self::NotAuthoritative { .. } => "dns.not-authoritative",
            Self::Refused { .. } => "dns.refused",
            Self::NotInZone { .. } => "dns.not-in-zone",
            Self::Rejected { .. } => "dns.rejected",
            Self::Api(error) => error.code(),
            Self::Exec(error) => error.code(),
            Self::OtherName(error) => error.code(),
            Self::NoProof(_) => "dns.no-proof",
            Self::Interrupted => "dns.interrupted",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Api(error) => error.blame(),
            Self::Exec(error) => error.blame(),
            Self::OtherName(error) => error.blame(),
            Self::BadName { .. }
            | Self::CnameLoop { .. }
            | Self::CnameDepth { .. }
            | Self::NoZone(_)
            | Self::Secret { .. }
            | Self::SecretFormat { .. }
            | Self::TsigBadKey { .. }
            | Self::TsigBadSignature { .. }
            | Self::NotAuthoritative { .. }
            | Self::NoProof(_)
            | Self::Refused { .. } => Blame::Operator,
            Self::Resolver(_) | Self::Encode { .. } | Self::TsigBadTime { .. } | Self::Interrupted => {
                Blame::Machine
            }
            Self::NoRoute { .. }
            | Self::LookupTimeout { .. }
            | Self::ServerAddress { .. }
            | Self::Connect { .. }
            | Self::Broken { .. }
            | Self::Timeout { .. } => Blame::Network,
            Self::Lookup { .. }
            | Self::NoNameServer(_)
            | Self::NoAddress { .. }
            | Self::NotPropagated { .. }
            | Self::Lame { .. }
            | Self::BadReply { .. }
            | Self::UnsignedReply { .. }
            | Self::ForgedReply { .. }
            | Self::TsigOther { .. }
            | Self::NotInZone { .. }
            | Self::Rejected { .. } => Blame::Dns,
        }
    }

    /// What people mend at a name server we would not notice, so almost everything is tried again.
    fn retry(&self) -> Retry {
        match self {
            Self::SecretFormat { .. } => Retry::AfterChange,
            Self::Api(error) => error.retry(),
            _ => Retry::Backoff,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Api(error) => return error.hint(),
            Self::Exec(error) => return error.hint(),
            Self::OtherName(error) => return error.hint(),
            Self::NoProof(_) => "remove the record at the provider by hand".to_owned(),
            Self::Resolver(_) => {
                "name them in certs.toml: `[resolver] nameservers = [\"192.0.2.53:53\"]`".to_owned()
            }
            Self::NoZone(name) => {
                format!(
                    "register or delegate the domain, or correct it: `dig SOA {}` finds none",
                    plain(name)
                )
            }
            Self::CnameLoop { via, .. } | Self::CnameDepth { via, .. } => match via.first() {
                Some(first) => format!("correct the CNAME record of `{}`", plain(first)),
                None => return None,
            },
            Self::NoAddress { .. } | Self::NoRoute { .. } | Self::NoNameServer(_) => {
                "name the servers to ask in `authoritative` of the dns account".to_owned()
            }
            Self::NotPropagated { account, source, .. } if source.nobody_there() => format!(
                "let DNS out to it (port 53, UDP and TCP), or set `dns.{account}.propagation-check = \"resolver\"`"
            ),
            Self::NotPropagated { account, .. } => {
                format!("raise `dns.{account}.propagation-timeout`, or see why that server lags")
            }
            Self::Lame { account, .. } => format!(
                "take it out of the zone's NS records, or name the servers to ask in `dns.{account}.authoritative`"
            ),
            Self::Secret { source, .. } => return source.hint(),
            Self::SecretFormat { .. } => {
                "it is the text after `secret` in what `tsig-keygen` prints, or all of that".to_owned()
            }
            Self::TsigBadKey { key, .. } => format!(
                "BIND: `include` the file with `key \"{key}\"`; Knot: name the key and the zone's owner names in an `acl`"
            ),
            Self::TsigBadSignature { key, .. } => {
                format!("copy the `secret` of `key \"{key}\"` from the name server again")
            }
            Self::TsigBadTime { .. } => "set the clock that is wrong: `timedatectl` shows it".to_owned(),
            Self::NotAuthoritative { zone, .. } => {
                format!("`server` must be the primary of the zone: `dig SOA {}` names it first", plain(zone))
            }
            Self::Refused { key, owner, zone, .. } => {
                let (owner, zone) = (plain(owner), plain(zone));
                format!("BIND: add `grant {key} name {owner} TXT;` to `update-policy` of the zone `{zone}`")
            }
            Self::Rejected { .. } => {
                "the log of the name server says why; often it may not write in its zone directory".to_owned()
            }
            Self::ServerAddress { .. } => "correct `server` of the dns account".to_owned(),
            Self::Connect { .. } | Self::Broken { .. } | Self::Timeout { .. } => {
                "see whether it runs and takes updates over TCP from this machine; `server` of the dns account says where"
                    .to_owned()
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::SharedError;
    use super::super::sighting::{Lagging, Sighting, View};
    use super::*;
    use crate::model::problem::Problem;

    #[test]
    fn the_error_at_the_deadline_names_server_name_time_and_key() {
        let error = Error::NotPropagated {
            zone: "example.net.".to_owned(),
            account: "corp".to_owned(),
            source: Lagging {
                owner: "_acme-challenge.shop.example.net.".to_owned(),
                waited: Duration::from_millis(120_003),
                servers: vec![Sighting { server: "ns2.example.net".to_owned(), view: View::Without }],
            },
        };
        let problem = Problem::of(&error);
        assert_eq!(
            problem.causes,
            [
                "ns2.example.net still answers without the value for _acme-challenge.shop.example.net after 120 s"
            ]
        );
        assert!(problem.hint.is_some_and(|hint| hint.contains("`dns.corp.propagation-timeout`")));
    }

    #[test]
    fn clocks_are_compared_in_words() {
        let error = |ahead| Error::TsigBadTime { server: "ns1:53".to_owned(), ahead }.to_string();
        assert_eq!(error(-900), "the clock of the DNS server `ns1:53` is 900 s behind this machine's");
        assert_eq!(error(900), "the clock of the DNS server `ns1:53` is 900 s ahead of this machine's");
    }

    #[test]
    fn a_shared_error_is_the_error() {
        let refused = || Error::Refused {
            server: "ns1:53".to_owned(),
            key: "certfleet".to_owned(),
            owner: "_acme-challenge.a.example.".to_owned(),
            zone: "a.example.".to_owned(),
        };
        assert_eq!(Problem::of(&SharedError::from(refused())), Problem::of(&refused()));
        assert!(
            refused()
                .hint()
                .is_some_and(|hint| hint.contains("grant certfleet name _acme-challenge.a.example. TXT;"))
        );
    }
}
