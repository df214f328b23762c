//! The same in every layout and on every way to a host; and when somebody is there for something else.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;
use crate::tool::certfleet;
use crate::world::Extra;
use crate::world::process::run;

const OTHER: &str = "static.social.test";

fn tables() -> String {
    [NAME, OTHER].map(|name| format!("[[certificate]]\ndomains = [{name:?}]\nhosts = [\"cdn\"]\n")).concat()
}

#[test]
fn who_is_there_for_one_certificate_sees_the_others() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).site(&[OTHER]).start().unwrap();
    let config = world.config(&tables()).unwrap();
    let sally = world.host("sally");
    certfleet(&config, &["renew"]).ended(0);
    let key = sally.live.join(OTHER).join("privkey.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let mode = || fs::metadata(&key).unwrap().permissions().mode() & 0o777;
    // Only what is named is looked at.
    certfleet(&config, &["renew", "--force", NAME]).ended(0);
    assert_eq!(mode(), 0o640);
    certfleet(&config, &["run", "--once"]).ended(0);
    assert_eq!((sally.connections(), mode()), (2, 0o640), "nobody comes for nothing");

    certfleet(&config, &["renew", "--no-deploy", "--force", NAME]).ended(0);
    certfleet(&config, &["run", "--once"])
        .ended(0)
        .printed("static.social.test on sally: on its disk privkey.pem has mode rw-r-----, not rw-------");
    assert_eq!((sally.connections(), mode()), (3, 0o600));
    assert!(is_ours(&world, sally, NAME, 3));

    // What is missing keeps nginx from loading anything: it is put there, and the next pass does the other.
    fs::remove_dir_all(sally.live.join(OTHER)).unwrap();
    certfleet(&config, &["renew", "--no-deploy", "--force", NAME]).ended(0);
    certfleet(&config, &["run", "--once"]).ended(1).printed("on its disk nothing is left of it");
    assert!(is_ours(&world, sally, OTHER, 1));
    certfleet(&config, &["run", "--once"]).ended(0);
    assert!(is_ours(&world, sally, NAME, 4));
    assert_eq!(sally.connections(), 5);
}

#[test]
fn with_files_to_include_and_files_of_its_own() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let extra = Extra {
        host: "layout = \"include\"\nfiles = { \"combined.pem\" = [\"fullchain\", \"privkey\"] }\n",
        ..Extra::default()
    };
    let config = world.config_with(&extra, TABLE).unwrap();
    let sally = world.host("sally");
    run_at("+0", &config, &["renew"]).ended(0);
    let conf = sally.live.join(format!("{NAME}.conf"));
    let text = fs::read_to_string(&conf).unwrap();
    let combined = fs::read(live(sally, "combined.pem")).unwrap();
    // Nothing is wrong with it as it is.
    let (connections, reloads) = (sally.connections() + 1, sally.reloads());
    run_at(NEXT_DAY, &config, &["run", "--once"]).ended(0);
    assert_eq!((sally.connections(), sally.reloads()), (connections, reloads));

    fs::remove_file(&conf).unwrap();
    fs::remove_file(live(sally, "combined.pem")).unwrap();
    run_at("+54h", &config, &["run", "--once"])
        .ended(0)
        .printed("on its disk combined.pem, media.social.test.conf are missing");
    assert_eq!(fs::read_to_string(&conf).unwrap(), text);
    assert_eq!(fs::read(live(sally, "combined.pem")).unwrap(), combined);

    let elsewhere = text.replacen("/fullchain.pem", "/cert.pem", 1);
    fs::write(&conf, elsewhere).unwrap();
    run_at("+81h", &config, &["run", "--once"])
        .ended(0)
        .printed("on its disk media.social.test.conf is not as installed");
    assert_eq!(fs::read_to_string(&conf).unwrap(), text);
    assert_eq!(sally.connections(), connections + 2);
}

#[test]
fn on_this_machine_itself_and_not_behind_a_receiver() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(TABLE).unwrap();
    let sally = world.host("sally");
    run_at("+0", &config, &["renew"]).ended(0);
    let text = fs::read_to_string(&config).unwrap();

    // The key there can do nothing but bring certificates: nobody comes only to look.
    let entry = "[host.sally]\n";
    fs::write(&config, text.replace(entry, &format!("{entry}receiver = true\n"))).unwrap();
    run_at(NEXT_DAY, &config, &["run", "--once"]).ended(0);
    assert_eq!(sally.connections(), 1);

    let local: String = text
        .lines()
        .filter(|line| {
            !["address", "port", "user", "identity", "host-key", "sudo"]
                .iter()
                .any(|key| line.starts_with(&format!("{key} = ")) && !line.contains(".toml"))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&config, local.replace(entry, &format!("{entry}kind = \"local\"\n"))).unwrap();
    run(Command::new("rm").arg("-r").arg(sally.live.join(NAME))).unwrap();
    run_at(NEXT_DAY, &config, &["run", "--once"]).ended(0).printed("on its disk nothing is left of it");
    assert!(is_ours(&world, sally, NAME, 1));
    assert_eq!(sally.connections(), 1);
}
