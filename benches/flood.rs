//! Connections and bulk during a SYN flood, ours beside the kernel's in one run: over a veth pair in a network namespace of the benchmark's own.
//!
//! ```text
//!   listener flooded   clients that are timed     SYNs leave from
//!   ours, on syn1      the kernel's, on syn0      a packet socket on syn0
//!   the kernel's       ours, on syn1              a packet socket on syn1
//!
//! cargo bench --bench flood              # SYNFIN_SECONDS=1 for shorter turns, SYNFIN_PAIRS=5 for more of them
//! ```
//!
//! Both rows have the same two stacks and the same wire, with the roles changed. Each figure is the median of several turns that alternate.
//! A client connects, has a line echoed and closes, 500 times in a turn. `cookies` are SYNs that were answered without state.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../tests/support/flood.rs"]
mod flood;
#[path = "../tests/support/packet.rs"]
mod packet;
#[path = "../tests/support/rng.rs"]
mod rng;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::{AsyncReadExt, AsyncWriteExt};
use synfin::Stack;
use synfin::device::namespace::{self, Veth};

use crate::flood::{Flood, LINE, echo, kernel_client, resident, serve};

/// SYNs per second; without any for comparison.
const RATES: [u64; 3] = [0, 20_000, 100_000];

/// Connections in a turn.
const CLIENTS: u32 = 500;

/// Bytes of one write or read in bulk.
const BLOCK_LEN: usize = 1 << 17;

/// Where the listeners are, ours first.
const OURS: &str = "10.9.0.2:80";
const KERNELS: &str = "10.9.0.1:80";

/// Whose listener is flooded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flooded {
    Ours,
    Kernels,
}

struct Lab {
    stack: Stack,
    turn: Duration,
    _veth: Veth,
}

/// What one turn gave.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    served: usize,
    /// Microseconds: the median, the 99th percentile, the longest.
    times: [f64; 3],
    sent: u64,
    cookies: u64,
    grown: u64,
}

impl Lab {
    fn open(turn: Duration) -> io::Result<Self> {
        let veth = Veth::create("syn0", "syn1", 1500)?;
        veth.address("syn0", "10.9.0.1/24")?;
        let stack = Stack::builder().interface("syn1").address("10.9.0.2/24").gateway("10.9.0.1").start()?;
        block_on(stack.ready())?;
        // The kernel answers spoofed sources by way of us, as we do by way of it.
        let status = Command::new("ip").args(["route", "add", "default", "via", "10.9.0.2"]).status()?;
        if !status.success() {
            return Err(io::Error::other("`ip route add default` failed; is iproute2 there?"));
        }
        let ours = block_on(stack.listen(OURS))?;
        thread::spawn(move || block_on(echo(ours)));
        let kernels = std::net::TcpListener::bind(KERNELS)?;
        thread::spawn(move || kernels.incoming().flatten().for_each(|stream| drop(kernel_echo(stream))));
        Ok(Self { stack, turn, _veth: veth })
    }

    fn flood(&self, flooded: Flooded) -> io::Result<Flood> {
        match flooded {
            Flooded::Ours => Flood::open("syn0", "syn1", address(OURS)),
            Flooded::Kernels => Flood::open("syn1", "syn0", address(KERNELS)),
        }
    }

    fn cookies(&self, flooded: Flooded) -> io::Result<u64> {
        match flooded {
            Flooded::Ours => Ok(self.stack.stats()?.engine.syn_cookies_sent),
            Flooded::Kernels => kernel_counter("SyncookiesSent"),
        }
    }

    /// Runs `body` during a flood; says how many SYNs left, too.
    fn during<T>(&self, flooded: Flooded, rate: u64, body: impl FnOnce() -> T) -> io::Result<(T, u64)> {
        let (mut flood, stop) = (self.flood(flooded)?, AtomicBool::new(false));
        thread::scope(|scope| {
            let generator = scope.spawn(|| flood.run(rate, &stop));
            thread::sleep(Duration::from_millis(200));
            let value = body();
            stop.store(true, Ordering::Relaxed);
            Ok((value, generator.join().expect("no panic")?))
        })
    }

    fn connects(&self, flooded: Flooded, rate: u64) -> io::Result<Figures> {
        let (cookies, before) = (self.cookies(flooded)?, resident());
        let (served, sent) = self.during(flooded, rate, || match flooded {
            Flooded::Ours => serve(CLIENTS, self.turn, || kernel_client(address(OURS))),
            Flooded::Kernels => serve(CLIENTS, self.turn, || block_on(our_client(&self.stack))),
        })?;
        served.failures.iter().take(3).for_each(|failure| println!("  not served: {failure}"));
        let at = |part: usize| served.times.get((served.times.len() * part / 100).min(served.times.len() - 1));
        let times = [50, 99, 100].map(|part| at(part).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6));
        let grown = resident().saturating_sub(before);
        Ok(Figures { served: served.times.len(), times, sent, cookies: self.cookies(flooded)? - cookies, grown })
    }

    /// Bytes per second into the flooded listener's host, without a flood and with one.
    fn bulk(&self, flooded: Flooded, rate: u64) -> io::Result<[f64; 2]> {
        let (bytes, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            match flooded {
                Flooded::Ours => {
                    let listener = block_on(self.stack.listen("10.9.0.2:0"))?;
                    let kernel = std::net::TcpStream::connect(listener.local_addr()?)?;
                    let ours = block_on(listener.accept())?.0;
                    scope.spawn(|| kernel_source(kernel, &stop));
                    scope.spawn(|| block_on(our_sink(ours, &bytes)));
                }
                Flooded::Kernels => {
                    let listener = std::net::TcpListener::bind("10.9.0.1:0")?;
                    let ours = block_on(self.stack.connect(listener.local_addr()?))?;
                    let kernel = listener.accept()?.0;
                    scope.spawn(|| block_on(our_source(ours, &stop)));
                    scope.spawn(|| kernel_sink(kernel, &bytes));
                }
            }
            thread::sleep(Duration::from_millis(300));
            let rate_now = || {
                let (before, start) = (bytes.load(Ordering::Relaxed), Instant::now());
                thread::sleep(self.turn / 2);
                (bytes.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64()
            };
            let calm = rate_now();
            let flooded = self.during(flooded, rate, rate_now);
            stop.store(true, Ordering::Relaxed);
            Ok([calm, flooded?.0])
        })
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("a literal")
}

