//! One shard's world: everything between frames and sockets, as a value that is driven from outside.
//!
//! ```text
//!   receive(frame) ─► ingress ─► demux ─► connection | SYN cache | TIME-WAIT | reset
//!   advance(now) ───► wheel ───► whoever is due
//!   send, recv, … ──► calls
//!   transmit(sink) ◄─ egress ◄─ replies, then sockets in turn ─► loopback ─► ingress
//! ```
//!
//! | file | what it owns |
//! |---|---|
//! | `slot`, `demux` | sockets by number; finding one by 4-tuple |
//! | `calls`, `options`, `netstat` | what applications ask |
//! | `ingress`, `arrival`, `passive`, `settle` | a frame arrives; the segment in it; a SYN arrives; what follows from any change |
//! | `egress`, `loopback`, `reply` | frames leave; frames to ourselves; answers without a socket |
//! | `link_gone` | what becomes of sockets when the link is gone for good |
//! | `listener`, `time_wait`, `wheel` | the SYN cache and accept queues; resting 4-tuples; timers |
//! | `cookies` | handshakes without a record, when the SYN cache has no room |
//! | `isn`, `ports`, `limits` | initial sequence numbers; ephemeral ports; rates per source |
//! | `address`, `announce`, `multicast` | our own addresses: does another host have one, telling that it is here, their groups |
//! | `route`, `neighbor`, `icmp`, `path_mtu` | where packets go; who is next to us; what routers say; how long packets may be |
//! | `passthrough` | packets that are not for us, for whoever wants them |
//! | `stats`, `trace` | every counter; a record of frames and what they did, when asked for |
//!
//! It must not know: threads, wakers, sockets of an operating system, what time it is.

pub(crate) mod address;
mod announce;
mod arrival;
mod calls;
mod causes;
mod cookies;
mod demux;
mod egress;
mod icmp;
mod ingress;
mod isn;
mod limits;
mod link_gone;
mod listener;
mod loopback;
mod multicast;
mod neighbor;
pub mod netstat;
mod options;
mod passive;
pub(crate) mod passthrough;
mod path_mtu;
mod ports;
mod refusal;
mod reply;
pub(crate) mod route;
mod settle;
pub(crate) mod slot;
pub mod stats;
mod syn_cache;
mod time_wait;
pub mod trace;
mod wheel;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use slab::Slab;

use self::address::Addresses;
use self::cookies::Cookies;
use self::demux::{Index, TupleHash};
use self::isn::Isn;
use self::listener::Listeners;
use self::multicast::Reports;
use self::neighbor::Cache as Neighbors;
use self::passthrough::Passthrough;
use self::path_mtu::PathMtus;
use self::ports::Ports;
use self::reply::Replies;
use self::route::{Addition, Cidr, Routes};
use self::slot::{Entry, Signal, SocketId};
use self::stats::Stats;
use self::syn_cache::SynCache;
use self::time_wait::TimeWait;
use self::wheel::Wheel;
use super::link::{Link, Medium};
use super::random::{KeyedHash, Secrets};
use super::tcp::buffer::Pool;
use super::tcp::config::Config;
use super::tcp::context::{Context, Path};
use super::tcp::socket::SocketOptions;
use super::time::Instant;
use super::wire::Address;

/// What [`Engine::transmit`] left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Transmit {
    /// Nothing more is to be sent now.
    Idle,
    /// The sink has no room, or one call's share of work is done: call again.
    Full,
}

