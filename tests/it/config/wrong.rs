//! Bad input: each mistake has its line and its remedy, and all are found at once.

use certfleet::config::Mistake;

use super::{GOOD, read};

/// The file with one piece replaced by another.
pub(super) fn spoilt(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in the good file");
    GOOD.replacen(from, to, 1)
}

/// The file with a line more in a table.
pub(super) fn with(table: &str, line: &str) -> String {
    spoilt(table, &format!("{table}\n{line}"))
}

pub(super) fn mistakes(text: &str) -> Vec<Mistake> {
    match read(text) {
        Ok(_) => panic!("was taken:\n{text}"),
        Err(mistakes) => {
            assert_eq!(mistakes.list.len().min(100), mistakes.count.min(100));
            for mistake in &mistakes.list {
                assert!(mistake.line >= 1 && mistake.column >= 1, "{mistake}");
                assert!(mistake.remedy.text().len() > 3, "{mistake}");
                let shown = mistake.to_string();
                assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
                assert!(shown.contains(" ^") && shown.len() < 4000, "{shown}");
            }
            mistakes.list
        }
    }
}

/// That the text has exactly one mistake, which says `part` (its remedy included).
pub(super) fn wrong(text: &str, part: &str) {
    let list = mistakes(text);
    let shown: String = list.iter().fold(String::new(), |all, mistake| format!("{all}{mistake}\n"));
    assert_eq!(list.len(), 1, "for {part:?}:\n{shown}");
    assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
}

#[test]
fn the_good_file_is_good() {
    assert!(read(GOOD).unwrap().warnings.is_empty());
    assert!(read(&format!("\u{feff}{}", GOOD.replace('\n', "\r\n"))).is_ok());
}

#[test]
fn all_mistakes_are_shown_with_their_places() {
    let text = spoilt("accept-terms", "acept-terms")
        .replace("provider = \"rfc2136\"", "provider = \"rfc2163\"")
        .replace("\"www.example.org\"", "\"www_.example.org\"");
    let shown = read(&text).unwrap_err().to_string();
    assert!(
        shown.starts_with(
            "error: /etc/certfleet/certs.toml:3:1: unknown key \"acept-terms\", did you mean \"accept-terms\"?\n\
             \u{20} |\n\
             3 | acept-terms = true\n\
             \u{20} | ^^^^^^^^^^^\n\n"
        ),
        "{shown}"
    );
    assert!(
        shown.contains("certs.toml:6:12: unknown provider \"rfc2163\", did you mean \"rfc2136\"?"),
        "{shown}"
    );
    assert!(shown.contains("certs.toml:19:12: `domains` cannot contain \"www_.example.org\""), "{shown}");
    assert!(shown.ends_with("\n/etc/certfleet/certs.toml has 3 mistakes; nothing was done"), "{shown}");
}

#[test]
fn unknown_keys_and_tables_are_named() {
    for (table, line, part) in [
        ("[issuer.letsencrypt]", "contacts = []", "did you mean \"contact\"?"),
        (
            "[issuer.letsencrypt]",
            "xyz = 1",
            "known here are directory, contact, accept-terms, directory-ca, roots, eab, profile, preferred-chain",
        ),
        ("[dns.main]", "propogation_check = 'off'", "did you mean \"propagation-check\"?"),
        ("[dns.main]", "keyname = 'x'", "did you mean \"key-name\"?"),
        ("[host.web1]", "adress = 'x'", "did you mean \"address\"?"),
        ("[host.web1]", "password = true", "unknown key \"password\""),
        ("[[certificate]]", "rewew_before = '30d'", "did you mean \"renew-before\"?"),
        ("[[certificate]]", "reuse-keys = true", "did you mean \"reuse-key\"?"),
        ("[[certificate]]", "\"a\\u001b[2Jb\" = 1", "unknown key \"a\\u{1b}[2Jb\""),
        ("[host.web1]", "[resolver]\nnameserver = []", "did you mean \"nameservers\"?"),
        ("[host.web1]", "[store]\npaths = 'x'", "did you mean \"path\"?"),
        ("[host.web1]", "[host-default]", "unknown table \"host-default\", did you mean \"host-defaults\"?"),
        ("[host.web1]", "[alarm.ops]", "unknown table \"alarm\", did you mean \"alert\"?"),
        ("[host.web1]", "[host.a.example.org]", "a name with dots is written in quotes"),
    ] {
        wrong(&with(table, line), part);
    }
    wrong(&format!("include = 'other.toml'\n{GOOD}"), "unknown key \"include\"");
}

