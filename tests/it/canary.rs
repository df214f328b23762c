//! No secret is ever told: a whole run with everything logged, against receivers that repeat all that they are sent.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::json;
use tempfile::TempDir;

use crate::tool::{command, finish};
use crate::world::World;
use crate::world::look::now;
use crate::world::made::write_private;
use crate::world::smtp::{Bad, Mood};
use crate::world::web::{Fault, Reply, Request, Web};

/// Secrets, each a file with a text of its own.
struct Secrets {
    dir: TempDir,
    /// By which a secret is known wherever it turns up.
    marks: Vec<String>,
}

impl Secrets {
    /// A new one, which says what `make` makes of its mark; as it is written in certs.toml.
    fn add(&mut self, make: impl FnOnce(&str) -> String) -> String {
        let mark = format!("Canary{:02}9Zk3Wv7Qx1", self.marks.len());
        let path = self.dir.path().join(&mark[..8]);
        write_private(&path, &make(&mark)).unwrap();
        self.marks.push(mark);
        format!("{{ file = {path:?} }}")
    }

    /// Which of them a text has, bare or in base64.
    fn found(&self, place: &str, text: &str) -> Vec<String> {
        let marks = self.marks.iter().filter_map(|mark| {
            let at = forms(mark).iter().find_map(|form| text.find(form))?;
            Some(format!("{place} has {mark}:\n{}\n", around(text, at)))
        });
        marks.collect()
    }
}

/// A text, and what is always in the base64 of anything that contains it.
fn forms(mark: &str) -> Vec<String> {
    let coded = (0..3).map(|skip| {
        let whole = &mark[skip..skip + (mark.len() - skip) / 3 * 3];
        STANDARD_NO_PAD.encode(whole)
    });
    coded.chain([mark.to_owned()]).collect()
}

fn around(text: &str, at: usize) -> String {
    let bytes = text.as_bytes();
    let range = at.saturating_sub(300).min(bytes.len())..at.saturating_add(300).min(bytes.len());
    String::from_utf8_lossy(&bytes[range]).into_owned()
}

/// All that it was sent, as an explanation.
fn repeat(request: &Request) -> Reply {
    let Request { method, path, query, headers, body } = request;
    // Before OVH is asked for anything else.
    if path.ends_with("/auth/time") {
        return Reply { status: 200, headers: Vec::new(), body: now().to_string() };
    }
    let text = format!("not taken: {method} http://127.0.0.1{path} {query:?} {headers:?} {body}");
    let mut reply = Reply::json(400, &json!({ "message": text, "errors": [{ "code": 1, "message": text }] }));
    reply.headers.push(("x-said".to_owned(), path.clone()));
    reply
}

/// Providers that log in with a token.
const TOKENS: [&str; 6] = ["cloudflare", "desec", "digitalocean", "gandi", "hetzner", "linode"];
const EXPIRED: &str = "media.social.test";

fn tables(web: &Web, mail: &Bad, secrets: &mut Secrets) -> String {
    let url = |path: &str| web.url(path);
    let mut text = format!("[heartbeat]\nurl = {}\n", secrets.add(|mark| url(&format!("/ping/{mark}"))));
    for (kind, path) in [
        ("discord", "/api/webhooks/1/"),
        ("slack", "/services/T0/B0/"),
        ("ntfy", "/"),
        ("webhook", "/hook?key="),
    ] {
        let _ = writeln!(
            text,
            "[alert.{kind}]\nchannel = '{kind}'\nurl = {}",
            secrets.add(|mark| url(&format!("{path}{mark}")))
        );
        match kind {
            "ntfy" => drop(writeln!(text, "token = {}", secrets.add(str::to_owned))),
            "webhook" => drop(writeln!(text, "secret = {}", secrets.add(str::to_owned))),
            _ => {}
        }
    }
    let _ = writeln!(
        text,
        "[alert.email]\nchannel = 'email'\nserver = '{}'\nencryption = 'none'\nfrom = 'certfleet@social.test'\n\
         to = 'ops@social.test'\nusername = 'certfleet'\npassword = {}",
        mail.address,
        secrets.add(str::to_owned)
    );
    for provider in TOKENS {
        let _ = writeln!(
            text,
            "[dns.{provider}]\nprovider = '{provider}'\napi = '{}'\ntoken = {}",
            url("/api"),
            secrets.add(str::to_owned)
        );
    }
    let _ = writeln!(
        text,
        "[dns.httpreq]\nprovider = 'httpreq'\nendpoint = '{}'\nusername = 'certfleet'\npassword = {}\n\
         [dns.powerdns]\nprovider = 'powerdns'\napi = '{}'\napi-key = {}\n\
         [dns.ovh]\nprovider = 'ovh'\nendpoint = 'eu'\napi = '{}'\napplication-key = 'app'\napplication-secret = {}\n\
         consumer-key = {}\n\
         [dns.route53]\nprovider = 'route53'\napi = '{}'\naccess-key-id = 'AKIAIOSFODNN7EXAMPLE'\n\
         secret-access-key = {}\nsession-token = {}",
        url("/hook"),
        secrets.add(str::to_owned),
        url("/"),
        secrets.add(str::to_owned),
        url("/1.0"),
        secrets.add(str::to_owned),
        secrets.add(str::to_owned),
        url("/"),
        secrets.add(str::to_owned),
        secrets.add(str::to_owned),
    );
    let _ = writeln!(text, "[[certificate]]\ndomains = ['{EXPIRED}']\ndns = 'main'\nhosts = ['cdn']");
    for provider in TOKENS.into_iter().chain(["httpreq", "powerdns", "ovh", "route53"]) {
        let _ = writeln!(
            text,
            "[[certificate]]\ndomains = ['{provider}.social.test']\ndns = '{provider}'\nhosts = []"
        );
    }
    text
}

