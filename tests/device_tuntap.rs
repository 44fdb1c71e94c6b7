//! Stacks over TAP and TUN interfaces against the Linux kernel, in a network namespace of the test's own: both families, both roles, bulk data
//! in super-packets both ways, half-close, and a link that goes down and comes back.

#![expect(clippy::disallowed_methods, reason = "the kernel is the peer, and its time is real")]

use futures::executor::block_on;
use futures::{AsyncReadExt, AsyncWriteExt};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use synfin::Stack;
use synfin::device::namespace::{self, Veth};
use synfin::device::{Counters, Device, Tap, Tun};
use synfin::proto::Medium;

/// How long something may take that usually takes no time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of a transfer: several windows.
const LEN: usize = 4 << 20;

/// The kernel's addresses.
const KERNEL: [&str; 2] = ["10.9.0.1", "fd09::1"];

/// The stack's addresses.
const SYNFIN: [&str; 2] = ["10.9.0.2", "fd09::2"];

#[test]
fn tap_carries_streams_both_ways() {
    namespace::test_with_tun("tap_carries_streams_both_ways", || {
        let tap = Tap::open("syn-tap").expect("a TAP");
        assert_eq!(tap.name(), "syn-tap");
        let Medium::Ethernet(address) = tap.link().medium else { panic!("a TAP is Ethernet") };
        assert_eq!(address.0[0] & 0b11, 0b10, "{address} is local and of one station");
        let counters = tap.counters();
        streams(&Lab::open("syn-tap", tap, counters));
    });
}

#[test]
fn tun_carries_streams_both_ways() {
    namespace::test_with_tun("tun_carries_streams_both_ways", || {
        let tun = Tun::open("syn-tun%d").expect("a TUN");
        assert_eq!((tun.name(), tun.link().medium), ("syn-tun0", Medium::Ip));
        let counters = tun.counters();
        streams(&Lab::open("syn-tun0", tun, counters));
    });
}

#[test]
fn connection_outlives_a_link_that_goes_down() {
    namespace::test_with_tun("connection_outlives_a_link_that_goes_down", || {
        let tun = Tun::open("syn-tun").expect("a TUN");
        let counters = tun.counters();
        let lab = Lab::open("syn-tun", tun, counters);
        let (mut stream, mut kernel) = lab.accept(0);
        lab.veth.down("syn-tun").expect("it is up");
        block_on(stream.write_all(b"late")).expect("room in the send buffer");
        let start = Instant::now();
        while lab.counters.snapshot().link_down == 0 {
            assert!(start.elapsed() < PATIENCE, "the frame was never lost");
            std::thread::yield_now();
        }
        lab.veth.up("syn-tun").expect("it is down");
        let mut read = [0; 4];
        kernel.read_exact(&mut read).expect("it is sent again");
        assert_eq!(&read, b"late");
    });
}

#[test]
fn removed_interface_ends_its_connections() {
    namespace::test_with_tun("removed_interface_ends_its_connections", || {
        let tun = Tun::open("syn-tun").expect("a TUN");
        let counters = tun.counters();
        let lab = Lab::open("syn-tun", tun, counters);
        let (mut stream, _kernel) = lab.accept(0);
        let reading = std::thread::spawn(move || block_on(stream.read(&mut [0; 1])).expect_err("the interface is gone"));
        lab.veth.remove("syn-tun").expect("it is there");
        assert_eq!(reading.join().expect("no panic").raw_os_error(), Some(libc::ENETDOWN));
        assert_eq!(block_on(lab.stack.ready()).expect_err("never again").kind(), std::io::ErrorKind::NetworkDown);
    });
}

#[test]
fn errors_name_the_remedy() {
    namespace::test_with_tun("errors_name_the_remedy", || {
        let _first = Tap::open("syn-tap").expect("a TAP");
        let error = Tap::open("syn-tap").expect_err("it is taken");
        assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
        assert!(error.to_string().contains("ip -details link show syn-tap"), "{error}");
        assert_eq!(Tap::open("a/b").expect_err("no name").kind(), std::io::ErrorKind::InvalidInput);
    });
}

