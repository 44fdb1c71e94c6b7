//! What both must do. `net` is tokio's or ours; nothing here knows which.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf, copy, copy_bidirectional};

use super::net::tcp::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
use super::net::{TcpListener, TcpStream, ToSocketAddrs, lookup_host};

async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let (server, peer) = listener.accept().await?;
    assert_eq!(peer, client.local_addr()?);
    assert_eq!(server.peer_addr()?, peer);
    Ok((client, server))
}

/// Waits until what the peer did has arrived, as an error or the end of the stream.
async fn until_closed(stream: &TcpStream) -> io::Result<()> {
    stream.ready(Interest::READABLE).await.map(drop)
}

#[tokio::test]
async fn half_close_in_both_orders() -> io::Result<()> {
    for client_first in [true, false] {
        let (client, server) = pair().await?;
        let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
        first.write_all(b"question").await?;
        first.shutdown().await?;
        let mut text = String::new();
        second.read_to_string(&mut text).await?;
        assert_eq!(text, "question");
        second.write_all(b"answer").await?;
        second.shutdown().await?;
        text.clear();
        first.read_to_string(&mut text).await?;
        assert_eq!(text, "answer");
        first.shutdown().await?;
    }
    Ok(())
}

#[tokio::test]
async fn write_after_shutdown_is_a_broken_pipe() -> io::Result<()> {
    let (mut client, _server) = pair().await?;
    client.shutdown().await?;
    assert_eq!(client.write(b"x").await.expect_err("closed").raw_os_error(), Some(32));
    client.shutdown().await
}

#[tokio::test]
async fn unread_data_at_the_drop_resets_the_peer_once() -> io::Result<()> {
    let (mut client, server) = pair().await?;
    client.write_all(b"never read").await?;
    server.readable().await?;
    drop(server);
    let mut buffer = [0; 8];
    assert_eq!(client.read(&mut buffer).await.expect_err("a reset").raw_os_error(), Some(104));
    assert_eq!(client.read(&mut buffer).await?, 0);
    assert_eq!(client.write(b"x").await.expect_err("no reader").raw_os_error(), Some(32));
    Ok(())
}

#[tokio::test]
async fn zero_linger_resets_and_the_error_can_be_taken() -> io::Result<()> {
    let (client, server) = pair().await?;
    client.set_zero_linger()?;
    drop(client);
    until_closed(&server).await?;
    assert_eq!(server.take_error()?.and_then(|error| error.raw_os_error()), Some(104));
    assert!(server.take_error()?.is_none());
    Ok(())
}

#[tokio::test]
async fn nobody_listening_refuses_and_a_taken_port_is_in_use() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    assert_eq!(TcpListener::bind(address).await.expect_err("taken").kind(), io::ErrorKind::AddrInUse);
    drop(listener);
    assert_eq!(TcpStream::connect(address).await.expect_err("nobody").raw_os_error(), Some(111));
    Ok(())
}

#[tokio::test]
async fn addresses_are_tried_in_turn() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let free = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let candidates = [free, listener.local_addr()?];
    assert_eq!(TcpStream::connect(&candidates[..]).await?.peer_addr()?, listener.local_addr()?);
    let none: &[std::net::SocketAddr] = &[];
    let error = TcpStream::connect(none).await.expect_err("no address");
    assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::InvalidInput, "could not resolve to any address"));
    Ok(())
}

#[tokio::test]
async fn names_and_literals_are_addresses() -> io::Result<()> {
    async fn first(host: impl ToSocketAddrs) -> io::Result<Option<String>> {
        Ok(lookup_host(host).await?.next().map(|address| address.to_string()))
    }
    assert_eq!(first("127.0.0.1:80").await?.as_deref(), Some("127.0.0.1:80"));
    assert_eq!(first(("::1", 80)).await?.as_deref(), Some("[::1]:80"));
    assert_eq!(first(("127.0.0.1".to_owned(), 80)).await?.as_deref(), Some("127.0.0.1:80"));
    assert_eq!(first("no-port").await.expect_err("no port").kind(), io::ErrorKind::InvalidInput);
    Ok(())
}

#[tokio::test]
async fn nothing_to_read_would_block_and_nothing_to_do_does_nothing() -> io::Result<()> {
    let (mut client, mut server) = pair().await?;
    assert_eq!(server.try_read(&mut [0; 1]).expect_err("nothing").kind(), io::ErrorKind::WouldBlock);
    assert_eq!(client.write(&[]).await?, 0);
    // With nothing to read, tokio's read of nothing waits; ours does not.
    client.write_all(b"x").await?;
    assert_eq!(server.read(&mut []).await?, 0);
    assert_eq!(server.read(&mut [0; 8]).await?, 1);
    Ok(())
}

#[tokio::test]
async fn peeked_data_is_still_there() -> io::Result<()> {
    let (mut client, mut server) = pair().await?;
    client.write_all(b"abc").await?;
    let mut memory = [0; 8];
    assert_eq!(server.peek(&mut memory).await?, 3);
    let mut buffer = ReadBuf::new(&mut memory);
    assert_eq!(poll_fn(|cx| server.poll_peek(cx, &mut buffer)).await?, 3);
    assert_eq!(buffer.filled(), b"abc");
    let mut text = Vec::new();
    assert_eq!(server.read_buf(&mut text).await?, 3);
    assert_eq!(text, b"abc");
    Ok(())
}

