//! What one run shares: its settings, its chance, its screen, and the record of every frame.

use crate::args::{Reading, Settings};
use crate::screen::{Pace, Screen};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};

/// What scenarios play on.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) settings: Settings,
    pub(crate) seed: u64,
    pub(crate) random: Random,
    pub(crate) screen: Screen,
    dump: Option<BufWriter<File>>,
    frames: u64,
}

/// Whether a frame arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    Lost,
}

impl Stage {
    /// Without a seed in the settings, the operating system gives one.
    pub(crate) fn open(settings: Settings) -> io::Result<Self> {
        let seed = match settings.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(io::Error::other)?,
        };
        let dump = settings.dump.as_ref().map(File::create).transpose()?.map(BufWriter::new);
        let pace = match settings.reading {
            Reading::Stepwise => Pace::Step,
            Reading::AtOnce if io::stdout().is_terminal() => Pace::Live,
            Reading::AtOnce => Pace::AtOnce,
        };
        Ok(Self { settings, seed, random: Random::new(seed), screen: Screen::new(pace), dump, frames: 0 })
    }

    /// What this is, what the signs mean, and how to see it again.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        self.screen.line(&format!("synfin demo: two hosts on an in-memory wire, in virtual time; the same again: --seed {}", self.seed))?;
        self.screen.line("  una/nxt/rcv = SND.UNA/SND.NXT/RCV.NXT, counted from each side's ISN    #n = the n-th frame on the wire")?;
        self.screen.line("  ---> arrives next    --x is lost    ... ~ on its way, other things come first    ~ --> arrives now")
    }

    /// Numbers a frame and writes it to the dump.
    pub(crate) fn record(&mut self, nanos: u64, sender: &str, fate: Fate, bytes: &[u8]) -> io::Result<u64> {
        self.frames += 1;
        if let Some(dump) = &mut self.dump {
            let fate = match fate {
                Fate::Delivered => "delivered",
                Fate::Lost => "lost",
            };
            let hex = bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            writeln!(dump, "{} {nanos} {sender} {fate} {hex}", self.frames)?;
            dump.flush()?;
        }
        Ok(self.frames)
    }

    /// The arguments with which this program runs again for its second part.
    pub(crate) fn arguments_for_kernel(&self) -> Vec<String> {
        let mut arguments = vec!["--kernel-only".to_owned(), "--seed".to_owned(), self.seed.to_string()];
        if self.settings.reading == Reading::Stepwise {
            arguments.push("--step".to_owned());
        }
        arguments
    }
}

/// SplitMix64: a stream of numbers from a seed, good enough for a demo and the same everywhere.
#[derive(Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn happens(&mut self, percent: u8) -> bool {
        self.next() % 100 < u64::from(percent)
    }

    /// An engine's secret.
    pub(crate) fn secret(&mut self) -> [u8; 32] {
        let mut secret = [0; 32];
        for chunk in secret.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        secret
    }
}
