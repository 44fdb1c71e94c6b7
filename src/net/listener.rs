//! A listening socket.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use super::addr::ToSocketAddrs;
use super::family::Family;
use super::{TcpStream, error};
use crate::Stack;
use crate::proto::{Events, SocketId, SocketOption};
use crate::runtime::readiness::Direction;
use crate::runtime::socket::Socket;

/// A TCP socket that listens for connections.
///
/// Dropping it resets the connections that were not yet accepted.
///
/// ```
/// use synfin::net::{TcpListener, TcpStream};
///
/// # fn main() -> std::io::Result<()> { futures::executor::block_on(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let client = TcpStream::connect(listener.local_addr()?).await?;
/// let (server, peer) = listener.accept().await?;
/// assert_eq!(peer, client.local_addr()?);
/// assert_eq!(server.peer_addr()?, peer);
/// # Ok(()) }) }
/// ```
pub struct TcpListener {
    socket: Socket,
    family: Family,
}

impl TcpListener {
    /// Listens on an address of the [current](Stack::current) stack. Port 0 takes a free port. `[::]` also accepts IPv4, whose peers appear
    /// as `::ffff:a.b.c.d`; the most specific listener wins. Of several addresses the first that works is taken.
    ///
    /// # Errors
    /// `AddrInUse` if another listener has the port, no port is free, or another host has the address, which the text then names with its
    /// Ethernet address; `AddrNotAvailable` if the address is not the stack's; those of the
    /// resolver.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no listener behind.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Stack::current()?.listen(addr).await
    }

    /// Waits for a connection. Any number of tasks may wait.
    ///
    /// # Errors
    /// `InvalidInput` after the stack was [shut down](Stack::shutdown).
    ///
    /// # Cancel safety
    /// If the future is dropped, no connection has been accepted.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let listener = self.socket.id();
        let interest = Events::READABLE | Events::ERROR;
        let accepted = self.socket.wait(interest, |engine, now| engine.accept(now, listener).map_err(error::accept)).await?;
        self.accepted(accepted)
    }

    /// Polls for a connection. Only the task that polled last is woken.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let listener = self.socket.id();
        let accepted = ready!(self.socket.poll(cx, Direction::Read, |engine, now| engine.accept(now, listener).map_err(error::accept)))?;
        Poll::Ready(self.accepted(accepted))
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.call(|engine, _| engine.local_addr(self.socket.id()))?.ok_or_else(error::invalid)
    }

    /// The TTL, or hop limit, of packets that accepted connections send.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn ttl(&self) -> io::Result<u32> {
        let hops = self.socket.call(|engine, _| engine.options(self.socket.id()).map(|options| options.hop_limit))?;
        hops.map(u32::from).ok_or_else(error::invalid)
    }

    /// Sets [`ttl`](Self::ttl), 1 to 255.
    ///
    /// # Errors
    /// `InvalidInput` for any other number.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let hops = u8::try_from(ttl).ok().filter(|hops| *hops > 0).ok_or_else(error::invalid)?;
        let set = self.socket.call(|engine, now| engine.set_option(now, self.socket.id(), SocketOption::HopLimit(hops)))?;
        if set { Ok(()) } else { Err(error::invalid()) }
    }

    pub(super) const fn new(socket: Socket, family: Family) -> Self {
        Self { socket, family }
    }

    fn accepted(&self, (id, peer): (SocketId, SocketAddr)) -> io::Result<(TcpStream, SocketAddr)> {
        let socket = Socket::adopt(self.socket.stack(), id)?;
        Ok((TcpStream::new(socket, self.family), self.family.show(peer)))
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener").field("local", &self.local_addr().ok()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_may_cross_threads() {
        const fn shared<T: Send + Sync + Unpin>() {}
        shared::<TcpListener>();
    }
}
