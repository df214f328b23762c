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
