//! Two stacks over a wire in memory: the path through devices, leases and the threads that drive them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::{join, join_all, try_join};
use futures::{AsyncReadExt, AsyncWriteExt};
use synfin::device::memory;
use synfin::net::{CloseReport, TcpListener, TcpStream};
use synfin::proto::{Link, MacAddress, Medium};
use synfin::{Runtime, Stack};

const SERVER: &str = "10.9.0.1:80";

fn stacks() -> io::Result<(Stack, Stack)> {
    let (left, right) = memory::pair();
    let server = Stack::builder().device(left).address("10.9.0.1/24").address("fd09::1/64").start()?;
    let client = Stack::builder().device(right).address("10.9.0.2/24").address("fd09::2/64").start()?;
    Ok((server, client))
}

async fn connected(server: &Stack, client: &Stack) -> io::Result<(TcpStream, TcpStream)> {
    let listener = server.listen(SERVER).await?;
    let ((accepted, peer), stream) = try_join(listener.accept(), client.connect(SERVER)).await?;
    assert_eq!(peer, stream.local_addr()?);
    Ok((accepted, stream))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n * 7 % 251).expect("below 251")).collect()
}

/// Answers each read with the same bytes, on a thread of its own.
fn echo(mut stream: TcpStream) -> std::thread::JoinHandle<io::Result<u64>> {
    std::thread::spawn(move || {
        block_on(async {
            let (mut read, mut write) = TcpStream::split(&mut stream);
            futures::io::copy(&mut read, &mut write).await
        })
    })
}

async fn ping_pong(stream: &mut TcpStream, rounds: u32) -> io::Result<()> {
    for round in 0..rounds {
        let mut answer = [0; 4];
        stream.write_all(&round.to_be_bytes()).await?;
        stream.read_exact(&mut answer).await?;
        assert_eq!(answer, round.to_be_bytes());
    }
    Ok(())
}

#[test]
fn questions_are_answered_across_the_wire() {
    block_on(async {
        let (server, client) = stacks()?;
        let (accepted, mut stream) = connected(&server, &client).await?;
        let echo = echo(accepted);
        ping_pong(&mut stream, 2000).await?;
        stream.close().await?;
        assert_eq!(echo.join().expect("no panic")?, 8000);
        assert!(client.stats()?.runtime.leases > 0, "a task that waited looked for itself");
        Ok::<_, io::Error>(())
    })
    .expect("the test's I/O succeeds");
}

#[test]
fn bulk_data_crosses_in_both_directions_at_once() {
    block_on(async {
        let (server, client) = stacks()?;
        let (accepted, mut stream) = connected(&server, &client).await?;
        let echo = echo(accepted);
        let sent = pattern(16 << 20);
        let (mut read, mut write) = TcpStream::split(&mut stream);
        let write = async {
            write.write_all(&sent).await?;
            write.close().await
        };
        let mut received = Vec::new();
        let (written, read) = join(write, read.read_to_end(&mut received)).await;
        written?;
        read?;
        assert!(received == sent, "bytes differ");
        assert_eq!(echo.join().expect("no panic")?, 16 << 20);
        Ok::<_, io::Error>(())
    })
    .expect("the test's I/O succeeds");
}

#[test]
fn waiting_tasks_are_served_while_another_computes() {
    let (server, client) = stacks().expect("two stacks");
    let listener = block_on(server.listen(SERVER)).expect("a free port");
    let ends = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..50)
            .map(|_| {
                scope.spawn(|| {
                    block_on(async {
                        let mut stream = client.connect(SERVER).await?;
                        ping_pong(&mut stream, 20).await?;
                        stream.close().await?;
                        stream.read(&mut [0]).await
                    })
                })
            })
            .collect();
        for _ in 0..clients.len() {
            echo(block_on(listener.accept()).expect("a connection").0);
        }
        clients.into_iter().map(|client| client.join().expect("no panic")).collect::<io::Result<Vec<_>>>()
    });
    assert_eq!(ends.expect("the test's I/O succeeds"), [0; 50]);
}

#[test]
fn what_was_written_before_the_drop_arrives() {
    block_on(async {
        let (server, client) = stacks()?;
        let (mut accepted, mut stream) = connected(&server, &client).await?;
        let sent = pattern(1 << 20);
        let mut received = Vec::new();
        let write = async {
            stream.write_all(&sent).await?;
            drop((stream, client));
            Ok::<_, io::Error>(())
        };
        let (written, read) = join(write, accepted.read_to_end(&mut received)).await;
        written?;
        read?;
        assert!(received == sent, "bytes differ");
        Ok::<_, io::Error>(())
    })
    .expect("the test's I/O succeeds");
}

