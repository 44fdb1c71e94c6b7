//! The house rules that a file can break on its own: sizes, headers, `unsafe`, words that do not belong, code that nothing builds.

use std::collections::BTreeSet;

use crate::source::{Source, closing, tokens};

/// The longest file, in lines, tests not counted.
pub(crate) const FILE_LINES_MAX: usize = 700;

/// The longest function, in lines, from `fn` to its last brace.
pub(crate) const FUNCTION_LINES_MAX: usize = 80;

/// The longest body of a `macro_rules!`, in lines.
pub(crate) const MACRO_LINES_MAX: usize = 40;

/// The only folder of the library with `unsafe`.
pub(crate) const UNSAFE_FOLDER: &str = "src/device/sys/";

/// Macros that may not be called anywhere, each with what to do instead.
pub(crate) const BANNED_MACROS: &[(&str, &str)] = &[
    ("dbg", "log with tracing, or delete it"),
    ("include", "make it a module"),
    ("todo", "write it, or leave it out"),
    ("unimplemented", "write it, or leave it out"),
];

/// The file opens with what it is.
pub(crate) fn header(source: &Source) -> Vec<String> {
    let opens = source.text.starts_with("//! ");
    (!opens)
        .then(|| format!("{}: open the file with a //! header: what it is, what it owns, what it must not know", source.path))
        .into_iter()
        .collect()
}

/// The file can be read in one sitting.
pub(crate) fn file_length(source: &Source) -> Vec<String> {
    let lines = source.production_lines;
    let too_long = lines > FILE_LINES_MAX;
    too_long.then(|| format!("{}: {lines} lines; split it below {FILE_LINES_MAX}", source.path)).into_iter().collect()
}

/// Every function fits on a screen or two, and every macro on less.
pub(crate) fn function_lengths(source: &Source) -> Vec<String> {
    let tokens = tokens(&source.code);
    let mut faults = Vec::new();
    for index in 0..tokens.len().saturating_sub(2) {
        let (name, max) = match tokens[index].text {
            "fn" if tokens[index + 1].text != "(" => (tokens[index + 1], FUNCTION_LINES_MAX),
            "macro_rules" => (tokens[index + 2], MACRO_LINES_MAX),
            _ => continue,
        };
        let Some(body) = body(&tokens, index + 2) else { continue };
        let lines = tokens[closing(&tokens, body)].line - tokens[index].line + 1;
        if lines > max {
            faults.push(format!("{}:{}: {} has {lines} lines; {max} are allowed", source.path, name.line, name.text));
        }
    }
    faults
}

/// The opening brace of the body of the item whose signature goes on at `index`; a declaration has none.
fn body(tokens: &[crate::source::Token<'_>], mut index: usize) -> Option<usize> {
    while let Some(token) = tokens.get(index) {
        match token.text {
            "{" => return Some(index),
            ";" => return None,
            "(" | "[" => index = closing(tokens, index),
            _ => {}
        }
        index += 1;
    }
    None
}

/// `unsafe` stands where it may, and says why it is sound.
pub(crate) fn unsafety(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut faults = Vec::new();
    for token in tokens(&source.code).iter().filter(|token| token.text == "unsafe") {
        let place = format!("{}:{}", source.path, token.line);
        if source.path.starts_with("src/") && !source.path.starts_with(UNSAFE_FOLDER) {
            faults.push(format!("{place}: unsafe belongs in {UNSAFE_FOLDER}, behind a safe function"));
        }
        let above = lines[..token.line - 1].iter().rev().map(|line| line.trim());
        let mut notes = above.take_while(|line| line.starts_with("//") || line.starts_with("#["));
        if !notes.any(|line| line.contains("SAFETY:") || line.contains("# Safety")) {
            faults.push(format!("{place}: say above it, in a SAFETY comment, why this is sound"));
        }
    }
    faults
}

/// Nothing unfinished, hidden or silenced.
pub(crate) fn words(source: &Source) -> Vec<String> {
    let tokens = tokens(&source.code);
    let mut faults = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let next = |offset: usize| tokens.get(index + offset).map_or("", |token| token.text);
        let place = format!("{}:{}", source.path, token.line);
        if let Some((name, instead)) = BANNED_MACROS.iter().find(|(name, _)| *name == token.text)
            && next(1) == "!"
            && matches!(next(2), "(" | "{" | "[")
        {
            faults.push(format!("{place}: no {name}!: {instead}"));
        }
        let attribute = token.text == "[" && index > 0 && matches!(tokens[index - 1].text, "#" | "!");
        if attribute && next(1) == "allow" {
            faults.push(format!("{place}: use #[expect(lint, reason = \"...\")], which goes when it is no longer needed"));
        }
        if attribute && next(1) == "ignore" && next(2) != "=" {
            faults.push(format!("{place}: an ignored test says why and what to do: #[ignore = \"...\"]"));
        }
    }
    faults
}

