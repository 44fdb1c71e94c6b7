//! Two engines, a bad wire, and two applications that compare every byte: thousands of seeds of it.
//!
//! Oracle: what is read is a prefix of what was written, and all of it if the stream ended in good order; the connection goes on once the wire
//! heals; in the end every table is empty; nothing is dropped for a reason that has no cause; and a seed gives the same trace, byte for byte,
//! every time and in every process. `SYNFIN_SEED=n` replays one seed, `SYNFIN_TEST=full` runs ten times as many.

#[path = "support/application.rs"]
mod application;
#[path = "support/effort.rs"]
mod effort;
#[path = "support/isn.rs"]
mod isn;
#[path = "support/rng.rs"]
mod rng;
#[path = "support/scenario.rs"]
mod scenario;
#[path = "support/seeds.rs"]
mod seeds;
#[path = "support/wire.rs"]
mod wire;
#[path = "support/world.rs"]
mod world;

use std::time::Duration;

use synfin::proto::wire::SeqNum;
use synfin::proto::{DropReason, SocketId};

use crate::application::Application;
use crate::scenario::Scenario;
use crate::wire::Impairment;
use crate::world::{Trace, World};

/// What a run shows to the test about all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outcome {
    trace: u64,
    /// Virtual time until both applications were done.
    took: Duration,
    /// The sequence numbers of either side went over 2^31 or over 2^32.
    crossed_middle: bool,
    crossed_end: bool,
    /// Of the side with more of them.
    retransmits: u64,
    corrupted: u64,
    super_frames: u64,
    read: u64,
}

/// Events after which a run is called busy for nothing: hundreds per byte.
const STEPS_MAX: u32 = 400_000;

/// A run of one seed.
struct Run {
    scenario: Scenario,
    world: World,
    listener: SocketId,
    applications: [Application; 2],
    outcome: Outcome,
}

impl Run {
    fn new(seed: u64) -> Self {
        let scenario = Scenario::new(seed);
        let mut world = scenario.world();
        let [client, server] = scenario.ends;
        let listener = world.hosts[1].listen(world.time_of(1), server, 8).expect("a test sets this up");
        let socket = world.hosts[0].connect(world.time_of(0), server, Some(client), None).expect("a test sets this up");
        let mut applications = [0, 1].map(|side: usize| Application::new(seed, side as u64, scenario.plans[side]));
        applications[0].take_socket(socket);
        Self { scenario, world, listener, applications, outcome: Outcome::default() }
    }

