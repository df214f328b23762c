//! What honest servers serve, rightly or not.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::model::desired::Host;

#[tokio::test]
async fn a_right_certificate_is_seen_and_trusted() {
    let ca = Ca::new();
    let key = KeyPair::generate().unwrap();
    let chain = ca.issue(&["shop.example.org"], YEAR, &key);
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let server = Server::with(vec![pair(chain.clone(), &key)], versions).await;
        let look = look(server.address, "shop.example.org", Some(KeyType::EcdsaP256), &ca.roots).await;
        assert_eq!((look.address, look.at, &look.name), (server.address, NOW, &domain("shop.example.org")));
        let served = served_by(&look);
        assert_eq!(served.fingerprint, Fingerprint::of(&chain[0]));
        assert_eq!(served.issuer, "Intermediate");
        assert_eq!(served.not_after.to_string(), "2027-01-01T00:00:00Z");
        assert_eq!(served.distrust, None);
    }
}

#[tokio::test]
async fn distrust_says_why() {
    let ca = Ca::new();
    let key = KeyPair::generate().unwrap();
    let chain = ca.issue(&["shop.example.org"], YEAR, &key);
    let server = Server::new(vec![pair(chain.clone(), &key)]).await;
    let roots = &ca.roots;

    let look = look_at(server.address, "shop.example.org", None, roots, NOW + YEAR).await;
    assert_eq!(distrust_of(&look), "it expired at 2027-01-01 00:00:00 UTC");
    let look = look_at(server.address, "shop.example.org", None, roots, NOW - YEAR).await;
    assert_eq!(distrust_of(&look), "it is not valid before 2026-01-01 00:00:00 UTC");
    let look = look_at(server.address, "blog.example.org", None, roots, NOW).await;
    assert_eq!(distrust_of(&look), "it is not for `blog.example.org` but for `shop.example.org`");

    server.serve(vec![pair(chain[..1].to_vec(), &key)]);
    let look = look_at(server.address, "shop.example.org", None, roots, NOW).await;
    assert_eq!(
        distrust_of(&look),
        "it comes without its chain, and its issuer `CN=Intermediate` is no trusted root"
    );
    server.serve(vec![pair(chain.clone(), &key)]);
    let look = look_at(server.address, "shop.example.org", None, &Ca::new().roots, NOW).await;
    assert_eq!(
        distrust_of(&look),
        "its chain does not lead from its issuer `CN=Intermediate` to a trusted root"
    );
    let own = params("own", &["shop.example.org"], YEAR).self_signed(&key).unwrap();
    server.serve(vec![pair(vec![own.der().clone()], &key)]);
    let look = look_at(server.address, "shop.example.org", None, roots, NOW).await;
    assert_eq!(distrust_of(&look), "it is self-signed");
}

#[test]
fn distrust_of_what_is_no_chain() {
    let ca = Ca::new();
    let name = domain("shop.example.org");
    assert_eq!(ca.roots.distrust(&[], &name, NOW).unwrap(), "there is no certificate");
    assert_eq!(ca.roots.distrust(&[vec![1, 2, 3]], &name, NOW).unwrap(), "it is not an X.509 certificate");
    let authority = [ca.intermediate.to_vec()];
    let reason = ca.roots.distrust(&authority, &name, NOW).unwrap();
    assert_eq!(reason, "it is the certificate of a CA, not of a server");
}

#[test]
fn a_wildcard_is_judged_by_a_name_under_it() {
    let ca = Ca::new();
    let key = KeyPair::generate().unwrap();
    let chain = ca.issue(&["*.example.org"], YEAR, &key);
    let chain: Vec<Vec<u8>> = chain.iter().map(|der| der.to_vec()).collect();
    assert_eq!(ca.roots.distrust(&chain, &domain("*.example.org"), NOW), None);
    assert!(ca.roots.distrust(&chain, &domain("example.org"), NOW).is_some());
}

#[tokio::test]
async fn a_certificate_of_an_old_kind_is_seen_and_not_trusted() {
    let ca = Ca::new();
    let key = KeyPair::generate().unwrap();
    let mut der = params("old", &["shop.example.org"], YEAR).self_signed(&key).unwrap().der().to_vec();
    // Version 2, which webpki does not read (RFC 5280 section 4.1.2.1).
    let version = der.windows(5).position(|bytes| bytes == [0xa0, 3, 2, 1, 2]).unwrap();
    der[version + 4] = 1;
    let server = Server::new(vec![pair(vec![der.clone().into()], &key)]).await;
    let look = look(server.address, "shop.example.org", None, &ca.roots).await;
    assert_eq!(served_by(&look).fingerprint, Fingerprint::of(&der));
    assert_eq!(distrust_of(&look), "it is self-signed");
}

