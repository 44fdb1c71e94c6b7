//! A script as values: its heading and its lines, macros written out.

use std::time::Duration;

use synfin::proto::Config;

use super::call::{self, Call};
use super::fact::{self, Fact};
use super::host::Family;
use super::icmp::{self, Report};
use super::segment::{self, Words};
use super::{knobs, macros};

/// A whole script.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) families: Vec<Family>,
    /// The ids of the requirements that it proves.
    pub(crate) proves: Vec<String>,
    pub(crate) config: Config,
    pub(crate) lines: Vec<Line>,
}

/// One line that happens.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Where it stands in the file; a macro's lines share one.
    pub(crate) number: usize,
    pub(crate) text: String,
    /// Since the line before.
    pub(crate) after: Duration,
    pub(crate) step: Step,
}

/// What happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// `!`
    Call(Call),
    /// `=`
    Check(Vec<Fact>),
    /// `<`
    Receive(Words),
    /// `< icmp`
    Report(Report),
    /// `>`
    Send(Words),
}

impl Script {
    /// Reads the text of a script.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut script = Self {
            name: name.to_owned(),
            families: Family::ALL.to_vec(),
            proves: Vec::new(),
            config: Config::default(),
            lines: Vec::new(),
        };
        if !text.lines().next().is_some_and(|line| line.starts_with("# ") && line.ends_with('.')) {
            return Err(format!("{name}:1: the first line says in a sentence what happens"));
        }
        for (index, line) in text.lines().enumerate() {
            script.take_line(index + 1, line).map_err(|error| format!("{name}:{}: {error}", index + 1))?;
        }
        Ok(script)
    }

    fn take_line(&mut self, number: usize, text: &str) -> Result<(), String> {
        if let Some(ids) = text.strip_prefix("# proves:") {
            self.proves.extend(ids.split_whitespace().map(str::to_owned));
        }
        let text = text.split('#').next().unwrap_or_default().trim();
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            [] => {}
            ["config", ref knobs @ ..] => knobs.iter().try_for_each(|knob| knobs::set(&mut self.config, knob))?,
            ["family", "v4"] => self.families = vec![Family::V4],
            ["family", "v6"] => self.families = vec![Family::V6],
            [first, ..] if first.starts_with('+') => self.lines.push(Line::parse(number, text)?),
            [name, ref arguments @ ..] => {
                for line in macros::expand(name, arguments, &self.config)? {
                    self.lines.push(Line::parse(number, &line).map_err(|error| format!("in `{line}`: {error}"))?);
                }
            }
        }
        Ok(())
    }
}

impl Line {
    fn parse(number: usize, text: &str) -> Result<Self, String> {
        let (after, rest) = text.trim_start_matches('+').split_once(char::is_whitespace).ok_or("a line needs more than a time")?;
        let after = knobs::duration(after)?;
        let rest = rest.trim_start();
        let (kind, rest) = rest.split_at_checked(1).ok_or("a line needs one of < > ! =")?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let step = match kind {
            "<" if words.first() == Some(&"icmp") => Step::Report(icmp::parse(&words[1..])?),
            "<" => Step::Receive(segment::parse(&words)?),
            ">" => Step::Send(segment::parse(&words)?),
            "!" => Step::Call(call::parse(&words)?),
            "=" => Step::Check(fact::parse(rest.trim())?),
            _ => return Err(format!("`{kind}` is none of < > ! =")),
        };
        Ok(Self { number, text: text.to_owned(), after, step })
    }
}