#[test]
fn no_secret_is_in_what_is_said_logged_or_kept_though_receivers_repeat_it() {
    // A certificate that has ended and cannot be replaced: everybody is told.
    let world = World::builder().hosts(&["sally"]).site(&[EXPIRED]).start().unwrap();
    let (web, mail) = (Web::start(repeat), Bad::start(Mood::Echo));
    let mut secrets = Secrets { dir: tempfile::tempdir().unwrap(), marks: Vec::new() };
    let config = world.config(&tables(&web, &mail, &mut secrets)).unwrap();
    let tsig = fs::read_to_string(&world.ns.secret_file).unwrap();
    world.host("sally").break_config().unwrap();

    let mut leaks = Vec::new();
    let mut run = |args: &[&str]| {
        let mut command = command(&config, args);
        let ran = finish(command.env("RUST_LOG", "trace").spawn().unwrap());
        let said = format!("{}{}", ran.out, ran.err);
        let place = format!("`certfleet {}`", args.join(" "));
        leaks.extend(secrets.found(&place, &said));
        assert!(!said.contains(tsig.trim()) && !said.contains("PRIVATE KEY"), "{place}");
        for (path, text) in files(&world.store()) {
            leaks.extend(secrets.found(&path.display().to_string(), &text));
            assert!(!text.contains(tsig.trim()), "{}", path.display());
        }
        said
    };
    let mut said = run(&["run", "--once"]);
    for fault in [None, Some(Fault::Status(500, "")), Some(Fault::Close), Some(Fault::Redirect("/elsewhere"))]
    {
        web.fail(fault);
        said.push_str(&run(&[
            "renew",
            "--force",
            "cloudflare.social.test",
            "powerdns.social.test",
            "ovh.social.test",
        ]));
        said.push_str(&run(&["alert", "test"]));
    }
    let before = web.log();
    web.stop();
    said.push_str(&run(&["run", "--once"]));
    for args in [
        &["alert", "test"][..],
        &["alert", "list"],
        &["check"],
        &["plan"],
        &["report", "--live"],
        &["history"],
    ] {
        said.push_str(&run(args));
    }

    assert!(leaks.is_empty(), "{}", leaks.concat());
    // They were used, what came back was read, and everything was logged.
    assert!(said.contains("TRACE"), "{said}");
    let sent = format!("{before:?} {}", mail.heard().join("\n"));
    let unsent = secrets.marks.iter().filter(|mark| !forms(mark).iter().any(|form| sent.contains(form)));
    // Those that sign go nowhere: of a webhook, of OVH, of Amazon.
    assert_eq!(unsent.count(), 3, "{sent}");
    assert!(said.matches("[secret]").count() > 10, "{said}");
    assert!(files(&world.store()).iter().any(|(_, text)| text.contains("[secret]")), "no problem was kept");
}

/// The files below a folder, but for links.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() {
            found.push((path.clone(), String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()));
        }
    }
    found
}
