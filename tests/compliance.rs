//! The compliance ledger as a test: `docs/compliance.md` is complete, and what it calls done is there and tested.
//!
//! Each check is a function over rows and a view of the code, tried below on rows that break it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Rows of each family, numbered from 1 without a gap.
const FAMILIES: &[(&str, usize)] = &[
    ("HW", 14),
    ("MAY", 18),
    ("MUST", 69),
    ("R1337", 1),
    ("R2018", 11),
    ("R2883", 5),
    ("R3168", 12),
    ("R3810", 7),
    ("R4861", 7),
    ("R4862", 5),
    ("R4987", 6),
    ("R5227", 7),
    ("R5482", 7),
    ("R5681", 22),
    ("R5927", 3),
    ("R5961", 8),
    ("R6056", 4),
    ("R6093", 3),
    ("R6191", 7),
    ("R6298", 18),
    ("R6528", 2),
    ("R6582", 5),
    ("R6675", 11),
    ("R6928", 4),
    ("R7323", 30),
    ("R7413", 8),
    ("R8504", 6),
    ("R8985", 21),
    ("R9293", 39),
    ("R9406", 5),
    ("R9438", 13),
    ("R9937", 6),
    ("REC", 1),
    ("RPMTU", 11),
    ("SHLD", 31),
];

const LEVELS: &[&str] = &["ALG", "HW", "MAY", "MUST", "MUST NOT", "SHOULD", "SHOULD NOT"];

/// A reason shorter than this, in characters, explains nothing.
const WHY_LEN_MIN: usize = 10;

/// One row of the ledger.
#[derive(Debug, Clone, Default)]
struct Row {
    line: usize,
    id: String,
    level: String,
    section: String,
    requirement: String,
    status: String,
    code: Vec<String>,
    tests: Vec<String>,
    why: String,
}

/// Reads the tables: header rows and rulers are left out.
fn rows(ledger: &str) -> Vec<Row> {
    let table =
        ledger.lines().enumerate().filter(|(_, line)| line.starts_with('|') && !line.starts_with("| id |") && !line.starts_with("|---"));
    table.map(|(index, line)| row(index + 1, line)).collect()
}

fn row(line: usize, text: &str) -> Row {
    let inside = text.trim().trim_start_matches('|').trim_end_matches('|');
    let cells: Vec<&str> = inside.split('|').map(str::trim).collect();
    let [id, level, section, requirement, status, code, tests, why] = cells[..] else {
        panic!("docs/compliance.md:{line}: {} cells instead of 8", cells.len());
    };
    let list = |cell: &str| cell.split(',').map(|name| name.trim().trim_matches('`').to_owned()).filter(|name| !name.is_empty()).collect();
    Row {
        line,
        id: id.to_owned(),
        level: level.to_owned(),
        section: section.to_owned(),
        requirement: requirement.to_owned(),
        status: status.to_owned(),
        code: list(code),
        tests: list(tests),
        why: why.to_owned(),
    }
}

/// Missing, unknown and repeated ids.
fn incomplete(rows: &[Row], families: &[(&str, usize)]) -> Vec<String> {
    let expected: BTreeSet<String> =
        families.iter().flat_map(|(family, count)| (1..=*count).map(move |number| format!("{family}-{number}"))).collect();
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for row in rows {
        if !expected.contains(&row.id) {
            faults.push(format!("line {}: {} is not a known id", row.line, row.id));
        }
        if !seen.insert(row.id.clone()) {
            faults.push(format!("line {}: {} stands here a second time", row.line, row.id));
        }
    }
    faults.extend(expected.difference(&seen).map(|id| format!("{id} has no row")));
    faults
}

