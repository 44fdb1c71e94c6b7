//! The command line of `synfin`: what it means, what it refuses.

use lexopt::Arg::{Long, Short, Value};
use lexopt::Parser;
use std::ffi::OsString;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Netstat(Shown),
    Lab(Lab),
}

/// What happens in the lab.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lab {
    /// Where synfin's frames are written.
    pub(crate) capture: Option<OsString>,
    /// The command to run; empty is a shell.
    pub(crate) command: Vec<OsString>,
}

/// What of the table is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) sockets: Sockets,
    pub(crate) owner: Owner,
}

/// Which sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sockets {
    #[default]
    Connections,
    All,
}

/// Whether the process is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    #[default]
    Hidden,
    Shown,
}

/// What `--help` prints.
pub(crate) const HELP: &str = "\
synfin netstat [-n] [-a] [-t] [-p]    the sockets of this user's stacks, as netstat(8) shows the kernel's
    -a, --all        listeners too
    -p, --programs   whose they are
    -n, --numeric    numbers instead of names: always so
    -t, --tcp        TCP: always so
  A stack is seen if it was built with .control(true), or if its process has SYNFIN_CONTROL=1 in its environment.
  Status: 0; 1 if no stack is there or one does not answer.

synfin lab [--capture FILE] [--] [COMMAND [ARGUMENT]...]    a shell, or COMMAND, in a network of its own, without root
    --capture FILE   every frame and every change of state, as pcapng for Wireshark
  The kernel has 10.9.0.1; at 10.9.0.2 synfin serves echo (7), discard (9), chargen (19) and HTTP (8080),
  which is a proxy for CONNECT too.
  Status: COMMAND's; 125 if there can be no lab, 126 if COMMAND cannot be run, 127 if there is none.

synfin --help    this text
";

/// Reads the command line.
///
/// # Errors
/// One line that names what is wrong and what is valid.
pub(crate) fn parse(mut parser: Parser) -> Result<Command, String> {
    match parser.next().map_err(|error| format!("{error}; {COMMANDS}"))? {
        Some(Long("help") | Short('h')) => Ok(Command::Help),
        Some(Value(name)) if name == "netstat" => netstat(parser),
        Some(Value(name)) if name == "lab" => lab(parser),
        Some(Value(name)) => Err(format!("there is no command {name:?}; {COMMANDS}")),
        Some(other) => Err(format!("{}; {COMMANDS}", other.unexpected())),
        None => Err(format!("what to do? {COMMANDS}")),
    }
}

fn netstat(mut parser: Parser) -> Result<Command, String> {
    let mut shown = Shown::default();
    while let Some(argument) = parser.next().map_err(|error| format!("netstat: {error}; {FLAGS}"))? {
        match argument {
            Short('a') | Long("all") => shown.sockets = Sockets::All,
            Short('p') | Long("programs" | "program") => shown.owner = Owner::Shown,
            Short('n' | 't') | Long("numeric" | "tcp") => {}
            Short('h') | Long("help") => return Ok(Command::Help),
            other => return Err(format!("netstat: {}; {FLAGS}", other.unexpected())),
        }
    }
    Ok(Command::Netstat(shown))
}

/// What comes after the lab's own flags and a `--` is the command's, its flags included.
fn lab(mut parser: Parser) -> Result<Command, String> {
    let mut words = parser.raw_args().map_err(|error| format!("lab: {error}"))?.peekable();
    let mut lab = Lab::default();
    while let Some(flag) = words.next_if(|word| word.to_str().is_some_and(|word| word.starts_with('-'))) {
        match flag.to_str() {
            Some("--") => break,
            Some("-h" | "--help") => return Ok(Command::Help),
            Some("--capture") => lab.capture = Some(words.next().ok_or_else(|| format!("lab: --capture names no file; {LAB}"))?),
            _ => return Err(format!("lab: there is no flag {}; {LAB}", flag.display())),
        }
    }
    lab.command = words.collect();
    Ok(Command::Lab(lab))
}

const COMMANDS: &str = "valid: synfin netstat [-natp], synfin lab [-- COMMAND...], synfin --help";
const LAB: &str = "valid: lab [--capture FILE] [--] [COMMAND [ARGUMENT]...]";
const FLAGS: &str = "valid flags: -n, -a, -t, -p, --help";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(Parser::from_args(line.split(' ')))
    }

    #[test]
    fn flags_may_be_combined() {
        let all = Command::Netstat(Shown { sockets: Sockets::All, owner: Owner::Shown });
        assert_eq!(parsed("netstat -nap"), Ok(all));
        assert_eq!(parsed("netstat -n -t"), Ok(Command::Netstat(Shown::default())));
        assert!(parsed("netstat -nx").is_err_and(|error| error.contains("-x") && error.contains(FLAGS)));
    }

    #[test]
    fn the_command_keeps_its_flags() {
        let command = |words: &[&str]| Ok(Command::Lab(Lab { capture: None, command: words.iter().map(OsString::from).collect() }));
        assert_eq!(parsed("lab -- curl -s http://10.9.0.2:8080/"), command(&["curl", "-s", "http://10.9.0.2:8080/"]));
        assert_eq!(parsed("lab curl -- -s"), command(&["curl", "--", "-s"]));
        assert_eq!(parsed("lab"), command(&[]));
        let captured = Lab { capture: Some("-x".into()), command: vec!["ls".into()] };
        assert_eq!(parsed("lab --capture -x -- ls"), Ok(Command::Lab(captured)));
        assert!(parsed("lab --capture").is_err_and(|error| error.contains("--capture")));
        assert!(parsed("lab --fast").is_err_and(|error| error.contains("--fast")));
    }
}