/// Folders have one style: `folder/mod.rs`, never `folder.rs` beside `folder/`.
pub(crate) fn folder_style(sources: &[Source]) -> Vec<String> {
    let paths: BTreeSet<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    let mut faults = Vec::new();
    for path in paths.iter().filter(|path| path.starts_with("src/") && !path.starts_with("src/bin/")) {
        let folder = path.rsplit_once('/').expect("it is below src").0;
        if folder != "src" && !paths.contains(format!("{folder}/mod.rs").as_str()) {
            faults.push(format!("{path}: its folder needs a mod.rs, the map of the folder"));
        }
    }
    faults
}

/// Files that no target builds: neither found by cargo, nor listed in the manifest, nor declared by a `mod`.
pub(crate) fn unbuilt(sources: &[Source], manifest: &str) -> Vec<String> {
    let paths: BTreeSet<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    let mut built: BTreeSet<String> = paths.iter().filter(|path| is_target(path, manifest)).map(|path| (*path).to_owned()).collect();
    let mut left: Vec<String> = built.iter().cloned().collect();
    while let Some(path) = left.pop() {
        let source = sources.iter().find(|source| source.path == path).expect("only known files are added");
        for child in children(source, is_target(&path, manifest)) {
            if paths.contains(child.as_str()) && built.insert(child.clone()) {
                left.push(child);
            }
        }
    }
    let orphans = paths.iter().filter(|path| !built.contains(**path));
    orphans.map(|path| format!("{path}: no target builds it; declare it with mod, list it in Cargo.toml, or delete it")).collect()
}

/// A file from which cargo starts a target.
fn is_target(path: &str, manifest: &str) -> bool {
    if manifest.contains(&format!("path = \"{path}\"")) || matches!(path, "src/lib.rs" | "src/main.rs" | "build.rs") {
        return true;
    }
    let folders = [("tests/", "autotests"), ("examples/", "autoexamples"), ("benches/", "autobenches"), ("src/bin/", "autobins")];
    let Some((folder, automatic)) = folders.into_iter().find(|(folder, _)| path.starts_with(folder)) else { return false };
    let inside = &path[folder.len()..];
    let (name, rest) = inside.split_once('/').unwrap_or_else(|| (inside.trim_end_matches(".rs"), ""));
    let listed = manifest.contains(&format!("name = \"{name}\""));
    let automatic = !manifest.contains(&format!("{automatic} = false"));
    (listed || automatic) && (rest.is_empty() || rest == "main.rs")
}

/// Where the modules that a file declares may lie.
fn children(source: &Source, is_target: bool) -> Vec<String> {
    let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let beside = is_target || file == "mod.rs";
    let base = if beside { folder.to_owned() } else { format!("{folder}/{}", file.trim_end_matches(".rs")) };
    let tokens = tokens(&source.code);
    let mut found = Vec::new();
    for index in 0..tokens.len().saturating_sub(2) {
        if tokens[index].text == "mod" && tokens[index + 2].text == ";" {
            let name = tokens[index + 1].text.trim_start_matches("r#");
            found.push(format!("{base}/{name}.rs"));
            found.push(format!("{base}/{name}/mod.rs"));
        }
    }
    for (at, attribute) in source.text.match_indices("#[path = \"") {
        let name = source.text[at + attribute.len()..].split('"').next().unwrap_or("");
        found.push(resolve(folder, name));
    }
    found
}

/// `folder/name`, with `.` and `..` taken out.
pub(crate) fn resolve(folder: &str, name: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Files that a document names, in links and in code spans, and that don't exist.
pub(crate) fn dead_links(path: &str, text: &str, exists: &impl Fn(&str) -> bool) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut faults = Vec::new();
    let mut in_block = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        if in_block {
            continue;
        }
        let links = line.match_indices("](").filter_map(|(at, _)| line[at + 2..].split([')', '#', ' ']).next());
        let links = links.filter(|link| !link.is_empty() && !link.contains(':')).map(|link| resolve(folder, link));
        let spans = line.split('`').skip(1).step_by(2).filter(|span| is_path(span));
        let spans = spans.map(|span| span.split(':').next().unwrap_or("").trim_end_matches('/').to_owned());
        for name in links.chain(spans) {
            if !exists(&name) {
                faults.push(format!("{path}:{}: {name} does not exist; correct the name or the text", number + 1));
            }
        }
    }
    faults
}

/// A code span that names a file or folder of this crate.
fn is_path(span: &str) -> bool {
    let folders = [".ci/", "benches/", "docs/", "examples/", "fuzz/", "src/", "tests/"];
    folders.iter().any(|folder| span.starts_with(folder)) && !span.contains(|odd: char| odd.is_whitespace() || "*{}<>$(".contains(odd))
}

