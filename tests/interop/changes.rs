//! An interface that changes under a transfer in both directions: what arrives is what was sent. One that is removed ends every connection.

use std::collections::VecDeque;
use std::hash::Hasher;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use futures::{AsyncReadExt, AsyncWriteExt};
use siphasher::sip::SipHasher13;
use synfin::device::namespace::{self, Switch, Veth};
use synfin::device::{Device, Receiver, Transmitter};
use synfin::proto::{Config, DropReason, TxFrame};

use crate::lab::{KERNEL, Lab, Opened, Wire, accept_from_kernel, wait_for};
use crate::transfer::{Source, Sum, kernel_receives};

/// Bytes that each side has received at least before the first change, and after the last.
const PART: usize = 2 << 20;

#[test]
fn a_transfer_outlives_a_hundred_flaps() {
    namespace::test("changes::a_transfer_outlives_a_hundred_flaps", || {
        let lab = Lab::open();
        // A flap may outlast whatever is left of a burst, so that nothing passes before the last: only the end counts.
        transfer_during(&lab, |veth| {
            for _ in 0..100 {
                veth.down("syn1").expect("it is up");
                std::thread::sleep(Duration::from_millis(2));
                veth.up("syn1").expect("it is down");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    });
}

#[test]
fn a_transfer_goes_on_with_offloads_switched() {
    namespace::test("changes::a_transfer_goes_on_with_offloads_switched", || {
        let lab = Lab::open();
        let passed = transfer_during(&lab, |veth| {
            for switch in [Switch::Off, Switch::On].into_iter().cycle().take(20) {
                for name in ["syn0", "syn1"] {
                    veth.set_offloads(name, switch).expect("veth has them");
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        assert!(passed > 0, "data passed meanwhile");
        let drops = lab.stack.stats().expect("the stack lives").engine.drops;
        assert_eq!(drops.of(DropReason::BadTcpChecksum), 0);
        assert_eq!(kernel_checksum_errors(), 0);
    });
}

#[test]
fn frames_fit_an_mtu_that_was_lowered_and_raised() {
    namespace::test("changes::frames_fit_an_mtu_that_was_lowered_and_raised", || {
        let longest = Arc::new(AtomicUsize::new(0));
        let lab = Lab::with(Wire::Veth, Config::default(), |device| Measured { device, longest: Arc::clone(&longest) });
        let longest_is = |what: &str, is_so: &dyn Fn(usize) -> bool| {
            wait_for(what, || {
                longest.store(0, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
                is_so(longest.load(Ordering::Relaxed))
            });
        };
        transfer_during(&lab, |veth| {
            longest_is("packets of 1500 bytes", &|len| len == 1500);
            for mtu in [600, 1500, 1280, 576, 1500] {
                // The kernel's own packets must fit first.
                ["syn0", "syn1"].into_iter().for_each(|name| veth.set_mtu(name, mtu).expect("a veth takes it"));
                longest_is(&format!("packets of {mtu} bytes and none above"), &|len| len == usize::from(mtu));
            }
        });
    });
}

#[test]
fn a_removed_interface_ends_whatever_went_over_it() {
    namespace::test("changes::a_removed_interface_ends_whatever_went_over_it", || {
        let lab = Lab::open();
        let listener = block_on(lab.stack.listen("0.0.0.0:80")).expect("a free port");
        let own = block_on(lab.stack.connect("127.0.0.1:80")).expect("the stack's loopback");
        let (own_peer, _) = block_on(listener.accept()).expect("connected");
        let Lab { veth, stack } = lab;
        let (writing, kernel) = accept_from_kernel(&stack).expect("connected");
        let (idle, _idle_kernel) = accept_from_kernel(&stack).expect("connected");
        let writer = std::thread::spawn(move || {
            let (mut writing, mut source) = (writing, Source::new(usize::MAX));
            loop {
                if let Err(error) = block_on(writing.write_all(source.next_block().expect("an endless source"))) {
                    return error;
                }
            }
        });
        let mut kernel_reader = kernel.try_clone().expect("a descriptor");
        std::thread::spawn(move || io::copy(&mut kernel_reader, &mut io::sink()));
        let accepting = std::thread::spawn(move || block_on(listener.accept()).map(drop).map_err(|error| (error, listener)));
        wait_for("a transfer under way", || stack.stats().expect("the stack lives").engine.bytes_out > PART as u64);

        veth.delete().expect("it is there");
        let is_down = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN), "{error}");
        is_down(writer.join().expect("no panic"));
        let (error, listener) = accepting.join().expect("no panic").expect_err("nobody can come any more");
        is_down(error);
        let mut idle = idle;
        is_down(block_on(idle.read(&mut [0; 1])).expect_err("the interface is gone"));
        assert_eq!(block_on(idle.read(&mut [0; 1])).expect("told once"), 0);
        let error = block_on(stack.connect(SocketAddr::new(KERNEL[0], 7))).expect_err("no way there");
        assert_eq!(error.raw_os_error(), Some(libc::ENETUNREACH), "{error}");
        assert_eq!(block_on(stack.ready()).expect_err("never again").kind(), io::ErrorKind::NetworkDown);
        let stats = stack.stats().expect("the stack lives").engine;
        assert_eq!(stats.aborts_on_link_gone, 2);

        // A namesake is another interface; and what stays within the stack never needed one.
        let _namesake = Veth::create("syn0", "syn1", 1500).expect("another pair of the same names");
        let ((mut own, mut own_peer), mut read) = ((own, own_peer), [0; 5]);
        block_on(own.write_all(b"still")).expect("it never left this host");
        block_on(own_peer.read_exact(&mut read)).expect("sent");
        block_on(stack.connect("127.0.0.1:80")).expect("the stack's loopback");
        block_on(listener.accept()).expect("connected");
    });
}

/// Sends in both directions at once, from before `change` begins until after it has ended, and compares what arrived. Says how many bytes we
/// received during the change.
fn transfer_during(lab: &Lab, change: impl FnOnce(&Veth)) -> u64 {
    let (stream, kernel) = accept_from_kernel(&lab.stack).expect("connected");
    let (mut reader, mut writer) = stream.into_split();
    let (progress, goal) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));

    let mut kernel_writer = kernel.try_clone().expect("a descriptor");
    let is_over = {
        let (progress, goal) = (Arc::clone(&progress), Arc::clone(&goal));
        move || progress.load(Ordering::Relaxed) >= goal.load(Ordering::Relaxed)
    };
    let until = is_over.clone();
    let kernel_sends = std::thread::spawn(move || {
        let sum = send_until(until, |block| kernel_writer.write_all(block))?;
        kernel_writer.shutdown(Shutdown::Write)?;
        Ok::<_, io::Error>(sum)
    });
    let kernel_receives = std::thread::spawn(move || kernel_receives(kernel));
    let we_send = std::thread::spawn(move || {
        let sum = send_until(is_over, |block| block_on(writer.write_all(block)))?;
        block_on(writer.close())?;
        Ok::<_, io::Error>(sum)
    });
    let received = Arc::clone(&progress);
    let we_receive = std::thread::spawn(move || {
        let (mut buffer, mut len, mut hasher) = (vec![0; 1 << 18], 0, SipHasher13::new());
        loop {
            match block_on(reader.read(&mut buffer))? {
                0 => return Ok::<Sum, io::Error>((len, hasher.finish())),
                read => {
                    len += read;
                    hasher.write(&buffer[..read]);
                    received.fetch_add(read as u64, Ordering::Relaxed);
                }
            }
        }
    });

    let part = PART as u64;
    wait_for("a transfer under way", || progress.load(Ordering::Relaxed) > part);
    let before = progress.load(Ordering::Relaxed);
    change(&lab.veth);
    let after = progress.load(Ordering::Relaxed);
    goal.store(after + part, Ordering::Relaxed);
    let join = |thread: std::thread::JoinHandle<io::Result<Sum>>| thread.join().expect("no panic").expect("the connection lives");
    assert_eq!(join(kernel_sends), join(we_receive), "length and hash");
    assert_eq!(join(we_send), join(kernel_receives), "length and hash");
    after - before
}

/// Writes pseudo-random blocks until it is over; says what was written.
fn send_until(is_over: impl Fn() -> bool, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Sum> {
    let (mut source, mut len) = (Source::new(usize::MAX), 0);
    while !is_over() {
        let block = source.next_block().expect("an endless source");
        write(block)?;
        len += block.len();
    }
    Ok((len, source.hasher.finish()))
}

/// Segments that the kernel dropped for their checksum (`InCsumErrors` of /proc/net/snmp).
fn kernel_checksum_errors() -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").expect("the kernel's counters");
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let at = names.split(' ').position(|name| name == "InCsumErrors").expect("a column");
    values.split(' ').nth(at).and_then(|value| value.parse().ok()).expect("a number")
}

/// A packet socket of which is known how long the longest packet was that it would put on a wire.
struct Measured {
    device: Opened,
    longest: Arc<AtomicUsize>,
}

impl Device for Measured {
    fn split(self: Box<Self>) -> (Box<dyn Receiver>, Box<dyn Transmitter>) {
        let (receiver, wire) = Box::new(self.device).split();
        (receiver, Box::new(Meter { wire, longest: self.longest }))
    }
}

struct Meter {
    wire: Box<dyn Transmitter>,
    longest: Arc<AtomicUsize>,
}

impl Transmitter for Meter {
    fn transmit(&mut self, frames: &mut VecDeque<TxFrame>) -> io::Result<()> {
        for frame in frames.iter() {
            let payload_len = match frame.segment_size {
                0 => frame.payload_len(),
                size => frame.payload_len().min(usize::from(size)),
            };
            self.longest.fetch_max(frame.header().len() - usize::from(frame.network_offset) + payload_len, Ordering::Relaxed);
        }
        self.wire.transmit(frames)
    }
}