#[tokio::test]
async fn of_two_certificates_the_one_of_the_wanted_key_type_is_seen() {
    let ca = Ca::new();
    let rsa_key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let ecdsa_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let rsa_chain = ca.issue(&["shop.example.org"], YEAR, &rsa_key);
    let ecdsa_chain = ca.issue(&["shop.example.org"], YEAR, &ecdsa_key);
    let (rsa, ecdsa) = (pair(rsa_chain.clone(), &rsa_key), pair(ecdsa_chain.clone(), &ecdsa_key));
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        for pairs in [[rsa.clone(), ecdsa.clone()], [ecdsa.clone(), rsa.clone()]] {
            let server = Server::with(pairs.to_vec(), versions).await;
            for (key, chain) in [
                (KeyType::EcdsaP384, &ecdsa_chain),
                (KeyType::EcdsaP256, &ecdsa_chain),
                (KeyType::Rsa2048, &rsa_chain),
                (KeyType::Rsa4096, &rsa_chain),
            ] {
                let look = look(server.address, "shop.example.org", Some(key), &ca.roots).await;
                assert_eq!(served_by(&look).fingerprint, Fingerprint::of(&chain[0]), "{key:?}");
            }
        }
        // The key type was changed in certs.toml, and the host still serves the old one.
        let server = Server::with(vec![rsa.clone()], versions).await;
        let look = look(server.address, "shop.example.org", Some(KeyType::EcdsaP256), &ca.roots).await;
        assert_eq!(served_by(&look).fingerprint, Fingerprint::of(&rsa_chain[0]));
    }
}

#[tokio::test]
async fn a_new_certificate_is_waited_for() {
    let ca = Ca::new();
    let key = KeyPair::generate().unwrap();
    let old = ca.issue(&["shop.example.org"], YEAR, &key);
    let new = ca.issue(&["shop.example.org"], YEAR * 2, &key);
    let server = Server::new(vec![pair(old.clone(), &key)]).await;
    let name = domain("shop.example.org");
    let question = Question { address: server.address, name: &name, key: None, roots: &ca.roots };
    let probe = Probe::new();
    let wanted = Fingerprint::of(&new[0]);

    let everywhere = Semaphore::new(1);
    let turns = Turns::new(&everywhere, 1);
    let until = |within| Until { fingerprint: wanted, times: 1, within, turns: &turns };
    let look = probe.until_serves(question, until(Duration::from_millis(200)), now).await.unwrap_err();
    assert_eq!(served_by(&look).fingerprint, Fingerprint::of(&old[0]));

    let waiting = probe.until_serves(question, until(Duration::from_secs(10)), now);
    let reloading = async {
        // For a moment old and new workers answer in turns.
        for turn in 0..6 {
            let chain = if turn % 2 == 0 { &old } else { &new };
            server.serve(vec![pair(chain.clone(), &key)]);
            sleep(Duration::from_millis(30)).await;
        }
    };
    let (waited, ()) = tokio::join!(waiting, reloading);
    assert_eq!(served_by(&waited.unwrap()).fingerprint, wanted);
}

