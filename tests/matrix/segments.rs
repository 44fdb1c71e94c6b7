//! Every kind of segment in every state: what is sent for it, where it leads, what is delivered.

use synfin::proto::wire::{Flags, Segment, SeqNum};
use synfin::proto::{CloseReason, Config};

use crate::cubes::{Block, join};
use crate::host::Family;
use crate::stage::{Stage, Start};

/// The text of the table for all states.
pub(crate) fn table(family: Family) -> String {
    let mut text = LEGEND.to_owned();
    for start in Start::ALL {
        text.push_str(&format!("\n{}\n", start.name()));
        let cells = cells(start, family);
        let mut blocks = join(cells, &[P, U, TEXT, ACK_NUMBER, SEQ, F, S, A, R]);
        blocks.sort_by_key(|(block, outcome)| (outcome.clone(), order(block)));
        let mut last = String::new();
        for (block, outcome) in blocks {
            if outcome != last {
                text.push_str(&format!("  {outcome}\n"));
                last = outcome;
            }
            text.push_str(&format!("      {}\n", row(&block)));
        }
    }
    text
}

fn cells(start: Start, family: Family) -> Vec<(Block, String)> {
    let mut cells = Vec::new();
    for index in 0..CELLS {
        let mut block: Block = (0..6).map(|bit| 1 << (index >> bit & 1)).collect();
        block.extend([1 << (index / 64 % 4), 1 << (index / 256 % 4), 1 << (index / 1024)]);
        cells.push((block, outcome(start, family, index)));
    }
    cells
}

/// What the segment of this number does: six bits of flags, then the classes of its numbers and of its text.
pub(crate) fn outcome(start: Start, family: Family, index: u32) -> String {
    let cell = Cell { flags: flags_of(index % 64), seq: index / 64 % 4, ack: index / 256 % 4, text: index / 1024 * 10 };
    play(start, family, &cell)
}

/// One segment, by the classes of its fields.
struct Cell {
    flags: Flags,
    seq: u32,
    ack: u32,
    text: u32,
}

fn play(start: Start, family: Family, cell: &Cell) -> String {
    let mut stage = Stage::set(start, &Config::default(), family);
    let header = Segment {
        seq: match cell.seq {
            0 => stage.rcv_nxt.back(100),
            1 => stage.rcv_nxt,
            2 => stage.rcv_nxt + 100,
            _ => stage.rcv_nxt + 100_000,
        },
        ack: match cell.ack {
            0 => stage.snd_una.back(100_000),
            1 => stage.snd_una.back(1),
            2 => stage.snd_nxt,
            _ => stage.snd_nxt + 1,
        },
        flags: cell.flags,
        window: u16::MAX,
        urgent: 5,
        payload_len: cell.text,
        ..Segment::default()
    };
    let (rcv_nxt, snd_nxt, before) = (stage.rcv_nxt, stage.snd_nxt, stage.read());
    let sent = stage.receive(header, vec![7; cell.text as usize]);
    let named: Vec<String> = sent.iter().map(|answer| name(answer, &header, rcv_nxt, snd_nxt)).collect();
    let (bytes, mut end) = stage.read();
    if before.1.is_some() {
        end = None;
    }
    let mut outcome = if named.is_empty() { "-".to_owned() } else { named.join(" + ") };
    let reached = stage.start();
    if reached != start {
        outcome.push_str(&format!(" => {}", reached.name()));
    }
    if let Some(reason) = stage.reason().filter(|reason| *reason != CloseReason::Finished) {
        outcome.push_str(&format!(", {reason:?}"));
    }
    if bytes > 0 {
        outcome.push_str(&format!(", delivers {bytes}"));
    }
    if end == Some("end") {
        outcome.push_str(", delivers the end");
    }
    outcome
}

