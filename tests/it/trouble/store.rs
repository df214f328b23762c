//! A store that cannot be used, and secrets that others could read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::{DEPLOYED, NAME, STORED, below, edit};
use crate::tool::{Ran, certfleet, command, finish};
use crate::world::World;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The command, with the store on a file system that it cannot write to.
fn with_read_only_store(world: &World, config: &Path) -> Ran {
    let store = world.store();
    if !rustix::process::geteuid().is_root() {
        mode(&store, 0o500);
        let ran = certfleet(config, &["renew"]);
        mode(&store, 0o700);
        return ran;
    }
    // Modes do not stop root; a read-only mount does.
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(store);
    let renew = command(config, &["renew"]);
    unshare.arg(renew.get_program()).args(renew.get_args());
    unshare.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(unshare.spawn().unwrap())
}

#[test]
fn a_store_that_cannot_be_used_is_refused_before_anything_is_asked_of_anybody() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();
    let store = world.store();
    let shown = store.display().to_string();

    fs::write(&store, "not a folder").unwrap();
    certfleet(&config, &["renew"])
        .ended(1)
        .said(&format!("the store {shown} is not a folder"))
        .said("hint: set `[store] path` to a folder of its own; it may be new");
    assert_eq!(fs::read_to_string(&store).unwrap(), "not a folder");
    fs::remove_file(&store).unwrap();

    fs::create_dir(&store).unwrap();
    mode(&store, 0o777);
    certfleet(&config, &["renew"])
        .ended(1)
        .said(&format!("the store {shown} can be written by others (mode 0777)"))
        .said(&format!("hint: run `chmod go-w {shown}`"));
    assert_eq!(fs::read_dir(&store).unwrap().count(), 0);
    mode(&store, 0o700);

    fs::write(store.join("holiday.jpg"), "").unwrap();
    certfleet(&config, &["renew"]).ended(1).said("is no store and not empty: it has `holiday.jpg`");
    fs::remove_file(store.join("holiday.jpg")).unwrap();

    someone_elses(&config, &store);

    let ran = with_read_only_store(&world, &config).ended(1).said(&shown).said("hint: ");
    assert!(
        ran.err.contains("Read-only file system") || ran.err.contains("Permission denied"),
        "{}",
        ran.err
    );
    assert_eq!(world.pebble.service.log().matches("/order-plz").count(), 0, "the CA was asked");

    certfleet(&config, &["renew"]).ended(0);
    fs::write(store.join("format"), "certfleet-store 2\n").unwrap();
    for command in [&["renew", "--force"][..], &["plan"], &["report"], &["deploy"]] {
        certfleet(&config, command)
            .ended(1)
            .said("was written by a newer certfleet (format 2)")
            .said("hint: upgrade certfleet, or restore the store from a backup");
    }
    assert_eq!(world.pebble.orders(), 1);
}

#[test]
fn a_damaged_state_is_refused_and_the_other_certificates_go_on() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world
        .config(&format!("{DEPLOYED}[[certificate]]\ndomains = [\"other.social.test\"]\nhosts = []\n"))
        .unwrap();
    certfleet(&config, &["renew", NAME, "--no-deploy"]).ended(0);
    let state = world.store().join("certificates").join(NAME).join("state.json");
    let whole = fs::read(&state).unwrap();
    let half = &whole[..whole.len() / 2];
    fs::write(&state, half).unwrap();

    for arguments in [&["renew"][..], &["renew", "--force", NAME], &["deploy"], &["run", "--once"]] {
        certfleet(&config, arguments)
            .ended(1)
            .said(&format!("{} is damaged: its end is missing", state.display()))
            .said(&format!("hint: restore {} from a backup", state.display()))
            .printed("media.social.test: FAILED");
    }
    certfleet(&config, &["report"]).ended(3).said("is damaged: its end is missing");

    assert!(
        world.store().join("certificates/other.social.test/versions/1").exists(),
        "the other was held up"
    );
    assert_eq!(world.pebble.orders(), 2, "an order was made for what cannot be read");
    assert_eq!(fs::read(&state).unwrap(), half, "the damaged file was changed");
    assert!(world.host("sally").served(NAME).unwrap().expired());

    fs::write(&state, &whole).unwrap();
    certfleet(&config, &["run", "--once"]).ended(0);
    assert!(!world.host("sally").served(NAME).unwrap().expired());
    assert_eq!(world.pebble.orders(), 2);
}

#[test]
fn a_secret_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();
    let secret = &world.ns.secret_file;
    mode(secret, 0o644);

    certfleet(&config, &["renew"])
        .ended(1)
        .said(&format!("the secret file `{}` is not safe: others may use it (mode 0644)", secret.display()))
        .said(&format!("hint: run `chmod 600 {}`", secret.display()));

    assert!(!world.ns.primary_service.log().contains("updating zone"), "the secret was used");
    mode(secret, 0o600);
    certfleet(&config, &["renew", "--force"]).ended(0);
    assert_eq!(world.pebble.orders(), 1);
}

