//! The table of sockets for another process: a unix socket per stack, opt-in, and the reader that asks all of them.
//!
//! Off unless [`Builder::control`](super::Builder::control) or `SYNFIN_CONTROL=1` switches it on. A connection is answered with one line
//! about the process, then one line per socket, and closed; nothing is read from it. Knows no protocol beyond the rows of `proto::netstat`.
//!
//! ```text
//!   synfin-control ◄── connect ── synfin netstat
//!        │ synfin 1 PID PROGRAM
//!        └ tcp 0 0 10.9.0.2:80 0.0.0.0:* LISTEN …   ──► one Report per stack
//! ```
//!
//! The sockets lie in a folder that only their user can enter, so that the file system says who may ask.

use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::shard::Shard;
use super::sync::{Arc, Weak};

/// What one stack says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The process, as its own namespace numbers it.
    pub pid: u32,
    /// The name of its executable.
    pub program: String,
    /// One line per socket: protocol, receive queue, send queue (bytes, or connections of a listener), local address, foreign address, state,
    /// with white space between.
    pub rows: Vec<String>,
    /// Sockets beyond the 65,536 that are shown.
    pub omitted: usize,
}

/// The folder of the control sockets of this user: `$XDG_RUNTIME_DIR/synfin` where that variable names a folder of the user's, else
/// `/tmp/synfin-UID`. It is made if it is missing. In a user namespace UID is the number outside, so that both sides find the same folder.
///
/// # Errors
/// `PermissionDenied` if it belongs to somebody else, is no folder, or is open to others; `Unsupported` on other systems than Linux; those
/// of making it.
pub fn directory() -> io::Result<PathBuf> {
    let user = effective_user()?;
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let runtime = runtime.filter(|path| fs::metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == user));
    let path = runtime.map_or_else(|| PathBuf::from(format!("/tmp/synfin-{}", number_outside(user))), |path| path.join("synfin"));
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(named("make", &path, &error)),
        Ok(()) | Err(_) => {}
    }
    let found = fs::symlink_metadata(&path).map_err(|error| named("look at", &path, &error))?;
    if found.is_dir() && found.uid() == user && found.mode() & OTHERS == 0 {
        return Ok(path);
    }
    let shown = path.display();
    let message = format!("{shown} must be a folder that only user {user} can enter; as its owner: rm -r {shown}");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

/// Asks every stack of this user whose control socket is on. What a process that has died left behind is removed. A stack that does not
/// answer within two seconds, because its process is stopped for example, or in another format, is an error in its place, with its socket named.
///
/// # Errors
/// Those of [`directory`] and of reading it.
/// ```
/// let stack = synfin::Stack::builder().control(true).start()?;
/// let reports = synfin::runtime::control::reports()?;
/// assert!(reports.iter().flatten().any(|report| report.pid == std::process::id()));
/// # drop(stack);
/// # std::io::Result::Ok(())
/// ```
pub fn reports() -> io::Result<Vec<io::Result<Report>>> {
    let directory = directory()?;
    let entries = fs::read_dir(&directory).map_err(|error| named("read", &directory, &error))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| owner(path).is_some());
    paths.sort_by_key(|path| owner(path));
    let mut reports = Vec::new();
    for path in paths {
        match UnixStream::connect(&path) {
            Ok(stream) => reports.push(ask(stream).map_err(|error| named("ask", &path, &error))),
            Err(error) if is_left_behind(&path, &error) => _ = fs::remove_file(&path),
            // Gone since the folder was read, or bound and not listening yet.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
            Err(error) => reports.push(Err(named("connect to", &path, &error))),
        }
    }
    Ok(reports)
}

/// Answers as long as it lives.
#[derive(Debug)]
pub(super) struct Server {
    listener: Arc<UnixListener>,
    path: PathBuf,
}

/// Starts the thread that answers for a stack, if the builder or the environment wants it.
pub(super) fn serve(shard: &Arc<Shard>, is_wanted: bool) -> io::Result<Option<Server>> {
    if !is_wanted && std::env::var_os(SWITCH).is_none_or(|value| value != "1") {
        return Ok(None);
    }
    let (listener, path) = bind(&directory()?)?;
    let server = Server { listener: Arc::new(listener), path };
    let (listener, shard) = (Arc::clone(&server.listener), Arc::downgrade(shard));
    std::thread::Builder::new().name("synfin-control".into()).spawn(move || run(&listener, &shard))?;
    Ok(Some(server))
}

