//! The examples as a reader runs them: on the loopback, where each plays both sides and ends; on an interface, where the kernel's TCP is the
//! other side; and with flags that make no sense.

#![expect(clippy::disallowed_methods, reason = "the examples are processes of their own, and their time is real")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use synfin::device::namespace::{self, Veth};

/// How long an example that ends may take, and the kernel to get through to one that doesn't.
const PATIENCE: Duration = Duration::from_secs(20);

/// Cargo builds examples for `cargo test` beside the folder of the tests.
fn example(name: &str) -> Command {
    let mut path = PathBuf::from(std::env::current_exe().expect("a test has a path").parent().expect("deps"));
    path.pop();
    path.extend(["examples", name]);
    assert!(path.exists(), "{}: run `cargo build --examples` first", path.display());
    Command::new(path)
}

fn run(name: &str, flags: &[&str]) -> Output {
    let mut child = example(name).args(flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is built");
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().expect("a child");
            panic!("{name} does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().expect("a child")
}

/// Runs an example on its loopback, and looks for `expected` in what it says.
#[track_caller]
fn check(name: &str, expected: &[&str]) {
    let output = run(name, &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name}: {output:?}");
    for part in [&["only this program can reach"], expected].concat() {
        assert!(text.contains(part), "{name} does not say {part:?}:\n{text}");
    }
}

#[test]
fn custom_device_prints_what_passes() {
    check("custom_device", &["< SYN 0 bytes\n> SYN,ACK 0 bytes\n< ACK 0 bytes\n", "Welcome, 10.9.0.1:"]);
}

#[test]
fn echo_client_hears_itself() {
    check("echo_client", &["SYN came back as SYN", "FIN came back as FIN", "MSS 65483 bytes"]);
}

#[test]
fn echo_server_has_a_client() {
    check("echo_server", &["echoing on 127.0.0.1:7", "the client hears: hello"]);
}

#[test]
fn half_close_answers_after_the_end() {
    check("half_close", &["we listen: FIN-WAIT-2", "ours is open: CLOSE-WAIT", "acknowledged to the last byte", "client: 6 words"]);
}

#[test]
fn http_hello_says_hello() {
    check("http_hello", &["http://127.0.0.1:8080/", "HTTP/1.1 200 OK", "Hello, 127.0.0.1:"]);
}

#[test]
fn netstat_follows_a_connection() {
    check("netstat", &["LISTEN", "ESTABLISHED", "FIN_WAIT2", "CLOSE_WAIT", "TIME_WAIT"]);
}

#[test]
fn wrong_flags_are_explained() {
    for (flags, expected) in [
        (&["--interface", "veth0"][..], "--interface needs --address"),
        (&["--address", "10.9.0.2/24"], "need --interface"),
        (&["--interface", "veth0", "--address", "10.9.0.2"], "10.9.0.2/24"),
        (&["--port", "eighty"], "eighty"),
        (&["--what"], "--what"),
        (&["stray"], "stray"),
    ] {
        let output = run("echo_server", flags);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {output:?}");
        assert!(text.contains(expected) && text.contains("usage: echo_server [--interface NAME"), "{flags:?}: {text}");
    }
}

/// An example on an interface, in the namespace of the test.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(name: &str, more: &[&str]) -> Self {
        let flags = ["--interface", "syn1", "--address", "10.9.0.2/24", "--gateway", "10.9.0.1"];
        let mut child = example(name).args(flags).args(more).stdout(Stdio::piped()).spawn().expect("it is built");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let running = Self { child, lines };
        running.await_line("on syn1 as 10.9.0.2");
        running
    }

    /// Reads lines until one contains `part`.
    fn await_line(&self, part: &str) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return,
                Ok(_) => {}
                Err(error) => panic!("no line with {part:?}: {error}"),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The kernel's TCP says `question`, closes its half, and reads to the end.
fn ask(port: u16, question: &[u8]) -> String {
    let mut stream = TcpStream::connect(("10.9.0.2", port)).expect("the example listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(question).expect("room");
    stream.shutdown(Shutdown::Write).expect("open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn on_a_veth(name: &str, body: impl FnOnce()) {
    namespace::test(name, || {
        let veth = Veth::create("syn0", "syn1", 1500).expect("a pair");
        veth.address("syn0", "10.9.0.1/24").expect("an address");
        std::thread::spawn(|| {
            std::thread::sleep(3 * PATIENCE);
            eprintln!("an example is silent");
            std::process::abort();
        });
        body();
    });
}

#[test]
fn servers_serve_the_kernel() {
    on_a_veth("servers_serve_the_kernel", || {
        let server = Running::start("echo_server", &["--port", "4007"]);
        server.await_line("10.9.0.2:4007");
        assert_eq!(ask(4007, b"is there an echo?"), "is there an echo?");
        drop(server);

        let server = Running::start("half_close", &[]);
        server.await_line("10.9.0.2:5007");
        assert_eq!(ask(5007, b"to be or not"), "4 words\n");
        server.await_line("acknowledged to the last byte");
        drop(server);

        let server = Running::start("http_hello", &[]);
        server.await_line("http://10.9.0.2:8080/");
        let answer = ask(8080, b"GET / HTTP/1.1\r\n\r\nGET /again HTTP/1.1\r\n\r\n");
        assert_eq!(answer.matches("Hello, 10.9.0.1:").count(), 2, "{answer}");
        drop(server);

        let server = Running::start("netstat", &[]);
        server.await_line("LISTEN");
        let mut client = TcpStream::connect("10.9.0.2:5008").expect("the example listens");
        server.await_line("ESTABLISHED");
        client.write_all(b"nothing of interest").expect("room");
        client.shutdown(Shutdown::Write).expect("open");
        server.await_line("is going: Ok(19)");
        drop(server);

        let server = Running::start("custom_device", &[]);
        assert!(retry(|| ask_quietly(5009)).starts_with("Welcome, 10.9.0.1:"));
        server.await_line("< SYN 0 bytes");
    });
}

#[test]
fn echo_client_is_served_by_the_kernel() {
    on_a_veth("echo_client_is_served_by_the_kernel", || {
        let listener = TcpListener::bind("10.9.0.1:4007").expect("a free port");
        let mut client = Running::start("echo_client", &["--port", "4007", "10.9.0.1"]);
        let (stream, _) = listener.accept().expect("the client comes");
        std::io::copy(&mut &stream, &mut &stream).expect("an echo");
        client.await_line("FIN came back as FIN");
        assert!(client.child.wait().expect("a child").success());
    });
}

/// As [`ask`], where the example may not listen yet.
fn ask_quietly(port: u16) -> Option<String> {
    let mut answer = String::new();
    TcpStream::connect(("10.9.0.2", port)).ok()?.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn retry<T>(attempt: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(start.elapsed() < PATIENCE, "nobody answers");
        std::thread::sleep(Duration::from_millis(5));
    }
}
