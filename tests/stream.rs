//! Streams over the in-process loopback: what tokio's users rely on, through the traits of `futures`.

use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::executor::block_on;
use futures::future::{join, join_all};
use futures::{AsyncReadExt, AsyncWriteExt};
use synfin::Stack;
use synfin::net::{CloseReport, TcpListener, TcpStream};

/// A stack that nobody else uses, with a listener and a connection.
struct Pair {
    stack: Stack,
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

async fn pair() -> io::Result<Pair> {
    let stack = Stack::builder().start()?;
    let listener = stack.listen("127.0.0.1:0").await?;
    let client = stack.connect(listener.local_addr()?).await?;
    let (server, peer) = listener.accept().await?;
    assert_eq!(peer, client.local_addr()?);
    assert_eq!(server.peer_addr()?, peer);
    assert_eq!(client.peer_addr()?, listener.local_addr()?);
    Ok(Pair { stack, listener, client, server })
}

fn test(body: impl Future<Output = io::Result<()>>) {
    block_on(body).expect("the test's I/O succeeds");
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n * 7 % 251).expect("below 251")).collect()
}

async fn read_to_end(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await?;
    Ok(all)
}

#[test]
fn bulk_data_arrives_whole_while_both_sides_wait_for_each_other() {
    test(async {
        let Pair { mut client, mut server, .. } = pair().await?;
        let sent = pattern(8 << 20);
        let write = async {
            client.write_all(&sent).await?;
            client.close().await
        };
        let (written, read) = join(write, read_to_end(&mut server)).await;
        written?;
        assert!(read? == sent, "bytes differ");
        Ok(())
    });
}

#[test]
fn an_echo_crosses_threads() {
    test(async {
        let Pair { mut client, mut server, .. } = pair().await?;
        let echo = std::thread::spawn(move || {
            block_on(async {
                let mut buffer = [0; 5];
                for _ in 0..1000 {
                    server.read_exact(&mut buffer).await?;
                    server.write_all(&buffer).await?;
                }
                Ok::<_, io::Error>(())
            })
        });
        let mut buffer = [0; 5];
        for n in 0..1000 {
            let text = format!("{n:05}");
            client.write_all(text.as_bytes()).await?;
            client.read_exact(&mut buffer).await?;
            assert_eq!(buffer, text.as_bytes());
        }
        echo.join().expect("no panic")
    });
}

#[test]
fn the_peer_that_closes_first_still_receives() {
    test(async {
        let Pair { mut client, mut server, .. } = pair().await?;
        client.write_all(b"question").await?;
        client.close().await?;
        assert_eq!(read_to_end(&mut server).await?, b"question");
        server.write_all(b"answer").await?;
        server.close().await?;
        assert_eq!(read_to_end(&mut client).await?, b"answer");
        assert_eq!(client.write(b"more").await.expect_err("our half is closed").kind(), io::ErrorKind::BrokenPipe);
        client.close().await
    });
}

#[test]
fn the_peer_that_closes_last_still_sends() {
    test(async {
        let Pair { mut client, mut server, .. } = pair().await?;
        server.shutdown_write()?;
        assert_eq!(read_to_end(&mut client).await?, b"");
        client.write_all(b"late").await?;
        drop(client);
        assert_eq!(read_to_end(&mut server).await?, b"late");
        Ok(())
    });
}

#[test]
fn a_drop_with_unread_data_resets_the_peer() {
    test(async {
        let Pair { mut client, server, .. } = pair().await?;
        client.write_all(b"never read").await?;
        server.readable().await?;
        drop(server);
        let error = client.read(&mut [0; 16]).await.expect_err("a reset");
        assert_eq!(error.raw_os_error(), Some(104), "ECONNRESET");
        assert_eq!(client.read(&mut [0; 16]).await?, 0, "it is reported once");
        assert_eq!(client.write(b"x").await.expect_err("no reader").kind(), io::ErrorKind::BrokenPipe);
        Ok(())
    });
}