#[test]
fn dangling_references_name_what_is_defined() {
    let hosts = |list: &str| spoilt("hosts = [\"web\"]", &format!("hosts = {list}"));
    wrong(&hosts("['web3']"), "certificate \"shop\" names host \"web3\", which is not defined\n");
    wrong(&hosts("['web3']"), "hint: defined are web1, web2, web");
    wrong(&hosts("['wbe1']"), "which is not defined, did you mean \"web1\"?");
    wrong(&spoilt("web = [\"web1\"", "web = [\"wob1\""), "group \"web\" names host \"wob1\"");
    wrong(&with("[group]", "all = ['web']"), "group \"all\" names the group \"web\"");
    wrong(&with("[group]", "web1 = []"), "is the name of a host and of a group");
    wrong(&with("[[certificate]]", "issuer = 'letsencript'"), "did you mean \"letsencrypt\"?");
    wrong(&with("[[certificate]]", "dns = 'other'"), "names dns \"other\", which is not defined\n");
    wrong(&with("[[certificate]]", "issuer = ['letsencrypt', 'zerosll']"), "names issuer \"zerosll\"");
    wrong(&with("[[certificate]]", "issuer = []"), "`issuer` cannot be empty");
    wrong(&with("[[certificate]]", "issuer = ['letsencrypt', 'letsencrypt']"), "\"letsencrypt\" twice");
    wrong(&with("[[certificate]]", "issuer = 1"), "`issuer` must be a string, not an integer");
}

#[test]
fn issuer_and_account_must_be_clear() {
    wrong(
        "[[certificate]]\ndomains = ['a.example']\nissuer = 'x'\n[dns.m]\nprovider = 'rfc2136'\nserver = 'a'\nkey-name = 'k'\nsecret = { env = 'T' }",
        "[issuer.letsencrypt]",
    );
    let none = "[[certificate]]\ndomains = ['a.example']\n[[certificate]]\ndomains = ['b.example']\n";
    let list = mistakes(none);
    assert_eq!(list.len(), 2, "no issuer and no account, each said once: {list:?}");
    assert!(list[0].to_string().contains("    accept-terms = true"));
    let two = spoilt("[dns.main]", "[issuer.google]\naccept-terms = true\n[dns.main]");
    wrong(&two, "certificate \"shop\" does not say which `issuer` it uses");
    wrong(&two, "defined are google, letsencrypt");
    let issuer = |line: &str| with("[issuer.letsencrypt]", line);
    wrong(&issuer("directory = 'http://ca.example/'"), "ACME is spoken over https only");
    wrong(&issuer("directory = 'https://u:p@ca.example/'"), "user names and fragments");
    wrong(&issuer("eab = { key-id = 'k', hmac-key = 'abc' }"), "`hmac-key` is a secret");
    wrong(&issuer("eab = { key-id = 'k' }"), "`eab` of issuer \"letsencrypt\" needs `hmac-key`");
    wrong(&issuer("eab = { key-id = 'i', kid = 'k', hmac-key = { env = 'K' } }"), "unknown key \"kid\"");
    wrong(&issuer("profile = ' '"), "`profile` cannot be \"\": it is no name");
    wrong(&spoilt("[issuer.letsencrypt]", "[issuer.letsencript]"), "did you mean \"letsencrypt\"?");
    wrong(&spoilt("[issuer.letsencrypt]", "[issuer.mine]"), "add `directory = \"https://…\"`");
    wrong(&spoilt("accept-terms = true", ""), "needs `accept-terms = true`: a person decides");
    wrong(
        &spoilt("accept-terms = true", "accept-terms = false"),
        "linked as termsOfService at https://acme-v02",
    );
    wrong(&spoilt("accept-terms = true", "accept-terms = 'yes'"), "must be true or false, not a string");
    wrong(&spoilt("ops@example.org", "ops@example.org\\n"), "`contact` cannot contain");
    wrong(&spoilt("[\"ops@example.org\"]", "\"ops@example.org\""), "as in `contact = [\"ops@example.org\"]`");
}

