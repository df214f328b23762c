//! Web servers that do not do what they are told, and others that answer in their place.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use super::place::{both, replaced};
use super::{Case, Ends, Mend, NAME, Place, Sound, tried};
use crate::world::host::Script;
use crate::world::look;

const CASES: &[Case] = &[
    Case::new(
        "broken",
        "nginx's configuration was broken before",
        |place| {
            place.host.break_config().unwrap();
            Box::new(|| place.host.mend_config().unwrap())
        },
        Ends::Old("deploy.host-broken"),
        &["was broken before, nothing was changed", "this_is_no_directive", "mend it on the host"],
    )
    .leaves(Sound::Nothing),
    Case::new(
        "key-elsewhere",
        "`nginx -t` fails with the new certificate only: the key is taken from elsewhere",
        |place| {
            let key = place.path("nginx/elsewhere.key");
            fs::copy(place.live(NAME).join("privkey.pem"), &key).unwrap();
            let (from, to) = (place.live(NAME).join("privkey.pem"), key);
            place.site(|text| text.replace(from.to_str().unwrap(), to.to_str().unwrap()))
        },
        Ends::Old("deploy.config-test"),
        &["does not work with it", "key values mismatch", "the version before is back in place"],
    ),
    Case::new(
        "test-fails",
        "the test command always fails",
        |place| scripted(place, Host::set_test, Script::Fails),
        Ends::Old("deploy.host-broken"),
        &["was broken before, nothing was changed", "told to fail"],
    ),
    Case::new(
        "test-hangs",
        "the test command hangs (nginx that waits for a name server)",
        |place| both(place.impatient(), scripted(place, Host::set_test, Script::Hangs)),
        Ends::Old("deploy.host-broken"),
        &["did not end within 20 s", "mend it on the host"],
    ),
    Case::new(
        "reload-fails",
        "the reload fails",
        |place| scripted(place, Host::set_reload, Script::Fails),
        Ends::Old("deploy.reload"),
        &["the reload failed", "told to fail", "the version before is back in place"],
    ),
    Case::new(
        "reload-lies",
        "the reload says that all is well and does nothing",
        |place| scripted(place, Host::set_reload, Script::Lies),
        Ends::Old("deploy.not-served"),
        &["the version before is back", "still serves"],
    ),
    Case::new(
        "reload-hangs",
        "the reload hangs and does nothing",
        |place| both(place.impatient(), scripted(place, Host::set_reload, Script::Hangs)),
        Ends::Old("deploy.reload"),
        &["did not end within 20 s", "the version before is back in place"],
    ),
    Case::new(
        "loads-and-hangs",
        "the reload loads what is there, and hangs",
        |place| {
            let reload = format!("\"{} && sleep 3600\"", place.host.reload_command);
            both(place.impatient(), place.set("reload", &reload))
        },
        Ends::Old("deploy.reload"),
        &["did not end within 20 s", "the version before is back in place"],
    ),
    Case::new(
        "reload-kills",
        "the reload stops nginx",
        |place| {
            let stop =
                format!("[ ! -e {0} ] || kill $(cat {0}) || true", place.path("nginx/nginx.pid").display());
            let set = place.set("reload", &format!("{stop:?}"));
            both(set, Box::new(|| place.host.start_nginx().unwrap()))
        },
        Ends::Old("deploy.not-served"),
        &["the version before is back", "no TLS answer from"],
    )
    .leaves(Sound::Startable),
    Case::new(
        "not-running",
        "nginx does not run",
        |place| {
            place.host.stop_nginx();
            Box::new(|| place.host.start_nginx().unwrap())
        },
        Ends::New("probe.refused"),
        &[
            "no web server runs there",
            "start it; it will find the new certificate",
            "see whether the web server runs",
        ],
    )
    .leaves(Sound::Startable),
    Case::new(
        "port-taken",
        "nginx is stopped, and another process has its port and serves another name",
        |place| {
            place.host.stop_nginx();
            let listen = format!("{} ssl", place.host.tls());
            let stranger = Stranger::start(place, &listen, "nginx/default.pem", "nginx/default.key");
            Box::new(|| {
                drop(stranger);
                place.host.start_nginx().unwrap();
            })
        },
        Ends::Old("deploy.not-served"),
        &["the version before is back"],
    )
    .leaves(Sound::Startable),
    Case::new(
        "other-port-taken",
        "`nginx -t` and the reload say yes, but another port of the configuration is taken: nothing is loaded",
        |place| {
            let taken = TcpListener::bind((place.host.address, 0)).unwrap();
            let port = taken.local_addr().unwrap();
            let site = place.path("nginx/sites/second.conf");
            let undo = replaced(site, &format!("server {{ listen {port}; return 404; }}\n"), 0o600);
            both(undo, Box::new(move || drop(taken)))
        },
        Ends::Old("deploy.not-served"),
        &["the version before is back", "still serves"],
    ),
    Case::new(
        "other-block",
        "another server block answers for the name",
        |place| place.site(|text| text.replace(&format!("server_name {NAME}"), "server_name moved.test")),
        Ends::Old("deploy.not-served"),
        &["the version before is back", "look which server block answers there"],
    )
    .leaves(Sound::Startable),
    Case::new(
        "two-addresses",
        "one of two addresses goes on serving the old one: another nginx with a copy of it",
        |place| {
            let other = TcpListener::bind((place.host.address, 0)).unwrap().local_addr().unwrap();
            let stranger = Stranger::of_old(place, &format!("{other} ssl"));
            let both_addresses = format!("[\"{}\", \"{other}\"]", place.host.tls());
            both(place.set("verify", &both_addresses), Box::new(|| drop(stranger)))
        },
        Ends::Old("deploy.not-served"),
        &["the version before is back", "still serves"],
    ),
    Case::served("old-workers", "old workers stay after the reload, for long connections", |place| {
        let mut connections = Vec::new();
        for _ in 0..4 {
            let mut connection = look::handshake(place.host.tls(), NAME).unwrap();
            connection.write_all(b"GET / HTTP/1.0\r\n").unwrap();
            connections.push(connection);
        }
        Box::new(move || {
            for mut connection in connections {
                connection.write_all(format!("Host: {NAME}\r\n\r\n").as_bytes()).unwrap();
                let mut answer = String::new();
                let _ = connection.read_to_string(&mut answer);
                assert!(answer.starts_with("HTTP/1.1 200"), "visitors of old were cut off: {answer:?}");
            }
        })
    }),
];

