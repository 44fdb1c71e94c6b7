//! Two stacks joined by code of one's own that moves packets between their channels in batches, as a VPN does: bytes arrive whole both ways,
//! as finished packets or as super-packets.

use futures::executor::block_on;
use futures::{AsyncReadExt, AsyncWriteExt};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use synfin::Stack;
use synfin::device::{Channel, ChannelPeer, channel_with, super_channel};
use synfin::net::TcpStream;
use synfin::proto::{Link, Medium};

/// Bytes of a transfer: several windows.
const LEN: usize = 8 << 20;

/// Packets that the code between the stacks takes at once.
const BATCH_MAX: usize = 64;
const MTU: u16 = 1420;

#[test]
fn finished_packets_pass_in_batches() {
    let passed = exchange(channel_with);
    assert_eq!(passed.map(|passed| (passed.super_packets, passed.longest)), [(0, usize::from(MTU)); 2]);
    assert!(passed.iter().any(|passed| passed.batches < passed.packets), "{passed:?}");
}

#[test]
fn super_packets_pass_whole_both_ways() {
    let passed = exchange(super_channel);
    for Passed { super_packets, longest, packets, .. } in passed {
        assert!(super_packets > 0 && longest > 10 * usize::from(MTU), "{passed:?}");
        assert!(packets < LEN / usize::from(MTU), "fewer than there are segments: {passed:?}");
    }
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    batches: usize,
    packets: usize,
    super_packets: usize,
    longest: usize,
}

/// Sends a pattern in both directions at once over channels that `make` makes; says what went either way.
fn exchange(make: impl Fn(Link) -> (Channel, ChannelPeer)) -> [Passed; 2] {
    let link = Link::new(Medium::Ip, MTU);
    let ((left, left_end), (right, right_end)) = (make(link), make(link));
    let [left_end, right_end] = [left_end, right_end].map(Arc::new);
    let movers = [(&left_end, &right_end), (&right_end, &left_end)].map(|(from, to)| {
        let (from, to) = (Arc::clone(from), Arc::clone(to));
        std::thread::spawn(move || block_on(forward(&from, &to)))
    });
    drop((left_end, right_end));

    let server = Stack::builder().device(left).address("10.9.0.1/24").start().expect("a stack");
    let client = Stack::builder().device(right).address("10.9.0.2/24").start().expect("a stack");
    let listener = block_on(server.listen("10.9.0.1:80")).expect("a free port");
    let near = block_on(client.connect("10.9.0.1:80")).expect("connected");
    let (far, _) = block_on(listener.accept()).expect("connected");
    let ends = [near, far].map(|stream| std::thread::spawn(move || block_on(talk(stream)).expect("the connection lives")));
    ends.into_iter().for_each(|end| end.join().expect("no panic"));
    drop((listener, server, client));
    movers.map(|mover| mover.join().expect("no panic"))
}

/// Moves packets until either stack is gone.
async fn forward(from: &ChannelPeer, to: &ChannelPeer) -> Passed {
    let (mut passed, mut batch) = (Passed::default(), Vec::new());
    while from.recv_batch(&mut batch, BATCH_MAX).await.is_ok() {
        passed.batches += 1;
        passed.packets += batch.len();
        passed.super_packets += batch.iter().filter(|packet| packet.segment_size > 0).count();
        passed.longest = batch.iter().map(|packet| packet.bytes.len()).fold(passed.longest, usize::max);
        if to.send_batch(&mut VecDeque::from_iter(batch.drain(..))).await.is_err() {
            break;
        }
    }
    passed
}

/// Sends and receives at once, to the end of both halves.
async fn talk(stream: TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let pattern: Vec<u8> = (0..LEN).map(|at| (at % 251) as u8).collect();
    let write = async {
        writer.write_all(&pattern).await?;
        writer.close().await
    };
    let mut read = Vec::new();
    let (written, received) = futures::future::join(write, reader.read_to_end(&mut read)).await;
    written?;
    received?;
    assert!(read == pattern, "what arrived is what was sent");
    Ok(())
}
