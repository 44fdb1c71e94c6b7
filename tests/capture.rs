//! Captures: what a stack writes is read back here by the pcapng specification's letter, without the code that wrote it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use futures::executor::block_on;
use futures::{AsyncReadExt, AsyncWriteExt};
use synfin::device::memory;
use synfin::{Runtime, Stack};

/// A file that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("synfin-capture-{}-{name}.pcapng", std::process::id())))
    }

    fn rotated(&self) -> PathBuf {
        let mut name = self.0.clone().into_os_string();
        name.push(".1");
        name.into()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::env::var_os("KEEP_CAPTURES").is_none() {
            _ = std::fs::remove_file(&self.0);
            _ = std::fs::remove_file(self.rotated());
        }
    }
}

/// A file, taken apart.
#[derive(Debug, Default)]
struct Capture {
    /// Link type and name.
    interfaces: Vec<(u16, String)>,
    packets: Vec<Packet>,
}

#[derive(Debug)]
struct Packet {
    interface: usize,
    nanos: u64,
    bytes: Vec<u8>,
    comments: Vec<String>,
    flags: Option<u32>,
}

impl Packet {
    /// Made for its comments: of the first local experimental EtherType, on the last interface.
    fn is_note(&self) -> bool {
        self.bytes.starts_with(&[[0; 12].as_slice(), &[0x88, 0xb5]].concat())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("in range"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("in range"))
}

/// Reads a file and checks its blocks: lengths twice, multiples of four, options that end, one section.
fn read(path: &Path) -> Capture {
    let file = std::fs::read(path).expect("a file");
    let mut capture = Capture::default();
    let mut rest = &file[..];
    while !rest.is_empty() {
        let (kind, len) = (u32_at(rest, 0), u32_at(rest, 4) as usize);
        assert_eq!(len % 4, 0);
        assert_eq!(u32_at(rest, len - 4) as usize, len, "the length stands at both ends");
        let body = &rest[8..len - 4];
        assert_eq!(kind == 0x0a0d_0d0a, rest.len() == file.len(), "one section, at the start");
        match kind {
            0x0a0d_0d0a => {
                assert_eq!((u32_at(body, 0), u16_at(body, 4), u16_at(body, 6)), (0x1a2b_3c4d, 1, 0));
                assert!(options(&body[16..]).iter().any(|(code, value)| *code == 4 && value.starts_with(b"synfin ")));
            }
            1 => {
                let options = options(&body[8..]);
                assert!(options.contains(&(9, vec![9])), "nanoseconds");
                let name = options.iter().find(|(code, _)| *code == 2).expect("a name");
                capture.interfaces.push((u16_at(body, 0), String::from_utf8(name.1.clone()).expect("UTF-8")));
            }
            6 => capture.packets.push(packet(body)),
            kind => panic!("block type {kind}"),
        }
        rest = &rest[len..];
    }
    for packet in &capture.packets {
        check_packet(packet, capture.interfaces[packet.interface].0);
    }
    assert!(capture.packets.is_sorted_by_key(|packet| packet.nanos), "time does not go back");
    capture
}

fn packet(body: &[u8]) -> Packet {
    let len = u32_at(body, 12) as usize;
    assert_eq!(u32_at(body, 16) as usize, len, "nothing was cut off");
    let options = options(&body[20 + len.next_multiple_of(4)..]);
    let flags = options.iter().find(|(code, _)| *code == 2).map(|(_, value)| u32_at(value, 0));
    let comments = options.iter().filter(|(code, _)| *code == 1).map(|(_, text)| String::from_utf8(text.clone()).expect("UTF-8"));
    Packet {
        interface: u32_at(body, 0) as usize,
        nanos: (u64::from(u32_at(body, 4)) << 32) | u64::from(u32_at(body, 8)),
        bytes: body[20..20 + len].to_vec(),
        comments: comments.collect(),
        flags,
    }
}

fn options(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut options = Vec::new();
    loop {
        let (code, len) = (u16_at(bytes, 0), usize::from(u16_at(bytes, 2)));
        if code == 0 {
            assert_eq!((len, bytes.len()), (0, 4), "the end of the options is the end of the block");
            return options;
        }
        options.push((code, bytes[4..4 + len].to_vec()));
        bytes = &bytes[4 + len.next_multiple_of(4)..];
    }
}

fn sum(pieces: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for pair in pieces.concat().chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("it fits")
}

/// Lengths and checksums of an IPv4 or IPv6 packet with TCP; ARP and ICMPv6 pass by.
fn check_packet(packet: &Packet, link_type: u16) {
    if packet.is_note() {
        assert_eq!(packet.bytes[14..], *packet.comments.join("\n").as_bytes());
        return;
    }
    let ip = if link_type == 1 { &packet.bytes[14..] } else { &packet.bytes[..] };
    if link_type == 1 && packet.bytes[12..14] == [8, 6] {
        return;
    }
    let (addresses, tcp) = match ip[0] >> 4 {
        4 => {
            assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len());
            assert_eq!(sum(&[&ip[..20]]), 0xffff, "the IPv4 header's checksum");
            (&ip[12..20], &ip[20..])
        }
        6 => {
            assert_eq!(usize::from(u16::from_be_bytes([ip[4], ip[5]])), ip.len() - 40);
            (&ip[8..40], &ip[40..])
        }
        version => panic!("IP version {version}"),
    };
    if ip[0] >> 4 == 6 && ip[6] != 6 {
        return;
    }
    let len = u32::try_from(tcp.len()).expect("it fits").to_be_bytes();
    assert_eq!(sum(&[addresses, &len, &[0, 6], tcp]), 0xffff, "the TCP checksum");
}

