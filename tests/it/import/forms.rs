//! Keys and certificates in all the forms that tools have written them in over the years.

use std::path::Path;
use std::process::Command;

use certfleet::acme::take_over;
use jiff::Timestamp;

use crate::world::made::{Authority, DAY};
use crate::world::process::run;

fn openssl(folder: &Path, arguments: &str) -> String {
    run(Command::new("openssl").args(arguments.split(' ')).current_dir(folder)).unwrap()
}

/// What becomes of it: `ok`, or why not.
fn outcome(chain: &str, key: &str) -> String {
    match take_over(chain, key, Timestamp::now()) {
        Ok(taken) => {
            assert!(
                !taken.issued.fullchain.contains("PRIVATE KEY")
                    && taken.issued.fullchain.starts_with("-----BEGIN")
            );
            "ok".to_owned()
        }
        Err(error) => format!("{error}{}", if error.hint().is_empty() { " WITHOUT A HINT" } else { "" }),
    }
}

#[test]
fn one_pair_in_many_forms() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Authority::new("some CA").unwrap().issue(&["www.social.test"], -DAY, 80 * DAY).unwrap();
    let other = Authority::new("another").unwrap().issue(&["www.social.test"], -DAY, 80 * DAY).unwrap();
    let (leaf, root, key) = (&pair.leaf, &pair.chain, &pair.key);
    let chain = format!("{leaf}{root}");
    std::fs::write(folder.path().join("key"), key).unwrap();
    let sec1 = openssl(folder.path(), "ec -in key");
    let parameters = openssl(folder.path(), "ecparam -name prime256v1");
    let locked = openssl(folder.path(), "ec -in key -aes128 -passout pass:x");
    let bag = format!("Bag Attributes\n    localKeyID: 01 00\nsubject=CN = x\n\n{chain}");
    for (form, chain, key, expected) in [
        ("as certbot writes it", chain.clone(), key.clone(), "ok"),
        ("CRLF", chain.replace('\n', "\r\n"), key.replace('\n', "\r\n"), "ok"),
        ("no final line end", chain.trim_end().to_owned(), key.trim_end().to_owned(), "ok"),
        ("bag attributes", bag, key.clone(), "ok"),
        ("SEC1", chain.clone(), sec1.clone(), "ok"),
        ("EC PARAMETERS first", chain.clone(), format!("{parameters}{sec1}"), "ok"),
        ("chain in the key's file", chain.clone(), format!("{key}{chain}"), "ok"),
        ("a passphrase", chain.clone(), locked, "has a passphrase"),
        ("key first", format!("{key}{chain}"), key.clone(), "something that is no certificate"),
        ("root first", format!("{root}{leaf}"), key.clone(), "for another key"),
        (
            "two leaves",
            format!("{leaf}{}{root}", other.leaf),
            key.clone(),
            "is not signed by the one after it",
        ),
        ("the leaf twice", format!("{leaf}{leaf}{root}"), key.clone(), "is not signed by the one after it"),
        (
            "another's chain",
            format!("{leaf}{}", other.chain),
            key.clone(),
            "is not signed by the one after it",
        ),
        ("another's key", chain.clone(), other.key.clone(), "for another key"),
        ("no key", chain.clone(), String::new(), "its private key cannot be read"),
        ("a certificate as key", chain.clone(), leaf.clone(), "its private key cannot be read"),
        ("half a key", chain.clone(), key[..100].to_owned(), "its private key cannot be read"),
        ("half a leaf", leaf[..100].to_owned(), key.clone(), "there is no certificate in it"),
    ] {
        let found = outcome(&chain, &key);
        assert!(found.contains(expected), "{form}: {found}");
        assert_eq!(found == "ok", expected == "ok", "{form}: {found}");
    }
}

#[test]
fn keys_that_certs_toml_has_no_word_for() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, expected) in [
        ("rsa:2048", "is signed by itself"),
        ("rsa:1024", "its private key cannot be read"),
        ("rsa:3072", "an RSA key of 3072 bits"),
        ("ec:secp521r1", "an EC key of 521 bits"),
        ("ec:brainpoolP256r1", "its private key cannot be read"),
        ("ed25519", "neither an RSA nor an EC key"),
    ] {
        let new = match kind.split_once(':') {
            Some(("ec", curve)) => format!("ec -pkeyopt ec_paramgen_curve:{curve}"),
            _ => kind.to_owned(),
        };
        openssl(
            folder.path(),
            &format!(
                "req -x509 -newkey {new} -nodes -keyout key -out cert -days 9 -subj /CN=x -addext \
                 subjectAltName=DNS:www.social.test -addext basicConstraints=CA:FALSE"
            ),
        );
        let [chain, key] =
            ["cert", "key"].map(|file| std::fs::read_to_string(folder.path().join(file)).unwrap());
        let found = outcome(&chain, &key);
        assert!(found.contains(expected), "{kind}: {found}");
    }
    // The same key in the form of old.
    openssl(folder.path(), "genrsa -traditional -out key 2048");
    openssl(
        folder.path(),
        "req -x509 -key key -out cert -days 9 -subj /CN=x -addext subjectAltName=DNS:www.social.test -addext basicConstraints=CA:FALSE",
    );
    let [chain, key] = ["cert", "key"].map(|file| std::fs::read_to_string(folder.path().join(file)).unwrap());
    assert!(key.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    assert!(outcome(&chain, &key).contains("is signed by itself"), "the key is not understood");
}