impl Drop for Server {
    fn drop(&mut self) {
        // The file first: who finds it, finds somebody behind it.
        _ = fs::remove_file(&self.path);
        _ = socket2::SockRef::from(&*self.listener).shutdown(Shutdown::Both);
    }
}

fn bind(directory: &Path) -> io::Result<(UnixListener, PathBuf)> {
    for _ in 0..NAMES_MAX {
        let number = STACKS.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{}-{number}.sock", std::process::id()));
        match UnixListener::bind(&path) {
            Ok(listener) => return Ok((listener, path)),
            // Left behind by a process that had our number, or by one that has it in another namespace.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(named("listen on", &path, &error)),
        }
    }
    let shown = directory.display();
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no name is free in {shown}; without stacks that run: rm -r {shown}")))
}

/// One client after the other, until the server shuts its listener down.
fn run(listener: &UnixListener, shard: &Weak<Shard>) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let Some(shard) = shard.upgrade() else { return };
                // A client that does not read or has gone is not answered to the end.
                _ = answer(stream, &shard);
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return,
            // No descriptor is free, for example.
            Err(_) => std::thread::park_timeout(PAUSE),
        }
        if shard.strong_count() == 0 {
            return;
        }
    }
}

fn answer(mut stream: UnixStream, shard: &Shard) -> io::Result<()> {
    let rows = shard.call(|core, now| core.engine.netstat(now))?;
    let mut text = format!("{GREETING}{} {}\n", std::process::id(), program());
    for row in rows.iter().take(ROWS_MAX) {
        text.push_str(&row.to_string());
        text.push('\n');
    }
    text.push_str(&format!("{END}{}\n", rows.len().saturating_sub(ROWS_MAX)));
    let deadline = shard.now() + ANSWER_TIME_MAX;
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let left = deadline - shard.now();
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        let chunk = rest.get(..CHUNK_LEN_MAX).unwrap_or(rest);
        rest = rest.get(stream.write(chunk)?..).unwrap_or_default();
    }
    Ok(())
}

/// The name of the executable as one printable word.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.chars().map(|c| if c.is_control() || c.is_whitespace() { '_' } else { c }).collect()
}

fn ask(stream: UnixStream) -> io::Result<Report> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.take(REPORT_LEN_MAX).read_to_string(&mut text)?;
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is cut off, or of another version of synfin"))
}

fn parse(text: &str) -> Option<Report> {
    let (head, rest) = text.strip_prefix(GREETING)?.split_once('\n')?;
    let (pid, program) = head.split_once(' ')?;
    let mut rows: Vec<String> = rest.strip_suffix('\n')?.lines().map(str::to_owned).collect();
    let omitted = rows.pop()?.strip_prefix(END)?.parse().ok()?;
    Some(Report { pid: pid.parse().ok()?, program: program.to_owned(), rows, omitted })
}

/// The process and the number of the stack in a socket's name.
fn owner(path: &Path) -> Option<(u32, u32)> {
    let (pid, number) = path.file_name()?.to_str()?.strip_suffix(".sock")?.split_once('-')?;
    Some((pid.parse().ok()?, number.parse().ok()?))
}

/// True if nobody listens and the process is gone.
fn is_left_behind(path: &Path, error: &io::Error) -> bool {
    let is_gone = |(pid, _)| !Path::new(&format!("/proc/{pid}")).exists();
    error.kind() == io::ErrorKind::ConnectionRefused && owner(path).is_some_and(is_gone)
}

/// A user's number in the namespace around this one (user_namespaces(7)).
fn number_outside(user: u32) -> u32 {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().find_map(|line| mapped(user, line)).unwrap_or(user)
}

/// A line of the map: the first number inside, the first outside, how many.
fn mapped(user: u32, line: &str) -> Option<u32> {
    let mut fields = line.split_whitespace().map_while(|field| field.parse::<u32>().ok());
    let (inside, outside, count) = (fields.next()?, fields.next()?, fields.next()?);
    let offset = user.checked_sub(inside).filter(|offset| *offset < count)?;
    outside.checked_add(offset)
}

