//! Closing, from either side and from both at once: who passes through which state, as the stack's `netstat` and the kernel's table show it,
//! and that data goes on flowing the other way.

use std::io::{Read, Write};
use std::net::Shutdown;

use futures::executor::block_on;
use futures::{AsyncReadExt, AsyncWriteExt};
use synfin::net::{CloseReport, TcpStream};
use synfin::proto::{Config, State};

use crate::gate::{Gate, Rule};
use crate::lab::{KernelState, Lab, Wire, accept_from_kernel, await_kernel, over_every_wire};

/// What is sent against the direction of a FIN: more than fits any buffer on the way.
const AFTER_LEN: usize = 8 << 20;

/// A connection whose every frame from us passes a gate.
struct Gated {
    lab: Lab,
    gate: Gate,
    stream: TcpStream,
    kernel: std::net::TcpStream,
}

fn gated(wire: Wire) -> Gated {
    let gate = Gate::new(Rule::Pass);
    let lab = Lab::with(wire, Config::default(), |device| gate.around(device));
    let (stream, kernel) = accept_from_kernel(&lab.stack).expect("connected");
    Gated { lab, gate, stream, kernel }
}

/// The ports, ours first.
fn ports(kernel: &std::net::TcpStream) -> [u16; 2] {
    [kernel.peer_addr().expect("connected").port(), kernel.local_addr().expect("connected").port()]
}

over_every_wire! {
    data_follows_our_fin_the_other_way
    data_follows_the_kernels_fin_the_other_way
    who_closes_last_passes_through_last_ack
    the_kernel_closing_last_passes_through_last_ack
    both_close_at_once
}

fn data_follows_our_fin_the_other_way(wire: Wire) {
    let lab = Lab::over(wire);
    let (mut stream, mut kernel) = accept_from_kernel(&lab.stack).expect("connected");
    let [ours, kernels] = ports(&kernel);
    block_on(stream.write_all(b"question")).expect("room");
    stream.shutdown_write().expect("open");
    let mut question = Vec::new();
    kernel.read_to_end(&mut question).expect("up to our FIN");
    assert_eq!(question, b"question");
    lab.await_synfin(kernels, State::FinWait2);
    await_kernel(kernels, ours, Some(KernelState::CloseWait));
    let answer = std::thread::spawn(move || kernel.write_all(&vec![7; AFTER_LEN]));
    let mut received = Vec::new();
    block_on(stream.read_to_end(&mut received)).expect("up to the kernel's FIN");
    answer.join().expect("no panic").expect("all was taken");
    assert!(received == vec![7; AFTER_LEN]);
    lab.await_synfin(kernels, State::TimeWait);
    await_kernel(kernels, ours, None);
}

fn data_follows_the_kernels_fin_the_other_way(wire: Wire) {
    let lab = Lab::over(wire);
    let (mut stream, mut kernel) = accept_from_kernel(&lab.stack).expect("connected");
    let [ours, kernels] = ports(&kernel);
    kernel.write_all(b"question").expect("room");
    kernel.shutdown(Shutdown::Write).expect("open");
    let mut question = Vec::new();
    block_on(stream.read_to_end(&mut question)).expect("up to the kernel's FIN");
    assert_eq!(question, b"question");
    lab.await_synfin(kernels, State::CloseWait);
    await_kernel(kernels, ours, Some(KernelState::FinWait2));
    let reader = std::thread::spawn(move || {
        let mut received = Vec::new();
        kernel.read_to_end(&mut received).map(|_| received)
    });
    block_on(stream.write_all(&vec![7; AFTER_LEN])).expect("all is taken");
    assert_eq!(block_on(stream.finish()).expect("the stack lives"), CloseReport::Acknowledged);
    assert!(reader.join().expect("no panic").expect("up to our FIN") == vec![7; AFTER_LEN]);
    await_kernel(kernels, ours, Some(KernelState::TimeWait));
    drop(stream);
    lab.await_quiet();
    assert_eq!(lab.stack.stats().expect("the stack lives").engine.time_wait, 0, "who closes last does not rest");
}

fn who_closes_last_passes_through_last_ack(wire: Wire) {
    let Gated { lab, gate, stream, kernel } = gated(wire);
    let [ours, kernels] = ports(&kernel);
    kernel.shutdown(Shutdown::Write).expect("open");
    lab.await_synfin(kernels, State::CloseWait);
    gate.set(Rule::HoldFromFin);
    stream.shutdown_write().expect("open");
    lab.await_synfin(kernels, State::LastAck);
    await_kernel(kernels, ours, Some(KernelState::FinWait2));
    gate.set(Rule::Pass);
    await_kernel(kernels, ours, Some(KernelState::TimeWait));
    drop(stream);
    lab.await_quiet();
}

fn the_kernel_closing_last_passes_through_last_ack(wire: Wire) {
    let Gated { lab, gate, stream, kernel } = gated(wire);
    let [ours, kernels] = ports(&kernel);
    stream.shutdown_write().expect("open");
    lab.await_synfin(kernels, State::FinWait2);
    await_kernel(kernels, ours, Some(KernelState::CloseWait));
    gate.set(Rule::Hold);
    kernel.shutdown(Shutdown::Write).expect("open");
    lab.await_synfin(kernels, State::TimeWait);
    await_kernel(kernels, ours, Some(KernelState::LastAck));
    gate.set(Rule::Pass);
    await_kernel(kernels, ours, None);
}

fn both_close_at_once(wire: Wire) {
    let Gated { lab, gate, mut stream, mut kernel } = gated(wire);
    let [ours, kernels] = ports(&kernel);
    block_on(stream.write_all(b"ours")).expect("room");
    kernel.write_all(b"theirs").expect("room");
    let mut theirs = [0; 6];
    block_on(stream.read_exact(&mut theirs)).expect("six bytes");
    // Neither has seen the other's FIN when it sends its own: ours is held back, so the kernel cannot have.
    gate.set(Rule::HoldFromFin);
    stream.shutdown_write().expect("open");
    lab.await_synfin(kernels, State::FinWait1);
    kernel.shutdown(Shutdown::Write).expect("open");
    lab.await_synfin(kernels, State::Closing);
    await_kernel(kernels, ours, Some(KernelState::FinWait1));
    gate.set(Rule::Pass);
    lab.await_synfin(kernels, State::TimeWait);
    await_kernel(kernels, ours, Some(KernelState::TimeWait));
    let (mut rest, mut end) = (Vec::new(), Vec::new());
    kernel.read_to_end(&mut rest).expect("up to our FIN");
    block_on(stream.read_to_end(&mut end)).expect("up to the kernel's FIN");
    assert_eq!((&rest[..], &end[..]), (&b"ours"[..], &b""[..]));
}
