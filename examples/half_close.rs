//! Half-close: the client closes its direction to say "that was all", and the answer comes back on the other one. The server counts words,
//! which it can't before it has seen the end.
//!
//! ```text
//! cargo run --example half_close                                              # both sides in this process
//! cargo run --example half_close -- --interface veth0 --address 10.9.0.2/24   # then: echo to be or not | nc -N 10.9.0.2 5007
//! ```

mod support;

use std::io;
use std::process::ExitCode;

use futures::executor::block_on;
use futures::future::try_join;
use futures::{AsyncReadExt, AsyncWriteExt};
use support::Reach;
use synfin::Stack;
use synfin::net::{CloseReport, TcpListener};

fn main() -> ExitCode {
    support::exit_code(run())
}

fn run() -> io::Result<()> {
    let place = support::start("half_close", 5007, |interface| interface)?;
    block_on(async {
        let listener = place.stack.listen(place.server).await?;
        println!("counting words on {}", listener.local_addr()?);
        match place.reach {
            Reach::Network => loop {
                count(&listener).await?;
            },
            Reach::Program => try_join(count(&listener), ask(&place.stack, place.server)).await.map(drop),
        }
    })
}

async fn count(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, peer) = listener.accept().await?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await?;
    println!("server: {peer} has closed its half after {} bytes; ours is open: {}", text.len(), stream.info()?.state);
    let words = String::from_utf8_lossy(&text).split_whitespace().count();
    stream.write_all(format!("{words} words\n").as_bytes()).await?;
    match stream.finish().await? {
        CloseReport::Acknowledged => println!("server: the answer was acknowledged to the last byte"),
        report => println!("server: the answer was lost: {report:?}"),
    }
    Ok(())
}

async fn ask(stack: &Stack, server: std::net::SocketAddr) -> io::Result<()> {
    let mut stream = stack.connect(server).await?;
    stream.write_all(b"to be or not to be").await?;
    // `stream.close().await` of futures and `stream.shutdown().await` of tokio do the same.
    stream.shutdown_write()?;
    println!("client: our half is closed, and we listen: {}", stream.info()?.state);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    print!("client: {answer}");
    Ok(())
}
