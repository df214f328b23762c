//! The command line: arguments in, exit code out. Data goes to standard output, all else to error.

mod account;
mod alert;
mod channels;
mod check;
mod daemon;
mod dry_run;
mod help;
mod history;
mod host;
mod import;
mod kinds;
mod log;
mod owner;
mod pass;
mod providers;
mod receive;
mod renew;
mod report;
mod revoke;
mod scan;
mod select;
mod unit_failed;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::{SignedDuration, Timestamp};

use select::{select, unknown};

use crate::config::{self, Config, LoadError};
use crate::engine::{Listener, Observer};
use crate::model::history::How;
use crate::model::plan::{Action, Request, Waiting, plan};
use crate::model::problem::Problem;
use crate::render::{self, Log, Progress, Verdict};
use crate::store::{Loaded, Store};

/// How a command ended; the numbers are an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, nothing wrong; also when nothing was due. Status 0.
    Done,
    /// Something failed, or failed before and waits for its next attempt; the rest went on. Status 1.
    Failed,
    /// Usage or configuration. Status 2.
    Usage,
    /// A person is needed; from `plan` and `report` also: something is due or wrong. Status 3.
    Attention,
    /// Gave up waiting for a lock. Status 4.
    Locked,
    /// What a monitoring system makes of the report: `report --check` alone ends with its codes.
    Verdict(Verdict),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Attention => 3,
            Exit::Locked => 4,
            Exit::Verdict(verdict) => verdict.code(),
        })
    }
}

/// Keeps TLS certificates renewed, installed on every host that serves them, and proven there.
#[derive(Debug, Parser)]
#[command(name = "certfleet", version, after_help = EXIT_CODES)]
struct Cli {
    /// The configuration [default: $CERTFLEET_CONFIG, ./certs.toml, /etc/certfleet/certs.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long to wait for a certificate that another process is renewing
    #[arg(long, global = true, value_name = "TIME", default_value = "60s", value_parser = wait)]
    wait: Duration,
    /// Print data as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, also when nothing was due; 1 something failed, or failed before and waits \
for its next attempt, the rest went on; 2 usage or configuration; 3 a person is needed (from plan and report also: something is due, failing, stale, foreign or blocked); \
4 gave up waiting for a lock.";

#[derive(Debug, Subcommand)]
enum Command {
    /// The daemon: pass after pass, issue what is due, deploy what hosts lack
    ///
    /// Stays in the foreground. SIGHUP loads certs.toml again and makes a pass; SIGTERM ends it in order, a second
    /// one at once. A second daemon on the same store ends with 4.
    Run {
        /// End after one pass (for a systemd timer or cron)
        #[arg(long)]
        once: bool,
    },
    /// What a pass would do, and why, and why not; changes nothing
    Plan(Selection),
    /// Issue what is due and deploy what hosts lack, for the named certificates or all
    Renew(renew::Renew),
    /// Push what the store has; no CA involved
    Deploy(renew::Deploy),
    /// Have the CA revoke a certificate; the next pass replaces it
    Revoke(revoke::Arguments),
    /// Our accounts at the issuers
    #[command(subcommand)]
    Account(account::Account),
    /// Making a host ready: its key, and ours there
    #[command(subcommand)]
    Host(host::HostCommand),
    /// The expiry report: every certificate, where it stands, what each host serves
    Report(report::ReportArgs),
    /// The DNS providers; with NAME a table for certs.toml, and the rights that it needs
    Providers(kinds::KindArgs),
    /// The alert channels; with NAME a table for certs.toml, and what it needs
    Channels(kinds::KindArgs),
    /// The preflight: is everything there that renewing and deploying need? Safe to run any time
    ///
    /// Reads every secret, asks the CAs for their directory and the time, writes a scratch TXT record for each
    /// name of each certificate and removes it, looks at CAA records, logs in to every host, runs its config test (nothing is
    /// loaded), and looks at what it serves. Makes no store where there is none. Ends with 1 if anything fails.
    Check,
    /// Take over certbot's certificates, so that nothing is issued anew before its time
    ///
    /// Shows every lineage, stores key and chain of those that certs.toml has a certificate of the same name for,
    /// and prints entries for the others. Changes nothing of certbot's, here or on a host.
    Import(import::ImportArgs),
    /// What certificates exist on the hosts, whoever put them there; changes nothing
    ///
    /// Reads `nginx -T` and the folders of certificates on each host. Of private keys no more than a hash of their
    /// public half leaves a host.
    Scan(scan::ScanArgs),
    /// Alerts: trying the channels, what is wrong now, taking it on
    #[command(subcommand)]
    Alert(alert::AlertCommand),
    /// The audit log: who did what, when, and what came of it
    History(history::HistoryArgs),
    /// One transaction for this machine, asked for on standard input; certfleet-local.socket starts it, as root
    #[command(hide = true)]
    LocalReceive,
    /// Tell people that a unit has failed; certfleet-alert@.service runs it
    #[command(hide = true)]
    UnitFailed {
        /// The whole name of the unit
        unit: String,
    },
    /// Completions for a shell, to be put where it looks for them
    Completions(help::Completions),
    /// The manual page; with --output all of them, for packages
    Man(help::Manual),
}

impl Command {
    /// Whether it is for the user whose store it is, also when root starts it.
    fn is_of_the_store(&self) -> bool {
        use Command::{Channels, Completions, LocalReceive, Man, Providers};
        !matches!(self, Providers(_) | Channels(_) | Completions(_) | Man(_) | LocalReceive)
    }
}

#[derive(Debug, Args)]
struct Selection {
    /// Certificates by name, or domains: every certificate that has it, else those whose wildcard covers it
    #[arg(value_name = "NAME|DOMAIN")]
    names: Vec<String>,
}

/// A command that could not begin: said on standard error, ends with its exit code.
struct Refusal {
    text: String,
    exit: Exit,
}

impl Refusal {
    fn usage(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), exit: Exit::Usage }
    }

    /// A certs.toml that cannot be used; each of its mistakes brings its own line and remedy.
    fn config(error: &LoadError) -> Self {
        match error {
            LoadError::Mistakes(mistakes) => Self::usage(mistakes),
            error => Self::usage(render::problem(&Problem::of(error), None)),
        }
    }

    fn failed(error: &dyn std::error::Error) -> Self {
        Self { text: render::error_chain(error), exit: Exit::Failed }
    }
}