/// An answer, by what its numbers are.
fn name(answer: &Segment, question: &Segment, rcv_nxt: SeqNum, snd_nxt: SeqNum) -> String {
    let flags = answer.flags;
    let end = question.end();
    let acknowledged = match answer.ack {
        _ if !flags.has(Flags::ACK) => "",
        ack if flags.has(Flags::SYN) && ack == question.seq + 1 => "",
        ack if flags.has(Flags::RST) && ack == end => "",
        ack if ack == rcv_nxt => "",
        ack if ack == end => " of all",
        ack if ack == question.seq + question.payload_len => " of the text",
        _ => " of something else",
    };
    let place = match answer.seq {
        seq if flags == Flags::RST && seq == question.ack => "",
        SeqNum(0) if flags == Flags::RST | Flags::ACK => "",
        seq if seq == snd_nxt && !flags.has_any(Flags::RST | Flags::SYN) => "",
        seq if flags.has(Flags::SYN) && (seq + 1 == snd_nxt || snd_nxt == UNSENT) => "",
        seq if seq == snd_nxt => " at SND.NXT",
        _ => " elsewhere",
    };
    format!("{flags}{acknowledged}{place}")
}

/// SND.NXT before anything was sent.
const UNSENT: SeqNum = SeqNum(0);

fn flags_of(index: u32) -> Flags {
    LETTERS.iter().enumerate().filter(|(bit, _)| index >> bit & 1 == 1).fold(Flags::NONE, |flags, (_, (_, flag))| flags | *flag)
}

/// Fewer conditions first, then as the letters stand.
fn order(block: &Block) -> (u32, String) {
    (u32::MAX - block.iter().map(|values| values.count_ones()).product::<u32>(), row(block))
}

fn row(block: &Block) -> String {
    let flags: String = LETTERS
        .iter()
        .zip(block)
        .map(|((letter, _), values)| match values {
            1 => '-',
            2 => *letter,
            _ => '.',
        })
        .collect();
    let names = |dimension: usize, names: &[&str]| {
        let values = block[dimension];
        if values.count_ones() as usize == names.len() {
            return "*".to_owned();
        }
        let present: Vec<&str> = names.iter().enumerate().filter(|(at, _)| values >> at & 1 == 1).map(|(_, name)| *name).collect();
        present.join(",")
    };
    let seq = names(SEQ, &SEQ_CLASSES);
    let ack = names(ACK_NUMBER, &ACK_CLASSES);
    let text = names(TEXT, &TEXT_CLASSES);
    format!("{flags}  {seq:<20} {ack:<20} {text}").trim_end().to_owned()
}

/// Kinds of segments in one state.
pub(crate) const CELLS: u32 = 64 * 4 * 4 * 2;

/// Where a segment's number stands.
pub(crate) const SEQ_CLASSES: [&str; 4] = ["old", "exact", "window", "future"];

/// What it acknowledges.
pub(crate) const ACK_CLASSES: [&str; 4] = ["ancient", "old", "ok", "future"];

/// Whether it carries text.
pub(crate) const TEXT_CLASSES: [&str; 2] = ["empty", "text"];

/// The flags, in the order of the dimensions.
pub(crate) const LETTERS: [(char, Flags); 6] =
    [('R', Flags::RST), ('S', Flags::SYN), ('A', Flags::ACK), ('F', Flags::FIN), ('P', Flags::PSH), ('U', Flags::URG)];

const R: usize = 0;
const S: usize = 1;
const A: usize = 2;
const F: usize = 3;
const P: usize = 4;
const U: usize = 5;
const SEQ: usize = 6;
const ACK_NUMBER: usize = 7;
const TEXT: usize = 8;

const LEGEND: &str = "\
What one segment does to a connection: 64 sets of flags x 4 sequence numbers x 4 acknowledgment numbers x with and without text, in each
state. Nobody has sent data before; no timestamps; windows of 65,535. In ESTABLISHED and later states we had connected.

  flags   R S A F P U: the letter = set, - = not set, . = either
  seq     old = RCV.NXT - 100, exact = RCV.NXT, window = RCV.NXT + 100, future = RCV.NXT + 100,000
  ack     ancient = SND.UNA - 100,000, old = SND.UNA - 1, ok = SND.NXT, future = SND.NXT + 1; without the flag it does not count
  text    empty, or 10 bytes

Outcomes: what is sent => the new state, the error, what is delivered.
  ACK             <SEQ=SND.NXT><ACK=RCV.NXT>, nothing new acknowledged: a duplicate, or a challenge (RFC 5961)
  ACK of all      the segment is acknowledged whole; `of the text`: without its FIN
  RST             <SEQ=SEG.ACK><CTL=RST>
  RST,ACK         <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>
  SYN,ACK         <SEQ=ISS><ACK=IRS+1><CTL=SYN,ACK>
  -               silence
";
