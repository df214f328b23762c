//! The script as it is installed on a host: what it takes, what it refuses, in every shell.

mod newer;

use std::process::Output;
use std::sync::Arc;

use certfleet::deploy::receiver::{self, Roots};
use certfleet::model::problem::plain;

use super::killed::TOOLS;
use super::*;
use crate::receiver::listing;
use crate::world::made::{Authority, DAY};

/// A host where the script is installed, and who issues its certificates.
struct Receiver {
    place: Place,
    authority: Arc<Authority>,
    shell: Shell,
}

impl Receiver {
    fn new(shell: Shell) -> Self {
        Self::at(Place::new(shell), Arc::new(Authority::new("a CA").unwrap()), shell)
    }

    fn at(place: Place, authority: Arc<Authority>, shell: Shell) -> Self {
        let openssl = parts::find("openssl").expect("openssl: apt-get install openssl");
        symlink(openssl, place.path("bin/openssl")).unwrap();
        if !place.path("bin/flock").exists() {
            // Some distributions' busybox is without it; need() names the package.
            symlink(
                parts::find("flock").expect("flock: apt-get install util-linux"),
                place.path("bin/flock"),
            )
            .unwrap();
        }
        fs::write(place.path("script"), receiver::script()).unwrap();
        fs::write(place.path("roots.pem"), authority.pem()).unwrap();
        let this = Self { place, authority, shell };
        this.configure("allow a.org a.org www.a.org\nallow b.org b.org *.b.org\nallow c.org c.org\n");
        this
    }

    /// Root's word on what is allowed; what else is in it is as certfleet prints it.
    fn configure(&self, allow: &str) {
        let printed = receiver::conf(&self.place.host, [], Roots::Any);
        let roots = format!("roots {}\n", self.place.path("roots.pem").display());
        fs::write(self.place.path("conf"), printed.replace("roots any\n", &roots) + allow).unwrap();
    }

    fn issue(&self, name: &str, version: u32, names: &[&str], days: i64) -> Bundle {
        bundle_of(name, version, self.authority.issue(names, -DAY, days * DAY).unwrap())
    }

    fn say(&self, request: &[u8]) -> Output {
        let own = self.place.path("bin").display().to_string();
        // Nothing but its own applets, openssl, and flock where it has none.
        let path = if self.shell == Shell::Busybox { own } else { format!("{own}:/usr/bin:/bin") };
        let mut child = Command::new(self.place.path("bin/sh"))
            .args([self.place.path("script"), self.place.path("conf")])
            .env_clear()
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || drop(stdin.write_all(request)));
            child.wait_with_output().unwrap()
        })
    }

    fn records(&self, mut conversation: Conversation) -> Option<Vec<Record>> {
        let output = self.say(&receiver::request(&mut conversation));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        Some(conversation.records_in(&output.stdout)?.unwrap())
    }

    /// What became of each.
    fn install(&self, bundles: &[Bundle]) -> Vec<Outcome> {
        let records = self.records(Conversation::install(&self.place.host, bundles).unwrap()).unwrap();
        let answer = Answer::of(&records, bundles);
        answer.unwrap_or_else(|error| panic!("{:?}: {error}: {records:?}", self.shell)).outcomes
    }

    fn put_back(&self, name: &str, installed: &str, previous: &str) -> Record {
        let what = PutBack {
            certificate: name.parse().unwrap(),
            installed: installed.to_owned(),
            previous: previous.to_owned(),
        };
        let records = self.records(Conversation::put_back(&self.place.host, &[what]).unwrap()).unwrap();
        records.into_iter().find(|record| record.name == name).unwrap()
    }

    /// All that is there but who was here last, and what was said to him.
    fn there(&self) -> Vec<(PathBuf, String)> {
        listing(&self.place.path("live"), &[".holder", ".last-answer", ".lock"])
    }

    /// Brings one that must be refused for this reason, and leave nothing behind.
    fn refused(&self, bundle: Bundle, reason: &str) {
        let before = self.there();
        let outcome = self.install(&[bundle]).remove(0);
        let Outcome::Refused { reason: said } = &outcome else { panic!("{reason}: {outcome:?}") };
        assert!(said.contains(reason), "{:?}: {said} instead of: {reason}", self.shell);
        assert_eq!(self.there(), before, "{reason}");
    }

    fn serves(&self, name: &str, bundle: &Bundle) {
        let read = |file: &str| fs::read_to_string(self.place.path("live").join(name).join(file)).unwrap();
        assert_eq!(read("cert.pem"), bundle.cert);
        assert_eq!(read("privkey.pem"), *bundle.privkey);
    }
}

