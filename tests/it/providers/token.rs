//! Benches of providers that take one token in a header.

/// A bench named `TokenBench` over the stand-in `$api`, whose API is below `$path`.
macro_rules! token_bench {
    ($api:expr, $path:literal) => {
        pub(super) struct TokenBench(crate::providers::fake::Server);

        pub(super) fn bench() -> TokenBench {
            TokenBench(crate::providers::fake::Server::start($api))
        }

        impl TokenBench {
            fn with(&self, secret: &str) -> String {
                format!("api = \"{}\"\ntoken = {secret}\n", self.0.url($path))
            }
        }

        impl crate::providers::Bench for TokenBench {
            fn table(&self) -> String {
                self.with(&self.0.secret())
            }

            fn wrong(&self) -> String {
                self.with(&self.0.wrong_secret())
            }

            fn values(&self, owner: &str) -> Vec<String> {
                self.0.records(|records| records.values(owner))
            }

            fn put(&self, owner: &str, value: &str) {
                self.0.records(|records| records.add(owner, value, 7200));
            }

            fn http(&self) -> &crate::providers::fake::Server {
                &self.0
            }
        }
    };
}

pub(super) use token_bench;

/// A name within the test zone, as APIs with relative names have it.
pub(super) fn relative(owner: &str) -> &str {
    match owner.strip_suffix(super::ZONE) {
        Some("") => "@",
        Some(name) => name.trim_end_matches('.'),
        None => panic!("{owner} is not in the zone"),
    }
}

/// The owner name of a relative one.
pub(super) fn owner(name: &str) -> String {
    if name == "@" { super::ZONE.to_owned() } else { format!("{name}.{}", super::ZONE) }
}

/// A value in the form of zone files.
pub(super) fn quoted(value: &str) -> String {
    format!("\"{value}\"")
}

/// The value of a text in the form of zone files, and nothing else.
pub(super) fn unquoted(text: &str) -> Option<String> {
    Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

/// Whoever names a wrong zone, or the wrong account for it, sees what the account has.
async fn zones_of_the_account_are_named(bench: &impl super::Bench) {
    let account = super::account(bench, &bench.table());
    let change = super::add_at(super::ELSEWHERE, "_acme-challenge.elsewhere.test.", "a");
    let error = account.provider.apply(super::ELSEWHERE, &[change]).await.unwrap_err();
    let problem = super::shown(&account, &error);
    assert_eq!(problem.code, "dns.zone-not-in-account", "{problem:?}");
    assert!(problem.message.contains("`social.test`"), "{problem:?}");
}

macro_rules! zones_are_named {
    ($($name:ident)*) => {
        mod zones_are_named {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::zones_of_the_account_are_named(&super::super::$name::bench()).await;
                }
            )*
        }
    };
}

zones_are_named! { cloudflare desec digitalocean gandi hetzner linode ovh route53 }

#[test]
fn slow_providers_get_more_time() {
    let secret = "{ file = \"/etc/certfleet/secrets/x\" }";
    let time = |provider, more: &str| {
        super::account_of(provider, &format!("token = {secret}\n{more}")).propagation_timeout.as_secs()
    };
    assert_eq!((time("linode", ""), time("gandi", ""), time("hetzner", "")), (1200, 1200, 120));
    assert_eq!(time("linode", "propagation-timeout = \"5m\"\n"), 300);
}
