//! The page that lists where Linux answers differently: its column for this crate must stay true.
//!
//! What Linux does was measured; nothing here can repeat that.

use crate::host::Family;
use crate::segments::{ACK_CLASSES, LETTERS, SEQ_CLASSES, TEXT_CLASSES, outcome};
use crate::stage::Start;

/// The rows of `page` that are not true any more, and how many cells were looked at.
pub(crate) fn stale_rows(page: &str) -> (Vec<String>, usize) {
    let (mut stale, mut cells) = (Vec::new(), 0);
    for line in page.lines() {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [state, flags, seq, ack, text, ours, theirs, _] = columns[..] else { continue };
        let Some(start) = Start::ALL.into_iter().find(|start| start.name() == state) else { continue };
        if ours == theirs {
            stale.push(format!("no difference: {line}"));
        }
        for index in indices(flags.trim_matches('`'), &[(seq, &SEQ_CLASSES), (ack, &ACK_CLASSES), (text, &TEXT_CLASSES)]) {
            cells += 1;
            let actual = outcome(start, Family::V4, index);
            if actual != ours {
                stale.push(format!("{actual} instead: {line}"));
                break;
            }
        }
    }
    (stale, cells)
}

/// The cells that a row stands for.
fn indices(flags: &str, columns: &[(&str, &[&str])]) -> Vec<u32> {
    let fits = |index: u32| {
        let flags_fit = flags.chars().enumerate().all(|(bit, pattern)| match pattern {
            '.' => true,
            '-' => index >> bit & 1 == 0,
            _ => index >> bit & 1 == 1,
        });
        let mut rest = index / 64;
        let columns_fit = columns.iter().all(|(wanted, classes)| {
            let class = classes[rest as usize % classes.len()];
            rest /= classes.len() as u32;
            *wanted == "*" || wanted.split(',').any(|name| name == class)
        });
        flags_fit && columns_fit
    };
    assert_eq!(flags.len(), LETTERS.len(), "`{flags}` has one letter per flag");
    (0..crate::segments::CELLS).filter(|index| fits(*index)).collect()
}
