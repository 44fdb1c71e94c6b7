//! The terminal: lines at a pace that the eye can follow, or one segment for each Enter.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

/// How lines come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as they are written.
    AtOnce,
    /// A moment after each segment.
    Live,
    /// Kept until [`Screen::replay`]: for peers whose clock does not wait for a reader.
    Recorded,
    /// Enter after each segment.
    Step,
}

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Screen {
    pace: Pace,
    recorded: Vec<Entry>,
}

#[derive(Debug)]
enum Entry {
    Line(String),
    Segment(String, &'static str),
}

impl Screen {
    pub(crate) const fn new(pace: Pace) -> Self {
        Self { pace, recorded: Vec::new() }
    }

    /// A line that waits for nobody.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        if self.pace == Pace::Recorded {
            self.recorded.push(Entry::Line(text.to_owned()));
            return Ok(());
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{}", text.trim_end())?;
        out.flush()
    }

    /// An empty line and a headline: what comes next, and why it is so.
    pub(crate) fn headline(&mut self, text: &str) -> io::Result<()> {
        self.line("")?;
        if self.pace != Pace::Recorded && is_colourful() { self.line(&format!("\x1b[1m{text}\x1b[0m")) } else { self.line(text) }
    }

    /// An empty line and then lines of text.
    pub(crate) fn paragraph(&mut self, lines: &[&str]) -> io::Result<()> {
        self.line("")?;
        lines.iter().try_for_each(|line| self.line(line))
    }

    /// A segment, and the sentence on why it was sent.
    pub(crate) fn segment(&mut self, text: &str, why: &'static str) -> io::Result<()> {
        match self.pace {
            Pace::Recorded => {
                self.recorded.push(Entry::Segment(text.to_owned(), why));
                Ok(())
            }
            Pace::AtOnce => self.line(text),
            Pace::Live => {
                self.line(text)?;
                pause();
                Ok(())
            }
            Pace::Step => {
                self.line(text)?;
                print(&format!("        why: {why}  [Enter] "))?;
                self.enter()
            }
        }
    }

    /// If each segment waits for Enter, lines are kept from now on: a peer in real time does not wait.
    pub(crate) fn record_while_stepping(&mut self) {
        if self.pace == Pace::Step {
            self.pace = Pace::Recorded;
        }
    }

    /// Shows what was kept, step by step.
    pub(crate) fn replay(&mut self) -> io::Result<()> {
        if self.pace != Pace::Recorded {
            return Ok(());
        }
        self.pace = Pace::Step;
        for entry in std::mem::take(&mut self.recorded) {
            match entry {
                Entry::Line(text) => self.line(&text)?,
                Entry::Segment(text, why) => self.segment(&text, why)?,
            }
        }
        Ok(())
    }

    /// Waits for Enter; the end of input lets everything pass.
    fn enter(&mut self) -> io::Result<()> {
        let mut answer = String::new();
        if io::stdin().lock().read_line(&mut answer)? == 0 {
            self.pace = Pace::AtOnce;
        }
        if !io::stdin().is_terminal() {
            // A terminal echoes Enter; a pipe does not.
            println_quietly()?;
        }
        Ok(())
    }
}

/// Writes text as it is.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn println_quietly() -> io::Result<()> {
    print("\n")
}

fn is_colourful() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

#[expect(clippy::disallowed_methods, reason = "the eye follows a drawing that grows; nothing waits for this")]
fn pause() {
    std::thread::sleep(Duration::from_millis(40));
}
