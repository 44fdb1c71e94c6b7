//! Falsifies a script: every expectation of every line, one at a time, so that a test can show that each of them is looked at.

use std::time::Duration;

use synfin::proto::State;
use synfin::proto::wire::Flags;

use super::script::{Script, Step};
use super::segment::Words;

/// Copies of `script`, each with one expectation that is not true, and what it is.
pub(crate) fn mutations(script: &Script) -> Vec<(String, Script)> {
    let mut mutations = Vec::new();
    for (index, line) in script.lines.iter().enumerate() {
        let mut push = |what: String, step: Step, after: Duration| {
            let mut copy = script.clone();
            copy.lines[index].step = step;
            copy.lines[index].after = after;
            mutations.push((format!("{}:{} `{}`: {what}", script.name, line.number, line.text), copy));
        };
        match &line.step {
            Step::Send(words) => {
                segments(words).into_iter().for_each(|(what, words)| push(what, Step::Send(words), line.after));
                push("nothing sent".to_owned(), Step::Check(Vec::new()), line.after);
                push("later".to_owned(), line.step.clone(), line.after + TICK);
                if line.after > TICK {
                    push("earlier".to_owned(), line.step.clone(), line.after - TICK);
                }
            }
            Step::Check(facts) => {
                for (at, fact) in facts.iter().enumerate() {
                    let mut changed = facts.clone();
                    changed[at].value = falsified(&fact.value);
                    push(format!("not {fact}"), Step::Check(changed), line.after);
                }
            }
            Step::Call(call) => {
                let mut changed = call.clone();
                changed.answer = falsified(&call.answer);
                push("another answer".to_owned(), Step::Call(changed), line.after);
            }
            Step::Receive(_) | Step::Report(_) => {}
        }
    }
    mutations
}

/// A segment with one field changed. Whatever the script leaves out is a field too.
fn segments(words: &Words) -> Vec<(String, Words)> {
    let mut all = Vec::new();
    for bit in 0..8 {
        let flag = Flags(1 << bit);
        let mut changed = words.clone();
        changed.flags = Flags(words.flags.0 ^ flag.0);
        if flag == Flags::ACK {
            changed.ack = changed.flags.has(Flags::ACK).then_some(0);
        }
        all.push((format!("{flag} flipped"), changed));
    }
    let mut field = |what: &str, change: &dyn Fn(&mut Words)| {
        let mut changed = words.clone();
        change(&mut changed);
        all.push((what.to_owned(), changed));
    };
    field("another sequence number", &|words| words.seq = Some(words.seq.unwrap_or(IMPOSSIBLE) + 1));
    field("one byte more", &|words| words.len += 1);
    if words.len > 0 {
        field("one byte less", &|words| words.len -= 1);
    }
    if words.ack.is_some() {
        field("another acknowledgment", &|words| words.ack = words.ack.map(|ack| ack + 1));
    }
    match words.window {
        Some(window) => field("another window", &|words| words.window = Some(window ^ 1)),
        // Nobody leaves out a window of 12,345: the runner would have to look the last one up.
        None => field("another window", &|words| words.window = Some(12_345)),
    }
    field("another urgent pointer", &|words| words.urgent += 1);
    field("another port", &|words| words.route.peer_port = Some(words.route.peer_port.unwrap_or(1) + 1));
    let options = &words.options;
    field("another MSS", &|words| words.options.mss = Some(options.mss.map_or(1, |mss| mss - 1)));
    field("another window scale", &|words| words.options.window_scale = Some(options.window_scale.map_or(1, |shift| shift + 1)));
    field("SACK permitted or not", &|words| words.options.sack_permitted = !options.sack_permitted);
    field("another TSval", &|words| words.options.timestamps = Some(options.timestamps.map_or((0, 0), |(value, echo)| (value + 1, echo))));
    if options.timestamps.is_some() {
        field("another TSecr", &|words| words.options.timestamps = options.timestamps.map(|(value, echo)| (value, echo + 1)));
        field("no timestamps", &|words| words.options.timestamps = None);
    }
    if options.mss.is_some() {
        field("no MSS", &|words| words.options.mss = None);
    }
    if options.window_scale.is_some() {
        field("no window scale", &|words| words.options.window_scale = None);
    }
    field("one SACK block more", &|words| words.options.sack.push((1, 2)));
    for at in 0..options.sack.len() {
        field("another left edge", &|words| words.options.sack[at].0 -= 1);
        field("another right edge", &|words| words.options.sack[at].1 += 1);
        field("a SACK block less", &|words| words.options.sack.truncate(at));
    }
    all
}

/// Something that is not the value, but of its kind.
fn falsified(value: &str) -> String {
    if let Ok(number) = value.parse::<i64>() {
        return (number + 1).to_string();
    }
    if let Some(state) = State::ALL.iter().position(|state| state.to_string() == value) {
        return State::ALL[(state + 1) % State::ALL.len()].to_string();
    }
    match value {
        "yes" => "no".to_owned(),
        "no" => "yes".to_owned(),
        "ok" => "would-block".to_owned(),
        _ => format!("1{value}"),
    }
}

/// Too short for any timer to be early or late by it unnoticed.
const TICK: Duration = Duration::from_nanos(1);

/// No segment has this number.
const IMPOSSIBLE: i64 = 1 << 40;
