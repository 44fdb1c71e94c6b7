//! What a connection costs, counted by the allocator itself: nothing per segment, next to nothing while idle, and no more under a flood.
//!
//! A binary of its own, since its allocator counts. The tests take turns under one lock; what other threads allocate is not counted.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait; this one passes every call on and counts it")]

#[path = "support/effort.rs"]
mod effort;
#[path = "support/packet.rs"]
mod packet;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use synfin::proto::wire::{Flags, Options, Segment, SeqNum};
use synfin::proto::{
    Checksum, Cidr, Config, Engine, Frame, FrameBytes, Instant, Link, Medium, Sink, SocketId, SocketOption, State, SynCookies, TxFrame, cut,
};

use crate::effort::count;

/// The system's allocator, with a count of calls and of bytes held, per thread.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

fn note(calls: u64, bytes: i64) {
    CALLS.set(CALLS.get() + calls);
    HELD.set(HELD.get() + bytes);
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches two integers and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller keeps GlobalAlloc's contract, which is passed on.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, signed(layout.size()));
        // SAFETY: the same layout, from a caller who keeps the contract.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller keeps GlobalAlloc's contract, which is passed on.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, -signed(layout.size()));
        // SAFETY: the pointer came from the same allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    // SAFETY: the caller keeps GlobalAlloc's contract, which is passed on.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, signed(size) - signed(layout.size()));
        // SAFETY: the pointer came from the same allocator with this layout; the new size is the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: floods and measurements do not mix.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Allocations and bytes of heap growth while `work` runs.
fn measured<T>(work: impl FnOnce() -> T) -> (u64, i64, T) {
    let (calls, held) = (CALLS.get(), HELD.get());
    let result = work();
    (CALLS.get() - calls, HELD.get() - held, result)
}

/// A sink that keeps its memory.
struct Outbox(Vec<TxFrame>);

impl Sink for Outbox {
    fn has_room(&self) -> bool {
        self.0.len() < self.0.capacity()
    }

    fn push(&mut self, frame: TxFrame) {
        self.0.push(frame);
    }
}

/// Two hosts joined without loss or delay, in buffers that are used again and again.
struct Pair {
    now: Instant,
    hosts: [Engine; 2],
    outbox: Outbox,
    /// Frames on their way, each in a buffer of the size that devices use.
    pool: Vec<Bytes>,
    /// Heap growth and allocations inside the calls to each host.
    growth: [i64; 2],
    calls: [u64; 2],
}

impl Pair {
    fn new(segmentation: bool) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let host = |index: u8| {
            let mut config = Config::default();
            config.backlog_max = 65_535;
            config.half_open_capacity = 65_536;
            let mut engine = Engine::new(config, [index; 32], now);
            engine.set_link(now, Some(Link::new(Medium::Ip, 1500).with_segmentation(segmentation).with_trusted_partial(true)));
            engine.add_address(now, format!("10.0.0.{index}/24").parse::<Cidr>().expect("a test sets this up"));
            engine
        };
        Self { now, hosts: [host(1), host(2)], outbox: Outbox(Vec::with_capacity(512)), pool: Vec::new(), growth: [0; 2], calls: [0; 2] }
    }

    /// A call to one host, whose allocations are that host's.
    fn at<T>(&mut self, index: usize, call: impl FnOnce(&mut Engine, Instant) -> T) -> T {
        let (now, host) = (self.now, &mut self.hosts[index]);
        let (calls, held, result) = measured(|| call(host, now));
        self.growth[index] += held;
        self.calls[index] += calls;
        result
    }

    /// Carries frames until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            let mut idle = true;
            for from in 0..2 {
                let mut outbox = std::mem::replace(&mut self.outbox, Outbox(Vec::new()));
                let _ = self.at(from, |host, now| host.transmit(now, &mut outbox));
                for frame in outbox.0.drain(..) {
                    idle = false;
                    let checksum = if frame.transport_offset > 0 { Checksum::Partial } else { Checksum::Unknown };
                    let segment_size = frame.segment_size;
                    let bytes = self.buffer(&frame);
                    drop(frame);
                    let lent = bytes.clone();
                    self.at(1 - from, |host, now| host.receive(now, Frame { bytes: FrameBytes::Owned(lent), checksum, segment_size }));
                    self.pool.push(bytes);
                }
                self.outbox = outbox;
            }
            if idle {
                return;
            }
        }
    }

    /// The frame in a buffer that nobody uses any more, or in a new one.
    fn buffer(&mut self, frame: &TxFrame) -> Bytes {
        let free = self.pool.iter().position(Bytes::is_unique);
        let mut bytes = free.map(|at| self.pool.swap_remove(at)).and_then(|bytes| bytes.try_into_mut().ok()).unwrap_or_else(|| {
            let mut bytes = BytesMut::with_capacity(69_632);
            bytes.resize(1, 0);
            bytes
        });
        bytes.clear();
        bytes.extend_from_slice(frame.header());
        frame.views().iter().for_each(|view| bytes.extend_from_slice(view));
        bytes.freeze()
    }

    fn connect(&mut self, listener: SocketId, remote: SocketAddr) -> (SocketId, SocketId) {
        let client = self.at(0, |host, now| host.connect(now, remote, None, None)).expect("a test sets this up");
        self.settle();
        let (server, _) = self.at(1, |host, now| host.accept(now, listener)).expect("a test sets this up");
        (client, server)
    }

    fn listen(&mut self) -> (SocketId, SocketAddr) {
        let local: SocketAddr = "10.0.0.2:7".parse().expect("a test sets this up");
        (self.at(1, |host, now| host.listen(now, local, 65_535)).expect("a test sets this up"), local)
    }

    /// Sends `total` bytes from host 0 and reads them at host 1.
    fn bulk(&mut self, (client, server): (SocketId, SocketId), total: usize, data: &[u8], buffer: &mut [u8]) {
        let (mut sent, mut received) = (0, 0);
        while received < total {
            let left = &data[..data.len().min(total - sent)];
            if let Ok(written) = self.at(0, |host, now| host.send(now, client, left)) {
                sent += written;
            }
            self.settle();
            while let Ok(read @ 1..) = self.at(1, |host, now| host.recv(now, server, buffer)) {
                received += read;
            }
            self.settle();
            self.tick(Duration::from_micros(50));
        }
    }

    /// One byte there and back.
    fn ping(&mut self, (client, server): (SocketId, SocketId)) {
        let mut byte = [7];
        self.at(0, |host, now| host.send(now, client, &byte)).expect("a test sets this up");
        self.settle();
        self.at(1, |host, now| host.recv(now, server, &mut byte)).expect("a test sets this up");
        self.at(1, |host, now| host.send(now, server, &byte)).expect("a test sets this up");
        self.settle();
        self.at(0, |host, now| host.recv(now, client, &mut byte)).expect("a test sets this up");
        self.tick(Duration::from_micros(20));
    }

    fn tick(&mut self, duration: Duration) {
        self.now = self.now + duration;
        for index in 0..2 {
            self.at(index, |host, now| host.advance(now));
            while self.at(index, |host, _| host.next_signal()).is_some() {}
        }
    }
}