/// Runs the command given by the process's arguments.
pub fn main() -> ExitCode {
    main_from(std::env::args_os())
}

/// Runs the command given by these arguments, the first of which is the name of the program.
pub fn main_from(args: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return report::misused(&error, &args),
    };
    let service = matches!(cli.command, Command::Run { .. });
    let journal = log::begin(service);
    let check = matches!(&cli.command, Command::Report(args) if args.check);
    let refused = |refusal: Refusal| {
        complain(&refusal.text);
        if check { report::unknown_verdict(&refusal.text) } else { refusal.exit }
    };
    if cli.command.is_of_the_store()
        && let Err(refusal) = owner::go_on_as_owner(cli.config.as_deref())
    {
        return refused(refusal).into();
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if service {
        // It waits, most of the time; each thread more is memory that stays.
        runtime.worker_threads(2);
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refused(Refusal::failed(&error)).into(),
    };
    let exit = runtime.block_on(run(cli, journal)).unwrap_or_else(refused);
    // A resolver thread of the system may still be waiting for a dead server: nobody waits for it.
    runtime.shutdown_background();
    match exit {
        Exit::Verdict(_) => exit,
        // What was asked for is nowhere.
        _ if UNWRITTEN.load(Ordering::Relaxed) => Exit::Failed,
        exit => exit,
    }
    .into()
}

async fn run(cli: Cli, journal: bool) -> Result<Exit, Refusal> {
    match &cli.command {
        Command::Providers(args) => return providers::ALL.run(args, cli.json),
        Command::Channels(args) => return channels::ALL.run(args, cli.json),
        Command::Completions(args) => return Ok(help::completions(args)),
        Command::Man(args) => return help::manual(args),
        Command::UnitFailed { unit } => return Ok(unit_failed::run(unit, cli.config.as_deref()).await),
        _ => {}
    }
    let path = match (config::find(cli.config.as_deref()), &cli.command) {
        (Err(LoadError::NotFound { .. }), Command::Import(args)) => {
            return Output { json: cli.json, wait: cli.wait, journal }.import(None, args).await;
        }
        (path, _) => path.map_err(|error| Refusal::config(&error))?,
    };
    if matches!(cli.command, Command::LocalReceive) {
        return Ok(receive::run(&path));
    }
    let config = config::load(&path).map_err(|error| Refusal::config(&error))?;
    for warning in &config.warnings {
        complain(&warning.to_string());
    }
    let output = Output { json: cli.json, wait: cli.wait, journal };
    match cli.command {
        Command::Run { once: false } => output.daemon(path, config).await,
        Command::Run { once: true } => output.pass_by(How::Timer, config, Request::default()).await,
        Command::Plan(selection) => output.plan(config, &selection).await,
        Command::Renew(args) => output.renew(config, &args).await,
        Command::Deploy(args) => output.deploy(config, &args).await,
        Command::Revoke(args) => output.revoke(config, &args).await,
        Command::Account(what) => output.account(config, &what).await,
        Command::Host(what) => output.host(config, &what).await,
        Command::Report(args) => output.report(config, &args).await,
        // Answered above: these have no use for what is in the configuration.
        Command::LocalReceive => Ok(receive::run(&path)),
        Command::UnitFailed { unit } => Ok(unit_failed::run(&unit, Some(&path)).await),
        Command::Providers(args) => providers::ALL.run(&args, output.json),
        Command::Channels(args) => channels::ALL.run(&args, output.json),
        Command::Completions(args) => Ok(help::completions(&args)),
        Command::Man(args) => help::manual(&args),
        Command::Check => Ok(output.check(config).await),
        Command::Import(args) => output.import(Some(&config), &args).await,
        Command::Scan(args) => output.scan(&config, &args).await,
        Command::Alert(what) => output.alert(&config, &what).await,
        Command::History(args) => output.history(&config, &args),
    }
}

