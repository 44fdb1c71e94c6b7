//! SYN floods from a wire: a generator on the kernel's end of a veth pair, a listener of ours at the other, and clients of the kernel's that
//! want to be served meanwhile (RFC 4987). Counts only: the times are in `cargo bench --bench flood`.

#![expect(clippy::disallowed_methods, reason = "the kernel is the peer, and its time is real")]

#[path = "support/effort.rs"]
mod effort;
#[path = "support/flood.rs"]
mod flood;
#[path = "support/packet.rs"]
mod packet;
#[path = "support/rng.rs"]
mod rng;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use synfin::Stack;
use synfin::device::namespace::{self, Veth};
use synfin::proto::{Config, State, SynCookies};

use crate::effort::count;
use crate::flood::{Flood, Served, echo, kernel_client, resident, serve};

const TARGET: &str = "10.9.0.2:80";

/// A stack at one end of a wire, with a listener that echoes lines; the kernel at the other.
struct Lab {
    _veth: Veth,
    stack: Stack,
    target: SocketAddr,
}

impl Lab {
    fn open(config: Config) -> Self {
        let veth = Veth::create("syn0", "syn1", 1500).expect("a pair");
        veth.address("syn0", "10.9.0.1/24").expect("an address");
        let builder = Stack::builder().interface("syn1").address("10.9.0.2/24").gateway("10.9.0.1").config(config);
        let stack = builder.start().expect("a stack");
        block_on(stack.ready()).expect("the link is up");
        let listener = block_on(stack.listen(TARGET)).expect("nobody else is there");
        thread::spawn(move || block_on(echo(listener)));
        Self { _veth: veth, stack, target: TARGET.parse().expect("a literal") }
    }

    /// Floods the listener while `clients` are served; says how they were, and how many SYNs left.
    fn flood(&self, rate: u64, clients: u32, time: Duration) -> (Served, u64) {
        let mut flood = Flood::open("syn0", "syn1", self.target).expect("a packet socket");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let generator = scope.spawn(|| flood.run(rate, &stop));
            let served = serve(clients, time, || kernel_client(self.target));
            stop.store(true, Ordering::Relaxed);
            (served, generator.join().expect("no panic").expect("the wire takes them"))
        })
    }

    fn half_open(&self) -> usize {
        let rows = self.stack.netstat().expect("the stack lives");
        rows.iter().filter(|row| row.state == State::SynReceived).count()
    }
}

/// R4987-1. Everybody is served, each SYN is seen, and memory stays where it was.
#[test]
fn everybody_is_served_during_a_flood() {
    namespace::test("everybody_is_served_during_a_flood", || {
        let lab = Lab::open(Config::default());
        lab.flood(20_000, 20, Duration::from_millis(300));
        let (before, seen_before) = (resident(), lab.stack.stats().expect("it lives").engine.syns_in);
        let clients = u32::try_from(count(200, 500)).expect("few");
        let (served, sent) = lab.flood(20_000, clients, Duration::from_millis(count(1200, 3100)));
        let grown = resident().saturating_sub(before);
        assert!(served.failures.is_empty(), "{:?}", served.failures);
        assert_eq!(served.times.len(), clients as usize);
        thread::sleep(Duration::from_millis(200));
        let stats = lab.stack.stats().expect("it lives");
        let seen = stats.engine.syns_in - seen_before - u64::from(clients);
        assert!(sent >= count(10_000, 60_000) && seen * 10 >= sent * 9, "{seen} of {sent} SYNs were seen");
        assert!(grown <= 2 << 20, "{grown} bytes more are in use");
        assert!(lab.half_open() <= Config::default().half_open_capacity);
        assert!(stats.engine.syn_cookies_sent > 0 && stats.engine.syn_cookies_received > 0, "cookies were needed");
    });
}

/// Without cookies the half-open connections are as many as there is room for, and are to be seen.
#[test]
fn without_cookies_the_table_fills_to_its_bound() {
    namespace::test("without_cookies_the_table_fills_to_its_bound", || {
        let mut config = Config::default();
        config.syn_cookies = SynCookies::Off;
        config.half_open_capacity = 256;
        let lab = Lab::open(config);
        lab.flood(20_000, 0, Duration::ZERO);
        let mut flood = Flood::open("syn0", "syn1", lab.target).expect("a packet socket");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| flood.run(20_000, &stop));
            for _ in 0..10 {
                thread::sleep(Duration::from_millis(50));
                assert!(lab.half_open() <= 256);
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(lab.half_open(), 256);
        assert!(lab.stack.stats().expect("it lives").engine.listen_drops > 1000, "the others are counted");
    });
}
