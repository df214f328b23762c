//! Somebody has stolen our key, and tries everything that ssh can do with it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use certfleet::deploy::protocol::Conversation;
use certfleet::deploy::receiver;
use certfleet::deploy::{Bundle, PutBack};
use certfleet::model::desired;
use certfleet::model::name::{Fingerprint, VersionNumber};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::*;
use crate::world::made::{Authority, DAY, Pair};
use crate::world::parts;
use crate::world::ports;

struct Thief<'a> {
    host: &'a Host,
    known: desired::Host,
}

impl<'a> Thief<'a> {
    fn of(world: &'a World, config: &Path) -> Self {
        let desired = certfleet::config::load(config).unwrap().desired;
        Self { host: world.host("edge"), known: desired.hosts.into_values().next().unwrap() }
    }

    /// What every OpenSSH program is told first.
    fn with(&self, mut command: Command) -> Command {
        command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]).args([
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "IdentitiesOnly=yes",
        ]);
        command.arg("-i").arg(&self.host.identity).env_remove("SSH_AUTH_SOCK").env("DISPLAY", ":99");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, options: &[&str], words: &[&str]) -> Child {
        let mut command = self.with(parts::ssh().unwrap().command());
        command.args(["-p", &self.host.ssh_port.to_string()]).args(options);
        command.arg(format!("{}@{}", self.host.user, self.host.address)).args(words).spawn().unwrap()
    }

    fn ssh(&self, options: &[&str], words: &[&str], input: &[u8]) -> Output {
        let mut child = self.start(options, words);
        let mut stdin = child.stdin.take().unwrap();
        thread::scope(|scope| {
            // It may be gone before all is said.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output().unwrap()
        })
    }

    /// The host as it is, but for its logs and for who was there last.
    fn there(&self) -> Vec<(PathBuf, String)> {
        listing(&self.host.root, &["log", ".holder", ".last-answer", ".lock"])
    }

    fn install(&self, bundle: Bundle) -> String {
        self.request(Conversation::install(&self.known, &[bundle]).unwrap())
    }

    fn request(&self, mut conversation: Conversation) -> String {
        let output = self.ssh(&[], &[], &receiver::request(&mut conversation));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn bundle(name: &str, version: u32, pair: &Pair) -> Bundle {
    let der = CertificateDer::from_pem_slice(pair.leaf.as_bytes()).unwrap();
    Bundle {
        certificate: name.parse().unwrap(),
        version: VersionNumber(version),
        fingerprint: Fingerprint::of(&der),
        force: true,
        privkey: pair.key.clone().into(),
        cert: pair.leaf.clone(),
        chain: pair.chain.clone(),
    }
}

/// What our store has of a version, which a thief of more than the key has, too.
fn stored(world: &World, version: u32) -> Pair {
    let folder = world.store().join("certificates").join(NAME).join("versions").join(version.to_string());
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    Pair { key: read("privkey.pem"), leaf: read("cert.pem"), chain: read("chain.pem") }
}

#[test]
fn there_is_no_shell_no_file_no_tunnel() {
    let (world, config) = set_up();
    certfleet(&config, &["renew"]).ended(0);
    let thief = Thief::of(&world, &config);
    let before = thief.there();
    let stolen = world.dir.path().join("stolen");
    let target = format!("{}@{}", thief.host.user, thief.host.address);

    let touch = format!("touch {}", thief.host.root.join("pwned").display());
    for words in [
        vec![],
        vec!["sh", "-c", touch.as_str()],
        vec![touch.as_str()],
        vec!["certfleet-receive", "/dev/null;", touch.as_str()],
        vec!["$(", touch.as_str(), ")"],
    ] {
        let output = thief.ssh(&[], &words, format!("{touch}\nexit\n").as_bytes());
        assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()), "{words:?}");
    }
    let terminal = thief.ssh(&["-tt"], &[], format!("{touch}\n").as_bytes());
    assert!(
        String::from_utf8_lossy(&terminal.stderr).contains("PTY allocation request failed"),
        "{terminal:?}"
    );
    let sftp = thief.ssh(&["-s"], &["sftp"], b"\0\0\0\x05\x01\0\0\0\x03");
    assert_eq!((sftp.status.code(), sftp.stdout), (Some(1), Vec::new()));
    let agent = thief.ssh(&["-A"], &["ssh-add", "-l"], b"");
    assert_eq!(agent.stdout, b"");

    let tls = thief.host.tls().to_string();
    let tunnel = thief.ssh(&["-W", &tls], &[], b"");
    assert!(String::from_utf8_lossy(&tunnel.stderr).contains("administratively prohibited"), "{tunnel:?}");
    let back = ["-N", "-o", "ExitOnForwardFailure=yes", "-R", "127.0.0.1:0:127.0.0.1:1"];
    let back = thief.ssh(&back, &[], b"");
    assert!(String::from_utf8_lossy(&back.stderr).contains("forwarding failed"), "{back:?}");

    let screen = thief.ssh(&["-Y", "-v"], &[], b"");
    assert!(String::from_utf8_lossy(&screen.stderr).contains("X11 forwarding request failed"), "{screen:?}");
    // Doors that the client opens here lead nowhere.
    let [port, socks] = ports::free::<2>(thief.host.address).unwrap();
    let [port, socks] = [port, socks].map(|port| SocketAddr::new(thief.host.address, port));
    let to_tls =
        [&[4, 1][..], &thief.host.tls_port.to_be_bytes(), &octets(thief.host.address), &[0]].concat();
    for (option, door, first) in
        [("-L", format!("{port}:{tls}"), (port, Vec::new())), ("-D", socks.to_string(), (socks, to_tls))]
    {
        let mut client = thief.start(&["-N", option, &door], &[]);
        let mut stream = connected(first.0);
        stream.write_all(&first.1).unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        client.kill().unwrap();
        let output = client.wait_with_output().unwrap();
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("administratively prohibited"),
            "{output:?}"
        );
        // At most what the client itself answers to SOCKS.
        assert!(said.len() <= 8, "{option}: {said:?}");
    }

    let key = thief.host.live.join(NAME).join("privkey.pem");
    // They wait for an answer until they are sent away: all at the same time.
    let (port, ssh) = (thief.host.ssh_port.to_string(), parts::ssh().unwrap());
    let copier = |program: parts::Program, options: &[&str], from: String, to: String| {
        let mut command = thief.with(program.command());
        command.args(options).args(["-P", &port, "-S"]).arg(ssh.path()).args([from, to]);
        command.stdin(Stdio::null()).spawn().unwrap()
    };
    let there = |path: &Path| format!("{target}:{}", path.display());
    let (mine, pwned) = (config.display().to_string(), thief.host.root.join("pwned"));
    let into = stolen.display().to_string();
    let copying = [
        copier(parts::scp().unwrap(), &[], there(&key), into.clone()),
        copier(parts::scp().unwrap(), &["-O"], there(&key), into.clone()),
        copier(parts::scp().unwrap(), &[], mine.clone(), there(&pwned)),
        copier(parts::scp().unwrap(), &["-O"], mine, there(&pwned)),
        copier(parts::sftp().unwrap(), &[], there(&key), into),
    ];
    for child in copying {
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success(), "{output:?}");
    }

    assert!(!stolen.exists());
    assert_eq!(thief.there(), before);
}

