//! Which certificate is newer than the one in use, and what it costs to find out.

use super::*;

#[test]
fn newer_is_what_begins_later_whenever_it_ends() {
    for shell in SHELLS {
        let host = Receiver::new(shell);
        let begun = |hours: i64, version: u32, days: i64| {
            let pair = host.authority.issue(&["a.org"], hours * 3600, days * DAY).unwrap();
            bundle_of("a.org", version, pair)
        };
        let taken = |bundle: &Bundle| {
            let outcome = host.install(&[copy(bundle, bundle.version.0)]).remove(0);
            let fine = matches!(outcome, Outcome::Installed { .. } | Outcome::Switched { .. });
            assert!(fine, "{shell:?} {}: {outcome:?}", bundle.directory_name());
            host.serves("a.org", bundle);
        };
        let older = "it begins before the one in use";
        let again = "it was in use here before the one that is";
        let (first, shorter) = (begun(-480, 1, 90), begun(-240, 2, 6));
        taken(&first);
        taken(&shorter);
        host.refused(begun(-480, 3, 3000), older);
        host.refused(begun(-265, 3, 3000), older);
        host.refused(copy(&first, 3), older);

        // From a CA that rounds to the day, after one that does not: twice in an hour, then both dates are the same.
        let rounded = [begun(-263, 3, 90), begun(-263, 4, 90)];
        for new in &rounded {
            taken(new);
        }
        for (old, version) in [(&shorter, 5), (&rounded[0], 5), (&rounded[0], 3)] {
            host.refused(copy(old, version), again);
        }
        let mut rewritten = copy(&rounded[0], 5);
        rewritten.cert = rewrapped(&rewritten.cert);
        host.refused(rewritten, again);
        let mut rewritten = copy(&rounded[1], 5);
        rewritten.cert = rewrapped(&rewritten.cert);
        host.refused(rewritten, "it is the one in use, written in another way");

        // What was not served, and therefore put back, is no replay.
        let unserved = begun(-263, 5, 90);
        taken(&unserved);
        let [name, before] = [&unserved, &rounded[1]].map(Bundle::directory_name);
        assert_eq!(host.put_back("a.org", &name, &before).word, "put-back");
        host.serves("a.org", &rounded[1]);
        taken(&unserved);

        // What has ended gives way to any good one: here is none but one from before.
        let live = host.place.path("live/a.org");
        let ended = host.authority.issue(&["a.org"], -100 * 3600, -3600).unwrap();
        for (file, text) in
            [("cert.pem", &ended.leaf), ("privkey.pem", &ended.key), ("chain.pem", &ended.chain)]
        {
            fs::write(live.join(file), text).unwrap();
        }
        taken(&rounded[0]);

        // Certbot's own, as it was imported, is taken over though its files are written in another way.
        let imported = bundle_of("c.org", 1, host.authority.issue(&["c.org"], -DAY, 90 * DAY).unwrap());
        let leaf = rewrapped(&imported.cert);
        let theirs = Pair { key: imported.privkey.to_string(), leaf, chain: imported.chain.clone() };
        install_as_certbot(host.place.dir.path(), "c.org", &theirs).unwrap();
        let outcome = host.install(&[copy(&imported, 1)]).remove(0);
        assert!(matches!(outcome, Outcome::Switched { .. }), "{shell:?}: {outcome:?}");
    }
}

/// The same certificate in lines of another length.
fn rewrapped(pem: &str) -> String {
    let lines: Vec<&str> = pem.lines().collect();
    let (first, last) = (lines[0], lines[lines.len() - 1]);
    let text = lines[1..lines.len() - 1].concat();
    let (half, rest) = text.split_at(text.len() / 2 / 76 * 76);
    let lines: Vec<&str> =
        half.as_bytes().chunks(76).chain(rest.as_bytes().chunks(60)).map(text_of).collect();
    format!("{first}\n{}\n{last}\n", lines.join("\n"))
}

fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn each_new_one_is_looked_at_once_and_all_are_verified_together() {
    let host = Receiver::new(Shell::Dash);
    let names: Vec<String> = (0..20).map(|n| format!("n{n}.org")).collect();
    host.configure(&names.iter().map(|name| format!("allow {name} {name}\n")).collect::<String>());
    let (calls, openssl) = (host.place.path("calls"), host.place.path("bin/openssl"));
    let real = fs::read_link(&openssl).unwrap();
    fs::remove_file(&openssl).unwrap();
    script(&openssl, &format!("echo \"$1\" >>{}\nexec {} \"$@\"", calls.display(), real.display()));
    // The certificate and its key, once it is there also the one in use; and one chain.
    for (version, begun, each) in [(1, -10, 2), (2, -5, 3)] {
        let issue = |name: &String| host.authority.issue(&[name], begun * DAY, 90 * DAY).unwrap();
        let batch: Vec<Bundle> = names.iter().map(|name| bundle_of(name, version, issue(name))).collect();
        let outcomes = host.install(&batch);
        let fine = |one: &Outcome| matches!(one, Outcome::Installed { .. } | Outcome::Switched { .. });
        assert!(outcomes.iter().all(fine), "{outcomes:?}");
        let calls = fs::read_to_string(&calls).unwrap();
        assert_eq!(calls.lines().filter(|line| *line != "verify").count(), each * names.len(), "{calls}");
        assert_eq!(calls.lines().filter(|line| *line == "verify").count(), 1);
        fs::remove_file(host.place.path("calls")).unwrap();
    }
}
