//! A connection, as tokio shows one.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BufMut;

use super::addr::ToSocketAddrs;
use super::error;
use super::family::Family;
use crate::Stack;
use crate::proto::{CloseReason, Events, Info, SocketOption, SocketOptions, State};
use crate::runtime::readiness::Direction;
use crate::runtime::socket::Socket;
use crate::runtime::time::Sleep;

/// A TCP connection.
///
/// It is read and written through the traits of `futures` or of tokio. Dropping it closes both directions in the background; if unread data
/// is left, or arrives, the peer is sent a reset.
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use synfin::net::{TcpListener, TcpStream};
///
/// # fn main() -> std::io::Result<()> { futures::executor::block_on(async {
/// # let listener = TcpListener::bind("127.0.0.1:0").await?;
/// # let address = listener.local_addr()?;
/// let mut stream = TcpStream::connect(address).await?;
/// stream.write_all(b"ping").await?;
///
/// let (mut server, _) = listener.accept().await?;
/// let mut buffer = [0; 4];
/// server.read_exact(&mut buffer).await?;
/// assert_eq!(&buffer, b"ping");
/// # Ok(()) }) }
/// ```
pub struct TcpStream {
    socket: Socket,
    family: Family,
}

/// How [`TcpStream::finish`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "data may not have reached the peer"]
pub enum CloseReport {
    /// The peer has acknowledged everything, our FIN included.
    Acknowledged,
    /// The connection was reset, or aborted, before it had.
    Reset,
    /// It stopped answering.
    TimedOut,
}