    fn run(mut self) -> Outcome {
        let deadline = self.patience();
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < STEPS_MAX, "busy without an end at {:?}: {}", self.world.now, self.describe());
            self.act();
            self.give_up_on_the_silent();
            if self.applications.iter().all(Application::is_finished) {
                break;
            }
            let pauses = self.applications.iter().filter_map(|application| application.wakes_at);
            let healing = (self.world.now < self.scenario.heals_at).then_some(self.scenario.heals_at);
            let leaving = self.silence_ends_at();
            let next = self.world.next_at().into_iter().chain(pauses).chain(healing).chain(leaving).min();
            let Some(at) = next else { panic!("standstill at {:?}: {}", self.world.now, self.describe()) };
            assert!(at < deadline, "no end in sight at {:?}: {}", self.world.now, self.describe());
            if at >= self.scenario.heals_at {
                let delay = self.scenario.impairment.delay;
                self.world.wire.impairment = Impairment { delay, ..Impairment::default() };
            }
            self.world.step(at);
        }
        self.outcome.took = self.world.now;
        self.check_streams();
        self.check_drops();
        self.check_rest();
        self.outcome.trace = self.world.trace.0;
        self.outcome
    }

    /// Both applications do what they can, and the hosts say what follows.
    fn act(&mut self) {
        if self.applications[1].socket().is_none()
            && let Ok((socket, _)) = self.world.hosts[1].accept(self.world.time_of(1), self.listener)
        {
            self.applications[1].take_socket(socket);
        }
        for index in 0..2 {
            let time = self.world.time_of(index);
            let host = &mut self.world.hosts[index];
            let application = &mut self.applications[index];
            while let Some(signal) = host.next_signal() {
                application.on_signal(signal.socket, signal.events);
            }
            application.act(host, self.scenario.seed, self.world.now, time);
        }
        self.world.transmit();
        self.note_progress();
    }

    /// A side whose peer is gone without a trace gives up after a while: it may have nothing to send by which it would find out.
    fn give_up_on_the_silent(&mut self) {
        if self.silence_ends_at().is_some_and(|at| at <= self.world.now) {
            for index in 0..2 {
                let time = self.world.time_of(index);
                self.applications[index].abort(&mut self.world.hosts[index], self.world.now, time);
            }
        }
    }

    fn silence_ends_at(&self) -> Option<Duration> {
        let finished = self.applications.iter().find_map(|application| application.finished_at);
        finished.filter(|_| !self.scenario.is_graceful()).map(|at| at + Duration::from_secs(200))
    }

    /// How long the seed may take: its fault time, and a share for every byte through the smallest buffer.
    fn patience(&self) -> Duration {
        let bytes: u64 = self.scenario.plans.iter().map(|plan| plan.total).sum();
        self.scenario.heals_at + Duration::from_secs(300) + Duration::from_millis(bytes)
    }

    fn check_streams(&mut self) {
        for (reader, writer) in [(0, 1), (1, 0)] {
            let [reader, writer] = [&self.applications[reader], &self.applications[writer]];
            assert!(reader.read <= writer.written);
            if reader.found_end {
                assert!(writer.closed, "the end of a stream that nobody closed: {}", self.describe());
                assert_eq!(reader.read, writer.written, "the stream ended in good order, but not whole");
            }
            if self.scenario.is_graceful() {
                assert_eq!((reader.error, reader.found_end, writer.closed), (None, true, true), "a graceful end");
            }
            self.outcome.read += reader.read;
        }
    }

    /// Time-Wait ends, lingering connections end, and nothing is left.
    fn check_rest(&mut self) {
        let time = self.world.time_of(1);
        self.world.hosts[1].release(time, self.listener);
        let lingering = if self.scenario.is_graceful() { Duration::from_secs(130) } else { Duration::from_secs(1200) };
        self.world.pass(self.world.now + lingering);
        for (index, host) in self.world.hosts.iter().enumerate() {
            let rows = host.netstat(self.world.time_of(index));
            assert!(host.is_quiescent() && rows.is_empty(), "host {index} keeps {rows:#?}");
            self.outcome.super_frames += host.stats().super_frames_out;
        }
        self.outcome.corrupted = self.world.wire.tally.corrupted;
    }

    fn check_drops(&self) {
        for (index, host) in self.world.hosts.iter().enumerate() {
            for (reason, count) in host.stats().drops.iter().filter(|(_, count)| *count > 0) {
                assert!(self.may_drop(reason), "host {index} dropped {count} for {reason} without a cause: {}", self.describe());
            }
        }
    }

    /// Whether something in the scenario can be the cause.
    fn may_drop(&self, reason: DropReason) -> bool {
        let Impairment { loss, duplicate, reorder, corrupt, .. } = self.scenario.impairment;
        if self.scenario.is_clean() {
            // Probes of a closed window stand outside it, and so do retransmissions that were too early.
            return reason == DropReason::OutsideWindow;
        }
        match reason {
            DropReason::BadTcpChecksum | DropReason::BadIpChecksum | DropReason::BadIpHeader | DropReason::Fragment => corrupt > 0,
            DropReason::ExtensionChain | DropReason::IpLength | DropReason::SourceRoute => corrupt > 0,
            DropReason::UnknownProtocol | DropReason::NotForUs | DropReason::BadIcmp => corrupt > 0,
            DropReason::GroupSource | DropReason::Land | DropReason::LoopbackSource | DropReason::OwnSource => corrupt > 0,
            DropReason::MappedAddress | DropReason::ReservedSource => corrupt > 0,
            DropReason::OutsideWindow | DropReason::OutsideAck | DropReason::Paws | DropReason::SynInConnection => true,
            DropReason::HandshakeAck | DropReason::TimeWait => loss + duplicate + reorder + corrupt > 0,
            DropReason::NoSocket | DropReason::Reset | DropReason::Unread => true,
            DropReason::IllegalFlags | DropReason::NoAck => false,
            _ => false,
        }
    }

    fn note_progress(&mut self) {
        for (host, application) in self.world.hosts.iter().zip(&self.applications) {
            let Some(info) = application.socket().and_then(|socket| host.info(socket)) else { continue };
            let crossed = |at: u32| info.iss < SeqNum(at) && SeqNum(at) <= info.snd_una;
            self.outcome.crossed_middle |= crossed(1 << 31);
            self.outcome.crossed_end |= crossed(0);
            self.outcome.retransmits = self.outcome.retransmits.max(info.total_retransmits);
        }
    }

    fn describe(&self) -> String {
        let mut text = format!("{:?}\n", self.scenario);
        for (index, host) in self.world.hosts.iter().enumerate() {
            let application = &self.applications[index];
            let info = application.socket().and_then(|socket| host.info(socket));
            text += &format!("host {index}: {application:?}\n{info:?}\ndeadline {:?}\n", host.deadline());
            let reason = application.socket().and_then(|socket| host.close_reason(socket));
            let drops: Vec<_> = host.stats().drops.iter().filter(|(_, count)| *count > 0).collect();
            let (frames_in, frames_out) = (host.stats().frames_in, host.stats().frames_out);
            text += &format!("ended by {reason:?}, frames in {frames_in}, out {frames_out}, dropped {drops:?}\n");
        }
        text
    }
}

