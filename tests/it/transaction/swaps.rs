//! Both layouts with real nginx: tested, reloaded and started anew while versions are switched under it.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use certfleet::model::desired::Layout;

use crate::deploy::{bundle as to_send, fresh};
use crate::world::look;
use crate::world::ports::{self, Range};
use crate::world::process::{Service, Watchdog, read_lossy};

use super::killed::TOOLS;
use super::*;

/// At least so many of each; more of what happens to be faster.
const SWAPS: u32 = 40;
const RELOADS: usize = 60;
const STARTS: usize = 20;

/// Served from the beginning; ours, and those that are certbot's until they are taken over.
const OURS: &str = "a.org";
const CERTBOTS: [&str; 4] = ["c.org", "d.org", "e.org", "f.org"];

/// A host whose test and reload are nginx's own.
struct Edge {
    place: Place,
    /// Where the nginx that runs all the time listens, and where those that are started anew do.
    addresses: [SocketAddr; 2],
    watchdog: Arc<Watchdog>,
    _range: Range,
}

impl Edge {
    fn new(layout: Layout) -> Self {
        let mut place = Place::new(Shell::Dash);
        let program = parts::nginx().unwrap();
        let libraries =
            program.libraries().map(|path| format!("export LD_LIBRARY_PATH='{}'\n", path.display()));
        let text = format!("{}exec '{}' \"$@\"", libraries.unwrap_or_default(), program.path().display());
        script(&place.path("bin/nginx"), &text);
        let range = Range::claim().unwrap();
        let address = range.address(11);
        let addresses = ports::free::<2>(address).unwrap().map(|port| SocketAddr::new(address, port));
        place.host.layout = layout;
        place.host.test = format!("{} -t", place.nginx("main"));
        place.host.reload = format!("{} -s reload", place.nginx("main"));
        fs::create_dir(place.path("tmp")).unwrap();
        let edge = Self { place, addresses, watchdog: Watchdog::start().unwrap(), _range: range };
        for name in CERTBOTS {
            install_as_certbot(edge.place.dir.path(), name, &fresh(name)).unwrap();
        }
        edge
    }

    /// Writes both configurations, with these names by their paths or by their file to include.
    fn configure(&self, names: &[&str], layout: Layout) {
        let root = self.place.dir.path().display();
        let live = self.place.path("live").display().to_string();
        for (which, address) in ["main", "fresh"].iter().zip(self.addresses) {
            let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .iter()
                .map(|what| format!("{what}_temp_path \"{root}/tmp/{which}-{what}\";\n"))
                .collect();
            let servers: String = names
                .iter()
                .map(|name| {
                    let pair = match layout {
                        Layout::Include => format!("include \"{live}/{name}.conf\";"),
                        Layout::Directory => format!(
                            "ssl_certificate \"{live}/{name}/fullchain.pem\"; \
                             ssl_certificate_key \"{live}/{name}/privkey.pem\";"
                        ),
                    };
                    format!("server {{ listen {address} ssl; server_name {name}; {pair} return 204; }}\n")
                })
                .collect();
            let text = format!(
                "{user}worker_processes 1;\npid \"{root}/{which}.pid\";\nerror_log \"{root}/{which}.log\" notice;\n\
                 events {{ worker_connections 64; }}\nhttp {{\naccess_log off;\n{temporary}{servers}}}\n"
            );
            fs::write(self.place.path(&format!("{which}.conf")), text).unwrap();
        }
    }

    fn service(&self, which: &'static str) -> Service {
        let address = self.addresses[usize::from(which == "fresh")];
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {} -g 'daemon off;'", self.place.nginx(which))]);
        let ready = move || std::net::TcpStream::connect(address).is_ok();
        Service::new(which, command, &self.place.path("services.log"), &self.watchdog, ready).unwrap()
    }

