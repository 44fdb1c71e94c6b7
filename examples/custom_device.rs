//! A device of one's own: a tap in the line that prints every TCP segment as it passes, and hands it on.
//!
//! ```text
//! cargo run --example custom_device                                              # two stacks and a wire in this process
//! cargo run --example custom_device -- --interface veth0 --address 10.9.0.2/24   # a greeting for whoever comes to port 5009
//! ```

mod support;

use std::collections::VecDeque;
use std::io;
use std::process::ExitCode;

use bytes::BytesMut;
use futures::executor::block_on;
use futures::{AsyncReadExt, AsyncWriteExt};
use support::Reach;
use synfin::Stack;
use synfin::device::{Device, Notify, Readiness, Received, Receiver, Transmitter, memory};
use synfin::net::TcpListener;
use synfin::proto::{Link, TxFrame};

/// Any device, with a window to look in.
struct Tapped<D>(D);

/// One direction of it.
struct Half<T: ?Sized>(Box<T>);

impl<D: Device> Device for Tapped<D> {
    fn split(self: Box<Self>) -> (Box<dyn Receiver>, Box<dyn Transmitter>) {
        let (receiver, transmitter) = Box::new(self.0).split();
        (Box::new(Half(receiver)), Box::new(Half(transmitter)))
    }
}

impl Receiver for Half<dyn Receiver> {
    fn link(&mut self) -> (Link, u64) {
        self.0.link()
    }

    fn receive(&mut self, buffer: &mut BytesMut) -> io::Result<Received> {
        let start = buffer.len();
        let received = self.0.receive(buffer)?;
        print_segment('<', &buffer[start..]);
        Ok(received)
    }

    fn readiness(&mut self, notify: Notify) -> Readiness {
        self.0.readiness(notify)
    }
}

impl Transmitter for Half<dyn Transmitter> {
    fn transmit(&mut self, frames: &mut VecDeque<TxFrame>) -> io::Result<()> {
        frames.iter().for_each(|frame| print_segment('>', &frame.to_vec()));
        self.0.transmit(frames)
    }
}

/// Prints the flags and the length of a TCP segment over IPv4.
fn print_segment(direction: char, frame: &[u8]) {
    let ([8, 0], Some(6)) = (frame.get(12..14).unwrap_or_default(), frame.get(23)) else { return };
    let Some(tcp) = frame.get(14 + usize::from(frame[14] & 15) * 4..).filter(|tcp| tcp.len() >= 20) else { return };
    let names = ["FIN", "SYN", "RST", "PSH", "ACK"];
    let flags: Vec<&str> = names.into_iter().enumerate().filter(|(bit, _)| tcp[13] >> bit & 1 != 0).map(|(_, name)| name).collect();
    let len = tcp.len().saturating_sub(usize::from(tcp[12] >> 4) * 4);
    println!("{direction} {} {len} bytes", flags.join(","));
}

fn main() -> ExitCode {
    support::exit_code(run())
}

fn run() -> io::Result<()> {
    let place = support::start("custom_device", 5009, Tapped)?;
    block_on(async {
        match place.reach {
            Reach::Network => {
                let listener = place.stack.listen(place.server).await?;
                loop {
                    greet(&listener).await?;
                }
            }
            Reach::Program => {
                let (near, far) = memory::pair();
                let server = Stack::builder().device(Tapped(near)).address("10.9.0.2/24").start()?;
                let client = Stack::builder().device(far).address("10.9.0.1/24").start()?;
                let listener = server.listen(("10.9.0.2", place.server.port())).await?;
                let mut stream = client.connect(listener.local_addr()?).await?;
                greet(&listener).await?;
                let mut greeting = String::new();
                stream.read_to_string(&mut greeting).await?;
                print!("{greeting}");
                Ok(())
            }
        }
    })
}

async fn greet(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, peer) = listener.accept().await?;
    stream.write_all(format!("Welcome, {peer}.\n").as_bytes()).await?;
    stream.close().await
}
