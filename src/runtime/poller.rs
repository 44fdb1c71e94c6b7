//! How whoever drives a shard sleeps and is woken: the only user of the operating system's readiness queue.
//!
//! A descriptor is polled for reading while it is *armed*, for writing only while the device is full. Armed for both at all times, an
//! AF_PACKET socket would wake its poller for every frame sent.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Token};

use super::sync::{Arc, Lock};

/// The sleeper's side.
#[derive(Debug)]
pub(crate) struct Poller {
    poll: mio::Poll,
    events: mio::Events,
    notifier: Arc<Notifier>,
}

/// The other side: wakes the sleeper, and says what of the descriptor may wake it.
#[derive(Debug)]
pub(crate) struct Notifier {
    waker: mio::Waker,
    notified: AtomicBool,
    registry: mio::Registry,
    descriptor: Lock<Option<Armed>>,
}

/// What a descriptor may wake the sleeper for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Armed {
    descriptor: RawFd,
    readable: bool,
    writable: bool,
}

/// Why the sleeper woke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Woken {
    /// The descriptor became writable, or somebody notified.
    pub(crate) writable: bool,
}

impl Poller {
    /// Opens a readiness queue.
    pub(crate) fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let notifier = Notifier {
            waker: mio::Waker::new(poll.registry(), NOTIFIED)?,
            notified: AtomicBool::new(false),
            registry: poll.registry().try_clone()?,
            descriptor: Lock::new(None),
        };
        Ok(Self { poll, events: mio::Events::with_capacity(EVENTS_MAX), notifier: Arc::new(notifier) })
    }

    /// The other side.
    pub(crate) fn notifier(&self) -> Arc<Notifier> {
        Arc::clone(&self.notifier)
    }

    /// Sleeps until a notification, an event of the descriptor, or `timeout` (`None`: for ever), which is rounded up to a millisecond.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Woken> {
        if let Err(error) = self.poll.poll(&mut self.events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        self.notifier.notified.store(false, Ordering::SeqCst);
        let writable = self.events.iter().any(|event| event.token() == NOTIFIED || event.is_writable());
        Ok(Woken { writable })
    }
}

impl Notifier {
    /// Ends the sleep, or the next one if nobody sleeps. Notifications that were not yet seen count as one.
    pub(crate) fn notify(&self) {
        if !self.notified.swap(true, Ordering::SeqCst) {
            // The queue's own wake-up cannot fail while the queue exists: its counter is reset when it is full.
            _ = self.waker.wake();
        }
    }

    /// Polls this descriptor from now on.
    pub(crate) fn watch(&self, descriptor: RawFd) -> io::Result<()> {
        let mut armed = self.descriptor.lock()?;
        self.registry.register(&mut SourceFd(&descriptor), DEVICE, Interest::READABLE)?;
        *armed = Some(Armed { descriptor, readable: true, writable: false });
        Ok(())
    }

    /// Lets frames wake the sleeper; those that wait already do so at once.
    pub(crate) fn arm_readable(&self) -> io::Result<()> {
        self.rearm(|armed| Armed { readable: true, ..armed })
    }

    /// Lets no frame wake the sleeper.
    pub(crate) fn disarm_readable(&self) -> io::Result<()> {
        self.rearm(|armed| Armed { readable: false, ..armed })
    }

    /// Lets room in the device wake the sleeper; room that is there already does so at once.
    pub(crate) fn arm_writable(&self) -> io::Result<()> {
        self.rearm(|armed| Armed { writable: true, ..armed })
    }

    /// Room in the device wakes nobody.
    pub(crate) fn disarm_writable(&self) -> io::Result<()> {
        self.rearm(|armed| Armed { writable: false, ..armed })
    }

    fn rearm(&self, change: impl FnOnce(Armed) -> Armed) -> io::Result<()> {
        let mut slot = self.descriptor.lock()?;
        let Some(old) = *slot else { return Ok(()) };
        let new = change(old);
        if new != old {
            let mut source = SourceFd(&new.descriptor);
            match (old.interest(), new.interest()) {
                (Some(_), Some(interest)) => self.registry.reregister(&mut source, DEVICE, interest)?,
                (None, Some(interest)) => self.registry.register(&mut source, DEVICE, interest)?,
                (Some(_), None) => self.registry.deregister(&mut source)?,
                (None, None) => {}
            }
            *slot = Some(new);
        }
        Ok(())
    }
}

impl Armed {
    fn interest(self) -> Option<Interest> {
        match (self.readable, self.writable) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        }
    }
}

const NOTIFIED: Token = Token(0);
const DEVICE: Token = Token(1);

/// Two sources, with room to spare.
const EVENTS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    const SOON: Option<Duration> = Some(Duration::ZERO);
    const LONG: Option<Duration> = Some(Duration::from_secs(10));

    fn descriptor_events(poller: &mut Poller) -> usize {
        poller.wait(SOON).expect("a poll");
        poller.events.iter().filter(|event| event.token() == DEVICE).count()
    }

    #[test]
    fn a_notification_before_the_sleep_ends_it() {
        let mut poller = Poller::new().expect("a queue");
        let notifier = poller.notifier();
        notifier.notify();
        notifier.notify();
        assert!(poller.wait(LONG).expect("a poll").writable);
        assert!(!poller.wait(SOON).expect("a poll").writable, "two notifications count as one");
    }

    #[test]
    fn a_disarmed_descriptor_wakes_nobody_and_arming_it_recalls_what_waits() {
        let mut poller = Poller::new().expect("a queue");
        let notifier = poller.notifier();
        let (mut ours, mut theirs) = UnixStream::pair().expect("a pair");
        notifier.watch(ours.as_raw_fd()).expect("registered");
        assert_eq!(descriptor_events(&mut poller), 0);
        notifier.disarm_readable().expect("deregistered");
        theirs.write_all(b"x").expect("written");
        assert_eq!(descriptor_events(&mut poller), 0);
        notifier.arm_readable().expect("registered");
        assert_eq!(descriptor_events(&mut poller), 1);
        assert_eq!(descriptor_events(&mut poller), 0, "an edge comes once");
        notifier.arm_writable().expect("reregistered");
        assert!(poller.wait(SOON).expect("a poll").writable);
        ours.read_exact(&mut [0]).expect("read");
    }
}