/// Cells that say nothing, or something unknown.
fn malformed(rows: &[Row]) -> Vec<String> {
    let mut faults = Vec::new();
    for row in rows {
        let mut fault = |what: &str| faults.push(format!("line {}: {}: {what}", row.line, row.id));
        if !LEVELS.contains(&row.level.as_str()) {
            fault("the level is none of the RFCs' keywords");
        }
        if row.section.is_empty() || row.requirement.is_empty() {
            fault("section and requirement say where to look and what for");
        }
        match row.status.as_str() {
            "done" if row.code.is_empty() || row.tests.is_empty() => fault("done, but where, and tested by what?"),
            "done" | "planned" => {}
            "deviates" | "declined" if row.why.chars().count() < WHY_LEN_MIN => fault("say why"),
            "deviates" | "declined" => {}
            _ => fault("the status is none of done, planned, deviates, declined"),
        }
    }
    faults
}

/// The files that rows refer to: path from the crate's root, and text.
struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    fn read() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut files = BTreeMap::new();
        for folder in ["src", "tests"] {
            collect(&root, &root.join(folder), &mut files);
        }
        Self { files }
    }

    /// True if `path`, such as `proto::tcp::input::check_reset` or `proto::time::Instant::START`, names an item that is declared.
    fn declares(&self, path: &str) -> bool {
        let segments: Vec<&str> = path.split("::").collect();
        // The item and its type may take up to two segments; the rest is the module's file.
        (1..=2).filter(|items| *items < segments.len()).any(|items| {
            let (module, items) = segments.split_at(segments.len() - items);
            let module = module.join("/");
            let file = self.files.get(&format!("src/{module}.rs")).or_else(|| self.files.get(&format!("src/{module}/mod.rs")));
            file.is_some_and(|text| {
                items.iter().all(|item| ["fn", "struct", "enum", "trait", "const", "type"].iter().any(|kind| has_words(text, kind, item)))
            })
        })
    }

    /// The text of a test: a transcript, or a test function with the comments and attributes above it.
    fn test(&self, name: &str) -> Option<String> {
        if name.contains('.') {
            return self.files.get(&format!("tests/{name}")).cloned();
        }
        let name = name.rsplit("::").next().unwrap_or(name);
        self.files.iter().filter(|(path, _)| path.ends_with(".rs")).find_map(|(_, text)| function(text, name))
    }

    /// What `done` rows claim and the tree doesn't have.
    fn unfounded(&self, rows: &[Row]) -> Vec<String> {
        let mut faults = Vec::new();
        for row in rows.iter().filter(|row| row.status == "done") {
            let place = format!("line {}: {}", row.line, row.id);
            let missing = row.code.iter().filter(|path| !self.declares(path));
            faults.extend(missing.map(|path| format!("{place}: no item {path} below src")));
            for name in &row.tests {
                match self.test(name) {
                    None => faults.push(format!("{place}: no test {name}")),
                    Some(text) if !bears(&text, &row.id) => {
                        faults.push(format!("{place}: the test {name} does not bear the id, in its name or above it"))
                    }
                    Some(_) => {}
                }
            }
        }
        faults
    }
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "script") {
            let relative = path.strip_prefix(root).expect("below the root").to_str().expect("file names are UTF-8").to_owned();
            let text = std::fs::read_to_string(&path).expect("source is UTF-8");
            files.insert(relative, text);
        }
    }
}

/// True if `kind item` stands in a line that is not a comment, as whole words.
fn has_words(text: &str, kind: &str, item: &str) -> bool {
    let needle = format!("{kind} {item}");
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.into_iter().any(|line| {
        let mut found = line.match_indices(&needle);
        found.any(|(at, _)| !line[..at].ends_with(is_word) && !line[at + needle.len()..].starts_with(is_word))
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The head of a test function: its comments, attributes and name.
fn function(text: &str, name: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| has_words(line, "fn", name))?;
    let above = lines[..at].iter().rev().take_while(|line| line.trim_start().starts_with("//") || line.trim_start().starts_with("#["));
    let mut head: Vec<&str> = above.copied().collect();
    if !head.iter().any(|line| line.contains("test]") || line.contains("test(")) {
        return None;
    }
    head.push(lines[at]);
    Some(head.join("\n"))
}

/// True if `id` stands in the text, as it is or as `must_12` in a name, and not as the beginning of a longer number.
fn bears(text: &str, id: &str) -> bool {
    let written = |needle: &str| {
        text.match_indices(needle).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + needle.len()..].chars().next();
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        })
    };
    written(id) || written(&id.to_lowercase().replace('-', "_"))
}