#[test]
fn domains_that_cannot_be_are_refused() {
    let long = format!("{}.example.org", "a".repeat(64));
    let longer = format!("{}org", "abcdefghi.".repeat(26));
    let labels = format!("{}org", "a.".repeat(127));
    for bad in [
        "",
        ".",
        "..",
        "a..b",
        ".a.example",
        "a.example.",
        "-a.example",
        "a-.example",
        &long,
        &longer,
        &labels,
        "a_b.example",
        "a.example:443",
        "https://a.example/x",
        "10.0.0.1",
        "2001:db8::1",
        "::ffff:10.0.0.1",
        "localhost",
        "com",
        "a.example ",
        " a.example",
        "a.example\\u0000",
        "a.exam\\tple",
        "a.example\\n",
        "\\u001b[2J.example",
        "a\\u202e.example",
        "a\\u200b.example",
        "xn--\\u00e4.example",
        "xn--a.example",
        "*",
        "*.",
        "*.*.example.org",
        "a*.example.org",
        "foo.*.example.org",
        "*.com",
        "../x",
        "/etc/passwd",
        "$(id).example",
        "`id`.example",
        "a;b.example",
        "a&&b.example",
        "a|b.example",
        "%s.example",
        "{}.example",
        "\\\".example",
        "ops@a.example",
    ] {
        wrong(
            &spoilt("\"www.example.org\"", &format!("\"{bad}\"")),
            "certs.toml:19:12: `domains` cannot contain \"",
        );
    }
    for good in
        ["bücher.example", "*.example.net", "BIG.example", "a\u{3002}example", "xn--bcher-kva.example"]
    {
        assert!(
            read(&spoilt("\"www.example.org\"", &format!("\"{good}\", \"x.example\""))).is_ok(),
            "{good}"
        );
    }
    let domains = |list: &str| spoilt("[\"www.example.org\", \"example.org\"]", list);
    wrong(&domains("[]"), "certificate \"shop\" has no domains");
    wrong(&domains("'www.example.org'"), "must be a list, not a string");
    wrong(&domains("[1]"), "each of `domains` must be a string, not an integer");
    wrong(&domains("['a.example', 'A.example']"), "has the domain \"a.example\" twice");
    wrong(&domains("['bücher.example', 'xn--bcher-kva.example']"), "twice");
    wrong(&domains("['u\u{308}.example', 'ü.example']"), "twice");
    wrong(&domains("['*.a.example', 'b.a.example', 'a.example']"), "remove \"b.a.example\"");
    wrong(&spoilt("domains =", "domain ="), "unknown key \"domain\", did you mean \"domains\"?");
}

#[test]
fn a_hundred_domains_are_the_most() {
    let list = |count: usize| {
        let names: Vec<_> = (0..count).map(|number| format!("'n{number}.example.org'")).collect();
        spoilt("[\"www.example.org\", \"example.org\"]", &format!("[{}]", names.join(",")))
    };
    for few in [1, 25, 26, 100] {
        assert!(read(&list(few)).is_ok());
    }
    for many in [101, 1000, 20_000] {
        wrong(&list(many), &format!("has {many} domains, CAs take at most 100"));
    }
}

