//! Round trips and bulk, ours beside the kernel's in one run, so that the ratios mean something on any machine: over the loopbacks, and over a
//! veth pair in a network namespace of the benchmark's own.
//!
//! ```text
//! cargo bench --bench latency            # SYNFIN_SECONDS=2 for longer turns, SYNFIN_PAIRS=9 for more of them
//! ```
//!
//! Each figure is the median of several turns that alternate between the candidates. The kernel uses CUBIC, or Reno where
//! nothing else is allowed.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use synfin::device::namespace::{self, Veth};
use synfin::{Runtime, Stack};

/// Bytes of one write or read in bulk.
const BLOCK_LEN: usize = 1 << 18;

/// Rounds before the clock runs.
const WARM_UP: u32 = 500;

/// The longest round trip that is told from longer ones: ten seconds.
const NANOSECONDS_MAX: u64 = 10_000_000_000;

/// How long a candidate's turn takes, and how many turns it has.
struct Plan {
    turn: Duration,
    pairs: usize,
}

impl Plan {
    fn read() -> Self {
        let number = |name: &str, default: f64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
        Self { turn: Duration::from_secs_f64(number("SYNFIN_SECONDS", 1.0)), pairs: number("SYNFIN_PAIRS", 5.0).max(1.0) as usize }
    }
}

/// What one turn gave: round-trip percentiles in microseconds, or Gbit/s.
type Figures = Vec<f64>;

type Turn<'a> = Box<dyn Fn() -> io::Result<Figures> + 'a>;

/// Lets the candidates take turns, and prints the median of each beside that of the first.
fn compare(title: &str, units: &[&str], plan: &Plan, candidates: &[(&str, Turn<'_>)]) -> io::Result<()> {
    let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); candidates.len()];
    for _ in 0..plan.pairs {
        for ((_, turn), figures) in candidates.iter().zip(&mut figures) {
            figures.push(turn()?);
        }
    }
    println!("\n{title}");
    let medians: Vec<Figures> = figures.iter().map(|turns| (0..units.len()).map(|at| median(turns, at)).collect()).collect();
    for ((name, _), own) in candidates.iter().zip(&medians) {
        let columns: Vec<String> =
            units.iter().zip(own).zip(&medians[0]).map(|((unit, own), first)| format!("{own:>9.2} {unit} (x{:.2})", own / first)).collect();
        println!("  {name:<34} {}", columns.join("  "));
    }
    Ok(())
}

fn median(turns: &[Figures], at: usize) -> f64 {
    let mut values: Vec<f64> = turns.iter().map(|figures| figures[at]).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn percentiles(histogram: &Histogram<u64>) -> Figures {
    [0.5, 0.99, 0.999].map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0).to_vec()
}

fn gbit_per_second(bytes: usize, time: Duration) -> Figures {
    vec![bytes as f64 * 8.0 / time.as_secs_f64() / 1e9]
}

const LATENCY: &[&str] = &["us p50", "us p99", "us p99.9"];
const RATE: &[&str] = &["Gbit/s"];

/// The four roles, for streams of any make: their methods have the same names in tokio and in futures, but not the same traits.
macro_rules! roles {
    ($module:ident, $stream:ty, $read:path, $write:path) => {
        mod $module {
            use super::*;
            use {$read as _, $write as _};

            pub(super) async fn ping(mut stream: $stream, turn: Duration) -> io::Result<Figures> {
                let (mut byte, mut histogram) = ([7], Histogram::new_with_bounds(1, NANOSECONDS_MAX, 3).expect("in order"));
                let (mut rounds, mut end) = (0, Instant::now() + turn);
                loop {
                    let start = Instant::now();
                    stream.write_all(&byte).await?;
                    stream.read_exact(&mut byte).await?;
                    let now = Instant::now();
                    histogram.saturating_record(u64::try_from((now - start).as_nanos()).unwrap_or(u64::MAX));
                    rounds += 1;
                    if rounds == WARM_UP {
                        histogram.reset();
                        end = now + turn;
                    } else if rounds > WARM_UP && now > end {
                        return Ok(percentiles(&histogram));
                    }
                }
            }

            pub(super) async fn pong(mut stream: $stream) -> io::Result<()> {
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() {
                    stream.write_all(&byte).await?;
                }
                Ok(())
            }
        }
    };
}

