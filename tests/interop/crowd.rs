//! A thousand connections that are all open at once, each of which has its own word echoed.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::lab::{KERNEL, Lab, SYNFIN, Wire, over_every_wire};

const CONNECTIONS: u32 = 1000;

over_every_wire! {
    a_thousand_clients_of_ours
    a_thousand_clients_of_the_kernels
}

fn a_thousand_clients_of_ours(wire: Wire) {
    let lab = Lab::over(wire);
    run(async {
        let listener = tokio::net::TcpListener::bind((KERNEL[0], 0)).await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            let mut echoes = JoinSet::new();
            for _ in 0..CONNECTIONS {
                echoes.spawn(echo(listener.accept().await?.0));
            }
            echoes.join_all().await.into_iter().collect::<io::Result<()>>()
        });
        let stack = lab.stack.clone();
        crowd(move || {
            let stack = stack.clone();
            async move { stack.connect(address).await }
        })
        .await?;
        server.await.expect("no panic")
    });
    let stats = lab.stack.stats().expect("the stack lives").engine;
    assert_eq!((stats.active_opens, stats.failed_opens), (u64::from(CONNECTIONS), 0));
}

fn a_thousand_clients_of_the_kernels(wire: Wire) {
    let lab = Lab::over(wire);
    run(async {
        let listener = lab.stack.listen((SYNFIN[0], 0)).await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            let mut echoes = JoinSet::new();
            for _ in 0..CONNECTIONS {
                echoes.spawn(echo(listener.accept().await?.0));
            }
            echoes.join_all().await.into_iter().collect::<io::Result<()>>()
        });
        crowd(move || tokio::net::TcpStream::connect(address)).await?;
        server.await.expect("no panic")
    });
    assert_eq!(lab.stack.stats().expect("the stack lives").engine.passive_opens, u64::from(CONNECTIONS));
    lab.await_quiet();
}

fn run(body: impl Future<Output = io::Result<()>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(body).expect("the test's I/O succeeds");
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut word = [0; 4];
    while stream.read_exact(&mut word).await.is_ok() {
        stream.write_all(&word).await?;
    }
    stream.shutdown().await
}

/// Opens all connections, and only then has each say its number.
async fn crowd<F, S>(connect: impl Fn() -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let all_are_open = Arc::new(Barrier::new(CONNECTIONS as usize));
    let mut clients = JoinSet::new();
    for number in 0..CONNECTIONS {
        let (connecting, all_are_open) = (connect(), Arc::clone(&all_are_open));
        clients.spawn(async move {
            let mut stream = connecting.await?;
            all_are_open.wait().await;
            stream.write_all(&number.to_be_bytes()).await?;
            let mut word = [0; 4];
            stream.read_exact(&mut word).await?;
            assert_eq!(u32::from_be_bytes(word), number);
            stream.shutdown().await?;
            assert_eq!(stream.read(&mut word).await?, 0);
            Ok::<_, io::Error>(())
        });
    }
    clients.join_all().await.into_iter().collect()
}
