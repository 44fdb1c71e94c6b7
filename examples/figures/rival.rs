//! smoltcp as a source over the same interface, driven as its own examples are: one loop, one packet socket, buffers as large as it allows
//! without scaling trouble, and no congestion control, which is its default.

use std::error::Error;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Medium, RawSocket, wait};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant as Time;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

/// Plays `--role source` of `perf` with the flags that it is given, and answers the line that `perf` would print.
pub(crate) fn source(flags: &[&str]) -> Result<String, Box<dyn Error>> {
    let flag = |name: &str| flags.iter().skip_while(|flag| **flag != name).nth(1).copied().ok_or_else(|| format!("{name} is missing"));
    let (interface, address, remote, seconds) = (flag("--interface")?, flag("--address")?, flag("--connect")?, flag("--seconds")?);
    let mut device = RawSocket::new(interface, Medium::Ethernet)?;
    let mut iface = Interface::new(Config::new(EthernetAddress([2, 0, 0, 0, 0, 4]).into()), &mut device, Time::now());
    let own: IpCidr = address.parse().map_err(|()| "no address")?;
    iface.update_ip_addrs(|addresses| _ = addresses.push(own));
    let mut sockets = SocketSet::new(Vec::new());
    let handle = sockets.add(Socket::new(SocketBuffer::new(vec![0; BUFFER_LEN]), SocketBuffer::new(vec![0; BUFFER_LEN])));
    let (host, port) = remote.split_once(':').ok_or("no port")?;
    let host: IpAddress = host.parse().map_err(|()| "no address")?;
    sockets.get_mut::<Socket<'_>>(handle).connect(
        iface.context(),
        (host, port.parse::<u16>()?),
        40_000 + std::process::id() as u16 % 20_000,
    )?;
    let turn = Duration::from_secs_f64(seconds.parse()?);
    let (begin, block) = (Instant::now(), vec![0; BUFFER_LEN]);
    let (mut first, mut bytes) = (None, 0);
    loop {
        iface.poll(Time::now(), &mut device, &mut sockets);
        let socket = sockets.get_mut::<Socket<'_>>(handle);
        if socket.can_send() {
            let first = *first.get_or_insert_with(Instant::now);
            if first.elapsed() >= turn {
                break;
            }
            while socket.can_send() {
                bytes += socket.send_slice(&block)?;
            }
        } else {
            if begin.elapsed() > turn + PATIENCE {
                return Err("smoltcp was not connected".into());
            }
            wait(
                device.as_raw_fd(),
                iface.poll_delay(Time::now(), &sockets).map(|delay| delay.min(smoltcp::time::Duration::from_millis(10))),
            )?;
        }
    }
    let socket = sockets.get_mut::<Socket<'_>>(handle);
    // What still waits was not sent.
    bytes -= socket.send_queue();
    let spent = first.map_or(0.0, |first| first.elapsed().as_secs_f64());
    socket.abort();
    iface.poll(Time::now(), &mut device, &mut sockets);
    Ok(format!(
        "{{\"role\":\"source\",\"backend\":\"smoltcp\",\"bytes\":{bytes},\"seconds\":{spent},\"gbit_s\":{}}}",
        bytes as f64 * 8.0 / 1e9 / spent
    ))
}

/// Bytes of each buffer.
const BUFFER_LEN: usize = 1 << 20;

/// How long it may take to connect.
const PATIENCE: Duration = Duration::from_secs(5);