#[test]
fn names_of_certificates_are_apart() {
    let second = |name: &str, domain: &str| {
        format!("{GOOD}[[certificate]]\n{name}\ndomains = ['{domain}']\nhosts = []\n")
    };
    wrong(
        &second("name = 'shop'", "b.example"),
        "two certificates have the name \"shop\", the other is at line 18",
    );
    wrong(&second("name = 'Shop'", "b.example"), "in the case of letters only");
    wrong(
        &spoilt("name = \"shop\"\n", "").replace(
            "hosts = [\"web\"]",
            "hosts = []\n[[certificate]]\ndomains = ['*.www.example.org']\nhosts = []",
        ),
        "give this one a name of its own",
    );
    for bad in [
        "", "..", "../x", "/x", "a/b", "-rf", "~", "$(id)", "`id`", "a;b", "a|b", "a b", "%s", "{}", "a\\nb",
        ".x",
    ] {
        wrong(&spoilt("name = \"shop\"", &format!("name = \"{bad}\"")), "it becomes a folder");
    }
    wrong(&spoilt("\"shop\"", &format!("\"{}\"", "x".repeat(4096))), "at most 200 are allowed");
    let long = format!("{}example.org", "abcdefghi.".repeat(20));
    wrong(
        &spoilt("name = \"shop\"\n", "").replace("\"www.example.org\"", &format!("\"{long}\"")),
        "add `name = \"…\"`",
    );
    wrong(
        &spoilt("[host.web1]", "[host.\"$(id)\"]").replace("\"web1\", ", ""),
        "cannot name a table of [host]",
    );
    wrong(&spoilt("web = [\"web1\"", "\"a b\" = []\nweb = [\"web1\""), "\"a b\" cannot name a group");
    wrong(&spoilt("[[certificate]]", "[certificate]"), "write [[certificate]], with two brackets");
    wrong(&spoilt("[host.web1]", "[host]\nport = 22\n[host.web1]"), "\"port\" stands directly in [host]");
    wrong(
        &format!(
            "host = 3\n{}",
            GOOD.replace("[host.web1]\n[host.web2]", "")
                .replace("\"web1\", \"web2\"", "")
                .replace("[\"web\"]", "[]")
        ),
        "give it a name, as in [host.NAME]",
    );
}

#[test]
fn probes_need_names_that_are_covered() {
    let certificate = |lines: &str| spoilt("domains = [\"www.example.org\", \"example.org\"]", lines);
    wrong(&certificate("domains = ['*.example.org']"), "add `verify-names = [\"www.example.org\"]`");
    assert!(read(&certificate("domains = ['*.example.org']\nverify-names = []")).is_ok());
    assert!(read(&certificate("domains = ['*.example.org']\nverify-names = ['a.example.org']")).is_ok());
    wrong(
        &certificate("domains = ['*.example.org']\nverify-names = ['*.example.org']"),
        "cannot be probed for the wildcard",
    );
    wrong(
        &certificate("domains = ['*.example.org']\nverify-names = ['a.b.example.org']"),
        "which none of its domains covers",
    );
    assert!(
        read(&certificate("domains = ['*.example.org']").replace("hosts = [\"web\"]", "hosts = []")).is_ok()
    );
}

#[test]
fn keys_are_never_for_everybody() {
    let key = |line: &str| with("[host.web1]", line);
    for bad in ["0644", "0604", "0777", "600", "u=rw", ""] {
        wrong(&key(&format!("mode = '{bad}'")), "a key is for its owner, and its group at most");
    }
    for bad in ["ssl:cert", "$(id)", "-R", "a b", "", "../x"] {
        wrong(&key(&format!("group = '{bad}'")), "`group` cannot be");
        wrong(&key(&format!("owner = '{bad}'")), "`owner` cannot be");
    }
}

