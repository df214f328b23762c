//! What a deployment comes to, with an nginx that works and one that does not.

use super::*;

#[test]
fn an_expired_certificate_is_replaced_and_proven() {
    let world = one_host();
    let host = world.host("edge");
    assert!(host.served(NAME).unwrap().expired());
    let pair = fresh(NAME);
    let result = deployed(host, &[bundle(NAME, 1, &pair)]);
    let [Deployed::Served { proof }] = &result[..] else { panic!("{result:?}") };
    assert_eq!(proof.addresses.len(), 1);
    assert!(serves(host, NAME, &pair));
    assert_eq!((host.connections(), host.tests(), host.reloads()), (1, 2, 1));
    let version = host.live.join(".certfleet").join(NAME).join("current");
    assert_eq!(mode(&version.join("privkey.pem")), 0o600);
    assert_eq!(mode(&version), 0o700);
    assert!(host.root.join("archive").join(NAME).join("privkey1.pem").exists(), "certbot's archive stays");

    // The next one, over the same paths.
    let next = fresh(NAME);
    let result = deployed(host, &[bundle(NAME, 2, &next)]);
    assert!(matches!(result[..], [Deployed::Served { .. }]), "{result:?}");
    assert!(serves(host, NAME, &next));
    // Its own links need no look before: what is wrong with the host shows as soon as ours are back.
    assert_eq!((host.tests(), host.reloads()), (3, 2));
}

#[test]
fn many_certificates_are_one_connection_and_one_reload() {
    let names: Vec<String> = (0..40).map(|n| format!("n{n}.social.test")).collect();
    let mut builder = World::builder().hosts(&["edge"]);
    for name in &names {
        builder = builder.site(&[name]);
    }
    let world = builder.start().unwrap();
    let host = world.host("edge");
    let pairs: Vec<Pair> = names.iter().map(|name| fresh(name)).collect();
    let bundles: Vec<Bundle> = names.iter().zip(&pairs).map(|(name, pair)| bundle(name, 1, pair)).collect();
    let begun = Instant::now();
    let result = deployed(host, &bundles);
    println!("{} certificates in {:?}", names.len(), begun.elapsed());
    assert!(result.iter().all(|deployed| matches!(deployed, Deployed::Served { .. })), "{result:?}");
    assert_eq!((host.connections(), host.tests(), host.reloads()), (1, 2, 1));
}

#[test]
fn a_pair_that_does_not_match_never_gets_near_the_configuration() {
    let world = World::builder().hosts(&["edge"]).site(&[NAME]).site(&["b.social.test"]).start().unwrap();
    let host = world.host("edge");
    let (good, mut bad) = (fresh("b.social.test"), fresh(NAME));
    bad.key = fresh(NAME).key;
    let result = deployed(host, &[bundle(NAME, 1, &bad), bundle("b.social.test", 1, &good)]);
    let Deployed::Failed { problem } = &result[0] else { panic!("{result:?}") };
    assert_eq!(problem.code, "deploy.refused");
    assert!(problem.message.contains("key values mismatch"), "{}", problem.one_line());
    assert!(matches!(result[1], Deployed::Served { .. }), "{result:?}");
    assert!(host.served(NAME).unwrap().expired(), "the old one stays");
    assert_eq!(host.reloads(), 1);
}

#[test]
fn a_host_that_was_broken_before_is_left_alone() {
    let world = one_host();
    let host = world.host("edge");
    host.break_config().unwrap();
    let result = deployed(host, &[bundle(NAME, 1, &fresh(NAME))]);
    let [Deployed::Failed { problem }] = &result[..] else { panic!("{result:?}") };
    assert_eq!(problem.code, "deploy.host-broken");
    assert!(problem.one_line().contains("this_is_no_directive"), "{}", problem.one_line());
    assert_eq!(host.reloads(), 0);
    let privkey = host.live.join(NAME).join("privkey.pem");
    assert!(fs::read_link(privkey).unwrap().starts_with("../../archive"), "not even taken over");
}

#[test]
fn what_is_not_served_is_put_back() {
    let world = one_host();
    let host = world.host("edge");
    let old = host.served(NAME).unwrap();
    // Like a reload that cannot bind a port: it ends well and changes nothing.
    host.set_reload(Script::Lies).unwrap();
    let result = deployed(host, &[bundle(NAME, 1, &fresh(NAME))]);
    let [Deployed::RolledBack { problem }] = &result[..] else { panic!("{result:?}") };
    assert_eq!(problem.code, "deploy.not-served");
    assert!(problem.one_line().contains(&old.serial), "{}", problem.one_line());
    assert!(problem.message.contains("the version before is back"), "{}", problem.message);
    assert_eq!(host.served(NAME).unwrap(), old);
    let current = fs::read_link(host.live.join(".certfleet").join(NAME).join("current")).unwrap();
    assert_eq!(current, Path::new("0-before"));
    // As soon as the reload works, so does the deploy.
    host.set_reload(Script::Works).unwrap();
    let pair = fresh(NAME);
    assert!(matches!(deployed(host, &[bundle(NAME, 2, &pair)])[..], [Deployed::Served { .. }]));
}

