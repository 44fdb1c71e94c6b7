//! What the two hosts do. A scenario makes calls and waits; what follows from them is for the engines to say and for the ladder to draw.
//!
//! | module | what happens |
//! |---|---|
//! | `tour` | handshake, echo, half-close, four-way close, TIME-WAIT |
//! | `opening` | two SYNs that cross |
//! | `closing` | half-close, three segments, two FINs that cross |
//! | `flood` | SYNs that nobody means |
//! | `silence` | keepalive and the user timeout |
//! | `window` | a reader who does not read |
//! | `transfer` | loss and reordering |

mod closing;
mod flood;
mod opening;
mod silence;
mod tour;
mod transfer;
mod window;

use crate::args::{Order, Scenario};
use crate::packet::{Ends, Side};
use crate::stage::Stage;
use crate::world::{LEFT, RIGHT, Waited, World};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use synfin::proto::{Config, Events, SocketId};

/// Plays what the settings ask for.
pub(crate) fn play(stage: &mut Stage) -> io::Result<()> {
    stage.begin()?;
    let is_rough = stage.settings.loss > 0 || stage.settings.order == Order::Shuffled;
    let mut scenarios: Vec<fn(&mut Stage) -> io::Result<()>> = stage.settings.scenarios.iter().map(player).collect();
    if scenarios.is_empty() {
        scenarios.push(if is_rough { transfer::play } else { tour::play });
    }
    scenarios.into_iter().try_for_each(|scenario| match scenario(stage) {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            stage.screen.paragraph(&[&format!("The line is too bad: {error}. Try another --seed, or less --loss.")])
        }
        outcome => outcome,
    })
}

const fn player(scenario: &Scenario) -> fn(&mut Stage) -> io::Result<()> {
    match scenario {
        Scenario::BadLine => silence::play,
        Scenario::HalfClose => closing::half_close,
        Scenario::SimultaneousClose => closing::simultaneous,
        Scenario::SimultaneousOpen => opening::simultaneous,
        Scenario::SynFlood => flood::play,
        Scenario::ThreeSegmentClose => closing::three_segments,
        Scenario::ZeroWindow => window::play,
    }
}

/// What a line that is too bad does to a connection.
fn broken(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, cause)
}

/// A connection from A, on the left, to B.
#[derive(Clone, Copy, Debug)]
struct Pair {
    a: SocketId,
    b: SocketId,
    ends: Ends,
}

impl World<'_> {
    /// A connects to port 7 of B; the listener goes when the connection is there.
    fn connect(&mut self) -> io::Result<Pair> {
        let (now, remote) = (self.now(), SocketAddr::from((RIGHT, 7)));
        let listener = self.host(Side::Right).listen(now, remote, 8).map_err(io::Error::other)?;
        let a = self.dial(remote)?;
        let mut b = None;
        let _ = self.wait(PATIENCE, |world| {
            let now = world.now();
            b = b.or_else(|| world.host(Side::Right).accept(now, listener).ok().map(|(id, _)| id));
            b.is_some()
        })?;
        let now = self.now();
        self.host(Side::Right).release(now, listener);
        let local = self.host(Side::Left).local_addr(a);
        let (Some(b), Some(local)) = (b, local) else { return Err(broken("the handshake never ended")) };
        Ok(Pair { a, b, ends: (local, remote) })
    }

    /// A begins a connection to `remote`.
    fn dial(&mut self, remote: SocketAddr) -> io::Result<SocketId> {
        let now = self.now();
        self.host(Side::Left).connect(now, remote, Some((LEFT, 0).into()), None).map_err(io::Error::other)
    }

    fn write(&mut self, side: Side, id: SocketId, data: &[u8]) -> io::Result<usize> {
        let now = self.now();
        self.host(side).send(now, id, data).map_err(broken)
    }

    /// Reads everything that has arrived and says how much it was.
    fn read(&mut self, side: Side, id: SocketId) -> usize {
        let (now, mut buffer, mut total) = (self.now(), [0; 4096], 0);
        while let Ok(read @ 1..) = self.host(side).recv(now, id, &mut buffer) {
            total += read;
        }
        total
    }

    fn finish(&mut self, side: Side, id: SocketId) -> io::Result<()> {
        let now = self.now();
        self.host(side).shutdown(now, id).map_err(broken)
    }

    /// Waits for bytes, and reads `count` of them.
    fn wait_for_bytes(&mut self, side: Side, id: SocketId, count: usize) -> io::Result<Waited> {
        let mut total = 0;
        self.wait(PATIENCE, |world| {
            total += world.read(side, id);
            total >= count
        })
    }

    /// Waits for the peer's FIN; the answer has not left yet.
    fn wait_for_end(&mut self, side: Side, id: SocketId) -> io::Result<Waited> {
        self.wait(PATIENCE, |world| world.host(side).events(id).has(Events::READ_CLOSED))
    }
}

/// Longer than any scenario's wire is silent.
const PATIENCE: Duration = Duration::from_secs(600);

/// A world of two ordinary hosts, whose windows are readable as numbers.
fn ordinary(stage: &mut Stage) -> World<'_> {
    World::new(stage, [with_window(65_535), with_window(65_535)])
}

/// A host with a receive buffer of so many bytes.
fn with_window(bytes: u32) -> Config {
    let mut config = Config::default();
    config.receive_buffer = bytes;
    config
}