#[test]
fn an_ssh_key_that_others_can_read_is_refused_before_the_host_is_asked() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(DEPLOYED).unwrap();
    let identity = world.host("sally").identity.clone();
    mode(&identity, 0o644);

    certfleet(&config, &["renew"]).ended(1).said(&identity.display().to_string()).said("chmod 600");

    assert_eq!(world.host("sally").connections(), 0);
    mode(&identity, 0o600);
    certfleet(&config, &["deploy"]).ended(0);
}

/// The lines of a PEM text between its borders: what no log may hold.
fn body(pem: &str) -> Vec<String> {
    pem.lines().filter(|line| line.len() > 32 && !line.starts_with("-----")).map(str::to_owned).collect()
}

/// Base64 in all its forms, of the same bytes.
fn forms(base64: &str) -> Vec<String> {
    let standard = base64.replace('-', "+").replace('_', "/");
    let bytes =
        STANDARD.decode(standard.trim()).or_else(|_| URL_SAFE_NO_PAD.decode(base64)).unwrap_or_default();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{bytes:?}");
    [base64.trim().to_owned(), hex, list].into_iter().filter(|form| form.len() > 20).collect()
}

#[test]
fn secrets_are_in_no_output_and_in_no_file_that_is_not_theirs() {
    let world = World::builder().hosts(&["sally"]).site(&[NAME]).start().unwrap();
    let config = world.config(DEPLOYED).unwrap();
    let mut said = String::new();
    for arguments in [
        &["renew"][..],
        &["renew", "--force"],
        &["deploy", "--force"],
        &["plan", "--json"],
        &["report", "--live", "--json"],
        &["report"],
    ] {
        let mut command = command(&config, arguments);
        command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
        let ran = finish(command.spawn().unwrap()).ended(0);
        said = said + &ran.out + &ran.err;
    }
    assert!(said.contains("TRACE"), "nothing was traced, so this proves nothing");

    let store = world.store();
    let tsig = fs::read_to_string(&world.ns.secret_file).unwrap();
    let mut keys: Vec<(PathBuf, Vec<String>)> = Vec::new();
    for (path, bytes) in below(&store) {
        if path.file_name().is_some_and(|name| name == "privkey.pem") {
            keys.push((path, body(&String::from_utf8(bytes).unwrap())));
        }
    }
    assert_eq!(keys.len(), 2, "{keys:?}");
    let accounts = below(&store.join("accounts"));
    let account: String =
        accounts.values().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    // The longest words of the credentials are the account's key.
    let words: Vec<String> = account
        .split(|c: char| !(c.is_ascii_alphanumeric() || "+/-_=".contains(c)))
        .filter(|word| word.len() > 80 && !word.contains("//"))
        .map(str::to_owned)
        .collect();
    assert!(!words.is_empty(), "no key in the accounts");
    let ssh = body(&fs::read_to_string(&world.host("sally").identity).unwrap());

    let mut secrets: Vec<(&str, Option<PathBuf>, String)> = Vec::new();
    secrets.extend(forms(&tsig).into_iter().map(|form| ("the TSIG secret", None, form)));
    for (path, lines) in &keys {
        let place = Some(path.clone());
        let forms = lines.iter().flat_map(|line| forms(line));
        secrets.extend(forms.map(|form| ("a private key", place.clone(), form)));
    }
    let accounts = Some(store.join("accounts"));
    let of_account = words.iter().flat_map(|word| forms(word));
    secrets.extend(of_account.map(|form| ("the account's key", accounts.clone(), form)));
    secrets.extend(ssh.iter().flat_map(|line| forms(line)).map(|form| ("the SSH key", None, form)));

    let files = below(&store);
    for (what, place, secret) in &secrets {
        assert!(!said.contains(secret), "{what} is in the output: {secret}");
        for (path, bytes) in &files {
            let theirs = place.as_ref().is_some_and(|place| path.starts_with(place));
            let found = String::from_utf8_lossy(bytes).contains(secret);
            assert!(theirs || !found, "{what} is in {}", path.display());
        }
    }
    // On the host a key is in its version's folder, and nowhere else.
    let host = world.host("sally");
    for (path, bytes) in below(&host.root) {
        let text = String::from_utf8_lossy(&bytes);
        let leaked = keys.iter().flat_map(|(_, lines)| lines).any(|line| text.contains(line));
        assert!(!leaked || path.ends_with("privkey.pem"), "a private key is in {}", path.display());
    }
}

/// A store of another user: root goes on as that user, who has no business with this certs.toml; others are
/// told as whom to run it. Nobody writes into it.
fn someone_elses(config: &Path, store: &Path) {
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(store, Some(12345), None).unwrap();
        certfleet(config, &["renew"])
            .ended(2)
            .said(&format!("note: the store {} belongs to `12345`: going on as that user", store.display()))
            .said("Permission denied");
        assert_eq!(fs::read_dir(store).unwrap().count(), 0);
        std::os::unix::fs::chown(store, Some(0), None).unwrap();
        return;
    }
    // Others cannot give folders away, but they know one that is not theirs.
    edit(config, &format!("path = {store:?}"), "path = \"/usr\"");
    certfleet(config, &["renew"])
        .ended(1)
        .said("the store /usr belongs to user 0, and this is user")
        .said("hint: run this as that user with `sudo -u '#0' certfleet …`");
    edit(config, "path = \"/usr\"", &format!("path = {store:?}"));
}
