//! `synfin`: what a stack's sockets do, from another terminal; and a shell on a network whose other host is a stack.
//!
//! | module | what it owns |
//! |---|---|
//! | `args` | the command line |
//! | `netstat` | the table |
//! | `lab` | the network, its two sides, and the command that runs there |
//! | `services` | what the stack of the lab serves |

mod args;
mod lab;
mod netstat;
mod services;

use args::Command;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse(lexopt::Parser::from_env()) {
        Ok(Command::Help) => match std::io::stdout().write_all(args::HELP.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Ok(Command::Netstat(columns)) => netstat::show(columns),
        Ok(Command::Lab(lab)) => lab::run(lab),
        Err(error) => {
            eprintln!("synfin: {error}");
            ExitCode::from(USAGE)
        }
    }
}

/// Status of a command line that makes no sense.
const USAGE: u8 = 2;
