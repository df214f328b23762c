//! One host, and what people and machines do to its disk behind a web server that goes on serving from memory.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use super::*;
use crate::world::made::DAY;
use crate::world::process::run;

/// A day later the host is visited once; what was found is said, and then is as it should be.
struct Day<'a> {
    world: &'a World,
    config: &'a Path,
    hours: i64,
}

impl Day<'_> {
    fn host(&self) -> &Host {
        &self.world.hosts[0]
    }

    /// The clock as it is now, and a few hours on.
    fn at(&self, hours: i64) -> String {
        format!("+{}h", self.hours + hours)
    }

    /// Before the day is over nobody comes; then it is found, mended, and proven by what lies there.
    fn mends(&mut self, what: &str, version: u32) {
        let host = self.host();
        let (connections, reloads) = (host.connections(), host.reloads());
        run_at(&self.at(20), self.config, &["run", "--once"]).ended(0).printed("not due");
        assert_eq!(host.connections(), connections, "somebody came before a day was over: {what}");
        run_at(&self.at(27), self.config, &["plan"]).ended(0).printed("what lies on the disk of sally");

        let ran = run_at(&self.at(27), self.config, &["run", "--once"]).ended(0);
        assert!(ran.out.contains(&format!("{NAME} on sally: on its disk {what}")), "{what}: {}", ran.out);
        assert!(is_ours(self.world, host, NAME, version), "{what}: not mended\n{}\n{}", ran.out, ran.err);
        assert_eq!((host.connections(), host.reloads()), (connections + 1, reloads + 1), "{what}");
        // Nothing more to do, and nobody comes again.
        run_at(&self.at(28), self.config, &["run", "--once"]).ended(0);
        assert_eq!(host.connections(), connections + 1);
        let at = reported(self.config, &self.at(28), NAME);
        assert_eq!((at["standing"].as_str(), &at["problem"]), (Some("serving"), &Value::Null), "{what}");
        self.hours += 28;
    }
}