use crate::world::host::Host;

#[test]
fn web_servers() {
    tried(CASES);
}

fn scripted<'a>(
    place: &'a Place<'a>,
    set: fn(&Host, Script) -> Result<(), String>,
    script: Script,
) -> Mend<'a> {
    set(place.host, script).unwrap();
    Box::new(move || set(place.host, Script::Works).unwrap())
}

/// Another nginx, which nobody tells anything.
struct Stranger(Child);

impl Stranger {
    /// One with a copy of what is served now.
    fn of_old(place: &Place<'_>, listen: &str) -> Self {
        for part in ["fullchain.pem", "privkey.pem"] {
            fs::copy(place.live(NAME).join(part), place.path("nginx").join(part)).unwrap();
        }
        Self::start(place, listen, "nginx/fullchain.pem", "nginx/privkey.pem")
    }

    fn start(place: &Place<'_>, listen: &str, chain: &str, key: &str) -> Self {
        let folder = place.path("stranger");
        fs::create_dir(&folder).unwrap();
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let text = format!(
            "{user} daemon off; pid pid; error_log stderr; events {{}} http {{ access_log off;\n\
             client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4;\n\
             scgi_temp_path t5; server {{ listen {listen}; ssl_certificate {}; ssl_certificate_key {}; }} }}\n",
            place.path(chain).display(),
            place.path(key).display()
        );
        fs::write(folder.join("nginx.conf"), text).unwrap();
        let child = Command::new(place.path("bin/nginx"))
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stranger = Self(child);
        let begun = std::time::Instant::now();
        while !folder.join("pid").exists() {
            assert!(begun.elapsed().as_secs() < 20, "the other nginx does not answer");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        stranger
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // Not killed: its worker would go on.
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}
