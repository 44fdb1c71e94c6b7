//! The ladder: two hosts, time running down, one arrow for each segment. It is drawn from frames and from snapshots of both hosts, never from
//! what the program meant to do.
//!
//! ```text
//!   ms    state   una/nxt/rcv|----------------- the wire -----------------|una/nxt/rcv state
//! ```
//!
//! A segment that arrives before anything else happens is one arrow; otherwise its departure and its arrival are drawn apart, each when it
//! happens, so that crossing and overtaking show.

use crate::packet::{Packet, Side, Tcp};
use crate::screen::Screen;
use crate::stage::Fate;
use crate::track::{Meaning, Space, Tracker};
use std::collections::BTreeMap;
use std::io;

/// A host at one moment, as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) state: String,
    pub(crate) space: Option<Space>,
}

/// A frame that leaves a host.
#[derive(Debug)]
pub(crate) struct Departure {
    pub(crate) number: u64,
    pub(crate) nanos: u64,
    pub(crate) side: Side,
    pub(crate) packet: Packet,
    pub(crate) fate: Fate,
}

/// The drawing, line by line.
#[derive(Debug, Default)]
pub(crate) struct Ladder {
    tracker: Tracker,
    /// A departure that becomes a whole arrow if its arrival is next.
    pending: Option<Arrow>,
    on_the_way: BTreeMap<u64, Arrow>,
    audience: Audience,
    unseen: BTreeMap<String, u64>,
}

/// Whether segments are drawn or only counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Audience {
    Absent,
    #[default]
    Present,
}

#[derive(Clone, Debug)]
struct Arrow {
    number: u64,
    nanos: u64,
    side: Side,
    tcp: Option<Tcp>,
    text: String,
    notes: Vec<String>,
    why: &'static str,
    sender: View,
}

impl Ladder {
    /// The names of both hosts and what the columns mean.
    pub(crate) fn begin(screen: &mut Screen, hosts: [&str; 2]) -> io::Result<()> {
        let middle = format!("{:<half$}{:>half$}", hosts[0], hosts[1], half = WIRE / 2);
        screen.line("")?;
        screen.line(&format!("     ms state        una/nxt/rcv|{middle}|una/nxt/rcv state"))
    }

    /// A frame leaves. `sender` is asked after it has left.
    pub(crate) fn depart(&mut self, screen: &mut Screen, departure: Departure, sender: impl FnOnce(&Tracker) -> View) -> io::Result<()> {
        self.flush(screen)?;
        let Departure { number, nanos, side, packet, fate } = departure;
        let (tcp, text, notes, why) = match packet {
            Packet::Other(text) => {
                (None, format!("#{number} {text}"), Vec::new(), "on Ethernet, who has an IP address is first asked, and told.")
            }
            Packet::Tcp(tcp) => {
                let meaning = self.tracker.on_sent(number, side, &tcp);
                let (text, notes) = describe(number, &tcp, &meaning);
                (Some(tcp), text, notes, meaning.kind.why())
            }
        };
        let arrow = Arrow { number, nanos, side, tcp, text, notes, why, sender: sender(&self.tracker) };
        if self.audience == Audience::Absent {
            let flags = tcp.map_or_else(|| "other".to_owned(), |tcp| tcp.segment.flags.to_string());
            *self.unseen.entry(flags).or_default() += 1;
            if fate == Fate::Delivered {
                self.on_the_way.insert(number, arrow);
            }
            return Ok(());
        }
        match fate {
            Fate::Lost => arrow.draw(screen, &lost(side, &arrow.text), None),
            Fate::Delivered => {
                self.pending = Some(arrow);
                Ok(())
            }
        }
    }

    /// The frame with this number arrives at this time. `receiver` is asked after it has been received, before it answers.
    pub(crate) fn arrive(
        &mut self,
        screen: &mut Screen,
        (number, nanos): (u64, u64),
        receiver: impl FnOnce(&Tracker) -> View,
    ) -> io::Result<()> {
        if let Some(arrow) = self.pending.take_if(|arrow| arrow.number == number) {
            self.note_arrival(&arrow);
            return arrow.draw(screen, &whole(arrow.side, &arrow.text), Some(receiver(&self.tracker)));
        }
        self.flush(screen)?;
        let Some(mut arrow) = self.on_the_way.remove(&number) else { return Ok(()) };
        self.note_arrival(&arrow);
        if self.audience == Audience::Absent {
            return Ok(());
        }
        (arrow.nanos, arrow.side, arrow.sender) = (nanos, arrow.side.other(), receiver(&self.tracker));
        arrow.notes.clear();
        screen.line(&arrow.line(&arrival(arrow.side.other(), number), None))
    }

    /// Both hosts when no segment is there to show them.
    pub(crate) fn states(&mut self, screen: &mut Screen, nanos: u64, text: &str, views: [View; 2]) -> io::Result<()> {
        self.flush(screen)?;
        let [left, right] = views;
        screen.line(&row(nanos, &cell_left(Some(&left)), &format!("{:^WIRE$}", format!("({text})")), &cell_right(Some(&right))))
    }

