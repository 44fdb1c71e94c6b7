//! A SYN flood that no stack takes part in: frames made by hand, from random sources behind a router, out of a packet socket at a steady rate.
//! And what is measured beside it: connections that have a line echoed, and the memory of this process.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use synfin::device::{Device, PacketSocket, Receiver, Transmitter};
use synfin::proto::wire::{Flags, Options, Segment, SeqNum, Timestamps};
use synfin::proto::{Medium, TxFrame};

use crate::packet;
use crate::rng::Rng;

/// Frames that leave before the clock is read again.
const BATCH_LEN: u64 = 64;

/// How long the generator sleeps when it is ahead.
const PAUSE: Duration = Duration::from_micros(300);

/// A source of SYNs on an interface.
pub(crate) struct Flood {
    wire: Box<dyn Transmitter>,
    /// Keeps the socket's link known; nothing is read from it.
    _receiver: Box<dyn Receiver>,
    ethernet: [u8; 14],
    target: SocketAddr,
    rng: Rng,
}

impl Flood {
    /// From the interface `from` to the one at the other end of its wire, `to`, for the listener at `target`.
    pub(crate) fn open(from: &str, to: &str, target: SocketAddr) -> io::Result<Self> {
        let mut ethernet = [0; 14];
        ethernet[..6].copy_from_slice(&mac(to)?);
        ethernet[6..12].copy_from_slice(&mac(from)?);
        ethernet[12..].copy_from_slice(&[0x08, 0]);
        let (receiver, wire) = Box::new(PacketSocket::open(from, &[])?).split();
        let mut flood = Self { wire, _receiver: receiver, ethernet, target, rng: Rng::new(11) };
        // A flood of malformed frames would prove nothing.
        let (_, syn, _) = packet::parse(&flood.syn().to_vec()[flood.ethernet.len()..]);
        assert_eq!((syn.flags, syn.destination_port), (Flags::SYN, target.port()));
        Ok(flood)
    }

    /// Sends `rate` SYNs per second until `stop` is set, and says how many there were.
    pub(crate) fn run(&mut self, rate: u64, stop: &AtomicBool) -> io::Result<u64> {
        let start = Instant::now();
        let (mut sent, mut frames) = (0, VecDeque::new());
        while !stop.load(Ordering::Relaxed) {
            let due = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_mul(rate) / 1_000_000;
            let count = due.saturating_sub(sent).min(BATCH_LEN);
            if count == 0 {
                std::thread::sleep(PAUSE);
                continue;
            }
            frames.extend((0..count).map(|_| self.syn()));
            while let Err(full) = self.wire.transmit(&mut frames) {
                if full.kind() != io::ErrorKind::WouldBlock {
                    return Err(full);
                }
                std::thread::yield_now();
            }
            sent += count;
        }
        Ok(sent)
    }

    /// A SYN from anywhere in 198.18.0.0/15.
    fn syn(&mut self) -> TxFrame {
        let chance = self.rng.next_u64();
        let address = Ipv4Addr::from_bits(0xc612_0000 | (chance as u32 & 0x1_ffff).max(1));
        let port = u16::try_from(self.rng.between(1024, 65_535)).expect("a port");
        let mss = Some(self.rng.pick(&[1460, 1440, 1380, 536]));
        let timestamps = self.rng.chance(500).then_some(Timestamps { value: 7, echo: 0 });
        let options = Options { mss, window_scale: Some(7), sack_permitted: true, timestamps, ..Options::default() };
        let syn = Segment { seq: SeqNum((chance >> 32) as u32), flags: Flags::SYN, window: 64_240, options, ..Segment::default() };
        let mut frame = TxFrame::new();
        frame.put_header(&self.ethernet);
        frame.put_header(&packet::packet(SocketAddr::new(IpAddr::V4(address), port), self.target, &syn, &[]));
        frame.network_offset = 14;
        frame
    }
}

fn mac(interface: &str) -> io::Result<[u8; 6]> {
    let (mut receiver, _) = Box::new(PacketSocket::open(interface, &[])?).split();
    match receiver.link().0.medium {
        Medium::Ethernet(address) => Ok(address.0),
        Medium::Ip => Err(io::Error::other("no Ethernet")),
    }
}

/// What the clients saw.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// From before the connect to the line's return, in ascending order.
    pub(crate) times: Vec<Duration>,
    pub(crate) failures: Vec<io::Error>,
}

/// Lets `client` connect, have a line echoed and close, `count` times, evenly over `time`.
pub(crate) fn serve(count: u32, time: Duration, mut client: impl FnMut() -> io::Result<()>) -> Served {
    let mut served = Served::default();
    let start = Instant::now();
    for at in 0..count {
        std::thread::sleep((time * at / count).saturating_sub(start.elapsed()));
        let begun = Instant::now();
        match client() {
            Ok(()) => served.times.push(begun.elapsed()),
            Err(error) => served.failures.push(error),
        }
    }
    served.times.sort_unstable();
    served
}

/// The memory of this process that is in RAM, in bytes.
pub(crate) fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// The line that is echoed.
pub(crate) const LINE: &[u8] = b"the quick brown fox\n";

/// A client of the kernel's.
pub(crate) fn kernel_client(address: SocketAddr) -> io::Result<()> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(LINE)?;
    let mut line = vec![0; LINE.len()];
    stream.read_exact(&mut line)?;
    if line == LINE { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Echoes a line to each that connects to a listener of ours, one after the other.
pub(crate) async fn echo(listener: synfin::net::TcpListener) -> io::Result<()> {
    use futures::{AsyncReadExt, AsyncWriteExt};
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut line = vec![0; LINE.len()];
        if stream.read_exact(&mut line).await.is_ok() {
            let _ = stream.write_all(&line).await;
        }
    }
}