fn kernel_echo(mut stream: std::net::TcpStream) -> io::Result<()> {
    let mut line = vec![0; LINE.len()];
    stream.read_exact(&mut line)?;
    stream.write_all(&line)
}

async fn our_client(stack: &Stack) -> io::Result<()> {
    let mut stream = stack.connect(KERNELS).await?;
    AsyncWriteExt::write_all(&mut stream, LINE).await?;
    let mut line = vec![0; LINE.len()];
    AsyncReadExt::read_exact(&mut stream, &mut line).await
}

fn kernel_source(mut stream: std::net::TcpStream, stop: &AtomicBool) {
    let block = vec![7; BLOCK_LEN];
    while !stop.load(Ordering::Relaxed) && stream.write_all(&block).is_ok() {}
}

fn kernel_sink(mut stream: std::net::TcpStream, bytes: &AtomicU64) {
    let mut block = vec![0; BLOCK_LEN];
    while let Ok(read @ 1..) = stream.read(&mut block) {
        bytes.fetch_add(read as u64, Ordering::Relaxed);
    }
}

async fn our_source(mut stream: synfin::net::TcpStream, stop: &AtomicBool) {
    let block = vec![7; BLOCK_LEN];
    while !stop.load(Ordering::Relaxed) && AsyncWriteExt::write_all(&mut stream, &block).await.is_ok() {}
}

async fn our_sink(mut stream: synfin::net::TcpStream, bytes: &AtomicU64) {
    let mut block = vec![0; BLOCK_LEN];
    while let Ok(read @ 1..) = AsyncReadExt::read(&mut stream, &mut block).await {
        bytes.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// One of the kernel's counters below `TcpExt`.
fn kernel_counter(name: &str) -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/net/netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let found = names.split(' ').zip(values.split(' ')).find(|(known, _)| *known == name);
    found.and_then(|(_, value)| value.parse().ok()).ok_or_else(|| io::Error::other(format!("the kernel counts no {name}")))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn inside(turn: Duration, pairs: usize) -> io::Result<()> {
    let lab = Lab::open(turn)?;
    for flooded in [Flooded::Ours, Flooded::Kernels] {
        lab.connects(flooded, 20_000)?;
    }
    println!(
        "{:>9} {:<8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "SYN/s", "flooded", "served", "us p50", "us p99", "us max", "SYNs", "cookies", "KiB more"
    );
    for rate in RATES {
        let mut turns = [Vec::new(), Vec::new()];
        for _ in 0..pairs {
            turns[0].push(lab.connects(Flooded::Ours, rate)?);
            turns[1].push(lab.connects(Flooded::Kernels, rate)?);
        }
        for (name, turns) in ["ours", "kernel's"].iter().zip(&turns) {
            let of = |figure: fn(&Figures) -> f64| median(turns.iter().map(figure).collect());
            let served: usize = turns.iter().map(|turn| turn.served).sum();
            let all = CLIENTS as usize * turns.len();
            let times =
                [of(|turn| turn.times[0]), of(|turn| turn.times[1]), of(|turn| turn.times[2])].map(|time| format!("{time:>9.0}")).join(" ");
            let (sent, cookies, grown) =
                (of(|turn| turn.sent as f64), of(|turn| turn.cookies as f64), of(|turn| turn.grown as f64 / 1024.0));
            println!("{rate:>9} {name:<8} {:>9} {times} {sent:>9.0} {cookies:>9.0} {grown:>9.0}", format!("{served}/{all}"));
        }
    }
    println!("\nbulk into the flooded host, Gbit/s: calm, at 20,000 SYN/s, what is left");
    for (name, flooded) in [("ours", Flooded::Ours), ("kernel's", Flooded::Kernels)] {
        let turns = (0..pairs).map(|_| lab.bulk(flooded, 20_000)).collect::<io::Result<Vec<_>>>()?;
        let [calm, busy] = [0, 1].map(|at| median(turns.iter().map(|turn| turn[at] * 8e-9).collect()));
        println!("  {name:<8} {calm:>7.2} {busy:>7.2} {:>5.0} %", 100.0 * busy / calm);
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let number = |name: &str, default: f64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (turn, pairs) = (Duration::from_secs_f64(number("SYNFIN_SECONDS", 3.0)), number("SYNFIN_PAIRS", 3.0).max(1.0) as usize);
    if namespace::is_inside() {
        return inside(turn, pairs);
    }
    println!("medians of {pairs} turns of {turn:?} each");
    match namespace::run_inside(std::env::args_os().skip(1)) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(io::Error::other(format!("inside the namespace: {status}"))),
        Err(forbidden) => {
            println!("no veth: {forbidden}");
            Ok(())
        }
    }
}
