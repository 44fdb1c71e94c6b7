//! What the six roles do with a stream, on any of the three TCPs.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{Either, join_all, select};

use crate::options::{Checking, Options, Role, Side};
use crate::place::{Listener, Place, Stream};
use crate::signal;
use crate::tally::{Pattern, Tally};

/// Plays the role, and its counterpart where nobody else can, until the time is over or the process is asked to end.
pub(crate) async fn run(place: Place, options: Arc<Options>, tally: Arc<Tally>) -> io::Result<()> {
    let asked_to_end = signal::asked_to_end()?;
    let role = pin!(play(Arc::new(Work::new(place.clone(), Arc::clone(&options), Arc::clone(&tally), options.role))));
    // An error of `select` is a thread that cannot wait for signals; the measurement goes on by the clock.
    if let Either::Left((result, _)) = select(role, asked_to_end).await {
        result?;
    }
    tally.end();
    if options.is_on_network() {
        place.shutdown(GOODBYE).await;
    }
    Ok(())
}

async fn play(work: Arc<Work>) -> io::Result<()> {
    match work.role.side() {
        Side::Server => {
            let listener = work.place.listen(work.options.local()).await?;
            if work.options.is_alone() {
                let remote = listener.local_addr()?;
                drop(work.place.spawn(call(work.counterpart(), remote)));
            }
            drop(work.place.spawn(serve(Arc::clone(&work), listener)));
            work.until_over().await;
        }
        Side::Client => {
            let remote = match work.options.connect {
                Some(remote) => remote,
                None => {
                    let listener = work.place.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
                    let remote = listener.local_addr()?;
                    drop(work.place.spawn(serve(work.counterpart(), listener)));
                    remote
                }
            };
            call(work, remote).await;
        }
    }
    Ok(())
}

/// One side's part, shared by its tasks.
struct Work {
    place: Place,
    options: Arc<Options>,
    tally: Arc<Tally>,
    /// Where errors count: the figures that are shown.
    shown: Arc<Tally>,
    role: Role,
    pattern: Pattern,
}

impl Work {
    fn new(place: Place, options: Arc<Options>, tally: Arc<Tally>, role: Role) -> Self {
        let pattern = Pattern::new(options.size(role).max(BUFFER_LEN));
        Self { place, options, shown: Arc::clone(&tally), tally, role, pattern }
    }

    /// The other side in this process. Its figures are nobody's; its errors are told, and count.
    fn counterpart(&self) -> Arc<Self> {
        let other = Self::new(self.place.clone(), Arc::clone(&self.options), Arc::default(), self.role.counterpart());
        Arc::new(Self { shown: Arc::clone(&self.shown), ..other })
    }

    fn note(&self, result: io::Result<()>) {
        if let Err(error) = result {
            self.shown.count_error(self.role.name(), &error);
        }
    }

    fn compare(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.options.checking == Checking::Off { Ok(()) } else { self.pattern.compare(offset, bytes) }
    }

    /// A server's time runs from its first byte; without a limit it never ends, unless it has only itself to serve.
    async fn until_over(&self) {
        let alone = self.options.is_alone().then(|| self.options.turn());
        let Some(turn) = self.options.seconds.or(alone) else { return std::future::pending().await };
        loop {
            let left = self.tally.since_first().map_or(POLL, |spent| turn.saturating_sub(spent));
            if left.is_zero() {
                return;
            }
            self.place.sleep(left.min(POLL)).await;
        }
    }
}

