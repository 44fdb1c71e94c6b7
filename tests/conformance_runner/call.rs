//! `! …`: what the application calls, and what it gets.
//!
//! ```text
//!   listen [backlog=8] [port=81]    connect [from=PORT] [to=PORT|self]    accept [-> would-block]
//!   write 1000 [-> 500]             read 100 [-> would-block | eof]   peek 100
//!   shutdown   shutdown-read        abort   close                     set nodelay=on
//! ```
//!
//! `on NAME` stands before the verb for a socket that is not the usual `c`, or `l` for a listener; `accept as NAME` names one.

use synfin::proto::{AcceptError, CloseReason, ConnectError, RecvError, SendError, SocketOption};

use super::knobs::{duration, keepalive, on};
use super::segment::{Payload, number_of};
use super::world::{OUR_PORT, PEER_PORT, Ports, Socket, World};

/// One call, and the answer that it must get.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    socket: Option<String>,
    verb: Verb,
    pub(crate) answer: String,
}

#[derive(Clone, Debug)]
enum Verb {
    Abort,
    Accept { name: String },
    Close,
    Connect { ports: Ports, target: Target },
    Listen { backlog: u32, port: u16 },
    Peek { len: usize },
    Read { len: usize, payload: Payload },
    Set(SocketOption),
    Shutdown,
    ShutdownRead,
    Write { len: usize },
}

/// Whom a connection is to.
#[derive(Clone, Copy, Debug)]
enum Target {
    Ourselves,
    Peer,
}

/// Reads the words of a call.
pub(crate) fn parse(words: &[&str]) -> Result<Call, String> {
    let (words, answer) = match words.iter().position(|word| *word == "->") {
        Some(at) => (&words[..at], Some(words[at + 1..].join(" "))),
        None => (words, None),
    };
    let (socket, words) = match words {
        ["on", name, rest @ ..] => (Some((*name).to_owned()), rest),
        _ => (None, words),
    };
    let [verb, rest @ ..] = words else { return Err("a call needs a verb".to_owned()) };
    let verb = parse_verb(verb, rest)?;
    let usual = match &verb {
        Verb::Read { len, .. } | Verb::Write { len } | Verb::Peek { len } => len.to_string(),
        _ => "ok".to_owned(),
    };
    Ok(Call { socket, verb, answer: answer.unwrap_or(usual) })
}

fn parse_verb(verb: &str, rest: &[&str]) -> Result<Verb, String> {
    let length = || number_of(rest.first().ok_or("a number of bytes is missing")?);
    let setting = |name: &str| rest.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Ok(match verb {
        "abort" => Verb::Abort,
        "accept" => Verb::Accept { name: if let ["as", name] = rest { (*name).to_owned() } else { "c".to_owned() } },
        "close" => Verb::Close,
        "connect" => {
            let ours = setting("from").map_or(Ok(OUR_PORT), number_of)?;
            let target = if setting("to") == Some("self") { Target::Ourselves } else { Target::Peer };
            let peer = setting("to").filter(|to| *to != "self").map_or(Ok(PEER_PORT), number_of)?;
            Verb::Connect { ports: Ports { ours, peer }, target }
        }
        "listen" => {
            let backlog = setting("backlog").map_or(Ok(8), number_of)?;
            let port = setting("port").map_or(Ok(OUR_PORT), number_of)?;
            Verb::Listen { backlog, port }
        }
        "peek" => Verb::Peek { len: length()? },
        "read" => {
            let payload = setting("fill").map_or(Ok(Payload::Stream), |byte| number_of(byte).map(Payload::Fill))?;
            Verb::Read { len: length()?, payload }
        }
        "set" => Verb::Set(option(rest.first().copied().unwrap_or_default())?),
        "shutdown" => Verb::Shutdown,
        "shutdown-read" => Verb::ShutdownRead,
        "write" => Verb::Write { len: length()? },
        _ => return Err(format!("`{verb}` is no call")),
    })
}

fn option(text: &str) -> Result<SocketOption, String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    Ok(match name {
        "cork" => SocketOption::Cork(on(value)?),
        "keepalive" if value == "off" => SocketOption::Keepalive(false),
        "keepalive" if value == "on" => SocketOption::Keepalive(true),
        "keepalive-times" => SocketOption::KeepaliveTimes(keepalive(value)?),
        "linger-zero" => SocketOption::ZeroLinger(on(value)?),
        "nodelay" => SocketOption::Nodelay(on(value)?),
        "quickack" => SocketOption::Quickack(on(value)?),
        "receive-buffer" => SocketOption::ReceiveBuffer(number_of(value)?),
        "send-buffer" => SocketOption::SendBuffer(number_of(value)?),
        "user-timeout" => SocketOption::UserTimeout(Some(duration(value)?)),
        _ => return Err(format!("`{text}` is no option")),
    })
}

