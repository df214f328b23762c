//! The table `[daemon]`.

use certfleet::config::{Daemon, Listen};
use jiff::SignedDuration;

use super::wrong::wrong;
use super::{GOOD, read};

fn daemon(lines: &str) -> Daemon {
    let config = read(&format!("{GOOD}\n[daemon]\n{lines}\n")).unwrap_or_else(|error| panic!("{error}"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    config.daemon
}

#[test]
fn it_looks_every_hour_and_listens_nowhere_by_default() {
    let default = Daemon { interval: SignedDuration::from_hours(1), listen: None };
    assert_eq!(read(GOOD).unwrap().daemon, default);
    assert_eq!(daemon(""), default);
}

#[test]
fn the_interval_goes_from_a_minute_to_a_day() {
    for (text, seconds) in [("1m", 60), ("90s", 90), ("24h", 86_400), ("1d", 86_400)] {
        assert_eq!(daemon(&format!("interval = \"{text}\"")).interval.as_secs(), seconds);
    }
    for text in ["59s", "0s", "25h", "1w"] {
        wrong(&format!("{GOOD}\n[daemon]\ninterval = \"{text}\"\n"), "it goes from one minute to one day");
    }
    wrong(&format!("{GOOD}\n[daemon]\ninterval = 60\n"), "\"1h\"");
}

#[test]
fn a_place_to_listen_at_is_an_address_or_a_socket() {
    let address = |text: &str| Some(Listen::Address(text.parse().unwrap()));
    for (text, place) in [
        ("127.0.0.1:80", address("127.0.0.1:80")),
        ("127.0.0.1", address("127.0.0.1:9469")),
        ("[::1]:9470", address("[::1]:9470")),
        ("::1", address("[::1]:9469")),
        ("unix:/run/certfleet/http.sock", Some(Listen::Socket("/run/certfleet/http.sock".into()))),
    ] {
        assert_eq!(daemon(&format!("listen = \"{text}\"")).listen, place);
    }
    for (text, part) in [
        ("unix:http.sock", "the path of a socket begins with `/`"),
        ("unix:", "the path of a socket begins with `/`"),
        ("unix:/run/", "the path of a socket begins with `/`"),
        ("localhost:9469", "it is not an IP address"),
        ("127.0.0.1:0", "port 0 is no port"),
        ("", "it is not an IP address"),
    ] {
        wrong(&format!("{GOOD}\n[daemon]\nlisten = \"{text}\"\n"), part);
    }
}

#[test]
fn a_place_that_others_reach_is_warned_of() {
    for text in ["0.0.0.0:9469", "[::]:9469", "192.0.2.1"] {
        let config = read(&format!("{GOOD}\n[daemon]\nlisten = \"{text}\"\n")).unwrap();
        let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
        let shown = warning.to_string();
        assert!(shown.contains("without a password") && shown.contains("\"127.0.0.1:9469\""), "{shown}");
    }
}