/// The states of each connection and listener in order, by `ours theirs`.
fn histories(capture: &Capture) -> BTreeMap<String, Vec<String>> {
    let mut histories = BTreeMap::<String, Vec<String>>::new();
    for comment in capture.packets.iter().flat_map(|packet| &packet.comments) {
        let [local, remote, old, "->", new] = comment.split(' ').collect::<Vec<_>>()[..] else { continue };
        let history = histories.entry(format!("{local} {remote}")).or_insert_with(|| vec![old.to_owned()]);
        assert_eq!(history.last().expect("one at least"), old, "each change begins where the last one ended");
        history.push(new.to_owned());
    }
    histories
}

const ACTIVE: [&str; 6] = ["CLOSED", "SYN-SENT", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT"];
const PASSIVE: [&str; 6] = ["LISTEN", "SYN-RECEIVED", "ESTABLISHED", "CLOSE-WAIT", "LAST-ACK", "CLOSED"];

/// The client writes and closes its half, the server echoes and closes last; then both stacks close.
async fn converse(server: &Stack, client: &Stack, address: &str, len: usize) -> io::Result<()> {
    let listener = server.listen(address).await?;
    let mut stream = client.connect(listener.local_addr()?).await?;
    let (mut accepted, _) = listener.accept().await?;
    let sent: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).expect("it fits")).collect();
    let (mut there, mut back) = (Vec::new(), vec![0; len]);
    let ask = async {
        stream.write_all(&sent).await?;
        stream.shutdown_write()
    };
    let (asked, heard) = futures::future::join(ask, accepted.read_to_end(&mut there)).await;
    asked?;
    heard?;
    let (answered, heard) = futures::future::join(accepted.write_all(&there), stream.read_exact(&mut back)).await;
    answered?;
    heard?;
    assert!(back == sent, "bytes differ");
    accepted.shutdown_write()?;
    assert_eq!(stream.read_to_end(&mut back).await?, 0);
    server.shutdown(DEADLINE).await?;
    client.shutdown(DEADLINE).await
}

const LISTENER: [&str; 3] = ["CLOSED", "LISTEN", "CLOSED"];

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);

fn check_histories(capture: &Capture, expected: &[&[&str]]) {
    let histories: Vec<Vec<String>> = histories(capture).into_values().collect();
    assert_eq!(histories.len(), expected.len(), "{histories:?}");
    for expected in expected {
        assert!(histories.iter().any(|history| history == expected), "{expected:?} is not in {histories:?}");
    }
}

#[test]
fn a_loopback_echo_is_told_whole() {
    let file = Scratch::new("loopback");
    let stack = Stack::builder().capture(&file.0).start().unwrap();
    block_on(converse(&stack, &stack, "127.0.0.1:7", 100_000)).unwrap();
    assert_eq!(stack.stats().unwrap().runtime.capture_lost, 0);
    let capture = read(&file.0);
    assert_eq!(capture.interfaces, [(101, "loopback".to_owned()), (1, "notes".to_owned())]);
    assert_eq!(capture.packets.iter().filter(|packet| !packet.is_note()).count() as u64, stack.stats().unwrap().engine.frames_looped);
    check_histories(&capture, &[&ACTIVE, &PASSIVE, &LISTENER]);
}

#[test]
fn a_runtime_captures_too() {
    let file = Scratch::new("runtime");
    let runtime = Runtime::builder().capture(&file.0).build().unwrap();
    let stack = runtime.stack().clone();
    runtime.block_on(converse(&stack, &stack, "[::1]:7", 1000)).unwrap();
    check_histories(&read(&file.0), &[&ACTIVE, &PASSIVE, &LISTENER]);
}

