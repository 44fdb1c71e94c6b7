//! A network of one's own without root (feature `lab`): this program again, inside a new user and network namespace, with virtual interfaces
//! between the kernel's TCP and ours. What the interop tests, the demo and the lab run in.
//!
//! | module | what it is |
//! |---|---|
//! | [`Veth`] | a pair of virtual interfaces, and what can be done to them |
//! | `netlink` | the rtnetlink messages for it |
//!
//! A second namespace, for a kernel that speaks to the kernel, is [`begin_beside`]. A namespace is entered between fork and exec, so that it is always the whole process that is inside:
//!
//! ```text
//!   outside ── run_inside ──► the same executable, SYNFIN_NETNS=1 ── is_inside ──► root of an empty network, `lo` up
//!      ▲ its exit status ◄──────────────────────────────────────────────────────── ends; the namespace goes with it
//! ```
//!
//! # Example
//!
//! A program that moves itself into a namespace:
//!
//! ```no_run
//! use synfin::device::namespace::{self, Veth};
//!
//! if !namespace::is_inside() {
//!     let arguments = std::env::args_os().skip(1);
//!     let status = namespace::run_inside(arguments).unwrap_or_else(|forbidden| panic!("{forbidden}"));
//!     std::process::exit(status.code().unwrap_or(1));
//! }
//! // The kernel has 10.9.0.1 on syn0; a stack may take 10.9.0.2 on syn1.
//! let veth = Veth::create("syn0", "syn1", 1500)?;
//! veth.address("syn0", "10.9.0.1/24")?;
//! # std::io::Result::Ok(())
//! ```

mod netlink;
mod veth;

pub use veth::{Switch, Veth};

use super::sys;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, ExitStatus, Stdio};
use std::{env, fs};

/// The variable that tells a process that it is inside.
pub const INSIDE: &str = "SYNFIN_NETNS";

/// The variable that makes a test fail where the system forbids namespaces, instead of being ignored.
pub const REQUIRED: &str = "SYNFIN_REQUIRE_NETNS";

