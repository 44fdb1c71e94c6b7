//! The graph of states, found by walking: every event in every state that can be reached from CLOSED.

use std::collections::{BTreeMap, BTreeSet};

use synfin::proto::Config;

use crate::host::Family;
use crate::stage::{Event, Stage, Start};

/// The edges that leave a state for another, sorted: from, to, and the events that lead there.
pub(crate) fn graph(family: Family) -> BTreeMap<(Start, Start), BTreeSet<&'static str>> {
    let mut edges: BTreeMap<(Start, Start), BTreeSet<&'static str>> = BTreeMap::new();
    let mut found = BTreeSet::from([Start::Closed]);
    let mut paths: Vec<(Start, Vec<Event>)> = vec![(Start::Closed, Vec::new())];
    let mut next = 0;
    while let Some((from, path)) = paths.get(next).cloned() {
        next += 1;
        for event in Event::ALL {
            let mut stage = Stage::set(Start::Closed, &Config::default(), family);
            for step in &path {
                stage.apply(*step);
            }
            assert_eq!(stage.start(), from, "the same events lead to the same state");
            stage.apply(event);
            let to = stage.start();
            if to != from {
                edges.entry((from, to)).or_default().insert(name(event));
            }
            if found.insert(to) {
                paths.push((to, [path.clone(), vec![event]].concat()));
            }
        }
    }
    assert_eq!(found.len(), Start::ALL.len(), "every state can be reached");
    edges
}

/// The graph as text, and as the diagram that a document can show.
pub(crate) fn text(family: Family) -> String {
    let edges = graph(family);
    let mut text = HEAD.to_owned();
    for ((from, to), events) in &edges {
        text.push_str(&format!("{:<22} -> {:<22} {}\n", from.name(), to.name(), list(events)));
    }
    text.push('\n');
    text.push_str(&diagram(&edges));
    text
}

/// The diagram alone.
pub(crate) fn diagram(edges: &BTreeMap<(Start, Start), BTreeSet<&'static str>>) -> String {
    let mut text = "```mermaid\nstateDiagram-v2\n    [*] --> CLOSED\n".to_owned();
    for start in Start::ALL {
        if start.name() != id(start) {
            text.push_str(&format!("    state \"{}\" as {}\n", start.name(), id(start)));
        }
    }
    for ((from, to), events) in edges {
        text.push_str(&format!("    {} --> {}: {}\n", id(*from), id(*to), list(events)));
    }
    text.push_str("```\n");
    text
}

fn list(events: &BTreeSet<&'static str>) -> String {
    events.iter().copied().collect::<Vec<_>>().join(", ")
}

/// A name without blanks and signs.
fn id(start: Start) -> String {
    start.name().chars().filter(|letter| letter.is_ascii_alphanumeric()).collect()
}

fn name(event: Event) -> &'static str {
    match event {
        Event::Abort => "ABORT",
        Event::Ack => "rcv ACK of all",
        Event::Close => "CLOSE",
        Event::Connect => "active OPEN",
        Event::Fin => "rcv FIN",
        Event::FinAck => "rcv FIN and ACK of all",
        Event::Listen => "passive OPEN",
        Event::Release => "last handle dropped",
        Event::Reset => "rcv RST",
        Event::Syn => "rcv SYN",
        Event::SynAck => "rcv SYN and ACK of all",
        Event::Time => "a day passes",
    }
}

const HEAD: &str = "\
The states of a connection and what leads from one to another, as found by letting every event happen in every state. Segments are in order
and acceptable; `of all` means that everything sent is acknowledged, otherwise nothing new is. What stays in its state is left out.

";
