//! Plays a script against an engine, line by line, and says where they part.
//!
//! Between two lines the clock stops at every deadline of the engine: what is sent then was not to be sent.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use super::host::{Between, Family, Packet, START};
use super::knobs::duration_text;
use super::script::{Line, Script, Step};
use super::world::World;

/// Where a script and the engine part.
#[derive(Debug)]
pub(crate) struct Mismatch {
    /// The script's name and the line's number.
    pub(crate) place: String,
    pub(crate) message: String,
    /// What was to happen beside what happened.
    pub(crate) report: String,
}

/// Plays `script`.
pub(crate) fn run(script: &Script, family: Family) -> Result<(), Box<Mismatch>> {
    run_between(script, family, Between::default())
}

/// Plays `script` with something between the engine and its peer.
pub(crate) fn run_between(script: &Script, family: Family, between: Between) -> Result<(), Box<Mismatch>> {
    let mut player = Player { world: World::new(&script.config, family), pending: VecDeque::new(), happened: Vec::new() };
    player.world.host.between = between;
    for (index, line) in script.lines.iter().enumerate() {
        if let Err(message) = player.play(line) {
            return Err(player.mismatch(script, index, message));
        }
    }
    let last = script.lines.len().saturating_sub(1);
    player.expect_silence().map_err(|message| player.mismatch(script, last, message))
}

struct Player {
    world: World,
    /// Sent and not looked at yet.
    pending: VecDeque<Packet>,
    /// What each line turned out to be.
    happened: Vec<String>,
}

impl Player {
    fn play(&mut self, line: &Line) -> Result<(), String> {
        if !line.after.is_zero() {
            self.expect_silence()?;
            self.pass(line.after)?;
        }
        match &line.step {
            Step::Send(expected) => {
                let packet = self.pending.pop_front().ok_or("nothing was sent")?;
                let (actual, expected) = self.world.compare(&packet, expected);
                self.happened.push(format!("> {actual}"));
                if actual != expected {
                    return Err(format!("expected > {expected}\n     sent > {actual}"));
                }
                let text = expected.payload.bytes(actual.seq.unwrap_or(0), packet.payload.len());
                let is_syn = actual.flags.has(synfin::proto::wire::Flags::SYN);
                return if is_syn || text == packet.payload { Ok(()) } else { Err("the text is not what was written".to_owned()) };
            }
            Step::Receive(words) => {
                self.expect_silence()?;
                self.world.receive(words);
                self.happened.push(format!("< {words}"));
            }
            Step::Report(report) => {
                self.expect_silence()?;
                self.world.report(report);
                self.happened.push("< icmp".to_owned());
            }
            Step::Call(call) => {
                self.expect_silence()?;
                let answer = call.make(&mut self.world);
                self.happened.push(format!("! -> {answer}"));
                if answer != call.answer {
                    return Err(format!("expected the answer {}\n              but got {answer}", call.answer));
                }
            }
            Step::Check(facts) => {
                self.expect_silence()?;
                for fact in facts {
                    let actual = fact.actual(&mut self.world)?;
                    if actual.value != fact.value {
                        self.happened.push(format!("= {actual}"));
                        return Err(format!("expected {fact}\n     but {actual}"));
                    }
                }
                self.happened.push("=".to_owned());
            }
        }
        self.collect();
        Ok(())
    }

    fn collect(&mut self) {
        self.pending.extend(self.world.host.sent());
    }

    /// Lets time pass. What is sent at the very end is the next line's to expect; before that, nothing may be.
    fn pass(&mut self, duration: Duration) -> Result<(), String> {
        let end = self.world.host.now + duration;
        for _ in 0..STEPS_MAX {
            if !self.world.host.step(end) {
                self.world.host.now = end;
                return Ok(());
            }
            self.collect();
            if self.world.host.now < end {
                self.expect_silence().map_err(|error| format!("{error} {} too early", duration_text(end - self.world.host.now)))?;
            }
        }
        Err(format!("the engine asks to be woken without end at {}", duration_text(self.world.host.now - START)))
    }

    fn expect_silence(&mut self) -> Result<(), String> {
        let Some(packet) = self.pending.front().cloned() else { return Ok(()) };
        let words = self.world.words(&packet, false);
        Err(format!("unexpected > {words}"))
    }

    /// Both transcripts side by side.
    fn mismatch(&self, script: &Script, index: usize, message: String) -> Box<Mismatch> {
        let place = format!("{}:{}", script.name, script.lines[index].number);
        let mut report =
            format!("{place} ({:?}), {} after the start\n", self.world.host.family, duration_text(self.world.host.now - START));
        for (at, line) in script.lines[..=index].iter().enumerate() {
            let mark = if at == index { ">>>" } else { "   " };
            let happened = self.happened.get(at).map_or("", String::as_str);
            let _ = writeln!(report, "{mark} {:>3}  {:<58} | {happened}", line.number, line.text);
        }
        Box::new(Mismatch { place, report: format!("{report}{message}\n"), message })
    }
}

/// More deadlines between two lines than any connection has.
const STEPS_MAX: usize = 100_000;
