//! The place where the daemon can be asked: an address or a Unix socket, with limits on who asks how long.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::pages::{Names, Pages};
use crate::config::Listen;

/// Connections at once; more wait in the queue of the system.
const CONNECTIONS: usize = 32;
/// For the whole request line and all headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// For everything: reading the answer, too, takes a place.
const WITHIN: Duration = Duration::from_secs(30);
/// The most bytes that a request may have.
const LARGEST: usize = 16 << 10;
/// The system has no more descriptors, or the like.
const PAUSE: Duration = Duration::from_millis(200);

/// A place that is listened at for as long as this lives.
pub(super) struct Listening {
    task: AbortHandle,
    /// The socket file, with device and inode.
    socket: Option<(PathBuf, (u64, u64))>,
}

/// Why a place cannot be listened at.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    #[error("cannot listen at {place}")]
    Bind { place: String, source: io::Error },
    #[error("cannot listen at unix:{}: something else than a socket is there", .0.display())]
    NotASocket(PathBuf),
    #[error("cannot listen at unix:{}: another process does", .0.display())]
    InUse(PathBuf),
}

impl Listening {
    /// Begins to listen.
    pub(super) fn begin(place: &Listen, pages: Arc<Pages>) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind { place: show(place), source };
        match place {
            Listen::Address(address) => {
                let listener = TcpListener::bind(address).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
                let names = if address.ip().is_loopback() { Names::Local } else { Names::All };
                let accept = async move || listener.accept().await.map(|(stream, _)| stream);
                Ok(Self { task: tokio::spawn(serve(accept, pages, names)).abort_handle(), socket: None })
            }
            Listen::Socket(path) => {
                let listener = bind(path)?;
                let facts = fs::symlink_metadata(path).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
                let accept = async move || listener.accept().await.map(|(stream, _)| stream);
                let task = tokio::spawn(serve(accept, pages, Names::All)).abort_handle();
                Ok(Self { task, socket: Some((path.clone(), (facts.dev(), facts.ino()))) })
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
        if let Some((path, identity)) = &self.socket
            && fs::symlink_metadata(path).is_ok_and(|facts| (facts.dev(), facts.ino()) == *identity)
        {
            // Nobody is harmed by one that stays: the next start replaces it.
            let _ = fs::remove_file(path);
        }
    }
}

/// As it stands in certs.toml.
pub(super) fn show(place: &Listen) -> String {
    match place {
        Listen::Address(address) => format!("http://{address}/"),
        Listen::Socket(path) => format!("unix:{}", path.display()),
    }
}

/// A socket of mode 0660, in place of one that a dead process left; nothing else is replaced.
fn bind(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Bind { place: show(&Listen::Socket(path.to_owned())), source };
    match fs::symlink_metadata(path) {
        Ok(facts) if !facts.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(ListenError::InUse(path.to_owned())),
        _ => {}
    }
    // Nobody can connect by the name before the mode is right, nor find it missing.
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}", std::process::id()));
    let new = PathBuf::from(new);
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new).map_err(failed)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o660))
        .and_then(|()| fs::rename(&new, path))
        .inspect_err(|_| drop(fs::remove_file(&new)))
        .map_err(failed)?;
    Ok(listener)
}

async fn serve<S>(accept: impl AsyncFn() -> io::Result<S>, pages: Arc<Pages>, names: Names)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok(stream) = accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let pages = pages.clone();
        connections.spawn(async move {
            let _place = place;
            let service = service_fn(move |request| {
                let answer = pages.clone().answer(request, names);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_WITHIN)
                .max_buf_size(LARGEST)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // Whoever is slow or speaks something else has had the time that there is.
            let _ = tokio::time::timeout(WITHIN, connection).await;
        });
    }
}