struct Output {
    json: bool,
    wait: Duration,
    /// Whether events go to the journal.
    journal: bool,
}

impl Output {
    async fn plan(&self, config: Config, selection: &Selection) -> Result<Exit, Refusal> {
        let request = Request { only: select(&config, selection)?, ..Request::default() };
        let (store, loaded) = read_store(&config)?;
        let config = Arc::new(config);
        let observer = Observer::new(config.clone()).map_err(|error| Refusal::failed(&error))?;
        let observed = observer.observe(store.as_ref(), &loaded.state, &request).await;
        let now = Timestamp::now();
        let plan = plan(&config.desired, &loaded.state, &observed, &request, now);
        self.print(&render::plan_text(&plan), &render::plan_json(&plan, now));
        let wrong = |waiting: &Waiting| waiting.needs_person() || matches!(waiting, Waiting::Backoff(..));
        let needs = plan.waiting.iter().any(wrong) || plan.actions.iter().any(is_work);
        Ok(if needs || !loaded.unreadable.is_empty() { Exit::Attention } else { Exit::Done })
    }

    /// A person wants to see it all, also what a service would not write down.
    fn listener(&self) -> Arc<dyn Listener> {
        if self.journal { Arc::new(Log::Journal) } else { Arc::new(Progress::new()) }
    }

    fn print(&self, text: &str, json: &serde_json::Value) {
        if self.json { put(&format!("{json:#}")) } else { put(text.trim_end()) }
    }
}

impl Refusal {
    fn problem(problem: &Problem) -> Self {
        Self { text: render::problem(problem, None), exit: Exit::Failed }
    }
}

/// The store as it is, without making one; what cannot be read of it is said.
fn read_store(config: &Config) -> Result<(Option<Store>, Loaded), Refusal> {
    let store =
        Store::open_existing(&config.store).map_err(|error| Refusal::problem(&Problem::of(&error)))?;
    let loaded = match &store {
        Some(store) => {
            store.load(Timestamp::now()).map_err(|error| Refusal::problem(&Problem::of(&error)))?
        }
        None => Loaded::default(),
    };
    let problems =
        loaded.unreadable.values().chain(loaded.unreadable_hosts.values()).chain(&loaded.unreadable_debts);
    for problem in problems.chain(&loaded.warnings) {
        complain(&render::problem(problem, None));
    }
    Ok((store, loaded))
}

fn is_work(action: &Action) -> bool {
    !matches!(action, Action::CleanUp { .. } | Action::Look { .. })
}

/// Resolves when the process is told to end.
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    // Hanging up, too: a connection to this machine that breaks is no reason to leave records in DNS.
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        _ = hup.recv() => {}
    }
}

fn wait(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let time: SignedDuration = text.parse().map_err(|_| "a time is written as 60s, 5m or 1h".to_owned())?;
    time.try_into().map_err(|_| "a time cannot be negative".to_owned())
}

/// Whether data is lost that was to be on standard output.
static UNWRITTEN: AtomicBool = AtomicBool::new(false);

/// Data, on standard output. A reader that has gone away wants no more of it.
fn put(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        UNWRITTEN.store(true, Ordering::Relaxed);
        complain(&format!("error: standard output cannot be written\n  cause: {error}"));
    }
}

/// All else, on standard error.
fn complain(text: &str) {
    let mut error = io::stderr().lock();
    let _ = writeln!(error, "{text}");
}