#[tokio::test]
async fn two_certificates_that_take_turns_prove_neither() {
    let ca = Ca::new();
    let key = KeyPair::generate().unwrap();
    let [old, new] = [YEAR, YEAR * 2].map(|life| pair(ca.issue(&["a.org"], life, &key), &key));
    let wanted = Fingerprint::of(&new.cert[0]);
    // As two servers behind one address: five looks in a row show the new one, then one the old one.
    let server = Server::new(Vec::new()).await;
    let turns = [old, new.clone(), new.clone(), new.clone(), new.clone(), new.clone()];
    let (address, certificates) = (server.address, server.certificates.clone());
    let way = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = way.local_addr().unwrap();
    tokio::spawn(async move {
        for pair in turns.iter().skip(4).chain(turns.iter().cycle()) {
            let (mut near, _) = way.accept().await.unwrap();
            *certificates.0.lock().unwrap() = vec![pair.clone()];
            let mut far = TcpStream::connect(address).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    });
    let (everywhere, name) = (Semaphore::new(10), domain("a.org"));
    let turns = Turns::new(&everywhere, 10);
    let question = Question { address: at, name: &name, key: None, roots: &ca.roots };
    let until =
        Until { fingerprint: wanted, times: TIMES, within: Duration::from_millis(800), turns: &turns };
    Probe::new().until_serves(question, until, now).await.unwrap_err();
}

#[tokio::test]
async fn until_something_is_loaded_one_name_looks_for_all() {
    let ca = Ca::new();
    let key = KeyPair::generate().unwrap();
    let [old, new] = [YEAR, YEAR * 2].map(|life| pair(ca.issue(&["*.a.org"], life, &key), &key));
    let fingerprint = Fingerprint::of(&new.cert[0]);
    let server = Server::new(vec![old]).await;
    let (address, certificates) = (server.address, server.certificates.clone());
    let way = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = way.local_addr().unwrap();
    let looks = Arc::new(AtomicUsize::new(0));
    let came = looks.clone();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = way.accept().await.unwrap();
            if came.fetch_add(1, Ordering::Relaxed) == 3 {
                *certificates.0.lock().unwrap() = vec![new.clone()];
            }
            tokio::spawn(async move {
                let mut far = TcpStream::connect(address).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let everywhere = Semaphore::new(10);
    let turns = Turns::new(&everywhere, 8);
    let names: Vec<_> = (0..20).map(|number| domain(&format!("n{number}.a.org"))).collect();
    let (probe, within) = (Probe::new(), Duration::from_secs(10));
    let waiting = names.iter().map(|name| {
        let question = Question { address: at, name, key: None, roots: &ca.roots };
        probe.until_serves(question, Until { fingerprint, times: 1, within, turns: &turns }, now)
    });
    assert!(join_all(waiting).await.iter().all(Result::is_ok));
    assert_eq!(looks.load(Ordering::Relaxed), 3 + names.len());
}

#[tokio::test]
async fn waiting_for_a_turn_is_not_held_against_the_host() {
    let ca = Ca::new();
    let key = KeyPair::generate().unwrap();
    let chain = ca.issue(&["shop.example.org"], YEAR, &key);
    let server = Server::new(vec![pair(chain.clone(), &key)]).await;
    let name = domain("shop.example.org");
    let question = Question { address: server.address, name: &name, key: None, roots: &ca.roots };
    let (fingerprint, within) = (Fingerprint::of(&chain[0]), Duration::from_millis(100));

    let everywhere = Semaphore::new(1);
    let turns = Turns::new(&everywhere, 1);
    let busy = everywhere.acquire().await.unwrap();
    let probe = Probe::new();
    let waiting = probe.until_serves(question, Until { fingerprint, times: 3, within, turns: &turns }, now);
    let other_work = async {
        sleep(within * 3).await;
        drop(busy);
    };
    let (waited, ()) = tokio::join!(waiting, other_work);
    assert_eq!(served_by(&waited.unwrap()).fingerprint, fingerprint);
}

#[tokio::test]
async fn addresses_come_from_certs_toml_or_the_system() {
    let host = |address: &str, verify: Vec<SocketAddr>| Host {
        name: "web1".parse().unwrap(),
        address: address.to_owned(),
        port: 22,
        user: "root".to_owned(),
        via: None,
        access: Default::default(),
        sudo: false,
        receiver: false,
        local: false,
        identity: Vec::new(),
        host_key: Vec::new(),
        known_hosts: Vec::new(),
        directory: "/etc/letsencrypt/live".to_owned(),
        layout: Default::default(),
        files: Vec::new(),
        test: String::new(),
        reload: String::new(),
        verify,
    };
    let verify: Vec<SocketAddr> = vec!["192.0.2.1:8443".parse().unwrap()];
    assert_eq!(addresses(&host("nowhere.invalid", verify.clone())).await.unwrap(), verify);
    for (address, expected) in [("127.0.0.7", "127.0.0.7:443"), ("::1", "[::1]:443")] {
        let found = addresses(&host(address, Vec::new())).await.unwrap();
        assert_eq!(found, [expected.parse().unwrap()]);
    }
    let error = addresses(&host("no such name", Vec::new())).await.unwrap_err();
    assert!(error.to_string().contains("`web1`"), "{error}");
    assert!(has_route(&"127.0.0.1:443".parse().unwrap()));
}

#[test]
fn roots_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roots.pem");
    assert!(matches!(Roots::from_pem(&path), Err(RootsError::Read { .. })));
    for (text, code) in [("# nothing\n", "none"), ("AAAA", "bad"), ("!!!!", "unreadable")] {
        let text = match code {
            "none" => text.to_owned(),
            _ => format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"),
        };
        std::fs::write(&path, text).unwrap();
        let found = match Roots::from_pem(&path).unwrap_err() {
            RootsError::NoCertificate(_) => "none",
            RootsError::BadCertificate { .. } => "bad",
            RootsError::Read { .. } => "unreadable",
            RootsError::NoSystemRoots(_) => "system",
        };
        assert_eq!(found, code);
    }
}

#[tokio::test]
async fn what_comes_with_it_and_ends_before_it_is_seen_unless_there_is_another_way() {
    let ca = Ca::new();
    let key = KeyPair::generate().unwrap();
    // Longer than the intermediate.
    let server = Server::new(vec![pair(ca.issue(&["shop.example.org"], DECADE * 2, &key), &key)]).await;
    let seen = look(server.address, "shop.example.org", None, &ca.roots).await;
    let end = served_by(&seen).chain_end.clone().expect("it ends before");
    assert_eq!((end.name.as_str(), end.not_after), ("Intermediate", "2035-12-30T00:00:00Z".parse().unwrap()));

    let stray = params("Stray", &[], SignedDuration::from_hours(24 * 200)).self_signed(&key).unwrap();
    let mut chain = ca.issue(&["shop.example.org"], YEAR, &key);
    server.serve(vec![pair(chain.clone(), &key)]);
    let seen = look(server.address, "shop.example.org", None, &ca.roots).await;
    assert_eq!(served_by(&seen).chain_end, None);
    chain.push(stray.der().clone());
    server.serve(vec![pair(chain, &key)]);
    let seen = look(server.address, "shop.example.org", None, &ca.roots).await;
    assert_eq!((&served_by(&seen).distrust, &served_by(&seen).chain_end), (&None, &None));
}