impl TcpStream {
    /// Opens a connection from the [current](Stack::current) stack. Several addresses are tried in turn; the last error counts.
    ///
    /// # Errors
    /// `ConnectionRefused`, `TimedOut`, `HostUnreachable`, `NetworkUnreachable`; `AddrInUse` if another host has the address to connect from;
    /// `AddrNotAvailable` if no port is free; those of the
    /// resolver.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up.
    pub async fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Stack::current()?.connect(addr).await
    }

    /// Our address.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.socket.call(|engine, _| engine.local_addr(self.socket.id()))?;
        address.map(|address| self.family.show(address)).ok_or_else(error::not_connected)
    }

    /// The peer's address. Unlike the kernel's, this knows it still when the connection has ended.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let address = self.socket.call(|engine, _| engine.peer_addr(self.socket.id()))?;
        address.map(|address| self.family.show(address)).ok_or_else(error::not_connected)
    }

    /// Why the connection ended, if that was not in good order and has not been reported yet.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        let reason = self.socket.call(|engine, _| engine.take_error(self.socket.id()))?;
        Ok(reason.filter(|reason| *reason != CloseReason::Finished).map(error::closed))
    }

    /// Waits until there is something to read: data, the end of the stream, or an error.
    ///
    /// # Errors
    /// If the stack has died.
    ///
    /// # Cancel safety
    /// Nothing is lost. Any number of tasks may wait.
    /// ```
    /// # use futures::AsyncWriteExt;
    /// use synfin::net::{TcpListener, TcpStream};
    ///
    /// # fn main() -> std::io::Result<()> { futures::executor::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let mut stream = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (mut peer, _) = listener.accept().await?;
    /// # peer.write_all(b"hello").await?;
    /// let mut buffer = [0; 16];
    /// let read = loop {
    ///     stream.readable().await?;
    ///     match stream.try_read(&mut buffer) {
    ///         Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue, // another task was faster
    ///         read => break read?,
    ///     }
    /// };
    /// assert_eq!(&buffer[..read], b"hello");
    /// # _ = stream.close().await;
    /// # Ok(()) }) }
    /// ```
    pub async fn readable(&self) -> io::Result<()> {
        self.wait_for(Direction::Read.interest()).await.map(drop)
    }

    /// Waits until there is room to write, or an error.
    ///
    /// # Errors
    /// If the stack has died.
    ///
    /// # Cancel safety
    /// Nothing is lost. Any number of tasks may wait.
    pub async fn writable(&self) -> io::Result<()> {
        self.wait_for(Direction::Write.interest()).await.map(drop)
    }

    /// Polls for something to read. Only the last task that polled the stream for reading is woken.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(cx, Direction::Read)
    }

    /// Polls for room to write. Only the last task that polled the stream for writing is woken.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(cx, Direction::Write)
    }

    /// Reads what is there. Zero is the end of the stream, or an empty buffer.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is; `ConnectionReset`, `TimedOut` and others, once, when the connection has ended otherwise.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.call(|engine, now| engine.recv(now, self.socket.id(), buf))?.map_err(error::receive)
    }

    /// Reads what is there into several buffers, one after the other.
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read).
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.socket.call(|engine, now| engine.recv_vectored(now, self.socket.id(), bufs))?.map_err(error::receive)
    }

    /// Reads what is there, up to 16 KiB, behind what the buffer holds.
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read).
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        // The buffer's memory may be uninitialised, which safe code cannot lend out.
        let mut bounce = [0; BOUNCE_LEN];
        let room = buf.remaining_mut().min(BOUNCE_LEN);
        let read = self.try_read(&mut bounce[..room])?;
        buf.put_slice(&bounce[..read]);
        Ok(read)
    }

    /// Writes as much as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; `BrokenPipe` after our half was closed; `ConnectionReset`, `TimedOut` and others, once, when the
    /// connection has ended otherwise.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.socket.call(|engine, now| engine.send(now, self.socket.id(), buf))?.map_err(error::send)
    }

    /// Writes several buffers, as much as there is room for.
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write).
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.call(|engine, now| engine.send_vectored(now, self.socket.id(), bufs))?.map_err(error::send)
    }

    /// Reads without taking: the next read gives the same bytes again.
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read), but for `WouldBlock`.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let id = self.socket.id();
        self.socket.wait(Direction::Read.interest(), |engine, _| engine.peek(id, buf).map_err(error::receive)).await
    }

    /// Closes our half: what was written is sent, then a FIN. The peer may go on writing. A second call does nothing.
    ///
    /// The same as `AsyncWriteExt::shutdown` of tokio and `close` of futures, without waiting.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn shutdown_write(&self) -> io::Result<()> {
        error::shutdown(self.socket.call(|engine, now| engine.shutdown(now, self.socket.id()))?)
    }

    /// Reads no more: what waits is thrown away, and the next read finds the end of the stream.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn shutdown_read(&self) -> io::Result<()> {
        error::shutdown(self.socket.call(|engine, now| engine.shutdown_read(now, self.socket.id()))?)
    }

    /// Closes our half and waits until the peer has acknowledged all that was written.
    ///
    /// # Errors
    /// If the stack has died.
    ///
    /// # Cancel safety
    /// Our half stays closed; a later call waits on.
    /// ```
    /// # use futures::AsyncWriteExt;
    /// use synfin::net::{TcpListener, TcpStream};
    ///
    /// # fn main() -> std::io::Result<()> { futures::executor::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let mut stream = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (mut peer, _) = listener.accept().await?;
    /// use synfin::net::CloseReport;
    ///
    /// stream.write_all(b"important").await?;
    /// assert_eq!(stream.finish().await?, CloseReport::Acknowledged); // the peer's TCP has it all
    /// # peer.close().await?;
    /// # Ok(()) }) }
    /// ```
    pub async fn finish(&self) -> io::Result<CloseReport> {
        self.shutdown_write()?;
        let mut pause = FINISH_POLL_MIN;
        loop {
            let (state, reason) = self.socket.call(|engine, _| (engine.state(self.socket.id()), engine.close_reason(self.socket.id())))?;
            match (state, reason) {
                (_, Some(CloseReason::Finished)) => return Ok(CloseReport::Acknowledged),
                (_, Some(CloseReason::KeepaliveTimeout | CloseReason::RetransmissionTimeout | CloseReason::UserTimeout)) => {
                    return Ok(CloseReport::TimedOut);
                }
                (_, Some(_)) => return Ok(CloseReport::Reset),
                (None | Some(State::Closed | State::FinWait2 | State::TimeWait), None) => return Ok(CloseReport::Acknowledged),
                (Some(_), None) => {}
            }
            Sleep::on(self.socket.stack(), pause).await;
            pause = (2 * pause).min(FINISH_POLL_MAX);
        }
    }

    /// Waits, without reading, until the peer has closed its half or the connection has ended.
    ///
    /// # Errors
    /// If the stack has died.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn closed(&self) -> io::Result<()> {
        self.wait_for(Events::READ_CLOSED | Events::ERROR).await.map(drop)
    }

    /// Ends the connection with a reset; what is queued in either direction is thrown away.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn abort(&self) -> io::Result<()> {
        self.socket.call(|engine, now| engine.abort(now, self.socket.id()))
    }

    /// Everything about the connection at present: state, windows, round-trip times, queues.
    ///
    /// # Errors
    /// `NotConnected` if the engine keeps nothing of it any more.
    /// ```
    /// # use futures::AsyncWriteExt;
    /// use synfin::net::{TcpListener, TcpStream};
    ///
    /// # fn main() -> std::io::Result<()> { futures::executor::block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let mut stream = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (mut peer, _) = listener.accept().await?;
    /// stream.write_all(b"hello").await?;
    /// let info = stream.info()?;
    /// println!("{}: {} bytes in flight of {} allowed, RTT {:?}", info.state, info.in_flight, info.cwnd, info.srtt);
    /// assert_eq!(info.state.rfc_name(), "ESTABLISHED");
    /// # peer.close().await?;
    /// # Ok(()) }) }
    /// ```
    pub fn info(&self) -> io::Result<Info> {
        self.socket.call(|engine, _| engine.info(self.socket.id()))?.ok_or_else(error::not_connected)
    }

    /// True if small segments are sent at once.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.option(|options| options.nodelay)
    }

    /// Sends small segments at once, or has them wait for acknowledgements (RFC 9293 §3.7.4).
    ///
    /// # Errors
    /// If the stack has died.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.set_option(SocketOption::Nodelay(nodelay))
    }

    /// True if segments are acknowledged at once.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn quickack(&self) -> io::Result<bool> {
        self.option(|options| options.quickack)
    }

    /// Acknowledges segments at once, or waits for more of them (RFC 9293 §3.8.6.3).
    ///
    /// # Errors
    /// If the stack has died.
    pub fn set_quickack(&self, quickack: bool) -> io::Result<()> {
        self.set_option(SocketOption::Quickack(quickack))
    }

    /// Zero if dropping the stream resets the connection, else `None`: closing goes on in the background.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.option(|options| options.zero_linger.then_some(Duration::ZERO))
    }

    /// Has the drop of the stream reset the connection.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.set_option(SocketOption::ZeroLinger(true))
    }

    /// The TTL, or hop limit, of packets that are sent.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn ttl(&self) -> io::Result<u32> {
        self.option(|options| options.hop_limit.into())
    }

    /// Sets [`ttl`](Self::ttl), 1 to 255.
    ///
    /// # Errors
    /// `InvalidInput` for any other number.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let hops = u8::try_from(ttl).ok().filter(|hops| *hops > 0).ok_or_else(error::invalid)?;
        self.set_option(SocketOption::HopLimit(hops))
    }

    pub(super) const fn new(socket: Socket, family: Family) -> Self {
        Self { socket, family }
    }

    #[cfg(feature = "tokio")]
    pub(super) const fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) async fn wait_for(&self, interest: Events) -> io::Result<Events> {
        let id = self.socket.id();
        self.socket
            .wait(interest, |engine, _| {
                let events = engine.events(id);
                if events.has_any(interest) { Ok(events) } else { Err(io::ErrorKind::WouldBlock.into()) }
            })
            .await
    }

    fn poll_ready(&self, cx: &Context<'_>, direction: Direction) -> Poll<io::Result<()>> {
        let id = self.socket.id();
        ready!(self.socket.poll(cx, direction, |engine, _| {
            if engine.events(id).has_any(direction.interest()) { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        }))?;
        Poll::Ready(Ok(()))
    }

    fn option<T>(&self, read: impl FnOnce(&SocketOptions) -> T) -> io::Result<T> {
        self.socket.call(|engine, _| engine.options(self.socket.id()).map(read))?.ok_or_else(error::invalid)
    }

    fn set_option(&self, option: SocketOption) -> io::Result<()> {
        let set = self.socket.call(|engine, now| engine.set_option(now, self.socket.id(), option))?;
        if set { Ok(()) } else { Err(error::invalid()) }
    }
}