#[tokio::test]
async fn readiness_shows_data_and_the_end() -> io::Result<()> {
    let (mut client, server) = pair().await?;
    let ready = client.ready(Interest::READABLE | Interest::WRITABLE).await?;
    assert!(ready.is_writable() && !ready.is_readable());
    client.write_all(b"x").await?;
    assert!(server.ready(Interest::READABLE).await?.is_readable());
    assert_eq!(server.try_read(&mut [0; 8])?, 1);
    client.shutdown().await?;
    loop {
        let ready = server.ready(Interest::READABLE).await?;
        match server.try_read(&mut [0; 8]) {
            Ok(len) => {
                assert_eq!((len, ready.is_readable()), (0, true));
                break;
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    Ok(())
}

#[tokio::test]
async fn vectored_writes_gather() -> io::Result<()> {
    let (mut client, mut server) = pair().await?;
    assert!(client.is_write_vectored());
    let pieces = [IoSlice::new(b"a"), IoSlice::new(b""), IoSlice::new(b"bc")];
    assert_eq!(poll_fn(|cx| Pin::new(&mut client).poll_write_vectored(cx, &pieces)).await?, 3);
    assert_eq!(client.try_write_vectored(&pieces)?, 3);
    let mut buffer = [0; 6];
    server.read_exact(&mut buffer).await?;
    assert_eq!(&buffer, b"abcabc");
    Ok(())
}

#[tokio::test]
async fn halves_close_forget_and_reunite() -> io::Result<()> {
    let (client, mut server) = pair().await?;
    let (read, write): (OwnedReadHalf, OwnedWriteHalf) = client.into_split();
    let (other_read, other_write) = pair().await?.0.into_split();
    let ReuniteError(read, other_write) = read.reunite(other_write).expect_err("of two streams");
    drop((other_read, other_write));
    let (mut read, write) = read.reunite(write).expect("of one stream").into_split();
    drop(write);
    assert_eq!(server.read(&mut [0; 8]).await?, 0);
    server.write_all(b"still open").await?;
    assert_eq!(read.read(&mut [0; 16]).await?, 10);

    let (client, mut server) = pair().await?;
    let (read, write) = client.into_split();
    write.forget();
    let closed = tokio::time::timeout(Duration::from_millis(20), server.read(&mut [0; 8])).await;
    assert!(closed.is_err(), "forgotten, not closed");
    drop(read);
    assert_eq!(server.read(&mut [0; 8]).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_proxy_copies_both_ways_until_both_are_done() -> io::Result<()> {
    let (mut client, mut inner) = pair().await?;
    let (mut outer, mut server) = pair().await?;
    let proxy = tokio::spawn(async move { copy_bidirectional(&mut inner, &mut outer).await });
    let echo = tokio::spawn(async move {
        let (mut read, mut write) = server.split();
        copy(&mut read, &mut write).await
    });
    let sent: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    let mut received = Vec::new();
    let (mut read, mut write) = client.split();
    let write = async {
        write.write_all(&sent).await?;
        write.shutdown().await
    };
    let (written, read) = tokio::join!(write, read.read_to_end(&mut received));
    written?;
    read?;
    assert!(received == sent, "bytes differ");
    assert_eq!(proxy.await.expect("no panic")?, (1 << 20, 1 << 20));
    assert_eq!(echo.await.expect("no panic")?, 1 << 20);
    Ok(())
}

#[tokio::test]
async fn the_last_waker_of_a_poll_is_woken() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut first = tokio_test::task::spawn(poll_fn(|cx| listener.poll_accept(cx)));
    assert!(first.poll().is_pending());
    let mut second = tokio_test::task::spawn(poll_fn(|cx| listener.poll_accept(cx)));
    assert!(second.poll().is_pending());
    let _client = TcpStream::connect(listener.local_addr()?).await?;
    tokio::time::timeout(Duration::from_secs(10), async {
        while !second.is_woken() {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    assert!(second.poll().is_ready());
    assert!(!first.is_woken());
    Ok(())
}

#[tokio::test]
async fn a_stream_that_never_runs_dry_lets_others_run() -> io::Result<()> {
    let (mut client, mut server) = pair().await?;
    let flood = tokio::spawn(async move {
        let block = [0; 1024];
        while client.write_all(&block).await.is_ok() {}
    });
    let drain = tokio::spawn(async move {
        let mut buffer = [0; 1024];
        while server.read(&mut buffer).await.is_ok() {}
    });
    // On one thread, this returns only if the two above yield.
    tokio::time::sleep(Duration::from_millis(20)).await;
    flood.abort();
    drain.abort();
    Ok(())
}

#[tokio::test]
async fn options_keep_what_they_are_set_to() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    listener.set_ttl(33)?;
    assert_eq!(listener.ttl()?, 33);
    let (client, _server) = pair().await?;
    client.set_nodelay(true)?;
    assert!(client.nodelay()?);
    client.set_ttl(9)?;
    assert_eq!(client.ttl()?, 9);
    assert_eq!(client.linger()?, None);
    client.set_zero_linger()?;
    assert_eq!(client.linger()?, Some(Duration::ZERO));
    Ok(())
}
