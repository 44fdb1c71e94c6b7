//! An application that writes a known pattern, reads what comes, and ends its part as planned. It checks every byte that it reads.

use std::time::Duration;

use synfin::proto::{CloseReason, ConnectedError, Engine, Events, Instant, RecvError, SendError, SocketId};

use crate::rng::Rng;
use crate::scenario::{End, Manner, Plan};

/// One side of a connection.
#[derive(Debug)]
pub(crate) struct Application {
    plan: Plan,
    rng: Rng,
    /// Which stream it writes; it reads the other.
    side: u64,
    socket: Option<SocketId>,
    pub(crate) written: u64,
    pub(crate) read: u64,
    /// It has ended its sending half in good order.
    pub(crate) closed: bool,
    /// It found the end of the stream, and no error before that.
    pub(crate) found_end: bool,
    pub(crate) error: Option<CloseReason>,
    pub(crate) finished_at: Option<Duration>,
    can_read: bool,
    can_write: bool,
    pub(crate) wakes_at: Option<Duration>,
    buffer: Vec<u8>,
}

/// Byte `position` of the stream that `side` writes in the run of `seed`.
fn pattern(seed: u64, side: u64, position: u64) -> u8 {
    let mixed = (seed ^ (side << 63)).wrapping_add(position).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_be_bytes()[0]
}

impl Application {
    pub(crate) fn new(seed: u64, side: u64, plan: Plan) -> Self {
        Self {
            plan,
            rng: Rng::new(seed ^ (side + 1)),
            side,
            socket: None,
            written: 0,
            read: 0,
            closed: false,
            found_end: false,
            error: None,
            finished_at: None,
            can_read: true,
            can_write: true,
            wakes_at: None,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn take_socket(&mut self, socket: SocketId) {
        self.socket = Some(socket);
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished_at.is_some()
    }

    pub(crate) fn socket(&self) -> Option<SocketId> {
        self.socket
    }

    pub(crate) fn on_signal(&mut self, socket: SocketId, events: Events) {
        if self.socket == Some(socket) {
            self.can_read |= events.has_any(Events::READABLE | Events::READ_CLOSED | Events::ERROR);
            self.can_write |= events.has_any(Events::WRITABLE | Events::WRITE_CLOSED | Events::ERROR);
        }
    }

    /// Does what can be done at `now`, the world's time; `time` is the host's.
    pub(crate) fn act(&mut self, engine: &mut Engine, seed: u64, now: Duration, time: Instant) {
        let Some(socket) = self.socket.filter(|_| !self.is_finished()) else { return };
        if self.wakes_at.is_some_and(|at| now < at) {
            return;
        }
        self.wakes_at = None;
        match engine.connected(socket) {
            Err(ConnectedError::WouldBlock) => return,
            Err(ConnectedError::Closed(reason)) => {
                self.error = Some(reason);
                return self.finish(engine, now, time);
            }
            _ => {}
        }
        if self.plan.manner == Manner::Polling {
            (self.can_read, self.can_write) = (true, true);
        }
        while !self.is_finished() && self.step(engine, seed, now, time) {
            if !self.is_finished() && !self.plan.pause.is_zero() {
                let nanos = u64::try_from(self.plan.pause.as_nanos()).expect("short");
                self.wakes_at = Some(now + Duration::from_nanos(self.rng.below(nanos) + 1));
                return;
            }
        }
    }

    /// Gives up: what the other side did has left this one without news.
    pub(crate) fn abort(&mut self, engine: &mut Engine, now: Duration, time: Instant) {
        if self.is_finished() {
            return;
        }
        if let Some(socket) = self.socket {
            engine.abort(time, socket);
        }
        self.error.get_or_insert(CloseReason::Aborted);
        self.finish(engine, now, time);
    }

    /// One round of calls; false when nothing more can be done now.
    fn step(&mut self, engine: &mut Engine, seed: u64, now: Duration, time: Instant) -> bool {
        let Some(socket) = self.socket else { return false };
        match self.plan.end {
            End::AbortAt(bytes) if self.written >= bytes => {
                self.abort(engine, now, time);
                return true;
            }
            End::Release if self.written == self.plan.total => {
                self.closed = true;
                self.finish(engine, now, time);
                return true;
            }
            End::Graceful if self.written == self.plan.total && !self.closed && self.error.is_none() => {
                self.closed = engine.shutdown(time, socket).is_ok();
                if self.closed {
                    return true;
                }
            }
            _ => {}
        }
        let wrote = self.can_write && self.written < self.plan.total && self.error.is_none() && self.write(engine, seed, time, socket);
        let read = self.can_read && !self.found_end && self.read(engine, seed, time, socket);
        if self.error.is_some() || (self.found_end && self.closed) {
            self.finish(engine, now, time);
        }
        wrote || read
    }

    fn write(&mut self, engine: &mut Engine, seed: u64, time: Instant, socket: SocketId) -> bool {
        let len = self.rng.between(1, self.plan.write_max).min(self.plan.total - self.written);
        self.buffer.clear();
        self.buffer.extend((self.written..self.written + len).map(|position| pattern(seed, self.side, position)));
        match engine.send(time, socket, &self.buffer) {
            Ok(written) => {
                assert!(written > 0 && written as u64 <= len, "send took {written} of {len} bytes");
                self.written += written as u64;
                return true;
            }
            Err(SendError::WouldBlock) => self.can_write = false,
            Err(SendError::Closed(reason)) => self.error = Some(reason),
            Err(SendError::BrokenPipe) => self.error = Some(engine.close_reason(socket).unwrap_or(CloseReason::Aborted)),
            Err(error) => panic!("send: {error}"),
        }
        false
    }

    fn read(&mut self, engine: &mut Engine, seed: u64, time: Instant, socket: SocketId) -> bool {
        let len = usize::try_from(self.rng.between(1, self.plan.read_max)).expect("small");
        self.buffer.resize(len, 0);
        if self.rng.chance(50) {
            match engine.peek(socket, &mut self.buffer) {
                Ok(peeked) => self.check(seed, peeked),
                Err(RecvError::Closed(reason)) => self.error = Some(reason),
                Err(_) => {}
            }
        }
        match engine.recv(time, socket, &mut self.buffer) {
            Ok(0) => {
                self.found_end = self.error.is_none();
                self.can_read = false;
            }
            Ok(read) => {
                self.check(seed, read);
                self.read += read as u64;
                return true;
            }
            Err(RecvError::WouldBlock) => self.can_read = false,
            Err(RecvError::Closed(reason)) => self.error = Some(reason),
            Err(error) => panic!("recv: {error}"),
        }
        false
    }

    /// The first `len` bytes of the buffer are the stream's next ones.
    fn check(&self, seed: u64, len: usize) {
        for (byte, position) in self.buffer[..len].iter().zip(self.read..) {
            assert_eq!(*byte, pattern(seed, 1 - self.side, position), "byte {position} of the stream to side {} is wrong", self.side);
        }
    }

    fn finish(&mut self, engine: &mut Engine, now: Duration, time: Instant) {
        if let Some(socket) = self.socket {
            engine.release(time, socket);
        }
        self.finished_at = Some(now);
    }
}
