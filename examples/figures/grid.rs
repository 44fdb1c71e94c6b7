//! The grid: what is measured, by whom, in which order.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::ops::RangeFrom;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use std::{env, thread};

use serde_json::{Value, json};
use synfin::device::namespace::{self, Switch, Veth};

/// The second address of the wire, ours or that of the kernel in namespace B.
pub(crate) const OURS_CIDR: &str = "10.9.0.2/24";

const KERNELS_CIDR: &str = "10.9.0.1/24";

/// What the kernel uses, whatever its default here: it is the default of most systems.
const CONGESTION_CONTROL: &str = "cubic";

/// The kernel's TCP as `perf` has it.
const KERNELS_FLAGS: &[&str] = &["--backend", "tokio", "--congestion", CONGESTION_CONTROL];

/// Rounds; in each, every contestant has its turn, so that what disturbs the machine disturbs them alike.
const ROUNDS: usize = 5;

/// Seconds of one turn.
const SECONDS: &str = "1";

/// Of connections after connections: fewer than a client has ports, whatever rests in TIME-WAIT.
const SECONDS_OF_CONNECTING: &str = "0.7";

/// The first port of servers. Each turn has its own, since what turns before left in TIME-WAIT would refuse connections of this one.
const PORT: u16 = 5001;

/// What a server is given to start.
const START: Duration = Duration::from_millis(250);

/// Who is at the second address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contestant {
    Kernel,
    Synfin,
    Runtime,
    BusyRuntime,
    /// At the first address too.
    BothEnds,
    /// A TAP interface in the place of the pair: the kernel on one side, ours on the other.
    Tap,
    /// A raw socket on the second interface; without offloads only, since it drops what has a partial checksum.
    Smoltcp,
}

/// What is measured, at the second address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Send,
    Receive,
    Ping,
    Connect,
}

impl Contestant {
    const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Synfin => "synfin under tokio",
            Self::Runtime => "synfin, own runtime",
            Self::BusyRuntime => "synfin, own runtime, busy-polling",
            Self::BothEnds => "synfin under tokio, both ends",
            Self::Tap => "synfin, own runtime, over a TAP",
            Self::Smoltcp => "smoltcp 0.14",
        }
    }

    const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Kernel => KERNELS_FLAGS,
            Self::Synfin | Self::BothEnds => &["--backend", "synfin", "--interface", "syn1", "--address", OURS_CIDR],
            Self::Runtime => &["--backend", "runtime", "--interface", "syn1", "--address", OURS_CIDR],
            Self::BusyRuntime => &["--backend", "runtime", "--busy-poll", "--interface", "syn1", "--address", OURS_CIDR],
            Self::Tap => &["--backend", "runtime", "--tap", "syn1", "--address", OURS_CIDR],
            Self::Smoltcp => &["--interface", "syn1", "--address", OURS_CIDR],
        }
    }
}

impl Task {
    const fn name(self) -> &'static str {
        match self {
            Self::Send => "bulk, sending",
            Self::Receive => "bulk, receiving",
            Self::Ping => "one byte there and back, p50",
            Self::Connect => "connections, 16 at a time",
        }
    }

    /// The field of `perf`'s answer, and its unit.
    const fn figure(self) -> (&'static str, &'static str) {
        match self {
            Self::Send | Self::Receive => ("gbit_s", "Gbit/s"),
            Self::Ping => ("p50_us", "µs"),
            Self::Connect => ("ops_s", "1/s"),
        }
    }

    /// The roles at the second and at the first address.
    const fn roles(self) -> [&'static str; 2] {
        match self {
            Self::Send => ["source", "sink"],
            Self::Receive => ["sink", "source"],
            Self::Ping => ["ping", "echo"],
            Self::Connect => ["connect", "accept"],
        }
    }

    const fn contestants(self, offloads: Switch) -> &'static [Contestant] {
        use Contestant::{BothEnds, BusyRuntime, Kernel, Runtime, Smoltcp, Synfin, Tap};
        match (self, offloads) {
            (Self::Send, Switch::On) => &[Kernel, Synfin, Runtime, Tap, BothEnds],
            (Self::Send, Switch::Off) => &[Kernel, Synfin, Smoltcp],
            (Self::Receive, Switch::On) => &[Kernel, Synfin, Runtime, Tap],
            (Self::Ping, Switch::On) => &[Kernel, Synfin, Runtime, BusyRuntime],
            (Self::Connect, _) | (_, Switch::Off) => &[Kernel, Synfin],
        }
    }
}

/// Runs everything, and answers the file's content.
pub(crate) fn measure() -> Result<Value, Box<dyn Error>> {
    let tasks: [(Switch, &[Task]); 2] =
        [(Switch::On, &[Task::Send, Task::Receive, Task::Ping, Task::Connect]), (Switch::Off, &[Task::Send, Task::Receive])];
    let mut ports = PORT..;
    let mut measurements = Vec::new();
    for (offloads, tasks) in tasks {
        for task in tasks {
            measurements.extend(rounds(*task, offloads, &mut ports)?);
        }
    }
    Ok(json!({
        "command": "cargo run --release --example figures -- measure",
        "commit": told_by("git", &["rev-parse", "HEAD"])?,
        "link": "veth, MTU 1500",
        "machine": {
            "cores": thread::available_parallelism()?.get(),
            "processor": processor()?,
            "kernel": told_by("uname", &["-sr"])?.split('-').next(),
            "congestion_control": { "kernel": CONGESTION_CONTROL, "synfin": "reno" },
        },
        "rounds": ROUNDS,
        "seconds": SECONDS,
        "measurements": measurements,
    }))
}

