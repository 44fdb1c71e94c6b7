//! Every call of the user interface in every state (RFC 9293 §3.9.1, §3.10.1–§3.10.6, §3.10.8), and what time does when nobody acts.

use std::time::Duration;

use synfin::proto::wire::Segment;
use synfin::proto::{CloseReason, Config, Info, SocketOptions, State};

use crate::host::{Family, START};
use crate::stage::{Event, Stage, Start};

/// The text of the table.
pub(crate) fn table(family: Family) -> String {
    let mut text = HEAD.to_owned();
    for (name, call) in CALLS {
        text.push_str(&format!("\n{name}\n"));
        for start in Start::ALL {
            let mut stage = Stage::set(start, &config(), family);
            let answer = call(&mut stage);
            let sent = stage.host.sent();
            let sent: Vec<String> = sent.iter().map(|packet| describe(&packet.header)).collect();
            let sent = if sent.is_empty() { String::new() } else { format!("; sends {}", sent.join(" + ")) };
            let reached = stage.start();
            let reached = if reached == start { String::new() } else { format!(" => {}", reached.name()) };
            text.push_str(&format!("  {:<22} {answer}{sent}{reached}\n", start.name()));
        }
    }
    for (name, prepare) in SILENCES {
        text.push_str(&format!("\n{name}\n"));
        for start in Start::ALL {
            let mut stage = Stage::set(start, &config(), family);
            prepare(&mut stage);
            text.push_str(&format!("  {:<22} {}\n", start.name(), silence(&mut stage)));
        }
    }
    text
}

fn config() -> Config {
    let mut config = Config::default();
    config.timestamps = false;
    config
}

type Call = fn(&mut Stage) -> String;

type Preparation = fn(&mut Stage);

/// The calls. SEND, RECEIVE and the rest are for the socket of the connection; a state without one has the listener's, or none.
const CALLS: &[(&str, Call)] = &[
    ("OPEN, active, on the same ports: connect", |stage| {
        let (engine, family) = (&mut stage.host.engine, stage.host.family);
        answer(engine.connect(stage.host.now, family.peer(40_000), Some(family.host(80)), None::<SocketOptions>).map(|socket| {
            stage.socket.get_or_insert(socket);
            "ok"
        }))
    }),
    ("OPEN, passive, on the same port: listen", |stage| {
        answer(stage.host.engine.listen(stage.host.now, stage.host.family.host(80), 8).map(|_| "ok"))
    }),
    ("SEND: send of 10 bytes", |stage| on_socket(stage, |stage, socket| answer(stage.host.engine.send(stage.host.now, socket, &[7; 10])))),
    ("RECEIVE: recv into 10 bytes", |stage| {
        on_socket(stage, |stage, socket| answer(stage.host.engine.recv(stage.host.now, socket, &mut [0; 10])))
    }),
    ("CLOSE, this half: shutdown", |stage| {
        on_socket(stage, |stage, socket| answer(stage.host.engine.shutdown(stage.host.now, socket).map(|()| "ok")))
    }),
    ("CLOSE, the handle: release", |stage| {
        on_socket(stage, |stage, socket| {
            stage.host.engine.release(stage.host.now, socket);
            "ok".to_owned()
        })
    }),
    ("ABORT: abort", |stage| {
        on_socket(stage, |stage, socket| {
            stage.host.engine.abort(stage.host.now, socket);
            "ok".to_owned()
        })
    }),
    ("STATUS: info", |stage| {
        on_socket(stage, |stage, socket| stage.host.engine.info(socket).as_ref().map_or_else(|| "none".to_owned(), status))
    }),
];

/// What comes before a long silence.
const SILENCES: &[(&str, Preparation)] = &[
    ("Silence for a day", |_| {}),
    ("Silence for a day, the handle released", |stage| drop(stage.apply(Event::Release))),
    ("Silence for a day, with unacknowledged data where there can be some", |stage| {
        if let Some(socket) = stage.socket {
            let _ = stage.host.engine.send(stage.host.now, socket, &[7; 10]);
        }
    }),
    ("Silence for a day, with unacknowledged data and a user timeout of 30 s", |stage| {
        if let Some(socket) = stage.socket {
            stage.host.engine.set_option(stage.host.now, socket, synfin::proto::SocketOption::UserTimeout(Some(Duration::from_secs(30))));
            let _ = stage.host.engine.send(stage.host.now, socket, &[7; 10]);
        }
    }),
];

fn on_socket(stage: &mut Stage, call: impl Fn(&mut Stage, synfin::proto::SocketId) -> String) -> String {
    match stage.socket.or(stage.listener) {
        Some(socket) => call(stage, socket),
        None => "no socket".to_owned(),
    }
}

fn answer<T: std::fmt::Display, E: std::fmt::Debug>(result: Result<T, E>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(error) => format!("{error:?}"),
    }
}

fn status(info: &Info) -> String {
    let Info { state, snd_wnd, rcv_wnd, send_queue, receive_queue, .. } = info;
    format!("{state}, SND.WND {snd_wnd}, RCV.WND {rcv_wnd}, {send_queue} to acknowledge, {receive_queue} to read")
}

fn describe(segment: &Segment) -> String {
    if segment.payload_len > 0 { format!("{} with {} bytes", segment.flags, segment.payload_len) } else { segment.flags.to_string() }
}

/// Lets a day pass and tells the story: what was sent, and when the state changed to what.
fn silence(stage: &mut Stage) -> String {
    let _ = stage.host.sent();
    let (end, mut state) = (START + Duration::from_secs(86_400), stage.state());
    let mut sent = Vec::new();
    let mut story = Vec::new();
    while stage.host.step(end) {
        sent.extend(stage.host.sent().iter().map(|packet| describe(&packet.header)));
        let reached = stage.state();
        if reached != state {
            state = reached;
            let reason =
                stage.reason().filter(|reason| *reason != CloseReason::Finished).map_or_else(String::new, |reason| format!(", {reason:?}"));
            let at = stage.host.now - START;
            story.push(format!("{} after {:.1} s{reason}", state_name(state), at.as_secs_f64()));
        }
    }
    let mut told = story.join(", then ");
    if told.is_empty() {
        "stays".clone_into(&mut told);
    }
    let mut counted: Vec<(String, usize)> = Vec::new();
    for segment in sent {
        match counted.last_mut().filter(|(last, _)| *last == segment) {
            Some((_, count)) => *count += 1,
            None => counted.push((segment, 1)),
        }
    }
    let counted: Vec<String> = counted.into_iter().map(|(segment, count)| format!("{count} x {segment}")).collect();
    if counted.is_empty() { told } else { format!("{told}; sends {}", counted.join(", ")) }
}

fn state_name(state: State) -> &'static str {
    state.rfc_name()
}

const HEAD: &str = "\
What a call answers in each state, what it sends, and where it leads. In the states from SYN-SENT on we had connected, except for the passive
SYN-RECEIVED, whose only socket is the listener's. No timestamps. A silence is measured from the connection's beginning; `stays` means that
nothing ends by itself.
";
