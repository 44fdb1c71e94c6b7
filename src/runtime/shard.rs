//! One shard: an engine, who waits for it, and the way to its device. Everything that drives it, a thread, a [`Runtime`](super::Runtime), a
//! task with the lease or a simulation, turns the same crank.
//!
//! ```text
//!  lock order     port.receive ──► port.transmit ──► core     never the other way
//!                 port.receive is only ever tried while tasks may wake; port.transmit is taken by whoever has set core.flushing
//!                 a capture's lock is taken before core, and nothing else under it; a sink's only with core free
//!  one call       lock core: read the clock, try, register, transmit into the egress queue, drain signals. Unlock.
//!                 Then, holding no lock: flush the device, wake tasks, wake the driver.
//! ```
//!
//! The core's lock is held for at most a batch of frames, and never across a system call, a wake-up or user code.

use std::io;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::capture::Capture;
use super::clock::Clock;
use super::counters::Live;
use super::egress::Egress;
use super::passthrough::PacketSink;
use super::poller::Notifier;
use super::port::{Batch, Port, ReceiveSide};
use super::readiness::{Direction, Readiness, WaiterKey, Wakes};
use super::sync::{Arc, Dead, Lock};
use super::timer::Timers;
use crate::proto::{Engine, Events, Instant, Signal, Sink, SocketId, Transmit};

/// One shard.
#[derive(Debug)]
pub(crate) struct Shard {
    core: Lock<Core>,
    pub(crate) port: Option<Port>,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) counters: Live,
    capture: Option<Lock<Capture>>,
    sink: Option<PacketSink>,
    clock: Clock,
    driving: Driving,
    /// No handle is left: the driver ends when nothing lingers.
    pub(crate) orphaned: AtomicBool,
    /// Nobody drives the shard any more.
    dead: AtomicBool,
}

/// Who drives a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driving {
    /// A thread of its own, and tasks with the lease.
    Thread(Spinning),
    /// The thread that runs the tasks.
    Runtime,
}

/// Whether a task with the lease may spin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spinning {
    /// As long as it pays.
    Adaptive,
    /// Never: one core only, or the driver's thread spins.
    Off,
}

/// What the core's lock protects.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) engine: Engine,
    pub(crate) readiness: Readiness,
    pub(crate) timers: Timers,
    egress: Egress,
    /// A signal that has not yet reached all whom it concerns.
    unfinished: Option<Signal>,
    /// Somebody is emptying the egress queue.
    flushing: bool,
    /// Somebody is handing packets to the sink.
    passing: bool,
    /// The device is full; the driver waits for room.
    stalled: bool,
    /// Frames that it had no room for stand before those in the egress queue.
    left_over: bool,
    /// The driver sleeps, until this instant at the latest.
    asleep_until: Option<Instant>,
    /// The stack takes no new sockets.
    pub(crate) closing: bool,
}

/// When frames leave that a call has caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Before the call returns, on the calling thread.
    Now,
    /// At the end of the turn that is under way on this thread.
    Later,
}

/// Where a call that would block leaves its waker.
#[derive(Debug)]
pub(crate) enum Park<'a> {
    /// In the socket's slot for this direction, whose last waker wins.
    Slot(Direction),
    /// In the socket's list.
    List(&'a mut Option<WaiterKey>, Events),
}

impl Shard {
    /// A shard around an engine, driven by whoever waits on `notifier`'s other side.
    pub(crate) fn new(engine: Engine, port: Option<Port>, notifier: Arc<Notifier>, clock: Clock, driving: Driving) -> Self {
        let core = Core {
            engine,
            readiness: Readiness::default(),
            timers: Timers::default(),
            egress: Egress::default(),
            unfinished: None,
            flushing: false,
            passing: false,
            stalled: false,
            left_over: false,
            asleep_until: None,
            closing: false,
        };
        Self {
            core: Lock::new(core),
            port,
            notifier,
            counters: Live::default(),
            capture: None,
            sink: None,
            clock,
            driving,
            orphaned: AtomicBool::new(false),
            dead: AtomicBool::new(false),
        }
    }

    /// The same shard, which writes its frames into `capture` if there is one.
    pub(crate) fn with_capture(self, capture: Option<Capture>) -> Self {
        Self { capture: capture.map(Lock::new), ..self }
    }

    /// The same shard, which hands what is not for it to `sink` if there is one.
    pub(crate) fn with_sink(self, sink: Option<PacketSink>) -> Self {
        Self { sink, ..self }
    }

