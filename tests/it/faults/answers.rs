//! Hosts whose answers are no answers, or lies; and servers that only look like SSH.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{Case, Ends, Sound, tried};

/// Reads all that is sent, and leaves the nonce and the version's name in `$nonce` and `$version`.
const READ_ALL: &str = "length=${SSH_ORIGINAL_COMMAND#*bs=} length=${length%% *}
    dd bs=$length count=1 iflag=fullblock of=/dev/null 2>/dev/null
    read -r nonce action count
    read -r access; read -r directory; read -r test; read -r reload
    read -r name version rest
    cat >/dev/null";

const CASES: &[Case] = &[
    Case {
        host: "endless-out",
        what: "endless output",
        fault: |place| place.sessions("exec yes installed everything"),
        ends: Ends::Old("deploy.answer"),
        says: &["said more than any answer takes"],
        sound: Sound::All,
    },
    Case {
        host: "endless-err",
        what: "endless output on standard error",
        fault: |place| place.sessions("exec yes installed everything >&2"),
        ends: Ends::Old("deploy.answer"),
        says: &["said more than any answer takes"],
        sound: Sound::All,
    },
    Case {
        host: "nothing",
        what: "success, and nothing was done or said",
        fault: |place| place.sessions("cat >/dev/null; exit 0"),
        ends: Ends::Old("deploy.no-answer"),
        says: &["gave no answer (exit status 0, in the start): it said nothing"],
        sound: Sound::All,
    },
    Case {
        host: "deaf",
        what: "it ends without having read a byte",
        fault: |place| place.sessions("exit 7"),
        ends: Ends::Old("deploy.no-answer"),
        says: &["exit status 7"],
        sound: Sound::All,
    },
    Case {
        host: "garbage",
        what: "an answer of garbage records",
        fault: |place| {
            place.sessions(&format!(
                "{READ_ALL}\nprintf '%s begin\\n\\033[2J\\377\\376 switched everything\\n%s end\\n' $nonce $nonce"
            ))
        },
        ends: Ends::Old("deploy.answer"),
        says: &["makes no sense"],
        sound: Sound::All,
    },
    Case {
        host: "too-long",
        what: "an answer with a text of 99999999999 bytes",
        fault: |place| {
            place.sessions(&format!(
                "{READ_ALL}\nprintf '%s begin\\nswitched %s %s - 99999999999\\n\\n%s end\\n' $nonce $name $version $nonce"
            ))
        },
        ends: Ends::Old("deploy.answer"),
        says: &["makes no sense"],
        sound: Sound::All,
    },
    Case {
        host: "others-name",
        what: "an answer for another certificate",
        fault: |place| {
            place.sessions(&format!(
                "{READ_ALL}\nprintf '%s begin\\nswitched other.social.test %s - 0\\n\\n%s end\\n' $nonce $version $nonce"
            ))
        },
        ends: Ends::Old("deploy.answer"),
        says: &["makes no sense"],
        sound: Sound::All,
    },
    Case {
        host: "lies",
        what: "the answer that all is done, and nothing was done",
        fault: |place| {
            place.sessions(&format!(
                "{READ_ALL}
                printf '%s begin\\nreload - ok - 0\\n\\nswitched %s %s 1-00000000 0\\n\\n%s end\\n' \
                    $nonce $name $version $nonce"
            ))
        },
        ends: Ends::Old("deploy.not-put-back"),
        says: &["does not serve", "it answers `switched`", "still serves", "look at `lies` now"],
        sound: Sound::All,
    },
    Case {
        host: "hostile-text",
        what: "a failure told with control characters and 20 kB",
        fault: |place| {
            place.sessions(&format!(
                "{READ_ALL}
                text=$(printf '\\033]0;owned\\007\\033[2J'; dd if=/dev/zero bs=1000 count=20 2>/dev/null | tr '\\0' x)
                printf '%s begin\\nfailed - staging - %s\\n%s\\n%s end\\n' $nonce ${{#text}} \"$text\" $nonce"
            ))
        },
        ends: Ends::Old("deploy.staging"),
        says: &["owned", "make room"],
        sound: Sound::All,
    },
    Case {
        host: "unknown-stop",
        what: "a failure at a step that does not exist",
        fault: |place| {
            place.sessions(&format!(
                "{READ_ALL}\nprintf '%s begin\\nfailed - lunch - 2\\nno\\n%s end\\n' $nonce $nonce"
            ))
        },
        ends: Ends::Old("deploy.answer"),
        says: &["makes no sense"],
        sound: Sound::All,
    },
    Case {
        host: "endless-banner",
        what: "something sends endless lines where sshd should be",
        fault: |place| listener(place, |mut stream| while stream.write_all(&[b'x'; 4096]).is_ok() {}),
        ends: Ends::Old("ssh.not-ssh"),
        says: &["no SSH server answers"],
        sound: Sound::All,
    },
    Case {
        host: "endless-lines",
        what: "an SSH server that greets with endless lines before its version",
        fault: |place| {
            listener(place, |mut stream| while stream.write_all(b"welcome to this server\r\n").is_ok() {})
        },
        ends: Ends::Old("ssh.not-ssh"),
        says: &["no SSH server answers"],
        sound: Sound::All,
    },
    Case {
        host: "huge-packet",
        what: "an SSH server that announces a packet of 2 GB",
        fault: |place| {
            listener(place, |mut stream| {
                let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\x7f\xff\xff\xff\x04");
                while stream.write_all(&[0; 4096]).is_ok() {}
            })
        },
        ends: Ends::Old("ssh.ended"),
        says: &["ended the connection"],
        sound: Sound::All,
    },
];

#[test]
fn answers_that_are_none() {
    tried(CASES);
}

/// In the place of the host's SSH server.
fn listener<'a>(place: &'a super::Place<'a>, serve: fn(TcpStream)) -> super::Mend<'a> {
    let listener = TcpListener::bind((place.host.address, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if end.load(Ordering::Relaxed) {
                return;
            }
            thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                thread::spawn(move || while reader.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {});
                serve(stream);
            });
        }
    });
    let undo = place.set("port", &at.port().to_string());
    Box::new(move || {
        undo();
        ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(at));
    })
}