fn named(act: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {act} {}: {error}", path.display()))
}

#[cfg(target_os = "linux")]
#[expect(clippy::unnecessary_wraps, reason = "other systems have no answer")]
fn effective_user() -> io::Result<u32> {
    Ok(crate::device::host::effective_user())
}

#[cfg(not(target_os = "linux"))]
fn effective_user() -> io::Result<u32> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "the control socket is for Linux only"))
}

/// The stacks of this process that have had a control socket.
static STACKS: AtomicU32 = AtomicU32::new(0);

/// The environment's switch.
const SWITCH: &str = "SYNFIN_CONTROL";

/// How an answer begins: the name, and the version of the format.
const GREETING: &str = "synfin 1 ";

/// How its last line begins; a number follows.
const END: &str = "omitted ";

/// Permissions of a file's group and of everybody else.
const OTHERS: u32 = 0o077;

/// How many names are tried for a socket.
const NAMES_MAX: usize = 64;

/// How many rows an answer has.
const ROWS_MAX: usize = 65_536;

/// How much one write takes, in bytes: the timeout of a socket counts anew for each buffer of the kernel's, and this is less than one.
const CHUNK_LEN_MAX: usize = 16 << 10;

/// How long a client may take to read its answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// How long a stack may take for each part of its answer: longer than another client can keep it.
const PATIENCE: Duration = Duration::from_secs(2);

/// More than the longest answer, in bytes: its rows have less than 160.
const REPORT_LEN_MAX: u64 = 16 << 20;

/// How long nobody is accepted after a failure.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stack;

    #[test]
    fn a_stack_is_seen_while_it_lives() {
        let stack = Stack::builder().control(true).start().expect("a stack");
        let listener = futures::executor::block_on(stack.listen("127.0.0.1:80")).expect("a listener");
        let mine = || reports().expect("the folder is ours").into_iter().flatten().filter(|report| report.pid == std::process::id());
        let has_row = |report: &Report| report.rows.iter().any(|row| row.contains("127.0.0.1:80 ") && row.ends_with(" LISTEN"));
        assert!(mine().any(|report| has_row(&report)), "{:?}", mine().collect::<Vec<_>>());
        let server = stack.anchor._control.as_ref().expect("it was asked for");
        let path = server.path.clone();
        drop((listener, stack));
        assert!(!path.exists());
    }

    #[test]
    fn without_the_switch_nothing_listens() {
        let stack = Stack::builder().start().expect("a stack");
        assert_eq!(stack.anchor._control.is_some(), std::env::var_os(SWITCH).is_some_and(|value| value == "1"));
    }

    #[test]
    fn a_client_that_does_not_read_keeps_nobody_for_long() {
        let stack = Stack::builder().control(true).start().expect("a stack");
        let path = stack.anchor._control.as_ref().expect("it was asked for").path.clone();
        let _silent = UnixStream::connect(&path).expect("it listens");
        let report = ask(UnixStream::connect(&path).expect("it listens")).expect("an answer");
        assert_eq!((report.pid, report.omitted), (std::process::id(), 0));
    }

    #[test]
    fn what_the_dead_left_behind_is_removed() {
        let directory = directory().expect("ours");
        // Beyond any process's number.
        let path = directory.join("4294967295-0.sock");
        _ = fs::remove_file(&path);
        drop(UnixListener::bind(&path).expect("free"));
        reports().expect("the folder is ours");
        assert!(!path.exists());
    }

    #[test]
    fn answers_that_are_cut_off_are_none() {
        let whole = "synfin 1 7 curl\ntcp 0 0 10.9.0.2:80 0.0.0.0:* LISTEN\nomitted 0\n";
        assert_eq!(parse(whole).map(|report| (report.pid, report.rows.len())), Some((7, 1)));
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), None, "{len}");
        }
    }

    #[test]
    fn a_user_has_another_number_outside() {
        assert_eq!(mapped(0, "         0       1000          1"), Some(1000));
        assert_eq!(mapped(5, "0 0 4294967295"), Some(5));
        assert_eq!(mapped(1, "0 1000 1"), None);
    }
}