fn bundle_of(name: &str, version: u32, pair: Pair) -> Bundle {
    Bundle {
        certificate: name.parse().unwrap(),
        version: VersionNumber(version),
        fingerprint: Fingerprint::of(pair.leaf.as_bytes()),
        force: false,
        privkey: pair.key.into(),
        cert: pair.leaf,
        chain: pair.chain,
    }
}

fn copy(bundle: &Bundle, version: u32) -> Bundle {
    Bundle {
        certificate: bundle.certificate.clone(),
        version: VersionNumber(version),
        fingerprint: bundle.fingerprint,
        force: true,
        privkey: bundle.privkey.clone(),
        cert: bundle.cert.clone(),
        chain: bundle.chain.clone(),
    }
}

#[test]
fn newer_ones_of_allowed_names_are_taken_and_nothing_else() {
    for shell in SHELLS {
        let host = Receiver::new(shell);
        let first = host.issue("a.org", 7, &["a.org"], 30);
        let outcomes = host.install(&[copy(&first, 7), host.issue("b.org", 1, &["b.org", "x.b.org"], 30)]);
        assert!(outcomes.iter().all(|one| matches!(one, Outcome::Installed { .. })), "{outcomes:?}");

        // A new one under a lower number: somebody restored an old store. And one that is not allowed beside it.
        let second = host.issue("a.org", 2, &["a.org", "www.a.org"], 60);
        let outcomes = host.install(&[copy(&second, 2), host.issue("d.org", 1, &["d.org"], 30)]);
        assert!(matches!(&outcomes[0], Outcome::Switched { .. }), "{shell:?}: {outcomes:?}");
        let Outcome::Refused { reason } = &outcomes[1] else { panic!("{outcomes:?}") };
        assert!(reason.contains("does not allow it"), "{reason}");
        host.serves("a.org", &second);
        host.place.assert_private();
        assert!(!host.place.path("live/.certfleet/d.org").exists());

        // The very same is as good as done, whatever number it has.
        let same = host.install(&[copy(&second, 9)]);
        assert_eq!(same, [Outcome::Unchanged { installed: second.directory_name() }]);

        let names = ["a.org", "www.a.org"];
        let later = |name: &str, names: &[&str]| host.issue(name, 8, names, 90);
        host.refused(copy(&first, 8), "it lacks the name www.a.org");
        host.refused(later("a.org", &["a.org"]), "it lacks the name www.a.org");
        host.refused(later("d.org", &["d.org"]), "does not allow it");
        host.refused(later("b.org", &["a.org"]), "does not allow the name a.org");
        host.refused(later("a.org", &["a.org", "www.a.org", "x.org"]), "does not allow the name x.org");
        host.refused(later("a.org", &["a.org", "*.a.org"]), "does not allow the name *.a.org");
        host.refused(later("b.org", &["b.org", "x.y.b.org"]), "does not allow the name x.y.b.org");
        host.refused(later("a.org", &[]), "no names are in it");
        host.refused(bundle_of("a.org", 8, host.authority.issue(&names, -2 * DAY, -DAY).unwrap()), "expired");
        host.refused(
            bundle_of("a.org", 8, host.authority.issue(&names, DAY, 90 * DAY).unwrap()),
            "not yet valid",
        );
        let stranger = Authority::new("another CA").unwrap();
        host.refused(
            bundle_of("a.org", 8, stranger.issue(&names, -DAY, 90 * DAY).unwrap()),
            "is not valid here",
        );
        let mut mixed = later("a.org", &names);
        mixed.privkey = second.privkey.clone();
        host.refused(mixed, "the key is not the one of the certificate");
        let form = "is not a key, its certificate and a chain";
        let mut with_key = later("a.org", &names);
        with_key.chain.push_str(&second.privkey);
        host.refused(with_key, form);
        let mut twice = later("a.org", &names);
        twice.cert = twice.cert.repeat(2);
        host.refused(twice, form);
        let mut garbage = later("a.org", &names);
        garbage.cert = "$(touch /tmp/x)\n`id`\n".to_owned();
        host.refused(garbage, form);
        let mut empty = later("a.org", &names);
        empty.privkey = String::new().into();
        host.refused(empty, form);
        host.serves("a.org", &second);
    }
}

