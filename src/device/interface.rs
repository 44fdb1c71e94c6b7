//! What a packet socket and a TUN/TAP descriptor have in common: the header before a frame, frames in, an answer to every error of the
//! system's, and facts about the link that are refreshed now and then. How bytes get in and out is theirs.

use super::sys::mmsg::Arrival;
use super::{Counters, Received, network_down, virtio};
use crate::proto::{Checksum, Link, TxFrame};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What stands before a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// A virtio-net header: checksums may be partial, super-packets go whole.
    Virtio,
    /// Nothing: frames go out complete, and one segment at a time. Nothing tells a partial checksum from a bad one.
    Plain,
}

/// What both halves of a device share.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) framing: Framing,
    /// An error said that the facts about the link have changed.
    pub(super) is_stale: AtomicBool,
    pub(super) counters: Arc<Counters>,
    /// The error numbers that say that the interface is down or gone.
    fallen: &'static [libc::c_int],
}

impl Interface {
    /// An interface whose descriptor answers with one of `fallen` while it is down or gone.
    pub(super) fn new(framing: Framing, fallen: &'static [libc::c_int]) -> Self {
        Self { framing, is_stale: AtomicBool::new(false), counters: Arc::default(), fallen }
    }

    /// True for the errors that say that the interface is down or gone.
    pub(super) fn is_link_down(&self, error: &io::Error) -> bool {
        error.raw_os_error().is_some_and(|errno| self.fallen.contains(&errno))
    }

