//! A corpus of bad input beyond single mistakes: tricks of TOML, of names, of paths and of policies.

use super::wrong::{mistakes, spoilt, with, wrong};
use super::{GOOD, read};

/// That the text has one mistake, at this line, which says `part`.
fn wrong_at(text: &str, line: usize, part: &str) {
    wrong(text, part);
    assert_eq!(mistakes(text)[0].line, line, "for {part:?}: {}", mistakes(text)[0]);
}

#[test]
fn every_kind_of_value_where_a_string_is_wanted() {
    for (key, table, line) in [
        ("directory", "[issuer.letsencrypt]", 2),
        ("profile", "[issuer.letsencrypt]", 2),
        ("roots", "[issuer.letsencrypt]", 2),
        ("propagation-check", "[dns.main]", 6),
        ("algorithm", "[dns.main]", 6),
        ("address", "[host.web1]", 12),
        ("user", "[host.web1]", 12),
        ("directory", "[host.web1]", 12),
        ("mode", "[host.web1]", 12),
        ("test", "[host.web1]", 12),
        ("via", "[host.web1]", 12),
        ("key", "[[certificate]]", 18),
        ("preferred-chain", "[[certificate]]", 18),
    ] {
        for value in [
            "1979-05-27",
            "1979-05-27T07:32:00Z",
            "07:32:00",
            "1",
            "1.5",
            "nan",
            "-inf",
            "true",
            "['a']",
            "{}",
        ] {
            let text = with(table, &format!("{key} = {value}"));
            wrong_at(&text, line, &format!("`{key}` must be "));
        }
    }
}

#[test]
fn numbers_that_are_too_large_or_none() {
    for (table, line, bad, part) in [
        ("[host.web1]", 12, "port = 9223372036854775808", "`port` "),
        ("[host.web1]", 12, "port = -9223372036854775809", "`port` "),
        ("[host.web1]", 12, "port = 0xffffffffffffffffffff", "`port` "),
        ("[host.web1]", 12, "port = nan", "`port` must be a whole number"),
        ("[host.web1]", 12, "port = +inf", "`port` must be a whole number"),
        ("[host.web1]", 12, "port = 1e999", "`port` must be a whole number"),
        ("[dns.main]", 6, "ttl = nan", "`ttl` must be a number of seconds"),
        ("[dns.main]", 6, "ttl = -inf", "`ttl` must be a number of seconds"),
        ("[dns.main]", 6, "ttl = '-60s'", "a duration is not negative"),
        ("[dns.main]", 6, "propagation-timeout = '-1m'", "a duration is not negative"),
        ("[dns.main]", 6, "propagation-delay = '-1s'", "a duration is not negative"),
        ("[dns.main]", 6, "propagation-delay = 1.5", "`propagation-delay` must be"),
        ("[dns.main]", 6, "propagation-delay = '9223372036854775808s'", "it is longer than 100 years"),
        ("[dns.main]", 6, "propagation-delay = '100y'", "it is not a duration"),
        ("[[certificate]]", 18, "renew-before = '-30d'", "a duration is not negative"),
        ("[[certificate]]", 18, "renew-before = '0%'", "a fraction is above 0% and below 100%"),
        ("[[certificate]]", 18, "renew-before = '100%'", "a fraction is above 0% and below 100%"),
        ("[[certificate]]", 18, "renew-before = '1e400%'", "a fraction is above 0% and below 100%"),
        ("[[certificate]]", 18, "renew-before = '101%'", "a fraction is above 0% and below 100%"),
        ("[[certificate]]", 18, "renew-before = '0d'", "a certificate is renewed before its end"),
        ("[[certificate]]", 18, "renew-before = 9223372036854775808", "`renew-before` must be"),
        ("[[certificate]]", 18, "reuse-key = 1", "`reuse-key` must be true or false"),
    ] {
        wrong_at(&with(table, bad), line, part);
    }
}

#[test]
fn tables_that_clash() {
    for (text, line, part) in [
        (format!("{GOOD}[group]\nall = []\n"), 21, "merge the two tables"),
        (format!("{GOOD}[\"host\".'web1']\n"), 21, "merge the two tables"),
        (with("[host.web1]", "port = 22\n\"port\" = 22"), 13, "remove one of the two"),
    ] {
        wrong_at(&text, line, part);
    }
}

