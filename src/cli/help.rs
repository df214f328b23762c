//! `certfleet completions` and `certfleet man`: what packages install beside the program.

use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Exit, Refusal, put};

/// What certs.toml(5) is made from.
const REFERENCE: &str = include_str!("../../certs.toml");

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell they are for
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct Manual {
    /// Write all pages into this folder, one for each command and one for certs.toml
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(super) fn completions(args: &Completions) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut visible(), "certfleet", &mut text);
    put(String::from_utf8_lossy(&text).trim_end());
    Exit::Done
}

/// The program without the commands that units run: some shells would be offered those, too.
fn visible() -> clap::Command {
    let whole = Cli::command();
    let commands = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    clap::Command::new("certfleet")
        .version(env!("CARGO_PKG_VERSION"))
        .args(whole.get_arguments().cloned())
        .subcommands(commands)
}

pub(super) fn manual(args: &Manual) -> Result<Exit, Refusal> {
    let Some(folder) = &args.output else {
        let page = command_page(Cli::command()).map_err(|error| Refusal::failed(&error))?;
        put(page.trim_end());
        return Ok(Exit::Done);
    };
    write_pages(folder).map_err(|source| Refusal::failed(&NotWritten { folder: folder.clone(), source }))?;
    Ok(Exit::Done)
}

/// The manual pages cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the manual pages into `{}`", folder.display())]
struct NotWritten {
    folder: PathBuf,
    source: io::Error,
}

fn write_pages(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut program = Cli::command().disable_help_subcommand(true);
    // Names of subcommands are complete from here on: certfleet-host-pin.
    program.build();
    let mut left = vec![program];
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().filter(|below| !below.is_hide_set()).cloned());
        let name = command.get_display_name().unwrap_or("certfleet");
        fs::write(folder.join(format!("{name}.1")), command_page(command)?)?;
    }
    fs::write(folder.join("certs.toml.5"), file_page(REFERENCE))
}

/// The page of one command, as clap knows it.
fn command_page(command: clap::Command) -> io::Result<String> {
    let mut page = Vec::new();
    let name = command.get_display_name().unwrap_or("certfleet").to_owned();
    Man::new(command).render(&mut page)?;
    let page = String::from_utf8_lossy(&page);
    // Its own title would show the version as the date.
    let lines = page.lines().map(|line| match line.starts_with(".TH ") {
        true => title(&name, 1),
        false => format!("{line}\n"),
    });
    Ok(lines.collect())
}

fn title(name: &str, section: u8) -> String {
    format!(".TH {name} {section} \"\" \"certfleet {}\"\n", env!("CARGO_PKG_VERSION"))
}

/// certs.toml(5): the annotated reference, its comments as text and the rest as it is.
fn file_page(reference: &str) -> String {
    let mut page = title("certs.toml", 5);
    page.push_str(".SH NAME\ncerts.toml \\- the configuration of certfleet\n.SH DESCRIPTION\n");
    let mut in_code = false;
    // The first line is the title.
    for line in reference.lines().skip(1) {
        let comment = line.strip_prefix('#').filter(|text| text.is_empty() || text.starts_with(' '));
        // A list in a comment has its own line ends, as what may be set has.
        let (is_code, text) = match comment {
            Some(list) if list.starts_with("   ") => (true, list.trim_end()),
            Some(text) => (false, text.trim()),
            None => (!line.is_empty(), line),
        };
        if is_code != in_code {
            page.push_str(if is_code { ".RS 4\n.nf\n" } else { ".fi\n.RE\n" });
            in_code = is_code;
        }
        match text {
            "" if !page.ends_with(".PP\n") && !page.ends_with("DESCRIPTION\n") => page.push_str(".PP\n"),
            "" => {}
            text => {
                page.push_str(&escaped(text));
                page.push('\n');
            }
        }
    }
    if in_code {
        page.push_str(".fi\n.RE\n");
    }
    page.push_str(".SH SEE ALSO\ncertfleet(1)\n");
    page
}

/// No part of it is a request to roff.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::file_page;

    #[test]
    fn nothing_in_certs_toml_is_taken_for_a_request() {
        let page = file_page("# title\n# A sentence\n# .with dots\\\n#key = \"it's\" # example\n");
        assert!(page.contains("A sentence\n\\&.with dots\\e\n"), "{page}");
        assert!(page.contains(".nf\n#key = \"it\\(aqs\" # example\n.fi\n"), "{page}");
    }
}
