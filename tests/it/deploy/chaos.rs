//! A network that cuts, stalls and drips, at every part of a connection and in both directions.

use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::faults::check::{self, Others};
use crate::receiver;

/// A certificate of somebody else on the same host.
const OTHER: &str = "other.social.test";
/// Positions that are tried in each direction.
const CUTS: usize = 10;

/// What happens to the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The connection ends after so many bytes towards the host, or from it.
    Cut(Way, usize),
    /// From then on nothing comes through in this direction, and nothing ends.
    Stall(Way, usize),
    /// So many bytes at a time.
    Drip(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToHost,
    FromHost,
}

/// A way to a host with a fault in it.
struct Chaos {
    at: SocketAddr,
    to_host: Arc<AtomicUsize>,
    from_host: Arc<AtomicUsize>,
}

impl Chaos {
    async fn to(host: &Host, from: std::net::IpAddr, fault: Fault) -> Self {
        let listener = TcpListener::bind((from, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let (to_host, from_host): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let (ssh, up, down) = (host.ssh(), Arc::clone(&to_host), Arc::clone(&from_host));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (up, down) = (Arc::clone(&up), Arc::clone(&down));
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(ssh).await else { return };
                    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) =
                        (near.into_split(), far.into_split());
                    // What ends one way ends the connection.
                    tokio::select! {
                        () = pass(&mut near_in, &mut far_out, Way::ToHost, fault, &up) => {}
                        () = pass(&mut far_in, &mut near_out, Way::FromHost, fault, &down) => {}
                    }
                });
            }
        });
        Self { at, to_host, from_host }
    }

    fn passed(&self, way: Way) -> usize {
        let count = if way == Way::ToHost { &self.to_host } else { &self.from_host };
        count.load(Ordering::Relaxed)
    }
}

async fn pass(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    way: Way,
    fault: Fault,
    count: &AtomicUsize,
) {
    let mut buffer = vec![0; if let Fault::Drip(size) = fault { size } else { 16 * 1024 }];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let before = count.fetch_add(read, Ordering::Relaxed);
        let limit = match fault {
            Fault::Cut(of, at) | Fault::Stall(of, at) if of == way => at,
            _ => usize::MAX,
        };
        let most = limit.saturating_sub(before).min(read);
        if to.write_all(&buffer[..most]).await.is_err() {
            return;
        }
        if most < read {
            if let Fault::Stall(..) = fault {
                std::future::pending::<()>().await;
            }
            return;
        }
        if let Fault::Drip(_) = fault {
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
    }
}

/// A host with a neighbour that is none of ours.
struct Place<'a> {
    world: &'a World,
    host: &'a Host,
    others: Others,
    /// Whose certificates are taken, where the script is installed.
    authority: Option<Authority>,
}

impl<'a> Place<'a> {
    fn new(world: &'a World, name: &str) -> Self {
        let host = world.host(name);
        Self { world, host, others: Others::of(host, &[NAME]), authority: None }
    }

    /// One where the script is installed, and judges what comes.
    fn receiving(world: &'a World, name: &str) -> Self {
        let config =
            world.config("[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"edge\"]\n").unwrap();
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("[host.edge]\n", "[host.edge]\nreceiver = true\n")).unwrap();
        receiver::install(world, &config);
        let authority = Authority::new("a CA").unwrap();
        fs::write(&world.pebble.roots, authority.pem()).unwrap();
        Self { authority: Some(authority), ..Self::new(world, name) }
    }

    fn fresh(&self) -> Pair {
        match &self.authority {
            Some(authority) => authority.issue(&[NAME], -DAY, 90 * DAY).unwrap(),
            None => fresh(NAME),
        }
    }

    fn wanted(&self) -> desired::Host {
        desired::Host { receiver: self.authority.is_some(), ..wanted(self.host) }
    }

    /// Deploys through this fault; `None` is a connection that did not come to an answer.
    fn through(&self, fault: Fault, bundles: &[Bundle]) -> (Option<Vec<Deployed>>, [usize; 2]) {
        wait(async {
            let chaos = Chaos::to(self.host, self.world.spare_address(9), fault).await;
            let mut wanted = self.wanted();
            wanted.address = chaos.at.ip().to_string();
            wanted.port = chaos.at.port();
            let result = match Session::open(&wanted, login(&wanted)).await {
                Ok(session) => {
                    let result = deploy(&session, &wanted, bundles, &Look::at(self.host)).await;
                    session.close().await;
                    result.ok().map(|done| done.into_iter().map(|(_, deployed)| deployed).collect())
                }
                Err(_) => None,
            };
            (result, [chaos.passed(Way::ToHost), chaos.passed(Way::FromHost)])
        })
    }

    /// What must be so after every fault, whatever became of the deployment.
    fn assert_sound(&self, what: &str) {
        check::assert_startable(self.host, &[NAME], what);
        check::assert_private(self.host, what);
        self.others.assert_untouched(self.host, &[NAME], what);
        let served = self.host.served(NAME).unwrap();
        assert_eq!(served.names, [NAME], "{what}");
    }

    /// The next pass.
    fn assert_converges(&self, bundle: &Bundle, pair: &Pair, what: &str) {
        let result = deployed_as(&self.wanted(), self.host, std::slice::from_ref(bundle));
        assert!(matches!(result[..], [Deployed::Served { .. }]), "{what}: {result:?}");
        assert!(serves(self.host, NAME, pair), "{what}");
        self.assert_sound(what);
        check::assert_settled(self.host, what);
    }
}