    /// Draws a departure whose arrival is not next.
    pub(crate) fn flush(&mut self, screen: &mut Screen) -> io::Result<()> {
        let Some(arrow) = self.pending.take() else { return Ok(()) };
        arrow.draw(screen, &departure(arrow.side, &arrow.text), None)?;
        self.on_the_way.insert(arrow.number, arrow);
        Ok(())
    }

    /// From now on segments are only counted.
    pub(crate) fn look_away(&mut self, screen: &mut Screen) -> io::Result<()> {
        self.flush(screen)?;
        self.audience = Audience::Absent;
        Ok(())
    }

    /// Draws again, and says what was missed.
    pub(crate) fn look_again(&mut self, screen: &mut Screen) -> io::Result<()> {
        self.audience = Audience::Present;
        let unseen = std::mem::take(&mut self.unseen);
        let list: Vec<_> = unseen.iter().map(|(flags, count)| format!("{count} {flags}")).collect();
        if list.is_empty() { Ok(()) } else { screen.line(&format!("        ... not drawn: {}", list.join(", "))) }
    }

    /// What the wire tells of one side's sequence space.
    pub(crate) fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    fn note_arrival(&mut self, arrow: &Arrow) {
        if let Some(tcp) = &arrow.tcp {
            self.tracker.on_arrived(arrow.side, tcp);
        }
    }
}

impl Arrow {
    fn draw(&self, screen: &mut Screen, wire: &str, receiver: Option<View>) -> io::Result<()> {
        for note in note_lines(&self.notes) {
            screen.line(&format!("{:MARGIN$}|{:^WIRE$}|", "", note))?;
        }
        screen.segment(&self.line(wire, receiver), self.why)
    }

    fn line(&self, wire: &str, receiver: Option<View>) -> String {
        let (left, right) = match self.side {
            Side::Left => (Some(&self.sender), receiver.as_ref()),
            Side::Right => (receiver.as_ref(), Some(&self.sender)),
        };
        row(self.nanos, &cell_left(left), wire, &cell_right(right))
    }
}

/// The text on an arrow, and what does not fit on it.
fn describe(number: u64, tcp: &Tcp, meaning: &Meaning) -> (String, Vec<String>) {
    let mut text = format!("#{number} {} seq={}", tcp.segment.flags, meaning.seq);
    if let Some(ack) = meaning.ack {
        text += &format!(" ack={ack}");
    }
    if tcp.segment.payload_len > 0 {
        text += &format!(" len={}", tcp.segment.payload_len);
    }
    let mut notes = meaning.notes.clone();
    let window = format!("win={}", meaning.window);
    if text.len() + 1 + window.len() <= TEXT_MAX {
        text = format!("{text} {window}");
    } else {
        notes.push(window);
    }
    (text, notes)
}

fn whole(side: Side, text: &str) -> String {
    match side {
        Side::Left => format!("- {:-<width$}>", format!("{text} "), width = WIRE - 3),
        Side::Right => format!("<{:->width$} -", format!(" {text}"), width = WIRE - 3),
    }
}

fn lost(side: Side, text: &str) -> String {
    match side {
        Side::Left => format!("{:<WIRE$}", format!("- {text} --x")),
        Side::Right => format!("{:>WIRE$}", format!("x-- {text} -")),
    }
}

fn departure(side: Side, text: &str) -> String {
    match side {
        Side::Left => format!("{:<WIRE$}", format!("- {text} ~")),
        Side::Right => format!("{:>WIRE$}", format!("~ {text} -")),
    }
}

fn arrival(side: Side, number: u64) -> String {
    match side {
        Side::Left => format!("{:>WIRE$}", format!("~ #{number} -->")),
        Side::Right => format!("{:<WIRE$}", format!("<-- #{number} ~")),
    }
}

/// Notes as lines that fit between the hosts.
fn note_lines(notes: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for note in notes {
        match lines.last_mut() {
            Some(line) if line.len() + 2 + note.len() <= WIRE => *line = format!("{line}, {note}"),
            Some(_) | None => lines.push(note.clone()),
        }
    }
    lines
}

fn row(nanos: u64, left: &str, wire: &str, right: &str) -> String {
    let (millis, tenths) = (nanos / 1_000_000, nanos / 100_000 % 10);
    let time = if millis < 100_000 { format!("{millis}.{tenths}") } else { millis.to_string() };
    format!("{time:>7} {left}|{wire}|{right}")
}

fn cell_left(view: Option<&View>) -> String {
    let Some(View { state, space }) = view else { return " ".repeat(STATE + 1 + SPACE) };
    format!("{state:<STATE$} {:>SPACE$}", space.map_or_else(String::new, |space| space.to_string()))
}

fn cell_right(view: Option<&View>) -> String {
    let Some(View { state, space }) = view else { return String::new() };
    format!("{:<SPACE$} {state}", space.map_or_else(String::new, |space| space.to_string()))
}

/// Columns of a state, of a sequence space, and of the wire; everything together is 110.
const STATE: usize = 12;
const SPACE: usize = 11;
const WIRE: usize = 50;
/// Columns left of the wire.
const MARGIN: usize = 8 + STATE + 1 + SPACE;
/// What fits on an arrow beside its ends.
const TEXT_MAX: usize = WIRE - 5;