impl Call {
    /// Makes the call and returns its answer in words.
    pub(crate) fn make(&self, world: &mut World) -> String {
        match &self.verb {
            Verb::Accept { name } => accept(world, self.socket.as_deref().unwrap_or("l"), name),
            Verb::Connect { ports, target } => connect(world, self.socket.as_deref().unwrap_or("c"), *ports, *target),
            Verb::Listen { backlog, port } => listen(world, self.socket.as_deref().unwrap_or("l"), *backlog, *port),
            verb => {
                let name = self.socket.as_deref().unwrap_or("c");
                let Some(mut socket) = world.sockets.get(name).copied() else { return format!("there is no socket `{name}`") };
                let answer = use_socket(world, &mut socket, verb);
                world.sockets.insert(name.to_owned(), socket);
                answer
            }
        }
    }
}

fn listen(world: &mut World, name: &str, backlog: u32, port: u16) -> String {
    let host = &mut world.host;
    match host.engine.listen(host.now, host.family.host(port), backlog) {
        Ok(id) => {
            let socket = Socket { id, ports: Ports { ours: port, peer: 0 }, read_at: 1, write_at: 1 };
            world.sockets.insert(name.to_owned(), socket);
            "ok".to_owned()
        }
        Err(error) => error.to_string(),
    }
}

fn connect(world: &mut World, name: &str, ports: Ports, target: Target) -> String {
    let host = &mut world.host;
    let local = host.family.host(ports.ours);
    let remote = match target {
        Target::Ourselves => local,
        Target::Peer => host.family.peer(ports.peer),
    };
    match host.engine.connect(host.now, remote, Some(local), None) {
        Ok(id) => {
            world.sockets.insert(name.to_owned(), Socket { id, ports, read_at: 1, write_at: 1 });
            "ok".to_owned()
        }
        Err(ConnectError::AddressInUse) => "in-use".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn accept(world: &mut World, listener: &str, name: &str) -> String {
    let Some(listener) = world.sockets.get(listener).copied() else { return format!("there is no listener `{listener}`") };
    match world.host.engine.accept(world.host.now, listener.id) {
        Ok((id, peer)) => {
            let ports = Ports { ours: listener.ports.ours, peer: peer.port() };
            world.sockets.insert(name.to_owned(), Socket { id, ports, read_at: 1, write_at: 1 });
            "ok".to_owned()
        }
        Err(AcceptError::WouldBlock) => "would-block".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn use_socket(world: &mut World, socket: &mut Socket, verb: &Verb) -> String {
    let (engine, now, id) = (&mut world.host.engine, world.host.now, socket.id);
    match verb {
        Verb::Abort => engine.abort(now, id),
        Verb::Close => engine.release(now, id),
        Verb::Set(option) if engine.set_option(now, id, *option) => {}
        Verb::Set(_) => return "not-connected".to_owned(),
        Verb::Shutdown => return engine.shutdown(now, id).map_or_else(|_| "not-connected".to_owned(), |()| "ok".to_owned()),
        Verb::ShutdownRead => return engine.shutdown_read(now, id).map_or_else(|_| "not-connected".to_owned(), |()| "ok".to_owned()),
        Verb::Write { len } => {
            let sent = engine.send(now, id, &Payload::Stream.bytes(socket.write_at, *len));
            socket.write_at += sent.unwrap_or(0) as i64;
            return sent.map_or_else(send_error, |sent| sent.to_string());
        }
        Verb::Peek { len } => {
            let mut buffer = vec![0; *len];
            return engine.peek(id, &mut buffer).map_or_else(recv_error, |peeked| peeked.to_string());
        }
        Verb::Read { len, payload } => {
            let mut buffer = vec![0; *len];
            let read = match engine.recv(now, id, &mut buffer) {
                Ok(0) if *len > 0 => return "eof".to_owned(),
                Ok(read) => read,
                Err(error) => return recv_error(error),
            };
            if buffer[..read] != payload.bytes(socket.read_at, read) {
                return format!("{read} wrong bytes");
            }
            socket.read_at += read as i64;
            return read.to_string();
        }
        Verb::Accept { .. } | Verb::Connect { .. } | Verb::Listen { .. } => return "this call has no socket".to_owned(),
    }
    "ok".to_owned()
}

fn send_error(error: SendError) -> String {
    match error {
        SendError::WouldBlock => "would-block".to_owned(),
        SendError::BrokenPipe => "broken-pipe".to_owned(),
        SendError::Closed(reason) => reason_name(reason),
        other => format!("{other:?}"),
    }
}

fn recv_error(error: RecvError) -> String {
    match error {
        RecvError::WouldBlock => "would-block".to_owned(),
        RecvError::Closed(reason) => reason_name(reason),
        other => format!("{other:?}"),
    }
}

/// A reason's name in kebab case.
pub(crate) fn reason_name(reason: CloseReason) -> String {
    let name = format!("{reason:?}");
    name.char_indices()
        .flat_map(|(at, letter)| (at > 0 && letter.is_uppercase()).then_some('-').into_iter().chain(letter.to_lowercase()))
        .collect()
}
