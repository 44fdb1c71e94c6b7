//! What is counted, the pattern, and the line of JSON.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::options::{Options, Role};

/// The figures of one role, shared by its tasks.
pub(crate) struct Tally {
    start: Instant,
    /// Nanoseconds from `start` to the first and the last event.
    first: AtomicU64,
    last: AtomicU64,
    bytes: AtomicU64,
    ops: AtomicU64,
    errors: AtomicU64,
    over: AtomicBool,
    latency: Mutex<Histogram<u64>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            first: AtomicU64::new(u64::MAX),
            last: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            ops: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            over: AtomicBool::new(false),
            latency: Mutex::new(Histogram::new_with_bounds(1, NANOSECONDS_MAX, 3).expect("the bounds are in order")),
        }
    }
}

impl Tally {
    /// Bytes have passed just now.
    pub(crate) fn count_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.mark();
    }

    /// Something happened just now that belongs to the time measured.
    pub(crate) fn mark(&self) {
        let now = nanoseconds(self.start.elapsed());
        if self.first.load(Ordering::Relaxed) > now {
            self.first.fetch_min(now, Ordering::Relaxed);
        }
        self.last.fetch_max(now, Ordering::Relaxed);
    }

    /// A round trip or a connection has been completed.
    pub(crate) fn count_op(&self) {
        self.ops.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_latency(&self, latency: Duration) {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(nanoseconds(latency));
    }

    /// The measurement is over: what fails from now on is the end itself.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Counts an error; the first is told.
    pub(crate) fn count_error(&self, what: &str, error: &io::Error) {
        if self.over.load(Ordering::Relaxed) {
            return;
        }
        if self.errors.fetch_add(1, Ordering::Relaxed) == 0 {
            eprintln!("{what}: {error}");
        }
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Time since the first byte, once there was one.
    pub(crate) fn since_first(&self) -> Option<Duration> {
        let first = self.first.load(Ordering::Relaxed);
        (first != u64::MAX).then(|| self.start.elapsed().saturating_sub(Duration::from_nanos(first)))
    }

    /// One object on one line; what does not apply is null.
    pub(crate) fn to_json(&self, options: &Options) -> String {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let ops = self.ops.load(Ordering::Relaxed) as f64;
        let nanoseconds = self.last.load(Ordering::Relaxed).saturating_sub(self.first.load(Ordering::Relaxed));
        let seconds = nanoseconds as f64 / 1e9;
        let counts = matches!(options.role, Role::Ping | Role::Accept | Role::Connect);
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let quantile = |quantile| Some(latency.value_at_quantile(quantile) as f64 / 1e3).filter(|_| !latency.is_empty());
        let ratio = |above: f64, below: f64| Some(above / below).filter(|ratio| ratio.is_finite());
        let figures = [
            ("seconds", Some(seconds)),
            ("gbit_s", ratio(bytes as f64 * 8.0 / 1e9, seconds)),
            ("cpu_s_per_gb", cpu_seconds().and_then(|cpu| ratio(cpu, bytes as f64 / 1e9))),
            ("ops", Some(ops).filter(|_| counts)),
            ("ops_s", ratio(ops, seconds).filter(|_| counts)),
            ("p50_us", quantile(0.5)),
            ("p99_us", quantile(0.99)),
            ("p999_us", quantile(0.999)),
        ];
        let figures =
            figures.map(|(name, value)| format!("\"{name}\":{}", value.map_or_else(|| "null".to_owned(), |value| value.to_string())));
        let (role, backend) = (options.role.name(), options.backend.name());
        let figures = figures.join(",");
        format!(r#"{{"role":"{role}","backend":"{backend}","bytes":{bytes},{figures},"errors":{}}}"#, self.errors())
    }
}

/// Byte `n` of every stream is `n` modulo a prime, so that no loss or repetition of a power of two hides.
pub(crate) struct Pattern {
    bytes: Vec<u8>,
}

impl Pattern {
    /// For pieces of at most `longest` bytes.
    pub(crate) fn new(longest: usize) -> Self {
        Self { bytes: (0..PERIOD + longest).map(|at| (at % PERIOD) as u8).collect() }
    }

    /// The piece that stands at `offset` of a stream.
    pub(crate) fn at(&self, offset: u64, length: usize) -> &[u8] {
        let start = (offset % PERIOD as u64) as usize;
        &self.bytes[start..start + length]
    }

    /// Names the first byte that is wrong.
    pub(crate) fn compare(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let expected = self.at(offset, bytes.len());
        if expected == bytes {
            return Ok(());
        }
        let wrong = expected.iter().zip(bytes).take_while(|(expected, byte)| expected == byte).count();
        let text = format!("byte {} of the stream is {}, not {}", offset + wrong as u64, bytes[wrong], expected[wrong]);
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Processor time of the whole process so far: `utime` and `stime` of proc(5), in steps of 10 ms.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold spaces; the times are the 12th and 13th field after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_SECOND)
}

/// `USER_HZ`, in which Linux tells a process its times.
const TICKS_PER_SECOND: f64 = 100.0;

/// The longest time that is told from longer ones: ten seconds.
const NANOSECONDS_MAX: u64 = 10_000_000_000;

/// Length of the pattern: the largest prime below 256.
const PERIOD: usize = 251;