    /// A version of its own of each of these, all by one run of the script.
    fn swap(&self, names: &[&str], version: u32) -> Vec<Bundle> {
        let bundles: Vec<Bundle> = names.iter().map(|name| to_send(name, version, &fresh(name))).collect();
        let answer = self.place.install(&bundles);
        let fine =
            |outcome: &Outcome| matches!(outcome, Outcome::Switched { .. } | Outcome::Installed { .. });
        assert!(answer.reloaded() && answer.outcomes.iter().all(fine), "version {version}: {answer:?}");
        bundles
    }

    fn assert_serves(&self, bundles: &[Bundle]) {
        let deadline = Instant::now() + Duration::from_secs(60);
        for bundle in bundles {
            let served = || look::served(self.addresses[0], bundle.certificate.as_str()).ok();
            while served().is_none_or(|served| Fingerprint::of(served.leaf()) != bundle.fingerprint) {
                assert!(Instant::now() < deadline, "{} is not served", bundle.certificate);
                thread::yield_now();
            }
        }
    }
}

impl Place {
    fn nginx(&self, which: &str) -> String {
        let root = self.dir.path().display();
        format!("{root}/bin/nginx -p {root} -e {root}/{which}-alone.log -c {root}/{which}.conf")
    }
}

/// What was tried, how often it caught the instant of a switch, and how often the very next try did not pass.
#[derive(Debug, Default)]
struct Tally {
    tried: AtomicUsize,
    caught: AtomicUsize,
    broken: AtomicUsize,
}

impl Tally {
    fn tried(&self) -> usize {
        self.tried.load(Ordering::Relaxed)
    }

    fn failures(&self) -> [usize; 2] {
        [self.caught.load(Ordering::Relaxed), self.broken.load(Ordering::Relaxed)]
    }
}

/// Lets one switch go on, or keeps the next from beginning.
#[derive(Default)]
struct Gate {
    one: Mutex<()>,
    waiting: AtomicUsize,
}

impl Gate {
    fn attempt(&self, tally: &Tally, mut what: impl FnMut() -> bool) {
        if !what() {
            tally.caught.fetch_add(1, Ordering::Relaxed);
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let held = self.one.lock().unwrap();
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            if !what() {
                tally.broken.fetch_add(1, Ordering::Relaxed);
            }
            drop(held);
        }
        tally.tried.fetch_add(1, Ordering::Relaxed);
    }

    fn switch<T>(&self, what: impl FnOnce() -> T) -> T {
        while self.waiting.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        let _held = self.one.lock().unwrap();
        what()
    }
}

/// Ends the other loops also when a check in this one fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Switches again and again, and meanwhile tests, reloads and starts nginx; the failures of each.
fn swapped(edge: &Edge, layout: Layout, first: u32) -> [[usize; 2]; 3] {
    let (tests, reloads, starts) = (Tally::default(), Tally::default(), Tally::default());
    let (gate, done) = (Gate::default(), AtomicBool::new(false));
    let log = edge.place.path("main.log");
    let run = |arguments: &str| {
        let line = format!("{} {arguments}", edge.place.nginx("main"));
        Command::new("sh").args(["-c", &line]).output().unwrap().status.success()
    };
    let (swaps, last) = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                gate.attempt(&tests, || run("-t -q"));
                gate.attempt(&reloads, || run("-s reload"));
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let fresh = edge.service("fresh");
                gate.attempt(&starts, || fresh.start().is_ok());
            }
        });
        let _done = Done(&done);
        let mut swaps = 0;
        loop {
            // One of certbot's is taken over every now and then, and goes on as one of ours.
            let theirs = CERTBOTS.len().min(1 + swaps as usize / 10);
            let names: Vec<&str> = [OURS].into_iter().chain(CERTBOTS.into_iter().take(theirs)).collect();
            let last = gate.switch(|| edge.swap(&names, first + swaps));
            swaps += 1;
            let enough = reloads.tried() >= RELOADS && starts.tried() >= STARTS;
            if swaps >= SWAPS && enough {
                break (swaps, last);
            }
            assert!(swaps < 50 * SWAPS, "nobody else gets on: {tests:?}, {reloads:?}, {starts:?}");
        }
    });
    edge.assert_serves(&last);
    // A reload that catches the instant says so here, and goes on with what it had.
    let refused = read_lossy(&log).matches("[emerg]").count();
    println!(
        "{layout:?}: {swaps} swaps by the script; meanwhile {} of {} `nginx -t`, {} of {} `-s reload` and {} of {} \
         starts caught the instant of one, and {:?} of them again at the next try; {refused} reloads refused by the \
         one that ran",
        tests.failures()[0],
        tests.tried(),
        reloads.failures()[0],
        reloads.tried(),
        starts.failures()[0],
        starts.tried(),
        [&tests, &reloads, &starts].map(|tally| tally.failures()[1]),
    );
    if layout == Layout::Include {
        assert_eq!(refused, 0, "{}", read_lossy(&log));
    }
    [&tests, &reloads, &starts].map(Tally::failures)
}

