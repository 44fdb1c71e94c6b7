//! The table of all stacks of this user, in the columns of netstat(8).

use crate::args::{Owner, Shown, Sockets};
use std::io::{self, Write};
use std::process::ExitCode;
use synfin::runtime::control::{self, Report};

/// Prints the table.
pub(crate) fn show(shown: Shown) -> ExitCode {
    let answers = match control::reports() {
        Ok(answers) => answers,
        Err(error) => {
            eprintln!("synfin: {error}");
            return ExitCode::FAILURE;
        }
    };
    if answers.is_empty() {
        let folder = control::directory().map(|path| path.display().to_string()).unwrap_or_default();
        eprintln!(
            "synfin: no stack of this user listens in {folder}; switch it on with Stack::builder().control(true), or start the program \
             with SYNFIN_CONTROL=1 in its environment"
        );
        return ExitCode::FAILURE;
    }
    let (reports, errors): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    // A reader who has seen enough (`| head`) is no failure.
    let printed = print(&reports.into_iter().flatten().collect::<Vec<_>>(), shown).or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    });
    let errors: Vec<_> = errors.into_iter().filter_map(Result::err).chain(printed.err()).collect();
    errors.iter().for_each(|error| eprintln!("synfin: {error}"));
    if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(reports: &[Report], shown: Shown) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let which = if shown.sockets == Sockets::All { "servers and established" } else { "w/o servers" };
    writeln!(out, "Active Internet connections ({which})")?;
    let header = ["Proto", "Recv-Q", "Send-Q", "Local Address", "Foreign Address", "State"];
    writeln!(out, "{}", line(header, shown, "PID/Program name"))?;
    for report in reports {
        let owner = format!("{}/{}", report.pid, report.program);
        let rows = report.rows.iter().filter_map(|row| fields(row));
        for row in rows.filter(|row| shown.sockets == Sockets::All || row[5] != "LISTEN") {
            writeln!(out, "{}", line(row, shown, &owner))?;
        }
        if report.omitted > 0 {
            writeln!(out, "({} sockets of {owner} are not shown)", report.omitted)?;
        }
    }
    out.flush()
}

fn fields(row: &str) -> Option<[&str; 6]> {
    row.split_whitespace().collect::<Vec<_>>().try_into().ok()
}

/// The widths of net-tools.
fn line([protocol, receive, send, local, foreign, state]: [&str; 6], shown: Shown, owner: &str) -> String {
    let line = format!("{protocol:<5} {receive:>6} {send:>6} {local:<23} {foreign:<23}");
    match shown.owner {
        Owner::Shown => format!("{line} {state:<11} {owner}"),
        Owner::Hidden => format!("{line} {state}"),
    }
}
