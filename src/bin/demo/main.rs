//! `cargo demo`: a TCP connection from SYN to FIN, drawn segment by segment, without root and in under a minute.
//!
//! First two engines on an in-memory wire, in virtual time; then, in a network namespace of its own, the same connection with the Linux
//! kernel's TCP as the peer. What is drawn comes from the frames that went over the wire and from what each side says of itself.
//!
//! | module | what it owns |
//! |---|---|
//! | `args` | the flags |
//! | `stage` | what one run shares: settings, chance, the dump of frames |
//! | `screen` | the terminal: lines, pace, Enter |
//! | `packet`, `track` | a frame decoded; what it means in its conversation |
//! | `host` | an engine, and what it says of a connection |
//! | `ladder` | the drawing |
//! | `world` | two engines and the wire between them |
//! | `scenarios` | what the two hosts do |
//! | `kernel`, `sockets` | the Linux kernel as the peer, and its table of sockets |

mod args;
mod host;
mod kernel;
mod ladder;
mod packet;
mod scenarios;
mod screen;
mod sockets;
mod stage;
mod track;
mod world;

use args::{Command, Part, Settings};
use stage::Stage;
use std::io;
use std::process::ExitCode;
use synfin::device::namespace;

fn main() -> ExitCode {
    let settings = match args::parse(lexopt::Parser::from_env()) {
        Ok(Command::Run(settings)) => settings,
        Ok(Command::Help) => return status_of(screen::print(args::HELP)),
        Err(error) => {
            eprintln!("demo: {error}");
            return ExitCode::from(USAGE);
        }
    };
    status_of(run(settings))
}

/// Status of a command line that makes no sense.
const USAGE: u8 = 2;

fn run(settings: Settings) -> io::Result<()> {
    let part = settings.part;
    let mut stage = Stage::open(settings)?;
    if part != Part::Kernel {
        scenarios::play(&mut stage)?;
    }
    if part != Part::Memory {
        with_kernel(&mut stage)?;
    }
    if part == Part::Both { stage.screen.paragraph(&[SEE_ALSO]) } else { Ok(()) }
}

/// The part with the Linux kernel, in a process of its own unless this is it.
fn with_kernel(stage: &mut Stage) -> io::Result<()> {
    if namespace::is_inside() {
        return kernel::play(stage);
    }
    match namespace::run_inside(stage.arguments_for_kernel()) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(io::Error::other(format!("the part with the Linux kernel ended with {status}"))),
        Err(forbidden) => stage.screen.paragraph(&[
            "The second part, with the Linux kernel's TCP as the peer, needs a network namespace, which this system does not give:",
            &format!("  why:  {}", forbidden.reason()),
            &format!("  run:  {}", forbidden.remedy()),
            "  then: cargo demo --kernel-only",
        ]),
    }
}

const SEE_ALSO: &str =
    "More: cargo demo --step | --loss 20 | --reorder | --syn-flood | --bad-line | --zero-window | --simultaneous-close | --help";

/// A reader who has seen enough (`| head`) is no failure.
fn status_of(result: io::Result<()>) -> ExitCode {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}
