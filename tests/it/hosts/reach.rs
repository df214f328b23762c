//! Addresses that the controller can look at, and those that it cannot.

use super::*;

#[test]
fn a_port_that_was_never_to_be_reached_is_no_reason_to_put_back() {
    let world = world(&["edge"]);
    let host = world.host("edge");
    let config = world.config(CERTIFICATE).unwrap();
    let nobody = format!("verify = [\"{}:443\"]", world.spare_address(1));
    edit(&config, &format!("verify = [\"{}\"]", host.tls()), &nobody);

    certfleet(&config, &["renew"]).printed("no TLS answer");

    let served = host.served(NAME).unwrap();
    assert!(!served.expired(), "it was put back");
    assert!(current(host).to_string_lossy().starts_with("1-"), "{:?}", current(host));
}

#[test]
fn a_port_that_answered_before_is_a_reason_to_put_back() {
    let world = world(&["edge"]);
    let host = world.host("edge");
    let config = world.config(CERTIFICATE).unwrap();
    // A reload after which nobody listens any more: nothing but the look from outside tells.
    let pid = host.root.join("nginx/nginx.pid");
    let stop = format!("reload = \"[ ! -e {0} ] || kill $(cat {0}) || true\"", pid.display());
    edit(&config, &format!("reload = {:?}", host.reload_command), &stop);

    certfleet(&config, &["renew"]).ended(1).said("the version before is back");

    assert_eq!(current(host), Path::new("0-before"));
}

#[test]
fn every_address_that_is_named_has_to_serve_it() {
    let world = world(&["edge", "core"]);
    let (edge, core) = (world.host("edge"), world.host("core"));
    let config =
        world.config("[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"edge\"]\n").unwrap();
    let both = format!("verify = [\"{}\", \"{}\"]", edge.tls(), core.tls());
    edit(&config, &format!("verify = [\"{}\"]", edge.tls()), &both);

    certfleet(&config, &["renew"]).ended(1).said(&core.tls().to_string()).said("the version before is back");

    assert_eq!(current(edge), Path::new("0-before"));
}

#[test]
fn an_ipv6_address_is_looked_at_like_any_other() {
    let Ok(free) = std::net::TcpListener::bind("[::1]:0") else {
        println!("this machine has no IPv6: not tried");
        return;
    };
    let at = free.local_addr().unwrap();
    drop(free);
    let world = world(&["edge"]);
    let host = world.host("edge");
    let site = host.root.join("nginx/sites").join(format!("{NAME}.conf"));
    let listen = format!("listen {} ssl;", host.tls());
    edit(&site, &listen, &format!("{listen}\n    listen {at} ssl;"));
    host.stop_nginx();
    host.start_nginx().unwrap();
    let config = world.config(CERTIFICATE).unwrap();
    edit(
        &config,
        &format!("verify = [\"{}\"]", host.tls()),
        &format!("verify = [\"{}\", \"{at}\"]", host.tls()),
    );

    certfleet(&config, &["renew"]).ended(0);

    let report = certfleet(&config, &["report", "--json"]).ended(0).json();
    let addresses = report["certificates"][0]["hosts"][0]["addresses"].as_array().unwrap();
    let serving: Vec<_> = addresses.iter().filter(|address| address["standing"] == "serving").collect();
    assert_eq!(serving.len(), 2, "{addresses:?}");
    assert!(serving.iter().any(|address| address["address"] == at.to_string()), "{addresses:?}");
}