    /// The present, by the shard's clock.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Calls the engine, and does what follows from the call.
    pub(crate) fn call<R>(&self, f: impl FnOnce(&mut Core, Instant) -> R) -> Result<R, Dead> {
        let notice = PanicNotice(&self.notifier);
        let mut core = self.core()?;
        let now = self.now();
        let result = f(&mut core, now);
        self.settle(core, now, self.output())?;
        drop(notice);
        Ok(result)
    }

    /// Tries `operation` until it does not answer `WouldBlock`; then parks the task where the next edge of the socket finds it.
    pub(crate) fn poll<R>(
        &self,
        context: &Context<'_>,
        socket: SocketId,
        mut park: Park<'_>,
        mut operation: impl FnMut(&mut Engine, Instant) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let waker = context.waker();
        for round in 0.. {
            let attempt = self.call(|core, now| match operation(&mut core.engine, now) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Attempt::Blocked { parked: park.holds(core, socket, waker) },
                result => Attempt::Done(result),
            })?;
            let parked = match attempt {
                Attempt::Done(result) => return Poll::Ready(result),
                Attempt::Blocked { parked } => parked,
            };
            let leased = match &self.port {
                Some(port) if self.lends() && round < LEASES_MAX => self.lease(port)?,
                _ => Leased::Nothing,
            };
            match leased {
                Leased::Frames => {}
                Leased::Nothing if parked => break,
                Leased::Nothing => {
                    if let Poll::Ready(result) = self.poll_parking(waker.clone(), socket, &mut park, &mut operation) {
                        return Poll::Ready(result);
                    }
                    break;
                }
            }
        }
        if let Some(port) = &self.port
            && self.lends()
        {
            self.end_lease(port);
        }
        Poll::Pending
    }

    /// Tries once more, and leaves the waker under the same lock if there is still nothing.
    fn poll_parking<R>(
        &self,
        waker: Waker,
        socket: SocketId,
        park: &mut Park<'_>,
        operation: &mut impl FnMut(&mut Engine, Instant) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let mut waker = Some(waker);
        // The waker that is replaced leaves the closure by value, to be dropped when the lock is free.
        let (result, _replaced) = self.call(|core, now| match operation(&mut core.engine, now) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                (Poll::Pending, waker.take().and_then(|waker| park.register(core, socket, waker)))
            }
            result => (Poll::Ready(result), None),
        })?;
        result
    }

    /// One turn of the crank: frames in, time in, signals out, frames out. True if there may be more to do at once.
    pub(crate) fn turn(&self) -> Result<Turned, Dead> {
        let received = self.take_in(Output::Now)?;
        let finished = self.put_out()?;
        Ok(if received == Turned::Idle { finished } else { received })
    }

    /// The first half of a turn: frames in, time in, signals out.
    pub(crate) fn take_in(&self, output: Output) -> Result<Turned, Dead> {
        let turned = match &self.port {
            Some(port) => self.receive(port, output)?,
            None => Turned::Idle,
        };
        let notice = PanicNotice(&self.notifier);
        let mut core = self.core()?;
        let now = self.now();
        core.asleep_until = None;
        core.engine.advance(now);
        let conflict = core.engine.take_address_conflict();
        self.settle(core, now, output)?;
        drop(notice);
        if let Some(conflict) = conflict {
            tracing::warn!(address = %conflict.address, mac = %conflict.mac, "{conflict}");
        }
        Ok(turned)
    }

    /// The second half of a turn: frames out.
    pub(crate) fn put_out(&self) -> Result<Turned, Dead> {
        let core = self.core()?;
        let now = self.now();
        self.settle(core, now, Output::Now)?;
        let core = self.core()?;
        Ok(if core.engine.wants_transmit() && core.egress.is_empty() { Turned::Busy } else { Turned::Idle })
    }

    /// The driver is about to sleep; answers until when it may, and has everybody wake it who arms an earlier deadline.
    pub(crate) fn sleep_until(&self) -> Result<Instant, Dead> {
        let mut core = self.core()?;
        let link_is_down = core.engine.link().is_some_and(|link| !link.up && !link.gone);
        let look_at_link = link_is_down.then(|| self.now() + LINK_POLL);
        let deadline = core.deadline().into_iter().chain(look_at_link).min().unwrap_or(Instant::FAR_FUTURE);
        core.asleep_until = Some(deadline);
        Ok(deadline)
    }

    /// The device has room again, or may have.
    pub(crate) fn on_room(&self) -> Result<(), Dead> {
        let mut core = self.core()?;
        let stalled = std::mem::replace(&mut core.stalled, false);
        if let Some(port) = &self.port {
            port.announced.set_awaits_room(false);
        }
        drop(core);
        if stalled {
            // A failure leaves the descriptor armed: an edge too many, never one too few.
            _ = self.notifier.disarm_writable();
        }
        Ok(())
    }

    /// Frames wake the driver again, those that wait already among them.
    pub(crate) fn watch_again(&self, port: &Port) {
        let was_muted = port.announced.unmute();
        if self.notifier.arm_readable().is_err() || was_muted {
            self.notifier.notify();
        }
    }

    /// Frames no longer wake the driver.
    fn look_away(&self, port: &Port) {
        if port.descriptor.is_none() {
            port.announced.mute();
        }
        // A failure leaves the descriptor armed: a wake-up too many.
        _ = self.notifier.disarm_readable();
    }

    /// Takes a batch of frames from the device through the engine.
    pub(crate) fn receive_batch(&self, side: &mut ReceiveSide, output: Output) -> Result<Batch, Dead> {
        let batch = side.fill();
        let link = side.changed_link();
        self.counters.frames_lost_in.add(batch.lost);
        if batch.frames > 0 || link.is_some() {
            let notice = PanicNotice(&self.notifier);
            let mut core = self.core()?;
            let now = self.now();
            if let Some(link) = link {
                core.engine.set_link(now, Some(link));
            }
            side.feed(&mut core.engine, now);
            self.settle(core, now, output)?;
            drop(notice);
        }
        Ok(batch)
    }

    /// Nobody drives the shard from now on: every call fails, and all who wait learn of it.
    pub(crate) fn die(&self) {
        // What a capture could not be told is counted by it; of a poisoned core there is nothing to tell.
        if let Ok(mut core) = self.core() {
            core.engine.close_trace();
            drop(core);
            _ = self.write_capture();
        }
        self.dead.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Wakes every task.
    pub(crate) fn wake_all(&self) {
        loop {
            let mut wakes = Wakes::default();
            let mut core = self.core.lock_even_dead();
            let all = core.readiness.wake_all(&mut wakes) && core.timers.wake_all(&mut wakes);
            drop(core);
            wakes.wake();
            if all {
                return;
            }
        }
    }

    /// True if nothing is left to be done when the last handle is gone.
    pub(crate) fn is_quiescent(&self) -> Result<bool, Dead> {
        let core = self.core()?;
        Ok(core.engine.is_quiescent() && core.egress.is_empty() && !core.flushing)
    }

    /// True if a task with the lease may spin.
    pub(crate) fn may_spin(&self) -> bool {
        self.driving == Driving::Thread(Spinning::Adaptive)
    }

    /// True if tasks may take the lease.
    fn lends(&self) -> bool {
        matches!(self.driving, Driving::Thread(_))
    }

    fn output(&self) -> Output {
        if CRANKED.get() == std::ptr::from_ref(self).addr() { Output::Later } else { Output::Now }
    }

    fn receive(&self, port: &Port, output: Output) -> Result<Turned, Dead> {
        let Some(mut side) = self.claim(port)? else { return Ok(Turned::LeftToLease) };
        for _ in 0..BATCHES_MAX {
            let batch = self.receive_batch(&mut side, output)?;
            if batch.frames > 0 {
                side.spin.on_arrival(self.now());
            }
            if batch.drained {
                return Ok(Turned::Idle);
            }
        }
        Ok(Turned::Busy)
    }

    /// Takes the receive side for the driver, unless tasks that run take care of it.
    fn claim<'a>(&self, port: &'a Port) -> Result<Option<MutexGuard<'a, ReceiveSide>>, Dead> {
        if !self.lends() {
            return port.receive.lock().map(Some);
        }
        let leased_at = Instant::from_nanos(port.leased_at.load(Ordering::Relaxed));
        let in_use = !port.parked.load(Ordering::SeqCst) && self.now() - leased_at < LEASE_PATIENCE;
        if !in_use && let Some(side) = port.receive.try_lock()? {
            if port.missed.swap(false, Ordering::SeqCst) {
                self.watch_again(port);
            }
            return Ok(Some(side));
        }
        // From here on either the task that holds the lease sees `missed` when it parks, or we see that it has parked.
        port.missed.store(true, Ordering::SeqCst);
        self.look_away(port);
        if port.parked.load(Ordering::SeqCst) && port.missed.swap(false, Ordering::SeqCst) {
            self.watch_again(port);
        }
        Ok(None)
    }

    /// What follows from a change of the engine: frames leave, tasks wake, the driver learns of an earlier deadline.
    fn settle<'a>(&'a self, mut core: MutexGuard<'a, Core>, now: Instant, output: Output) -> Result<(), Dead> {
        for round in 1.. {
            let mut more = false;
            if output == Output::Now && core.engine.wants_transmit() {
                let Core { engine, egress, .. } = &mut *core;
                if engine.transmit(now, egress) == Transmit::Full {
                    // Either the queue is full, and who empties it goes on; or this was a long piece of loopback traffic.
                    more = egress.has_room();
                    self.counters.egress_full.add(u64::from(!more));
                }
            }
            let wakes = core.drain(now, &mut more);
            let mut notify = core.claim_driver();
            let flush = output == Output::Now && self.port.is_some() && core.claim_flush();
            let pass = core.claim_passing();
            more |= core.engine.has_signals();
            let hand_over = more && round == ROUNDS_MAX;
            if hand_over {
                self.counters.loopback_handed_over.add(1);
                notify = true;
            }
            drop(core);
            if flush {
                self.flush()?;
            }
            self.write_capture()?;
            if pass {
                self.pass_on()?;
            }
            if let Some(wakes) = wakes {
                wakes.wake();
            }
            if notify {
                self.notifier.notify();
            }
            if !more || hand_over {
                break;
            }
            core = self.core()?;
        }
        Ok(())
    }

    /// Moves what the engine has recorded into the file.
    fn write_capture(&self) -> Result<(), Dead> {
        let Some(capture) = &self.capture else { return Ok(()) };
        let mut capture = capture.lock()?;
        let lost = self.core()?.engine.drain_trace(&mut capture.records);
        if lost > 0 || !capture.records.is_empty() {
            self.counters.capture_lost.add(lost + capture.write());
        }
        Ok(())
    }

    /// Hands packets that are not for the stack to the sink. The caller has set `passing`.
    fn pass_on(&self) -> Result<(), Dead> {
        let Some(sink) = &self.sink else { return Ok(()) };
        for _ in 0..PASSED_MAX {
            let mut core = self.core()?;
            let Some(packet) = core.engine.next_passed() else {
                core.passing = false;
                return Ok(());
            };
            drop(core);
            self.counters.passthrough_lost.add(u64::from(!sink.take(packet)));
        }
        self.core()?.passing = false;
        self.notifier.notify();
        Ok(())
    }

    /// Empties the egress queue onto the device. The caller has set `flushing`.
    fn flush(&self) -> Result<(), Dead> {
        let Some(port) = &self.port else { return Ok(()) };
        let mut side = port.transmit.lock()?;
        let side = &mut *side;
        for _ in 0..FLUSHES_MAX {
            if side.batch.is_empty() {
                let mut core = self.core()?;
                core.egress.take(&mut side.batch);
                core.left_over = false;
                if side.batch.is_empty() {
                    core.flushing = false;
                    return Ok(());
                }
                if core.engine.wants_transmit() {
                    let now = self.now();
                    let Core { engine, egress, .. } = &mut *core;
                    _ = engine.transmit(now, egress);
                }
            }
            let edges = port.announced.edges();
            let before = side.batch.len();
            match side.transmitter.transmit(&mut side.batch) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.counters.device_full.add(1);
                    let mut core = self.core()?;
                    core.flushing = false;
                    core.left_over = true;
                    port.announced.set_awaits_room(true);
                    // Room that appeared since has been announced already: look again.
                    core.stalled = port.announced.edges() == edges;
                    let look_again = !core.stalled;
                    drop(core);
                    if look_again || self.notifier.arm_writable().is_err() {
                        self.notifier.notify();
                    }
                    return Ok(());
                }
                Err(error) => {
                    self.counters.frames_lost_out.add(1);
                    if error.kind() == io::ErrorKind::NetworkDown {
                        // Whoever turns the crank next learns that the link is down.
                        self.notifier.notify();
                    }
                    if side.batch.len() == before {
                        side.batch.pop_front();
                    }
                }
            }
        }
        // Others fill the queue as fast as we empty it: the driver goes on in our place.
        let mut core = self.core()?;
        core.flushing = false;
        core.left_over = !side.batch.is_empty();
        drop(core);
        self.notifier.notify();
        Ok(())
    }

    fn core(&self) -> Result<MutexGuard<'_, Core>, Dead> {
        if self.dead.load(Ordering::Acquire) { Err(Dead) } else { self.core.lock() }
    }
}

