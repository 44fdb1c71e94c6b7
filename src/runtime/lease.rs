//! The lease: a task that finds nothing to read drains the device itself, instead of sleeping until a thread has done it.
//!
//! Handing a frame from one thread to another costs two context switches; taking it on the thread that waits for it costs none. After the
//! device is found empty the task may spin for a moment, if arrivals of late came within such a moment. Then it parks, and the driver's
//! thread watches the device again.

use std::sync::atomic::Ordering;

use super::port::{Port, ReceiveSide};
use super::shard::{Leased, Output, Shard};
use super::spin::SPIN_MAX;
use super::sync::Dead;
use crate::proto::Instant;

impl Shard {
    /// Receives on the calling thread if nobody else does.
    pub(crate) fn lease(&self, port: &Port) -> Result<Leased, Dead> {
        let Some(mut side) = port.receive.try_lock()? else { return Ok(Leased::Nothing) };
        let start = self.now();
        port.leased_at.store(start.as_nanos(), Ordering::Relaxed);
        port.parked.store(false, Ordering::Relaxed);
        self.counters.leases.add(1);
        let mut frames = self.receive_batch(&mut side, Output::Now)?.frames;
        if frames == 0 && self.may_spin() && side.spin.is_worthwhile() {
            frames = self.spin(&mut side, start)?;
        }
        if frames == 0 {
            side.spin.on_park(start);
            return Ok(Leased::Nothing);
        }
        side.spin.on_arrival(self.now());
        Ok(Leased::Frames)
    }

    /// The task is about to park: the driver's thread watches the device again, if it had stopped.
    pub(crate) fn end_lease(&self, port: &Port) {
        port.parked.store(true, Ordering::SeqCst);
        if port.missed.swap(false, Ordering::SeqCst) {
            self.watch_again(port);
        }
    }

    fn spin(&self, side: &mut ReceiveSide, start: Instant) -> Result<usize, Dead> {
        self.counters.spins.add(1);
        loop {
            let frames = self.receive_batch(side, Output::Now)?.frames;
            if frames > 0 {
                self.counters.spins_paid.add(1);
                return Ok(frames);
            }
            if self.now() - start >= SPIN_MAX {
                side.spin.on_barren(start);
                return Ok(0);
            }
            std::hint::spin_loop();
        }
    }
}
