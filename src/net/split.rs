//! Halves that borrow their stream: no reference count, no lock, the same lifetime.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;

use bytes::BufMut;

use super::TcpStream;

/// The half of a [`TcpStream`] that reads; from [`TcpStream::split`].
#[derive(Debug)]
pub struct ReadHalf<'a>(pub(super) &'a TcpStream);

/// The half of a [`TcpStream`] that writes; from [`TcpStream::split`].
///
/// Dropping it closes nothing: the stream is still there.
#[derive(Debug)]
pub struct WriteHalf<'a>(pub(super) &'a TcpStream);

impl TcpStream {
    /// Splits the stream in two for as long as both are used.
    ///
    /// Where futures' `AsyncReadExt`, which has a `split` of its own, is in scope, this one is `TcpStream::split(&mut stream)`.
    ///
    /// ```
    /// use futures::{AsyncReadExt, AsyncWriteExt};
    /// use synfin::net::{TcpListener, TcpStream};
    ///
    /// # fn main() -> std::io::Result<()> { futures::executor::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let mut stream = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (mut peer, _) = listener.accept().await?;
    /// # peer.write_all(b"!").await?;
    /// let (mut reader, mut writer) = TcpStream::split(&mut stream);
    /// let mut byte = [0];
    /// let (written, read) = futures::join!(writer.write_all(b"?"), reader.read_exact(&mut byte));
    /// written.and(read)?;
    /// assert_eq!(&byte, b"!");
    /// # Ok(()) }) }
    /// ```
    pub const fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf(self), WriteHalf(self))
    }
}

impl ReadHalf<'_> {
    /// See [`TcpStream::peek`].
    ///
    /// # Errors
    /// As there.
    pub async fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.peek(buf).await
    }

    /// See [`TcpStream::readable`].
    ///
    /// # Errors
    /// As there.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// See [`TcpStream::try_read`].
    ///
    /// # Errors
    /// As there.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }

    /// See [`TcpStream::try_read_vectored`].
    ///
    /// # Errors
    /// As there.
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.try_read_vectored(bufs)
    }

    /// See [`TcpStream::try_read_buf`].
    ///
    /// # Errors
    /// As there.
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.0.try_read_buf(buf)
    }

    /// See [`TcpStream::peer_addr`].
    ///
    /// # Errors
    /// As there.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }

    /// See [`TcpStream::local_addr`].
    ///
    /// # Errors
    /// As there.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl WriteHalf<'_> {
    /// See [`TcpStream::writable`].
    ///
    /// # Errors
    /// As there.
    pub async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
    }

    /// See [`TcpStream::try_write`].
    ///
    /// # Errors
    /// As there.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    /// See [`TcpStream::try_write_vectored`].
    ///
    /// # Errors
    /// As there.
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    /// See [`TcpStream::peer_addr`].
    ///
    /// # Errors
    /// As there.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }

    /// See [`TcpStream::local_addr`].
    ///
    /// # Errors
    /// As there.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl AsRef<TcpStream> for ReadHalf<'_> {
    fn as_ref(&self) -> &TcpStream {
        self.0
    }
}

impl AsRef<TcpStream> for WriteHalf<'_> {
    fn as_ref(&self) -> &TcpStream {
        self.0
    }
}