fn ledger() -> Vec<Row> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/compliance.md");
    rows(&std::fs::read_to_string(path).expect("docs/compliance.md is part of the crate"))
}

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "docs/compliance.md has {} faults:\n{}\n", faults.len(), faults.join("\n"));
}

#[test]
fn every_requirement_has_one_row() {
    assert_none(&incomplete(&ledger(), FAMILIES));
}

#[test]
fn every_row_is_well_formed() {
    assert_none(&malformed(&ledger()));
}

#[test]
fn what_is_done_is_there_and_tested() {
    assert_none(&Tree::read().unfounded(&ledger()));
}

mod planted {
    use super::*;

    fn tree() -> Tree {
        let files = [
            ("src/proto/tcp/rtt.rs", "pub struct Rtt;\nimpl Rtt {\n    pub fn on_sample(&mut self) {}\n}\n// fn gone() {}\n"),
            ("src/proto/mod.rs", "fn top() {}"),
            ("tests/conformance/rtt/first.script", "# First sample (R6298-2)\n"),
            ("tests/x.rs", "/// R6298-30: later.\n#[test]\nfn later() {}\n\n#[test]\nfn r6298_4_minimum() {}\n\nfn helper_r6298_5() {}\n"),
        ];
        Tree { files: files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect() }
    }

    fn faults(text: &str) -> usize {
        tree().unfounded(&rows(text)).len()
    }

    #[test]
    fn a_missing_a_double_and_an_unknown_row_are_found() {
        let text = "| id | level |\n|---|---|\n| A-1 | MUST | 1 | x | planned | | | |\n| A-1 | MUST | 1 | x | planned | | | |\n| B-1 | MUST | 1 | x | planned | | | |\n";
        assert_eq!(incomplete(&rows(text), &[("A", 2)]).len(), 3);
    }

    #[test]
    fn a_row_that_says_nothing_is_found() {
        for text in [
            "| A-1 | OUGHT | 1 | x | planned | | | |",
            "| A-1 | MUST | | x | planned | | | |",
            "| A-1 | MUST | 1 | x | maybe | | | |",
            "| A-1 | MUST | 1 | x | done | a::b | | |",
            "| A-1 | MUST | 1 | x | done | | b | |",
            "| A-1 | MUST | 1 | x | deviates | | | because |",
            "| A-1 | MUST | 1 | x | declined | | | |",
        ] {
            assert_eq!(malformed(&rows(text)).len(), 1, "{text}");
        }
        assert_eq!(malformed(&rows("| A-1 | MUST NOT | 1 | x | declined | | | nobody needs it |")).len(), 0);
    }

    #[test]
    fn code_that_is_not_there_is_found() {
        let with = |code: &str| faults(&format!("| R6298-2 | MUST | 2.2 | x | done | {code} | conformance/rtt/first.script | |"));
        assert_eq!(with("`proto::tcp::rtt::Rtt::on_sample`, proto::top"), 0);
        for code in ["proto::tcp::rtt::gone", "proto::tcp::rtt::on", "proto::tcp::rto::on_sample", "proto::tcp::rtt::Other::on_sample", "?"]
        {
            assert_eq!(with(code), 1, "{code}");
        }
    }

    #[test]
    fn a_test_that_is_not_there_or_another_one_is_found() {
        let with = |id: &str, test: &str| faults(&format!("| {id} | MUST | 2 | x | done | proto::top | {test} | |"));
        assert_eq!(with("R6298-4", "r6298_4_minimum"), 0);
        assert_eq!(with("R6298-30", "later"), 0);
        assert_eq!(with("R6298-3", "later"), 1);
        assert_eq!(with("R6298-3", "conformance/rtt/first.script"), 1);
        assert_eq!(with("R6298-3", "conformance/rtt/none.script"), 1);
        assert_eq!(with("R6298-5", "helper_r6298_5"), 1);
        assert_eq!(with("R6298-2", "?"), 1);
    }
}
