//! An echo client, without any runtime: the executor is a loop on this thread.
//!
//! ```text
//! cargo run --example echo_client                                                       # both sides in this process
//! cargo run --example echo_client -- --interface veth0 --address 10.9.0.2/24 10.9.0.1   # an echo server elsewhere, on port 7
//! ```

mod support;

use std::io;
use std::process::ExitCode;

use futures::executor::block_on;
use futures::future::{Either, select};
use futures::{AsyncReadExt, AsyncWriteExt};
use support::Reach;
use synfin::Stack;
use synfin::net::TcpListener;

const WORDS: [&str; 3] = ["SYN", "ACK", "FIN"];

fn main() -> ExitCode {
    support::exit_code(run())
}

fn run() -> io::Result<()> {
    let place = support::start("echo_client [SERVER]", 7, |interface| interface)?;
    block_on(async {
        match place.reach {
            Reach::Network => client(&place.stack, place.server).await,
            Reach::Program => {
                let listener = place.stack.listen(place.server).await?;
                let (client, server) = (Box::pin(client(&place.stack, place.server)), Box::pin(echo(listener)));
                match select(client, server).await {
                    Either::Left((result, _)) | Either::Right((result, _)) => result,
                }
            }
        }
    })
}

async fn client(stack: &Stack, server: std::net::SocketAddr) -> io::Result<()> {
    let mut stream = stack.connect(server).await?;
    println!("{} is connected to {}", stream.local_addr()?, stream.peer_addr()?);
    for word in WORDS {
        stream.write_all(word.as_bytes()).await?;
        let mut echo = [0; 3];
        stream.read_exact(&mut echo).await?;
        println!("{word} came back as {}", String::from_utf8_lossy(&echo));
    }
    let info = stream.info()?;
    println!("round trip {:?}, congestion window {} bytes, MSS {} bytes", info.srtt, info.cwnd, info.mss);
    stream.close().await
}

/// The other side: one connection, until its end.
async fn echo(listener: TcpListener) -> io::Result<()> {
    let (stream, _) = listener.accept().await?;
    let (mut read, mut write) = stream.into_split();
    futures::io::copy(&mut read, &mut write).await?;
    std::future::pending().await
}