    /// Takes one frame out of the system's queue, as [`Receiver::receive`](super::Receiver::receive) says. `read` fills the bytes before the
    /// frame and appends the frame to the buffer.
    pub(super) fn receive(
        &self,
        buffer: &mut BytesMut,
        read: impl Fn(&mut [u8], &mut BytesMut) -> io::Result<Arrival>,
    ) -> io::Result<Received> {
        // Each turn of the loop takes a frame out of the queue, so that it ends with the queue.
        loop {
            match self.receive_raw(buffer, &read) {
                Ok(Some(received)) => return Ok(received),
                Ok(None) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    // The frame is gone: the kernel had no virtio header for it.
                    self.counters.malformed.add(1);
                }
                Err(error) if self.is_link_down(&error) => {
                    self.is_stale.store(true, Ordering::Relaxed);
                    return Err(network_down());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// One frame with what its header says; none for one that was dropped and counted.
    fn receive_raw(
        &self,
        buffer: &mut BytesMut,
        read: impl Fn(&mut [u8], &mut BytesMut) -> io::Result<Arrival>,
    ) -> io::Result<Option<Received>> {
        let before = buffer.len();
        let mut header = [0; virtio::HEADER_LEN];
        let front = match self.framing {
            Framing::Virtio => &mut header[..],
            Framing::Plain => &mut [],
        };
        let front_len = front.len();
        let arrival = read(front, buffer)?;
        if arrival.is_truncated || arrival.len <= front_len {
            let counter = if arrival.is_truncated { &self.counters.truncated } else { &self.counters.malformed };
            counter.add(1);
            buffer.truncate(before);
            return Ok(None);
        }
        let received = match self.framing {
            Framing::Virtio => virtio::decode(header),
            Framing::Plain => Received { checksum: Checksum::Unknown, segment_size: 0 },
        };
        self.counters.on_received(arrival.len - front_len, received.segment_size);
        Ok(Some(received))
    }

    /// Acts on an error about the frame at the front; passes on what the runtime must act on.
    pub(super) fn on_error(&self, frames: &mut VecDeque<TxFrame>, error: io::Error) -> io::Result<()> {
        let counters = &self.counters;
        match error.raw_os_error() {
            Some(libc::EINTR) => return Ok(()),
            Some(libc::EAGAIN) => {
                counters.link_full.add(1);
                return Err(error);
            }
            Some(libc::ENOBUFS | libc::ENOMEM) => counters.no_buffer.add(1),
            _ if self.is_link_down(&error) => {
                counters.link_down.add(frames.len() as u64);
                frames.clear();
                self.is_stale.store(true, Ordering::Relaxed);
                return Err(network_down());
            }
            errno => {
                let counter = if errno == Some(libc::EMSGSIZE) { &counters.oversize } else { &counters.refused };
                counter.add(1);
                self.is_stale.store(true, Ordering::Relaxed);
            }
        }
        frames.pop_front();
        Ok(())
    }
}

/// The facts about a link, and when to ask for them again.
#[derive(Debug)]
pub(super) struct Watch {
    link: Link,
    version: u64,
    turns: u64,
}

impl Watch {
    /// Begins with `link`.
    pub(super) const fn new(link: Link) -> Self {
        Self { link, version: 0, turns: 0 }
    }

    /// The facts and their version, as [`Receiver::link`](super::Receiver::link) says.
    pub(super) const fn link(&self) -> (Link, u64) {
        (self.link, self.version)
    }

    /// Counts a turn; true if the facts must be asked for in it.
    pub(super) fn is_due(&mut self, interface: &Interface) -> bool {
        self.turns += 1;
        let is_stale = interface.is_stale.load(Ordering::Relaxed) && interface.is_stale.swap(false, Ordering::Relaxed);
        !self.link.gone && (is_stale || !self.link.up || self.turns.is_multiple_of(REFRESH_TURNS))
    }

    /// Takes over what the system said; `settle` waits until a link that has come up sends.
    pub(super) fn update(&mut self, answer: io::Result<Link>, settle: impl FnOnce()) {
        let link = answer.unwrap_or_else(|error| match error.raw_os_error() {
            Some(libc::ENODEV) => self.link.lost(),
            // Out of reach for now.
            _ => Link { up: false, ..self.link },
        });
        if link != self.link {
            if link.up && !self.link.up {
                settle();
            }
            self.link = link;
            self.version += 1;
        }
    }
}

/// How often the facts are read while nothing is wrong, in turns: a raised MTU or a lost carrier is nowhere else to be seen. While the link
/// is down they are read at each.
const REFRESH_TURNS: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Counts;
    use crate::device::tests::super_frame;
    use crate::proto::Medium;

    const FALLEN: &[libc::c_int] = &[libc::ENETDOWN, libc::EBADFD];

    /// What is left of two frames, what was counted, and what the runtime is told after `errno`.
    fn after(errno: i32) -> (usize, Counts, Option<io::ErrorKind>) {
        let interface = Interface::new(Framing::Virtio, FALLEN);
        let mut frames = VecDeque::from([super_frame(0, 1), super_frame(0, 2)]);
        let answer = interface.on_error(&mut frames, io::Error::from_raw_os_error(errno));
        (frames.len(), interface.counters.snapshot(), answer.err().map(|error| error.kind()))
    }

    #[test]
    fn each_error_of_the_sender_has_its_answer() {
        let none = Counts::default();
        assert_eq!(after(libc::EAGAIN), (2, Counts { link_full: 1, ..none }, Some(io::ErrorKind::WouldBlock)));
        assert_eq!(after(libc::EINTR), (2, none, None));
        assert_eq!(after(libc::ENOBUFS), (1, Counts { no_buffer: 1, ..none }, None));
        assert_eq!(after(libc::ENOMEM), (1, Counts { no_buffer: 1, ..none }, None));
        assert_eq!(after(libc::EMSGSIZE), (1, Counts { oversize: 1, ..none }, None));
        assert_eq!(after(libc::EINVAL), (1, Counts { refused: 1, ..none }, None));
        for errno in FALLEN {
            assert_eq!(after(*errno), (0, Counts { link_down: 2, ..none }, Some(io::ErrorKind::NetworkDown)));
        }
    }

    #[test]
    fn each_error_of_the_receiver_has_its_answer() {
        let interface = Interface::new(Framing::Virtio, FALLEN);
        let answers = std::cell::RefCell::new(VecDeque::from([libc::EINTR, libc::EINVAL, libc::ENETDOWN, libc::EAGAIN, libc::ENOBUFS]));
        let receive = || {
            let read =
                |_: &mut [u8], _: &mut BytesMut| Err(io::Error::from_raw_os_error(answers.borrow_mut().pop_front().expect("an answer")));
            interface.receive(&mut BytesMut::new(), read).expect_err("no frame")
        };
        assert_eq!(receive().kind(), io::ErrorKind::NetworkDown);
        assert_eq!(receive().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(receive().raw_os_error(), Some(libc::ENOBUFS));
        assert_eq!(interface.counters.snapshot(), Counts { malformed: 1, ..Counts::default() });
        assert!(interface.is_stale.load(Ordering::Relaxed));
    }

    #[test]
    fn frames_that_are_of_no_use_are_counted() {
        let interface = Interface::new(Framing::Virtio, FALLEN);
        let arrivals = std::cell::RefCell::new(VecDeque::from([(10, false), (3, false), (100, true), (15, false)]));
        let read = |_: &mut [u8], buffer: &mut BytesMut| {
            let (len, is_truncated) = arrivals.borrow_mut().pop_front().expect("an arrival");
            buffer.extend_from_slice(&vec![7; usize::saturating_sub(len, virtio::HEADER_LEN)]);
            Ok(Arrival { len, is_truncated })
        };
        let mut buffer = BytesMut::from(&b"kept"[..]);
        let received = interface.receive(&mut buffer, read).expect("the last");
        assert_eq!((received.checksum, &buffer[..]), (Checksum::Unknown, &b"kept\x07\x07\x07\x07\x07"[..]));
        let expected = Counts { received_frames: 1, received_bytes: 5, malformed: 2, truncated: 1, ..Counts::default() };
        assert_eq!(interface.counters.snapshot(), expected);
    }

    #[test]
    fn facts_are_asked_for_when_they_may_have_changed() {
        let interface = Interface::new(Framing::Plain, FALLEN);
        let mut watch = Watch::new(Link::new(Medium::Ip, 1500));
        assert_eq!((1..REFRESH_TURNS).filter(|_| watch.is_due(&interface)).count(), 0);
        assert!(watch.is_due(&interface));
        interface.is_stale.store(true, Ordering::Relaxed);
        assert!(watch.is_due(&interface) && !watch.is_due(&interface));

        let gone = || Err(io::Error::from_raw_os_error(libc::ENODEV));
        watch.update(gone(), || panic!("it fell"));
        watch.update(gone(), || panic!("it is down"));
        assert_eq!(watch.link(), (Link::new(Medium::Ip, 1500).lost(), 1));
        assert!(!(1..=REFRESH_TURNS).any(|_| watch.is_due(&interface)), "it never comes back");

        let mut watch = Watch::new(Link::new(Medium::Ip, 1500));
        watch.update(Err(io::ErrorKind::NotFound.into()), || panic!("it fell"));
        assert_eq!((watch.link().0.up, watch.link().0.gone, watch.link().1), (false, false, 1));
        assert!(watch.is_due(&interface) && watch.is_due(&interface), "at each turn while it is down");
        let mut settled = 0;
        watch.update(Ok(Link::new(Medium::Ip, 1400)), || settled += 1);
        assert_eq!((watch.link(), settled), ((Link::new(Medium::Ip, 1400), 2), 1));
    }
}