impl Core {
    /// When the driver is next useful.
    fn deadline(&mut self) -> Option<Instant> {
        [self.engine.deadline(), self.timers.deadline()].into_iter().flatten().min()
    }

    /// Takes the wakers of all whom the engine's signals and the clock concern, as many as leave the lock at once.
    fn drain(&mut self, now: Instant, more: &mut bool) -> Option<Wakes> {
        let timer_due = self.timers.deadline().is_some_and(|at| at <= now);
        if self.unfinished.is_none() && !self.engine.has_signals() && !timer_due {
            return None;
        }
        let mut wakes = Wakes::default();
        while let Some(signal) = self.unfinished.take().or_else(|| self.engine.next_signal()) {
            if !self.readiness.on_signal(signal, &mut wakes) {
                self.unfinished = Some(signal);
                *more = true;
                return Some(wakes);
            }
        }
        *more |= !self.timers.fire(now, &mut wakes);
        Some(wakes)
    }

    /// True if there is something to flush and nobody does: the caller does from now on.
    fn claim_flush(&mut self) -> bool {
        let flush = !self.flushing && !self.stalled && (self.left_over || !self.egress.is_empty());
        self.flushing |= flush;
        flush
    }

    /// True if packets wait for the sink and nobody hands them over: the caller does from now on.
    fn claim_passing(&mut self) -> bool {
        let pass = !self.passing && self.engine.has_passed();
        self.passing |= pass;
        pass
    }

