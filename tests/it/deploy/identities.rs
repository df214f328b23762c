//! Keys to come in with: several, with certificates.

use super::*;

/// A key of this kind that no host knows.
fn key(world: &World, name: &str, kind: &str) -> PathBuf {
    let file = world.dir.path().join(name);
    run(parts::ssh_keygen().unwrap().command().args(["-q", "-t", kind, "-N", "", "-C", "", "-f"]).arg(&file))
        .unwrap();
    file
}

fn public(file: &Path) -> String {
    fs::read_to_string(file.with_extension("pub")).unwrap()
}

/// Signs a key for the user of the host; more arguments of ssh-keygen.
fn sign(ca: &Path, key: &Path, user: &str, more: &[&str]) {
    run(parts::ssh_keygen()
        .unwrap()
        .command()
        .args(["-q", "-I", "certfleet", "-n", user, "-s"])
        .arg(ca)
        .args(more)
        .arg(key.with_extension("pub")))
    .unwrap();
}

#[test]
fn keys_are_tried_in_their_order_until_one_is_let_in() {
    let world = one_host();
    let host = world.host("edge");
    let mut wanted = wanted(host);
    let strangers = [key(&world, "first", "ed25519"), key(&world, "second", "rsa")];
    wanted.identity = vec![strangers[0].clone(), world.dir.path().join("absent"), host.identity.clone()];
    wait(async { session(&wanted).await.close().await });
    assert_eq!(host.sshd.log().matches("Failed publickey").count(), 1, "{}", host.sshd.log());

    wanted.identity = strangers.to_vec();
    let error = refused(&wanted);
    assert_eq!(error.code(), "ssh.auth");
    let text = error.to_string();
    assert!(strangers.iter().all(|file| text.contains(&file.display().to_string())), "{text}");
    assert!(error.hint().unwrap().contains(public(&strangers[0]).trim()), "{error:?}");

    wanted.identity = vec![world.dir.path().join("absent"), world.dir.path().join("gone")];
    let error = refused(&wanted);
    assert!(
        matches!(&error, ConnectError::Identity(IdentityError::Unreadable { path, .. }) if path.ends_with("absent"))
    );
}

#[test]
fn a_certificate_beside_a_key_lets_it_in() {
    let world = one_host();
    let host = world.host("edge");
    let authorized = host.root.join("ssh/authorized_keys");
    let ca = key(&world, "ca", "ed25519");
    fs::write(&authorized, format!("cert-authority {}", public(&ca))).unwrap();
    let mut wanted = wanted(host);
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let key = key(&world, kind, kind);
        wanted.identity = vec![key.clone()];
        assert_eq!(refused(&wanted).code(), "ssh.auth");
        sign(&ca, &key, &host.user, &["-V", "+1d"]);
        wait(async { session(&wanted).await.close().await });
        let (from, until) = certfleet::deploy::identity::life(&key).unwrap();
        assert!(from < until && until > jiff::Timestamp::now(), "{from} {until}");
    }
    assert_eq!(host.connections(), 3);

    // The key itself may be known where the certificate does no good.
    let key = wanted.identity[0].clone();
    sign(&ca, &key, "nobody", &["-V", "+1d"]);
    assert_eq!(refused(&wanted).code(), "ssh.auth");
    fs::write(&authorized, public(&key)).unwrap();
    wait(async { session(&wanted).await.close().await });
}

#[test]
fn a_certificate_that_is_over_is_named_in_the_refusal() {
    let world = one_host();
    let host = world.host("edge");
    let ca = key(&world, "ca", "ed25519");
    fs::write(host.root.join("ssh/authorized_keys"), format!("cert-authority {}", public(&ca))).unwrap();
    let key = key(&world, "mine", "ed25519");
    let mut wanted = wanted(host);
    wanted.identity = vec![key.clone()];
    let file = world.dir.path().join("mine-cert.pub");
    for (more, says) in [
        (&["-V", "-2d:-1d"][..], "it ended on "),
        (&["-V", "+1d:+2d"][..], "it holds from "),
        (&["-h"][..], "it is the certificate of a host"),
    ] {
        sign(&ca, &key, &host.user, more);
        let hint = refused(&wanted).hint().unwrap();
        assert!(hint.contains(says) && hint.contains(&file.display().to_string()), "{hint}");
    }
    fs::write(&file, "nonsense\n").unwrap();
    assert!(refused(&wanted).hint().unwrap().contains("it is no certificate"));
    fs::write(&file, "").unwrap();
    assert!(refused(&wanted).hint().unwrap().contains("it is no certificate"));
    assert_eq!(host.connections(), 0);
}

#[test]
fn no_more_attempts_are_made_than_a_host_takes() {
    let world = one_host();
    let host = world.host("edge");
    let ca = key(&world, "ca", "ed25519");
    let mut wanted = wanted(host);
    wanted.identity = ["a", "b", "c"].map(|name| key(&world, name, "ed25519")).to_vec();
    for key in &wanted.identity {
        sign(&ca, key, &host.user, &[]);
    }
    // Not hung up on (MaxAuthTries is 6), so that the answer is clear.
    assert_eq!(refused(&wanted).code(), "ssh.auth");
    assert_eq!(host.sshd.log().matches("Failed publickey").count(), 5, "{}", host.sshd.log());
}
