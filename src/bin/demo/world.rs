//! Two engines and the wire between them, in virtual time: nothing happens but what frames, timers and calls make happen, so that a seed gives
//! the same ladder everywhere.

use crate::args::Order;
use crate::host::Host;
use crate::ladder::{Departure, Ladder};
use crate::packet::{Ends, Packet, Side};
use crate::stage::{Fate, Stage};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use synfin::proto::{Config, Engine, Frame, Info, Instant, Link, Medium, Sink, SocketId, TxFrame, cut, netstat};

/// Two hosts, joined by a wire.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) stage: &'a mut Stage,
    ladder: Ladder,
    now: Instant,
    hosts: [Host; 2],
    line: Line,
    /// By arrival, then by number.
    in_flight: BTreeMap<(Instant, u64), Flight>,
    /// When the last frame in order arrives, by sender.
    last_arrival: [Instant; 2],
    lost: u64,
    late: u64,
}

/// What the wire does to frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Nothing arrives any more.
    Dead,
    /// As the flags say.
    Good,
}

/// Whether what was waited for has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Waited {
    InVain,
    Met,
}

#[derive(Debug)]
struct Flight {
    to: Side,
    ends: Option<Ends>,
    bytes: Vec<u8>,
}

impl<'a> World<'a> {
    /// Hosts 10.0.0.1 on the left and 10.0.0.2 on the right.
    pub(crate) fn new(stage: &'a mut Stage, configs: [Config; 2]) -> Self {
        let [left, right] = configs;
        let hosts = [(left, LEFT), (right, RIGHT)].map(|(config, address)| {
            let mut engine = Engine::new(config, stage.random.secret(), START);
            engine.set_link(START, Some(Link::new(Medium::Ip, 1500)));
            engine.add_address(START, format!("{address}/24").parse().expect("an address and a prefix length"));
            engine.set_gateway(GATEWAY.into());
            Host::new(engine)
        });
        Self {
            stage,
            ladder: Ladder::default(),
            now: START,
            hosts,
            line: Line::Good,
            in_flight: BTreeMap::new(),
            last_arrival: [START; 2],
            lost: 0,
            late: 0,
        }
    }