#[test]
fn the_allocator_counts() {
    let _alone = alone();
    let (calls, held, kept) = measured(|| vec![0u8; 1000]);
    assert_eq!((calls, held), (1, 1000));
    assert_eq!(measured(|| drop(kept)).1, -1000);
}

#[test]
fn the_steady_state_allocates_nothing() {
    let _alone = alone();
    let (data, mut buffer) = (vec![5; 256 << 10], vec![0; 256 << 10]);
    for segmentation in [true, false] {
        let mut pair = Pair::new(segmentation);
        let (listener, remote) = pair.listen();
        let connection = pair.connect(listener, remote);
        pair.bulk(connection, 64 << 20, &data, &mut buffer);
        pair.calls = [0; 2];
        let total = usize::try_from(count(64, 1024)).expect("small") << 20;
        pair.bulk(connection, total, &data, &mut buffer);
        // Without super-packets a piece of the receive queue is one small frame, and the list of pieces grows and goes.
        let allowed = total as u64 >> if segmentation { 18 } else { 16 };
        let calls: u64 = pair.calls.iter().sum();
        println!("bulk, segmentation {segmentation}: {} + {} allocations for {} MiB", pair.calls[0], pair.calls[1], total >> 20);
        assert!(calls <= allowed, "{calls} allocations for {} MiB", total >> 20);
        // Every slot of the timer wheel is used once, so that it has room.
        for pause in [Duration::from_millis(400), Duration::from_millis(1)] {
            for _ in 0..2000 {
                pair.ping(connection);
                pair.tick(pause);
            }
        }
        pair.calls = [0; 2];
        (0..10_000).for_each(|_| pair.ping(connection));
        println!("ping-pong: {} + {} allocations for 10,000 rounds", pair.calls[0], pair.calls[1]);
        assert_eq!(pair.calls, [0; 2], "allocations in 10,000 rounds of ping-pong");
    }
}

#[test]
fn delayed_acknowledgments_leave_no_timers_behind() {
    let _alone = alone();
    let mut pair = Pair::new(false);
    let (listener, remote) = pair.listen();
    let connection @ (client, server) = pair.connect(listener, remote);
    pair.hosts[1].set_option(pair.now, server, SocketOption::Keepalive(true));
    pair.ping(connection);
    pair.growth = [0; 2];
    for _ in 0..10_000 {
        let mut byte = [1];
        pair.at(0, |host, now| host.send(now, client, &byte)).expect("a test sets this up");
        pair.settle();
        pair.at(1, |host, now| host.recv(now, server, &mut byte)).expect("a test sets this up");
        pair.tick(Duration::from_millis(45));
        pair.settle();
    }
    println!("delayed acknowledgments: {:?} bytes of growth", pair.growth);
    assert!(pair.growth.iter().all(|growth| *growth < 8192), "{:?} bytes of growth", pair.growth);
}

