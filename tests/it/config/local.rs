//! Hosts that are this machine itself.

use super::read;
use super::wrong::{with, wrong};

const LOCAL: &str = r#"
[issuer.letsencrypt]
contact = ["me@example.org"]
accept-terms = true

[dns.zone]
provider = "exec"
command = "/etc/certfleet/dns-hook"

[host.here]
kind = "local"

[[certificate]]
domains = ["example.org", "www.example.org"]
hosts = ["here"]
"#;

#[test]
fn a_table_with_its_kind_is_enough() {
    let config = read(LOCAL).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let host = config.desired.hosts.values().next().unwrap();
    assert!(host.local && !host.sudo && host.via.is_none() && host.identity.is_empty());
    assert_eq!((host.directory.as_str(), host.verify.len()), ("/etc/letsencrypt/live", 0));
    // What the defaults say of SSH is for the other hosts.
    let defaults = "[host-defaults]\nuser = \"deploy\"\nport = 2222\nidentity = \"/key\"\n[host.here]";
    let config = read(&LOCAL.replace("[host.here]", defaults)).unwrap();
    let host = config.desired.hosts.values().next().unwrap();
    assert!(!host.sudo && host.user != "deploy" && host.port == 22 && host.identity.is_empty());
}

#[test]
fn ssh_and_local_are_all_kinds() {
    assert!(
        read(&with("[host.web1]", "kind = \"ssh\"")).is_ok_and(|config| !config
            .desired
            .hosts
            .values()
            .any(|host| host.local))
    );
    wrong(&with("[host.web1]", "kind = \"docker\""), "a host is \"ssh\" or \"local\"");
    let defaults = LOCAL.replace("[host.here]", "[host-defaults]\nkind = \"local\"\n[host.here]");
    wrong(&defaults, "`kind` cannot be the same for all hosts");
}

#[test]
fn what_is_of_ssh_is_a_mistake_here() {
    for (key, value) in [
        ("address", "\"192.0.2.1\""),
        ("port", "22"),
        ("user", "\"root\""),
        ("via", "\"here\""),
        ("identity", "\"/key\""),
        ("passphrase", "{ file = \"/x\" }"),
        ("host-key", "[]"),
        ("known-hosts", "[\"x\"]"),
    ] {
        let text = LOCAL.replace("\"local\"", &format!("\"local\"\n{key} = {value}"));
        wrong(
            &text,
            &format!("`{key}` has no meaning with `kind = \"local\"`: this machine is not reached by SSH"),
        );
    }
    let through = LOCAL.replace("[[cert", "[host.web1]\nvia = \"here\"\n[[cert");
    wrong(&through, "which is this machine itself");
}