    /// True if the driver must be woken to learn of a deadline; once per sleep.
    fn claim_driver(&mut self) -> bool {
        let Some(asleep_until) = self.asleep_until else { return false };
        let earlier = self.deadline().is_some_and(|deadline| deadline < asleep_until);
        if earlier {
            self.asleep_until = None;
        }
        earlier
    }
}

impl Park<'_> {
    /// True if the task's waker is where this call would leave it.
    fn holds(&self, core: &Core, socket: SocketId, waker: &Waker) -> bool {
        match self {
            Self::Slot(direction) => core.readiness.is_registered(socket, *direction, waker),
            Self::List(key, _) => key.is_some_and(|key| core.readiness.is_linked(key, waker)),
        }
    }

    /// Leaves the waker; hands back the one that it replaces.
    fn register(&mut self, core: &mut Core, socket: SocketId, waker: Waker) -> Option<Waker> {
        match self {
            Self::Slot(direction) => core.readiness.register(socket, *direction, waker),
            Self::List(Some(key), _) => core.readiness.relink(*key, waker),
            Self::List(key, interest) => {
                **key = core.readiness.link(socket, *interest, waker);
                None
            }
        }
    }
}

/// What a task found that tried to take the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Leased {
    /// Frames, which the engine has seen.
    Frames,
    /// Nothing, or somebody else held it.
    Nothing,
}