#[test]
fn an_idle_connection_costs_less_than_a_kibibyte() {
    let _alone = alone();
    let connections = 10_000;
    let bytes = usize::try_from(count(64 << 10, 1 << 20)).expect("small");
    let (data, mut buffer) = (vec![5; 64 << 10], vec![0; 64 << 10]);
    let mut pair = Pair::new(true);
    let (listener, remote) = pair.listen();
    // The pools, tables and wheels that every stack has are there before the first connection counts.
    let first = pair.connect(listener, remote);
    pair.bulk(first, 16 << 20, &data, &mut buffer);
    pair.growth = [0; 2];
    for _ in 0..connections {
        let connection = pair.connect(listener, remote);
        pair.bulk(connection, bytes, &data, &mut buffer);
    }
    for _ in 0..200 {
        pair.tick(Duration::from_millis(10));
        pair.settle();
    }
    let [client, server] = pair.growth.map(|growth| growth / connections);
    println!("idle: {client} bytes per connection at the client, {server} at the server");
    assert_eq!(pair.hosts[1].socket_count(), 10_002);
    assert!(client <= 1024 && server <= 1024, "{client} bytes at the client, {server} at the server");
}

/// R4987-1.
#[test]
fn ten_thousand_spoofed_syns_leave_memory_flat() {
    let _alone = alone();
    flood(SynCookies::Off);
    flood(SynCookies::UnderPressure);
}

fn flood(syn_cookies: SynCookies) {
    let now = Instant::from_nanos(1_000_000_000);
    let mut config = Config::default();
    config.syn_cookies = syn_cookies;
    let mut engine = Engine::new(config, [4; 32], now);
    engine.set_link(now, Some(Link::new(Medium::Ip, 1500)));
    engine.add_address(now, "10.0.0.1/8".parse::<Cidr>().expect("a test sets this up"));
    let local: SocketAddr = "10.0.0.1:7".parse().expect("a test sets this up");
    let listener = engine.listen(now, local, 4096).expect("a test sets this up");
    let mut outbox = Outbox(Vec::with_capacity(64));
    let mut syn = |engine: &mut Engine, at: u32| {
        let source = SocketAddr::new(std::net::Ipv4Addr::from(0x0a01_0000 + at).into(), 1000);
        let options = Options { mss: Some(1460), window_scale: Some(7), ..Options::default() };
        let segment = Segment { seq: SeqNum(at), flags: Flags::SYN, window: 1000, options, ..Segment::default() };
        let frame = packet::packet(source, local, &segment, &[]);
        engine.receive(now, Frame::borrowed(&frame));
        let _ = engine.transmit(now, &mut outbox);
        let complete = |mut frame: TxFrame| {
            cut::complete(&mut frame);
            frame.to_vec()
        };
        outbox.0.drain(..).map(complete).next()
    };
    let capacity = engine.config().half_open_capacity;
    (0..4000).for_each(|at| drop(syn(&mut engine, at)));
    let (_, growth, ()) = measured(|| (4000..14_000).for_each(|at| drop(syn(&mut engine, at))));
    let half_open = |engine: &Engine| engine.netstat(now).iter().filter(|row| row.state == State::SynReceived).count();
    println!("flood: {growth} bytes of growth, {} half-open", half_open(&engine));
    assert!(growth <= 4096, "10,000 SYNs made memory grow by {growth} bytes");
    assert_eq!(half_open(&engine), capacity);

    let last_ack = |engine: &mut Engine, at: u32, answer: &[u8]| {
        let (_, answer, _) = packet::parse(answer);
        let source = SocketAddr::new(std::net::Ipv4Addr::from(0x0a01_0000 + at).into(), 1000);
        let ack = Segment { seq: SeqNum(at + 1), ack: answer.seq + 1, flags: Flags::ACK, window: 1000, ..Segment::default() };
        engine.receive(now, Frame::borrowed(&packet::packet(source, local, &ack, &[])));
    };

    // Without cookies a full cache refuses in silence; with them it serves during the flood.
    let answer = syn(&mut engine, 50_001);
    assert_eq!(answer.is_some(), syn_cookies == SynCookies::UnderPressure);
    let [drops, cookies] = [engine.stats().listen_drops, engine.stats().syn_cookies_sent];
    assert_eq!((drops >= 10_000, cookies >= 10_000), (answer.is_none(), answer.is_some()));
    if let Some(answer) = answer {
        last_ack(&mut engine, 50_001, &answer);
        assert!(engine.accept(now, listener).is_ok());
    }

    // Once the flood has timed out, everybody is served as usual.
    let later = now + Duration::from_secs(60);
    while let Some(at) = engine.deadline().filter(|at| *at <= later) {
        engine.advance(at);
        let mut sent = Vec::new();
        let _ = engine.transmit(at, &mut sent);
    }
    assert_eq!(half_open(&engine), 0);
    let answer = syn(&mut engine, 50_000).expect("a SYN,ACK");
    last_ack(&mut engine, 50_000, &answer);
    assert!(engine.accept(later, listener).is_ok());
}
