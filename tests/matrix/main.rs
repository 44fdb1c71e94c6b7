//! The state machine, whole: every kind of segment in every state, every call in every state, and the graph that they make, each compared with
//! a table under `tests/snapshots` that a person has read.
//!
//! `SYNFIN_BLESS=1 cargo test --test matrix` writes the tables anew; the difference is then to be read like code. `matrix-linux.md` beside them
//! lists where Linux answers differently, and why.

mod calls;
mod cubes;
#[path = "../conformance_runner/host.rs"]
mod host;
mod linux;
mod segments;
mod stage;
mod transitions;

use std::path::{Path, PathBuf};

use host::Family;

#[test]
fn segments_in_every_state() {
    check("matrix.txt", segments::table);
}

#[test]
fn the_page_about_linux_is_true_of_this_crate() {
    let page = std::fs::read_to_string(root().join("tests/snapshots/matrix-linux.md")).unwrap();
    let (stale, cells) = linux::stale_rows(&page);
    assert!(stale.is_empty(), "tests/snapshots/matrix-linux.md:\n{}", stale.join("\n"));
    assert!(cells > 1000, "only {cells} cells were read: the reader is blind");
    let count = format!("{},{:03} cells differ", cells / 1000, cells % 1000);
    assert!(page.contains(&count), "the page should say: {count}");
}

#[test]
fn calls_in_every_state() {
    check("calls.txt", calls::table);
}

#[test]
fn transitions_between_states() {
    check("transitions.txt", transitions::text);
}

#[test]
fn the_architecture_shows_this_graph() {
    let Ok(text) = std::fs::read_to_string(root().join("ARCHITECTURE.md")) else { return };
    let diagram = transitions::diagram(&transitions::graph(Family::V4));
    assert!(
        !text.contains("stateDiagram-v2") || text.contains(&diagram),
        "ARCHITECTURE.md shows another graph than the code has; copy the diagram from tests/snapshots/transitions.txt"
    );
}

/// Compares a table with the one that was read and approved. Both families must have the same.
fn check(file: &str, table: fn(Family) -> String) {
    let [actual, other] = Family::ALL.map(table);
    assert_eq!(first_difference(&actual, &other), None, "IPv4 and IPv6 differ");
    let path = root().join("tests/snapshots").join(file);
    if std::env::var("SYNFIN_BLESS").is_ok_and(|bless| bless == "1") {
        std::fs::write(&path, &actual).expect("a writable table");
    }
    let approved = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(first_difference(&approved, &actual), None, "{file}: the left line was approved, the right one is what the code does");
}

fn first_difference(left: &str, right: &str) -> Option<(usize, String, String)> {
    let count = left.lines().count().max(right.lines().count());
    let line = |text: &str, at: usize| text.lines().nth(at).unwrap_or("(nothing)").to_owned();
    (0..count).map(|at| (at + 1, line(left, at), line(right, at))).find(|(_, left, right)| left != right)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
