//! What a segment costs from the application to the wire and back, two engines on a wire that copies nothing but what a device would.
//!
//! A round is a send, its frames, their arrival, a read, and the acknowledgments' way back. MTU frames and super-frames differ only in the
//! link's facts.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use synfin::proto::{Checksum, Cidr, Config, Engine, Frame, Instant, Link, Medium, SocketId, TxFrame};

/// Two hosts and one connection.
struct Pair {
    now: Instant,
    hosts: [Engine; 2],
    sockets: [SocketId; 2],
    frames: Vec<TxFrame>,
    bytes: Vec<u8>,
}

impl Pair {
    fn new(link: Link) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut hosts = [1, 2].map(|index: u8| {
            let mut engine = Engine::new(Config::default(), [index; 32], now);
            engine.set_link(now, Some(link));
            engine.add_address(now, format!("10.0.0.{index}/24").parse::<Cidr>().expect("a literal"));
            engine
        });
        let remote: SocketAddr = "10.0.0.2:7".parse().expect("a literal");
        let listener = hosts[1].listen(now, remote, 1).expect("a free port");
        let client = hosts[0].connect(now, remote, None, None).expect("a route");
        let mut pair = Self { now, hosts, sockets: [client; 2], frames: Vec::new(), bytes: Vec::new() };
        pair.settle();
        pair.sockets[1] = pair.hosts[1].accept(now, listener).expect("a connection").0;
        pair
    }

    fn deliver(&mut self, to: usize, frame: &TxFrame) {
        self.bytes.clear();
        self.bytes.extend_from_slice(frame.header());
        frame.views().iter().for_each(|view| self.bytes.extend_from_slice(view));
        let frame = Frame { checksum: Checksum::Partial, segment_size: frame.segment_size, ..Frame::borrowed(&self.bytes) };
        self.hosts[to].receive(self.now, frame);
    }

    fn settle(&mut self) {
        let mut idle = 0;
        for from in [0, 1].into_iter().cycle() {
            let mut frames = std::mem::take(&mut self.frames);
            let _ = self.hosts[from].transmit(self.now, &mut frames);
            idle = if frames.is_empty() { idle + 1 } else { 0 };
            frames.drain(..).for_each(|frame| self.deliver(1 - from, &frame));
            self.frames = frames;
            if idle == 2 {
                return;
            }
        }
    }

    fn round(&mut self, data: &[u8], buffer: &mut [u8]) {
        let [client, server] = self.sockets;
        let mut sent = 0;
        while sent < data.len() {
            sent += self.hosts[0].send(self.now, client, &data[sent..]).unwrap_or(0);
            self.settle();
            while let Ok(1..) = self.hosts[1].recv(self.now, server, buffer) {}
            self.settle();
        }
        self.now = self.now + Duration::from_micros(30);
        self.hosts.iter_mut().for_each(|host| host.advance(self.now));
        self.hosts.iter_mut().for_each(|host| while host.next_signal().is_some() {});
    }
}

fn mtu() -> Link {
    Link::new(Medium::Ip, 1500).with_trusted_partial(true)
}

fn rounds(criterion: &mut Criterion) {
    let (data, mut buffer) = (vec![3; 256 << 10], vec![0; 256 << 10]);
    let mut group = criterion.benchmark_group("engine/round");
    for (name, link, len) in [
        ("1 B, there", mtu(), 1),
        ("256 KiB in MTU frames", mtu(), 256 << 10),
        ("256 KiB in super-frames", mtu().with_segmentation(true), 256 << 10),
    ] {
        let mut pair = Pair::new(link);
        (0..200).for_each(|_| pair.round(&data, &mut buffer));
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(name, |bencher| bencher.iter(|| pair.round(black_box(&data[..len]), &mut buffer)));
    }
    group.finish();
}

/// One direction at a time: what the sender, the receiver and the taker of an acknowledgment each spend.
fn steps(criterion: &mut Criterion) {
    let (data, mut buffer) = (vec![3; 64_000], vec![0; 64_000]);
    for (name, link) in [("MTU frame", mtu()), ("super-frame", mtu().with_segmentation(true))] {
        let warm = |data: &[u8], buffer: &mut [u8]| {
            let mut pair = Pair::new(link);
            (0..50).for_each(|_| pair.round(data, buffer));
            pair
        };
        let len = if name == "MTU frame" { 1448 } else { 62_264 };
        let mut pair = warm(&data, &mut buffer);
        let [client, server] = pair.sockets;
        let cell = std::cell::RefCell::new(&mut pair);
        criterion.bench_function(&format!("engine/send/{name}"), |bencher| {
            bencher.iter_batched(
                || {
                    let pair = &mut **cell.borrow_mut();
                    let mut frames = std::mem::take(&mut pair.frames);
                    frames.drain(..).for_each(|frame| pair.deliver(1, &frame));
                    pair.frames = frames;
                    pair.round(&data[..1448], &mut [0; 65_536]);
                },
                |()| {
                    let pair = &mut **cell.borrow_mut();
                    let written = pair.hosts[0].send(pair.now, client, &data[..len]);
                    let _ = pair.hosts[0].transmit(pair.now, &mut pair.frames);
                    written
                },
                BatchSize::PerIteration,
            );
        });
        let mut pair = warm(&data, &mut buffer);
        let cell = std::cell::RefCell::new((&mut pair, vec![0; 64_000]));
        criterion.bench_function(&format!("engine/receive and read/{name}"), |bencher| {
            bencher.iter_batched(
                || {
                    let pair = &mut *cell.borrow_mut().0;
                    pair.round(&data[..1448], &mut [0; 65_536]);
                    pair.hosts[0].send(pair.now, client, &data[..len]).expect("room");
                    let _ = pair.hosts[0].transmit(pair.now, &mut pair.frames);
                    pair.frames.remove(0)
                },
                |frame| {
                    let (pair, buffer) = &mut *cell.borrow_mut();
                    pair.deliver(1, &frame);
                    pair.hosts[1].recv(pair.now, server, buffer)
                },
                BatchSize::PerIteration,
            );
        });
    }
}

criterion_group!(benches, rounds, steps);
criterion_main!(benches);