/// How a turn of the crank ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Turned {
    /// There is more to do at once.
    Busy,
    /// There is nothing to do before the next event or deadline.
    Idle,
    /// A task holds the lease: it, or a look in a millisecond, takes care of what arrives.
    LeftToLease,
}

enum Attempt<R> {
    Done(io::Result<R>),
    Blocked { parked: bool },
}

/// Marks the calling thread as the one that cranks `shard`: its calls leave output to the turn. Undone on drop.
#[derive(Debug)]
pub(crate) struct Cranking {
    previous: usize,
}

impl Cranking {
    /// Marks the thread.
    pub(crate) fn new(shard: &Shard) -> Self {
        Self { previous: CRANKED.replace(std::ptr::from_ref(shard).addr()) }
    }
}

impl Drop for Cranking {
    fn drop(&mut self) {
        CRANKED.set(self.previous);
    }
}

thread_local! {
    /// The address of the shard that this thread cranks, else zero.
    static CRANKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Wakes the driver when a panic has poisoned the core, so that it can wake everybody else.
struct PanicNotice<'a>(&'a Notifier);

impl Drop for PanicNotice<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.notify();
        }
    }
}

/// How long the driver leaves the device to a task that took the lease and has not parked since: what other tasks' frames may wait at worst.
pub(super) const LEASE_PATIENCE: Duration = Duration::from_millis(1);

/// How often a link that is down is looked at: no frame announces its return.
const LINK_POLL: Duration = Duration::from_millis(100);

/// Batches that the driver takes before it looks at the clock and at its other work.
const BATCHES_MAX: usize = 8;

/// Times that a call takes the lease before it parks.
const LEASES_MAX: usize = 4;

/// Rounds of loopback traffic that a call carries before it leaves the rest to the driver.
const ROUNDS_MAX: usize = 64;

/// Packets that a call hands to the sink, its own and others', before it leaves the rest to the driver.
const PASSED_MAX: usize = 256;

/// Batches that a call flushes, its own and others', before it leaves the rest to the driver.
const FLUSHES_MAX: usize = 16;
