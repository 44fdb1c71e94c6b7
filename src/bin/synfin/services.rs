//! What the stack of the lab serves: echo (RFC 862), discard (RFC 863), character generator (RFC 864), a greeting
//! over HTTP (RFC 9112), and tunnels through it.
//!
//! A connection is a task of the runtime; how many there are is bounded by the engine's table of sockets.

use futures::future::try_join;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use synfin::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use synfin::net::{TcpListener, TcpStream};
use synfin::{Stack, spawn};

/// Listens on every port and serves from then on.
///
/// # Errors
/// If a port cannot be listened on.
pub(crate) async fn open(stack: &Stack) -> io::Result<()> {
    spawn(serve(stack.listen(("10.9.0.2", 7)).await?, |stream, _| echo(stream)));
    spawn(serve(stack.listen(("10.9.0.2", 9)).await?, |stream, _| async move { copy(stream, &mut sink()).await.map(drop) }));
    spawn(serve(stack.listen(("10.9.0.2", 19)).await?, |stream, _| generate(stream)));
    spawn(serve(stack.listen(("10.9.0.2", 8080)).await?, greet));
    Ok(())
}

async fn serve<F, S>(listener: TcpListener, service: S)
where
    F: Future<Output = io::Result<()>> + 'static,
    S: Fn(TcpStream, SocketAddr) -> F,
{
    loop {
        match listener.accept().await {
            // What goes wrong on a connection is its peer's affair.
            Ok((stream, peer)) => _ = spawn(service(stream, peer)),
            Err(error) => return eprintln!("synfin: lab: {error}"),
        }
    }
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    let (read, mut write) = stream.split();
    copy(read, &mut write).await?;
    write.close().await
}

/// Lines of 72 characters, each line one character further, until the peer has gone.
async fn generate(mut stream: TcpStream) -> io::Result<()> {
    let lines: Vec<u8> = (0..95).flat_map(line).collect();
    loop {
        stream.write_all(&lines).await?;
    }
}

fn line(start: usize) -> impl Iterator<Item = u8> {
    PRINTABLE.cycle().skip(start).take(72).chain(*b"\r\n")
}

/// Answers every request of a connection.
async fn greet(mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let mut received = Vec::new();
    loop {
        let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else {
            let mut buffer = [0; 2048];
            let count = stream.read(&mut buffer).await?;
            if count == 0 {
                return stream.close().await;
            }
            received.extend_from_slice(&buffer[..count]);
            if received.len() > REQUEST_LEN_MAX {
                return refuse(stream, "431 Request Header Fields Too Large").await;
            }
            continue;
        };
        let head: Vec<u8> = received.drain(..end).collect();
        let Some(request) = std::str::from_utf8(&head).ok().and_then(Request::parse) else {
            return refuse(stream, "400 Bad Request").await;
        };
        if request.method == "CONNECT" {
            return tunnel(stream, request.target, received).await;
        }
        stream.write_all(answer(&request, peer).as_bytes()).await?;
        if request.after == After::Close {
            return finish(stream).await;
        }
    }
}

/// A tunnel to another host of the lab (RFC 9110 §9.3.6), for clients that speak TLS; `sent` is what came after the request.
async fn tunnel(mut client: TcpStream, target: &str, sent: Vec<u8>) -> io::Result<()> {
    let Ok(target) = target.parse::<SocketAddr>() else { return refuse(client, "400 Bad Request").await };
    let Ok(mut server) = TcpStream::connect(target).await else { return refuse(client, "502 Bad Gateway").await };
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    server.write_all(&sent).await?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    try_join(relay(from_client, to_server), relay(from_server, to_client)).await.map(drop)
}

/// One direction, to its end and no further: the other may still have data.
async fn relay(from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    copy(from, &mut to).await?;
    to.close().await
}

async fn refuse(mut stream: TcpStream, status: &str) -> io::Result<()> {
    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    finish(stream).await
}

/// Says that all is said, and reads what the peer still sends, so that no reset overtakes the answer (RFC 9112 §9.6).
async fn finish(mut stream: TcpStream) -> io::Result<()> {
    stream.close().await?;
    copy(stream.take(REST_LEN_MAX), &mut sink()).await.map(drop)
}

fn answer(request: &Request<'_>, peer: SocketAddr) -> String {
    let (status, body) = match request.method {
        "GET" | "HEAD" => ("200 OK", format!("Hello, {peer}, from a TCP in user space.\n")),
        _ => ("405 Method Not Allowed", "GET, HEAD or CONNECT\n".to_owned()),
    };
    let connection = if request.after == After::Close { "close" } else { "keep-alive" };
    let allow = if status.starts_with("405") { "Allow: GET, HEAD, CONNECT\r\n" } else { "" };
    let shown = if request.method == "HEAD" { "" } else { body.as_str() };
    let len = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n{allow}Content-Length: {len}\r\nConnection: {connection}\r\n\r\n{shown}")
}

/// What matters of a request.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    method: &'a str,
    target: &'a str,
    after: After,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    KeepAlive,
    Close,
}

impl<'a> Request<'a> {
    /// Reads the head of a request. One with a body ends the connection, since the body is not read.
    fn parse(head: &'a str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        let mut after = match (version, words.next()) {
            ("HTTP/1.1", None) => After::KeepAlive,
            ("HTTP/1.0", None) => After::Close,
            _ => return None,
        };
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            let has = |wanted: &str| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted));
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
            if is("transfer-encoding") || is("content-length") && value.trim() != "0" || is("connection") && has("close") {
                return Some(Self { method, target, after: After::Close });
            }
            if is("connection") && has("keep-alive") {
                after = After::KeepAlive;
            }
        }
        Some(Self { method, target, after })
    }
}

/// The 95 printing characters of ASCII.
const PRINTABLE: std::ops::RangeInclusive<u8> = b' '..=b'~';

/// The longest head of a request, in bytes.
const REQUEST_LEN_MAX: usize = 16 << 10;

/// How much is read, in bytes, of what a peer sends after the last answer.
const REST_LEN_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_stays_as_the_version_and_the_client_say() {
        let after = |head: &str| Request::parse(head).map(|request| request.after);
        assert_eq!(after("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Some(After::KeepAlive));
        assert_eq!(after("GET / HTTP/1.1\r\nconnection: Close\r\n\r\n"), Some(After::Close));
        assert_eq!(after("GET / HTTP/1.0\r\n\r\n"), Some(After::Close));
        assert_eq!(after("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), Some(After::KeepAlive));
        assert_eq!(after("POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n"), Some(After::Close));
        for bad in ["", "GET /\r\n\r\n", "GET / HTTP/2.0\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n"] {
            assert_eq!(after(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_answer_to_head_has_no_body_and_its_length() {
        let peer = SocketAddr::from(([10, 9, 0, 1], 40_000));
        let text = answer(&Request { method: "HEAD", target: "/", after: After::Close }, peer);
        assert!(text.contains("Content-Length: 49\r\n") && text.ends_with("close\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_line_goes_round() {
        let line = String::from_utf8(line(94).collect()).expect("ASCII");
        assert!(line.starts_with("~ !\"#") && line.ends_with("\r\n") && line.len() == 74);
    }
}