    /// The columns of a new ladder.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        Ladder::begin(&mut self.stage.screen, [&format!(" A {LEFT}"), &format!("{RIGHT} B ")])
    }

    /// Frames lost, and frames delayed so that others overtook them.
    pub(crate) const fn damage(&self) -> (u64, u64) {
        (self.lost, self.late)
    }

    pub(crate) const fn now(&self) -> Instant {
        self.now
    }

    pub(crate) const fn host(&mut self, side: Side) -> &mut Engine {
        &mut self.hosts[side as usize].engine
    }

    pub(crate) const fn set_line(&mut self, line: Line) {
        self.line = line;
    }

    /// Lets time pass until `is_done`, for `limit` at most. It is asked after each arrival, before the receiver answers, and again
    /// after it has.
    pub(crate) fn wait(&mut self, limit: Duration, mut is_done: impl FnMut(&mut Self) -> bool) -> io::Result<Waited> {
        let end = self.now + limit;
        loop {
            if is_done(self) {
                return Ok(Waited::Met);
            }
            self.transmit()?;
            if is_done(self) {
                return Ok(Waited::Met);
            }
            let arrival = self.in_flight.keys().next().copied();
            let timer = self.hosts.iter().filter_map(|host| host.engine.deadline()).min();
            match (arrival, timer) {
                (Some(key), timer) if key.0 <= end && timer.is_none_or(|timer| key.0 <= timer) => self.deliver(key)?,
                (_, Some(timer)) if timer <= end => {
                    self.now = self.now.max(timer);
                    self.hosts.iter_mut().for_each(|host| host.engine.advance(timer));
                }
                _ => {
                    self.now = end;
                    self.hosts.iter_mut().for_each(|host| host.engine.advance(end));
                    return Ok(Waited::InVain);
                }
            }
        }
    }

    /// Until every frame has arrived and nobody has anything to say.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        let is_quiet = |world: &mut Self| world.in_flight.is_empty() && !world.hosts.iter().any(|host| host.engine.wants_transmit());
        let _ = self.wait(Duration::from_secs(1), is_quiet)?;
        Ok(())
    }

    /// Time passes, whatever happens.
    pub(crate) fn pass(&mut self, duration: Duration) -> io::Result<()> {
        let _ = self.wait(duration, |_| false)?;
        Ok(())
    }

    /// A frame from a third party comes out of the left end.
    pub(crate) fn inject(&mut self, mut frame: TxFrame) -> io::Result<()> {
        cut::complete(&mut frame);
        self.send(Side::Left, &frame.to_vec())
    }

    /// What comes next, and why it is so.
    pub(crate) fn headline(&mut self, text: &str) -> io::Result<()> {
        self.ladder.flush(&mut self.stage.screen)?;
        self.stage.screen.headline(text)
    }

    pub(crate) fn say(&mut self, lines: &[&str]) -> io::Result<()> {
        self.ladder.flush(&mut self.stage.screen)?;
        self.stage.screen.paragraph(lines)
    }

    pub(crate) fn look_away(&mut self) -> io::Result<()> {
        self.ladder.look_away(&mut self.stage.screen)
    }

    pub(crate) fn look_again(&mut self) -> io::Result<()> {
        self.ladder.look_again(&mut self.stage.screen)
    }

    /// The states of a connection's two ends, without a segment.
    pub(crate) fn states(&mut self, text: &str, ends: Ends) -> io::Result<()> {
        let views = Side::BOTH.map(|side| self.hosts[side as usize].view(self.now, side, Some(ends), self.ladder.tracker()));
        let nanos = self.nanos();
        self.ladder.states(&mut self.stage.screen, nanos, text, views)
    }

    /// A host's table of sockets.
    pub(crate) fn netstat(&self, side: Side) -> Vec<netstat::Row> {
        self.hosts[side as usize].engine.netstat(self.now)
    }

    /// Prints the tables of both hosts.
    pub(crate) fn show_netstat(&mut self) -> io::Result<()> {
        self.say(&[])?;
        for (side, name) in Side::BOTH.into_iter().zip(["A", "B"]) {
            let rows = self.netstat(side);
            self.stage.screen.line(&format!("  {name}  {}", netstat::HEADER))?;
            if rows.is_empty() {
                self.stage.screen.line("     (no sockets)")?;
            }
            self.print_rows(&rows)?;
        }
        Ok(())
    }

    /// Prints rows as `netstat -nat` does.
    pub(crate) fn print_rows(&mut self, rows: &[netstat::Row]) -> io::Result<()> {
        rows.iter().try_for_each(|row| self.stage.screen.line(&format!("     {row}")))
    }

    pub(crate) fn info(&self, side: Side, id: SocketId) -> Option<Info> {
        self.hosts[side as usize].engine.info(id)
    }

    fn transmit(&mut self) -> io::Result<()> {
        for side in Side::BOTH {
            loop {
                let mut one = One(None);
                let _ = self.hosts[side as usize].engine.transmit(self.now, &mut one);
                let Some(mut frame) = one.0 else { break };
                cut::complete(&mut frame);
                self.send(side, &frame.to_vec())?;
            }
        }
        Ok(())
    }

    fn send(&mut self, from: Side, bytes: &[u8]) -> io::Result<()> {
        let packet = Packet::decode(Medium::Ip, bytes);
        let fate = if self.is_lost(&packet) { Fate::Lost } else { Fate::Delivered };
        let nanos = self.nanos();
        let number = self.stage.record(nanos, from.name(), fate, bytes)?;
        let ends = packet.ends(from);
        let (host, now) = (&mut self.hosts[from as usize], self.now);
        let departure = Departure { number, nanos, side: from, packet, fate };
        self.ladder.depart(&mut self.stage.screen, departure, |tracker| host.view(now, from, ends, tracker))?;
        if fate == Fate::Lost {
            self.lost += 1;
        } else {
            let at = self.arrival_of_next(from);
            self.in_flight.insert((at, number), Flight { to: from.other(), ends, bytes: bytes.to_vec() });
        }
        Ok(())
    }

    /// Nobody is at an address that is neither host's.
    fn is_lost(&mut self, packet: &Packet) -> bool {
        let is_nobody = matches!(packet, Packet::Tcp(tcp) if ![LEFT, RIGHT].map(IpAddr::from).contains(&tcp.destination.ip()));
        self.line == Line::Dead || is_nobody || self.stage.random.happens(self.stage.settings.loss)
    }

    fn arrival_of_next(&mut self, from: Side) -> Instant {
        let last = &mut self.last_arrival[from as usize];
        let at = (self.now + LATENCY).max(*last + SPACING);
        if self.stage.settings.order == Order::Shuffled && self.stage.random.happens(LATE_PERCENT) {
            self.late += 1;
            return at + DELAY;
        }
        *last = at;
        at
    }

    fn deliver(&mut self, key: (Instant, u64)) -> io::Result<()> {
        let Some(Flight { to, ends, bytes }) = self.in_flight.remove(&key) else { return Ok(()) };
        self.now = self.now.max(key.0);
        let (nanos, now, host) = (self.nanos(), self.now, &mut self.hosts[to as usize]);
        host.engine.receive(now, Frame::borrowed(&bytes));
        self.ladder.arrive(&mut self.stage.screen, (key.1, nanos), |tracker| host.view(now, to, ends, tracker))
    }

    /// Virtual nanoseconds since the beginning.
    const fn nanos(&self) -> u64 {
        self.now.as_nanos() - START.as_nanos()
    }
}

/// Takes one frame.
struct One(Option<TxFrame>);

impl Sink for One {
    fn has_room(&self) -> bool {
        self.0.is_none()
    }

    fn push(&mut self, frame: TxFrame) {
        self.0 = Some(frame);
    }
}

/// The hosts' addresses, and the router's, which is not there.
pub(crate) const LEFT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
/// Virtual time begins here.
const START: Instant = Instant::from_nanos(1_000_000_000);
/// One way.
const LATENCY: Duration = Duration::from_millis(10);
/// Between two frames of one sender.
const SPACING: Duration = Duration::from_micros(100);
/// How many frames are late when order is not kept, and how late.
const LATE_PERCENT: u8 = 25;
const DELAY: Duration = Duration::from_millis(5);
