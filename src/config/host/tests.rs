//! What a table of a host takes, and what it does not.

use super::*;

#[test]
fn an_address_is_an_address_only() {
    for good in ["web1", "web1.example.org", "192.0.2.1", "2001:db8::1", "fe80::1%eth0"] {
        assert!(host_address(good).is_ok(), "{good} was refused");
    }
    for bad in [
        "",
        "root@web1",
        "-oProxyCommand=touch /tmp/x",
        "web1:22",
        "[2001:db8::1]:22",
        "web 1",
        "web1\n",
        "ssh://web1",
        "$(id)",
        "`id`",
        "a;b",
        "a\u{202e}b",
        "fe80::1%",
        "fe80::1%a b",
        "wéb",
    ] {
        assert!(host_address(bad).is_err(), "{bad:?} was taken");
    }
}

#[test]
fn a_directory_is_one_shell_word() {
    assert_eq!(directory("/etc/letsencrypt/live/"), Ok("/etc/letsencrypt/live".to_owned()));
    for bad in [
        "",
        "/",
        "//",
        "etc",
        "~/certs",
        "/etc/../root",
        "/etc/./x",
        "/etc//x",
        "/a b",
        "/a;b",
        "/$HOME",
        "/`id`",
        "/a\n",
        "/a'b",
        "/a*",
        "/etc",
        "/etc/",
        "/a{b}",
        "/ä",
    ] {
        assert!(directory(bad).is_err(), "{bad:?} was taken");
    }
    assert!(directory(&format!("/{}", "a".repeat(4096))).is_err());
}

#[test]
fn a_pin_is_a_strong_key_and_nothing_else() {
    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
    assert_eq!(host_key(ED25519), Ok(ED25519.to_owned()));
    assert_eq!(host_key(&format!("{ED25519}  root@web1")), Ok(ED25519.to_owned()));
    for bad in [
        String::new(),
        "ssh-ed25519".to_owned(),
        format!("web1 {ED25519}"),
        format!("{ED25519} two words"),
        format!("{ED25519}\nssh-rsa AAAA"),
        format!("command=\"x\" {ED25519}"),
        format!("restrict,pty {ED25519}"),
        ED25519.replace("ssh-ed25519 ", "ssh-rsa "),
        ED25519[..40].to_owned(),
    ] {
        assert!(host_key(&bad).is_err(), "{bad:?} was taken");
    }
}
