//! A connection that counts what it reads and remembers how it began.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// More than the largest handshake that rustls takes (64 KiB for each message).
const LIMIT: usize = 256 << 10;

/// Enough to recognise a protocol, and to show a first line.
const HEAD: usize = 48;

#[derive(Debug)]
pub(super) struct Watched {
    connection: TcpStream,
    received: usize,
    head: Vec<u8>,
}

impl Watched {
    pub(super) fn new(connection: TcpStream) -> Self {
        Self { connection, received: 0, head: Vec::new() }
    }

    /// The first bytes that came.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Whether more came than a handshake has.
    pub(super) fn is_flooded(&self) -> bool {
        self.received > LIMIT
    }

    /// Whether the bytes do not even begin as TLS records do (RFC 8446 section 5.1).
    pub(super) fn is_not_tls(&self) -> bool {
        match self.head.as_slice() {
            [] => false,
            [kind] => !(20..=23).contains(kind),
            [kind, major, ..] => !(20..=23).contains(kind) || *major != 3,
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_flooded() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.connection).poll_read(context, buffer))?;
        let fresh = &buffer.filled()[before..];
        self.received += fresh.len();
        let room = HEAD - self.head.len();
        self.head.extend_from_slice(&fresh[..fresh.len().min(room)]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
