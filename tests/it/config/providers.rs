//! Mistakes in the accounts of single providers.

use super::GOOD;
use super::wrong::{mistakes, wrong};

/// The good file with another account.
fn account(table: &str) -> String {
    let (start, end) = (GOOD.find("provider").unwrap(), GOOD.find("[host.web1]").unwrap());
    format!("{}{table}\n{}", &GOOD[..start], &GOOD[end..])
}

#[test]
fn each_provider_says_what_it_needs() {
    for (table, needed) in [
        ("provider = 'exec'", &["command"][..]),
        ("provider = 'httpreq'", &["endpoint"]),
        ("provider = 'acme-dns'", &["server", "subdomain", "fulldomain", "username", "password"]),
        ("provider = 'powerdns'", &["api", "api-key"]),
    ] {
        let list = mistakes(&account(table));
        let said: Vec<String> = list.iter().map(|mistake| mistake.summary().to_string()).collect();
        let expected: Vec<String> = needed.iter().map(|key| format!("dns \"main\" needs `{key}`")).collect();
        assert_eq!(said, expected);
    }
}

#[test]
fn wrong_values_are_refused_with_their_remedy() {
    let httpreq = |more: &str| account(&format!("provider = 'httpreq'\n{more}"));
    for (endpoint, part) in [
        ("http://192.0.2.1:8080", "over http within this machine"),
        ("http://dns.example.org", "put a TLS proxy before it"),
        ("dns.example.org", "it is not a URL"),
        ("https://me:hunter2@dns.example.org", "must not contain a user, a password"),
        ("https://dns.example.org/?a=b", "a query or a fragment"),
        ("ftp://dns.example.org", "secrets go over https only"),
    ] {
        wrong(&httpreq(&format!("endpoint = '{endpoint}'")), part);
    }
    let with = |more: &str| httpreq(&format!("endpoint = 'https://dns.example.org'\n{more}"));
    wrong(&with("mode = 'row'"), "\"default\" (name and value of the record)");
    wrong(&with("timeout = '0s'"), "it goes from 1 second to 5 minutes");
    wrong(&with("timeout = '6m'"), "it goes from 1 second to 5 minutes");
    wrong(&with("username = 'me'"), "has `username` or `password` without the other");
    wrong(&with("password = { env = 'P' }"), "has `username` or `password` without the other");
    wrong(&with("username = 'a:b'\npassword = { env = 'P' }"), "a user has no colon");
    wrong(&with("username = 'me'\npassword = 'hunter2'"), "it is never written in certs.toml");
    wrong(&with("pasword = { env = 'P' }"), "did you mean \"password\"?");
    wrong(&account("provider = 'exec'\ncommand = ''"), "a path cannot be empty");
    wrong(&account("provider = 'exec'\ncommand = ['a', 'b']"), "`command` must be a string");
    let console = "provider = 'hetzner'\napi = 'https://dns.hetzner.com/api/v1'\ntoken = { env = 'T' }";
    wrong(&account(console), "move the zones to the Cloud Console");
    wrong(&account("provider = 'acme_dns'"), "did you mean \"acme-dns\"?");
    wrong(
        &account("provider = 'powerdns'\napi = 'https://d.example'\napi-key = { env = 'K' }\nserver-id = ''"),
        "PowerDNS itself is `localhost`",
    );
}

#[test]
fn a_password_in_a_url_is_not_shown() {
    for url in
        ["https://me:hunter2@dns.example.org", "me:hunter2@dns", "https://dns.example.org/?key=hunter2"]
    {
        let text = account(&format!("provider = 'httpreq'\nendpoint = '{url}'"));
        let shown = super::read(&text).unwrap_err().to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
