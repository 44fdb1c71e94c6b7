//! Every figure of docs/performance.md in one go: ours and the kernel's TCP over the same veth pair, in turns, each through the `perf` example.
//!
//! ```text
//! cargo build --release --examples && cargo run --release --example figures -- measure > docs/performance/veth.json
//! cargo run --release --example figures -- render                      # docs/performance.md from it
//! ```
//!
//! ```text
//!   namespace A: the kernel's TCP on syn0 (10.9.0.1)  ◄── a pair, made anew for each run ──►  syn1 (10.9.0.2): ours, in A too;
//!                                                                                             or the kernel's, in namespace B
//! ```
//!
//! Needs no root where the system gives out namespaces. It must not know: how bytes are moved and counted, which is `perf`'s.

#![expect(clippy::disallowed_methods, reason = "a server is given a moment to start")]

mod grid;
mod render;
mod rival;

use std::error::Error;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs};

use synfin::device::namespace::{self, Veth};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["measure"] if namespace::is_inside() => {
            println!("{:#}", grid::measure()?);
            Ok(ExitCode::SUCCESS)
        }
        ["measure"] => {
            let status = namespace::run_inside(&arguments)?;
            Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        ["render"] => {
            fs::write(render::PAGE, render::page(&fs::read_to_string(render::FIGURES)?)?)?;
            Ok(ExitCode::SUCCESS)
        }
        ["beside", program, ref flags @ ..] => Err(become_kernel(Path::new(program), flags)?.into()),
        ["smoltcp", ref flags @ ..] => {
            println!("{}", rival::source(flags)?);
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprintln!("usage: figures measure > {} | figures render", render::FIGURES);
            Ok(ExitCode::from(2))
        }
    }
}

/// In namespace B: takes the end of the pair over, and becomes `perf`. Answers only why it could not.
fn become_kernel(program: &Path, flags: &[&str]) -> io::Result<io::Error> {
    // A byte says that the interface is there.
    io::stdin().read_exact(&mut [0])?;
    let veth = Veth::adopt("syn1")?;
    veth.address("syn1", grid::OURS_CIDR)?;
    Ok(Command::new(program).args(flags).exec())
}