#[test]
fn abort_and_zero_linger_reset_the_peer() {
    test(async {
        let Pair { client, server, listener, stack } = pair().await?;
        client.abort()?;
        server.closed().await?;
        assert_eq!(server.take_error()?.map(|error| error.kind()), Some(io::ErrorKind::ConnectionReset));
        assert!(server.take_error()?.is_none(), "it is reported once");

        let client = stack.connect(listener.local_addr()?).await?;
        let (mut server, _) = listener.accept().await?;
        assert_eq!(client.linger()?, None);
        client.set_zero_linger()?;
        assert_eq!(client.linger()?, Some(Duration::ZERO));
        drop(client);
        assert_eq!(server.read(&mut [0; 1]).await.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
        Ok(())
    });
}

#[test]
fn nobody_listening_refuses() {
    test(async {
        let Pair { stack, listener, .. } = pair().await?;
        let address = listener.local_addr()?;
        drop(listener);
        assert_eq!(stack.connect(address).await.expect_err("nobody listens").kind(), io::ErrorKind::ConnectionRefused);
        let error = stack.connect("192.0.2.1:80").await.expect_err("only a loopback");
        assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable);
        assert!(error.to_string().contains("SYNFIN_INTERFACE"), "{error}");
        assert_eq!(stack.listen("192.0.2.1:80").await.expect_err("not ours").kind(), io::ErrorKind::AddrNotAvailable);
        Ok(())
    });
}

#[test]
fn a_port_has_one_listener() {
    test(async {
        let Pair { stack, listener, .. } = pair().await?;
        let address = listener.local_addr()?;
        assert_eq!(stack.listen(address).await.expect_err("taken").kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        stack.listen(address).await.map(drop)
    });
}

#[test]
fn reads_and_writes_of_nothing_do_nothing() {
    test(async {
        let Pair { mut client, server, .. } = pair().await?;
        assert_eq!(client.write(&[]).await?, 0);
        assert_eq!(client.read(&mut []).await?, 0);
        assert_eq!(server.try_read(&mut [0; 1]).expect_err("nothing came").kind(), io::ErrorKind::WouldBlock);
        Ok(())
    });
}

#[test]
fn a_peek_leaves_the_data() {
    test(async {
        let Pair { mut client, mut server, .. } = pair().await?;
        assert!(poll_once(server.peek(&mut [0; 1])).is_pending());
        client.write_all(b"abc").await?;
        let mut buffer = [0; 2];
        for _ in 0..2 {
            assert_eq!(server.peek(&mut buffer).await?, 2);
            assert_eq!(&buffer, b"ab");
        }
        let mut buffer = [0; 3];
        server.read_exact(&mut buffer).await?;
        assert_eq!(&buffer, b"abc");
        client.shutdown_write()?;
        assert_eq!(server.peek(&mut buffer).await?, 0, "the end of the stream");
        Ok(())
    });
}

#[test]
fn vectored_calls_gather_and_scatter() {
    test(async {
        let Pair { client, server, .. } = pair().await?;
        assert_eq!(client.try_write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")])?, 5);
        server.readable().await?;
        let (mut first, mut second) = ([0; 3], [0; 8]);
        assert_eq!(server.try_read_vectored(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)])?, 5);
        assert_eq!((&first, &second[..2]), (b"abc", &b"de"[..]));
        client.try_write(b"tail")?;
        let mut buffer = Vec::from(*b"head and ");
        server.readable().await?;
        assert_eq!(server.try_read_buf(&mut buffer)?, 4);
        assert_eq!(buffer, b"head and tail");
        Ok(())
    });
}

#[test]
fn dropping_the_owned_write_half_closes_our_side_and_forgetting_it_does_not() {
    test(async {
        let Pair { client, mut server, listener, stack } = pair().await?;
        let (mut read, write) = client.into_split();
        drop(write);
        assert_eq!(read_to_end(&mut server).await?, b"");
        server.write_all(b"still open").await?;
        server.close().await?;
        assert_eq!(read_to_end(&mut read).await?, b"still open");

        let client = stack.connect(listener.local_addr()?).await?;
        let (mut server, _) = listener.accept().await?;
        let (read, write) = client.into_split();
        write.forget();
        assert!(poll_once(server.read(&mut [0; 1])).is_pending(), "not closed");
        drop(read);
        assert_eq!(server.read(&mut [0; 1]).await?, 0);
        Ok(())
    });
}