async fn serve(work: Arc<Work>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok(stream) => {
                let own = Arc::clone(&work);
                drop(work.place.spawn(async move { own.note(answer(&own, stream).await) }));
            }
            Err(error) => {
                work.shown.count_error("accept", &error);
                work.place.sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(work: &Work, mut stream: Stream) -> io::Result<()> {
    stream.set_nodelay()?;
    let mut buffer = vec![0; if work.role == Role::Accept { 1 } else { BUFFER_LEN }];
    let mut offset = 0;
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            // Of a connection that is to be counted, a byte must come.
            return if work.role == Role::Accept { Err(io::ErrorKind::UnexpectedEof.into()) } else { stream.finish().await };
        }
        work.tally.count_bytes(length);
        work.compare(offset, &buffer[..length])?;
        offset += length as u64;
        if work.role != Role::Sink {
            stream.write_all(&buffer[..length]).await?;
        }
        if work.role == Role::Accept {
            stream.finish().await?;
            stream.expect_end().await?;
            work.tally.count_op();
            work.tally.mark();
            return Ok(());
        }
    }
}

/// Runs the tasks of a client to their end, or reports those that have none.
async fn call(work: Arc<Work>, remote: SocketAddr) {
    let count = if work.role == Role::Connect { work.options.inflight } else { work.options.streams };
    let tasks = (0..count).map(|_| {
        let own = Arc::clone(&work);
        work.place.spawn(async move {
            let result = match own.role {
                Role::Connect => open_many(&own, remote).await,
                _ => talk(&own, remote).await,
            };
            own.note(result);
        })
    });
    let tasks = pin!(join_all(tasks.collect::<Vec<_>>()));
    let patience = pin!(work.place.sleep(work.options.turn() + PATIENCE));
    if let Either::Right(_) = select(tasks, patience).await {
        let text = format!("{remote} is silent, {} s after the end of the measurement", PATIENCE.as_secs());
        work.note(Err(io::Error::new(io::ErrorKind::TimedOut, text)));
    }
}

/// One stream of a source or of a ping. Its time runs from its opening: the first may have had to wait for a neighbour.
async fn talk(work: &Work, remote: SocketAddr) -> io::Result<()> {
    let mut stream = work.place.connect(remote).await?;
    stream.set_nodelay()?;
    let (size, mut offset) = (work.options.size(work.role), 0);
    let mut buffer = vec![0; if work.role == Role::Ping { size } else { 0 }];
    work.tally.mark();
    let mut now = Instant::now();
    let deadline = now + work.options.turn();
    while now < deadline {
        let piece = work.pattern.at(offset, size);
        if work.role == Role::Ping {
            stream.exchange(piece, &mut buffer).await?;
            let end = Instant::now();
            work.tally.count_latency(end - now);
            work.tally.count_op();
            work.compare(offset, &buffer)?;
            work.tally.count_bytes(size);
        } else {
            stream.write_all(piece).await?;
            work.tally.count_bytes(size);
        }
        offset += size as u64;
        now = Instant::now();
    }
    // The end of the peer's half: all has arrived.
    stream.finish().await?;
    stream.expect_end().await?;
    work.tally.mark();
    Ok(())
}

/// Connection after connection. The first error ends it, since nobody may be there; later ones are counted.
async fn open_many(work: &Work, remote: SocketAddr) -> io::Result<()> {
    open(work, remote).await?;
    let deadline = Instant::now() + work.options.turn();
    while Instant::now() < deadline {
        if let Err(error) = open(work, remote).await {
            work.note(Err(error));
            work.place.sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// One connection, from SYN to the peer's FIN and ours.
async fn open(work: &Work, remote: SocketAddr) -> io::Result<()> {
    let start = Instant::now();
    let mut byte = [0];
    let mut stream = work.place.connect(remote).await?;
    stream.set_nodelay()?;
    stream.exchange(work.pattern.at(0, 1), &mut byte).await?;
    work.compare(0, &byte)?;
    stream.expect_end().await?;
    work.tally.count_latency(start.elapsed());
    work.tally.count_op();
    work.tally.count_bytes(1);
    Ok(())
}

/// Bytes of a server's reads.
const BUFFER_LEN: usize = 1 << 18;

/// How often a server looks whether its time is over.
const POLL: Duration = Duration::from_millis(10);

/// After an error that may come back at once, such as too many open files.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a client waits for the ends of its streams, after its time: what is in flight arrives, or is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the peers are given to agree to the end.
const GOODBYE: Duration = Duration::from_millis(500);
