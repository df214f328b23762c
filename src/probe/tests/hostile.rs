//! Servers that do not serve, or not TLS, or far too much of it.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn finding(address: SocketAddr) -> Problem {
    let roots = Ca::new().roots;
    let started = Instant::now();
    let look = look(address, "shop.example.org", Some(KeyType::EcdsaP256), &roots).await;
    assert!(started.elapsed() < Duration::from_secs(10), "{look:?}");
    match look.seen {
        Seen::Unreachable(problem) => problem,
        Seen::Serving(served) => panic!("{served:?}"),
    }
}

/// Reads the ClientHello, then sends this for ever, or once.
async fn answers(bytes: Vec<u8>, for_ever: bool) -> SocketAddr {
    raw(move |mut connection| {
        let bytes = bytes.clone();
        async move {
            let _ = connection.read(&mut [0; 4096]).await;
            while connection.write_all(&bytes).await.is_ok() && for_ever {}
            let _ = connection.shutdown().await;
            while connection.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
        }
    })
    .await
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 3, 3];
    record.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    record.extend_from_slice(payload);
    record
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let problem = finding(address).await;
    assert_eq!(problem.code, "probe.refused");
    assert_eq!(problem.message, format!("{address} refuses connections"));
}

#[tokio::test]
async fn a_silent_server_ends_at_the_deadline() {
    let silent = raw(|connection| async move {
        sleep(Duration::from_secs(60)).await;
        drop(connection);
    })
    .await;
    // One byte at a time is no progress either.
    let slow = raw(|mut connection| async move {
        for byte in record(22, &[2, 0, 10, 0]) {
            let _ = connection.write_all(&[byte]).await;
            sleep(Duration::from_millis(400)).await;
        }
    })
    .await;
    let (silent_problem, slow_problem) = tokio::join!(finding(silent), finding(slow));
    assert_eq!(silent_problem.code, "probe.timeout");
    assert_eq!(silent_problem.message, format!("no TLS handshake with {silent} within 2 s"));
    assert_eq!(slow_problem.code, "probe.timeout");
}

#[tokio::test]
async fn a_reset_and_a_close_are_told_apart() {
    let reset = raw(|connection| async move {
        let _ = connection.readable().await;
        // Closing with unread bytes makes the kernel send a reset.
        drop(connection);
    })
    .await;
    assert_eq!(finding(reset).await.code, "probe.reset");
    let problem = finding(answers(Vec::new(), false).await).await;
    assert_eq!(problem.code, "probe.handshake");
    assert!(problem.message.contains("closed the connection"), "{problem:?}");
}

#[tokio::test]
async fn another_protocol_is_named() {
    let http = b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n".to_vec();
    let problem = finding(answers(http, false).await).await;
    assert_eq!(problem.code, "probe.not-tls");
    assert!(problem.message.ends_with("it answers \"HTTP/1.1 400 Bad Request\""), "{problem:?}");
    let problem = finding(answers(b"\x1b[2Jowned \xff\xfe".to_vec(), true).await).await;
    assert_eq!(problem.code, "probe.not-tls");
    assert!(!problem.message.contains('\u{1b}'), "{problem:?}");
}

#[tokio::test]
async fn an_alert_for_the_name_means_no_certificate() {
    // unrecognized_name (RFC 6066 section 3), as nginx sends with `ssl_reject_handshake on`.
    let problem = finding(answers(record(21, &[2, 112]), false).await).await;
    assert_eq!(problem.code, "probe.no-certificate");
    // handshake_failure: asked again for any key, and still nothing.
    let problem = finding(answers(record(21, &[2, 40]), false).await).await;
    assert_eq!(problem.code, "probe.handshake");
    assert!(problem.causes[0].contains("HandshakeFailure"), "{problem:?}");
}

#[tokio::test]
async fn endless_bytes_are_cut_off() {
    let mut handshake = vec![11, 0xff, 0xff, 0xff];
    handshake.resize(16_000, 0);
    for (what, bytes) in [
        ("a handshake message that is too long", record(22, &handshake)),
        ("a message in endless pieces", record(22, &[2, 0, 0xff, 0xff])),
        ("empty records", record(22, &[])),
        ("changes of cipher", record(20, &[1])),
        ("warnings", record(21, &[1, 0])),
        ("application data", record(23, &[0; 16_000])),
        ("zeros", vec![0; 16_000]),
    ] {
        let problem = finding(answers(bytes, true).await).await;
        assert_ne!(problem.code, "probe.timeout", "{what}: {problem:?}");
    }
}

#[tokio::test]
async fn a_chain_is_taken_up_to_a_limit() {
    let ca = Ca::new();
    let key = KeyPair::generate().unwrap();
    let mut chain = ca.issue(&["shop.example.org"], YEAR, &key);
    while chain.iter().map(|der| der.len() + 5).sum::<usize>() < 50_000 {
        chain.push(ca.root.clone());
    }
    let server = Server::new(vec![pair(chain.clone(), &key)]).await;
    let seen = look(server.address, "shop.example.org", None, &ca.roots).await;
    assert_eq!(distrust_of(&seen), "trusted");
    chain.extend(vec![ca.root.clone(); 200]);
    server.serve(vec![pair(chain, &key)]);
    let problem = finding(server.address).await;
    assert_eq!(problem.code, "probe.too-much", "{problem:?}");
}

#[tokio::test]
async fn a_certificate_without_its_key_proves_nothing() {
    let ca = Ca::new();
    let (key, stolen) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let chain = ca.issue(&["shop.example.org"], YEAR, &stolen);
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let server = Server::with(vec![pair(chain.clone(), &key)], versions).await;
        let problem = finding(server.address).await;
        assert_eq!(problem.code, "probe.handshake", "{problem:?}");
    }
}
