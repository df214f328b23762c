//! Programs in Python, with packages of our own.

use std::process::Command;

use super::{build_folder, find, once};
use crate::world::process::run;

/// A command that runs moto, which stands in for Amazon's services, with Python packages of our own.
pub(crate) fn moto() -> Result<Command, String> {
    command("moto", &["moto==5.*", "flask", "flask-cors"], include_str!("../moto.py"))
}

/// A command that runs a mail server, with Python packages of our own.
pub(crate) fn aiosmtpd() -> Result<Command, String> {
    command("aiosmtpd", &["aiosmtpd==1.4.*"], include_str!("../smtp.py"))
}

/// A command that runs a Python program with packages of our own, kept by this name.
pub(crate) fn command(name: &str, packages: &[&str], program: &str) -> Result<Command, String> {
    let python = find("python3").ok_or("no python3 here: sudo apt-get install python3 python3-pip")?;
    let folder = build_folder()?.join("world");
    let kept = folder.join(name);
    once(&folder, &kept, |work| {
        let tree = work.join("tree");
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"])
            .arg("--target")
            .arg(&tree)
            .args(packages))
        .map_err(|e| {
            format!("{name} cannot be fetched; if pip is missing: sudo apt-get install python3-pip\n{e}")
        })?;
        Ok(tree)
    })?;
    let mut command = Command::new(python);
    command.args(["-c", program]).env("PYTHONPATH", kept).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}