fn octets(address: IpAddr) -> [u8; 4] {
    let IpAddr::V4(address) = address else { panic!("{address}") };
    address.octets()
}

fn connected(door: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match TcpStream::connect(door) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{door}: {error}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_a_client_sets_in_the_environment_changes_nothing() {
    let (world, config) = set_up();
    certfleet(&config, &["renew"]).ended(0);
    let thief = Thief::of(&world, &config);
    // What Debian lets in, and what nobody does.
    let server = thief.host.root.join("ssh/sshd_config");
    let text = fs::read_to_string(&server).unwrap();
    fs::write(&server, format!("AcceptEnv LANG LC_*\n{text}")).unwrap();
    thief.host.stop_sshd();
    thief.host.start_sshd().unwrap();
    let (before, reloads) = (thief.there(), thief.host.reloads());
    let pwned = thief.host.root.join("pwned");
    let startup = world.dir.path().join("startup");
    fs::write(&startup, format!("touch {}\n", pwned.display())).unwrap();
    let startup = startup.display();
    let set = format!(
        "SetEnv=LANG=tr_TR.UTF-8 LC_ALL=tr_TR.UTF-8 LC_X=$(id) PATH=/tmp BASH_ENV={startup} ENV={startup} \
         LD_PRELOAD={startup} OPENSSL_CONF={startup} SSL_CERT_FILE={startup} IFS=a"
    );
    let forged = Authority::new("the thief's CA").unwrap().issue(&[NAME], -DAY, 4000 * DAY).unwrap();
    let mut conversation = Conversation::install(&thief.known, &[bundle(NAME, 9, &forged)]).unwrap();
    let output = thief.ssh(&["-o", &set], &[], &receiver::request(&mut conversation));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("refused ") && said.contains("is not valid here"), "{said}");

    assert!(!pwned.exists());
    assert_eq!((thief.there(), thief.host.reloads()), (before, reloads));
}

