//! A capture of conversations with the kernel, read by Wireshark's dissector: it finds no fault, and the comments tell every change of state.
//!
//! Without tshark the test is ignored and says so; with `SYNFIN_REQUIRE_TOOLS=1` it fails.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, process, thread};

use futures::executor::block_on;
use futures::{AsyncReadExt, AsyncWriteExt};
use synfin::Stack;
use synfin::device::{PacketSocket, namespace};
use synfin::net::TcpStream;
use synfin::proto::{Config, State};

use crate::lab::{KERNEL, Lab, PATIENCE, SYNFIN, veth};

/// The variable that makes the test fail where there is no tshark.
const REQUIRED: &str = "SYNFIN_REQUIRE_TOOLS";

/// What a capture without loss must not have.
const FAULTS: &str = "_ws.malformed || tcp.checksum.status==0 || _ws.expert.severity>=warning";

/// Bytes of an exchange: less than the kernel's first window, so that no window is ever full, which would be a warning.
const BLOCK_LEN: usize = 50_000;

/// Exchanges of a conversation, in each direction.
const ROUNDS: usize = 20;

#[test]
fn tshark_finds_no_fault_with_a_capture() {
    const NAME: &str = "tshark::tshark_finds_no_fault_with_a_capture";
    if let Err(error) = Command::new("tshark").arg("--version").output() {
        let text = format!("no tshark ({error}); sudo apt-get install tshark");
        assert!(env::var_os(REQUIRED).is_none(), "{NAME}: {text}");
        _ = writeln!(io::stderr(), "test {NAME} ... ignored: {text}");
        return;
    }
    namespace::test(NAME, || {
        let mut frames = 0;
        for family in [0, 1] {
            // A file for each: the watch over the last stack keeps it alive, and what it still has to say goes to its own.
            let file = Scratch::new(["whole-4", "whole-6"][family]);
            let expected = converse(&file.0, family);
            assert_eq!(tshark(&file.0, &["-Y", FAULTS]), "");
            assert_eq!(histories(&file.0), expected);
            frames = tshark(&file.0, &["-T", "fields", "-e", "frame.number"]).lines().count();
        }
        assert!(frames > ROUNDS * 2, "{frames} frames");

        let file = Scratch::new("sound");
        converse(&file.0, 0);
        let damaged = Scratch::new("damaged");
        fs::write(&damaged.0, with_a_wrong_checksum(fs::read(&file.0).expect("a capture"))).expect("room");
        assert_eq!(tshark(&damaged.0, &["-Y", FAULTS]).lines().count(), 1, "the wrong checksum is seen");
    });
}

/// Either side opens a connection, and the stack is first to close one and last to close the other. Answers the states that the stack's sockets
/// pass through.
fn converse(path: &Path, family: usize) -> Vec<Vec<String>> {
    let mut config = Config::default();
    config.time_wait = Duration::from_millis(100);
    let veth = veth();
    let device = PacketSocket::open("syn1", &SYNFIN).expect("a packet socket");
    let lab = Lab::around(veth, Stack::builder().device(device).config(config).capture(path));
    let mut blocks = Blocks { asked: vec![7; BLOCK_LEN], answered: vec![0; BLOCK_LEN] };

    let listener = block_on(lab.stack.listen((SYNFIN[family], 7))).expect("a free port");
    let address = listener.local_addr().expect("it listens");
    let kernel = thread::spawn(move || std::net::TcpStream::connect(address).expect("somebody listens"));
    let (stream, _) = block_on(listener.accept()).expect("the kernel calls");
    let (mut stream, mut kernel) = (stream, patient(kernel.join().expect("no panic")));
    blocks.exchange(&mut stream, &mut kernel);
    stream.shutdown_write().expect("open");
    assert_eq!(kernel.read(&mut [0]).expect("our FIN"), 0);
    kernel.write_all(&blocks.asked).expect("half of it is open");
    drop(kernel);
    block_on(stream.read_to_end(&mut blocks.answered)).expect("up to the kernel's FIN");
    drop((stream, listener));

    let listener = std::net::TcpListener::bind((KERNEL[family], 0)).expect("a free port");
    let mut stream = block_on(lab.stack.connect(listener.local_addr().expect("bound"))).expect("the kernel listens");
    let mut kernel = patient(listener.accept().expect("we called").0);
    blocks.exchange(&mut stream, &mut kernel);
    kernel.shutdown(Shutdown::Write).expect("open");
    assert_eq!(block_on(stream.read(&mut [0])).expect("the kernel's FIN"), 0);
    block_on(stream.write_all(&blocks.asked)).expect("half of it is open");
    stream.shutdown_write().expect("open");
    kernel.read_to_end(&mut blocks.answered).expect("up to our FIN");
    drop((stream, kernel));

    crate::lab::wait_for("no socket in the stack", || lab.stack.netstat().expect("the stack lives").is_empty());
    let Lab { veth, stack } = lab;
    assert_eq!(stack.stats().expect("it lives").runtime.capture_lost, 0);
    veth.delete().expect("it is there");
    use State::{CloseWait, Closed, Established, FinWait1, FinWait2, LastAck, Listen, SynReceived, SynSent, TimeWait};
    let accepted = &[Listen, SynReceived, Established, FinWait1, FinWait2, TimeWait, Closed][..];
    let connected = &[Closed, SynSent, Established, CloseWait, LastAck, Closed][..];
    let mut expected =
        [&[Closed, Listen, Closed][..], accepted, connected].map(|states| states.iter().map(State::to_string).collect()).to_vec();
    expected.sort();
    expected
}

