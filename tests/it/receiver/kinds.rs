//! The receiver where nginx includes a file for each certificate, and where haproxy takes a file of its own.

use super::*;
use crate::haproxy;

#[test]
fn what_nginx_includes_is_switched_and_put_back_by_the_installed_way() {
    let world = World::builder().hosts(&["edge"]).site(&[NAME]).start().unwrap();
    let extra = Extra { host: "receiver = true\nlayout = \"include\"", ..Extra::default() };
    let config = world.config_with(&extra, CERTIFICATE).unwrap();
    install(&world, &config);
    let host = world.host("edge");
    certfleet(&config, &["renew"]).ended(0);
    // The first time through the paths, as it was; from then on by the file.
    let site = host.root.join("nginx/sites").join(format!("{NAME}.conf"));
    let text = fs::read_to_string(&site).unwrap();
    let line = certfleet(&config, &["--json", "host", "setup", "edge"]).ended(0).json();
    let line = line["includes"][0].as_str().unwrap().to_owned();
    let others: String = text
        .lines()
        .filter(|line| !line.contains("ssl_certificate"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&site, others.replacen("{\n", &format!("{{\n{line}\n"), 1)).unwrap();
    host.reload_quietly().unwrap();

    certfleet(&config, &["renew", "--force"]).ended(0);
    let (version, served) = (current(host), host.served(NAME).unwrap());
    let included = || fs::read_to_string(host.live.join(format!("{NAME}.conf"))).unwrap();
    assert!(version.to_string_lossy().starts_with("2-"), "{version:?}");
    assert!(included().contains(version.to_str().unwrap()), "{}", included());

    host.set_reload(Script::Lies).unwrap();
    certfleet(&config, &["renew", "--force"]).ended(1).said("the version before is back");
    assert!(included().contains(version.to_str().unwrap()), "{}", included());
    host.set_reload(Script::Works).unwrap();
    host.stop_nginx();
    host.start_nginx().unwrap();
    assert_eq!(host.served(NAME).unwrap().leaf(), served.leaf());
    certfleet(&config, &["deploy"]).ended(0);
    assert!(current(host).to_string_lossy().starts_with("3-"));
    assert!(included().contains(current(host).to_str().unwrap()));
}

#[test]
fn haproxy_gets_its_file_by_the_installed_way() {
    let edge = haproxy::start();
    haproxy::edit(&edge.config, "[host.edge]\n", "[host.edge]\nreceiver = true\n");
    install(&edge.world, &edge.config);
    let before = edge.served();
    assert!(before.expired());

    certfleet(&edge.config, &["renew"]).ended(0);
    let served = edge.served();
    assert!(!served.expired() && served.chain.len() > 1);

    // The reload that counts is the one in root's file.
    let conf = edge.world.host("edge").root.join("receive.conf");
    let text = fs::read_to_string(&conf).unwrap();
    let reload = text.lines().find(|line| line.starts_with("reload ")).unwrap();
    fs::write(&conf, text.replace(reload, "reload true")).unwrap();
    let combined = edge.combined();
    certfleet(&edge.config, &["renew", "--force"]).ended(1).said("the version before is back");
    assert_eq!(edge.combined(), combined);
    edge.assert_starts_with(served.leaf());

    fs::write(&conf, &text).unwrap();
    certfleet(&edge.config, &["deploy"]).ended(0);
    assert_ne!(edge.served().leaf(), served.leaf());
    let newest = edge.served();
    edge.assert_starts_with(newest.leaf());
}