#[test]
fn halves_of_one_stream_reunite_and_others_do_not() {
    test(async {
        let Pair { client, mut server, .. } = pair().await?;
        let (other_read, other_write) = pair().await?.client.into_split();
        let (read, write) = client.into_split();
        let synfin::net::tcp::ReuniteError(read, other_write) = read.reunite(other_write).expect_err("of two streams");
        other_read.reunite(other_write).expect("of one stream");
        let mut client = write.reunite(read).expect("of one stream");
        client.write_all(b"together").await?;
        client.close().await?;
        assert_eq!(read_to_end(&mut server).await?, b"together");
        Ok(())
    });
}

#[test]
fn borrowed_halves_work_at_the_same_time() {
    test(async {
        let Pair { mut client, server, .. } = pair().await?;
        let echo = async {
            let (mut read, mut write) = server.into_split();
            futures::io::copy(&mut read, &mut write).await
        };
        let exchange = async {
            let (mut read, mut write) = TcpStream::split(&mut client);
            let sent = pattern(1 << 20);
            let write = async {
                write.write_all(&sent).await?;
                write.close().await
            };
            let (written, received) = join(write, read_to_end(&mut read)).await;
            written?;
            assert!(received? == sent, "bytes differ");
            Ok::<_, io::Error>(())
        };
        let (echoed, exchanged) = join(echo, exchange).await;
        assert_eq!(echoed?, 1 << 20);
        exchanged
    });
}

#[test]
fn an_accept_that_is_given_up_loses_no_connection() {
    test(async {
        let Pair { stack, listener, .. } = pair().await?;
        assert!(poll_once(listener.accept()).is_pending());
        let client = stack.connect(listener.local_addr()?).await?;
        let (_, peer) = listener.accept().await?;
        assert_eq!(peer, client.local_addr()?);
        Ok(())
    });
}

#[test]
fn all_who_wait_to_accept_are_served() {
    test(async {
        let Pair { stack, listener, .. } = pair().await?;
        let address = listener.local_addr()?;
        let accepts = join_all((0..10).map(|_| listener.accept()));
        let connects = join_all((0..10).map(|_| stack.connect(address)));
        let (accepted, connected) = join(accepts, connects).await;
        let mut peers = accepted.into_iter().map(|pair| Ok(pair?.1)).collect::<io::Result<Vec<_>>>()?;
        let mut clients = connected.into_iter().map(|client| client?.local_addr()).collect::<io::Result<Vec<_>>>()?;
        peers.sort();
        clients.sort();
        assert_eq!(peers, clients);
        Ok(())
    });
}

#[test]
fn readiness_is_seen_by_all_who_wait() {
    test(async {
        let Pair { client, server, .. } = pair().await?;
        let waits = join_all((0..20).map(|_| server.readable()));
        let (woken, ()) = join(waits, async { assert_eq!(client.try_write(b"x").expect("room"), 1) }).await;
        assert_eq!(woken.len(), 20);
        woken.into_iter().collect::<io::Result<Vec<()>>>()?;
        client.writable().await
    });
}

