//! What is installed beside what would be installed now: `certfleet check` says which line to change.

use serde_json::Value;

use super::*;

/// Findings about what is installed: standing, what is so, what to do.
fn checked(config: &Path) -> Vec<(String, String, String)> {
    let found = certfleet(config, &["check", "--json"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = found.json();
    let all = found["findings"].as_array().unwrap().iter();
    let about = |finding: &&Value| {
        let subject = text(&finding["subject"]);
        subject.starts_with("host edge: certfleet-receive") || subject.ends_with("receive.conf")
    };
    all.filter(about).map(|one| (text(&one["standing"]), text(&one["message"]), text(&one["hint"]))).collect()
}

#[test]
fn check_says_which_line_there_does_not_fit() {
    let (world, config) = set_up();
    let host = world.host("edge");
    let (program, conf) = (host.root.join("certfleet-receive"), host.root.join("receive.conf"));
    let before = listing(&host.live, &[]);

    let found = checked(&config);
    assert!(found.iter().all(|(standing, ..)| standing == "pass") && found.len() == 2, "{found:#?}");

    let written = fs::read_to_string(&conf).unwrap();
    let live = host.live.display().to_string();
    let changed = written
        .replace(&format!("directory {live}\n"), "directory /srv/else\u{1b}[31m\n")
        .replace("layout directory\n", "# as ever\n  layout   include \n")
        .replace("allow media.social.test media.social.test", "allow old.social.test old.social.test");
    let reload = host.reload_command.replace("reload", "reload --gently");
    let changed =
        changed.replace(&format!("reload {}\n", host.reload_command), &format!("reload {reload}\n"));
    fs::write(&conf, changed + "files all.pem=privkey,fullchain\n").unwrap();
    let found = checked(&config);
    for (standing, what, hint) in [
        (
            "warn",
            "says `directory /srv/else\\u{1b}[31m`".to_owned(),
            format!("make it `directory {live}` there"),
        ),
        ("warn", "says `layout include`".to_owned(), "make it `layout directory` there".to_owned()),
        ("warn", format!("says `reload {reload}`"), format!("make it `reload {}`", host.reload_command)),
        ("fail", "says `files all.pem=privkey,fullchain`".to_owned(), "remove that line".to_owned()),
        (
            "fail",
            "does not allow the certificate media.social.test".to_owned(),
            "add the line `allow media.social.test media.social.test` there".to_owned(),
        ),
        (
            "warn",
            "allows the certificate old.social.test".to_owned(),
            "remove the line `allow old.social.test".to_owned(),
        ),
    ] {
        let is_it = |(of, said, remedy): &&(String, String, String)| {
            of == standing && said.contains(&what) && remedy.contains(&hint)
        };
        assert_eq!(found.iter().filter(is_it).count(), 1, "{what}: {found:#?}");
    }
    assert_eq!(found.len(), 7, "{found:#?}");

    // A name more, and one less, in the same certificate; roots that let everybody in are asked for here.
    let names = "allow media.social.test www.social.test";
    fs::write(&conf, written.replace("allow media.social.test media.social.test", names)).unwrap();
    let script = fs::read_to_string(&program).unwrap();
    fs::write(&program, script.replace("\n# ----", "\n# ====")).unwrap();
    let found = checked(&config);
    let said = |standing: &str, what: &str| {
        assert!(found.iter().any(|(of, said, _)| of == standing && said.contains(what)), "{found:#?}");
    };
    said("fail", "does not allow media.social.test for media.social.test");
    said("warn", "the program there is of another edition, or was changed");
    assert!(found.iter().any(|(.., hint)| hint.contains("host setup edge --script")), "{found:#?}");

    fs::write(&program, script.replace("record program", ": program").replace("record conf", ": conf"))
        .unwrap();
    let found = checked(&config);
    assert!(found[0].1.contains("of an earlier edition") && found.len() == 1, "{found:#?}");
    assert_eq!(listing(&host.live, &[]), before, "a look changes nothing");
}
