//! Hosts whose answers are no answers, or lies; and servers that only look like SSH.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{Case, Ends, tried};

/// Reads all that is sent, and leaves the nonce and the version's name in `$nonce` and `$version`.
const READ_ALL: &str = "length=${SSH_ORIGINAL_COMMAND#*bs=} length=${length%% *}
    dd bs=$length count=1 iflag=fullblock of=/dev/null 2>/dev/null
    read -r nonce action count
    read -r access; read -r directory; read -r test; read -r reload
    read -r name version rest
    cat >/dev/null";

const CASES: &[Case] = &[
    Case::new(
        "endless-out",
        "endless output",
        |place| place.sessions("exec yes installed everything"),
        Ends::Old("deploy.answer"),
        &["said more than any answer takes"],
    ),
    Case::new(
        "endless-err",
        "endless output on standard error",
        |place| place.sessions("exec yes installed everything >&2"),
        Ends::Old("deploy.answer"),
        &["said more than any answer takes"],
    ),
    Case::new(
        "nothing",
        "success, and nothing was done or said",
        |place| place.sessions("cat >/dev/null; exit 0"),
        Ends::Old("deploy.no-answer"),
        &["gave no answer (exit status 0, in the start): it said nothing"],
    ),
    Case::new(
        "deaf",
        "it ends without having read a byte",
        |place| place.sessions("exit 7"),
        Ends::Old("deploy.no-answer"),
        &["exit status 7"],
    ),
    Case::new(
        "garbage",
        "an answer of garbage records",
        |place| {
            place.sessions(&format!(
                "{READ_ALL}\nprintf '%s begin\\n\\033[2J\\377\\376 switched everything\\n%s end\\n' $nonce $nonce"
            ))
        },
        Ends::Old("deploy.answer"),
        &["makes no sense"],
    ),
    Case::new(
        "too-long",
        "an answer with a text of 99999999999 bytes",
        |place| {
            place.sessions(&format!(
                "{READ_ALL}\nprintf '%s begin\\nswitched %s %s - 99999999999\\n\\n%s end\\n' $nonce $name $version $nonce"
            ))
        },
        Ends::Old("deploy.answer"),
        &["makes no sense"],
    ),
    Case::new(
        "others-name",
        "an answer for another certificate",
        |place| {
            place.sessions(&format!(
                "{READ_ALL}\nprintf '%s begin\\nswitched other.social.test %s - 0\\n\\n%s end\\n' $nonce $version $nonce"
            ))
        },
        Ends::Old("deploy.answer"),
        &["makes no sense"],
    ),
    Case::new(
        "lies",
        "the answer that all is done, and nothing was done",
        |place| {
            place.sessions(&format!(
                "{READ_ALL}
                printf '%s begin\\nreload - ok - 0\\n\\nswitched %s %s 1-00000000 0\\n\\n%s end\\n' \
                    $nonce $name $version $nonce"
            ))
        },
        Ends::Old("deploy.not-put-back"),
        &["does not serve", "it answers `switched`", "still serves", "look at `lies` now"],
    ),
    Case::new(
        "hostile-text",
        "a failure told with control characters and 20 kB",
        |place| {
            place.sessions(&format!(
                "{READ_ALL}
                text=$(printf '\\033]0;owned\\007\\033[2J'; dd if=/dev/zero bs=1000 count=20 2>/dev/null | tr '\\0' x)
                printf '%s begin\\nfailed - staging - %s\\n%s\\n%s end\\n' $nonce ${{#text}} \"$text\" $nonce"
            ))
        },
        Ends::Old("deploy.staging"),
        &["owned", "make room"],
    ),
    Case::new(
        "unknown-stop",
        "a failure at a step that does not exist",
        |place| {
            place.sessions(&format!(
                "{READ_ALL}\nprintf '%s begin\\nfailed - lunch - 2\\nno\\n%s end\\n' $nonce $nonce"
            ))
        },
        Ends::Old("deploy.answer"),
        &["makes no sense"],
    ),
    Case::new(
        "endless-banner",
        "something sends endless lines where sshd should be",
        |place| listener(place, |mut stream| while stream.write_all(&[b'x'; 4096]).is_ok() {}),
        Ends::Old("ssh.not-ssh"),
        &["no SSH server answers"],
    ),
    Case::new(
        "endless-lines",
        "an SSH server that greets with endless lines before its version",
        |place| {
            listener(place, |mut stream| while stream.write_all(b"welcome to this server\r\n").is_ok() {})
        },
        Ends::Old("ssh.not-ssh"),
        &["no SSH server answers"],
    ),
    Case::new(
        "huge-packet",
        "an SSH server that announces a packet of 2 GB",
        |place| {
            listener(place, |mut stream| {
                let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\x7f\xff\xff\xff\x04");
                while stream.write_all(&[0; 4096]).is_ok() {}
            })
        },
        Ends::Old("ssh.ended"),
        &["ended the connection"],
    ),
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
