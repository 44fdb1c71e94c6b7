//! From a seed to a scenario: two hosts with their knobs, a wire with its faults, and what the two applications are going to do.

use std::net::SocketAddr;
use std::time::Duration;

use synfin::proto::wire::SeqNum;
use synfin::proto::{Cidr, Config, Engine, Link, MacAddress, Medium};

use crate::isn::{self, Opening};
use crate::rng::Rng;
use crate::wire::{Bottleneck, Cutting, Impairment, Wire};
use crate::world::{Lending, Trace, World};

/// Everything that follows from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) ends: [SocketAddr; 2],
    pub(crate) impairment: Impairment,
    /// When the wire becomes perfect, if it was not.
    pub(crate) heals_at: Duration,
    pub(crate) plans: [Plan; 2],
    hosts: [Host; 2],
    ethernet: Ethernet,
    mtu: u16,
    cutting: Cutting,
    lending: Lending,
    bottleneck: Bottleneck,
}

/// What one application does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Bytes to write.
    pub(crate) total: u64,
    /// The longest write and the longest read.
    pub(crate) write_max: u64,
    pub(crate) read_max: u64,
    /// The longest pause between two calls.
    pub(crate) pause: Duration,
    pub(crate) manner: Manner,
    pub(crate) end: End,
}

/// What makes an application try again after `WouldBlock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Only a signal: a lost wake-up is a standstill.
    Signals,
    /// Whatever happens.
    Polling,
}

/// How an application ends its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Half-close after the last write, read to the end, release.
    Graceful,
    /// Abort once so many bytes are written.
    AbortAt(u64),
    /// Release the handle at the last write, whatever is unread.
    Release,
}

#[derive(Clone, Debug)]
struct Host {
    secret: [u8; 32],
    config: Config,
    segmentation: bool,
    iss: SeqNum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ethernet {
    Present,
    Absent,
}

impl Scenario {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let v4 = rng.chance(500);
        let ends = if v4 { ["10.0.0.1:40000", "10.0.0.2:7"] } else { ["[fd00::1]:40000", "[fd00::2]:7"] };
        let ends = ends.map(|text| text.parse().expect("a test sets this up"));
        let clean = rng.chance(150);
        let impairment = if clean { Impairment { delay: millis(&mut rng, 20), ..Impairment::default() } } else { impairment(&mut rng) };
        let buffers = [0; 4].map(|_| buffer(&mut rng));
        let mut config = |send, receive| config(&mut rng, send, receive);
        let configs = [config(buffers[0], buffers[1]), config(buffers[2], buffers[3])];
        let plans = [plan(&mut rng, buffers[0].min(buffers[3])), plan(&mut rng, buffers[2].min(buffers[1]))];
        let index = std::cell::Cell::new(0);
        let hosts = configs.map(|config| {
            let which = index.replace(index.get() + 1);
            let mut secret = [which; 32];
            secret[..8].copy_from_slice(&seed.to_le_bytes());
            let near = rng.pick(&[0, 1 << 31, 0x1234_5678]);
            let before = rng.below(plans[usize::from(which)].total * 2 + 2);
            let iss = SeqNum(near).back(u32::try_from(before).expect("less than 2^32"));
            Host { secret, config, segmentation: rng.chance(500), iss }
        });
        let mtus: &[u16] = if v4 { &[88, 576, 1500, 1500, 9000] } else { &[1280, 1500, 1500, 9000] };
        Self {
            seed,
            ends,
            impairment,
            heals_at: if clean { Duration::ZERO } else { Duration::from_millis(rng.below(5000)) },
            plans,
            hosts,
            ethernet: if rng.chance(700) { Ethernet::Present } else { Ethernet::Absent },
            mtu: rng.pick(mtus),
            cutting: if rng.chance(500) { Cutting::Never } else { Cutting::BeforeTheWire },
            lending: if rng.chance(500) { Lending::Owned } else { Lending::Borrowed },
            bottleneck: Bottleneck {
                bytes_per_ms: rng.pick(&[1000, 10_000, 1_000_000]),
                queue: if clean { Duration::from_secs(3600) } else { Duration::from_millis(rng.pick(&[20, 200, 2000])) },
            },
        }
    }

    /// True if nothing is lost, damaged or late, and both sides close in good order.
    pub(crate) fn is_clean(&self) -> bool {
        let Impairment { loss, duplicate, reorder, corrupt, .. } = self.impairment;
        loss + duplicate + reorder + corrupt == 0 && self.is_graceful()
    }

