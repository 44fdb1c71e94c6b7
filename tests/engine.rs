//! Two engines on one wire, driven by hand: the sans-I/O core as an outside driver uses it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::VecDeque;
use std::time::Duration;

use synfin::proto::trace::{Note, Record, Side};
use synfin::proto::{Cidr, CloseReason, Config, Engine, Frame, Instant, Link, MacAddress, Medium, SocketId, State, TxFrame, cut};

/// Two hosts, A and B, joined by a wire without loss or delay.
struct Pair {
    now: Instant,
    hosts: [Engine; 2],
    wire: Vec<(usize, TxFrame)>,
}

impl Pair {
    fn new(config: &Config, segmentation: bool) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let host = |index: u8| {
            let mut engine = Engine::new(config.clone(), [index; 32], now);
            let link = Link::new(Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, index])), 1500);
            engine.set_link(now, Some(link.with_segmentation(segmentation).with_trusted_partial(true)));
            for cidr in [format!("10.0.0.{index}/24"), format!("fd00::{index}/64")] {
                engine.add_address(now, cidr.parse::<Cidr>().unwrap());
            }
            engine
        };
        Self { now, hosts: [host(1), host(2)], wire: Vec::new() }
    }

    /// Carries frames until nobody has anything to say.
    fn settle(&mut self) {
        while self.step() {}
    }

    /// Carries what both have to say now; false if that is nothing.
    fn step(&mut self) -> bool {
        let mut sent = Vec::new();
        for (index, host) in self.hosts.iter_mut().enumerate() {
            let mut frames = Vec::new();
            let _ = host.transmit(self.now, &mut frames);
            sent.extend(frames.into_iter().map(|frame| (index, frame)));
        }
        let any = !sent.is_empty();
        for (from, mut frame) in sent {
            self.wire.push((from, frame.clone()));
            let segment_size = frame.segment_size;
            cut::complete(&mut frame);
            let bytes = frame.to_vec();
            let checksum = if segment_size > 0 { synfin::proto::Checksum::Partial } else { synfin::proto::Checksum::Unknown };
            self.hosts[1 - from].receive(self.now, Frame { checksum, segment_size, ..Frame::borrowed(&bytes) });
        }
        any
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.hosts.iter().filter_map(Engine::deadline).min().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.hosts.iter_mut().for_each(|host| host.advance(at));
            self.settle();
        }
        self.now = end;
    }

    fn connect(&mut self, remote: &str) -> (SocketId, SocketId) {
        let listener = self.hosts[1].listen(self.now, remote.parse().unwrap(), 8).unwrap();
        let client = self.hosts[0].connect(self.now, remote.parse().unwrap(), None, None).unwrap();
        self.settle();
        assert_eq!(self.hosts[0].connected(client), Ok(()));
        let (server, _) = self.hosts[1].accept(self.now, listener).unwrap();
        (client, server)
    }
}

#[test]
fn from_syn_to_fin_in_both_families() {
    for remote in ["10.0.0.2:7", "[fd00::2]:7"] {
        let mut pair = Pair::new(&Config::default(), false);
        let (client, server) = pair.connect(remote);
        pair.hosts[0].send(pair.now, client, b"hello").unwrap();
        pair.settle();
        let mut buffer = [0; 64];
        assert_eq!(pair.hosts[1].recv(pair.now, server, &mut buffer), Ok(5));
        pair.hosts[0].shutdown(pair.now, client).unwrap();
        pair.settle();
        assert_eq!(pair.hosts[0].state(client), Some(State::FinWait2));
        assert_eq!(pair.hosts[1].state(server), Some(State::CloseWait));
        assert_eq!(pair.hosts[1].recv(pair.now, server, &mut buffer), Ok(0));
        pair.hosts[1].send(pair.now, server, b"still here").unwrap();
        pair.settle();
        assert_eq!(pair.hosts[0].recv(pair.now, client, &mut buffer), Ok(10));
        pair.hosts[1].shutdown(pair.now, server).unwrap();
        pair.settle();
        assert_eq!(pair.hosts[0].state(client), Some(State::TimeWait));
        assert_eq!(pair.hosts[1].state(server), Some(State::Closed));
        assert_eq!(pair.hosts[0].recv(pair.now, client, &mut buffer), Ok(0));
        pair.pass(Duration::from_secs(61));
        assert_eq!(pair.hosts[0].state(client), Some(State::Closed));
        pair.hosts[0].release(pair.now, client);
        pair.hosts[1].release(pair.now, server);
        assert_eq!(pair.hosts[0].socket_count(), 0);
        for host in &pair.hosts {
            let dropped: Vec<_> = host.stats().drops.iter().filter(|(_, count)| *count > 0).collect();
            assert!(dropped.is_empty(), "{dropped:?}");
        }
    }
}