#[test]
fn roots_say_whose_certificates_count() {
    let host = Receiver::new(Shell::Dash);
    let conf = fs::read_to_string(host.place.path("conf")).unwrap();
    let with = |roots: &str| {
        let text = conf.lines().filter(|line| !line.starts_with("roots ")).collect::<Vec<_>>().join("\n");
        fs::write(host.place.path("conf"), format!("{text}\nroots {roots}\n")).unwrap();
    };
    // Once, so that what is refused has nothing to make.
    host.install(&[host.issue("b.org", 1, &["b.org"], 30)]);
    with("system");
    host.refused(host.issue("a.org", 1, &["a.org"], 30), "is not valid here (roots: system)");
    // What nobody trusts gives way to what is trusted, though it ends later: a staging CA's, a self-signed one.
    with("any");
    let stranger = Authority::new("a staging CA").unwrap();
    let untrusted = stranger.issue(&["a.org"], -DAY, 3000 * DAY).unwrap();
    assert!(matches!(
        host.install(&[bundle_of("a.org", 1, untrusted.clone())])[..],
        [Outcome::Installed { .. }]
    ));
    let stray = Pair { chain: host.authority.pem(), ..untrusted };
    host.refused(bundle_of("a.org", 2, stray), "is not valid here (roots: any)");
    with(&host.place.path("roots.pem").display().to_string());
    let good = host.issue("a.org", 2, &["a.org"], 30);
    assert!(matches!(host.install(&[copy(&good, 2)])[..], [Outcome::Switched { .. }]));
    host.serves("a.org", &good);
}

#[test]
fn only_the_last_switch_goes_back_and_only_for_minutes() {
    for shell in SHELLS {
        let host = Receiver::new(shell);
        let versions: Vec<Bundle> =
            (1..=3).map(|n| host.issue("a.org", n, &["a.org"], 30 * i64::from(n))).collect();
        let names: Vec<String> = versions.iter().map(Bundle::directory_name).collect();
        let kept = |version: &str, old: &str, host: &Receiver| {
            let before = host.there();
            let record = host.put_back("a.org", version, old);
            assert_eq!(record.word, "kept", "{shell:?}: {record:?}");
            assert_eq!(host.there(), before, "{version} {old}");
            record.text
        };
        host.install(&versions[..1]);
        assert!(kept(&names[0], &names[0], &host).contains("within the last ten minutes"));
        host.install(&versions[1..2]);
        host.install(&versions[2..]);
        // Two steps back are a downgrade, and so is one that is not the last.
        kept(&names[2], &names[0], &host);
        kept(&names[1], &names[0], &host);
        assert_eq!(host.put_back("a.org", &names[2], &names[1]).word, "put-back");
        host.serves("a.org", &versions[1]);
        kept(&names[2], &names[1], &host);
        // Its own turn was noted before the other's.
        let note = host.place.path("live/.certfleet/.last-switch");
        host.install(&versions[2..]);
        let text = fs::read_to_string(&note).unwrap();
        let (line, at) = text.trim_end().rsplit_once(' ').unwrap();
        for shifted in [-700, 700] {
            fs::write(&note, format!("{line} {}\n", at.parse::<i64>().unwrap() + shifted)).unwrap();
            assert!(kept(&names[2], &names[1], &host).contains("within the last ten minutes"));
        }
        host.configure("allow b.org b.org\n");
        fs::write(&note, &text).unwrap();
        assert!(kept(&names[2], &names[1], &host).contains("does not allow it"));
    }
}

#[test]
fn what_is_no_request_changes_nothing_and_says_nothing() {
    for shell in SHELLS {
        let host = Receiver::new(shell);
        host.install(&[host.issue("a.org", 1, &["a.org"], 30)]);
        let before = host.there();
        let nonce = "0123456789abcdef".repeat(2);
        let noise: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        for garbage in [
            b"".as_slice(),
            b"\n",
            b"id\nexit\n",
            b"exec sh -c 'touch /tmp/x'\n",
            format!("certfleet-receive 1 install 1 {}\n", &nonce[1..]).as_bytes(),
            format!("certfleet-receive 1 install 1 {nonce} more\n").as_bytes(),
            format!("certfleet-receive 1 install 1 $(id){}\n", &nonce[5..]).as_bytes(),
            &noise,
        ] {
            let output = host.say(garbage);
            assert_eq!(output.stdout, b"", "{}", plain(&String::from_utf8_lossy(garbage)));
            assert!(String::from_utf8_lossy(&output.stderr).starts_with("this key only brings certificates"));
        }
        let block = "x".repeat(4096);
        for (request, what) in [
            ("1 install 4 N\n".to_owned(), "allows 3 certificates"),
            ("1 install 99999999999999999999 N\n".to_owned(), "allows 3 certificates"),
            ("1 install -1 N\n".to_owned(), "allows 3 certificates"),
            ("2 install 1 N\n".to_owned(), "version 1"),
            ("x[$(id)] install 1 N\n".to_owned(), "version 1"),
            ("1 read 1 N\nfile\n11\n/etc/shadow".to_owned(), "does nothing else"),
            ("1 config 0 N\n".to_owned(), "does nothing else"),
            ("1 install 1 N\n".to_owned(), "the names did not arrive"),
            ("1 install 1 N\n../../etc 1-abcdef12 - 1 1 1\n1\n".to_owned(), "a name is not allowed"),
            ("1 install 1 N\na.org ../1 - 1 1 1\n1\n".to_owned(), "a name is not allowed"),
            ("1 install 1 N\n.work 1-abcdef12 - 1 1 1\n1\n".to_owned(), "a name is not allowed"),
            ("1 install 1 N\na.org 1-abcdef12 - 9999999999 1 1\n1\n".to_owned(), "a length is not allowed"),
            (
                "1 install 2 N\na.org 1-abcdef12 - 1 1 1\na.org 1-abcdef12 - 1 1 1\n1\n".to_owned(),
                "nothing was",
            ),
            ("1 install 1 N\na.org 1-abcdef12 - 1 1 1\n1\nx\n".to_owned(), "did not arrive"),
            (
                format!("1 install 1 N\na.org 1-abcdef12 - 1 1 1\n1048576\n{}", block.repeat(500)),
                "did not arrive",
            ),
            ("1 put-back 1 N\n../a.org 1 2\nend\n".to_owned(), "a name is not allowed"),
            ("1 put-back 1 N\na.org 1-abcdef12 ../../../../etc\nend\n".to_owned(), "a name is not allowed"),
        ] {
            let request = format!("certfleet-receive {}", request.replace('N', &nonce));
            let output = host.say(request.as_bytes());
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let expected = if what == "nothing was" { "failed - staging" } else { what };
            assert!(said.contains("failed - ") && said.contains(expected), "{shell:?} {request:.80}: {said}");
            assert_eq!(output.stderr, b"");
        }
        assert_eq!(host.there(), before);
    }
}