#[test]
fn values_out_of_range_are_refused() {
    let key = |line: &str| with("[[certificate]]", line);
    for bad in ["rsa-512", "ecdsa-p521", "ed25519", "RSA", ""] {
        wrong(&key(&format!("key = '{bad}'")), "`key` cannot be");
    }
    for bad in
        ["'-1d'", "'30'", "'0%'", "'100%'", "'-5%'", "'nan%'", "'30 days'", "''", "'0s'", "'99999999999w'"]
    {
        wrong(&key(&format!("renew-before = {bad}")), "`renew-before` cannot be");
    }
    for bad in ["30", "0.33", "nan", "-inf", "1979-05-27", "true", "[]", "{}"] {
        wrong(&key(&format!("renew-before = {bad}")), "`renew-before` must be");
    }
    let host = |line: &str| with("[host.web1]", line);
    for bad in ["0", "65536", "-1", "99999999999999999999", "0x1ffff"] {
        wrong(&host(&format!("port = {bad}")), "`port` cannot be");
    }
    for bad in ["'22'", "22.0", "1979-05-27T07:32:00Z", "[22]"] {
        wrong(&host(&format!("port = {bad}")), "`port` must be a whole number");
    }
    let account = |line: &str| with("[dns.main]", line);
    for bad in ["0", "-1", "86401", "'0s'", "'2d'", "99999999999999999999"] {
        wrong(&account(&format!("ttl = {bad}")), "`ttl` cannot be");
    }
    wrong(&account("ttl = 1.5"), "`ttl` must be a number of seconds");
    wrong(&account("propagation-timeout = '0s'"), "`propagation-timeout` is zero");
    wrong(&account("propagation-timeout = '2d'"), "longer than a day");
    wrong(&account("propagation-delay = 5"), "must be a duration with its unit");
    wrong(&account("propagation-check = 'on'"), "\"resolver\" or \"off\"");
    wrong(&account("authoritative = ['ns1.example.org']"), "it is not an IP address");
    wrong(&account("algorithm = 'hmac-md5'"), "known are hmac-sha256, hmac-sha384, hmac-sha512");
    wrong(&spoilt("ns1.example.org:53", "ns1.example.org:0"), "its port is not from 1 to 65535");
    wrong(&spoilt("\"certfleet\"", "\"\""), "`key-name` cannot be \"\"");
    wrong(&spoilt("\"rfc2136\"", "\"cloudflair\""), "unknown provider \"cloudflair\"");
    wrong(&spoilt("provider = \"rfc2136\"", ""), "dns \"main\" needs `provider`");
    wrong(&host("[resolver]\nnameservers = ['dns.example']"), "`nameservers` cannot contain");
    wrong(&host("[store]\npath = '~/certfleet'"), "are not expanded");
    wrong(&host("identity = '$HOME/.ssh/id'"), "are not expanded");
    wrong(&host("identity = ''"), "a path cannot be empty");
    wrong(&host("identity = []"), "`identity` cannot be empty");
    wrong(&host("identity = ['/a', '/b', '/c', '/d']"), "hosts hang up on who tries so many");
    wrong(&host("known-hosts = []"), "`known-hosts` cannot be empty");
}

