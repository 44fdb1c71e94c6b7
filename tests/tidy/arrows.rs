//! Which module may name which: the drawing of ARCHITECTURE.md as a table, and the reader of `use` trees and inline paths that checks it.
//!
//! A path is followed through re-exports to the module that defines the item; then it is an arrow between two siblings somewhere in the tree, a
//! step down, or a step up to an item that an ancestor defines itself. Steps down are free; steps up end below the crate's root.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Source, Token, closing, tokens};

/// The allowed arrows: module, and the siblings that it may name. A level that begins here is closed: every arrow in it must be listed.
/// Levels that are not listed must be free of cycles.
pub(crate) const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("device", &["proto"]),
    ("runtime", &["device", "proto"]),
    ("sim", &["device", "proto", "runtime"]),
    ("net", &["proto", "runtime"]),
    ("proto::time", &[]),
    ("proto::random", &[]),
    ("proto::link", &[]),
    ("proto::wire", &["link"]),
    ("proto::cut", &["link", "wire"]),
    ("proto::tcp", &["link", "random", "time", "wire"]),
    ("proto::engine", &["cut", "link", "random", "tcp", "time", "wire"]),
    ("proto::netstat", &["engine", "tcp", "time"]),
    ("proto::stats", &["engine"]),
];

/// Within one connection the parts return facts and only these act, so no part may name one of them.
pub(crate) const ACTORS: &[&str] = &["close", "connection", "fast_path", "handshake", "input", "invariants", "output"];

/// The parts of a connection.
pub(crate) const PARTS: &[&str] = &["ack", "buffer", "congestion", "receive", "recovery", "rtt", "send", "timers"];

/// The crates that `proto` may use.
pub(crate) const PROTO_CRATES: &[&str] = &["bytes", "etherparse", "hashbrown", "siphasher", "slab", "thiserror"];

/// What `proto` must not take from the standard library: clocks, threads, input and output, unkeyed hash tables.
pub(crate) const PROTO_STD: &[&str] = &[
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::collections::hash_map",
    "std::collections::hash_set",
    "std::env",
    "std::fs",
    "std::future",
    "std::hash::RandomState",
    "std::io::Error",
    "std::io::ErrorKind",
    "std::io::Read",
    "std::io::Write",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::sync::Condvar",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::mpsc",
    "std::task",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
];

/// A path as it is written, with the line it is on and the module it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    /// The segments, `self` and `super` as written.
    pub(crate) segments: Vec<String>,
    /// The name it gets, when it stands in a `use`.
    pub(crate) alias: Option<String>,
    /// The line, from 1.
    pub(crate) line: usize,
    /// Modules within the file that it stands in.
    pub(crate) inner: Vec<String>,
}

/// All paths that a file's production code mentions, `use` trees taken apart.
pub(crate) fn mentions(source: &Source) -> Vec<Mention> {
    let tokens = tokens(&source.production);
    let mut mentions = Vec::new();
    let mut inner: Vec<(String, usize)> = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        inner.retain(|(_, end)| index <= *end);
        let names = || inner.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        match tokens[index].text {
            "mod" if tokens.get(index + 2).is_some_and(|token| token.text == "{") => {
                inner.push((tokens[index + 1].text.to_owned(), closing(&tokens, index + 2)));
                index += 3;
            }
            "use" => {
                let end = (index..tokens.len()).find(|at| tokens[*at].text == ";").unwrap_or(tokens.len());
                let inner = names();
                use_tree(&tokens[index + 1..end], &[], &mut |segments, alias, line| {
                    mentions.push(Mention { segments, alias, line, inner: inner.clone() })
                });
                index = end + 1;
            }
            word if starts_path(word) && follows(&tokens, index) => {
                let mut segments = vec![word.to_owned()];
                let line = tokens[index].line;
                while follows(&tokens, index) && tokens.get(index + 2).is_some_and(|token| starts_path(token.text)) {
                    segments.push(tokens[index + 2].text.to_owned());
                    index += 2;
                }
                mentions.push(Mention { segments, alias: None, line, inner: names() });
                index += 1;
            }
            _ => index += 1,
        }
    }
    mentions
}

