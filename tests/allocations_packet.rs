//! No allocation per segment, read or write in the steady state, over the real path: a stack under tokio on AF_PACKET, the kernel's TCP as
//! the peer. The peer's threads use buffers of their own and allocate nothing while the counter runs.

#![expect(unsafe_code, reason = "a counting allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};

use synfin::device::namespace::{self, Veth};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the contract is the system allocator's.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the trait's contract.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the contract is the system allocator's.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: u64 = 2_000;
const BULK: usize = 64 << 20;
const CHUNK: usize = 256 << 10;

/// One connection, in both roles of traffic, each measured after it has warmed up.
#[test]
fn the_steady_state_allocates_nothing_over_af_packet() {
    namespace::test("the_steady_state_allocates_nothing_over_af_packet", || {
        let veth = Veth::create("kern0", "syn0", 1500).expect("a veth pair");
        veth.address("kern0", "10.9.0.1/24").expect("an address for the kernel");
        let kernel = TcpListener::bind("10.9.0.1:7").expect("the kernel's address");
        let peer = std::thread::spawn(move || serve(&kernel));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(measure());
        peer.join().expect("the peer");
    });
}

async fn measure() {
    let stack = synfin::Stack::builder().interface("syn0").address("10.9.0.2/24").start().expect("a stack");
    let remote: SocketAddr = "10.9.0.1:7".parse().expect("an address");
    let mut stream = stack.connect(remote).await.expect("connected");
    stream.set_nodelay(true).expect("an option");
    let mut byte = [0];
    let mut buffer = vec![0; CHUNK];
    let mut ping_pong = 0;
    for warm in [true, false] {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..ROUNDS {
            stream.write_all(&[1]).await.expect("a ping");
            stream.read_exact(&mut byte).await.expect("a pong");
        }
        if !warm {
            ping_pong = ALLOCATIONS.load(Ordering::Relaxed) - before;
        }
    }
    let mut bulk = [0; 2];
    for warm in [true, false] {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        stream.write_all(&[2]).await.expect("the word for upload");
        for _ in 0..BULK / CHUNK {
            stream.write_all(&buffer).await.expect("upload");
        }
        stream.read_exact(&mut byte).await.expect("the upload's end");
        let between = ALLOCATIONS.load(Ordering::Relaxed);
        stream.write_all(&[3]).await.expect("the word for download");
        let mut left = BULK;
        while left > 0 {
            left -= stream.read(&mut buffer).await.expect("download");
        }
        if !warm {
            bulk = [between - before, ALLOCATIONS.load(Ordering::Relaxed) - between];
        }
    }
    let blocks = (BULK / (256 << 10)) as u64;
    println!("allocations: {ping_pong} in {ROUNDS} round trips; per 64 MiB up {}, down {} ({blocks} blocks of 256 KiB)", bulk[0], bulk[1]);
    assert!(ping_pong <= ROUNDS / 100, "{ping_pong} allocations in {ROUNDS} round trips");
    assert!(bulk.iter().all(|allocations| *allocations <= blocks), "{bulk:?} allocations for {blocks} blocks");
}

/// The kernel's side: 1 is echoed, 2 announces an upload, 3 asks for a download.
fn serve(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().expect("the stack");
    stream.set_nodelay(true).expect("an option");
    let mut word = [0];
    let mut buffer = vec![0; CHUNK];
    while stream.read(&mut word).expect("a word") == 1 {
        match word[0] {
            1 => stream.write_all(&word).expect("a pong"),
            2 => {
                let mut left = BULK;
                while left > 0 {
                    let most = left.min(CHUNK);
                    left -= stream.read(&mut buffer[..most]).expect("upload");
                }
                stream.write_all(&word).expect("the upload's end");
            }
            _ => (0..BULK / CHUNK).for_each(|_| stream.write_all(&buffer).expect("download")),
        }
    }
}