/// Bulk, likewise.
macro_rules! bulk_roles {
    ($module:ident, $stream:ty, $read:path, $write:path, $close:ident) => {
        mod $module {
            use super::*;
            use {$read as _, $write as _};

            pub(super) async fn source(mut stream: $stream, turn: Duration) -> io::Result<()> {
                let (block, start) = (vec![7; BLOCK_LEN], Instant::now());
                while start.elapsed() < turn {
                    stream.write_all(&block).await?;
                }
                stream.$close().await
            }

            pub(super) async fn sink(mut stream: $stream) -> io::Result<Figures> {
                let (mut block, mut bytes, mut start) = (vec![0; BLOCK_LEN], 0, None);
                loop {
                    let read = stream.read(&mut block).await?;
                    let start = *start.get_or_insert_with(Instant::now);
                    if read == 0 {
                        return Ok(gbit_per_second(bytes, start.elapsed()));
                    }
                    bytes += read;
                }
            }
        }
    };
}

roles!(kernel, tokio::net::TcpStream, tokio::io::AsyncReadExt, tokio::io::AsyncWriteExt);
roles!(ours, synfin::net::TcpStream, futures::AsyncReadExt, futures::AsyncWriteExt);
bulk_roles!(kernel_bulk, tokio::net::TcpStream, tokio::io::AsyncReadExt, tokio::io::AsyncWriteExt, shutdown);
bulk_roles!(our_bulk, synfin::net::TcpStream, futures::AsyncReadExt, futures::AsyncWriteExt, close);

fn on_tokio<T>(body: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(body)
}

/// Two connected streams of the kernel's.
async fn kernel_pair(address: SocketAddr) -> io::Result<[tokio::net::TcpStream; 2]> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let client = tokio::net::TcpStream::connect(listener.local_addr()?).await?;
    let (server, _) = listener.accept().await?;
    tune(&client)?;
    tune(&server)?;
    Ok([client, server])
}

/// Two connected streams of one stack's.
async fn our_pair(stack: &Stack) -> io::Result<[synfin::net::TcpStream; 2]> {
    let listener = stack.listen("127.0.0.1:0").await?;
    let client = stack.connect(listener.local_addr()?).await?;
    Ok([client, listener.accept().await?.0])
}

/// A stream of ours and one of the kernel's, over the veth pair; the kernel listens.
async fn mixed_pair(stack: &Stack) -> io::Result<(synfin::net::TcpStream, tokio::net::TcpStream)> {
    let listener = tokio::net::TcpListener::bind("10.9.0.1:0").await?;
    let ours = stack.connect(listener.local_addr()?).await?;
    let (kernel, _) = listener.accept().await?;
    tune(&kernel)?;
    Ok((ours, kernel))
}

/// No waiting for more to send; and CUBIC, or Reno where only that is allowed, since a controller that paces measures its own clock.
fn tune(kernel: &tokio::net::TcpStream) -> io::Result<()> {
    kernel.set_nodelay(true)?;
    let socket = socket2::SockRef::from(kernel);
    socket.set_tcp_congestion(b"cubic").or_else(|_| socket.set_tcp_congestion(b"reno"))
}

fn kernel_ping(address: &'static str, turn: Duration) -> io::Result<Figures> {
    on_tokio(async move {
        let [client, server] = kernel_pair(address.parse().expect("an address")).await?;
        tokio::spawn(kernel::pong(server));
        tokio::spawn(kernel::ping(client, turn)).await.expect("no panic")
    })
}

fn kernel_bulk_turn(address: &'static str, turn: Duration) -> io::Result<Figures> {
    on_tokio(async move {
        let [client, server] = kernel_pair(address.parse().expect("an address")).await?;
        tokio::spawn(kernel_bulk::source(client, turn));
        tokio::spawn(kernel_bulk::sink(server)).await.expect("no panic")
    })
}

