//! Connections that are cut, hosts that hang or lie.

use super::*;
use crate::faults::check;

#[test]
fn what_hangs_is_given_up() {
    // Deadlines are long: wait for all of them at the same time.
    thread::scope(|scope| {
        scope.spawn(a_test_that_hangs_is_ended);
        scope.spawn(a_frozen_host_is_given_up);
        scope.spawn(a_silent_listener_is_given_up);
        scope.spawn(a_sudo_that_waits_is_given_up);
    });
}

fn a_test_that_hangs_is_ended() {
    let world = one_host();
    let host = world.host("edge");
    host.set_test(Script::Hangs).unwrap();
    let result = deployed(host, &[bundle(NAME, 1, &fresh(NAME))]);
    let [Deployed::Failed { problem }] = &result[..] else { panic!("{result:?}") };
    assert!(problem.one_line().contains("did not end within 20 s"), "{}", problem.one_line());
    assert!(host.served(NAME).unwrap().expired());
}

fn a_sudo_that_waits_is_given_up() {
    let world = one_host();
    let host = world.host("edge");
    let sudo = host.root.join("bin/sudo");
    fs::write(&sudo, "#!/bin/sh\nprintf '[sudo] password for deploy: ' >&2\nexec sleep 45\n").unwrap();
    fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755)).unwrap();
    let mut wanted = wanted(host);
    wanted.sudo = true;
    let error = wait(async {
        let session = session(&wanted).await;
        session.install(&wanted, &[bundle(NAME, 1, &fresh(NAME))]).await.unwrap_err()
    });
    assert!(matches!(error, InstallError::Silent { .. }), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("sudo")), "{error:?}");
    assert!(host.served(NAME).unwrap().expired());
    fs::remove_file(sudo).unwrap();
    let pair = fresh(NAME);
    assert!(matches!(deployed(host, &[bundle(NAME, 1, &pair)])[..], [Deployed::Served { .. }]));
    check::assert_startable(host, &[NAME], "sudo that waits");
}

