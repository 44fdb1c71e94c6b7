//! The transcripts under `tests/conformance`, one test per topic, and a test of the tests: no expectation in them is idle.
//!
//! `SYNFIN_SCRIPT=part/of/a/path cargo test --test conformance` plays only what matches. The language is described in
//! `conformance_runner/mod.rs`.

mod conformance_runner;

use std::path::{Path, PathBuf};

use conformance_runner::host::Family;
use conformance_runner::mutate::mutations;
use conformance_runner::run::run;
use conformance_runner::script::Script;

macro_rules! topics {
    ($($topic:ident),+ $(,)?) => {
        $(
            #[test]
            fn $topic() {
                play(stringify!($topic));
            }
        )+

        const TOPICS: &[&str] = &[$(stringify!($topic)),+];
    };
}

topics! {
    close,
    compliance,
    cookies,
    delayed_ack,
    fast_retransmit,
    hardening,
    keepalive,
    listen,
    mss,
    nagle,
    open,
    path_mtu,
    persist,
    reassembly,
    reset,
    rfc5961,
    rto,
    sack,
    self_connect,
    simultaneous,
    time_wait,
    timestamps,
    urgent,
    user_timeout,
    window,
}

/// Plays every script of a topic in its families and fails with all mismatches at once.
fn play(topic: &str) {
    let scripts = scripts(&root().join(topic));
    let played: Vec<_> = scripts.iter().flat_map(|script| script.families.iter().map(move |family| run(script, *family))).collect();
    let failures: Vec<String> = played.into_iter().filter_map(Result::err).map(|mismatch| mismatch.report).collect();
    assert!(failures.is_empty(), "{} transcripts differ:\n\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_folder_is_a_topic() {
    let mut folders: Vec<String> =
        entries(&root()).iter().filter(|path| path.is_dir()).map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    folders.sort();
    assert_eq!(folders, TOPICS, "tests/conformance.rs lists the topics in order");
}

#[test]
fn an_altered_expectation_is_noticed() {
    let mut count = 0;
    let mut survivors = Vec::new();
    for script in TOPICS.iter().flat_map(|topic| scripts(&root().join(topic))) {
        let family = script.families[0];
        for (what, mutant) in mutations(&script) {
            count += 1;
            if run(&mutant, family).is_ok() {
                survivors.push(what);
            }
        }
    }
    assert!(survivors.is_empty(), "{} of {count} altered expectations went unnoticed:\n{}", survivors.len(), survivors.join("\n"));
}

#[test]
fn scripts_prove_requirements_that_exist() {
    let ledger = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/compliance.md")).unwrap();
    let rows: Vec<&str> = ledger.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).collect();
    for script in TOPICS.iter().flat_map(|topic| scripts(&root().join(topic))) {
        assert!(!script.proves.is_empty(), "{}: what does it prove?", script.name);
        for id in &script.proves {
            assert!(rows.contains(&id.as_str()), "{}: {id} is no row of docs/compliance.md", script.name);
        }
    }
}

#[test]
fn a_mismatch_shows_both_transcripts() {
    let text = "# We acknowledge too much.\nopen\n+0 < data 1:101 ack 1\n+0 > ack 102\n";
    let mismatch = run(&Script::parse("example", text).unwrap(), Family::V4).unwrap_err();
    assert_eq!(mismatch.place, "example:4");
    assert!(
        mismatch.message.contains("expected > seq 1 ack 102") && mismatch.message.contains("sent > seq 1 ack 101"),
        "{}",
        mismatch.message
    );
    assert!(mismatch.report.contains(">>>   4  +0 > ack 102"), "{}", mismatch.report);
}

#[test]
fn silence_is_checked_up_to_the_instant() {
    let head = "# A delayed acknowledgment.\nconfig quick_acks=0\nopen\n+0 < data 1:101 ack 1\n";
    let play = |tail: &str| run(&Script::parse("example", &format!("{head}{tail}")).unwrap(), Family::V6);
    assert!(play("+40ms > ack 101\n").is_ok());
    for tail in ["+41ms = state ESTABLISHED\n", "+39ms > ack 101\n", "+40ms > ack 101\n+0 > ack 101\n", "+40ms = state ESTABLISHED\n"] {
        assert!(play(tail).is_err(), "{tail}");
    }
}

/// The scripts of a folder that the environment asks for, by name.
fn scripts(folder: &Path) -> Vec<Script> {
    let wanted = std::env::var("SYNFIN_SCRIPT").unwrap_or_default();
    let mut paths: Vec<PathBuf> = entries(folder);
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "script") && path.to_string_lossy().contains(&wanted));
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.strip_prefix(root()).expect("below the root").display().to_string();
            let text = std::fs::read_to_string(path).expect("a readable script");
            Script::parse(&name, &text).unwrap_or_else(|error| panic!("{error}"))
        })
        .collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}