/// What the I/O traits are made of.
#[cfg(any(feature = "futures-io", feature = "tokio"))]
impl TcpStream {
    pub(super) fn poll_receive(&self, cx: &Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let id = self.socket.id();
        self.socket.poll(cx, Direction::Read, |engine, now| engine.recv(now, id, buf).map_err(error::receive))
    }

    #[cfg(feature = "futures-io")]
    pub(super) fn poll_receive_vectored(&self, cx: &Context<'_>, bufs: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        let id = self.socket.id();
        self.socket.poll(cx, Direction::Read, |engine, now| engine.recv_vectored(now, id, bufs).map_err(error::receive))
    }

    pub(super) fn poll_send(&self, cx: &Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let id = self.socket.id();
        self.socket.poll(cx, Direction::Write, |engine, now| engine.send(now, id, buf).map_err(error::send))
    }

    pub(super) fn poll_send_vectored(&self, cx: &Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let id = self.socket.id();
        self.socket.poll(cx, Direction::Write, |engine, now| engine.send_vectored(now, id, bufs).map_err(error::send))
    }
}

impl AsRef<Self> for TcpStream {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (local, peer) = (self.local_addr().ok(), self.peer_addr().ok());
        let state = self.socket.call(|engine, _| engine.state(self.socket.id())).ok().flatten();
        f.debug_struct("TcpStream").field("local", &local).field("peer", &peer).field("state", &state).finish_non_exhaustive()
    }
}

/// How much [`TcpStream::try_read_buf`] reads at once.
const BOUNCE_LEN: usize = 16 * 1024;

/// How often a closing connection is looked at, at first: a round trip on a local network.
const FINISH_POLL_MIN: Duration = Duration::from_millis(1);

/// And in the long run.
const FINISH_POLL_MAX: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_may_cross_threads() {
        const fn shared<T: Send + Sync + Unpin>() {}
        shared::<TcpStream>();
        shared::<crate::net::tcp::OwnedReadHalf>();
        shared::<crate::net::tcp::OwnedWriteHalf>();
        shared::<crate::net::tcp::ReadHalf<'_>>();
        shared::<crate::net::tcp::WriteHalf<'_>>();
    }
}
