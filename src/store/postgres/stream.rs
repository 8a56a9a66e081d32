//! A socket of ours as tokio-postgres reads and writes one. Nothing else of tokio is used: no runtime, no thread.

use smol::io::{AsyncRead as _, AsyncWrite as _};
use smol::net::TcpStream;
use smol::net::unix::UnixStream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection to the database.
pub(super) enum DatabaseStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsyncRead for DatabaseStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.initialize_unfilled();
        let read = match self.get_mut() {
            DatabaseStream::Tcp(stream) => Pin::new(stream).poll_read(context, room),
            DatabaseStream::Unix(stream) => Pin::new(stream).poll_read(context, room),
        };
        let length = ready!(read)?;
        buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for DatabaseStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            DatabaseStream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            DatabaseStream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            DatabaseStream::Tcp(stream) => Pin::new(stream).poll_flush(context),
            DatabaseStream::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            DatabaseStream::Tcp(stream) => Pin::new(stream).poll_close(context),
            DatabaseStream::Unix(stream) => Pin::new(stream).poll_close(context),
        }
    }
}