#[test]
fn there_is_no_other_certificate_and_no_way_back() {
    let (world, config) = set_up();
    certfleet(&config, &["renew"]).ended(0);
    certfleet(&config, &["renew", "--force"]).ended(0);
    let thief = Thief::of(&world, &config);
    let served = thief.host.served(NAME).unwrap();
    let (before, reloads) = (thief.there(), thief.host.reloads());
    let old = stored(&world, 1);
    let own = Authority::new("the thief's CA").unwrap();
    let forged = own.issue(&[NAME], -DAY, 4000 * DAY).unwrap();
    let mixed = Pair { key: forged.key.clone(), ..stored(&world, 2) };

    // Also with all that our store has: an old certificate is no certificate.
    for (name, pair, why) in [
        (NAME, &old, "was in use here before the one that is"),
        (NAME, &forged, "is not valid here"),
        (NAME, &mixed, "the key is not the one of the certificate"),
        ("files.social.test", &stored(&world, 2), "does not allow it"),
        ("certfleet", &forged, "does not allow it"),
    ] {
        let said = thief.install(bundle(name, 9, pair));
        assert!(said.contains("refused ") && said.contains(why), "{why}: {said}");
    }
    let versions: Vec<String> = [1, 2].map(|n| bundle(NAME, n, &stored(&world, n)).directory_name()).into();
    let back = |installed: &str, previous: &str| {
        let what = PutBack {
            certificate: NAME.parse().unwrap(),
            installed: installed.to_owned(),
            previous: previous.to_owned(),
        };
        thief.request(Conversation::put_back(&thief.known, &[what]).unwrap())
    };
    for (installed, previous) in
        [(versions[1].as_str(), "0-before"), (versions[0].as_str(), "0-before"), (versions[1].as_str(), "..")]
    {
        let said = back(installed, previous);
        assert!(said.contains("kept ") || said.contains("failed - input"), "{said}");
    }
    let conf = thief.host.root.join("receive.conf");
    let nonce = "0123456789abcdef".repeat(2);
    for request in ["config 0", "read 1", "sh 0", "install 4096", "install -1"] {
        let said = thief.ssh(
            &[],
            &[],
            format!("certfleet-receive 1 {request} {nonce}\n{}\n", conf.display()).as_bytes(),
        );
        assert!(String::from_utf8_lossy(&said.stdout).contains("failed - receiver"), "{request}: {said:?}");
    }
    let endless = vec![b'x'; 8 << 20];
    assert_eq!(thief.ssh(&[], &[], &endless).stdout, b"");

    assert_eq!(thief.there(), before);
    assert_eq!(thief.host.reloads(), reloads, "not even a reload");
    assert_eq!(thief.host.served(NAME).unwrap().leaf(), served.leaf());
}

#[test]
fn who_says_nothing_keeps_nobody_waiting() {
    let (world, config) = set_up();
    certfleet(&config, &["renew"]).ended(0);
    let thief = Thief::of(&world, &config);
    let mut slow = thief.start(&[], &[]);
    let mut input = slow.stdin.take().unwrap();
    let nonce = "0123456789abcdef".repeat(2);
    let begun =
        format!("certfleet-receive 1 install 1 {nonce}\n{NAME} 9-abcdef12 - 1 1 1\n{}", "1".repeat(8192));
    input.write_all(begun.as_bytes()).unwrap();
    input.flush().unwrap();
    // Another sends a little, again and again.
    let mut dripping = thief.start(&[], &[]);
    let mut drops = dripping.stdin.take().unwrap();
    drops.write_all(begun.as_bytes()).unwrap();
    let dripping = thread::spawn(move || {
        while dripping.try_wait().unwrap().is_none() {
            let _ = drops.write_all(b"1").and_then(|()| drops.flush());
            thread::sleep(Duration::from_millis(100));
        }
        dripping.wait_with_output().unwrap()
    });

    certfleet(&config, &["renew", "--force"]).ended(0);

    // It is sent away, though it keeps its end open.
    let output = slow.wait_with_output().unwrap();
    drop(input);
    for output in [output, dripping.join().unwrap()] {
        assert!(String::from_utf8_lossy(&output.stdout).contains("failed - input"), "{output:?}");
    }
}
