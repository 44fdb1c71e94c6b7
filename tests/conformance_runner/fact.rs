//! `= …`: what must be true, one fact after another, separated by commas.
//!
//! ```text
//!   state ESTABLISHED           the RFC's name; `on NAME:` before it for a socket that is not the usual `c`
//!   readable, not-writable      also peer-finished, connected, quiescent, and their negations
//!   gone                        the application's handle is closed and nothing is left of the connection
//!   error reset                 what `SO_ERROR` would say; `none` without
//!   cwnd 14600, snd.una 101     every number of `Info` by its name; sequence numbers count from the SYN
//!   timer retransmit 200ms      the timer that runs and what is left of it, or `timer none`
//!   rows SYN_RECV 1             how many lines of that kind netstat has
//!   dropped no-ack 1            how many segments were dropped for a reason
//! ```

use synfin::proto::{DropReason, Events, Info, State};

use super::call::reason_name;
use super::knobs::{duration, duration_text};
use super::world::{Socket, World};

/// One fact.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    socket: String,
    key: String,
    pub(crate) value: String,
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.key, self.value)
    }
}

/// Reads facts.
pub(crate) fn parse(text: &str) -> Result<Vec<Fact>, String> {
    let (socket, text) = match text.strip_prefix("on ").and_then(|rest| rest.split_once(": ")) {
        Some((name, rest)) => (name, rest),
        None => ("c", text),
    };
    text.split(", ").map(|fact| parse_one(socket, fact.trim())).collect()
}

fn parse_one(socket: &str, text: &str) -> Result<Fact, String> {
    let fact = |key: &str, value: &str| Fact { socket: socket.to_owned(), key: key.to_owned(), value: value.to_owned() };
    if let Some(negated) = text.strip_prefix("not-") {
        return Ok(fact(negated, "no"));
    }
    let Some((key, value)) = text.split_once(' ') else { return Ok(fact(text, "yes")) };
    if let "rows" | "dropped" | "timer" = key
        && let Some((kind, value)) = value.split_once(' ')
    {
        let value = duration(value)
            .map_or_else(|_| value.to_owned(), |duration| if key == "timer" { duration_text(duration) } else { value.to_owned() });
        return Ok(fact(&format!("{key} {kind}"), &value));
    }
    let is_time = matches!(key, "srtt" | "rttvar" | "rto");
    let value = if is_time { duration_text(duration(value)?) } else { value.to_owned() };
    Ok(fact(key, &value))
}

impl Fact {
    /// What is true instead, or as well.
    pub(crate) fn actual(&self, world: &mut World) -> Result<Self, String> {
        let value = if let Some(kind) = self.key.strip_prefix("rows ") {
            let rows = world.host.engine.netstat(world.host.now);
            rows.iter().filter(|row| row.state.netstat_name() == kind).count().to_string()
        } else if let Some(name) = self.key.strip_prefix("dropped ") {
            let reason = DropReason::ALL.iter().find(|reason| reason.name() == name).ok_or_else(|| format!("`{name}` is no reason"))?;
            world.host.engine.stats().drops.of(*reason).to_string()
        } else if self.key == "quiescent" {
            yes(world.host.engine.is_quiescent())
        } else {
            let socket = world.sockets.get(&self.socket).copied().ok_or_else(|| format!("there is no socket `{}`", self.socket))?;
            self.of_socket(world, socket)?
        };
        Ok(Self { value, ..self.clone() })
    }

    fn of_socket(&self, world: &mut World, socket: Socket) -> Result<String, String> {
        let engine = &mut world.host.engine;
        let events = engine.events(socket.id);
        Ok(match self.key.as_str() {
            "state" => engine.state(socket.id).unwrap_or(State::Closed).to_string(),
            "readable" => yes(events.has(Events::READABLE)),
            "writable" => yes(events.has(Events::WRITABLE)),
            "peer-finished" => yes(events.has(Events::READ_CLOSED)),
            "connected" => yes(engine.connected(socket.id).is_ok()),
            "error" => engine.take_error(socket.id).map_or_else(|| "none".to_owned(), reason_name),
            "reason" => engine.close_reason(socket.id).map_or_else(|| "none".to_owned(), reason_name),
            "gone" => {
                let rows = engine.netstat(world.host.now);
                let mine = |port: Option<u16>| port == Some(socket.ports.peer);
                let present = rows.iter().any(|row| row.local.port() == socket.ports.ours && mine(row.remote.map(|remote| remote.port())));
                yes(engine.state(socket.id).is_none() && !present)
            }
            _ => {
                let info = engine.info(socket.id).ok_or_else(|| format!("`{}` is known of connections only", self.key))?;
                self.of_info(world, socket, &info)?
            }
        })
    }

    fn of_info(&self, world: &mut World, socket: Socket, info: &Info) -> Result<String, String> {
        let now = world.host.now;
        let flow = world.flow(socket.ports);
        if let Some(kind) = self.key.strip_prefix("timer") {
            let name = info.timer.map(|(name, _)| kebab(&format!("{name:?}")));
            let left = info.timer.map_or_else(|| "none".to_owned(), |(_, at)| duration_text(at - now));
            let matches = name.as_deref() == Some(kind.trim()) || name.is_none();
            return Ok(if matches { left } else { format!("not running, but {} {left}", name.unwrap_or_default()) });
        }
        Ok(match self.key.as_str() {
            "snd.una" => flow.our_number(info.snd_una).to_string(),
            "snd.nxt" => flow.our_number(info.snd_nxt).to_string(),
            "snd.wnd" => info.snd_wnd.to_string(),
            "rcv.nxt" => flow.peer_number(info.rcv_nxt).to_string(),
            "rcv.wnd" => info.rcv_wnd.to_string(),
            "send-queue" => info.send_queue.to_string(),
            "unsent" => info.unsent.to_string(),
            "receive-queue" => info.receive_queue.to_string(),
            "out-of-order" => info.out_of_order.to_string(),
            "cwnd" => info.cwnd.to_string(),
            "ssthresh" => info.ssthresh.to_string(),
            "in-flight" => info.in_flight.to_string(),
            "srtt" => duration_text(info.srtt),
            "rttvar" => duration_text(info.rttvar),
            "rto" => duration_text(info.rto),
            "retransmits" => info.retransmits.to_string(),
            "total-retransmits" => info.total_retransmits.to_string(),
            "probes" => info.probes.to_string(),
            "mss" => info.mss.to_string(),
            "peer-mss" => info.peer_mss.to_string(),
            "send-scale" => info.send_scale.map_or_else(|| "none".to_owned(), |scale| scale.to_string()),
            "receive-scale" => info.receive_scale.map_or_else(|| "none".to_owned(), |scale| scale.to_string()),
            "urgent" => info.urgent_left.to_string(),
            _ => return Err(format!("`{}` is no fact", self.key)),
        })
    }
}

fn yes(truth: bool) -> String {
    if truth { "yes" } else { "no" }.to_owned()
}

fn kebab(name: &str) -> String {
    name.char_indices()
        .flat_map(|(at, letter)| (at > 0 && letter.is_uppercase()).then_some('-').into_iter().chain(letter.to_lowercase()))
        .collect()
}