fn patient(kernel: std::net::TcpStream) -> std::net::TcpStream {
    kernel.set_read_timeout(Some(PATIENCE)).expect("not zero");
    kernel.set_write_timeout(Some(PATIENCE)).expect("not zero");
    kernel
}

struct Blocks {
    asked: Vec<u8>,
    answered: Vec<u8>,
}

impl Blocks {
    /// Echoes, first by the kernel and then by the stack.
    fn exchange(&mut self, stream: &mut TcpStream, kernel: &mut std::net::TcpStream) {
        let Self { asked, answered } = self;
        answered.resize(BLOCK_LEN, 0);
        for _ in 0..ROUNDS {
            block_on(stream.write_all(asked)).expect("room");
            kernel.read_exact(answered).expect("a block");
            kernel.write_all(answered).expect("room");
            block_on(stream.read_exact(answered)).expect("its echo");
            assert!(asked == answered);
        }
        for _ in 0..ROUNDS {
            kernel.write_all(asked).expect("room");
            block_on(stream.read_exact(answered)).expect("a block");
            block_on(stream.write_all(answered)).expect("room");
            kernel.read_exact(answered).expect("its echo");
            assert!(asked == answered);
        }
    }
}

/// What tshark prints about a capture, with every checksum verified.
fn tshark(path: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("tshark");
    // Somebody else's settings must not change what it finds.
    command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME");
    command.arg("-r").arg(path).args(["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]).args(arguments);
    let output = command.output().expect("tshark starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The states of each connection and listener, as the comments tell them; each change begins where the last one ended.
fn histories(path: &Path) -> Vec<Vec<String>> {
    let comments = tshark(path, &["-T", "fields", "-E", "aggregator=;", "-e", "frame.comment"]);
    let mut histories = BTreeMap::<(&str, &str), Vec<String>>::new();
    for comment in comments.split([';', '\n']) {
        let [local, remote, old, "->", new] = comment.split(' ').collect::<Vec<_>>()[..] else { continue };
        let history = histories.entry((local, remote)).or_insert_with(|| vec![old.to_owned()]);
        assert_eq!(history.last().expect("one at least"), old, "{comments}");
        history.push(new.to_owned());
    }
    let mut histories: Vec<_> = histories.into_values().collect();
    histories.sort();
    histories
}

/// The same capture with a bit turned in the TCP checksum of its last IPv4 packet with TCP.
fn with_a_wrong_checksum(mut file: Vec<u8>) -> Vec<u8> {
    let (mut at, mut checksum) = (0, None);
    while at < file.len() {
        let word = |offset: usize| u32::from_le_bytes(file[at + offset..][..4].try_into().expect("four bytes"));
        // An Enhanced Packet Block, whose packet begins after seven words: an Ethernet header, then IPv4.
        let frame = at + 28;
        if word(0) == 6 && file[frame + 12..frame + 14] == [8, 0] && file[frame + 23] == 6 {
            checksum = Some(frame + 14 + usize::from(file[frame + 14] & 15) * 4 + 16);
        }
        at += word(4) as usize;
    }
    file[checksum.expect("a TCP packet")] ^= 1;
    file
}

/// A file that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(env::temp_dir().join(format!("synfin-tshark-{}-{name}.pcapng", process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}