/// The changelog has a heading for `version`.
pub(crate) fn changelog(text: &str, version: &str) -> Vec<String> {
    let found = text.lines().any(|line| line.starts_with(&format!("## [{version}]")));
    (!found).then(|| format!("CHANGELOG.md: add a section `## [{version}]` that says what changes for the user")).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::new(path, text)
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(header(&source("src/x.rs", "//! A thing.\n")).len(), 0);
        assert_eq!(header(&source("src/x.rs", "// A thing.\n")).len(), 1);
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let long = "fn f() {}\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(file_length(&source("src/x.rs", &long)).len(), 1);
        let tests = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(file_length(&source("src/x.rs", &tests)).len(), 0);
    }

    #[test]
    fn a_long_function_is_found() {
        let with = |lines: usize| {
            format!("trait T {{ fn g(a: [u8; 4]); }}\nfn f(a: impl Fn(u8)) -> [u8; 2] where {{\n{}}}\n", "    x;\n".repeat(lines))
        };
        assert_eq!(function_lengths(&source("src/x.rs", &with(FUNCTION_LINES_MAX - 2))), Vec::<String>::new());
        assert_eq!(function_lengths(&source("src/x.rs", &with(FUNCTION_LINES_MAX - 1))).len(), 1);
        let long = format!("macro_rules! m {{\n{}}}\n", "    () => {};\n".repeat(MACRO_LINES_MAX));
        assert_eq!(function_lengths(&source("src/x.rs", &long)).len(), 1);
    }

    #[test]
    fn unsafe_needs_its_place_and_its_reason() {
        let bare = "fn f() {\n    unsafe { g() }\n}\n";
        let argued = "fn f() {\n    // SAFETY: g has no condition.\n    unsafe { g() }\n}\n";
        assert_eq!(unsafety(&source("src/net/x.rs", argued)).len(), 1);
        assert_eq!(unsafety(&source("src/device/sys/x.rs", bare)).len(), 1);
        assert_eq!(unsafety(&source("src/device/sys/x.rs", argued)).len(), 0);
        assert_eq!(unsafety(&source("src/net/x.rs", "// unsafe\nfn f() { g(\"unsafe\") }")).len(), 0);
    }

    #[test]
    fn unfinished_and_silenced_code_is_found() {
        for planted in [
            "todo!()",
            "unimplemented!(\"x\")",
            "dbg!(x)",
            "include!(\"x\")",
            "#[allow(dead_code)] let x;",
            "#![allow(x)]",
            "#[ignore] fn x",
        ] {
            assert_eq!(words(&source("src/x.rs", planted)).len(), 1, "{planted}");
        }
        for fine in [
            "include_str!(\"x\")",
            "// todo!()",
            "#[ignore = \"needs a cable\"] fn x",
            "#[expect(x, reason = \"y\")] fn z",
            "self.allow(x)",
        ] {
            assert_eq!(words(&source("src/x.rs", fine)).len(), 0, "{fine}");
        }
    }

    #[test]
    fn a_folder_without_a_map_is_found() {
        let sources = [source("src/a/b.rs", ""), source("src/a.rs", ""), source("src/lib.rs", "")];
        assert_eq!(folder_style(&sources).len(), 1);
        let sources = [source("src/a/b.rs", ""), source("src/a/mod.rs", ""), source("src/bin/demo.rs", "")];
        assert_eq!(folder_style(&sources).len(), 0);
    }

    #[test]
    fn an_orphan_is_found() {
        let files = [
            source("src/lib.rs", "mod a; // mod c;"),
            source("src/a/mod.rs", "pub(crate) mod b;"),
            source("src/a/b.rs", ""),
            source("src/c.rs", ""),
            source("tests/x.rs", "mod common;"),
            source("tests/common/mod.rs", "#[path = \"../other.rs\"] mod other;"),
            source("tests/y/main.rs", "mod z;"),
            source("tests/y/z.rs", ""),
            source("tests/y/w.rs", ""),
            source("benches/p.rs", ""),
            source("benches/q.rs", ""),
        ];
        let faults = unbuilt(&files, "autobenches = false\n[[bench]]\nname = \"q\"\n");
        let names: Vec<_> = faults.iter().map(|fault| fault.split(':').next().unwrap_or("")).collect();
        assert_eq!(names, ["benches/p.rs", "src/c.rs", "tests/y/w.rs"]);
    }

    #[test]
    fn a_dead_link_is_found() {
        let exists = |name: &str| matches!(name, "src/lib.rs" | "docs/a.md" | "src");
        let text = "[a](../src/lib.rs) [b](a.md#x) [c](https://x.y) [d](#e) `src/lib.rs:3` `src/` `tests/**/*.script`\n```\n[x](no)\n```\n";
        assert_eq!(dead_links("docs/b.md", text, &exists), Vec::<String>::new());
        assert_eq!(dead_links("docs/b.md", "[a](src/lib.rs)", &exists).len(), 1);
        assert_eq!(dead_links("README.md", "see `src/gone.rs`", &exists).len(), 1);
    }

    #[test]
    fn a_version_without_an_entry_is_found() {
        assert_eq!(changelog("## [0.1.0] - 2026-01-01\n", "0.1.0").len(), 0);
        assert_eq!(changelog("## [Unreleased]\n", "0.1.0").len(), 1);
    }
}
