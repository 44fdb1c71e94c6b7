//! An echo server (RFC 862) under tokio: what comes in goes back.
//!
//! ```text
//! cargo run --example echo_server                                              # both sides in this process
//! cargo run --example echo_server -- --interface veth0 --address 10.9.0.2/24   # then, elsewhere: nc 10.9.0.2 7
//! ```

mod support;

use std::io;
use std::process::ExitCode;

use support::Reach;
use synfin::Stack;
use synfin::net::{TcpListener, TcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    support::exit_code(run().await)
}

async fn run() -> io::Result<()> {
    let place = support::start("echo_server", 7, |interface| interface)?;
    let listener = place.stack.listen(place.server).await?;
    println!("echoing on {}", listener.local_addr()?);
    match place.reach {
        Reach::Network => serve(listener).await,
        Reach::Program => {
            tokio::spawn(serve(listener));
            client(&place.stack, place.server).await
        }
    }
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        tokio::spawn(async move {
            match echo(stream).await {
                Ok(bytes) => println!("{peer}: {bytes} bytes"),
                Err(error) => println!("{peer}: {error}"),
            }
        });
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<u64> {
    let (mut read, mut write) = stream.split();
    let bytes = copy(&mut read, &mut write).await?;
    write.shutdown().await?;
    Ok(bytes)
}

async fn client(stack: &Stack, server: std::net::SocketAddr) -> io::Result<()> {
    let mut stream = stack.connect(server).await?;
    stream.write_all(b"hello").await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("the client hears: {answer}");
    Ok(())
}