fn starts_path(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn follows(tokens: &[Token<'_>], index: usize) -> bool {
    tokens.get(index + 1).is_some_and(|token| token.text == "::")
}

/// Takes `a::{b, c::d as e, f::*}` apart.
fn use_tree(tokens: &[Token<'_>], prefix: &[String], found: &mut impl FnMut(Vec<String>, Option<String>, usize)) {
    let mut segments = prefix.to_vec();
    let mut index = usize::from(tokens.first().is_some_and(|token| token.text == "::"));
    while let Some(token) = tokens.get(index) {
        match token.text {
            "{" => {
                for branch in split_commas(&tokens[index + 1..closing(tokens, index)]) {
                    use_tree(branch, &segments, found);
                }
                return;
            }
            "as" => {
                let alias = tokens.get(index + 1).map(|token| token.text.to_owned());
                return found(segments, alias, token.line);
            }
            "::" => {}
            // `a::{self}` names `a` itself.
            "self" if !segments.is_empty() => {}
            name => segments.push(name.to_owned()),
        }
        index += 1;
    }
    if let Some(token) = tokens.first() {
        let alias = segments.last().cloned();
        found(segments, alias, token.line);
    }
}

fn split_commas<'a, 'b>(tokens: &'a [Token<'b>]) -> Vec<&'a [Token<'b>]> {
    let (mut branches, mut start, mut index) = (Vec::new(), 0, 0);
    while index < tokens.len() {
        match tokens[index].text {
            "{" => index = closing(tokens, index),
            "," => {
                branches.push(&tokens[start..index]);
                start = index + 1;
            }
            _ => {}
        }
        index += 1;
    }
    branches.push(&tokens[start..]);
    branches.retain(|branch| !branch.is_empty());
    branches
}

/// The module that a file of the library is; `None` for binaries.
pub(crate) fn module_of(path: &str) -> Option<Vec<String>> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    if inside == "main" || inside.starts_with("bin/") {
        return None;
    }
    let inside = inside.strip_suffix("/mod").unwrap_or(if inside == "lib" { "" } else { inside });
    Some(inside.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect())
}

/// An arrow between two children of `level`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrow {
    pub(crate) level: Vec<String>,
    pub(crate) from: String,
    pub(crate) to: String,
    /// `file:line names path`.
    pub(crate) place: String,
}

/// The library's modules and what each of them imports under which name.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    known: BTreeSet<Vec<String>>,
    imports: BTreeMap<(Vec<String>, String), Vec<String>>,
    mentions: Vec<(Vec<String>, Vec<String>, String)>,
    globs: Vec<String>,
}

impl Modules {
    /// Reads all files of the library.
    pub(crate) fn read(sources: &[Source]) -> Self {
        let mut modules = Self::default();
        let files: Vec<_> = sources.iter().filter_map(|source| Some((module_of(&source.path)?, source))).collect();
        modules.known.extend(files.iter().map(|(module, _)| module.clone()));
        for (module, source) in files {
            for mention in mentions(source) {
                let written = mention.segments.join("::");
                let Some(absolute) = modules.absolute(&module, &mention) else { continue };
                if absolute.last().is_some_and(|last| last == "*") {
                    modules.globs.push(format!(
                        "{}:{} names {written}: list the items, so that a reader sees where each comes from",
                        source.path, mention.line
                    ));
                }
                if let Some(alias) = mention.alias {
                    modules.imports.insert((module.clone(), alias), absolute.clone());
                }
                modules.mentions.push((module.clone(), absolute, format!("{}:{} names {written}", source.path, mention.line)));
            }
        }
        modules
    }

    /// The path from the crate's root, if it is a path into this crate.
    fn absolute(&self, module: &[String], mention: &Mention) -> Option<Vec<String>> {
        let mut base = [module, &mention.inner].concat();
        let mut segments = mention.segments.iter().peekable();
        match segments.peek()?.as_str() {
            "crate" => {
                base.clear();
                segments.next();
            }
            "self" => drop(segments.next()),
            "super" => {}
            first => {
                base.push(first.to_owned());
                let is_child = self.known.contains(&base);
                base.pop();
                if !is_child {
                    return None;
                }
            }
        }
        while segments.next_if(|segment| *segment == "super").is_some() {
            base.pop();
        }
        base.extend(segments.cloned());
        Some(base)
    }

    /// The module that defines the item at `path`, re-exports followed.
    fn definer(&self, path: &[String]) -> Vec<String> {
        let mut path = path.to_vec();
        // A chain of re-exports longer than the tree is deep would be a cycle, which the compiler refuses.
        for _ in 0..16 {
            let len = (0..=path.len()).rev().find(|len| self.known.contains(&path[..*len])).unwrap_or(0);
            let module = path[..len].to_vec();
            let Some(target) = path.get(len).and_then(|name| self.imports.get(&(module.clone(), name.clone()))) else { return module };
            let next = [target.as_slice(), &path[len + 1..]].concat();
            if next == path {
                return module;
            }
            path = next;
        }
        path
    }

    /// All arrows between siblings; and the faults of reading them: steps up to the crate's root, and `*`, which hides what is named.
    pub(crate) fn arrows(&self) -> (Vec<Arrow>, Vec<String>) {
        let (mut arrows, mut faults) = (Vec::new(), self.globs.clone());
        for (module, path, place) in &self.mentions {
            let target = self.definer(path);
            let shared = module.iter().zip(&target).take_while(|(left, right)| left == right).count();
            match (module.get(shared), target.get(shared)) {
                (Some(from), Some(to)) => {
                    arrows.push(Arrow { level: module[..shared].to_vec(), from: from.clone(), to: to.clone(), place: place.clone() });
                }
                (Some(_), None) if shared == 0 => {
                    faults.push(format!("{place}: name the item where it is defined, not through the crate's root"))
                }
                _ => {}
            }
        }
        (arrows, faults)
    }
}