#[test]
fn a_host_is_one_door_and_nothing_to_run() {
    let host = |line: &str| with("[host.web1]", line);
    wrong(&host("address = 'root@web1'"), "write `user = \"…\"`");
    wrong(&host("address = '-oProxyCommand=id'"), "cannot start with `-`");
    wrong(&host("address = 'web1:2222'"), "write `port = …`");
    wrong(&host("address = 'web1 id'"), "an address has no spaces");
    wrong(&host("user = 'root; id'"), "`user` cannot be");
    wrong(&host("directory = '/etc/$(id)'"), "safe in every shell");
    wrong(&host("directory = '../certs'"), "does not start with `/`");
    wrong(&host("directory = '/'"), "belongs to the system");
    wrong(&host("service = 'ngnix'"), "did you mean \"nginx\"?");
    wrong(&host("test = ''"), "a command cannot be empty");
    wrong(&host("reload = \"a\\nb\""), "one line without control characters");
    wrong(&host("reload = \"a\\u0000b\""), "one line without control characters");
    wrong(&host("verify = []"), "`verify` is empty");
    wrong(&host("verify = ['web1:443']"), "`verify` cannot contain");
    wrong(&host("[host-defaults]\naddress = 'web1'"), "move it to the [host.NAME]");
    for bad in [
        "ssh-dss AAAAB3NzaC1kc3MAAACBAKcUaD1WtByUQy6OFMRWLgYEOftcyRWGM0nGZJx7Lpvs/lOlDBsKNN5a00dCCDhRQOzX90b44VE2aJpCh6rLYNDr9GcTuUttVYoOw+JMXvOCSnpHEIy/VPkicqwWNvA4QADH7Xe/vAOlASn4OYrfNIp7Hb/kdpy8XmfIPHoxJcSlAAAAFQDW2ejjkIHIeXOuLmTq9bfCsd8nZwAAAIALODY1lY0B/OIgh5avYspSzQXlUDBFTa8eQdvy2S0RkDHpO79TZgrOE6/JD9j6nHjgMDkSgTrjMkEyaTkR3Xdp/j4h7OUk4H5FYS1t7yTw0+hHdTsmpMgNh6bqy+df/JIIzY+usvvuXK9i56RG17DkdxPOH7L+Z6aazBqEE1LHnwAAAIANtdwb4dHPUlP/Be5rrGGxmbJNlxp4W7s71MPLKmABKQ4Msqpl+700A5xOKkik6+rUBZGJJPKpzDgEPO4OtSYw8vxlR0AbjzI66XnXOXB2q5NNV6flseqEVS2Ukog1d4fAGZHyH36P+7jb+frC+xksLJilLwBwBSpC9hYYaG95kg==",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDh5YGlA4gQtNd5LqqW5q9g7byKIWGmAtEBDyzzVzs+hgLQy7pTelAQRqJtDMBBMkcooLq+Hpq/r/LiJvizx32KloKkLbDOX5WvtoRqJwyEwXrG/UzQrfvCjY8ifAjEeWqrfed+Msj1Wk1pGff7n49NJrgeR1JhCGyVV/dumbaoZQ==",
        "no-pty ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBXjo3qd/Ka1pN6x3HrITolWDcs8L+FrQ1weBCc0gFOh",
        "ssh-ed25519 AAAA",
        "",
    ] {
        wrong(&host(&format!("host-key = '{bad}'")), "`host-key` cannot be");
    }
    let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCjOZ69706Zfs9KfHmFnrhZW9JetxOnx+4/yHnVOVEHFaC66oPXTPVdHfbT/SCkosJUAbsV+5d9Qdce7TFaY86jlsaVxST9BH5VCWMvykZSKIFbGXNpw0duf6myMFbBmRkg6vZBL+SSCxmcA+KJYdXMxPF9cSluMOuhv4T84NoHxcPSk9CixQxOUneIfvkWZN5bALzIk3AXXHeabwKPUbXTllaN45Viulr708CubJuf6p0kVcNIO97i/2ZBsuCeLFFURzUW+4hekI7H4XveUIK5oyF5T1w2g6Wx0w/R/qOaKtkT40r/b4arqVRaYzMpiyzULDyjvq8DJFhlzJWieutt";
    assert!(read(&host(&format!("host-key = '{rsa} root@web1'"))).is_ok());
}

