//! The traits and readiness types of tokio for streams and halves. `shutdown` is the half-close.
//!
//! Reads and writes take part in tokio's cooperative budget, so that a task whose data never runs out lets others run.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::task::coop::{RestoreOnPending, poll_proceed};

use super::split::{ReadHalf, WriteHalf};
use super::split_owned::{AtDrop, OwnedReadHalf, OwnedWriteHalf};
use super::{TcpStream, error};
use crate::proto::Events;
use crate::runtime::readiness::Direction;

impl TcpStream {
    /// Waits until the stream is ready for one of the things in `interest`.
    ///
    /// # Errors
    /// If the stack has died.
    ///
    /// # Cancel safety
    /// Nothing is lost. Any number of tasks may wait.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        let directions = [(interest.is_readable(), Direction::Read), (interest.is_writable(), Direction::Write)];
        let wanted = directions.into_iter().filter(|(wanted, _)| *wanted).map(|(_, direction)| direction.interest());
        let wanted = wanted.fold(Events::ERROR, |all, events| all | events);
        let events = self.wait_for(wanted).await?;
        let shown = [
            (Events::READABLE, Ready::READABLE),
            (Events::WRITABLE, Ready::WRITABLE),
            (Events::READ_CLOSED, Ready::READ_CLOSED),
            (Events::WRITE_CLOSED, Ready::WRITE_CLOSED),
            (Events::ERROR, Ready::ERROR),
        ];
        let known = shown.into_iter().filter(|(event, _)| events.has(*event) && wanted.has(*event));
        Ok(known.fold(Ready::EMPTY, |all, (_, ready)| all | ready))
    }

    /// Polls for data without taking it: the next read gives the same bytes again.
    ///
    /// # Errors
    /// As [`peek`](Self::peek).
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let peeked = ready!(self.poll_peek_slice(cx, buf.initialize_unfilled()))?;
        buf.advance(peeked);
        Poll::Ready(Ok(peeked))
    }

    fn poll_peek_slice(&self, cx: &Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let id = self.socket().id();
        self.socket().poll(cx, Direction::Read, |engine, _| engine.peek(id, buf).map_err(error::receive))
    }

    fn poll_read_buf(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let budget = ready!(poll_proceed(cx));
        let read = spend(budget, ready!(self.poll_receive(cx, buf.initialize_unfilled())))?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl ReadHalf<'_> {
    /// See [`TcpStream::ready`].
    ///
    /// # Errors
    /// As there.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.0.ready(interest).await
    }

    /// See [`TcpStream::poll_peek`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_peek(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        self.0.poll_peek(cx, buf)
    }
}

impl WriteHalf<'_> {
    /// See [`TcpStream::ready`].
    ///
    /// # Errors
    /// As there.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.0.ready(interest).await
    }
}

impl OwnedReadHalf {
    /// See [`TcpStream::ready`].
    ///
    /// # Errors
    /// As there.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.stream.ready(interest).await
    }

    /// See [`TcpStream::poll_peek`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_peek(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        self.stream.poll_peek(cx, buf)
    }
}

impl OwnedWriteHalf {
    /// See [`TcpStream::ready`].
    ///
    /// # Errors
    /// As there.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.stream.ready(interest).await
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_read_buf(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let budget = ready!(poll_proceed(cx));
        self.poll_send(cx, buf).map(|result| spend(budget, result))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let budget = ready!(poll_proceed(cx));
        self.poll_send_vectored(cx, bufs).map(|result| spend(budget, result))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write())
    }
}

impl AsyncRead for ReadHalf<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_buf(cx, buf)
    }
}

impl AsyncWrite for WriteHalf<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let budget = ready!(poll_proceed(cx));
        self.0.poll_send(cx, buf).map(|result| spend(budget, result))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let budget = ready!(poll_proceed(cx));
        self.0.poll_send_vectored(cx, bufs).map(|result| spend(budget, result))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown_write())
    }
}

impl AsyncRead for OwnedReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_buf(cx, buf)
    }
}

impl AsyncWrite for OwnedWriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let budget = ready!(poll_proceed(cx));
        self.stream.poll_send(cx, buf).map(|result| spend(budget, result))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let budget = ready!(poll_proceed(cx));
        self.stream.poll_send_vectored(cx, bufs).map(|result| spend(budget, result))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.at_drop = AtDrop::Nothing;
        Poll::Ready(self.stream.shutdown_write())
    }
}

/// A step was made: the budget is not given back.
fn spend<T>(budget: RestoreOnPending, result: T) -> T {
    budget.made_progress();
    result
}