/// Arrows that the table doesn't allow.
pub(crate) fn forbidden(arrows: &[Arrow]) -> Vec<String> {
    let closed: BTreeSet<Vec<&str>> =
        ARROWS.iter().map(|(module, _)| module.rsplit_once("::").map_or(vec![], |(level, _)| level.split("::").collect())).collect();
    let mut faults = Vec::new();
    for arrow in arrows {
        let level: Vec<&str> = arrow.level.iter().map(String::as_str).collect();
        let from = [level.as_slice(), &[arrow.from.as_str()]].concat().join("::");
        let row = ARROWS.iter().find(|(module, _)| *module == from);
        let allowed = match row {
            Some((_, targets)) => targets.contains(&arrow.to.as_str()),
            None => !closed.contains(&level),
        };
        let acts = level == ["proto", "tcp"] && PARTS.contains(&arrow.from.as_str()) && ACTORS.contains(&arrow.to.as_str());
        if !allowed || acts {
            faults.push(format!("{}: {from} must not name its sibling {}", arrow.place, arrow.to));
        }
    }
    faults
}

/// One cycle of siblings for each level that has any, with the places that make it.
pub(crate) fn cycles(arrows: &[Arrow]) -> Vec<String> {
    let mut levels: BTreeMap<&[String], BTreeMap<&str, BTreeMap<&str, &str>>> = BTreeMap::new();
    for arrow in arrows {
        levels.entry(&arrow.level).or_default().entry(&arrow.from).or_default().entry(&arrow.to).or_insert(&arrow.place);
    }
    let mut faults = Vec::new();
    for (level, graph) in levels {
        // Modules from which no cycle can be reached are taken away until only cycles and what leads to them remain.
        let mut left: BTreeMap<&str, BTreeMap<&str, &str>> = graph.clone();
        loop {
            let before = left.len();
            let names: BTreeSet<&str> = left.keys().copied().collect();
            left.retain(|_, targets| targets.keys().any(|to| names.contains(to)));
            if left.len() == before {
                break;
            }
        }
        let Some(mut at) = left.keys().next().copied() else { continue };
        let mut walked: Vec<(&str, &str)> = Vec::new();
        while !walked.iter().any(|(name, _)| *name == at) {
            let (to, place) = left[at].iter().find(|(to, _)| left.contains_key(*to)).expect("what leads nowhere was taken away");
            walked.push((at, place));
            at = to;
        }
        let start = walked.iter().position(|(name, _)| *name == at).expect("the walk came back to it");
        let places: Vec<_> = walked[start..].iter().map(|(_, place)| *place).collect();
        faults.push(format!("cycle below crate::{}:\n    {}", level.join("::"), places.join("\n    ")));
    }
    faults
}

/// What `proto` takes from crates and from the standard library that it must not.
pub(crate) fn impure(sources: &[Source], dependencies: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.path.starts_with("src/proto/")) {
        for mention in mentions(source) {
            let path = mention.segments.join("::").replace("core::", "std::").replace("alloc::", "std::");
            let first = mention.segments[0].as_str();
            let place = format!("{}:{} names {path}", source.path, mention.line);
            if dependencies.iter().any(|name| name == first) && !PROTO_CRATES.contains(&first) {
                faults.push(format!("{place}: proto may use only {}", PROTO_CRATES.join(", ")));
            }
            let is_below = |banned: &&&str| path == **banned || path.strip_prefix(**banned).is_some_and(|rest| rest.starts_with("::"));
            if let Some(banned) = PROTO_STD.iter().find(is_below) {
                faults.push(format!("{place}: {banned} has no place in proto; pass it in as an argument"));
            }
        }
    }
    faults
}

