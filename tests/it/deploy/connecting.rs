//! Who may be the host, and with which key we come in.

use super::*;

#[test]
fn another_host_key_is_refused_before_anything_is_shown() {
    let world = one_host();
    let host = world.host("edge");
    let other = Identity::make(&world.dir.path().join("other")).unwrap();
    let mut wanted = wanted(host);
    wanted.host_key = vec![other.public.clone()];
    let error = refused(&wanted);
    assert_eq!(error.code(), "ssh.host-key");
    let text = error.to_string();
    assert_eq!(text.matches("ssh-ed25519 SHA256:").count(), 2, "expected and presented: {text}");
    let hint = error.hint().unwrap();
    assert!(hint.contains(&host.host_key), "{hint}");
    // Of another kind than the one that the host has.
    wanted.host_key = vec![key_of_kind(&world, "rsa")];
    let error = refused(&wanted);
    assert!(matches!(error, ConnectError::HostKey(HostKeyError::OtherKind { .. })), "{error:?}");
    // Nothing known at all.
    wanted.host_key = Vec::new();
    wanted.known_hosts = vec![world.dir.path().join("no such file")];
    let error = refused(&wanted);
    assert_eq!(error.code(), "ssh.host-key-unknown");
    assert!(error.hint().unwrap().contains(&host.host_key), "{error:?}");
    assert_eq!(host.connections(), 0);
    assert!(!host.sshd.log().contains("Failed publickey"), "{}", host.sshd.log());
}

fn key_of_kind(world: &World, kind: &str) -> String {
    let file = world.dir.path().join(format!("host_{kind}"));
    run(parts::ssh_keygen().unwrap().command().args(["-q", "-t", kind, "-N", "", "-C", "", "-f"]).arg(&file))
        .unwrap();
    fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned()
}

#[test]
fn known_hosts_are_read_as_ssh_reads_them() {
    let world = one_host();
    let host = world.host("edge");
    let key = &host.host_key;
    let (address, port) = (host.address, host.ssh_port);
    let other = Identity::make(&world.dir.path().join("other")).unwrap().public;
    let hashed = {
        let file = world.dir.path().join("hashed");
        fs::write(&file, format!("[{address}]:{port} {key}\n")).unwrap();
        run(parts::ssh_keygen().unwrap().command().arg("-q").arg("-H").arg("-f").arg(&file)).unwrap();
        fs::read_to_string(file).unwrap()
    };
    assert!(hashed.starts_with("|1|"));
    let first = address.to_string().rsplit_once('.').unwrap().0.to_owned();
    let yes = [
        format!("[{address}]:{port} {key}"),
        format!("# a comment\n\nnonsense\n[{address}]:{port}\t{key} a comment\n"),
        format!("example.org,[{address}]:{port} {key}"),
        format!("{address} {key}"),
        hashed,
        format!("[{first}.*]:{port} {key}"),
        format!("[{first}.*]:* {key}"),
        // A new key beside an old one.
        format!("[{address}]:{port} {other}\n[{address}]:{port} {key}"),
    ];
    let no = [
        String::new(),
        format!("[{address}]:{port} {other}"),
        format!("[{address}]:{} {key}", port ^ 1),
        format!("[{first}.*]:{port},![{address}]:{port} {key}"),
        format!("@cert-authority * {key}"),
        format!("[{address}]:{port} {key}\n@revoked * {key}"),
        format!("@revoked [{address}]:{port} {key}\n[{address}]:{port} {key}"),
    ];
    let file = world.dir.path().join("known_hosts");
    let mut wanted = wanted(host);
    wanted.host_key = Vec::new();
    wanted.known_hosts = vec![world.dir.path().join("absent"), file.clone()];
    for text in &yes {
        fs::write(&file, text).unwrap();
        wait(async { session(&wanted).await.close().await });
    }
    for text in &no {
        fs::write(&file, text).unwrap();
        let error = refused(&wanted);
        assert!(matches!(error, ConnectError::HostKey(_)), "{text}: {error:?}");
        assert_eq!(error.code() == "ssh.host-key-revoked", text.contains("@revoked"), "{text}: {error:?}");
    }
    // A pin does not make a revoked key good.
    wanted.host_key = vec![key.clone()];
    assert_eq!(refused(&wanted).code(), "ssh.host-key-revoked");
    assert_eq!(host.connections(), yes.len());
    // What is there and cannot be read may be what forbids it.
    wanted.known_hosts = vec![world.dir.path().to_owned()];
    assert_eq!(refused(&wanted).code(), "ssh.known-hosts");
}

#[test]
fn a_key_that_is_not_let_in_says_which_line_to_add() {
    let world = one_host();
    let host = world.host("edge");
    let stranger = Identity::make(&world.dir.path().join("stranger")).unwrap();
    let mut wanted = wanted(host);
    wanted.identity = vec![stranger.file.clone()];
    let error = refused(&wanted);
    assert_eq!(error.code(), "ssh.auth");
    assert!(error.hint().unwrap().contains(&stranger.public), "{error:?}");
    let attempts = host.sshd.log().matches("Failed publickey").count();
    assert!(attempts <= 1, "one attempt: {}", host.sshd.log());

    fs::set_permissions(&stranger.file, fs::Permissions::from_mode(0o640)).unwrap();
    let error = refused(&wanted);
    assert!(matches!(error, ConnectError::Identity(IdentityError::Exposed { mode: 0o640, .. })), "{error:?}");
    assert_eq!(error.hint().unwrap(), format!("chmod 600 {}", stranger.file.display()));

    let locked = world.dir.path().join("locked");
    run(parts::ssh_keygen()
        .unwrap()
        .command()
        .args(["-q", "-t", "ed25519", "-N", "secret", "-f"])
        .arg(&locked))
    .unwrap();
    wanted.identity = vec![locked];
    let error = refused(&wanted);
    assert!(matches!(error, ConnectError::Identity(IdentityError::Encrypted { .. })), "{error:?}");
    wanted.identity = vec![stranger.file.with_extension("pub")];
    let error = refused(&wanted);
    assert!(matches!(error, ConnectError::Identity(IdentityError::OnlyPublic { .. })), "{error:?}");
    fs::write(&stranger.file, "neither half\n").unwrap();
    fs::set_permissions(&stranger.file, fs::Permissions::from_mode(0o600)).unwrap();
    wanted.identity = vec![stranger.file.clone()];
    let error = refused(&wanted);
    assert!(matches!(error, ConnectError::Identity(IdentityError::NotAKey { .. })), "{error:?}");
}

#[test]
fn keys_of_all_kinds_log_in() {
    let world = one_host();
    let host = world.host("edge");
    let authorized = host.root.join("ssh/authorized_keys");
    let mut wanted = wanted(host);
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let public = key_of_kind(&world, kind);
        fs::write(&authorized, format!("{public}\n")).unwrap();
        wanted.identity = vec![world.dir.path().join(format!("host_{kind}"))];
        wait(async { session(&wanted).await.close().await });
    }
}

#[test]
fn what_does_not_answer_like_ssh_is_told_apart() {
    let world = one_host();
    let host = world.host("edge");
    let mut here = wanted(host);
    here.port = host.tls_port;
    let error = refused(&here);
    assert_eq!(error.code(), "ssh.not-ssh", "{error:?}");

    here.address = world.spare_address(1).to_string();
    assert_eq!(refused(&here).code(), "ssh.refused");
    here.address = "no-such-host.invalid".to_owned();
    assert_eq!(refused(&here).code(), "ssh.lookup");
}