#[test]
fn a_hosts_own_settings_count_more_than_the_defaults() {
    let text = with("[host.web1]", "user = 'deploy'\nservice = 'nginx'")
        + "[host-defaults]\nuser = 'certs'\nport = 2222\ntest = 'true'\nreload = 'false'\n";
    let config = read(&text).unwrap();
    let hosts: Vec<_> = config
        .desired
        .hosts
        .values()
        .map(|host| (host.user.as_str(), host.port, host.test.as_str(), host.reload.as_str()))
        .collect();
    assert_eq!(
        hosts,
        [("deploy", 2222, "nginx -t", "systemctl reload nginx"), ("certs", 2222, "true", "false")]
    );
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    for (value, part) in [
        ("\"hunter2\"", "`secret` is a secret: it is never written in certs.toml"),
        ("\"\"\"\nhunter2\n\"\"\"", "never written"),
        ("[\"hunter2\"]", "never written"),
        ("{ password = \"hunter2\" }", "unknown key \"password\" in a secret"),
        ("{ file = \"/x\", env = \"X\" }", "`secret` names more than one source"),
        ("{}", "`secret` names no source"),
        ("{ env = \"$X\" }", "write the name without `$`"),
        ("{ credential = \"../x\" }", "a credential is named by one file name"),
        ("{ command = \"pass x\" }", "no shell"),
        ("{ command = [] }", "`command` is empty"),
        ("{ file = \"~/x\" }", "are not expanded"),
    ] {
        let text = spoilt("{ file = \"secrets/tsig\" }", value);
        wrong(&text, part);
        let shown = read(&text).unwrap_err().to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(value == "{ env = \"$X\" }" || shown.contains("hint:"), "{shown}");
    }
    for line in ["secert = 'hunter2'", "secret = 'hunter2", "tsig-secret = hunter2", "token = ['hunter2']"] {
        let text = spoilt("secret = { file = \"secrets/tsig\" }", line);
        let shown = read(&text).unwrap_err().to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(read(&spoilt("secret = { file = \"secrets/tsig\" }", "secret = 'hunter2'")).unwrap_err().to_string().contains(
        "{ file = \"/path\" }, { env = \"NAME\" }, { credential = \"NAME\" }, { command = [\"program\", \"argument\"] }"
    ));
}

#[test]
fn what_a_person_should_look_at_is_a_warning() {
    let warnings = |text: &str| {
        let list = read(text).unwrap().warnings;
        list.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let many = (0..25).fold("domains = [".to_owned(), |list, n| format!("{list}'n{n}.example.net', "));
    let second = |lines: &str| format!("{GOOD}[[certificate]]\nname = 'b'\n{lines}\n");
    for (text, part) in [
        (
            second("domains = ['example.org']\nhosts = ['web1']"),
            "is in certificate \"b\" and in certificate \"shop\", at line 19",
        ),
        (second("domains = ['b.example']"), "certificate \"b\" names no hosts"),
        (with("[host.web1]", "[host.web3]"), "host \"web3\" is in no certificate"),
        (with("[host.web1]", "address = 'web2'"), "is the same machine and directory as"),
        (
            with("[dns.main]", "propagation-check = 'off'\nauthoritative = ['192.0.2.1']"),
            "that are not asked",
        ),
        (GOOD[..GOOD.find("[host.web1]").unwrap()].to_owned(), "no certificate is asked for"),
        (
            with("[issuer.letsencrypt]", "profile = 'shortlived'").replace("domains = [", &many),
            "Let's Encrypt takes at most 25 with the profile",
        ),
        (with("[issuer.letsencrypt]", "directory = 'https://acme.zerossl.com/v2/DV90'"), "web site"),
    ] {
        let list = warnings(&text);
        assert_eq!(list.len(), 1, "{list:?}");
        assert!(list[0].starts_with("warning: ") && list[0].contains(part), "{}", list[0]);
    }
}

#[test]
fn a_revision_follows_the_meaning_of_its_three_tables() {
    let revision = |text: &str| {
        let config = read(text).unwrap();
        config.desired.certificates.values().next().unwrap().revision.clone()
    };
    let first = revision(GOOD);
    assert!(first.len() == 16 && first.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')), "{first}");
    for same in [
        with("[[certificate]]", "# a comment"),
        spoilt("accept-terms = true", "accept-terms   =   true"),
        spoilt("name = \"shop\"\n", "").replace("hosts = [\"web\"]", "hosts = ['web']\nname = 'shop'"),
        with("[host.web1]", "port = 2222"),
    ] {
        assert_eq!(revision(&same), first, "{same}");
    }
    for other in [
        with("[[certificate]]", "key = 'rsa-2048'"),
        with("[issuer.letsencrypt]", "roots = 'x.pem'"),
        with("[dns.main]", "ttl = 61"),
        spoilt("\"example.org\"]", "\"a.example.org\"]"),
    ] {
        assert_ne!(revision(&other), first, "{other}");
    }
}
