//! The architecture and the house rules as tests: each names the places that break it and says what to do.
//!
//! [`arrows`] holds the table of which module may name which; [`rules`] what a file must keep by itself; [`source`] how both read Rust. Every
//! check is tried on a planted violation in the tests of its own file, so that none of them can be green by blindness.

mod arrows;
mod rules;
mod source;

use source::{Source, files, read, root, sources};

/// Every folder with code of this package.
const CODE: &[&str] = &["src", "tests", "examples", "benches"];

/// Fails with all faults at once.
#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}\n", faults.len(), faults.join("\n"));
}

/// Applies one rule to every file.
#[track_caller]
fn assert_each(folders: &[&str], rule: impl Fn(&Source) -> Vec<String>) {
    let sources = sources(folders);
    assert!(sources.len() > 1, "found no code below {folders:?}");
    assert_none(&sources.iter().flat_map(rule).collect::<Vec<_>>());
}

#[test]
fn modules_name_only_what_lies_below_them() {
    let (arrows, mut faults) = arrows::Modules::read(&sources(&["src"])).arrows();
    assert!(!arrows.is_empty(), "no arrow was read: the reader is blind");
    faults.extend(arrows::forbidden(&arrows));
    assert_none(&faults);
}

#[test]
fn no_level_has_a_cycle() {
    assert_none(&arrows::cycles(&arrows::Modules::read(&sources(&["src"])).arrows().0));
}

#[test]
fn the_table_of_arrows_is_itself_a_drawing_without_cycles() {
    let arrows = arrows::ARROWS.iter().flat_map(|(module, targets)| {
        let (level, from) = module.rsplit_once("::").unwrap_or(("", module));
        let level: Vec<String> = level.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        targets.iter().map(move |to| arrows::Arrow {
            level: level.clone(),
            from: from.to_owned(),
            to: (*to).to_owned(),
            place: format!("{module} -> {to}"),
        })
    });
    assert_none(&arrows::cycles(&arrows.collect::<Vec<_>>()));
}

#[test]
fn proto_is_pure() {
    let dependencies = arrows::dependencies(&read("Cargo.toml"));
    assert!(
        arrows::PROTO_CRATES.iter().all(|name| dependencies.iter().any(|known| known == name)),
        "PROTO_CRATES names a crate that is not a dependency"
    );
    assert_none(&arrows::impure(&sources(&["src"]), &dependencies));
}

#[test]
fn every_file_says_what_it_is() {
    assert_each(CODE, rules::header);
}

#[test]
fn no_file_is_too_long() {
    assert_each(CODE, rules::file_length);
}

#[test]
fn no_function_is_too_long() {
    assert_each(CODE, rules::function_lengths);
}

#[test]
fn unsafe_is_confined_and_argued() {
    assert_each(CODE, rules::unsafety);
}

#[test]
fn nothing_is_unfinished_or_silenced() {
    assert_each(CODE, rules::words);
}

#[test]
fn every_folder_has_a_map() {
    assert_none(&rules::folder_style(&sources(&["src"])));
}

#[test]
fn every_file_is_built() {
    assert_none(&rules::unbuilt(&sources(CODE), &read("Cargo.toml")));
}

#[test]
fn documents_name_only_files_that_exist() {
    let mut documents = files("docs", "md");
    documents.extend(["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"].map(str::to_owned));
    let exists = |name: &str| root().join(name).exists();
    let faults: Vec<_> = documents.iter().flat_map(|path| rules::dead_links(path, &read(path), &exists)).collect();
    assert_none(&faults);
}

#[test]
fn the_changelog_knows_this_version() {
    assert_none(&rules::changelog(&read("CHANGELOG.md"), env!("CARGO_PKG_VERSION")));
}