/// Runs a seed; a panic names it.
fn run(seed: u64) -> Outcome {
    std::panic::catch_unwind(|| Run::new(seed).run()).unwrap_or_else(|panic| {
        eprintln!("replay with SYNFIN_SEED={seed}");
        std::panic::resume_unwind(panic)
    })
}

#[test]
fn streams_arrive_whole_whatever_the_wire_does() {
    let seeds = seeds::seeds(2000, 20_000);
    let many = seeds.clone().count() > 1000;
    let mut total = Outcome::default();
    let (mut middles, mut ends) = (0, 0);
    for seed in seeds {
        let outcome = run(seed);
        assert_eq!(outcome, run(seed), "seed {seed}: two runs differ");
        middles += u64::from(outcome.crossed_middle);
        ends += u64::from(outcome.crossed_end);
        total.retransmits += outcome.retransmits;
        total.corrupted += outcome.corrupted;
        total.super_frames += outcome.super_frames;
        total.read += outcome.read;
        total.took += outcome.took;
    }
    println!("{total:?}, {middles} over 2^31, {ends} over 2^32");
    if many {
        assert!(middles > 200 && ends > 200, "too few seeds cross a wrap: {middles} over 2^31, {ends} over 2^32");
        assert!(total.retransmits > 1000 && total.corrupted > 100 && total.super_frames > 1000, "the wire was too kind: {total:?}");
    }
}

/// Set in the process that only prints traces.
const CHILD: &str = "SYNFIN_TRACES";

#[test]
fn a_seed_gives_the_same_trace_in_another_process() {
    let traces: Vec<String> = (0..50).map(|seed| format!("trace {seed} {:016x}", run(seed).trace)).collect();
    if std::env::var_os(CHILD).is_some() {
        println!("\n{}", traces.join("\n"));
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().expect("a test sets this up"))
        .args(["--exact", "a_seed_gives_the_same_trace_in_another_process", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("a test sets this up");
    let text = String::from_utf8(child.stdout).expect("a test sets this up");
    let printed: Vec<&str> = text.lines().filter(|line| line.starts_with("trace ")).collect();
    assert_eq!(printed, traces);
}

#[test]
fn the_trace_sees_every_byte() {
    let mut traces = [[1, 2, 3].as_slice(), &[1, 2, 4], &[1, 2], &[0, 1, 2, 3], &[1, 2, 3, 0, 0, 0, 0, 0]].map(|bytes| {
        let mut trace = Trace::new();
        trace.mix_bytes(bytes);
        trace.0
    });
    traces.sort_unstable();
    assert!(traces.is_sorted_by(|left, right| left < right));
}
