//! What makes the pure core run: threads, the clock, wakers, an executor and timers.
//!
//! | module | what it owns |
//! |---|---|
//! | `shard` | the one crank: an engine under its lock, and everything that follows from a call of it |
//! | `readiness`, `timer` | who waits for a socket, who for an instant |
//! | `egress`, `port` | frames out, frames in |
//! | `lease`, `spin` | a task that fetches frames itself, and whether it spins before it sleeps |
//! | `driver`, `poller` | the thread that turns the crank when no task does, and how it sleeps |
//! | `executor` | [`Runtime`]: tasks, timers, engine and device on one thread |
//! | `config` | the builders |
//! | `capture` | frames into a pcapng file |
//! | [`control`] | the table of sockets for another process |
//! | `current` | which stack a call without a stack means |
//! | `socket` | the handle that `net` builds its streams on |
//! | [`time`] | sleeping |
//! | `clock`, `sync`, `counters` | the only clock; locks; what is counted |
//!
//! The runtime knows sockets by their ids and their wakers; what a stream or an error means is the business of [`net`](crate::net).

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use config::{Builder, RuntimeBuilder};
pub use counters::Counters;
pub use current::Entered;
pub use executor::{JoinError, JoinHandle, Runtime, spawn};

use crate::proto::{self, AddressConflict, Detection, State, netstat};
use shard::Shard;
use sync::Arc;

mod capture;
mod clock;
mod config;
pub mod control;
mod counters;
mod current;
mod driver;
mod egress;
mod executor;
mod lease;
mod passthrough;
mod poller;
mod port;
pub(crate) mod readiness;
mod shard;
pub(crate) mod socket;
mod spin;
mod sync;
pub mod time;
mod timer;

/// A TCP/IP stack of its own: addresses, neighbours, connections. A cheap handle, to be cloned; usable from any thread and any executor.
///
/// The stack lives while a handle, a listener or a stream of it does. After that its thread goes on until connections that were closed in
/// good order have said goodbye, and ends. The end of the process sends nothing: see [`shutdown`](Self::shutdown). After a `fork` without
/// `exec` a stack is unusable in the child.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let stack = synfin::Stack::builder().start()?; // without a device: 127.0.0.0/8 and ::1, inside this process
/// # futures::executor::block_on(async {
/// let listener = stack.listen("127.0.0.1:80").await?;
/// let client = stack.connect("127.0.0.1:80").await?;
/// let (server, peer) = listener.accept().await?;
/// assert_eq!(peer, client.local_addr()?);
/// assert_eq!(server.local_addr()?.port(), 80);
/// # Ok(()) })
/// # }
/// ```
#[derive(Clone)]
pub struct Stack {
    anchor: Arc<Anchor>,
}

/// Counters of a stack.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// The engine's: segments, drops by reason, connections.
    pub engine: proto::Stats,
    /// The runtime's: full queues, leases, wake-ups.
    pub runtime: Counters,
    /// Those of the neighbour cache: questions, failures, what was refused.
    pub neighbors: proto::stats::NeighborCounters,
}