/// Positions all over so many bytes: the hand-shake, the login, the script, the keys, the last answer.
fn positions(total: usize, cuts: usize) -> impl Iterator<Item = usize> {
    (0..cuts).map(move |n| n * total / cuts).chain([total.saturating_sub(1)])
}

#[test]
fn a_connection_that_is_cut_anywhere_leaves_a_sound_host() {
    let world = World::builder().hosts(&["edge"]).site(&[NAME]).site(&[OTHER]).start().unwrap();
    sweep(&Place::new(&world, "edge"), CUTS);
}

#[test]
fn nor_does_it_where_the_script_is_installed() {
    let world = World::builder().hosts(&["edge"]).site(&[NAME]).site(&[OTHER]).start().unwrap();
    sweep(&Place::receiving(&world, "edge"), CUTS / 2);
}

/// Cuts at so many positions in each direction, looks, deploys again, looks again.
fn sweep(place: &Place<'_>, cuts: usize) {
    let mut version = 1;
    let mut next = || {
        version += 1;
        let pair = place.fresh();
        (bundle(NAME, version, &pair), pair)
    };
    let (first, _) = next();
    let (result, [up, down]) = place.through(Fault::None, &[first]);
    assert!(matches!(result.as_deref(), Some([Deployed::Served { .. }])), "{result:?}");
    place.assert_sound("without a fault");
    let (mut lost, mut done) = (0, 0);
    for (way, total) in [(Way::ToHost, up), (Way::FromHost, down)] {
        for at in positions(total, cuts) {
            let (bundle, pair) = next();
            let (result, _) = place.through(Fault::Cut(way, at), std::slice::from_ref(&bundle));
            let what = format!("cut {way:?} at {at} of {total}: {result:?}");
            place.assert_sound(&what);
            match result {
                None => lost += 1,
                Some(_) => done += 1,
            }
            place.assert_converges(&bundle, &pair, &what);
        }
    }
    println!("{up} bytes to the host, {down} from it: {lost} lost, {done} came to an answer");
    assert!(lost > cuts, "{lost} of {}", lost + done);
}

#[test]
fn a_connection_that_stalls_anywhere_is_given_up_and_leaves_a_sound_host() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let world = World::builder().hosts(&names).site(&[NAME]).site(&[OTHER]).start().unwrap();
    let places = names.map(|name| Place::new(&world, name));
    let (result, [up, down]) = places[0].through(Fault::None, &[bundle(NAME, 1, &fresh(NAME))]);
    assert!(result.is_some());
    // In the hand-shake, in the data, before the last answer; all wait for their deadlines at the same time.
    let faults = [
        (Way::ToHost, up / 20),
        (Way::ToHost, up / 2),
        (Way::ToHost, up * 9 / 10),
        (Way::FromHost, down / 3),
        (Way::FromHost, down * 8 / 10),
        (Way::FromHost, down.saturating_sub(100)),
    ];
    thread::scope(|scope| {
        for (place, (way, at)) in places.iter().zip(faults) {
            scope.spawn(move || {
                let pair = fresh(NAME);
                let bundle = bundle(NAME, 2, &pair);
                let (result, _) = place.through(Fault::Stall(way, at), std::slice::from_ref(&bundle));
                let what = format!("stalled {way:?} at {at}: {result:?}");
                place.assert_sound(&what);
                place.assert_converges(&bundle, &pair, &what);
            });
        }
    });
}

#[test]
fn a_slow_line_takes_its_time_and_gets_there() {
    let world = World::builder().hosts(&["edge"]).site(&[NAME]).site(&[OTHER]).start().unwrap();
    let place = Place::new(&world, "edge");
    let pair = fresh(NAME);
    let (result, _) = place.through(Fault::Drip(256), &[bundle(NAME, 1, &pair)]);
    assert!(matches!(result.as_deref(), Some([Deployed::Served { .. }])), "{result:?}");
    assert!(serves(place.host, NAME, &pair));
}

#[test]
fn a_server_with_too_many_strangers_is_told_apart_and_tried_again() {
    let world = one_host();
    let host = world.host("edge");
    let config = host.root.join("ssh/sshd_config");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("MaxStartups 1:100:1\n{text}")).unwrap();
    host.stop_sshd();
    host.start_sshd().unwrap();
    let stranger = std::net::TcpStream::connect(host.ssh()).unwrap();
    let begun = Instant::now();
    // The server counts it once its child has begun to greet.
    let error = loop {
        match wait(Session::open(&wanted(host), login(&wanted(host)))) {
            Err(error) => break error,
            Ok(session) => wait(session.close()),
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "MaxStartups lets everybody in");
    };
    assert!(matches!(error, ConnectError::Busy { .. } | ConnectError::Ended { .. }), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("MaxStartups")), "{error:?}");
    drop(stranger);
    let begun = Instant::now();
    while wait(Session::open(&wanted(host), login(&wanted(host)))).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody comes in any more");
        thread::sleep(Duration::from_millis(50));
    }
}
