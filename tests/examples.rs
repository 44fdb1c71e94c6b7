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
fn a_start_that_fails_says_why_as_text() {
    for name in ["custom_device", "echo_client", "echo_server", "half_close", "http_hello", "netstat"] {
        let output = run(name, &["--interface", "missing0", "--address", "10.9.0.2/24"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
        assert!(!text.trim().is_empty() && !text.contains("Error") && !text.contains("Os {"), "{name}: {text}");
    }
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

/// The number that `perf` gives for `name`; none for null.
#[track_caller]
fn figure(line: &str, name: &str) -> Option<f64> {
    let (_, rest) = line.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("no {name} in {line}"));
    let value = rest.split([',', '}']).next().expect("a value");
    (value != "null").then(|| value.parse().unwrap_or_else(|error| panic!("{name}: {value}: {error}")))
}

/// Looks at what `perf` says at its end: one line, bytes, no errors.
#[track_caller]
fn check_figures(role: &str, backend: &str, output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{role} {backend}: {output:?}");
    assert!(text.starts_with(&format!(r#"{{"role":"{role}","backend":"{backend}","bytes":"#)) && text.ends_with("}\n"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(figure(&text, "errors"), Some(0.0), "{text}");
    for name in ["bytes", "seconds", "gbit_s"] {
        assert!(figure(&text, name) > Some(0.0), "{name}: {text}");
    }
    assert!(figure(&text, "cpu_s_per_gb").is_some(), "{text}");
    for (names, roles) in
        [(&["ops", "ops_s"][..], &["ping", "accept", "connect"][..]), (&["p50_us", "p99_us", "p999_us"], &["ping", "connect"])]
    {
        for name in names {
            assert_eq!(figure(&text, name).is_some_and(|value| value > 0.0), roles.contains(&role), "{name}: {text}");
        }
    }
}

#[test]
fn perf_plays_each_role_on_its_loopback() {
    for backend in ["synfin", "runtime", "tokio"] {
        for role in ["source", "ping", "connect", "sink", "echo", "accept"] {
            // The kernel's loopback is open to others: a server there waits for them.
            if backend != "tokio" || ["source", "ping", "connect"].contains(&role) {
                let flags = ["--role", role, "--backend", backend, "--seconds", "0.2", "--streams", "2", "--inflight", "3", "--check"];
                check_figures(role, backend, &run("perf", &flags));
            }
        }
    }
    let large = ["--role", "ping", "--backend", "runtime", "--seconds", "0.2", "--size", "9000000", "--check"];
    check_figures("ping", "runtime", &run("perf", &large));
}

#[test]
fn perf_speaks_between_processes() {
    for (server, client) in PERF_PAIRS {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let child = perf_server(&["--role", server, "--backend", "tokio", "--port", &port.to_string(), "--check"]);
        retry(|| kernel_listens(port).then_some(()));
        let remote = format!("127.0.0.1:{port}");
        let flags = ["--role", client, "--backend", "tokio", "--connect", &remote, "--seconds", "0.2", "--check"];
        check_figures(client, "tokio", &run("perf", &flags));
        check_figures(server, "tokio", &terminate(child));
    }
}

#[test]
fn perf_measures_ours_against_the_kernel() {
    on_a_veth("perf_measures_ours_against_the_kernel", || {
        let ours = ["--check", "--interface", "syn1", "--address", "10.9.0.2/24"];
        for backend in ["synfin", "runtime"] {
            for (server, client) in PERF_PAIRS {
                let child = perf_server(&["--role", server, "--backend", "tokio", "--port", "4008", "--check"]);
                retry(|| kernel_listens(4008).then_some(()));
                let role = ["--role", client, "--backend", backend, "--connect", "10.9.0.1:4008", "--seconds", "0.2"];
                check_figures(client, backend, &run("perf", &[&role[..], &ours].concat()));
                check_figures(server, "tokio", &terminate(child));
            }
            for (server, client) in &PERF_PAIRS[..2] {
                let role = ["--role", server, "--backend", backend, "--port", "4009"];
                let child = perf_server(&[&role[..], &ours].concat());
                // To a sink and an echo, a connection without a byte is no error.
                drop(retry(|| TcpStream::connect("10.9.0.2:4009").ok()));
                let flags = ["--role", client, "--backend", "tokio", "--connect", "10.9.0.2:4009", "--seconds", "0.2", "--check"];
                check_figures(client, "tokio", &run("perf", &flags));
                check_figures(server, backend, &terminate(child));
            }
        }
    });
}

/// Who speaks with whom; the last server wants a byte of every connection.
const PERF_PAIRS: [(&str, &str); 3] = [("sink", "source"), ("echo", "ping"), ("accept", "connect")];

fn perf_server(flags: &[&str]) -> Child {
    example("perf").args(flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is built")
}

/// Sends SIGTERM, after which an example says what it has to say.
fn terminate(child: Child) -> Output {
    let killed = Command::new("kill").arg(child.id().to_string()).status().expect("kill(1)");
    assert!(killed.success());
    child.wait_with_output().expect("a child")
}

/// Whether a socket listens on `port`, by the kernel's own list: state 0A.
fn kernel_listens(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    table.contains(&format!(":{port:04X} 00000000:0000 0A"))
}

#[test]
fn perf_explains_wrong_flags_and_counts_errors() {
    for (flags, expected) in [
        (&[][..], "--role is missing"),
        (&["--role", "well"], "--role well"),
        (&["--role", "ping", "--backend", "wire"], "--backend wire"),
        (&["--role", "ping", "--seconds", "0"], "--seconds 0"),
        (&["--role", "ping", "--seconds", "NaN"], "--seconds NaN"),
        (&["--role", "ping", "--size", "0"], "--size 0"),
        (&["--role", "ping", "--streams", "many"], "--streams many"),
        (&["--role", "ping", "--inflight", "-1"], "--inflight"),
        (&["--role", "ping", "--connect", "10.9.0.1"], "--connect 10.9.0.1"),
        (&["--role", "ping", "--port", "65536"], "--port 65536"),
        (&["--role", "sink", "--connect", "10.9.0.1:5001"], "--connect is for"),
        (&["--role", "ping", "--backend", "tokio", "--busy-poll"], "--busy-poll is for"),
        (&["--role", "ping", "--interface", "syn0"], "--interface needs --address"),
        (&["--role", "ping", "--interface", "syn0", "--address", "10.9.0.2/24"], "--interface needs --connect"),
        (&["--role", "ping", "--what"], "--what"),
    ] {
        let output = run("perf", flags);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {output:?}");
        assert!(text.contains(expected) && text.contains("usage: perf --role sink|source"), "{flags:?}: {text}");
    }
    for backend in ["synfin", "runtime"] {
        let output = run("perf", &["--role", "ping", "--backend", backend, "--connect", "192.0.2.1:5001"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(figure(&String::from_utf8_lossy(&output.stdout), "errors"), Some(1.0), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("loopback"), "{output:?}");
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