impl Stack {
    /// What a new stack is made of. Without a device it has only its loopback.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Waits until the link is up and no other host has answered for the stack's addresses. A stack without a device is ready at once, and one
    /// on a wire inside the process when the wire has two ends; on an interface it takes [`Config::address_probes`](proto::Config) times
    /// [`Config::address_probe_interval`](proto::Config): 200 ms.
    ///
    /// Sockets may be opened before; what they have to send waits for the same.
    ///
    /// # Errors
    /// `AddrInUse` if another host has one of the addresses; the text names both, and inside is a [`proto::AddressConflict`]. That address is
    /// not used; the stack goes on with the others. `NetworkDown` if the link is gone for good. Anything else if the stack has died.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ready(&self) -> io::Result<()> {
        loop {
            match self.shard().call(|core, _| core.engine.link().copied())? {
                Some(link) if link.gone => {
                    let text =
                        "the network interface is gone: it was removed, or the other end of the device was dropped; start a new stack";
                    return Err(io::Error::new(io::ErrorKind::NetworkDown, text));
                }
                Some(link) if !link.up => time::Sleep::on(self, LINK_POLL).await,
                Some(_) | None => break,
            }
        }
        // Whatever becomes of those that are well: one that is not is told.
        _ = self.detection(Ipv6Addr::UNSPECIFIED.into()).await?;
        match self.shard().call(|core, _| core.engine.duplicate_address())? {
            Some(conflict) => Err(in_use(conflict)),
            None => Ok(()),
        }
    }

    /// Waits until detection is done with the addresses that `local` stands for; a link that is down keeps nobody waiting.
    pub(crate) async fn detection(&self, local: IpAddr) -> io::Result<Detection> {
        loop {
            let (detection, is_up) =
                self.shard().call(|core, _| (core.engine.detection(local), core.engine.link().is_some_and(|link| link.up)))?;
            if detection != Detection::UnderWay || !is_up {
                return Ok(detection);
            }
            time::Sleep::on(self, LINK_POLL).await;
        }
    }

    /// One row per socket, half-open and closing ones included, as `netstat -nat` shows them.
    ///
    /// # Errors
    /// If the stack has died.
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let stack = synfin::Stack::builder().start()?;
    /// # futures::executor::block_on(async {
    /// let listener = stack.listen("127.0.0.1:80").await?;
    /// for row in stack.netstat()? {
    ///     println!("{:<12} {} {:?}", row.state.netstat_name(), row.local, row.remote);
    /// }
    /// assert_eq!(stack.netstat()?.len(), 1);
    /// # drop(listener);
    /// # Ok(()) })
    /// # }
    /// ```
    pub fn netstat(&self) -> io::Result<Vec<netstat::Row>> {
        Ok(self.shard().call(|core, now| core.engine.netstat(now))?)
    }

    /// What has been counted since the start.
    ///
    /// # Errors
    /// If the stack has died.
    pub fn stats(&self) -> io::Result<Stats> {
        let (engine, neighbors) = self.shard().call(|core, _| (*core.engine.stats(), *core.engine.neighbor_counters()))?;
        Ok(Stats { engine, runtime: self.shard().counters.snapshot(), neighbors })
    }

    /// Closes every connection in good order and waits until the peers have agreed; after `deadline` aborts what is left. From the call on,
    /// the stack takes no new sockets, and listeners accept nothing.
    ///
    /// # Errors
    /// `TimedOut` if connections had to be aborted.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the connections closing, without a deadline.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let stack = synfin::Stack::builder().start()?;
    /// # futures::executor::block_on(async {
    /// stack.shutdown(std::time::Duration::from_secs(5)).await
    /// # })
    /// # }
    /// ```
    pub async fn shutdown(&self, deadline: Duration) -> io::Result<()> {
        let shard = self.shard();
        let started = self.for_each_socket(|engine, now, id| _ = engine.shutdown(now, id))?;
        shard.wake_all();
        let mut pause = CLOSE_POLL_MIN;
        while self.has_open_connections()? {
            if shard.now() - started >= deadline {
                self.for_each_socket(|engine, now, id| engine.abort(now, id))?;
                return Err(io::ErrorKind::TimedOut.into());
            }
            time::Sleep::on(self, pause).await;
            pause = (2 * pause).min(CLOSE_POLL_MAX);
        }
        Ok(())
    }

    fn new(shard: Arc<Shard>, control: Option<control::Server>) -> Self {
        Self { anchor: Arc::new(Anchor { shard, _control: control }) }
    }

    pub(crate) fn shard(&self) -> &Shard {
        &self.anchor.shard
    }

    /// Lets go of all listeners, and acts on every other socket that has a handle.
    fn for_each_socket(&self, mut act: impl FnMut(&mut proto::Engine, proto::Instant, proto::SocketId)) -> io::Result<proto::Instant> {
        Ok(self.shard().call(|core, now| {
            core.closing = true;
            for id in core.readiness.sockets() {
                match core.engine.state(id) {
                    Some(State::Listen) => core.engine.release(now, id),
                    _ => act(&mut core.engine, now, id),
                }
            }
            now
        })?)
    }

    fn has_open_connections(&self) -> io::Result<bool> {
        let rows = self.netstat()?;
        Ok(rows.iter().any(|row| !matches!(row.state, State::Closed | State::Listen | State::TimeWait)))
    }
}

/// Addresses and figures; what the tables hold is [`netstat`](Stack::netstat)'s, and no secret is shown.
impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.shard().call(|core, _| (core.engine.addresses().to_vec(), core.engine.socket_count())).ok();
        let (addresses, sockets) = shown.unzip();
        f.debug_struct("Stack").field("addresses", &addresses).field("sockets", &sockets).finish_non_exhaustive()
    }
}

/// What a caller is told of an address that another host has.
pub(crate) fn in_use(conflict: AddressConflict) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, conflict)
}

/// What handles, listeners and streams share. When it goes, the driver learns that nobody is left.
#[derive(Debug)]
struct Anchor {
    shard: Arc<Shard>,
    /// Answers until the last handle goes.
    _control: Option<control::Server>,
}

impl Drop for Anchor {
    fn drop(&mut self) {
        self.shard.orphaned.store(true, Ordering::Release);
        self.shard.notifier.notify();
    }
}

/// How often a link that is down is looked at.
const LINK_POLL: Duration = Duration::from_millis(10);

/// How often closing connections are looked at, at first.
const CLOSE_POLL_MIN: Duration = Duration::from_millis(1);

/// And in the long run.
const CLOSE_POLL_MAX: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_may_cross_threads() {
        const fn shared<T: Send + Sync + Unpin + Clone>() {}
        shared::<Stack>();
    }

    #[test]
    fn a_stack_is_shown_in_one_line_without_its_tables() {
        let (device, _peer) = crate::device::channel();
        let stack = Stack::builder().device(device).address("10.9.0.2/24").start().expect("a stack");
        assert_eq!(format!("{stack:?}"), "Stack { addresses: Some([10.9.0.2/24]), sockets: Some(0), .. }");
    }

    #[test]
    fn the_thread_ends_with_the_last_handle() {
        let (device, peer) = crate::device::channel();
        let stack = Stack::builder().device(device).address("10.9.0.2/24").start().expect("a stack");
        let other = stack.clone();
        drop(stack);
        assert!(other.stats().is_ok(), "a handle is left");
        drop(other);
        // The channel closes when the thread has dropped the device.
        while peer.blocking_recv().is_ok() {}
    }
}
