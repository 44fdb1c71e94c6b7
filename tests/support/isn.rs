//! Where a host's sequence numbers begin, found out by asking: a SYN shows the number of an active open, the SYN,ACK of a passive one.
//!
//! Initial sequence numbers are a keyed hash of the 4-tuple plus a clock of 4.096 µs ticks (RFC 6528). The hash cannot be chosen, but the
//! epoch from which a host counts time can: probed once, any number is so many ticks away. Thus a wrap of the sequence space is reached
//! without a hook in the core.

use std::net::SocketAddr;

use synfin::proto::wire::ip::{HEADER_LEN_MAX as IP_LEN_MAX, protocol};
use synfin::proto::wire::{Address, Flags, IpHeader, OptionLayout, Segment, SeqNum, Sum, tcp};
use synfin::proto::{Cidr, Config, Engine, Frame, Instant, Link, Medium};

/// Nanoseconds per sequence number of the clock.
const TICK: u64 = 4096;

/// The least epoch: late enough that the host's clock never stands near zero.
const EPOCH: u64 = 1 << 40;

/// The epoch from which a host must count so that its connection from `local` to `remote`, opened `delay_ns` after the epoch, begins at `wanted`.
pub(crate) fn epoch_for(secret: [u8; 32], ends: (SocketAddr, SocketAddr), opening: Opening, wanted: SeqNum, delay_ns: u64) -> Instant {
    let found = probe(secret, ends, opening);
    let ticks = u64::from(wanted - found);
    Instant::from_nanos((EPOCH + ticks * TICK).saturating_sub(delay_ns))
}

/// Who sends the SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Active,
    Passive,
}

/// The initial sequence number of a connection that opens at [`EPOCH`].
fn probe(secret: [u8; 32], (local, remote): (SocketAddr, SocketAddr), opening: Opening) -> SeqNum {
    let now = Instant::from_nanos(EPOCH);
    let mut engine = Engine::new(Config::default(), secret, now);
    engine.set_link(now, Some(Link::new(Medium::Ip, 1500)));
    let prefix = if local.is_ipv4() { 24 } else { 64 };
    engine.add_address(now, format!("{}/{prefix}", local.ip()).parse::<Cidr>().expect("a test sets this up"));
    match opening {
        Opening::Active => drop(engine.connect(now, remote, Some(local), None).expect("a test sets this up")),
        Opening::Passive => {
            engine.listen(now, local, 1).expect("a test sets this up");
            engine.receive(now, Frame::borrowed(&syn(remote, local)));
        }
    }
    let mut frames = Vec::new();
    let _ = engine.transmit(now, &mut frames);
    let bytes = frames.first().expect("a SYN or a SYN,ACK").to_vec();
    let (_, payload) = IpHeader::parse(&bytes).expect("a test sets this up");
    Segment::parse(&bytes[payload]).expect("a test sets this up").0.seq
}

/// A SYN as a bare IP packet.
fn syn(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let segment =
        Segment { source_port: source.port(), destination_port: destination.port(), flags: Flags::SYN, window: 1024, ..Segment::default() };
    let mut header = [0; tcp::HEADER_LEN_MAX];
    let len = segment.emit(OptionLayout::Linux, &mut header);
    let (from, to) = (Address::new(source.ip()), Address::new(destination.ip()));
    let sum = Sum::pseudo_header(from, to, protocol::TCP, 20) + Sum::of(&header[..len]);
    header[tcp::CHECKSUM_OFFSET..tcp::CHECKSUM_OFFSET + 2].copy_from_slice(&sum.complete());
    let ip = IpHeader { source: from, destination: to, protocol: protocol::TCP, hop_limit: 64, traffic_class: 0 };
    let mut out = [0; IP_LEN_MAX];
    let ip_len = ip.emit(0, len, &mut out);
    [&out[..ip_len], &header[..len]].concat()
}
