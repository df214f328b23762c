//! The units in systemd/, judged by systemd's own tools; tests/it/systemd.rs runs them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::parts;
use crate::world::process::run;

/// The most that `systemd-analyze security` may find, in tenths.
const EXPOSURE: &str = "15";
/// The same for the one that is root, because web servers are root's.
const EXPOSURE_OF_ROOT: &str = "27";

fn units() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let units = files.filter(|path| {
        path.extension().is_some_and(|kind| ["service", "timer", "socket"].iter().any(|unit| kind == *unit))
    });
    let units: BTreeMap<String, String> = units
        .map(|path: PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    assert_eq!(units.len(), 8, "{:?}", units.keys());
    units
}

/// The units as they would be installed, with the program where it was built.
fn installed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in units() {
        let program = format!("ExecStart={} ", env!("CARGO_BIN_EXE_certfleet"));
        fs::write(folder.path().join(name), text.replace("ExecStart=certfleet ", &program)).unwrap();
    }
    folder
}

fn analyze() -> Command {
    let program = parts::find("systemd-analyze").expect("no systemd here: sudo apt-get install systemd");
    Command::new(program)
}

#[test]
fn systemd_takes_every_unit_without_a_word() {
    let folder = installed();
    for name in units().keys() {
        // The colon at the end: and where units usually are.
        let path = format!("{}:", folder.path().display());
        let output = analyze()
            .args(["verify", "--man=no"])
            .arg(folder.path().join(name))
            .env("SYSTEMD_UNIT_PATH", path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
    }
}

#[test]
fn systemd_finds_the_services_well_confined() {
    let folder = installed();
    for name in units().keys().filter(|name| name.ends_with(".service")) {
        let most = if name.starts_with("certfleet-local") { EXPOSURE_OF_ROOT } else { EXPOSURE };
        run(analyze().args(["security", "--offline=yes", "--threshold", most]).arg(folder.path().join(name)))
            .unwrap();
    }
}

#[test]
fn what_confines_the_daemon_confines_its_sisters() {
    let units = units();
    let confinement = |name: &str| -> Vec<&str> {
        let text = units[name].split("\nUser=certfleet\n").nth(1).unwrap_or_else(|| panic!("{name}"));
        let lines = text.lines().take_while(|line| !line.starts_with('['));
        lines.filter(|line| !line.is_empty() && !line.starts_with("RuntimeDirectory")).collect()
    };
    let daemon = confinement("certfleet.service");
    assert!(daemon.len() > 25, "{daemon:?}");
    for sister in ["certfleet-renew.service", "certfleet-report.service", "certfleet-alert@.service"] {
        assert_eq!(confinement(sister), daemon, "{sister}");
    }
}

#[test]
fn what_fails_is_told() {
    for (name, text) in units() {
        let tells = text.contains("\nOnFailure=certfleet-alert@%n.service\n");
        // The alert has nobody to tell, and a failed transaction is told by who asked for it.
        let may_fail = ["certfleet-alert@.service", "certfleet-local@.service"].contains(&name.as_str());
        assert_eq!(tells, name.ends_with(".service") && !may_fail, "{name}");
    }
}
