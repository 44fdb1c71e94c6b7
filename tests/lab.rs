//! `synfin lab` and `synfin netstat` held to what they promise: the kernel's clients talk to the stack, the kernel itself serves nothing
//! there, another process sees the table, and wrong flags are named.

use std::process::{Command, Output, Stdio};
use synfin::device::namespace;

fn synfin(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_synfin")).args(arguments).stdin(Stdio::null()).output().expect("it can be started")
}

/// The clients, and the Debian packages that have them.
const CLIENTS: [(&str, &str); 6] =
    [("curl", "curl"), ("socat", "socat"), ("wrk", "wrk"), ("ab", "apache2-utils"), ("openssl", "openssl"), ("ss", "iproute2")];

fn is_installed(command: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(command).is_file())
}

/// What a script of bash prints in the lab; none where namespaces are forbidden and not required.
#[track_caller]
fn in_lab(script: &str) -> Option<String> {
    let output = synfin(&["lab", "--", "bash", "-ec", script]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(125) && complaint.contains("  why:  ") {
        assert!(complaint.contains("  run:  ") && complaint.contains("  then: cargo lab"), "{complaint}");
        assert!(std::env::var_os(namespace::REQUIRED).is_none(), "{complaint}");
        eprintln!("ignored: {complaint}");
        return None;
    }
    assert!(output.status.success(), "{output:?}");
    assert!(complaint.contains("curl http://10.9.0.2:8080/"), "{complaint}");
    let counted =
        complaint.lines().find_map(|line| line.strip_prefix("synfin lab: ")?.split_once(" segments in and ")?.0.parse::<u64>().ok());
    assert_eq!(counted > Some(0), script.contains("10.9.0.2"), "{complaint}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn the_stack_greets_over_http_and_the_kernel_does_not() {
    let script = r"
        exec 3<>/dev/tcp/10.9.0.2/8080
        printf 'GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&3
        timeout 20 cat <&3
        echo; cat /proc/net/fib_trie; echo -- listeners; awk '$4 == \x220A\x22' /proc/net/tcp /proc/net/tcp6";
    let Some(text) = in_lab(&script.replace(r"\x22", "\"")) else { return };
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
    assert_eq!(text.matches("Hello, 10.9.0.1:").count(), 2, "{text}");
    assert!(text.contains("Connection: keep-alive") && text.contains("Connection: close"), "{text}");
    assert!(text.contains("|-- 10.9.0.1\n") && !text.contains("|-- 10.9.0.2\n"), "the kernel owns the stack's address:\n{text}");
    let (_, listeners) = text.split_once("-- listeners\n").expect("the mark");
    assert_eq!(listeners, "", "the kernel listens");
}

#[test]
fn what_is_echoed_is_what_was_said_and_characters_come() {
    let script = "
        exec 3<>/dev/tcp/10.9.0.2/7; echo 'from SYN to FIN' >&3; timeout 20 head -n 1 <&3
        exec 4<>/dev/tcp/10.9.0.2/19; timeout 20 head -c 74 <&4
        exec 5<>/dev/tcp/10.9.0.2/9; echo 'into the void' >&5";
    let Some(text) = in_lab(script) else { return };
    assert!(text.starts_with("from SYN to FIN\n !\"#$%&'"), "{text}");
}

#[test]
fn real_clients_are_served_by_the_stack() {
    let missing: Vec<&str> = CLIENTS.iter().filter(|(command, _)| !is_installed(command)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        let text = format!("ignored: the clients are missing; as root: apt-get install {}", missing.join(" "));
        assert!(std::env::var_os("SYNFIN_REQUIRE_TOOLS").is_none(), "{text}");
        return eprintln!("{text}");
    }
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder of ours");
    let script = format!("cd {}\n{}", folder.display(), include_str!("lab/clients.sh"));
    let passed = in_lab(&script);
    std::fs::remove_dir_all(&folder).expect("ours");
    let Some(text) = passed else { return };
    for expected in [
        "curl: Hello, 10.9.0.1:",
        "curl POST: 405",
        "socat: 1048576 bytes came back, the same",
        "ab: Complete requests: 500",
        "ab: Failed requests: 0",
        "ab -k: Complete requests: 2000",
        "ab -k: Failed requests: 0",
        "ab -k: Keep-Alive requests: 2000",
        "openssl: HTTP/1.0 200 ok",
        "ss: 0 listeners",
        "ip: 0 interfaces",
    ] {
        assert!(text.lines().any(|line| line.starts_with(expected)), "{expected}:\n{text}");
    }
    let requests = text.lines().find_map(|line| line.strip_prefix("wrk: ")?.split_once(" requests in")?.0.trim().parse::<u64>().ok());
    assert!(requests > Some(0) && !text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
}

#[test]
fn another_process_sees_the_table() {
    let script =
        format!("exec 3<>/dev/tcp/10.9.0.2/7; echo x >&3; head -n 1 <&3; {0} netstat -nap; {0} netstat -n", env!("CARGO_BIN_EXE_synfin"));
    let Some(text) = in_lab(&script) else { return };
    let (all, connections) = text.split_at(text.rfind("Active Internet connections").expect("two tables"));
    assert!(all.contains("PID/Program name") && !connections.contains("PID/Program name"), "{text}");
    for port in [7, 9, 19, 8080] {
        let is_listener = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() == 7 && words[3] == format!("10.9.0.2:{port}") && words[5] == "LISTEN" && words[6].ends_with("/synfin")
        };
        assert!(all.lines().any(is_listener), "{port}:\n{text}");
    }
    assert!(!connections.contains("LISTEN") && connections.contains("10.9.0.2:7 ") && connections.contains(" ESTABLISHED"), "{text}");
}

#[test]
fn the_status_is_the_commands() {
    if in_lab("true").is_none() {
        return;
    }
    assert_eq!(synfin(&["lab", "--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(synfin(&["lab", "--", "sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    let missing = synfin(&["lab", "--", "/no/such/command"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such/command"), "{missing:?}");
}

#[test]
fn without_a_stack_the_switch_is_named() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("run-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder of ours");
    let output = Command::new(env!("CARGO_BIN_EXE_synfin")).args(["netstat", "-nap"]).env("XDG_RUNTIME_DIR", &folder).output();
    std::fs::remove_dir_all(&folder).expect("ours");
    let output = output.expect("it can be started");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("SYNFIN_CONTROL=1"), "{output:?}");
}

#[test]
fn a_folder_that_is_open_to_others_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("open-{}", std::process::id()));
    let inner = folder.join("synfin");
    std::fs::create_dir_all(&inner).expect("a folder of ours");
    std::fs::set_permissions(&inner, PermissionsExt::from_mode(0o755)).expect("ours");
    let output = Command::new(env!("CARGO_BIN_EXE_synfin")).args(["netstat", "-nap"]).env("XDG_RUNTIME_DIR", &folder).output();
    std::fs::remove_dir_all(&folder).expect("ours");
    let output = output.expect("it can be started");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && text.contains(&format!("rm -r {}", inner.display())), "{output:?}");
}

#[test]
fn the_lab_captures_what_passes() {
    if in_lab("true").is_none() {
        return;
    }
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lab-{}.pcapng", std::process::id()));
    let name = file.to_str().expect("text");
    let output = synfin(&["lab", "--capture", name, "--", "bash", "-ec", "exec 3<>/dev/tcp/10.9.0.2/7; echo heard >&3; head -n 1 <&3"]);
    let bytes = std::fs::read(&file);
    _ = std::fs::remove_file(&file);
    assert_eq!(output.stdout, b"heard\n", "{output:?}");
    let bytes = bytes.expect("a capture");
    let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(has(b"heard\n") && has(b"SYN-RECEIVED -> ESTABLISHED"), "{} bytes", bytes.len());
}

#[test]
fn wrong_flags_are_named() {
    for (arguments, named) in [
        (&["netstat", "-nx"][..], "-x"),
        (&["netstat", "--lots"], "--lots"),
        (&["lab", "--fast"], "--fast"),
        (&["serve"], "serve"),
        (&[], "what"),
    ] {
        let output = synfin(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && text.lines().count() == 1 && text.contains(named) && text.contains("valid"), "{text}");
    }
}