/// The dependencies that a manifest lists for the library, as crate names.
pub(crate) fn dependencies(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.trim();
        } else if section == "[dependencies]"
            && let Some((name, _)) = line.split_once('=')
            && !line.starts_with('#')
        {
            names.push(name.trim().replace('-', "_"));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(files: &[(&str, &str)]) -> (Vec<Arrow>, Vec<String>) {
        let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        Modules::read(&sources).arrows()
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let source = Source::new("src/x.rs", "use crate::{a::{B, c::*}, d as e, f::{self}};\nfn g() { super::h::i(); std::mem::swap(); }");
        let found: Vec<_> = mentions(&source).into_iter().map(|mention| mention.segments.join("::")).collect();
        assert_eq!(found, ["crate::a::B", "crate::a::c::*", "crate::d", "crate::f", "super::h::i", "std::mem::swap"]);
        assert_eq!(mentions(&source)[2].alias.as_deref(), Some("e"));
    }

    #[test]
    fn an_arrow_up_the_drawing_is_refused() {
        let files = [("src/proto/mod.rs", "use crate::runtime::Stack;"), ("src/runtime/mod.rs", "use crate::proto::Engine;")];
        let (arrows, _) = modules(&files);
        let faults = forbidden(&arrows);
        assert_eq!(faults, ["src/proto/mod.rs:1 names crate::runtime::Stack: proto must not name its sibling runtime"]);
    }

    #[test]
    fn an_inline_path_counts_and_a_comment_does_not() {
        let files = [
            ("src/device/mod.rs", "// crate::net\nfn f() { crate::net::g(\"crate::runtime::x\") }"),
            ("src/net/mod.rs", ""),
            ("src/runtime/mod.rs", ""),
        ];
        assert_eq!(forbidden(&modules(&files).0), ["src/device/mod.rs:2 names crate::net::g: device must not name its sibling net"]);
    }

    #[test]
    fn a_reexport_is_followed_to_its_definer() {
        let files = [
            ("src/proto/mod.rs", "pub use engine::Engine;"),
            ("src/proto/engine/mod.rs", "pub struct Engine;"),
            ("src/proto/tcp/mod.rs", "use super::Engine;"),
        ];
        assert_eq!(
            forbidden(&modules(&files).0),
            ["src/proto/tcp/mod.rs:1 names super::Engine: proto::tcp must not name its sibling engine"]
        );
    }

    #[test]
    fn a_new_module_needs_a_row() {
        let files = [("src/extra/mod.rs", "use crate::proto::Engine;"), ("src/proto/mod.rs", "")];
        assert_eq!(forbidden(&modules(&files).0), ["src/extra/mod.rs:1 names crate::proto::Engine: extra must not name its sibling proto"]);
    }

    #[test]
    fn parts_of_a_connection_do_not_name_who_acts() {
        let files =
            [("src/proto/tcp/rtt.rs", "use super::connection::Connection;"), ("src/proto/tcp/connection.rs", "use super::rtt::Rtt;")];
        assert_eq!(forbidden(&modules(&files).0).len(), 1);
    }

    #[test]
    fn the_root_is_not_a_detour() {
        let files = [("src/lib.rs", "pub struct Stack;"), ("src/net/mod.rs", "use crate::Stack;")];
        assert_eq!(modules(&files).1.len(), 1);
        let files = [("src/lib.rs", "pub use net::TcpStream;"), ("src/device/mod.rs", "use crate::TcpStream;"), ("src/net/mod.rs", "")];
        assert_eq!(forbidden(&modules(&files).0).len(), 1);
    }

    #[test]
    fn a_glob_is_refused_outside_of_tests() {
        let files = [("src/net/mod.rs", "use crate::proto::*;\n#[cfg(test)]\nmod tests { use super::*; }"), ("src/proto/mod.rs", "")];
        assert_eq!(modules(&files).1.len(), 1);
    }

    #[test]
    fn a_cycle_of_siblings_is_found() {
        let cycle = [
            ("src/proto/wire/a.rs", "use super::b::B;"),
            ("src/proto/wire/b.rs", "use crate::proto::wire::c::C;"),
            ("src/proto/wire/c.rs", "fn f() { super::a::g() }"),
            ("src/proto/wire/d.rs", "use super::a::A;"),
        ];
        let faults = cycles(&modules(&cycle).0);
        assert_eq!(faults.len(), 1);
        assert!(!faults[0].contains("d.rs"), "{}", faults[0]);
        assert!(cycles(&modules(&cycle[..2]).0).is_empty());
    }

    #[test]
    fn an_inner_module_has_a_super_of_its_own() {
        let files =
            [("src/net/mod.rs", "mod sealed { use super::runtime; }\nmod b { use super::super::runtime::X; }"), ("src/runtime/mod.rs", "")];
        let (arrows, faults) = modules(&files);
        assert_eq!((arrows.len(), faults.len()), (1, 0));
    }

    #[test]
    fn proto_is_pure() {
        let dependencies = dependencies("[dependencies]\nbytes = \"1\"\nasync-executor = \"1\"\n[dev-dependencies]\nproptest = \"1\"\n");
        assert_eq!(dependencies, ["bytes", "async_executor"]);
        let text = "use bytes::Bytes;\nuse std::time::{Duration, Instant};\nfn f() { async_executor::run(); std::thread::spawn(); }\n#[cfg(test)]\nmod tests { use std::fs; }";
        let sources = [Source::new("src/proto/x.rs", text), Source::new("src/runtime/x.rs", text)];
        assert_eq!(impure(&sources, &dependencies).len(), 3);
    }
}
