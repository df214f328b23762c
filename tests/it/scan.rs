//! What exists on hosts, whoever put it there.

use std::fs;

use serde_json::Value;

use crate::tool::certfleet;
use crate::world::World;
use crate::world::made::{Authority, DAY};

pub(crate) mod lying;

const OURS: &str = "media.social.test";

fn certificate<'a>(scan: &'a Value, host: &str, part: &str) -> &'a Value {
    let hosts = scan["hosts"].as_array().unwrap();
    let host = hosts.iter().find(|of| of["host"] == host).unwrap_or_else(|| panic!("no {host} in {scan:#}"));
    let found = host["certificates"].as_array().unwrap();
    let mut fits = found.iter().filter(|found| found["path"].as_str().unwrap().contains(part));
    let one = fits.next().unwrap_or_else(|| panic!("no {part} in {host:#}"));
    assert!(fits.next().is_none(), "several {part} in {host:#}");
    one
}

fn flags(found: &Value) -> Vec<&str> {
    found["flags"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap()).collect()
}

#[test]
fn everything_is_found_and_called_by_its_name() {
    let world = World::builder().hosts(&["sally", "esme"]).site(&[OURS]).start().unwrap();
    let config =
        world.config(&format!("[[certificate]]\ndomains = [\"{OURS}\"]\nhosts = [\"sally\"]\n")).unwrap();
    let (sally, esme) = (world.host("sally"), world.host("esme"));
    let authority = Authority::new("some CA").unwrap();
    let issue = |domains: &[&str]| authority.issue(domains, -DAY, 80 * DAY).unwrap();
    // Used, and nobody's business but that of whoever put it there; on both hosts.
    let shop = issue(&["shop.social.test", "*.shop.social.test"]);
    for host in [sally, esme] {
        host.install("shop", &shop).unwrap();
        host.add_server("shop", &["shop.social.test", "a.shop.social.test"]).unwrap();
    }
    // Not used; two for the same domains; one with the key of another.
    sally.install("twin-1", &issue(&["twin.social.test"])).unwrap();
    sally.install("twin-2", &issue(&["twin.social.test"])).unwrap();
    let mut other_key = issue(&["key.social.test"]);
    other_key.key = issue(&["x.social.test"]).key;
    sally.install("other-key", &other_key).unwrap();
    // In a folder of nginx's own, by a path from there, and a name that it is not for.
    fs::create_dir(sally.root.join("nginx/tls")).unwrap();
    let wiki = issue(&["wiki.social.test"]);
    fs::write(sally.root.join("nginx/tls/wiki.crt"), &wiki.leaf).unwrap();
    fs::write(sally.root.join("nginx/tls/wiki.key"), &wiki.key).unwrap();
    let block = format!(
        "server {{ listen {} ssl; server_name wiki.social.test old.social.test;\n\
         ssl_certificate tls/wiki.crt; ssl_certificate_key tls/wiki.key; }}\n",
        sally.tls()
    );
    fs::write(sally.root.join("nginx/sites/wiki.conf"), block).unwrap();
    certfleet(&config, &["renew"]).ended(0);
    // Ours, carried by hand to where certs.toml does not send it.
    for file in ["fullchain.pem", "privkey.pem"] {
        let text = fs::read(sally.live.join(OURS).join(file)).unwrap();
        let place = esme.live.join(OURS).join(file);
        fs::remove_file(&place).unwrap();
        fs::write(&place, text).unwrap();
    }
    fs::remove_file(esme.live.join(OURS).join("cert.pem")).unwrap();
    let (reloads, tests) = (sally.reloads(), sally.tests());

    let run = certfleet(&config, &["scan", "--json"]).ended(0);

    let scan = run.json();
    let of = |host: &str, part: &str| flags(certificate(&scan, host, part)).join(" ");
    assert_eq!(of("sally", OURS), "managed");
    assert_eq!(of("esme", OURS), "not-listed");
    assert_eq!(of("sally", "/shop/"), "unmanaged");
    assert_eq!(certificate(&scan, "sally", "/shop/")["elsewhere"], serde_json::json!(["esme"]));
    assert_eq!(of("sally", "twin-1"), "unmanaged orphaned duplicate");
    assert_eq!(of("sally", "twin-2"), "unmanaged orphaned duplicate");
    assert_eq!(of("sally", "other-key"), "unmanaged orphaned key-mismatch");
    assert_eq!(of("sally", "wiki.crt"), "unmanaged");
    let uncovered = &scan["hosts"][1]["names-without-certificate"];
    assert_eq!(*uncovered, serde_json::json!([{ "name": "old.social.test", "tls": true }]));
    let entries: Vec<&str> =
        scan["entries"].as_array().unwrap().iter().map(|entry| entry.as_str().unwrap()).collect();
    assert_eq!(entries.len(), 3, "{entries:#?}");
    let shop = entries.iter().find(|entry| entry.contains("\"shop.social.test\"")).unwrap();
    assert!(shop.contains("hosts = [\"esme\", \"sally\"]"), "{shop}");
    // Only looks, and no key leaves a host.
    assert!(!run.out.contains("PRIVATE KEY") && !run.err.contains("PRIVATE KEY"));
    assert_eq!((sally.reloads(), sally.tests()), (reloads, tests));
    assert_eq!(sally.connections(), 2);

    // What was printed can be pasted.
    let pasted =
        format!("[[certificate]]\ndomains = [\"{OURS}\"]\nhosts = [\"sally\"]\n{}", entries.join("\n"));
    let config = world.config(&pasted).unwrap();
    certfleet(&config, &["plan"]).ended(3).printed("issue     shop.social.test");

    sally.break_config().unwrap();
    esme.stop_sshd();
    let table = certfleet(&config, &["scan"]).ended(1);
    let table = table.printed("what is used is not known").printed("`esme` refuses connections");
    assert!(table.out.contains("twin-1") && !table.out.contains("orphaned"), "{}", table.out);
    certfleet(&config, &["scan", "salyl"]).ended(2).said("did you mean `sally`?");
}

