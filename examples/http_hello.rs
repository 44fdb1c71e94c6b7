//! An HTTP server in the fewest words: connections that stay open for any number of requests.
//!
//! ```text
//! cargo run --example http_hello                                              # both sides in this process
//! cargo run --example http_hello -- --interface veth0 --address 10.9.0.2/24   # then: curl http://10.9.0.2:8080/
//! ```

mod support;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use support::Reach;
use synfin::Stack;
use synfin::net::{TcpListener, TcpStream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

#[tokio::main]
async fn main() -> ExitCode {
    support::exit_code(run().await)
}

async fn run() -> io::Result<()> {
    let place = support::start("http_hello", 8080, |interface| interface)?;
    let listener = place.stack.listen(place.server).await?;
    println!("http://{}/", listener.local_addr()?);
    match place.reach {
        Reach::Network => serve(listener).await,
        Reach::Program => {
            tokio::spawn(serve(listener));
            fetch(&place.stack, place.server).await
        }
    }
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = answer(stream, peer).await {
                println!("{peer}: {error}");
            }
        });
    }
}

/// Answers every request of a connection, however many follow.
async fn answer(stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(REQUESTS_LEN_MAX));
    let mut request = String::new();
    loop {
        request.clear();
        while !request.ends_with("\r\n\r\n") {
            if lines.read_line(&mut request).await? == 0 {
                return write.shutdown().await;
            }
        }
        println!("{peer}: {}", request.lines().next().unwrap_or_default());
        let body = format!("Hello, {peer}, from a TCP in user space.\n");
        let response = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        write.write_all(response.as_bytes()).await?;
    }
}

async fn fetch(stack: &Stack, server: SocketAddr) -> io::Result<()> {
    let mut stream = stack.connect(server).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    stream.shutdown_write()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    print!("{response}");
    Ok(())
}

/// How many bytes of requests one connection may send.
const REQUESTS_LEN_MAX: u64 = 1 << 20;
