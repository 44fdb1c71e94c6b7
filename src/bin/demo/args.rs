//! The flags of the demo: what they mean, what they refuse.

use lexopt::Arg::{Long, Short};
use lexopt::{Parser, ValueExt};
use std::path::PathBuf;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Run(Settings),
}

/// What one run is to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Scenarios in the order of the command line; none is the tour.
    pub(crate) scenarios: Vec<Scenario>,
    /// Which peers.
    pub(crate) part: Part,
    /// Frames lost, in percent.
    pub(crate) loss: u8,
    /// Whether frames overtake one another.
    pub(crate) order: Order,
    /// Whether each segment waits for Enter.
    pub(crate) reading: Reading,
    /// The seed of everything random, if given.
    pub(crate) seed: Option<u64>,
    /// Where every frame is written, as text.
    pub(crate) dump: Option<PathBuf>,
}

/// What the two hosts do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    BadLine,
    HalfClose,
    SimultaneousClose,
    SimultaneousOpen,
    SynFlood,
    ThreeSegmentClose,
    ZeroWindow,
}

/// Which of the two parts run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Part {
    #[default]
    Both,
    Kernel,
    Memory,
}

/// Whether the wire keeps the order of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    Kept,
    Shuffled,
}

/// How the ladder is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reading {
    #[default]
    AtOnce,
    Stepwise,
}

/// What `--help` prints.
pub(crate) const HELP: &str = "\
cargo demo: a TCP connection from SYN to FIN, drawn segment by segment

Two synfin hosts on an in-memory wire, in virtual time; then synfin and the Linux kernel's TCP, in a network
namespace of its own, without root. A tour through handshake, echo, half-close, four-way close and TIME-WAIT,
or what these flags ask for.

Scenarios, on the in-memory wire:
  --half-close            one side finishes, the other goes on sending
  --three-segment-close   the passive side's FIN rides on its ACK
  --simultaneous-close    two FINs cross: CLOSING
  --simultaneous-open     two SYNs cross: one connection, no listener
  --syn-flood             half-open connections fill the table, as netstat -nap | grep SYN_RECV shows; what B does
  --bad-line              a peer falls silent: keepalive probes, then the user timeout
  --zero-window           a reader who doesn't read: the window closes, probes ask, it opens

The wire; without a scenario, these show a transfer that must survive it:
  --loss P                lose P percent of the frames, 0 to 50
  --reorder               let frames overtake one another

How:
  --step                  Enter for each segment, with one sentence on why it was sent
  --seed N                the same run again: every random choice follows from N
  --dump FILE             write each frame of the in-memory wire: number, nanoseconds, sender, fate, bytes
  --memory-only           without the Linux kernel
  --kernel-only           only with the Linux kernel
  --help                  this text
";

/// Every flag, as errors list them.
const FLAGS: &str = "--step, --loss P, --reorder, --half-close, --three-segment-close, --simultaneous-close, --simultaneous-open, \
    --syn-flood, --bad-line, --zero-window, --seed N, --dump FILE, --memory-only, --kernel-only, --help";

/// Reads the command line.
///
/// # Errors
/// One line that names the flag and what is valid.
pub(crate) fn parse(mut parser: Parser) -> Result<Command, String> {
    let mut settings = Settings::default();
    let (mut memory_only, mut kernel_only) = (None, None);
    while let Some(argument) = parser.next().map_err(explain)? {
        let scenario = match argument {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("step") => {
                settings.reading = Reading::Stepwise;
                continue;
            }
            Long("loss") => {
                settings.loss =
                    number("--loss", "a percentage from 0 to 50", &mut parser, |percent| u8::try_from(percent).ok().filter(|p| *p <= 50))?;
                continue;
            }
            Long("seed") => {
                settings.seed = Some(number("--seed", "a whole number", &mut parser, Some)?);
                continue;
            }
            Long("reorder") => {
                settings.order = Order::Shuffled;
                continue;
            }
            Long("dump") => {
                settings.dump = Some(parser.value().map_err(explain)?.into());
                continue;
            }
            Long("memory-only") => {
                memory_only = Some(Part::Memory);
                continue;
            }
            Long("kernel-only") => {
                kernel_only = Some(Part::Kernel);
                continue;
            }
            Long("bad-line") => Scenario::BadLine,
            Long("half-close") => Scenario::HalfClose,
            Long("simultaneous-close") => Scenario::SimultaneousClose,
            Long("simultaneous-open") => Scenario::SimultaneousOpen,
            Long("syn-flood") => Scenario::SynFlood,
            Long("three-segment-close") => Scenario::ThreeSegmentClose,
            Long("zero-window") => Scenario::ZeroWindow,
            other => return Err(explain(other.unexpected())),
        };
        settings.scenarios.push(scenario);
    }
    settings.part = part(&settings, memory_only, kernel_only)?;
    Ok(Command::Run(settings))
}

/// Which parts run: what concerns the in-memory wire does not run with the kernel.
fn part(settings: &Settings, memory_only: Option<Part>, kernel_only: Option<Part>) -> Result<Part, String> {
    let wants_wire = !settings.scenarios.is_empty() || settings.loss > 0 || settings.order == Order::Shuffled || settings.dump.is_some();
    match (memory_only, kernel_only) {
        (Some(_), Some(_)) => Err(format!("--kernel-only and --memory-only exclude each other; valid flags: {FLAGS}")),
        (None, Some(_)) if wants_wire => Err(format!(
            "--kernel-only leaves out the in-memory wire, where scenarios, --loss, --reorder and --dump belong; valid flags: {FLAGS}"
        )),
        (_, None) if wants_wire => Ok(Part::Memory),
        (memory, kernel) => Ok(memory.or(kernel).unwrap_or_default()),
    }
}

fn number<T>(flag: &str, wanted: &str, parser: &mut Parser, check: impl Fn(u64) -> Option<T>) -> Result<T, String> {
    let value = parser.value().map_err(|_| format!("{flag} wants {wanted}; valid flags: {FLAGS}"))?;
    let number = value.parse::<u64>().ok().and_then(check);
    number.ok_or_else(|| format!("{flag} wants {wanted}, not {value:?}; valid flags: {FLAGS}"))
}

fn explain(error: lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedOption(flag) => format!("there is no flag {flag}; valid flags: {FLAGS}"),
        lexopt::Error::UnexpectedArgument(argument) => format!("{argument:?} is no flag; valid flags: {FLAGS}"),
        lexopt::Error::UnexpectedValue { option, value } => format!("{option} takes no value such as {value:?}; valid flags: {FLAGS}"),
        other => format!("{other}; valid flags: {FLAGS}"),
    }
}