#[test]
fn a_configuration_that_others_can_change_or_that_says_too_little_counts_for_nothing() {
    let host = Receiver::new(Shell::Dash);
    let conf = host.place.path("conf");
    let whole = fs::read_to_string(&conf).unwrap();
    let complaint = || {
        let bundle = host.issue("a.org", 1, &["a.org"], 30);
        let records = host.records(Conversation::install(&host.place.host, &[bundle]).unwrap()).unwrap();
        assert_eq!((records[0].word.as_str(), records[0].version.as_str()), ("failed", "receiver"));
        assert!(!host.place.path("live/.certfleet").exists());
        records[0].text.clone()
    };
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o664)).unwrap();
    assert!(complaint().contains("chmod 0644"));
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&conf, whole.replace("test ", "tset ")).unwrap();
    assert!(complaint().contains("`tset` is not known"));
    fs::write(
        &conf,
        whole.lines().filter(|line| !line.starts_with("reload ")).collect::<Vec<_>>().join("\n"),
    )
    .unwrap();
    assert!(complaint().contains("needs `directory`, `test` and `reload`"));
    fs::rename(&conf, host.place.path("elsewhere")).unwrap();
    assert!(complaint().contains("No such file"));
    symlink(host.place.path("elsewhere"), &conf).unwrap();
    assert!(complaint().contains("must be a file"));
}

#[test]
fn killed_at_any_step_the_next_request_ends_it() {
    let past = Receiver::new(Shell::Dash);
    let first = past.issue("a.org", 1, &["a.org"], 30);
    install_as_certbot(past.place.dir.path(), "c.org", &past.authority.issue(&["c.org"], -DAY, DAY).unwrap())
        .unwrap();
    past.install(&[copy(&first, 1)]);
    let second = past.issue("a.org", 2, &["a.org"], 60);
    let taken = past.issue("c.org", 1, &["c.org"], 60);
    let mut steps = 0;
    for call in (1..).step_by(7) {
        let copied = Place::copy_of(&past.place, Shell::Dash);
        let host = Receiver::at(copied, Arc::clone(&past.authority), Shell::Dash);
        host.place.kill_at(call);
        let batch = || [copy(&second, 2), copy(&taken, 1)];
        let killed = host.records(Conversation::install(&host.place.host, &batch()).unwrap());
        let reached = host.place.calls() >= call;
        host.place.assert_private();
        let cert = fs::read_to_string(host.place.path("live/a.org/cert.pem")).unwrap();
        host.serves("a.org", if cert == second.cert { &second } else { &first });
        for tool in TOOLS {
            fs::remove_file(host.place.path("bin").join(tool)).unwrap();
        }
        if !reached {
            assert!(killed.is_some());
            break;
        }
        steps = call;
        let outcomes = host.install(&batch());
        for outcome in outcomes {
            assert!(
                matches!(outcome, Outcome::Switched { .. } | Outcome::Unchanged { .. }),
                "call {call}: {outcome:?}"
            );
        }
        host.serves("a.org", &second);
        host.serves("c.org", &taken);
    }
    assert!(steps > 35, "only {steps} steps, is the trick still working?");
}