#[test]
fn bytes_at_the_edges() {
    let dos = GOOD.replace('\n', "\r\n");
    // Lines are counted as editors do, whatever ends them.
    wrong_at(&format!("\u{feff}{}", dos.replace("accept-terms", "acept-terms")), 3, "did you mean");
    for (text, line) in [
        (format!("{GOOD}\u{feff}"), 21),
        (format!("{GOOD}\u{0}"), 21),
        (format!("{GOOD}# a\u{1b}[2Jb\n"), 21),
    ] {
        assert_eq!(mistakes(&text)[0].line, line, "{}", mistakes(&text)[0]);
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let user = |value: String| with("[host.web1]", &format!("user = {value}"));
    let deep = 100_000;
    for (text, part) in [
        (user(format!("{}{}", "[".repeat(deep), "]".repeat(deep))), "write it flat"),
        (user(format!("{}1{}", "{a=".repeat(deep), "}".repeat(deep))), "write it flat"),
        (user(format!("{}{}", "[{a=".repeat(deep), "}]".repeat(deep))), "write it flat"),
        (format!("{GOOD}[host.web3{}]\n", ".a".repeat(deep)), "write it flat"),
        (with("[host.web1]", &format!("user{} = 1", ".a".repeat(deep))), "write it flat"),
        // A file of more than 1 MiB is not read at all.
        (user(format!("'{}'", "x".repeat(1_000_000))), "`user` cannot be"),
        (user(format!("\"{}\"", "\\u001b".repeat(150_000))), "`user` cannot be"),
        (user("9".repeat(100_000)), "`user` must be a string"),
    ] {
        wrong(&text, part);
    }
}

#[test]
fn domains_that_are_numbers_lists_or_in_disguise() {
    for bad in [
        "192.0.2.1:443",
        "[2001:db8::1]",
        "0x7f.1",
        "127.1",
        "1.2.3",
        "2130706433",
        "fe80::1%eth0",
        "*.192.0.2.1",
        "192.0.2.256",
        "a.1",
        "a.example\\r",
        "a.example\\u00a0",
        "a\\u00adb.example",
        "\\ufeffa.example",
        "\\u2066a.example",
        "xn--.example",
        "xn--99999999999.example",
        "ab--c.example",
        "\\uff0a.example.org",
        "*a.example.org",
        "**.example.org",
        "*example.org",
        "*.-a.example",
        "*.*.",
        "*.localhost",
        "a\u{3002}\u{3002}b",
        "\u{3002}a.example",
        "a.example,b.example",
        "a.example b.example",
        "a.example?x",
        "a.example#x",
        "//a.example",
        "a\\\\b.example",
        "a.example/",
    ] {
        wrong_at(&spoilt("\"www.example.org\"", &format!("\"{bad}\"")), 19, "`domains` cannot contain \"");
    }
}

#[test]
fn paths_hosts_and_people_that_are_traps() {
    for bad in [
        "", "//", "./x", "/a/../b", "/a//b", "/a&&b", "/a|b", "/%s", "/{}", "/a[b]", "-rf", "/usr/bin",
        "/proc",
    ] {
        wrong_at(&with("[host.web1]", &format!("directory = '{bad}'")), 12, "`directory` cannot be");
    }
    for bad in ["", "~/x", "/a\\nb", "/a\\u0000b"] {
        wrong_at(&format!("{GOOD}[store]\npath = \"{bad}\"\n"), 22, "`path` cannot be");
    }
    for bad in [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "-p22",
        "root@",
        "ssh://web1:22",
        "[::1]",
        "fe80::1%",
        "127.1",
        "192.0.2.256",
        "192.0.2.1/24",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.0.1",
        "web1\\nweb2",
        "web1,web2",
        "%h",
        "${HOME}",
    ] {
        wrong_at(&with("[host.web1]", &format!("address = \"{bad}\"")), 12, "`address` cannot be");
    }
    for (bad, part) in [
        ("user = '..'", "starts with neither"),
        ("via = '-J'", "`via` cannot be"),
        ("verify = ['192.0.2.1:65536']", "`verify` cannot contain"),
        ("host-key = 'SHA256:abcdef'", "`host-key` cannot be"),
        ("host-key = []", "`host-key` cannot be empty"),
        ("mode = '0660'", "`mode` cannot be"),
    ] {
        wrong_at(&with("[host.web1]", bad), 12, part);
    }
    for (bad, part) in [
        ("http://127.0.0.1/", "over https only"),
        ("file:///etc/passwd", "it is not a URL"),
        ("https://ca.example:0/", "its port is not from 1 to 65535"),
        ("https://ca.example:99999/", "its port is not from 1 to 65535"),
        ("https://169.254.169.254/latest/meta-data", "where a cloud tells its machines their credentials"),
        ("https://metadata.google.internal/", "where a cloud tells its machines their credentials"),
        ("https://2852039166/", "a number that is no address"),
        ("https://[fe80::1]/", "another machine on each network"),
        ("https://0.0.0.0:14000/dir", "this machine is 127.0.0.1"),
        ("https://239.1.1.1/", "many machines at once"),
    ] {
        wrong_at(&with("[issuer.letsencrypt]", &format!("directory = '{bad}'")), 2, part);
    }
    for bad in
        ["ops@example.org\\nBcc: x@y.example", "tel:+1", "ops@[192.0.2.1]", "mailto:mailto:x@example.org"]
    {
        wrong_at(&spoilt("ops@example.org", bad), 2, "`contact` cannot contain");
    }
    for bad in ["rsa-1024", "p-521", "dsa", "ml-dsa-65", "ecdsa_p256"] {
        wrong_at(&with("[[certificate]]", &format!("key = '{bad}'")), 18, "`key` cannot be");
    }
}

#[test]
fn a_store_is_a_folder_of_its_own() {
    for (bad, part) in [
        ("/", "a directory of the system"),
        ("//", "a directory of the system"),
        ("/etc", "a directory of the system"),
        ("/etc/", "a directory of the system"),
        ("/home/.", "a directory of the system"),
        ("/var//lib", "a directory of the system"),
        ("/etc/letsencrypt", "a directory of the system"),
        ("/var/lib/certfleet/..", "it has `..` in it"),
        ("/dev/shm/certfleet", "nothing can be kept there"),
        ("store", "next to another certs.toml"),
        ("./store", "next to another certs.toml"),
        ("../../etc", "next to another certs.toml"),
        ("", "it is no path"),
    ] {
        let text = format!("{GOOD}[store]\npath = '{bad}'\n");
        wrong_at(&text, 22, part);
        wrong(&text, "`path = \"/var/lib/certfleet\"`");
    }
    let config = read(&format!("{GOOD}[store]\npath = '/srv/certfleet/'\n")).unwrap();
    assert_eq!(config.store, std::path::Path::new("/srv/certfleet"));
    assert!(read(&with("[issuer.letsencrypt]", "directory = 'https://127.0.0.1:14000/dir'")).is_ok());
}

#[test]
fn tables_written_in_other_ways_clash() {
    for (more, line) in [
        ("[issuer.letsencrypt]\n", 22),
        ("[issuer]\nletsencrypt = { accept-terms = true }\n", 23),
        ("[group]\n", 22),
        ("[certificate]\n", 22),
        ("[dns.main.secret]\nfile = \"a\"\n", 22),
        ("[host.web1]\naddress = \"192.0.2.1\"\n", 22),
    ] {
        let list = mistakes(&format!("{GOOD}\n{more}"));
        assert_eq!(list[0].line, line, "{more}: {}", list[0]);
    }
}

#[test]
fn characters_that_look_like_others() {
    for (from, to, line) in [
        ("accept-terms = true", "accept-terms\u{a0}= true", 3),
        ("accept-terms = true", "accept-terms = true\u{a0}", 3),
        ("\"shop\"", "\u{201c}shop\u{201d}", 18),
        ("\"shop\"", "\u{2018}shop\u{2019}", 18),
        ("accept-terms", "accept\u{2011}terms", 3),
        ("[group]", "\u{ff3b}group\u{ff3d}", 14),
    ] {
        let list = mistakes(&spoilt(from, to));
        assert_eq!(list[0].line, line, "{to}: {}", list[0]);
    }
    wrong_at(&spoilt("\"www.example.org\"", "\"\u{2615}.example.org\""), 19, "emoji");
    wrong_at(
        &spoilt("\"www.example.org\"", "\"a!b.example.org\""),
        19,
        "'!' is not allowed in a domain name",
    );
}

#[test]
fn large_fleets_and_names_that_only_look_alike_are_no_mistakes() {
    let hosts: String =
        (0..500).map(|n| format!("[host.h{n}]\naddress = '10.1.{}.{}'\n", n / 250, n % 250 + 1)).collect();
    let all: Vec<String> = (0..500).map(|n| format!("'h{n}'")).collect();
    let many: String = (0..500)
        .map(|n| format!("[[certificate]]\ndomains = ['n{n}.example.net']\nhosts = ['web1']\n"))
        .collect();
    let text = spoilt("hosts = [\"web\"]", &format!("hosts = [\"web\", {}]", all.join(", ")));
    let config = read(&format!("{text}{many}{hosts}")).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!((config.desired.certificates.len(), config.desired.hosts.len()), (501, 502));
    assert_eq!(config.desired.certificates.values().map(|one| one.hosts.len()).max(), Some(502));

    // Latin and Cyrillic: two names, which are shown as what they are.
    let config = read(&spoilt("\"www.example.org\"", "\"apple.example\", \"\u{430}pple.example\"")).unwrap();
    let shop = config.desired.certificates.values().next().unwrap();
    let shown: Vec<String> = shop.domains.iter().map(ToString::to_string).collect();
    assert_eq!(shown[..2], ["apple.example", "xn--pple-43d.example"]);
    // The base beside its wildcard needs two records at one name, and that is all.
    assert!(
        read(&spoilt("\"www.example.org\"", "\"*.example.org\""))
            .is_ok_and(|config| config.warnings.is_empty())
    );
}

#[test]
fn directories_that_are_long_end_in_a_slash_or_lie_in_each_other() {
    let directory = |value: &str| with("[host.web1]", &format!("directory = '{value}'"));
    wrong_at(&directory(&format!("/{}", "x/".repeat(2048))), 12, "`directory` cannot be");
    let config = read(&directory("/srv/certs/")).unwrap();
    assert_eq!(config.desired.hosts.values().next().unwrap().directory, "/srv/certs");
    let inside = with("[host.web1]", "address = 'same.example'\ndirectory = '/srv/certs'")
        .replace("[host.web2]", "[host.web2]\naddress = 'same.example'\ndirectory = '/srv/certs/web2'");
    // Two folders are two places, wherever they are.
    assert!(read(&inside).is_ok_and(|config| config.warnings.is_empty()));
}