#[test]
fn bulk_arrives_whole_with_and_without_super_packets() {
    for segmentation in [false, true] {
        for remote in ["10.0.0.2:7", "[fd00::2]:7"] {
            let mut pair = Pair::new(&Config::default(), segmentation);
            let (client, server) = pair.connect(remote);
            let data: Vec<u8> = (0..5_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            let (mut sent, mut received) = (0, Vec::new());
            let mut buffer = vec![0; 100_000];
            while received.len() < data.len() {
                let before = (sent, received.len());
                if sent < data.len()
                    && let Ok(written) = pair.hosts[0].send(pair.now, client, &data[sent..(sent + 70_000).min(data.len())])
                {
                    sent += written;
                }
                pair.settle();
                while let Ok(read @ 1..) = pair.hosts[1].recv(pair.now, server, &mut buffer) {
                    received.extend_from_slice(&buffer[..read]);
                }
                pair.settle();
                if before == (sent, received.len()) {
                    pair.pass(Duration::from_millis(50));
                }
            }
            assert!(received == data, "the stream differs");
            assert_eq!(pair.hosts[0].stats().tcp.retransmits, 0);
            assert_eq!(pair.hosts[0].stats().super_frames_out > 0, segmentation);
        }
    }
}

#[test]
fn a_lost_question_for_a_neighbour_is_asked_again() {
    let mut pair = Pair::new(&Config::default(), false);
    pair.settle();
    let client = pair.hosts[0].connect(pair.now, "10.0.0.2:7".parse().unwrap(), None, None).unwrap();
    let mut lost = Vec::new();
    let _ = pair.hosts[0].transmit(pair.now, &mut lost);
    assert_eq!(lost.len(), 1, "the question, and no SYN before the answer");
    let at = pair.hosts[0].deadline().unwrap();
    pair.hosts[0].advance(at);
    assert!(pair.hosts[0].wants_transmit());
    pair.pass(Duration::from_secs(2));
    assert_eq!(pair.hosts[0].close_reason(client), Some(CloseReason::Refused));
}

#[test]
fn a_reset_waits_for_its_neighbour() {
    for remote in ["10.0.0.2:7", "[fd00::2]:7"] {
        let mut pair = Pair::new(&Config::default(), false);
        let listener = pair.hosts[1].listen(pair.now, remote.parse().unwrap(), 8).unwrap();
        let client = pair.hosts[0].connect(pair.now, remote.parse().unwrap(), None, None).unwrap();
        let server = loop {
            assert!(pair.step(), "the handshake is stuck");
            if let Ok((server, _)) = pair.hosts[1].accept(pair.now, listener) {
                break server;
            }
        };
        // So far the server's side has only answered, back to where the questions came from: whose address that is, it has not asked.
        pair.hosts[1].abort(pair.now, server);
        pair.settle();
        assert_eq!(pair.hosts[0].close_reason(client), Some(CloseReason::Reset));
        assert_eq!((pair.hosts[1].stats().resets_out, pair.hosts[1].stats().replies_dropped), (1, 0));
    }
}

/// The changes of state that an engine has recorded, as `old -> new`, and whether each record came with a frame.
fn changes(engine: &mut Engine) -> Vec<(String, bool)> {
    let mut records = VecDeque::new();
    assert_eq!(engine.drain_trace(&mut records), 0);
    let change = |note: &Note| match note {
        Note::State { old, new, .. } => Some(format!("{old} -> {new}")),
        Note::Dropped(_) => None,
    };
    let of_record = |record: &Record| {
        let has_frame = record.side != Side::Nowhere;
        assert_eq!(record.to_vec().is_empty(), !has_frame);
        record.notes.iter().filter_map(change).map(|text| (text, has_frame)).collect::<Vec<_>>()
    };
    records.iter().flat_map(of_record).collect()
}

#[test]
fn a_trace_misses_no_change_of_state() {
    let remote = "10.0.0.2:80".parse().unwrap();
    let mut pair = Pair::new(&Config::default(), false);
    pair.settle();
    pair.hosts.iter_mut().for_each(Engine::start_trace);
    let listener = pair.hosts[1].listen(pair.now, remote, 8).unwrap();
    assert_eq!(changes(&mut pair.hosts[1]), [("CLOSED -> LISTEN".to_owned(), false)]);
    let client = pair.hosts[0].connect(pair.now, remote, None, None).unwrap();
    pair.settle();
    let (server, _) = pair.hosts[1].accept(pair.now, listener).unwrap();
    pair.hosts[0].shutdown(pair.now, client).unwrap();
    pair.step();
    // Their FIN acknowledges ours: two changes by one segment.
    pair.hosts[1].shutdown(pair.now, server).unwrap();
    pair.settle();
    let told = changes(&mut pair.hosts[0]);
    let expected = [
        "CLOSED -> SYN-SENT",
        "SYN-SENT -> ESTABLISHED",
        "ESTABLISHED -> FIN-WAIT-1",
        "FIN-WAIT-1 -> FIN-WAIT-2",
        "FIN-WAIT-2 -> TIME-WAIT",
    ];
    assert_eq!(told, expected.map(|text| (text.to_owned(), true)));
    pair.pass(Duration::from_secs(61));
    assert_eq!(changes(&mut pair.hosts[0]), [("TIME-WAIT -> CLOSED".to_owned(), false)]);
    let expected = [
        "LISTEN -> SYN-RECEIVED",
        "SYN-RECEIVED -> ESTABLISHED",
        "ESTABLISHED -> CLOSE-WAIT",
        "CLOSE-WAIT -> LAST-ACK",
        "LAST-ACK -> CLOSED",
    ];
    assert_eq!(changes(&mut pair.hosts[1]), expected.map(|text| (text.to_owned(), true)));

    // A half-open connection goes with its listener.
    pair.hosts[0].connect(pair.now, remote, None, None).unwrap();
    pair.step();
    pair.hosts[1].release(pair.now, listener);
    let told: Vec<String> = {
        pair.settle();
        changes(&mut pair.hosts[1]).into_iter().map(|(text, _)| text).collect()
    };
    assert_eq!(told, ["LISTEN -> SYN-RECEIVED", "SYN-RECEIVED -> CLOSED", "LISTEN -> CLOSED"]);
}
