//! The device as a shard sees it: a half that receives and a half that transmits, each under its own lock, and the buffers between.
//!
//! ```text
//!   device ──receive──► slots (<= 16 buffers of 69,632 B) ──► engine      a frame of at least half a buffer is given away whole;
//!                         ▲                                    │          its buffer comes back when the last view of it is dropped
//!                         └──────────── lent ◄─────────────────┘
//! ```
//!
//! It knows nothing of sockets and of time.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::BytesMut;

use super::spin::Spin;
use super::sync::{Arc, Lock};
use crate::device::{self, Device, Notify, Readiness};
use crate::proto::link::RECEIVE_ROOM;
use crate::proto::{Engine, Frame, FrameBytes, Instant, Link, TxFrame};

/// A device in use.
#[derive(Debug)]
pub(crate) struct Port {
    /// Taken by whoever receives, and held until the engine has the frames: arrival order is the order of this lock.
    pub(crate) receive: Lock<ReceiveSide>,
    /// Taken by whoever has set the shard's `flushing`.
    pub(crate) transmit: Lock<TransmitSide>,
    /// The driver was woken for frames and left them to a task that holds the lease.
    pub(crate) missed: AtomicBool,
    /// The last task that held the lease found nothing and parked.
    pub(crate) parked: AtomicBool,
    /// When the lease was last taken, in nanoseconds of the shard's clock.
    pub(crate) leased_at: AtomicU64,
    /// What a device without a descriptor has announced.
    pub(crate) announced: Arc<Announced>,
    /// What the driver polls; without one the device calls its [`Notify`].
    pub(crate) descriptor: Option<RawFd>,
}

impl Port {
    /// Splits the device; a device without a descriptor will call `wake`.
    pub(crate) fn new(device: Box<dyn Device>, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let announced = Arc::new(Announced::default());
        let announcing = Arc::clone(&announced);
        let notify = Notify::new(move || {
            if announcing.is_worth_waking() {
                wake();
            }
        });
        let (mut receiver, transmitter) = device.split();
        let descriptor = match receiver.readiness(notify) {
            Readiness::Descriptor(descriptor) => Some(descriptor),
            Readiness::Notified => None,
        };
        Self {
            receive: Lock::new(ReceiveSide::new(receiver)),
            transmit: Lock::new(TransmitSide { transmitter, batch: VecDeque::new() }),
            missed: AtomicBool::new(false),
            parked: AtomicBool::new(true),
            leased_at: AtomicU64::new(0),
            announced,
            descriptor,
        }
    }
}

/// Calls of a [`Notify`]. They do not say whether frames came or room appeared.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    edges: AtomicU64,
    /// A task holds the lease: frames wake nobody, as with a descriptor that is not armed.
    muted: AtomicBool,
    /// The device was full: room does.
    awaits_room: AtomicBool,
}

impl Announced {
    /// How often the device has called.
    pub(crate) fn edges(&self) -> u64 {
        self.edges.load(Ordering::SeqCst)
    }

    /// From now on frames wake nobody.
    pub(crate) fn mute(&self) {
        self.muted.store(true, Ordering::SeqCst);
    }

    /// From now on frames wake the driver again; true if they did not.
    pub(crate) fn unmute(&self) -> bool {
        self.muted.swap(false, Ordering::SeqCst)
    }

    /// Whether the device was full when it was last asked.
    pub(crate) fn set_awaits_room(&self, awaits_room: bool) {
        self.awaits_room.store(awaits_room, Ordering::SeqCst);
    }

    fn is_worth_waking(&self) -> bool {
        self.edges.fetch_add(1, Ordering::SeqCst);
        self.awaits_room.load(Ordering::SeqCst) || !self.muted.load(Ordering::SeqCst)
    }
}

/// What is needed to receive.
pub(crate) struct ReceiveSide {
    receiver: Box<dyn device::Receiver>,
    link_version: Option<u64>,
    slots: Vec<BytesMut>,
    arrivals: Vec<device::Received>,
    pool: Pool,
    /// Whether a task with the lease may spin.
    pub(crate) spin: Spin,
}

/// How a batch of frames ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Frames that wait in the slots.
    pub(crate) frames: usize,
    /// The device has no more.
    pub(crate) drained: bool,
    /// Frames that the device failed to hand over.
    pub(crate) lost: u64,
}

impl ReceiveSide {
    fn new(receiver: Box<dyn device::Receiver>) -> Self {
        Self {
            receiver,
            link_version: None,
            slots: Vec::new(),
            arrivals: Vec::with_capacity(BATCH_MAX),
            pool: Pool::default(),
            spin: Spin::default(),
        }
    }

    /// Facts about the link, if they changed since the last call.
    pub(crate) fn changed_link(&mut self) -> Option<Link> {
        let (link, version) = self.receiver.link();
        (self.link_version.replace(version) != Some(version)).then_some(link)
    }

