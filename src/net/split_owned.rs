//! Halves that own their stream together, and may go to different tasks.

use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BufMut;

use super::TcpStream;

/// The half of a [`TcpStream`] that reads; from [`TcpStream::into_split`].
#[derive(Debug)]
pub struct OwnedReadHalf {
    pub(super) stream: Arc<TcpStream>,
}

/// The half of a [`TcpStream`] that writes; from [`TcpStream::into_split`].
///
/// Dropping it closes our side of the connection, unless it is [forgotten](Self::forget): the peer sees the end of the stream.
#[derive(Debug)]
pub struct OwnedWriteHalf {
    pub(super) stream: Arc<TcpStream>,
    pub(super) at_drop: AtDrop,
}

/// What the drop of the writing half does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtDrop {
    Nothing,
    Shutdown,
}

/// Two halves that are not of one stream.
#[derive(Debug)]
pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tried to reunite halves that are not from the same socket")
    }
}

impl Error for ReuniteError {}

impl TcpStream {
    /// Splits the stream in two that may go separate ways. Dropping the writing half sends FIN.
    ///
    /// ```
    /// use futures::{AsyncReadExt, AsyncWriteExt};
    /// use synfin::net::{TcpListener, TcpStream};
    ///
    /// # fn main() -> std::io::Result<()> { futures::executor::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (mut peer, _) = listener.accept().await?;
    /// let (reader, mut writer) = stream.into_split();
    /// writer.write_all(b"last words").await?;
    /// drop(writer);
    /// let mut heard = String::new();
    /// peer.read_to_string(&mut heard).await?;
    /// assert_eq!(heard, "last words");
    /// # drop(reader);
    /// # Ok(()) }) }
    /// ```
    #[must_use]
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        let stream = Arc::new(self);
        (OwnedReadHalf { stream: Arc::clone(&stream) }, OwnedWriteHalf { stream, at_drop: AtDrop::Shutdown })
    }
}

fn reunite(read: OwnedReadHalf, write: OwnedWriteHalf) -> Result<TcpStream, ReuniteError> {
    if !Arc::ptr_eq(&read.stream, &write.stream) {
        return Err(ReuniteError(read, write));
    }
    write.forget();
    Ok(Arc::into_inner(read.stream).expect("a stream has two halves, and one was just dropped"))
}

impl OwnedReadHalf {
    /// Puts the two halves of one stream together again.
    ///
    /// # Errors
    /// Both halves, if they are not of one stream.
    pub fn reunite(self, other: OwnedWriteHalf) -> Result<TcpStream, ReuniteError> {
        reunite(self, other)
    }

    /// See [`TcpStream::peek`].
    ///
    /// # Errors
    /// As there.
    pub async fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.peek(buf).await
    }

    /// See [`TcpStream::readable`].
    ///
    /// # Errors
    /// As there.
    pub async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// See [`TcpStream::try_read`].
    ///
    /// # Errors
    /// As there.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(buf)
    }

    /// See [`TcpStream::try_read_vectored`].
    ///
    /// # Errors
    /// As there.
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.stream.try_read_vectored(bufs)
    }

    /// See [`TcpStream::try_read_buf`].
    ///
    /// # Errors
    /// As there.
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.stream.try_read_buf(buf)
    }

    /// See [`TcpStream::peer_addr`].
    ///
    /// # Errors
    /// As there.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// See [`TcpStream::local_addr`].
    ///
    /// # Errors
    /// As there.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }
}

impl OwnedWriteHalf {
    /// Puts the two halves of one stream together again.
    ///
    /// # Errors
    /// Both halves, if they are not of one stream.
    pub fn reunite(self, other: OwnedReadHalf) -> Result<TcpStream, ReuniteError> {
        reunite(other, self)
    }

    /// Drops this half without closing our side of the connection, which stays open while the other half lives.
    pub fn forget(mut self) {
        self.at_drop = AtDrop::Nothing;
    }

    /// See [`TcpStream::writable`].
    ///
    /// # Errors
    /// As there.
    pub async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// See [`TcpStream::try_write`].
    ///
    /// # Errors
    /// As there.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.stream.try_write(buf)
    }

    /// See [`TcpStream::try_write_vectored`].
    ///
    /// # Errors
    /// As there.
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.try_write_vectored(bufs)
    }

    /// See [`TcpStream::peer_addr`].
    ///
    /// # Errors
    /// As there.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// See [`TcpStream::local_addr`].
    ///
    /// # Errors
    /// As there.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }
}

impl AsRef<TcpStream> for OwnedReadHalf {
    fn as_ref(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsRef<TcpStream> for OwnedWriteHalf {
    fn as_ref(&self) -> &TcpStream {
        &self.stream
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if self.at_drop == AtDrop::Shutdown {
            // On a dead stack there is nobody left to tell.
            _ = self.stream.shutdown_write();
        }
    }
}