fn rounds(task: Task, offloads: Switch, ports: &mut RangeFrom<u16>) -> Result<Vec<Value>, Box<dyn Error>> {
    let contestants = task.contestants(offloads);
    let (field, unit) = task.figure();
    let mut figures = vec![(Vec::new(), Vec::new()); contestants.len()];
    for round in 1..=ROUNDS {
        for (contestant, (values, costs)) in contestants.iter().zip(&mut figures) {
            let answer = turn(task, *contestant, offloads, ports.next().ok_or("no port is left")?).unwrap_or_else(|error| {
                eprintln!("{error}");
                Value::Null
            });
            eprintln!("{} {}, round {round}: {field} {}", contestant.name(), task.name(), answer[field]);
            values.push(answer[field].clone());
            costs.push(answer["cpu_s_per_gb"].clone());
        }
    }
    let rows = contestants.iter().zip(figures).map(|(contestant, (values, costs))| {
        let costs = if unit == "Gbit/s" { json!(costs) } else { Value::Null };
        let offloads = if offloads == Switch::On { "on" } else { "off" };
        json!({ "task": task.name(), "tcp": contestant.name(), "offloads": offloads, "unit": unit, "values": values, "cpu_s_per_gb": costs })
    });
    Ok(rows.collect())
}

/// One measurement over a new pair; what `perf` at the second address says.
fn turn(task: Task, contestant: Contestant, offloads: Switch, port: u16) -> Result<Value, Box<dyn Error>> {
    let veth = if contestant == Contestant::Tap { create_tap()? } else { Veth::create("syn0", "syn1", 1500)? };
    if contestant != Contestant::Tap {
        for name in ["syn0", "syn1"] {
            veth.set_offloads(name, offloads)?;
        }
    }
    let output = play(task, contestant, &veth, port);
    match contestant {
        Contestant::Kernel => {}
        Contestant::Tap => veth.remove("syn1")?,
        _ => veth.delete()?,
    }
    // The kernel's pair goes with namespace B, a moment after its last process.
    while synfin::device::host::interface_names()?.len() > 1 {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(serde_json::from_slice(&output?.stdout)?)
}

/// The interface `syn1` that `perf` will attach to; needs `/dev/net/tun`.
fn create_tap() -> io::Result<Veth> {
    let output = Command::new("ip").args(["tuntap", "add", "dev", "syn1", "mode", "tap", "vnet_hdr"]).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("no TAP interface, run this as root: {}", String::from_utf8_lossy(&output.stderr))));
    }
    let tap = Veth::adopt("syn1")?;
    tap.up("syn1")?;
    Ok(tap)
}

fn play(task: Task, contestant: Contestant, veth: &Veth, port: u16) -> io::Result<Output> {
    let (port, servers) = (port.to_string(), if task == Task::Receive { "10.9.0.2" } else { "10.9.0.1" });
    let remote = format!("{servers}:{port}");
    let seconds = if task == Task::Connect { SECONDS_OF_CONNECTING } else { SECONDS };
    let mut first = vec!["--role", task.roles()[1], "--port", &port];
    if contestant == Contestant::BothEnds {
        first.extend(["--backend", "synfin", "--interface", "syn0", "--address", KERNELS_CIDR]);
    } else {
        veth.address(if contestant == Contestant::Tap { "syn1" } else { "syn0" }, KERNELS_CIDR)?;
        first.extend(KERNELS_FLAGS);
    }
    let mut second = [&["--role", task.roles()[0], "--port", &port], contestant.flags()].concat();
    if task == Task::Connect {
        second.extend(["--inflight", "16"]);
    }
    if task == Task::Receive {
        first.extend(["--connect", &remote, "--seconds", SECONDS]);
        let server = start_second(contestant, &second, veth)?;
        thread::sleep(START);
        let client = finish(start(&first)?);
        // Asked to end, it says what it has counted.
        Command::new("kill").arg(server.id().to_string()).status()?;
        let output = finish(server)?;
        return client.map(|_| output);
    }
    second.extend(["--connect", &remote, "--seconds", seconds]);
    let mut server = start(&first)?;
    thread::sleep(START);
    let output = start_second(contestant, &second, veth).and_then(finish);
    server.kill()?;
    server.wait()?;
    output
}

fn start(flags: &[&str]) -> io::Result<Child> {
    Command::new(perf()?).args(flags).stdout(Stdio::piped()).spawn()
}

/// Starts `perf` at the second address; the kernel's in namespace B.
fn start_second(contestant: Contestant, flags: &[&str], veth: &Veth) -> io::Result<Child> {
    match contestant {
        Contestant::Kernel => {}
        Contestant::Smoltcp => return Command::new(env::current_exe()?).arg("smoltcp").args(flags).stdout(Stdio::piped()).spawn(),
        _ => return start(flags),
    }
    let mut command = Command::new(env::current_exe()?);
    command.arg("beside").arg(perf()?).args(flags).stdin(Stdio::piped()).stdout(Stdio::piped());
    namespace::begin_beside(&mut command);
    let mut child = command.spawn()?;
    veth.give("syn1", child.id())?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(b"!")?;
    }
    Ok(child)
}

/// Waits for its end, which has to be a good one.
fn finish(child: Child) -> io::Result<Output> {
    let output = child.wait_with_output()?;
    if output.status.success() { Ok(output) } else { Err(io::Error::other(format!("perf: {}", output.status))) }
}

/// The example beside this one.
fn perf() -> io::Result<PathBuf> {
    let path = env::current_exe()?.with_file_name("perf");
    if path.exists() { Ok(path) } else { Err(io::Error::other("no perf: cargo build --release --examples")) }
}

fn told_by(program: &str, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    Ok(String::from_utf8(Command::new(program).args(arguments).output()?.stdout)?.trim().to_owned())
}

fn processor() -> io::Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(model.map_or("unknown", |(_, name)| name).to_owned())
}