    /// Takes up to a batch of frames from the device into the slots.
    pub(crate) fn fill(&mut self) -> Batch {
        debug_assert!(self.arrivals.is_empty(), "the engine has had the last batch");
        let mut lost = 0;
        while self.arrivals.len() < BATCH_MAX {
            let slot = match self.slots.get_mut(self.arrivals.len()) {
                Some(slot) => slot,
                None => self.slots.push_mut(BytesMut::new()),
            };
            if slot.capacity() < RECEIVE_ROOM {
                *slot = self.pool.take();
            }
            match self.receiver.receive(slot) {
                Ok(received) => self.arrivals.push(received),
                // A link that is down has nothing either; the caller asks for its facts next.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NetworkDown) => {
                    return Batch { frames: self.arrivals.len(), drained: true, lost };
                }
                // A lost frame counts against the batch, or a device that only fails would hold its caller for ever.
                Err(_) => {
                    lost += 1;
                    slot.clear();
                    if lost == BATCH_MAX as u64 {
                        break;
                    }
                }
            }
        }
        Batch { frames: self.arrivals.len(), drained: false, lost }
    }

    /// Hands the batch to the engine.
    pub(crate) fn feed(&mut self, engine: &mut Engine, now: Instant) {
        for (slot, received) in self.slots.iter_mut().zip(self.arrivals.drain(..)) {
            let device::Received { checksum, segment_size } = received;
            if 2 * slot.len() >= RECEIVE_ROOM {
                let bytes = FrameBytes::Owned(slot.split().freeze());
                engine.receive(now, Frame { bytes, checksum, segment_size });
                self.pool.lend(std::mem::take(slot));
            } else {
                engine.receive(now, Frame { bytes: FrameBytes::Borrowed(slot), checksum, segment_size });
                slot.clear();
            }
        }
    }
}

impl std::fmt::Debug for ReceiveSide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiveSide").field("slots", &self.slots.len()).finish_non_exhaustive()
    }
}

/// What is needed to transmit.
pub(crate) struct TransmitSide {
    pub(crate) transmitter: Box<dyn device::Transmitter>,
    /// Frames on their way out; those that the device had no room for stay.
    pub(crate) batch: VecDeque<TxFrame>,
}

impl std::fmt::Debug for TransmitSide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransmitSide").field("batch", &self.batch.len()).finish_non_exhaustive()
    }
}

/// Buffers that were given away, and those of them that have come back.
#[derive(Debug, Default)]
struct Pool {
    lent: VecDeque<BytesMut>,
    free: Vec<BytesMut>,
}

impl Pool {
    /// A buffer with room for any frame: the last that came back, for it is warm in the cache, else a new one.
    fn take(&mut self) -> BytesMut {
        for _ in 0..self.lent.len().min(PROBES_MAX) {
            let Some(mut buffer) = self.lent.pop_front() else { break };
            if !buffer.try_reclaim(RECEIVE_ROOM) {
                self.lent.push_back(buffer);
            } else if self.free.len() < FREE_MAX {
                self.free.push(buffer);
            }
        }
        self.free.pop().unwrap_or_else(|| BytesMut::with_capacity(RECEIVE_ROOM))
    }

    /// Remembers the rest of a buffer that was given away.
    fn lend(&mut self, rest: BytesMut) {
        if self.lent.len() == LENT_MAX {
            self.lent.pop_front();
        }
        self.lent.push_back(rest);
    }
}

/// Frames that are taken from the device before the engine sees them: what one hold of the engine's lock may cost.
pub(crate) const BATCH_MAX: usize = 16;

/// Lent buffers, oldest first, that are looked at for each one taken: more than one, so that those which came back are found in the end.
const PROBES_MAX: usize = 4;

/// Buffers that are kept for the next burst: 2 MiB.
const FREE_MAX: usize = 32;

/// Lent buffers that are remembered, 17 MiB of them; what is forgotten goes back to the allocator instead.
const LENT_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn give_away(buffer: &mut BytesMut) -> bytes::Bytes {
        buffer.extend_from_slice(&[1; 60_000]);
        buffer.split().freeze()
    }

    #[test]
    fn a_muted_device_announces_room_only() {
        let announced = Announced::default();
        assert!(announced.is_worth_waking());
        announced.mute();
        assert!(!announced.is_worth_waking());
        announced.set_awaits_room(true);
        assert!(announced.is_worth_waking());
        announced.set_awaits_room(false);
        assert!(announced.unmute() && !announced.unmute());
        assert!(announced.is_worth_waking());
        assert_eq!(announced.edges(), 4);
    }

    #[test]
    fn a_buffer_comes_back_when_its_views_are_dropped() {
        let mut pool = Pool::default();
        let mut buffer = pool.take();
        let view = give_away(&mut buffer);
        let address = view.as_ptr();
        pool.lend(buffer);
        let other = pool.take();
        assert_ne!(other.as_ptr(), address, "a view of the first still lives");
        drop(view);
        let again = pool.take();
        assert_eq!(again.as_ptr(), address);
        assert!(again.capacity() >= RECEIVE_ROOM);
    }

    #[test]
    fn the_steady_state_makes_no_buffers() {
        let mut pool = Pool::default();
        let mut addresses = std::collections::HashSet::new();
        let mut queue = VecDeque::new();
        for _ in 0..1000 {
            let mut buffer = pool.take();
            let view = give_away(&mut buffer);
            addresses.insert(view.as_ptr());
            queue.push_back(view);
            pool.lend(buffer);
            if queue.len() > 6 {
                queue.pop_front();
            }
        }
        assert!(addresses.len() <= 16, "{} buffers for 7 in use", addresses.len());
    }
}
