//! Throughput, round trips and connections per second, ours beside the kernel's with the same loops.
//!
//! ```text
//! cargo run --release --example perf -- --role source                                     # both sides in this process
//! cargo run --release --example perf -- --role sink --backend tokio --port 5001           # the kernel's TCP, until it is killed
//! cargo run --release --example perf -- --role source --interface veth0 --address 10.9.0.2/24 --connect 10.9.0.1:5001
//! ```
//!
//! `source` fills a `sink`; `ping` asks an `echo` and times the answers; `connect` opens connections to an `accept`, which closes first. A
//! client works for `--seconds` (10); a server until it is killed, or for `--seconds` from its first byte. Standard output is one line of
//! JSON at the end; errors are counted, and the first is told on standard error. The status is 1 if there were errors.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

mod options;
mod place;
mod roles;
mod signal;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "only the flags: the stack is built here, since standard output belongs to the figures")]
mod support;
mod tally;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use options::Options;
use place::{Backend, Place};
use tally::Tally;

fn main() -> ExitCode {
    let options = match Options::from_env() {
        Ok(options) => Arc::new(options),
        Err(error) => {
            eprintln!("{error}\n\nusage: {} {}", options::USAGE, support::FLAGS);
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(tally) => {
            println!("{}", tally.to_json(&options));
            if tally.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the role on the executor of its backend.
fn measure(options: &Arc<Options>) -> io::Result<Arc<Tally>> {
    let tally = Arc::new(Tally::default());
    let under_tokio = |place| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(roles::run(place, Arc::clone(options), Arc::clone(&tally)));
        // What is left belongs to peers that have not ended; nobody waits for it.
        runtime.shutdown_background();
        result
    };
    match options.backend {
        Backend::Tokio => under_tokio(Place::Kernel(options.congestion.clone()))?,
        Backend::Synfin => under_tokio(Place::Stack(options.stack()?))?,
        Backend::Runtime => {
            let runtime = options.runtime()?;
            let place = Place::Runtime(runtime.stack().clone());
            runtime.block_on(roles::run(place, Arc::clone(options), Arc::clone(&tally)))?;
        }
    }
    Ok(tally)
}