fn loopbacks(plan: &Plan) -> io::Result<()> {
    let turn = plan.turn;
    let stack = Stack::builder().start()?;
    let runtime = Runtime::builder().build()?;
    let kernel: Turn<'_> = Box::new(|| kernel_ping("127.0.0.1:0", turn));
    let under_tokio: Turn<'_> = Box::new(|| {
        on_tokio(async {
            let [client, server] = our_pair(&stack).await?;
            tokio::spawn(ours::pong(server));
            tokio::spawn(ours::ping(client, turn)).await.expect("no panic")
        })
    });
    let on_runtime: Turn<'_> = Box::new(|| {
        runtime.block_on(async {
            let [client, server] = our_pair(runtime.stack()).await?;
            synfin::spawn(ours::pong(server));
            synfin::spawn(ours::ping(client, turn)).await.expect("no panic")
        })
    });
    let candidates = [("kernel, tokio::net", kernel), ("synfin, Stack under tokio", under_tokio), ("synfin, Runtime", on_runtime)];
    compare("loopback, one byte there and back", LATENCY, plan, &candidates)?;

    let kernel: Turn<'_> = Box::new(|| kernel_bulk_turn("127.0.0.1:0", turn));
    let under_tokio: Turn<'_> = Box::new(|| {
        on_tokio(async {
            let [client, server] = our_pair(&stack).await?;
            tokio::spawn(our_bulk::source(client, turn));
            tokio::spawn(our_bulk::sink(server)).await.expect("no panic")
        })
    });
    let on_runtime: Turn<'_> = Box::new(|| {
        runtime.block_on(async {
            let [client, server] = our_pair(runtime.stack()).await?;
            synfin::spawn(our_bulk::source(client, turn));
            synfin::spawn(our_bulk::sink(server)).await.expect("no panic")
        })
    });
    let candidates = [("kernel, tokio::net", kernel), ("synfin, Stack under tokio", under_tokio), ("synfin, Runtime", on_runtime)];
    compare("loopback, bulk", RATE, plan, &candidates)
}

/// Kernel to kernel is measured over the namespace's own loopback: two addresses of one kernel never use the veth between them.
fn veth(plan: &Plan) -> io::Result<()> {
    let turn = plan.turn;
    let pair = Veth::create("syn0", "syn1", 1500)?;
    pair.address("syn0", "10.9.0.1/24")?;
    let stack = Stack::builder().interface("syn1").address("10.9.0.2/24").start()?;
    let kernel: Turn<'_> = Box::new(|| kernel_ping("10.9.0.1:0", turn));
    let mixed: Turn<'_> = Box::new(|| {
        on_tokio(async {
            let (client, server) = mixed_pair(&stack).await?;
            tokio::spawn(kernel::pong(server));
            tokio::spawn(ours::ping(client, turn)).await.expect("no panic")
        })
    });
    let candidates = [("kernel, its loopback", kernel), ("synfin asks the kernel, veth", mixed)];
    compare("namespace, one byte there and back", LATENCY, plan, &candidates)?;

    let kernel: Turn<'_> = Box::new(|| kernel_bulk_turn("10.9.0.1:0", turn));
    let sending: Turn<'_> = Box::new(|| {
        on_tokio(async {
            let (client, server) = mixed_pair(&stack).await?;
            tokio::spawn(our_bulk::source(client, turn));
            tokio::spawn(kernel_bulk::sink(server)).await.expect("no panic")
        })
    });
    let receiving: Turn<'_> = Box::new(|| {
        on_tokio(async {
            let (client, server) = mixed_pair(&stack).await?;
            tokio::spawn(kernel_bulk::source(server, turn));
            tokio::spawn(our_bulk::sink(client)).await.expect("no panic")
        })
    });
    let candidates = [("kernel, its loopback", kernel), ("synfin sends, veth", sending), ("synfin receives, veth", receiving)];
    compare("namespace, bulk", RATE, plan, &candidates)
}

fn main() -> io::Result<()> {
    let plan = Plan::read();
    if namespace::is_inside() {
        return veth(&plan);
    }
    println!("x: beside the first line; {} turns of {:?} each", plan.pairs, plan.turn);
    loopbacks(&plan)?;
    match namespace::run_inside(std::env::args_os().skip(1)) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(io::Error::other(format!("inside the namespace: {status}"))),
        Err(forbidden) => {
            println!("\nno veth: {forbidden}");
            Ok(())
        }
    }
}
