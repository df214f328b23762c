//! `certfleet renew` and `certfleet deploy`

use std::collections::BTreeSet;

use clap::Args;
use jiff::Timestamp;

use super::{Exit, Output, Refusal, Selection, select, unknown};
use crate::config::Config;
use crate::model::name::HostName;
use crate::model::plan::{Deploying, Issuing, Request};

#[derive(Debug, Args)]
pub(super) struct Renew {
    #[command(flatten)]
    pub(super) selection: Selection,
    /// Issue now, due or not
    #[arg(long)]
    force: bool,
    /// Issue even beyond the number of equal certificates that the CA is known to allow
    #[arg(long, requires = "force")]
    override_limits: bool,
    /// Replace a certificate that visitors trust by one that they would not
    #[arg(long)]
    allow_downgrade: bool,
    /// Only issue
    #[arg(long)]
    pub(super) no_deploy: bool,
    /// Try all named, due or not, and change nothing: at Let's Encrypt's staging the whole order, elsewhere up
    /// to valid authorizations; then connect to each host and run its config test
    #[arg(long, conflicts_with_all = ["force", "allow_downgrade"])]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct Deploy {
    #[command(flatten)]
    pub(super) selection: Selection,
    /// Only to this host; may be given more than once
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Everywhere, also where another valid certificate is served
    #[arg(long)]
    force: bool,
    /// Replace a certificate that visitors trust by one that they would not
    #[arg(long)]
    allow_downgrade: bool,
}

impl Output {
    pub(super) async fn renew(&self, config: Config, args: &Renew) -> Result<Exit, Refusal> {
        if args.dry_run {
            return self.dry_run(config, args).await;
        }
        let request = Request {
            only: select(&config, &args.selection)?,
            issuing: if args.force { Issuing::Forced(Timestamp::now()) } else { Issuing::Due },
            deploying: if args.no_deploy { Deploying::No } else { Deploying::Lacking },
            allow_downgrade: args.allow_downgrade,
            override_limits: args.override_limits,
            ..Request::default()
        };
        self.pass(config, request).await
    }

    pub(super) async fn deploy(&self, config: Config, args: &Deploy) -> Result<Exit, Refusal> {
        let mut hosts = BTreeSet::new();
        for name in &args.hosts {
            let host = config.desired.hosts.keys().find(|host| host.as_str() == name);
            hosts.insert(
                host.cloned().ok_or_else(|| {
                    unknown("host", name, config.desired.hosts.keys().map(HostName::as_str))
                })?,
            );
        }
        let request = Request {
            only: select(&config, &args.selection)?,
            hosts: (!hosts.is_empty()).then_some(hosts),
            issuing: Issuing::No,
            deploying: if args.force { Deploying::Forced(Timestamp::now()) } else { Deploying::Lacking },
            allow_downgrade: args.allow_downgrade,
            ..Request::default()
        };
        self.pass(config, request).await
    }
}