/// A TCP host without a clock, a thread or a socket: frames, time and calls go in; frames, a deadline and signals come out.
///
/// The same secret and the same inputs give the same outputs, byte for byte, in any process. Time never goes back: an earlier `now` than the
/// last one counts as the last one.
///
/// ```
/// use synfin::proto::{Config, Engine, Instant};
///
/// let now = Instant::from_nanos(1);
/// let mut engine = Engine::new(Config::default(), [7; 32], now);
/// let listener = engine.listen(now, "127.0.0.1:7".parse().unwrap(), 16).unwrap();
/// let client = engine.connect(now, "127.0.0.1:7".parse().unwrap(), None, None).unwrap();
/// let mut link = Vec::new();
/// let _ = engine.transmit(now, &mut link);
///
/// assert_eq!(engine.connected(client), Ok(()));
/// let (server, _) = engine.accept(now, listener).unwrap();
/// engine.send(now, client, b"hello").unwrap();
/// let _ = engine.transmit(now, &mut link);
/// let mut buffer = [0; 16];
/// assert_eq!(engine.recv(now, server, &mut buffer), Ok(5));
/// assert!(link.is_empty(), "nothing left this host");
/// ```
#[derive(Debug)]
pub struct Engine {
    config: Config,
    /// What a new socket begins with, shared until something is set.
    defaults: Arc<SocketOptions>,
    now: Instant,
    shard: u16,
    link: Option<Link>,
    routes: Routes,
    /// How our addresses stand on a link that others share.
    own: Addresses,
    reports: Reports,
    neighbors: Neighbors,
    path_mtus: PathMtus,
    sockets: Slab<Entry>,
    next_generation: u32,
    hash: TupleHash,
    connections: Index,
    listeners: Listeners,
    syn_cache: SynCache,
    cookies: Cookies,
    time_waits: TimeWait,
    wheel: Wheel,
    isn: Isn,
    ports: Ports,
    flow_labels: KeyedHash,
    pool: Pool,
    /// Slots that may have something to send, in turn.
    ready: VecDeque<u32>,
    replies: Replies,
    loopback: loopback::Queue,
    /// Slots with events that the owner has not been told of.
    signals: VecDeque<u32>,
    stats: Stats,
    trace: Option<Box<trace::Trace>>,
    /// Packets for others, if somebody wants them.
    passthrough: Option<Passthrough>,
}

impl Engine {
    /// A host with nothing but its loopback.
    ///
    /// `secret` must come from the operating system, except in tests and simulation: whoever knows it can forge segments.
    #[must_use]
    pub fn new(config: Config, secret: [u8; 32], now: Instant) -> Self {
        let secrets = Secrets::new(secret);
        let hash = TupleHash::new(&secrets);
        Self {
            now,
            shard: 0,
            link: None,
            routes: Routes::default(),
            own: Addresses::new(config.address_probes, config.address_probe_interval),
            reports: Reports::new(secrets.keyed_hash("listener reports")),
            neighbors: Neighbors::new(secrets.table_hash("neighbors"), config.neighbor_timeout, config.neighbor_tries),
            path_mtus: PathMtus::new(secrets.table_hash("path MTUs")),
            sockets: Slab::new(),
            next_generation: 0,
            connections: Index::new(),
            listeners: Listeners::new(config.backlog_max, hash.clone()),
            syn_cache: SynCache::new(config.half_open_capacity, now),
            cookies: Cookies::new(&secrets),
            time_waits: TimeWait::new(&config, hash.clone()),
            hash,
            wheel: Wheel::new(now),
            isn: Isn::new(&secrets),
            ports: Ports::new(&config.ephemeral_ports, &secrets),
            flow_labels: secrets.keyed_hash("flow labels"),
            pool: Pool::new(),
            ready: VecDeque::new(),
            replies: Replies::new(&config, secrets.table_hash("resets")),
            loopback: VecDeque::new(),
            signals: VecDeque::new(),
            stats: Stats::default(),
            trace: None,
            passthrough: None,
            defaults: Arc::new(SocketOptions::new(&config)),
            config,
        }
    }

    /// The knobs that this engine runs with.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Sets, changes or removes the link. Connections learn of a new MTU with their next segment; those over a link that is
    /// [gone](Link::gone) end, with [`CloseReason::NetworkDown`](super::CloseReason::NetworkDown).
    pub fn set_link(&mut self, now: Instant, link: Option<Link>) {
        self.tick(now);
        if self.link != link {
            if self.link.map(|link| link.medium) != link.map(|link| link.medium) {
                self.neighbors.clear();
                self.replies.retry(&mut self.stats);
            }
            let was_gone = self.is_link_gone();
            let is_news = self.is_news(link.as_ref());
            self.link = link;
            self.refresh_ways();
            if self.is_link_gone() && !was_gone {
                self.end_all_on_link();
            } else if is_news {
                self.begin_detection();
            }
        }
    }

    /// The facts about the link.
    #[must_use]
    pub const fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// Adds an address of our own, with the prefix that is on the link. It is announced to the neighbours, on a link that others share after
    /// [detection](Self::detection); false if there are too many.
    pub fn add_address(&mut self, now: Instant, cidr: Cidr) -> bool {
        self.tick(now);
        let addition = self.routes.add(cidr);
        if addition != Addition::Full {
            self.refresh_ways();
            self.introduce(cidr, addition);
        }
        addition != Addition::Full
    }

    /// Removes an address. Its connections live on, but nothing reaches them any more.
    pub fn remove_address(&mut self, now: Instant, address: IpAddr) {
        self.tick(now);
        self.routes.remove(address.into());
        self.own.remove(address.into());
        self.refresh_ways();
    }

    /// Our addresses, without the loopback's.
    #[must_use]
    pub fn addresses(&self) -> &[Cidr] {
        self.routes.addresses()
    }