/// The kernel's TCP on an interface, ours behind it.
struct Lab {
    /// Changes the interface; the pair itself is not used.
    veth: Veth,
    stack: Stack,
    counters: Arc<Counters>,
}

impl Lab {
    fn open(name: &str, device: impl Device, counters: Arc<Counters>) -> Self {
        let veth = Veth::create("unused0", "unused1", 1500).expect("a pair");
        let stack = Stack::builder().device(device).address("10.9.0.2/24").address("fd09::2/64").start().expect("a stack");
        // In this order: a link that comes up later is noticed.
        veth.up(name).expect("it is there");
        veth.address(name, "10.9.0.1/24").expect("an address");
        veth.address(name, "fd09::1/64").expect("an address");
        block_on(stack.ready()).expect("the link is up");
        Self { veth, stack, counters }
    }

    /// A connection of the kernel's to a listener of the stack's.
    fn accept(&self, family: usize) -> (synfin::net::TcpStream, TcpStream) {
        let listener = block_on(self.stack.listen(address(SYNFIN[family], 0))).expect("a listener");
        let to = listener.local_addr().expect("bound");
        let kernel = std::thread::spawn(move || TcpStream::connect_timeout(&to, PATIENCE).expect("accepted"));
        let (stream, _) = block_on(listener.accept()).expect("a connection");
        (stream, patient(kernel.join().expect("no panic")))
    }

    /// A connection of the stack's to a listener of the kernel's.
    fn connect(&self, family: usize) -> (synfin::net::TcpStream, TcpStream) {
        let listener = TcpListener::bind(address(KERNEL[family], 0)).expect("the kernel's address");
        let stream = block_on(self.stack.connect(listener.local_addr().expect("bound"))).expect("accepted");
        (stream, patient(listener.accept().expect("connected").0))
    }
}

/// Both families and roles: each end sends, closes its half, and reads what the other has sent, to its end.
fn streams(lab: &Lab) {
    for family in [0, 1] {
        let before = lab.counters.snapshot();
        exchange(lab.accept(family));
        exchange(lab.connect(family));
        let after = lab.counters.snapshot();
        assert!(after.sent_super > before.sent_super, "the stack sent nothing in one piece: {after:?}");
        assert!(after.received_super > before.received_super, "the kernel sent nothing in one piece: {after:?}");
        assert_eq!((after.cut, after.refused, after.oversize, after.malformed, after.truncated), (0, 0, 0, 0, 0));
    }
}

fn exchange((mut stream, mut kernel): (synfin::net::TcpStream, TcpStream)) {
    block_on(stream.write_all(b"echo")).expect("connected");
    let mut echo = [0; 4];
    kernel.read_exact(&mut echo).expect("sent");
    kernel.write_all(&echo).expect("connected");
    block_on(stream.read_exact(&mut echo)).expect("sent back");
    assert_eq!(&echo, b"echo");

    let sent = pattern(251);
    let expected = sent.clone();
    let kernel_end = std::thread::spawn(move || {
        let mut read = Vec::new();
        kernel.read_to_end(&mut read).expect("to the end of the stream");
        assert!(read == expected, "what the kernel read is what the stack sent");
        // The other half is still open.
        kernel.write_all(&pattern(241)).expect("half open");
        kernel.shutdown(Shutdown::Write).expect("open");
    });
    block_on(async {
        stream.write_all(&sent).await.expect("connected");
        stream.close().await.expect("open");
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.expect("to the end of the stream");
        assert!(read == pattern(241), "what the stack read is what the kernel sent");
    });
    kernel_end.join().expect("no panic");
}

fn pattern(modulus: usize) -> Vec<u8> {
    (0..LEN).map(|at| u8::try_from(at % modulus).expect("below 256")).collect()
}

fn address(ip: &str, port: u16) -> SocketAddr {
    (ip.parse::<IpAddr>().expect("an address"), port).into()
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}