#[test]
fn a_failing_reload_is_rolled_back() {
    let world = one_host();
    let host = world.host("edge");
    host.set_reload(Script::Fails).unwrap();
    let result = deployed(host, &[bundle(NAME, 1, &fresh(NAME))]);
    let [Deployed::RolledBack { problem }] = &result[..] else { panic!("{result:?}") };
    assert_eq!(problem.code, "deploy.reload");
    assert!(problem.one_line().contains("told to fail"), "{}", problem.one_line());
    assert!(host.served(NAME).unwrap().expired());
}

#[test]
fn a_stopped_nginx_is_not_started_and_finds_the_new_one() {
    let world = one_host();
    let host = world.host("edge");
    host.stop_nginx();
    let pair = fresh(NAME);
    let result = deployed(host, &[bundle(NAME, 1, &pair)]);
    let [Deployed::Pending { problem }] = &result[..] else { panic!("{result:?}") };
    assert_eq!(problem.code, "deploy.not-running");
    assert!(host.served(NAME).is_err(), "not for us to start");
    host.start_nginx().unwrap();
    assert!(serves(host, NAME, &pair));
}

#[test]
fn the_first_installation_waits_for_somebody_to_use_it() {
    let world = World::builder().hosts(&["edge"]).start().unwrap();
    let host = world.host("edge");
    let pair = fresh(NAME);
    let result = deployed(host, &[bundle(NAME, 1, &pair)]);
    let [Deployed::Pending { problem }] = &result[..] else { panic!("{result:?}") };
    assert_eq!(problem.code, "deploy.unused");
    let uses = format!("nothing on `edge` uses {}/{NAME} yet", host.live.display());
    assert_eq!(problem.message, uses);
    host.add_server(NAME, &[NAME]).unwrap();
    // The same again is what a later pass would send: it reloads, and is proven.
    let result = deployed(host, &[bundle(NAME, 1, &pair)]);
    assert!(matches!(result[..], [Deployed::Served { .. }]), "{result:?}");
}

#[test]
fn a_config_that_names_a_certificate_before_it_is_there_gets_it() {
    let world = World::builder().hosts(&["edge"]).start().unwrap();
    let host = world.host("edge");
    host.add_server(NAME, &[NAME]).unwrap();
    let result = deployed(host, &[bundle(NAME, 1, &fresh(NAME))]);
    assert!(matches!(result[..], [Deployed::Served { .. }]), "{result:?}");
}

#[test]
fn a_full_disk_leaves_what_is_there() {
    let world = one_host();
    let host = world.host("edge");
    let mut wanted = wanted(host);
    // Every write there fails, and not for lack of rights: those do not bind root.
    wanted.directory = "/proc/certfleet".to_owned();
    let error = wait(async {
        let session = session(&wanted).await;
        session.install(&wanted, &[bundle(NAME, 1, &fresh(NAME))]).await.unwrap_err()
    });
    let InstallError::Stopped { what: Stop::Directory, reason, .. } = &error else { panic!("{error:?}") };
    assert!(reason.contains("/proc/certfleet"), "{reason}");
    assert!(host.served(NAME).unwrap().expired());
}

#[test]
fn putting_back_what_is_another_by_now_does_nothing() {
    let world = one_host();
    let host = world.host("edge");
    let wanted = wanted(host);
    let pair = fresh(NAME);
    deployed(host, &[bundle(NAME, 1, &pair)]);
    let put_back = PutBack {
        certificate: NAME.parse().unwrap(),
        installed: "7-00000000".to_owned(),
        previous: "0-before".to_owned(),
    };
    let results = wait(async { session(&wanted).await.put_back(&wanted, &[put_back]).await.unwrap() });
    assert!(results[0].as_ref().unwrap_err().to_string().contains("by now"), "{results:?}");
    assert!(serves(host, NAME, &pair));
}

#[test]
fn a_chain_of_a_ca_is_installed_with_it() {
    let world = one_host();
    let host = world.host("edge");
    let authority = Authority::new("a CA").unwrap();
    let pair = authority.issue(&[NAME], -DAY, 90 * DAY).unwrap();
    deployed(host, &[bundle(NAME, 1, &pair)]);
    assert_eq!(host.served(NAME).unwrap().chain.len(), 2);
}