fn a_silent_listener_is_given_up() {
    let world = World::builder().hosts(&["edge"]).start().unwrap();
    let silent = TcpListener::bind((world.spare_address(1), 0)).unwrap();
    let address = silent.local_addr().unwrap();
    let mut here = wanted(world.host("edge"));
    here.address = address.ip().to_string();
    here.port = address.port();
    let begun = Instant::now();
    let error = refused(&here);
    assert!(matches!(error, ConnectError::Timeout { seconds: 15, .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

/// Has the host run this in place of the command that it is asked for (`$SSH_ORIGINAL_COMMAND`).
fn force(host: &Host, command: &str) {
    let file = host.root.join("ssh/authorized_keys");
    let key = fs::read_to_string(&file).unwrap();
    let key = &key[key.find("ssh-ed25519").unwrap()..];
    fs::write(&file, format!("command=\"{command}\" {key}")).unwrap();
}

#[test]
fn greetings_before_the_answer_do_no_harm_and_lies_are_data() {
    let world = one_host();
    let host = world.host("edge");
    force(host, r#"printf 'welcome to edge'; echo 'mail for you' >&2; eval \"$SSH_ORIGINAL_COMMAND\""#);
    let pair = fresh(NAME);
    assert!(matches!(deployed(host, &[bundle(NAME, 1, &pair)])[..], [Deployed::Served { .. }]));

    let wanted = wanted(host);
    let error = || {
        wait(async {
            let session = session(&wanted).await;
            session.install(&wanted, &[bundle(NAME, 2, &pair)]).await.unwrap_err()
        })
    };
    force(host, "yes installed everything");
    assert!(matches!(error(), InstallError::TooMuch { .. }));
    force(host, "yes installed everything >&2");
    assert!(matches!(error(), InstallError::TooMuch { .. }));
    force(host, r"echo This account is currently not available.; exit 1");
    let no_answer = error();
    let InstallError::NoAnswer { said, status, .. } = &no_answer else { panic!("{no_answer:?}") };
    assert_eq!(
        (said.as_str(), status.as_str()),
        ("This account is currently not available.", "exit status 1")
    );
    force(host, r"cat >/dev/null; printf '\\033[2J\\033]0;owned\\007'; exit 0");
    let text = Problem::of(&error()).one_line();
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text}");
    // It knows the nonce, and answers what was not asked.
    force(host, r"dd bs=1 count=20000 2>/dev/null | tail -c 0; echo nonsense begin; kill -9 $$");
    assert!(matches!(error(), InstallError::NoAnswer { .. }));
    assert!(serves(host, NAME, &pair));
}

/// A cable between us and a host that can be pulled.
struct Cable {
    at: SocketAddr,
    pulled: Arc<AtomicBool>,
}

impl Cable {
    async fn to(host: &Host, from: std::net::IpAddr) -> Self {
        let listener = tokio::net::TcpListener::bind((from, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let pulled = Arc::new(AtomicBool::new(false));
        let (ssh, state) = (host.ssh(), Arc::clone(&pulled));
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    let mut far = tokio::net::TcpStream::connect(ssh).await.unwrap();
                    let watch = async {
                        while !state.load(Ordering::Relaxed) {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        state.store(false, Ordering::Relaxed);
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = watch => {}
                    }
                });
            }
        });
        Self { at, pulled }
    }

    /// Ends the connection there is; the next one will work.
    fn pull(&self) {
        self.pulled.store(true, Ordering::Relaxed);
    }
}

/// The host's test command becomes one that first sleeps a second when this file is there.
fn slow_test(host: &Host) -> (String, PathBuf) {
    let slow = host.root.join("slow");
    let command = format!(
        "[ ! -e {slow} ] || {{ echo >>{slow}; sleep 1; }}; {}",
        host.test_command,
        slow = slow.display()
    );
    (command, slow)
}

#[test]
fn a_cut_after_the_switch_does_not_stop_the_host() {
    let world = one_host();
    let host = world.host("edge");
    let pair = fresh(NAME);
    wait(async {
        let cable = Cable::to(host, world.spare_address(2)).await;
        let mut wanted = wanted(host);
        wanted.address = cable.at.ip().to_string();
        wanted.port = cable.at.port();
        let (test, slow) = slow_test(host);
        wanted.test = test;
        fs::write(&slow, "").unwrap();
        let session = session(&wanted).await;
        let bundles = [bundle(NAME, 1, &pair)];
        let install = session.install(&wanted, &bundles);
        let pull = async {
            // In the test after the switch.
            while fs::read_to_string(&slow).unwrap().lines().count() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            cable.pull();
        };
        let (result, ()) = tokio::join!(install, pull);
        let error = result.unwrap_err();
        assert!(matches!(&error, InstallError::Lost { step, .. } if step == "the config test"), "{error:?}");
        assert!(session.is_closed());
        // It goes on by itself, and the answer can be read there.
        let begun = Instant::now();
        while host.reloads() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(10), "the host did not go on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let begun = Instant::now();
    while !serves(host, NAME, &pair) || !host.live.join(".certfleet/.last-answer").exists() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(20));
    }
    let answer = fs::read_to_string(host.live.join(".certfleet/.last-answer")).unwrap();
    assert!(answer.contains("switched media.social.test"), "{answer}");
    // For the next run there is nothing left to do.
    let wanted = wanted(host);
    let answer = wait(async {
        let session = session(&wanted).await;
        session.install(&wanted, &[bundle(NAME, 1, &pair)]).await.unwrap()
    });
    assert!(matches!(answer.outcomes[..], [Outcome::Unchanged { .. }]), "{answer:?}");
    assert_eq!(answer.reload, Reload::Done);
    sound(host, "cut after the switch");
}

/// What must hold after each fault that is over.
fn sound(host: &Host, what: &str) {
    check::assert_startable(host, &[NAME], what);
    check::assert_private(host, what);
    check::assert_settled(host, what);
}

#[test]
fn a_cut_before_the_switch_changes_nothing() {
    let world = one_host();
    let host = world.host("edge");
    // Some bytes of the way: inside the script, inside the data.
    for after in [0, 2, 5, 8, 12] {
        wait(async {
            let cable = Cable::to(host, world.spare_address(3)).await;
            let mut wanted = wanted(host);
            wanted.address = cable.at.ip().to_string();
            wanted.port = cable.at.port();
            let session = session(&wanted).await;
            let bundles: Vec<Bundle> =
                (0..30).map(|n| bundle(&format!("n{n}.test"), 1, &fresh(NAME))).collect();
            let install = session.install(&wanted, &bundles);
            let pull = async {
                tokio::time::sleep(Duration::from_millis(after * 10)).await;
                cable.pull();
            };
            let (result, ()) = tokio::join!(install, pull);
            assert!(result.is_err());
        });
    }
    thread::sleep(Duration::from_secs(1));
    assert_eq!(host.reloads(), 0);
    let pair = fresh(NAME);
    assert!(matches!(deployed(host, &[bundle(NAME, 1, &pair)])[..], [Deployed::Served { .. }]));
    sound(host, "cut before the switch");
}

#[test]
fn a_cut_while_looking_does_not_keep_it_from_being_put_back() {
    let world = one_host();
    let host = world.host("edge");
    let old = host.served(NAME).unwrap();
    host.set_reload(Script::Lies).unwrap();
    let result = wait(async {
        let cable = Cable::to(host, world.spare_address(4)).await;
        let mut wanted = wanted(host);
        wanted.address = cable.at.ip().to_string();
        wanted.port = cable.at.port();
        let session = session(&wanted).await;
        let bundles = [bundle(NAME, 1, &fresh(NAME))];
        let look = Look::at(host);
        let deploy = deploy(&session, &wanted, &bundles, &look);
        let pull = async {
            while host.reloads() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            cable.pull();
        };
        let (result, ()) = tokio::join!(deploy, pull);
        result.unwrap()
    });
    assert!(matches!(result[0].1, Deployed::RolledBack { .. }), "{result:?}");
    assert_eq!(host.served(NAME).unwrap(), old);
    let current = fs::read_link(host.live.join(".certfleet").join(NAME).join("current")).unwrap();
    assert_eq!(current, Path::new("0-before"));
    sound(host, "cut while looking");
}

fn a_frozen_host_is_given_up() {
    let world = one_host();
    let host = world.host("edge");
    let wanted = wanted(host);
    wait(async {
        let session = session(&wanted).await;
        host.sshd.freeze();
        let begun = Instant::now();
        let error = session.install(&wanted, &[bundle(NAME, 1, &fresh(NAME))]).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        assert!(matches!(error, InstallError::Silent { .. } | InstallError::Lost { .. }), "{error:?}");
    });
    host.sshd.thaw();
}