#[test]
fn shutdown_waits_for_the_other_side() {
    block_on(async {
        let (server, client) = stacks()?;
        let (accepted, stream) = connected(&server, &client).await?;
        let late = client.shutdown(Duration::from_millis(50)).await.expect_err("the peer does not close");
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        accepted.closed().await?;
        let error = loop {
            match accepted.try_write(b"x") {
                Ok(_) => synfin::time::sleep(Duration::from_millis(1)).await,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "it had closed before it was aborted");
        drop((accepted, stream));
        server.shutdown(Duration::from_secs(10)).await?;
        Ok::<_, io::Error>(())
    })
    .expect("the test's I/O succeeds");
}

#[test]
fn both_families_and_mapped_addresses_work() {
    block_on(async {
        let (server, client) = stacks()?;
        let listener = server.listen("[::]:443").await?;
        for (address, peer) in [("[fd09::1]:443", "fd09::2"), ("10.9.0.1:443", "::ffff:10.9.0.2")] {
            let ((accepted, seen), stream) = try_join(listener.accept(), client.connect(address)).await?;
            assert_eq!(seen.ip().to_string(), peer);
            assert_eq!(accepted.peer_addr()?, seen);
            assert!(accepted.local_addr()?.is_ipv6());
            assert_eq!(stream.peer_addr()?.to_string(), address);
        }
        let stream = client.connect("[::ffff:10.9.0.1]:443").await?;
        assert_eq!(stream.peer_addr()?.to_string(), "[::ffff:10.9.0.1]:443");
        Ok::<_, io::Error>(())
    })
    .expect("the test's I/O succeeds");
}

#[test]
fn nobody_at_an_address_is_noticed() {
    block_on(async {
        let (_server, client) = stacks()?;
        let (refused, unreachable) = join(client.connect("10.9.0.1:81"), client.connect("10.9.0.77:80")).await;
        assert_eq!(refused.expect_err("nobody listens").kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(unreachable.expect_err("nobody is there").kind(), io::ErrorKind::HostUnreachable);
        Ok::<_, io::Error>(())
    })
    .expect("the test's I/O succeeds");
}

#[test]
fn a_runtime_and_a_stack_talk_to_each_other() {
    let (left, right) = memory::pair();
    let server = Stack::builder().device(left).address("10.9.0.1/24").start().expect("a stack");
    let listener: TcpListener = block_on(server.listen(SERVER)).expect("a free port");
    let accept = std::thread::spawn(move || block_on(listener.accept()).map(|(stream, _)| echo(stream)));
    let runtime = Runtime::builder().device(right).address("10.9.0.2/24").build().expect("a runtime");
    runtime
        .block_on(async {
            let mut stream = TcpStream::connect(SERVER).await?;
            ping_pong(&mut stream, 1000).await?;
            let tasks = join_all((0..4).map(|_| synfin::spawn(async { synfin::time::sleep(Duration::from_millis(1)).await })));
            assert!(tasks.await.into_iter().all(|task| task.is_ok()));
            assert_eq!(stream.finish().await?, CloseReport::Acknowledged);
            assert_eq!(stream.read(&mut [0]).await?, 0);
            Ok::<_, io::Error>(())
        })
        .expect("the test's I/O succeeds");
    assert_eq!(accept.join().expect("no panic").expect("accepted").join().expect("no panic").expect("echoed"), 4000);
    let address: SocketAddr = SERVER.parse().expect("an address");
    assert!(server.netstat().expect("alive").iter().all(|row| row.local.port() == address.port()));
}

#[test]
fn what_fills_every_queue_arrives_whole() {
    block_on(async {
        let (server, client) = stacks()?;
        let (mut accepted, stream) = connected(&server, &client).await?;
        let sent = pattern(32 << 20);
        let mut written = 0;
        // Nobody reads: the peer's window closes, then the send buffer is full.
        let error = loop {
            match stream.try_write(&sent[written..]) {
                Ok(len) => written += len,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let mut received = vec![0; written];
        accepted.read_exact(&mut received).await?;
        assert!(received == sent[..written], "bytes differ");
        Ok::<_, io::Error>(())
    })
    .expect("the test's I/O succeeds");
}

#[test]
fn a_link_that_lost_its_other_end_is_gone() {
    let (left, right) = memory::pair();
    drop(left);
    let stack = Stack::builder().device(right).address("10.9.0.2/24").start().expect("a stack");
    let error = block_on(stack.ready()).expect_err("nobody is there");
    assert_eq!(error.kind(), io::ErrorKind::NetworkDown);
}

#[test]
fn an_address_that_the_other_end_has_is_in_use() {
    let link = |last| Link::new(Medium::Ethernet(MacAddress([2, 0, 0, 0, 0, last])), 1500).with_sharing(true);
    let (left, right) = memory::pair_with(link(1), link(2));
    let start = |device| Stack::builder().device(device).address("10.9.0.2/24").start().expect("a stack");
    let (_first, second) = (start(left), start(right));
    let errors =
        block_on(async { [second.listen("10.9.0.2:7").await.err(), second.ready().await.err(), second.connect("10.9.0.3:7").await.err()] });
    for error in errors {
        let error = error.expect("the other end has it, or wants it");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let expected = "another host, with the Ethernet address 02:00:00:00:00:01, uses 10.9.0.2 already";
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
