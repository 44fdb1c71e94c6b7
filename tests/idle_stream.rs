//! What an idle stream costs with everything in: engine, readiness, handle. Both ends are in one stack, over its loopback, so a connection's
//! growth is that of two streams.

#![expect(unsafe_code, reason = "a counting allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use synfin::net::{TcpListener, TcpStream};

struct Counting;

static BYTES: AtomicI64 = AtomicI64::new(0);

fn size(layout: Layout) -> i64 {
    i64::try_from(layout.size()).expect("far below")
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the contract is the system allocator's.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(size(layout), Ordering::Relaxed);
        // SAFETY: the caller keeps the trait's contract.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the contract is the system allocator's.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(size(layout), Ordering::Relaxed);
        // SAFETY: the caller keeps the trait's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONNECTIONS: usize = 5_000;
const BYTES_MAX: i64 = 1024;

#[test]
fn an_idle_stream_costs_less_than_a_kibibyte() {
    let full = std::env::var("SYNFIN_TEST").is_ok_and(|size| size == "full");
    let data = vec![7; if full { 1 << 20 } else { 64 << 10 }];
    let runtime = synfin::Runtime::builder().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:7").await.expect("a listener");
        let mut streams = Vec::with_capacity(2 * (CONNECTIONS + 1));
        let mut buffer = vec![0; data.len()];
        let mut before = 0;
        for connection in 0..=CONNECTIONS {
            let (client, accepted) = futures::join!(TcpStream::connect("127.0.0.1:7"), listener.accept());
            let (mut client, (mut server, _)) = (client.expect("connected"), accepted.expect("accepted"));
            let (written, read) = futures::join!(client.write_all(&data), server.read_exact(&mut buffer));
            written.and(read).expect("carried");
            streams.extend([client, server]);
            if connection == 0 {
                // What every stack has is there now.
                synfin::time::sleep(Duration::from_millis(1500)).await;
                before = BYTES.load(Ordering::Relaxed);
            }
        }
        synfin::time::sleep(Duration::from_millis(2500)).await;
        let streams_added = i64::try_from(2 * CONNECTIONS).expect("far below");
        let each = (BYTES.load(Ordering::Relaxed) - before) / streams_added;
        println!("{each} bytes of heap per idle stream, beside {} bytes of handle", size_of::<TcpStream>());
        assert!(each <= BYTES_MAX, "{each} bytes per idle stream");
        drop(streams);
    });
}