    /// Sets the gateway of its family.
    pub fn set_gateway(&mut self, gateway: IpAddr) {
        self.routes.set_gateway(gateway.into());
        self.neighbors.pin(gateway.into());
        self.refresh_ways();
    }

    /// True for addresses that are this host: its own and the loopback's.
    #[must_use]
    pub fn is_local(&self, ip: IpAddr) -> bool {
        self.routes.is_local(ip.into())
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The counters of the neighbour cache.
    #[must_use]
    pub const fn neighbor_counters(&self) -> &stats::NeighborCounters {
        self.neighbors.counters()
    }

    /// The counters of the table of resting 4-tuples.
    #[must_use]
    pub const fn time_wait_counters(&self) -> stats::TimeWaitCounters {
        self.time_waits.counters()
    }

    /// The counters of the pool of payload blocks.
    #[must_use]
    pub const fn pool_counters(&self) -> stats::PoolCounters {
        self.pool.counters()
    }

    /// Memory that idle payload blocks hold, in bytes.
    #[must_use]
    pub const fn pool_idle_bytes(&self) -> usize {
        self.pool.idle_bytes()
    }

    /// Sockets, whatever they are: held by the application, waiting to be accepted, or closing in the background.
    #[must_use]
    pub fn socket_count(&self) -> usize {
        self.sockets.len()
    }

    /// True when no socket, half-open connection or queued frame is left. Resting 4-tuples do not count.
    #[must_use]
    pub fn is_quiescent(&self) -> bool {
        self.sockets.is_empty() && self.syn_cache.is_empty() && !self.wants_transmit()
    }

    /// When [`advance`](Self::advance) is next useful: never too late, possibly too early. `None` means that only a frame or a call can
    /// change anything.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let addresses = [self.own.deadline(), self.reports.deadline()].into_iter().flatten();
        let deadlines = [self.wheel.next(), self.syn_cache.deadline(), self.time_waits.deadline(), self.neighbors.deadline()];
        deadlines.into_iter().flatten().chain(addresses).min()
    }

    /// True if [`transmit`](Self::transmit) would have something to do.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        !self.ready.is_empty() || !self.replies.is_empty() || !self.loopback.is_empty() || self.neighbors.has_solicitations()
    }

    /// True if [`next_signal`](Self::next_signal) has something to tell.
    #[must_use]
    pub fn has_signals(&self) -> bool {
        !self.signals.is_empty()
    }

    /// The next socket to which something happened, with everything since its last signal.
    pub fn next_signal(&mut self) -> Option<Signal> {
        while let Some(index) = self.signals.pop_front() {
            let Some(entry) = self.sockets.get_mut(index as usize) else { continue };
            let events = std::mem::take(&mut entry.events);
            if !events.is_empty() && entry.owner == slot::Owner::Handle {
                let socket = SocketId { shard: self.shard, index, generation: entry.generation };
                return Some(Signal { socket, events });
            }
        }
        None
    }

    /// Time goes on, never back.
    fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// What a connection borrows for a call, beside the table of sockets.
    fn split(&mut self) -> (&mut Slab<Entry>, Context<'_>) {
        (&mut self.sockets, Context { now: self.now, config: &self.config, pool: &mut self.pool, counters: &mut self.stats.tcp })
    }

    /// What the way to `remote` carries.
    fn path_to(&self, remote: Address, way: slot::Way) -> Path {
        let header = if remote.is_v4() { IPV4_AND_TCP } else { IPV6_AND_TCP };
        let Some(link) = self.link.filter(|_| way != slot::Way::Loopback) else {
            return Path { mss: LOOPBACK_MTU - header, super_len: 0 };
        };
        let segments = if remote.is_v4() { link.segments_v4 } else { link.segments_v6 };
        let ethernet = if matches!(link.medium, Medium::Ethernet(_)) { ETHERNET } else { 0 };
        let super_len = if segments { u32::from(u16::MAX - header - ethernet) } else { 0 };
        let mtu = self.path_mtus.of(self.now, remote).map_or(link.mtu, |known| known.min(link.mtu));
        Path { mss: mtu.max(MTU_MIN).saturating_sub(header), super_len }
    }
}

/// The loopback's MTU in bytes: the longest IP packet.
const LOOPBACK_MTU: u16 = u16::MAX;

/// No link may say that it carries less, in bytes (RFC 791 §3.2, with room for a segment).
const MTU_MIN: u16 = 88;

const IPV4_AND_TCP: u16 = 40;
const IPV6_AND_TCP: u16 = 60;
const ETHERNET: u16 = 14;