#[test]
fn what_is_printed_can_be_pasted_where_there_are_no_defaults() {
    let world = World::builder().hosts(&["sally"]).site(&[OURS]).start().unwrap();
    let sally = world.host("sally");
    let authority = Authority::new("some CA").unwrap();
    for (name, server) in [("shop", "a.shop.social.test"), ("wiki", "_")] {
        let domain = format!("*.{name}.social.test");
        sally.install(name, &authority.issue(&[&domain], -DAY, 80 * DAY).unwrap()).unwrap();
        sally.add_server(name, &[server]).unwrap();
    }
    let more = "[issuer.other]\ndirectory = \"https://other.test/dir\"\ncontact = [\"a@social.test\"]\n\
                accept-terms = true\n[dns.other]\nprovider = \"exec\"\ncommand = \"/bin/true\"\n\
                [[certificate]]\ndomains = [\"x.social.test\"]\nhosts = []\nissuer = \"pebble\"\ndns = \"main\"\n";
    let config = world.config(more).unwrap();

    let scan = certfleet(&config, &["scan", "--json"]).ended(0).json();

    let entries: Vec<&str> =
        scan["entries"].as_array().unwrap().iter().map(|entry| entry.as_str().unwrap()).collect();
    assert!(entries[2].contains("verify-names = [\"a.shop.social.test\"]"), "{entries:#?}");
    assert!(entries[3].contains("verify-names = []"), "{entries:#?}");
    let config = world.config(&format!("{more}{}", entries.join("\n"))).unwrap();
    let plan = certfleet(&config, &["plan"]).ended(3);
    plan.printed("issue     shop.social.test").printed("issue     wiki.social.test");
}

#[test]
fn expired_ones_and_what_will_be_replaced_are_said_to_be_so() {
    let world = World::builder().hosts(&["sally"]).site(&[OURS]).start().unwrap();
    let config =
        world.config(&format!("[[certificate]]\ndomains = [\"{OURS}\"]\nhosts = [\"sally\"]\n")).unwrap();

    let scan = certfleet(&config, &["scan", "sally", "--json"]).ended(0).json();

    assert!(!world.store().exists(), "looking made a store");
    assert_eq!(flags(certificate(&scan, "sally", OURS)), ["to-be-replaced", "expired"]);
    assert_eq!(certificate(&scan, "sally", OURS)["used-by"], serde_json::json!([OURS]));
}