/// True in a process that [`run_inside`] or [`test()`] has started.
#[must_use]
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this executable with `arguments` inside new namespaces, and waits for its end. The process inside dies with this one.
///
/// # Errors
/// [`Forbidden`] where the system allows no such namespaces.
pub fn run_inside(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<ExitStatus, Forbidden> {
    let mut child = command(arguments).and_then(|mut command| command.spawn()).map_err(Forbidden::new)?;
    child.wait().map_err(Forbidden::new)
}

/// Runs the body of a libtest test inside new namespaces of its own, so that tests run side by side, each with its network.
///
/// `name` is the test's full path as `cargo test -- --list` shows it. The test process runs itself again with that test alone; there `body`
/// runs. Where the system forbids namespaces the test says why on standard error and is ignored, or fails if [`REQUIRED`] is set.
///
/// # Panics
/// When the test inside fails, did not run (a wrong `name`), or namespaces are required and forbidden.
///
/// # Example
/// ```ignore
/// use synfin::device::namespace;
///
/// #[test]
/// fn loopback_is_alone() {
///     namespace::test("loopback_is_alone", || assert_eq!(synfin::device::host::interface_names().unwrap(), ["lo"]));
/// }
/// ```
pub fn test(name: &str, body: impl FnOnce()) {
    if is_inside() {
        return body();
    }
    let output = command([name, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .and_then(|mut command| command.stdin(Stdio::null()).output())
        .map_err(Forbidden::new);
    match output {
        Ok(output) => {
            let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            print!("{stdout}{stderr}");
            assert!(output.status.success(), "{name} failed inside its namespace: {}", output.status);
            assert!(stdout.contains("1 passed"), "no test is called {name}");
        }
        Err(forbidden) => {
            assert!(env::var_os(REQUIRED).is_none(), "{name}: {forbidden}");
            // Past the test harness, which would swallow it.
            let _ = writeln!(io::stderr(), "test {name} ... ignored: {forbidden}");
        }
    }
}

/// As [`test()`], for a test that needs TUN or TAP interfaces: it is ignored too where `/dev/net/tun` can't be opened, or fails if [`REQUIRED`]
/// is set and root runs it.
///
/// # Panics
/// As [`test()`].
pub fn test_with_tun(name: &str, body: impl FnOnce()) {
    let Err(error) = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") else { return test(name, body) };
    let text = format!("no TUN or TAP interfaces here (/dev/net/tun: {error}); sudo modprobe tun, and run it as root: sudo -E");
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    assert!(!is_root || env::var_os(REQUIRED).is_none(), "{name}: {text}");
    let _ = writeln!(io::stderr(), "test {name} ... ignored: {text}");
}

/// Makes the child of `command` begin in a second network namespace, with a kernel's TCP of its own and nothing but its loopback, in the user
/// namespace of the caller. It dies with the thread that starts it.
///
/// [`Veth::give`] brings an end of a pair there, and [`Veth::adopt`] makes the child use it: so the kernel speaks to itself over the same wire
/// that a stack uses. Starting the child fails with [`PermissionDenied`](io::ErrorKind::PermissionDenied) for a caller that is not
/// [inside](is_inside) and not root.
pub fn begin_beside(command: &mut Command) {
    sys::namespace::enter_network_on_exec(command);
}

fn command(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(arguments).env(INSIDE, "1");
    sys::namespace::enter_on_exec(&mut command);
    Ok(command)
}

/// The system allows no network namespace of one's own: why, and the command that changes it.
#[derive(Debug, thiserror::Error)]
#[error("no network namespace without root here ({source}): {reason}; {remedy}")]
pub struct Forbidden {
    source: io::Error,
    reason: &'static str,
    remedy: &'static str,
}

impl Forbidden {
    fn new(source: io::Error) -> Self {
        let setting = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).ok();
        let (reason, remedy) = diagnose(setting, has_seccomp_filter());
        Self { source, reason, remedy }
    }

    /// What forbids it.
    #[must_use]
    pub const fn reason(&self) -> &str {
        self.reason
    }

    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &str {
        self.remedy
    }
}

/// The likeliest reason and its remedy, from the system's settings.
fn diagnose(setting: impl Fn(&str) -> Option<String>, is_filtered: bool) -> (&'static str, &'static str) {
    let is = |name, value| setting(name).is_some_and(|text| text.trim() == value);
    if is("user/max_user_namespaces", "0") {
        ("the limit of user namespaces is 0", "sudo sysctl user.max_user_namespaces=10000")
    } else if is("user/max_net_namespaces", "0") {
        ("the limit of network namespaces is 0", "sudo sysctl user.max_net_namespaces=10000")
    } else if is("kernel/unprivileged_userns_clone", "0") {
        ("user namespaces are for root only", "sudo sysctl kernel.unprivileged_userns_clone=1")
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        ("AppArmor takes the capabilities in user namespaces away", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0")
    } else if is_filtered {
        ("a seccomp filter, as of a container, forbids it", "docker run --security-opt seccomp=unconfined, or --privileged")
    } else {
        ("no setting explains it", "run it as root: sudo -E")
    }
}

/// True if a filter of system calls is in force (proc(5): mode 2).
fn has_seccomp_filter() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter_map(|line| line.strip_prefix("Seccomp:")).any(|mode| mode.trim() == "2")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::host;

    #[test]
    fn network_inside_is_empty_and_up() {
        test("device::namespace::tests::network_inside_is_empty_and_up", || {
            assert_eq!(host::interface_names().expect("a list"), ["lo"]);
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("the loopback is up");
            let own = socket.local_addr().expect("bound");
            assert_eq!(socket.send_to(b"hello", own).expect("sent"), 5);
        });
    }

    #[test]
    fn failure_inside_is_a_failure() {
        if is_inside() {
            panic!("inside");
        }
        let failed = std::panic::catch_unwind(|| test("device::namespace::tests::failure_inside_is_a_failure", || {}));
        let unknown = std::panic::catch_unwind(|| test("device::namespace::tests::no_such_test", || {}));
        let is_forbidden = command([""; 0]).and_then(|mut command| command.arg("--list").output()).is_err();
        assert!(is_forbidden || failed.is_err() && unknown.is_err());
    }

    #[test]
    fn settings_explain_the_refusal() {
        let of = |name: &'static str, value: &'static str| diagnose(move |asked| (asked == name).then(|| format!("{value}\n")), false).1;
        assert_eq!(of("user/max_user_namespaces", "0"), "sudo sysctl user.max_user_namespaces=10000");
        assert_eq!(of("kernel/unprivileged_userns_clone", "0"), "sudo sysctl kernel.unprivileged_userns_clone=1");
        let apparmor = "kernel/apparmor_restrict_unprivileged_userns";
        assert_eq!(of(apparmor, "1"), "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0");
        assert_eq!(of(apparmor, "0"), "run it as root: sudo -E");
        assert!(diagnose(|_| None, true).0.contains("seccomp"));
    }
}
