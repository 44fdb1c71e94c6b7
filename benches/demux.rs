//! Finding one connection among many: an acknowledgment that changes nothing, for a connection chosen by turns.
//!
//! The cost of the acknowledgment itself is the figure at one connection; what is more than that, is the lookup and its cache misses.

use std::net::SocketAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use synfin::proto::wire::ip::{HEADER_LEN_MAX, protocol};
use synfin::proto::wire::{Address, Flags, IpHeader, OptionLayout, Segment, SeqNum, tcp};
use synfin::proto::{Checksum, Cidr, Config, Engine, Frame, Instant, Link, Medium};

/// A segment of a peer as a bare IP packet whose TCP checksum was verified elsewhere.
fn packet(source: SocketAddr, destination: SocketAddr, segment: &Segment) -> Vec<u8> {
    let segment = Segment { source_port: source.port(), destination_port: destination.port(), ..*segment };
    let mut header = [0; tcp::HEADER_LEN_MAX];
    let len = segment.emit(OptionLayout::Linux, &mut header);
    let (source, destination) = (Address::new(source.ip()), Address::new(destination.ip()));
    let ip = IpHeader { source, destination, protocol: protocol::TCP, hop_limit: 64, traffic_class: 0 };
    let mut out = [0; HEADER_LEN_MAX];
    let ip_len = ip.emit(0, len, &mut out);
    [&out[..ip_len], &header[..len]].concat()
}

fn receive(engine: &mut Engine, now: Instant, bytes: &[u8]) {
    engine.receive(now, Frame { checksum: Checksum::Verified, ..Frame::borrowed(bytes) });
}

fn lookups(criterion: &mut Criterion) {
    for connections in [1u32, 1000, 100_000] {
        let now = Instant::from_nanos(1_000_000_000);
        let mut engine = Engine::new(Config::default(), [1; 32], now);
        engine.set_link(now, Some(Link::new(Medium::Ip, 1500)));
        engine.add_address(now, "10.0.0.1/8".parse::<Cidr>().expect("a literal"));
        let local: SocketAddr = "10.0.0.1:7".parse().expect("a literal");
        let listener = engine.listen(now, local, 16).expect("a free port");
        let mut acks = Vec::new();
        let mut frames = Vec::new();
        for index in 0..connections {
            let peer = SocketAddr::new(std::net::Ipv4Addr::from(0x0a01_0000 + index).into(), 4000);
            let syn = Segment { flags: Flags::SYN, window: 1000, ..Segment::default() };
            receive(&mut engine, now, &packet(peer, local, &syn));
            let _ = engine.transmit(now, &mut frames);
            let header = frames.pop().expect("a SYN,ACK").header()[20..].to_vec();
            let (answer, _) = Segment::parse(&header).expect("our own");
            let ack = Segment { seq: SeqNum(1), ack: answer.seq + 1, flags: Flags::ACK, ..syn };
            acks.push(packet(peer, local, &ack));
            receive(&mut engine, now, &acks[index as usize]);
            engine.accept(now, listener).expect("a connection");
        }
        let mut turn = 0;
        criterion.bench_function(&format!("demux/{connections} connections"), |bencher| {
            bencher.iter(|| {
                turn = (turn + 7919) % acks.len();
                receive(&mut engine, now, &acks[turn]);
                let _ = engine.transmit(now, &mut frames);
            });
        });
    }
}

criterion_group!(benches, lookups);
criterion_main!(benches);