#[test]
fn what_would_fail_at_the_next_start_is_found_and_mended_within_a_day() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(TABLE).unwrap();
    let sally = world.host("sally");
    let backup = world.dir.path().join("backup");
    let copy = |from: &Path, to: &Path| run(Command::new("cp").arg("-a").arg(from).arg(to)).unwrap();
    run_at("+0", &config, &["renew"]).ended(0);
    copy(&sally.live, &backup);
    run_at("+0", &config, &["renew", "--force"]).ended(0);
    let mut day = Day { world: &world, config: &config, hours: 0 };

    fs::remove_dir_all(sally.live.join(NAME)).unwrap();
    day.mends("nothing is left of it", 2);

    fs::remove_dir_all(&sally.live).unwrap();
    day.mends("nothing is left of it", 2);

    // An old backup is restored over it.
    fs::remove_dir_all(&sally.live).unwrap();
    copy(&backup, &sally.live);
    day.mends("there is version 1", 2);

    // Somebody goes back, as one does with certbot: the link to the version before.
    let current = sally.live.join(".certfleet").join(NAME).join("current");
    let versions = current.parent().unwrap();
    let old = fs::read_dir(versions).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let old = old.into_iter().find(|name| name.starts_with("1-")).unwrap();
    fs::remove_file(&current).unwrap();
    symlink(&old, &current).unwrap();
    day.mends("there is version 1", 2);

    // What was copied over the links with scp is in our own folder.
    fs::write(live(sally, "privkey.pem"), "nothing of use\n").unwrap();
    day.mends("privkey.pem is not as installed", 2);

    fs::set_permissions(live(sally, "privkey.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    day.mends("privkey.pem has mode rw-r--r--, not rw-------", 2);
    let mode = fs::metadata(live(sally, "privkey.pem")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    // certbot goes on by itself with a certificate of its own that nobody trusts, or that has ended.
    sally.install_selfsigned(NAME, &[NAME]).unwrap();
    day.mends("there is ", 2);

    // All of it is in the log.
    let history = run_at(&day.at(0), &config, &["history", "--json"]).ended(0).out;
    assert_eq!(history.matches("\"drifted\"").count(), 7, "{history}");
    assert_eq!(world.pebble.orders(), 2);
}

#[test]
fn somebody_elses_good_certificate_on_the_disk_is_told_and_left() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(TABLE).unwrap();
    let sally = world.host("sally");
    run_at("+0", &config, &["renew"]).ended(0);
    let ours = sally.served(NAME).unwrap();
    // certbot's next renewal, which it puts there for nginx to load some day.
    let pair = world.pebble.issue_aside(&[NAME], -DAY, 89 * DAY).unwrap();
    sally.install(NAME, &pair).unwrap();
    let theirs = fs::read(live(sally, "fullchain.pem")).unwrap();

    run_at(NEXT_DAY, &config, &["run", "--once"])
        .ended(3)
        .printed("media.social.test on sally: on its disk is")
        .printed("a valid certificate that is not ours")
        .printed("`certfleet deploy media.social.test --host sally --force` replaces it");
    assert_eq!(fs::read(live(sally, "fullchain.pem")).unwrap(), theirs);
    assert!(sally.served(NAME).unwrap() == ours, "nothing was loaded");
    run_at(NEXT_DAY, &config, &["plan"]).ended(3).printed("a valid certificate that is not ours");
    let at = reported(&config, NEXT_DAY, NAME);
    assert_eq!(
        (&at["standing"], &at["problem"]["code"]),
        (&"serving".into(), &"host.foreign-on-disk".into())
    );
    assert!(at["disk-checked-at"].is_string());
    run_at(NEXT_DAY, &config, &["report"])
        .ended(3)
        .printed("is a certificate for `media.social.test` that is not ours");
    run_at(NEXT_DAY, &config, &["alert", "list"]).printed("on the disk of `sally`");

    run_at(NEXT_DAY, &config, &["deploy", NAME, "--host", "sally", "--force"]).ended(0);
    assert!(is_ours(&world, sally, NAME, 1));
    run_at(NEXT_DAY, &config, &["plan"]).ended(0);
    run_at(NEXT_DAY, &config, &["report"]).ended(0);
}

#[test]
fn a_host_that_cannot_be_looked_into_is_told_and_one_that_is_down_is_left_alone() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(TABLE).unwrap();
    let sally = world.host("sally");
    run_at("+0", &config, &["renew"]).ended(0);
    sally.stop_sshd();

    run_at(NEXT_DAY, &config, &["run", "--once"])
        .ended(1)
        .said("`sally` refuses connections")
        .printed("what lies on its disk could not be seen");
    let at = reported(&config, NEXT_DAY, NAME);
    assert_eq!((&at["standing"], &at["problem"]["code"]), (&"serving".into(), &"ssh.refused".into()));
    // A day later somebody is told.
    run_at("+54h", &config, &["run", "--once"]).ended(1);
    run_at("+54h", &config, &["alert", "list"]).printed("what lies on the disk of `sally` cannot be seen");

    sally.start_sshd().unwrap();
    run_at("+55h", &config, &["run", "--once"]).ended(0);
    run_at("+55h", &config, &["report"]).ended(0);
    assert_eq!(sally.connections(), 2);

    sally.stop_nginx();
    run_at("+90h", &config, &["plan"]).ended(3).printed("nothing answers there");
    let plan = run_at("+90h", &config, &["plan", "--json"]).out;
    assert!(!plan.contains("\"look\""), "{plan}");
}

#[test]
fn a_host_installed_from_scratch_is_filled_again() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(TABLE).unwrap();
    let sally = world.host("sally");
    run_at("+0", &config, &["renew"]).ended(0);
    let site = sally.root.join("nginx/sites").join(format!("{NAME}.conf"));
    let block = fs::read(&site).unwrap();

    // An empty disk, and nginx with nothing but its default certificate.
    let wipe = || {
        fs::remove_dir_all(&sally.live).unwrap();
        fs::remove_file(&site).unwrap();
    };
    wipe();
    sally.reload_quietly().unwrap();
    crate::trouble::settles(sally, "the default one", |served| !served.issuer.contains("Pebble"));
    let ran = run_at("+1h", &config, &["run", "--once"]);
    assert!(is_ours(&world, sally, NAME, 1), "{}\n{}", ran.out, ran.err);
    fs::write(&site, &block).unwrap();
    sally.reload_quietly().unwrap();
    crate::trouble::settles(sally, "ours", |served| served.issuer.contains("Pebble"));
    run_at("+1h", &config, &["run", "--once"]).ended(0);
    run_at("+1h", &config, &["report"]).ended(0);

    // An empty disk, and nginx, which is configured for ours, cannot even start.
    fs::remove_dir_all(&sally.live).unwrap();
    sally.stop_nginx();
    run_at("+2h", &config, &["run", "--once"]);
    assert!(is_ours(&world, sally, NAME, 1));
    sally.start_nginx().unwrap();
    run_at("+2h", &config, &["run", "--once"]).ended(0);
    assert!(sally.served(NAME).unwrap().issuer.contains("Pebble"));
    assert_eq!(world.pebble.orders(), 1);
}