    pub(crate) fn is_graceful(&self) -> bool {
        self.plans.iter().all(|plan| plan.end == End::Graceful)
    }

    /// The two hosts and their wire, at time zero.
    pub(crate) fn world(&self) -> World {
        let ticks_later =
            u64::try_from(self.impairment.delay.as_nanos()).expect("short") * if self.ethernet == Ethernet::Present { 3 } else { 1 };
        let [client, server] = self.ends;
        let epochs = [
            isn::epoch_for(self.hosts[0].secret, (client, server), Opening::Active, self.hosts[0].iss, 0),
            isn::epoch_for(self.hosts[1].secret, (server, client), Opening::Passive, self.hosts[1].iss, ticks_later),
        ];
        let engine = |index: usize| {
            let Host { secret, config, segmentation, .. } = &self.hosts[index];
            let now = epochs[index];
            let mut engine = Engine::new(config.clone(), *secret, now);
            let medium = match self.ethernet {
                Ethernet::Present => Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, u8::try_from(index).expect("0 or 1")])),
                Ethernet::Absent => Medium::Ip,
            };
            engine.set_link(now, Some(Link::new(medium, self.mtu).with_segmentation(*segmentation)));
            let prefix = if self.ends[index].is_ipv4() { 24 } else { 64 };
            engine.add_address(now, format!("{}/{prefix}", self.ends[index].ip()).parse::<Cidr>().expect("a test sets this up"));
            engine
        };
        World {
            now: Duration::ZERO,
            hosts: [engine(0), engine(1)],
            epochs,
            wire: Wire::new(self.seed, self.impairment, self.cutting, self.bottleneck),
            lending: self.lending,
            trace: Trace::new(),
        }
    }
}

fn impairment(rng: &mut Rng) -> Impairment {
    let sometimes = |rng: &mut Rng, most: u64| if rng.chance(600) { rng.below(most + 1) } else { 0 };
    Impairment {
        loss: sometimes(rng, 300),
        duplicate: sometimes(rng, 200),
        reorder: sometimes(rng, 500),
        corrupt: sometimes(rng, 100),
        delay: millis(rng, 100),
        jitter: millis(rng, 200),
    }
}

/// Tiny buffers are where windows close, so they are frequent.
fn buffer(rng: &mut Rng) -> u32 {
    rng.pick(&[1, 2, 17, 536, 1460, 4096, 20_000, 65_535, 65_536, 100_000, 262_144, 262_144])
}

fn config(rng: &mut Rng, send_buffer: u32, receive_buffer: u32) -> Config {
    let mut config = Config::default();
    config.send_buffer = send_buffer;
    config.receive_buffer = receive_buffer;
    config.timestamps = rng.chance(600);
    config.sack = rng.chance(600);
    config.window_scaling = rng.chance(700);
    config.nagle = rng.chance(500);
    config.cork = rng.chance(150);
    config.initial_window = rng.pick(&[1, 2, 10, 10]);
    config.delayed_ack = Duration::from_millis(rng.pick(&[1, 40, 200]));
    config.quick_acks = rng.pick(&[0, 16]);
    config.fast_retransmit = rng.chance(900);
    config.limited_transmit = rng.chance(800);
    // A neighbour that does not answer is a fact of its own, not of the stream.
    config.neighbor_tries = 100;
    config.neighbor_timeout = Duration::from_millis(100);
    config.reassembly_ranges = usize::try_from(rng.pick(&[1, 4, 128])).expect("small");
    config
}

/// `buffer` is the smaller of the two that the bytes pass: every byte through a tiny one costs a round trip.
fn plan(rng: &mut Rng, buffer: u32) -> Plan {
    let most = (u64::from(buffer) * 24).min(120_000);
    let total = if rng.chance(100) { 0 } else { rng.below(most + 1) };
    let end = match rng.below(10) {
        0 => End::AbortAt(rng.below(total + 1)),
        1 => End::Release,
        _ => End::Graceful,
    };
    // Who takes its time takes more at once, or a byte would cost milliseconds.
    let pause = if rng.chance(400) { millis(rng, 20) } else { Duration::ZERO };
    let least = if pause.is_zero() { 1 } else { 700 };
    Plan {
        total,
        write_max: rng.pick(&[least + total / 40, 1460, 10_000, 70_000]),
        read_max: rng.pick(&[least, 1000, 8192, 100_000]),
        pause,
        manner: if rng.chance(600) { Manner::Signals } else { Manner::Polling },
        end,
    }
}

fn millis(rng: &mut Rng, most: u64) -> Duration {
    Duration::from_micros(rng.below(most * 1000) + 1)
}
