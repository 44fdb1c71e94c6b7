//! A network of its own: the kernel at one end of a veth pair, with a shell or a command; a stack at the other, which serves.

use crate::args::Lab;
use crate::services;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::mpsc;
use synfin::device::namespace::{self, Veth};
use synfin::{Runtime, Stack};

/// Runs a command, or a shell, in the lab; the status is its own.
pub(crate) fn run(lab: Lab) -> ExitCode {
    if namespace::is_inside() {
        return inside(lab).unwrap_or_else(|error| {
            eprintln!("synfin: lab: {error}");
            ExitCode::from(NO_LAB)
        });
    }
    let capture = lab.capture.into_iter().flat_map(|file| ["--capture".into(), file]);
    let arguments = std::iter::once("lab".into()).chain(capture).chain(["--".into()]).chain(lab.command);
    match namespace::run_inside(arguments.collect::<Vec<OsString>>()) {
        Ok(status) => code(status),
        Err(forbidden) => {
            eprintln!("synfin: the lab needs a network namespace, which this system does not give:");
            eprintln!("  why:  {}\n  run:  {}\n  then: cargo lab", forbidden.reason(), forbidden.remedy());
            ExitCode::from(NO_LAB)
        }
    }
}

fn inside(lab: Lab) -> io::Result<ExitCode> {
    let veth = Veth::create(KERNEL_SIDE, OUR_SIDE, 1500)
        .map_err(|error| io::Error::new(error.kind(), format!("no pair of virtual interfaces ({error}); as root: modprobe veth")))?;
    veth.address(KERNEL_SIDE, "10.9.0.1/24")?;
    let (ready, is_ready) = mpsc::channel();
    let (end, ended) = futures::channel::oneshot::channel::<()>();
    let server = std::thread::Builder::new().name("synfin-lab".into()).spawn(move || serve(lab.capture, &ready, ended))?;
    is_ready.recv().map_err(io::Error::other)??;
    eprint!("{WELCOME}");
    let code = execute(&lab.command);
    drop(end);
    server.join().map_err(|_| io::Error::other("the stack ended badly"))?;
    Ok(code)
}

/// The stack's side, until the command has ended.
fn serve(capture: Option<OsString>, ready: &mpsc::Sender<io::Result<()>>, ended: futures::channel::oneshot::Receiver<()>) {
    let builder = Runtime::builder().interface(OUR_SIDE).address("10.9.0.2/24").control(true);
    let builder = match capture {
        Some(file) => builder.capture(file),
        None => builder,
    };
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => {
            _ = ready.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let opened = async {
            runtime.stack().ready().await?;
            services::open(runtime.stack()).await
        };
        let opened = opened.await;
        let is_open = opened.is_ok();
        if ready.send(opened).is_ok() && is_open {
            // Either way the sender is gone: the command has ended.
            _ = ended.await;
            say_what_passed(runtime.stack());
        }
    });
}

fn say_what_passed(stack: &Stack) {
    let Ok(stats) = stack.stats() else { return };
    let (engine, drops) = (stats.engine, stats.engine.drops);
    eprintln!(
        "synfin lab: {} segments in and {} out, {} connections accepted and {} opened, {} frames dropped",
        engine.segments_in,
        engine.segments_out,
        engine.passive_opens,
        engine.active_opens,
        drops.total()
    );
    drops.iter().filter(|(_, count)| *count > 0).for_each(|(reason, count)| eprintln!("    {reason}: {count}"));
}

fn execute(words: &[OsString]) -> ExitCode {
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let (program, arguments) = words.split_first().unwrap_or((&shell, &[]));
    // What runs inside may open a lab of its own.
    match Command::new(program).args(arguments).env_remove(namespace::INSIDE).status() {
        Ok(status) => code(status),
        Err(error) => {
            eprintln!("synfin: lab: cannot run {}: {error}", program.display());
            ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN })
        }
    }
}

/// A status as the shell gives it: 128 and the signal, if one has ended the command.
fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

const KERNEL_SIDE: &str = "lab0";
const OUR_SIDE: &str = "lab1";

/// The statuses of env(1): it failed itself; it could not run the command; there is no such command.
const NO_LAB: u8 = 125;
const NOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

const WELCOME: &str = "\
synfin lab: the kernel is 10.9.0.1, synfin is 10.9.0.2; `exit` ends it. Try:
  curl http://10.9.0.2:8080/    HTTP   | ab -k -n 10000 -c 8 http://10.9.0.2:8080/
  nc 10.9.0.2 7                 echo   | nc 10.9.0.2 19 | head    chargen; 9 is discard
  synfin netstat -nap           synfin's sockets, also from another terminal; ss -tan shows the kernel's
";