#[test]
fn a_full_peer_blocks_the_writer_until_it_reads() {
    test(async {
        let Pair { client, mut server, .. } = pair().await?;
        let block = pattern(1 << 16);
        let mut written = 0;
        let error = loop {
            match client.try_write(&block) {
                Ok(len) => written += len,
                Err(error) => break error,
            }
            assert!(written < 64 << 20, "buffers are bounded");
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(poll_once(client.writable()).is_pending());
        let (writable, read) = join(client.writable(), async {
            let mut buffer = vec![0; written];
            server.read_exact(&mut buffer).await
        })
        .await;
        writable?;
        read
    });
}

#[test]
fn finish_waits_for_the_acknowledgement() {
    test(async {
        let Pair { client, mut server, .. } = pair().await?;
        client.try_write(b"last words")?;
        assert_eq!(client.finish().await?, CloseReport::Acknowledged);
        assert_eq!(read_to_end(&mut server).await?, b"last words");
        server.abort()?;
        Ok(())
    });
}

#[test]
fn options_keep_what_they_are_set_to() {
    test(async {
        let Pair { client, .. } = pair().await?;
        client.set_nodelay(true)?;
        client.set_quickack(true)?;
        client.set_ttl(7)?;
        assert_eq!((client.nodelay()?, client.quickack()?, client.ttl()?), (true, true, 7));
        assert_eq!(client.set_ttl(0).expect_err("no TTL").kind(), io::ErrorKind::InvalidInput);
        assert_eq!(client.set_ttl(256).expect_err("no TTL").kind(), io::ErrorKind::InvalidInput);
        assert!(format!("{client:?}").starts_with("TcpStream { local: Some(127.0.0.1:"), "{client:?}");
        Ok(())
    });
}

#[test]
fn many_connections_live_side_by_side() {
    test(async {
        let Pair { stack, listener, .. } = pair().await?;
        let address = listener.local_addr()?;
        let serve = async {
            let mut servers = Vec::new();
            for _ in 0..500 {
                servers.push(listener.accept().await?.0);
            }
            for server in &mut servers {
                let (mut read, mut write) = TcpStream::split(server);
                futures::io::copy(&mut read, &mut write).await?;
            }
            Ok::<_, io::Error>(())
        };
        let clients = join_all((0..500_u32).map(|n| {
            let stack = &stack;
            async move {
                let mut client = stack.connect(address).await?;
                client.write_all(&n.to_be_bytes()).await?;
                client.close().await?;
                Ok::<_, io::Error>(read_to_end(&mut client).await? == n.to_be_bytes())
            }
        }));
        let (served, echoed) = join(serve, clients).await;
        served?;
        for correct in echoed {
            assert!(correct?);
        }
        Ok(())
    });
}

#[test]
fn a_shutdown_says_goodbye_and_refuses_newcomers() {
    test(async {
        let Pair { stack, listener, client, mut server } = pair().await?;
        client.try_write(b"bye")?;
        let (shut, accepted) = join(stack.shutdown(Duration::from_secs(10)), listener.accept()).await;
        shut?;
        assert_eq!(accepted.expect_err("no more").kind(), io::ErrorKind::InvalidInput);
        assert_eq!(read_to_end(&mut server).await?, b"bye");
        assert_eq!(stack.connect("127.0.0.1:1").await.expect_err("shut down").to_string(), "synfin stack shut down");
        drop(client);
        Ok(())
    });
}

#[test]
fn streams_outlive_their_stack_handle() {
    test(async {
        let Pair { stack, listener, mut client, mut server } = pair().await?;
        drop((stack, listener));
        client.write_all(b"alive").await?;
        drop(client);
        assert_eq!(read_to_end(&mut server).await?, b"alive");
        Ok(())
    });
}

#[test]
fn a_runtime_carries_the_same_streams() {
    let runtime = synfin::Runtime::builder().build().expect("a loopback runtime");
    let stream = runtime
        .block_on(async {
            let listener = TcpListener::bind("[::1]:0").await?;
            let address = listener.local_addr()?;
            let server = synfin::spawn(async move {
                let (stream, _) = listener.accept().await?;
                let (mut read, mut write) = stream.into_split();
                futures::io::copy(&mut read, &mut write).await
            });
            let mut client = TcpStream::connect(address).await?;
            let sent = pattern(3 << 20);
            let (mut read, mut write) = TcpStream::split(&mut client);
            let write = async {
                write.write_all(&sent).await?;
                write.close().await
            };
            let (written, received) = join(write, read_to_end(&mut read)).await;
            written?;
            assert!(received? == sent, "bytes differ");
            assert_eq!(server.await.expect("no panic")?, 3 << 20);
            Ok::<_, io::Error>(client)
        })
        .expect("the test's I/O succeeds");
    drop(runtime);
    assert_eq!(stream.try_write(b"x").expect_err("nobody drives it").to_string(), "synfin stack shut down");
}