#[test]
fn include_never_fails_while_versions_are_switched() {
    let edge = Edge::new(Layout::Include);
    // As people come to it: certbot's names by their paths, taken over, and then the lines are changed.
    edge.configure(&CERTBOTS, Layout::Directory);
    let nginx = edge.service("main");
    nginx.start().unwrap();
    edge.assert_serves(&edge.swap(&CERTBOTS, 1));
    edge.swap(&[OURS], 1);
    let names: Vec<&str> = [OURS].into_iter().chain(CERTBOTS).collect();
    edge.configure(&names, Layout::Include);
    assert_eq!(swapped(&edge, Layout::Include, 2), [[0; 2]; 3]);
}

#[test]
fn directory_can_be_started_whenever_no_switch_is_in_its_instant() {
    let edge = Edge::new(Layout::Directory);
    edge.configure(&CERTBOTS, Layout::Directory);
    let nginx = edge.service("main");
    nginx.start().unwrap();
    edge.swap(&[OURS], 1);
    let names: Vec<&str> = [OURS].into_iter().chain(CERTBOTS).collect();
    edge.configure(&names, Layout::Directory);
    for [_, broken] in swapped(&edge, Layout::Directory, 2) {
        assert_eq!(broken, 0, "the next try did not pass either");
    }
}

#[test]
fn nginx_can_be_started_between_any_two_steps() {
    for layout in [Layout::Directory, Layout::Include] {
        let edge = Edge::new(layout);
        edge.configure(&CERTBOTS, Layout::Directory);
        let nginx = edge.service("main");
        nginx.start().unwrap();
        edge.swap(&[OURS, CERTBOTS[0]], 1);
        // Ours by what the layout has for it, certbot's by the paths that are about to be taken over.
        let ours = edge.place.path("live/a.org.conf");
        edge.configure(&[&[OURS], &CERTBOTS[..]].concat(), Layout::Directory);
        if layout == Layout::Include {
            let conf = edge.place.path("main.conf");
            let text = fs::read_to_string(&conf).unwrap();
            let live = edge.place.path("live").display().to_string();
            let by_path = format!(
                "ssl_certificate \"{live}/{OURS}/fullchain.pem\"; ssl_certificate_key \"{live}/{OURS}/privkey.pem\";"
            );
            assert!(text.contains(&by_path));
            fs::write(&conf, text.replace(&by_path, &format!("include \"{}\";", ours.display()))).unwrap();
        }
        let root = edge.place.dir.path().display();
        for tool in TOOLS {
            let real = parts::find(tool).unwrap();
            let text = format!(
                "{} -t -q </dev/null >/dev/null 2>>{root}/refused || echo 'before {tool}' \"$@\" >>{root}/refused\n\
                 echo x >>{root}/steps\nexec {} \"$@\"",
                edge.place.nginx("main"),
                real.display(),
            );
            script(&edge.place.path("bin").join(tool), &text);
        }
        let last = edge.swap(&[&[OURS], &CERTBOTS[..]].concat(), 2);
        let steps = read_lossy(&edge.place.path("steps")).lines().count();
        println!("{layout:?}: nginx could be started before each of {steps} steps");
        assert_eq!(read_lossy(&edge.place.path("refused")), "", "{layout:?}");
        assert!(steps > 45, "only {steps} steps, is the trick still working?");
        edge.assert_serves(&last);
    }
}
