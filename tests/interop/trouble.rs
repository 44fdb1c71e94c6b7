//! A link that goes away under a transfer, and handles that are dropped at any point: nothing hangs, nothing is left over.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::{AsyncReadExt, AsyncWriteExt};
use synfin::device::namespace::Veth;
use synfin::proto::Config;

use crate::gate::{Gate, Rule};
use crate::lab::{KERNEL, Lab, PATIENCE, SYNFIN, Wire, accept_from_kernel, over_every_wire, wait_for};

/// What is under way when the link falls: more than all buffers hold.
const LEN: usize = 48 << 20;

/// How long the link stays down: both sides retransmit into the void at least once.
const DOWN_TIME: Duration = Duration::from_millis(500);

fn flap(veth: &Veth, wire: Wire) {
    veth.down(wire.interface()).expect("it is up");
    std::thread::sleep(DOWN_TIME);
    veth.up(wire.interface()).expect("it is down");
}

fn block() -> Vec<u8> {
    (0..1 << 16).map(|at| (at % 251) as u8).collect()
}

/// Checks a piece of what repeats [`block`].
fn check(piece: &[u8], at: usize) {
    let wrong = piece.iter().enumerate().find(|(index, byte)| **byte != (((at + index) % (1 << 16)) % 251) as u8);
    assert!(wrong.is_none(), "at {at}: {wrong:?}");
}

over_every_wire! {
    a_transfer_to_us_outlives_a_flap
    a_transfer_from_us_outlives_a_flap
    a_stream_dropped_in_mid_transfer_ends_the_kernels
    a_reader_in_the_kernel_gets_all_that_was_written_before_a_drop
    a_connect_that_is_given_up_leaves_nothing
    dropped_listeners_reset_those_who_wait
    a_shutdown_waits_no_longer_than_it_is_told
}

fn a_transfer_to_us_outlives_a_flap(wire: Wire) {
    let lab = Lab::over(wire);
    let (mut stream, mut kernel) = accept_from_kernel(&lab.stack).expect("connected");
    let writer = std::thread::spawn(move || {
        let block = block();
        (0..LEN / block.len()).try_for_each(|_| kernel.write_all(&block))
    });
    let (mut buffer, mut len) = (vec![0; 1 << 18], 0);
    let mut is_flapped = false;
    loop {
        match block_on(stream.read(&mut buffer)).expect("the connection lives") {
            0 => break,
            read => {
                check(&buffer[..read], len);
                len += read;
            }
        }
        if len > LEN / 4 && !is_flapped {
            is_flapped = true;
            flap(&lab.veth, wire);
        }
    }
    writer.join().expect("no panic").expect("all was taken");
    assert_eq!(len, LEN);
}

fn a_transfer_from_us_outlives_a_flap(wire: Wire) {
    let lab = Lab::over(wire);
    let (mut stream, mut kernel) = accept_from_kernel(&lab.stack).expect("connected");
    let veth = lab.veth;
    let reader = std::thread::spawn(move || {
        let (mut buffer, mut len) = (vec![0; 1 << 18], 0);
        let mut is_flapped = false;
        loop {
            match kernel.read(&mut buffer)? {
                0 => return Ok::<_, io::Error>(len),
                read => {
                    check(&buffer[..read], len);
                    len += read;
                }
            }
            if len > LEN / 4 && !is_flapped {
                is_flapped = true;
                flap(&veth, wire);
            }
        }
    });
    let block = block();
    block_on(async {
        for _ in 0..LEN / block.len() {
            stream.write_all(&block).await?;
        }
        stream.close().await
    })
    .expect("the connection lives");
    assert_eq!(reader.join().expect("no panic").expect("the connection lives"), LEN);
}

fn a_stream_dropped_in_mid_transfer_ends_the_kernels(wire: Wire) {
    let lab = Lab::over(wire);
    let (mut stream, mut kernel) = accept_from_kernel(&lab.stack).expect("connected");
    let writer = std::thread::spawn(move || {
        let block = block();
        loop {
            if let Err(error) = kernel.write_all(&block) {
                return error;
            }
        }
    });
    block_on(stream.read_exact(&mut vec![0; 1 << 20])).expect("the kernel writes on");
    drop(stream);
    let error = writer.join().expect("no panic");
    assert!(matches!(error.raw_os_error(), Some(libc::ECONNRESET | libc::EPIPE)), "{error}");
    lab.await_quiet();
}

fn a_reader_in_the_kernel_gets_all_that_was_written_before_a_drop(wire: Wire) {
    let lab = Lab::over(wire);
    let (stream, mut kernel) = accept_from_kernel(&lab.stack).expect("connected");
    let block = block();
    let mut written = 0;
    while let Ok(len) = stream.try_write(&block[written % block.len()..]) {
        written += len;
    }
    // Whoever is left: not even a handle of the stack.
    drop((stream, lab));
    let mut received = Vec::new();
    kernel.read_to_end(&mut received).expect("up to our FIN");
    check(&received, 0);
    assert_eq!(received.len(), written);
}

fn a_connect_that_is_given_up_leaves_nothing(wire: Wire) {
    let gate = Gate::new(Rule::Pass);
    let lab = Lab::with(wire, Config::default(), |device| gate.around(device));
    let kernel = std::net::TcpListener::bind((KERNEL[0], 0)).expect("a free port");
    let address = kernel.local_addr().expect("bound");
    gate.set(Rule::SwallowTcp);
    for _ in 0..10 {
        let attempt = synfin::time::timeout(Duration::from_millis(20), lab.stack.connect(address));
        assert!(block_on(attempt).is_err(), "nothing answers");
    }
    assert_eq!(lab.stack.netstat().expect("the stack lives"), []);
    gate.set(Rule::Pass);
    block_on(lab.stack.connect(address)).expect("the kernel listens");
}

fn dropped_listeners_reset_those_who_wait(wire: Wire) {
    let lab = Lab::over(wire);
    let listener = block_on(lab.stack.listen((SYNFIN[0], 0))).expect("a free port");
    let address = listener.local_addr().expect("it listens");
    let waiting: Vec<_> = (0..50).map(|_| std::net::TcpStream::connect(address).expect("it listens")).collect();
    wait_for("fifty connections in the queue", || lab.stack.netstat().expect("the stack lives").iter().any(|row| row.receive_queue == 50));
    drop(listener);
    for mut stream in waiting {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let error = stream.read(&mut [0; 1]).expect_err("a reset");
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
    }
    assert_eq!(lab.stack.netstat().expect("the stack lives"), []);
}

fn a_shutdown_waits_no_longer_than_it_is_told(wire: Wire) {
    let lab = Lab::over(wire);
    let (stream, mut kernel) = accept_from_kernel(&lab.stack).expect("connected");
    let (quick, mut quick_kernel) = accept_from_kernel(&lab.stack).expect("connected");
    let polite = std::thread::spawn(move || quick_kernel.read(&mut [0; 1]).map(|len| (len, drop(quick_kernel))));
    let start = Instant::now();
    let error = block_on(lab.stack.shutdown(Duration::from_millis(300))).expect_err("the kernel does not close");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(start.elapsed() < PATIENCE / 2);
    assert_eq!(polite.join().expect("no panic").expect("our FIN").0, 0);
    assert_eq!(kernel.read(&mut [0; 1]).expect("our FIN came first"), 0);
    let error = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        kernel.write(b"x").err()
    });
    assert_eq!(error.and_then(|error| error.raw_os_error()), Some(libc::EPIPE));
    drop((stream, quick));
}