#[test]
fn both_ends_of_a_link_tell_the_same() {
    let files = [Scratch::new("left"), Scratch::new("right")];
    for (addresses, listen) in [(["10.9.0.1/24", "10.9.0.2/24"], "10.9.0.1:7"), (["fd09::1/64", "fd09::2/64"], "[fd09::1]:7")] {
        let (left, right) = memory::pair();
        let server = Stack::builder().device(left).address(addresses[0]).capture(&files[0].0).start().unwrap();
        let client = Stack::builder().device(right).address(addresses[1]).capture(&files[1].0).start().unwrap();
        block_on(converse(&server, &client, listen, 300_000)).unwrap();
        let [left, right] = [&server, &client].map(|stack| stack.stats().unwrap());
        assert_eq!((left.runtime.capture_lost, right.runtime.capture_lost), (0, 0));
        let captures = files.each_ref().map(|file| read(&file.0));
        for (capture, expected) in captures.iter().zip([&[&PASSIVE[..], &LISTENER][..], &[&ACTIVE]]) {
            let interfaces = [(1, "device"), (101, "loopback"), (1, "notes")];
            assert_eq!(capture.interfaces, interfaces.map(|(link_type, name)| (link_type, name.to_owned())));
            check_histories(capture, expected);
        }
        let frames = |capture: &Capture, flags| {
            let mut frames: Vec<Vec<u8>> =
                capture.packets.iter().filter(|packet| packet.flags == Some(flags)).map(|packet| packet.bytes.clone()).collect();
            frames.sort();
            frames
        };
        for (sender, receiver) in [(&captures[0], &captures[1]), (&captures[1], &captures[0])] {
            let (sent, received) = (frames(sender, 2), frames(receiver, 1));
            assert!(!sent.is_empty() && sent == received, "{} frames out, {} in", sent.len(), received.len());
        }
    }
}

#[test]
fn a_drop_is_a_comment_on_its_frame() {
    let files = [Scratch::new("refuser"), Scratch::new("refused")];
    let (left, right) = memory::pair();
    let server = Stack::builder().device(left).address("10.9.0.1/24").capture(&files[0].0).start().unwrap();
    let client = Stack::builder().device(right).address("10.9.0.2/24").capture(&files[1].0).start().unwrap();
    let error = block_on(client.connect("10.9.0.1:9")).expect_err("nobody listens");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    drop(server);
    let [refuser, refused] = files.each_ref().map(|file| read(&file.0));
    let dropped = refuser.packets.iter().find(|packet| packet.comments == ["dropped: no-socket"]).expect("a comment");
    assert_eq!((dropped.flags, dropped.bytes[47] & 0x3f), (Some(1), 2), "on the SYN");
    check_histories(&refused, &[&["CLOSED", "SYN-SENT", "CLOSED"]]);
}

#[test]
fn what_no_frame_tells_is_told_at_once() {
    let file = Scratch::new("resting");
    let mut config = synfin::proto::Config::default();
    config.time_wait = std::time::Duration::from_millis(50);
    let runtime = Runtime::builder().config(config).capture(&file.0).build().unwrap();
    let stack = runtime.stack().clone();
    let listening = runtime.block_on(stack.listen("127.0.0.1:8")).unwrap();
    assert_eq!(read(&file.0).packets[0].comments, ["127.0.0.1:8 * CLOSED -> LISTEN"]);
    runtime.block_on(async {
        converse(&stack, &stack, "127.0.0.1:7", 1000).await.unwrap();
        synfin::time::sleep(std::time::Duration::from_millis(100)).await;
    });
    let active = [&ACTIVE[..], &["CLOSED"]].concat();
    check_histories(&read(&file.0), &[&active, &PASSIVE, &LISTENER, &LISTENER]);
    drop(listening);
}

#[test]
fn two_files_bound_a_capture() {
    const SIZE: u64 = 256 << 10;
    let file = Scratch::new("rotated");
    let stack = Stack::builder().capture(&file.0).capture_size(SIZE).start().unwrap();
    block_on(converse(&stack, &stack, "127.0.0.1:7", 2 << 20)).unwrap();
    for path in [&file.0, &file.rotated()] {
        assert!(std::fs::metadata(path).unwrap().len() <= SIZE);
        assert!(!read(path).packets.is_empty());
    }
    assert!(std::fs::metadata(file.rotated()).unwrap().len() > SIZE / 2, "it was full");
    assert!(read(&file.rotated()).packets.last().unwrap().nanos <= read(&file.0).packets[0].nanos);
    assert_eq!(stack.stats().unwrap().runtime.capture_lost, 0);
}

#[test]
fn a_file_that_cannot_be_made_is_named() {
    let error = Stack::builder().capture("/no/such/folder/a.pcapng").start().expect_err("no folder");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("/no/such/folder/a.pcapng"), "{error}");
}

#[test]
fn a_full_disk_is_counted_and_holds_nothing_up() {
    // The first block finds room in no buffer of ours: /dev/full refuses every write.
    let error = Stack::builder().capture("/dev/full").start().expect_err("no space");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    // A rename over a directory fails: the capture ends, the stack does not.
    let file = Scratch::new("obstructed");
    std::fs::create_dir(file.rotated()).unwrap();
    let stack = Stack::builder().capture(&file.0).capture_size(200_000).start().unwrap();
    block_on(converse(&stack, &stack, "127.0.0.1:7", 1 << 20)).unwrap();
    std::fs::remove_dir(file.rotated()).unwrap();
    assert!(stack.stats().unwrap().runtime.capture_lost > 0);
    assert!(std::fs::metadata(&file.0).unwrap().len() <= 200_000);
    assert!(!read(&file.0).packets.is_empty());
}
