//! `certfleet report`: where everything stands, for people, programs and monitoring.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::{Exit, Output, Refusal, complain, put, read_store, unknown};
use crate::config::Config;
use crate::engine::Observer;
use crate::model::alert::Memory;
use crate::model::name::ChannelName;
use crate::model::plan::Request;
use crate::model::problem::{Blame, Diagnose, Problem};
use crate::model::report::{Report, report};
use crate::notify::Message;
use crate::render::{self, Verdict};
use crate::store::Store;

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// How to print it [default: table]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Look at the hosts now, in place of what the last pass saw
    #[arg(long)]
    live: bool,
    /// Print one line for Nagios and its kin, and end with their codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN
    ///
    /// Critical from a sixth of the life of what is served, a warning from a quarter, when something is wrong that
    /// leaves more time, and when neither daemon nor timer makes passes any more.
    #[arg(long)]
    pub(super) check: bool,
    /// Write it to this file, as a whole and readable by all (0644), in place of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Send it through this channel of certs.toml, `[alert.CHANNEL]`, as text, page or JSON, whichever it can use
    #[arg(long, value_name = "CHANNEL", conflicts_with = "format")]
    to: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people: certificates by hosts
    Table,
    /// For programs
    Json,
    /// For spreadsheets: a row for each certificate, host and address
    Csv,
    /// One page, without script, for a browser or to be mailed
    Html,
    /// For a wiki or an issue
    Markdown,
    /// Metrics in Prometheus' text format, for node_exporter's textfile collector
    Prometheus,
}

/// How wide a table is where there is no terminal to ask.
const WIDTH: usize = 80;

impl Output {
    pub(super) async fn report(&self, config: Config, args: &ReportArgs) -> Result<Exit, Refusal> {
        if args.check && args.output.is_none() && (self.json || args.format.is_some()) {
            return Err(Refusal::usage(
                "error: `--check` prints one line; another form of it needs `--output`",
            ));
        }
        let (store, loaded) = read_store(&config)?;
        let config = Arc::new(config);
        let observed = if args.live {
            let observer = Observer::new(config.clone()).map_err(|error| Refusal::failed(&error))?;
            observer.observe(store.as_ref(), &loaded.state, &Request::default()).await
        } else {
            store.as_ref().map(Store::observed).unwrap_or_default()
        };
        let report = report(&config.desired, &loaded.state, &observed, Timestamp::now());
        let report = match store.as_ref().map_or_else(|| Ok(Memory::default()), Store::alerts) {
            Ok(memory) => report.with_alerts(&memory),
            Err(error) => {
                complain(&render::problem(&Problem::of(&error), Some("the report is made without alerts")));
                report
            }
        };
        let format = if self.json { Format::Json } else { args.format.unwrap_or(Format::Table) };
        if let Some(name) = &args.to {
            send(&config, name, &report).await?;
        }
        match &args.output {
            Some(path) => {
                let text = rendered(&report, format, WIDTH, false)?;
                write_whole(path, &text).map_err(|error| Refusal::problem(&Problem::of(&error)))?;
            }
            None if args.check || args.to.is_some() => {}
            None => {
                let terminal = io::stdout().is_terminal();
                put(rendered(&report, format, width(), terminal && may_color())?.trim_end());
            }
        }
        if args.check {
            let (verdict, line) = render::report_check(&report);
            put(&line);
            return Ok(Exit::Verdict(verdict));
        }
        let needs = report.needs_attention() || !loaded.unreadable.is_empty();
        Ok(if needs { Exit::Attention } else { Exit::Done })
    }
}

/// Sends the report through a channel, in one attempt.
async fn send(config: &Config, name: &str, report: &Report) -> Result<(), Refusal> {
    let Some((_, channel)) = config.channels.iter().find(|(known, _)| known.as_str() == name) else {
        return Err(unknown("channel", name, config.channels.keys().map(ChannelName::as_str)));
    };
    let message = Message::Document {
        title: render::report_title(report),
        text: render::report_table(report, WIDTH, false),
        html: Some(render::report_html(report)),
        json: Some(serde_json::to_value(report).map_err(|error| Refusal::failed(&error))?),
    };
    channel.send(&message).await.map_err(|error| Refusal::problem(&Problem::of(&error)))?;
    complain(&format!("the report is sent to `{name}`"));
    Ok(())
}

fn rendered(report: &Report, format: Format, width: usize, color: bool) -> Result<String, Refusal> {
    Ok(match format {
        Format::Table => render::report_table(report, width, color),
        Format::Json => {
            let json = render::report_json(report).map_err(|error| Refusal::failed(&error))?;
            format!("{json}\n")
        }
        Format::Csv => render::report_csv(report),
        Format::Html => render::report_html(report),
        Format::Markdown => render::report_markdown(report),
        Format::Prometheus => render::report_prometheus(report),
    })
}

fn width() -> usize {
    let of_terminal = comfy_table::Table::new().width().map(usize::from);
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    of_terminal.or_else(told).filter(|width| *width > 0).unwrap_or(WIDTH)
}

/// See no-color.org.
fn may_color() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}

/// The report could not be written to the file that was asked for.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("cannot write the report to {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("{} is not a regular file; the report would replace it", .0.display())]
    NotAFile(PathBuf),
}

impl Diagnose for WriteError {
    fn code(&self) -> &'static str {
        "report.output"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File(path, error) if error.kind() == ErrorKind::PermissionDenied => Some(format!(
                "certfleet writes as the owner of its store: let that user write in {}",
                path.parent().unwrap_or(path).display()
            )),
            _ => None,
        }
    }
}

/// Replaces a file as a whole, so that no reader ever sees a part of it. Where it is a link, what that leads to.
fn write_whole(path: &Path, text: &str) -> Result<(), WriteError> {
    let failed = |error| WriteError::File(path.to_owned(), error);
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == ErrorKind::NotFound => std::path::absolute(path).map_err(failed)?,
        Err(error) => return Err(failed(error)),
    };
    if fs::metadata(&target).is_ok_and(|facts| !facts.is_file()) {
        return Err(WriteError::NotAFile(path.to_owned()));
    }
    let folder = target.parent().unwrap_or(&target);
    // Its name ends with no ending that a reader of the folder looks for.
    let mut file =
        tempfile::Builder::new().prefix(".certfleet-").suffix(".new").tempfile_in(folder).map_err(failed)?;
    file.as_file_mut().write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().set_permissions(Permissions::from_mode(0o644)).map_err(failed)?;
    file.as_file().sync_data().map_err(failed)?;
    file.persist(&target).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Says that nothing is known, and why, to a monitoring system.
pub(super) fn unknown_verdict(why: &str) -> Exit {
    let why = why.lines().next().unwrap_or_default().trim_start_matches("error: ").replace('|', "/");
    put(&format!("CERTFLEET {}: {why}", Verdict::Unknown.as_str()));
    Exit::Verdict(Verdict::Unknown)
}

/// Arguments that clap refuses; its own exit code would mean CRITICAL to a monitoring system.
pub(super) fn misused(error: &clap::Error, args: &[OsString]) -> ExitCode {
    let is_check = args.iter().any(|arg| arg == "report") && args.iter().any(|arg| arg == "--check");
    // A reader that has gone away wants no more of it.
    let _ = error.print();
    if error.use_stderr() && is_check {
        return unknown_verdict(&error.to_string()).into();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
