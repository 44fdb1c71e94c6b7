//! Every socket of a stack, as `netstat -nat` shows the kernel's: a listener, and a connection that is followed from its first segment to its
//! rest in TIME_WAIT.
//!
//! ```text
//! cargo run --example netstat                                              # both sides in this process
//! cargo run --example netstat -- --interface veth0 --address 10.9.0.2/24   # the table, whenever somebody comes to port 5008 and goes
//! ```

mod support;

use std::io;
use std::process::ExitCode;

use futures::executor::block_on;
use futures::{AsyncReadExt, AsyncWriteExt};
use support::{Place, Reach};
use synfin::Stack;
use synfin::proto::netstat::HEADER;

fn main() -> ExitCode {
    support::exit_code(run())
}

fn run() -> io::Result<()> {
    let place = support::start("netstat", 5008, |interface| interface)?;
    block_on(match place.reach {
        Reach::Network => futures::future::Either::Left(watch(&place)),
        Reach::Program => futures::future::Either::Right(tour(&place)),
    })
}

async fn watch(place: &Place) -> io::Result<()> {
    let listener = place.stack.listen(place.server).await?;
    show(&place.stack, "listening")?;
    loop {
        let (mut stream, peer) = listener.accept().await?;
        show(&place.stack, &format!("{peer} has come"))?;
        // What is sent is read and thrown away.
        let result = futures::io::copy(&mut stream, &mut futures::io::sink()).await;
        drop(stream);
        show(&place.stack, &format!("{peer} is going: {result:?}"))?;
    }
}

async fn tour(place: &Place) -> io::Result<()> {
    let stack = &place.stack;
    let listener = stack.listen(place.server).await?;
    let mut client = stack.connect(place.server).await?;
    show(stack, "connected, not yet accepted: the listener's Recv-Q counts it")?;

    let (mut server, _) = listener.accept().await?;
    client.write_all(b"twelve bytes").await?;
    server.readable().await?;
    show(stack, "twelve bytes wait to be read")?;

    server.read_exact(&mut [0; 12]).await?;
    client.shutdown_write()?;
    server.closed().await?;
    show(stack, "the client has closed its half")?;

    drop(server);
    client.closed().await?;
    show(stack, "the server has closed the other")
}

fn show(stack: &Stack, what: &str) -> io::Result<()> {
    println!("\n{what}:\n{HEADER}");
    stack.netstat()?.iter().for_each(|row| println!("{row}"));
    Ok(())
}
