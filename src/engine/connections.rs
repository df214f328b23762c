//! The connections to hosts: one to each, whoever needs it, and one through each jump host.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures::future::{BoxFuture, join_all};
use tokio::time::Instant;

use super::lock;
use crate::config::Config;
use crate::deploy::{ConnectError, Login, Session};
use crate::model::desired::Host;
use crate::model::name::HostName;

/// The connections that are open.
#[derive(Default)]
pub(super) struct Connections(Mutex<HashMap<HostName, Arc<tokio::sync::Mutex<Connection>>>>);

/// The connection to one host.
#[derive(Default)]
struct Connection {
    session: Option<Arc<Session>>,
    /// When an attempt ended, and why it failed: all who waited for it have failed with it, lest each of forty
    /// hosts behind one that is dead waits for a time-out of its own.
    failed: Option<(Instant, Arc<ConnectError>)>,
}

impl Connections {
    /// The connection to a host, opened if there is none; `own` is the key that certfleet makes for itself.
    pub(super) fn session<'a>(
        &'a self,
        config: &'a Config,
        own: &'a Path,
        host: &'a Host,
    ) -> BoxFuture<'a, Result<Arc<Session>, Arc<ConnectError>>> {
        Box::pin(async move {
            let asked = Instant::now();
            let connection = Arc::clone(lock(&self.0).entry(host.name.clone()).or_default());
            let mut connection = connection.lock().await;
            if let Some(session) = connection.session.as_ref().filter(|session| !session.is_closed()) {
                return Ok(Arc::clone(session));
            }
            if let Some((_, error)) = connection.failed.as_ref().filter(|(ended, _)| *ended >= asked) {
                return Err(Arc::clone(error));
            }
            let opened = self.open(config, own, host).await.map(Arc::new).map_err(Arc::new);
            match &opened {
                Ok(session) => *connection = Connection { session: Some(Arc::clone(session)), failed: None },
                Err(error) => {
                    *connection =
                        Connection { session: None, failed: Some((Instant::now(), Arc::clone(error))) };
                }
            }
            opened
        })
    }

    async fn open(&self, config: &Config, own: &Path, host: &Host) -> Result<Session, ConnectError> {
        let login = Login {
            identity: keys_for(host, own),
            passphrase: config.passphrases.get(&host.name).cloned(),
            via: self.way_to(config, own, host).await?,
        };
        Session::open(host, login).await
    }

    /// The connection to the host that this one is reached through, if there is one.
    pub(super) async fn way_to(
        &self,
        config: &Config,
        own: &Path,
        host: &Host,
    ) -> Result<Option<Arc<Session>>, ConnectError> {
        let Some(via) = host.via.as_ref().and_then(|via| config.desired.hosts.get(via)) else {
            return Ok(None);
        };
        self.session(config, own, via).await.map(Some).map_err(|source| ConnectError::Via {
            host: host.name.to_string(),
            via: via.name.to_string(),
            source,
        })
    }

    /// Ends all that nobody uses any more.
    pub(super) async fn close(&self) {
        let connections: Vec<_> = std::mem::take(&mut *lock(&self.0)).into_values().collect();
        let sessions = connections.into_iter().filter_map(Arc::into_inner).filter_map(|connection| {
            let session = connection.into_inner().session?;
            Arc::into_inner(session)
        });
        join_all(sessions.map(Session::close)).await;
    }
}

/// The files of the keys for a host.
pub(super) fn keys_for(host: &Host, own: &Path) -> Vec<PathBuf> {
    match host.identity.is_empty() {
        true => vec![own.to_owned()],
        false => host.identity.clone(),
    }
}
