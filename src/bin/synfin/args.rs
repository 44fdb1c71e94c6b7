//! The command line of `synfin`: what it means, what it refuses.

use lexopt::Arg::{Long, Short, Value};
use lexopt::Parser;
use std::ffi::OsString;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Netstat(Shown),
    /// The command to run in the lab; empty is a shell.
    Lab(Vec<OsString>),
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

synfin lab [--] [COMMAND [ARGUMENT]...]    a shell, or COMMAND, in a network of its own, without root
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

/// Everything after `lab`, but for a first `--`, is the command's, its flags included.
fn lab(mut parser: Parser) -> Result<Command, String> {
    let mut words: Vec<OsString> = parser.raw_args().map_err(|error| format!("lab: {error}"))?.collect();
    match words.first().and_then(|word| word.to_str()) {
        Some("--") => _ = words.remove(0),
        Some("-h" | "--help") => return Ok(Command::Help),
        Some(flag) if flag.starts_with('-') => {
            return Err(format!("lab: there is no flag {flag}; valid: lab [--] [COMMAND [ARGUMENT]...]"));
        }
        _ => {}
    }
    Ok(Command::Lab(words))
}

const COMMANDS: &str = "valid: synfin netstat [-natp], synfin lab [-- COMMAND...], synfin --help";
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
        let command = |words: &[&str]| Ok(Command::Lab(words.iter().map(OsString::from).collect()));
        assert_eq!(parsed("lab -- curl -s http://10.9.0.2:8080/"), command(&["curl", "-s", "http://10.9.0.2:8080/"]));
        assert_eq!(parsed("lab curl -- -s"), command(&["curl", "--", "-s"]));
        assert_eq!(parsed("lab"), command(&[]));
        assert!(parsed("lab --fast").is_err_and(|error| error.contains("--fast")));
    }
}
