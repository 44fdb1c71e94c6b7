//! Rust source as tidy sees it: the text, the code without comments and literals, the code without tests, and tokens. No parser: a scanner of
//! a few states, exact about comments, strings, characters and lifetimes, which is all that the checks need.

use std::path::{Path, PathBuf};

/// One Rust file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// From the crate's root, with forward slashes: `src/proto/mod.rs`.
    pub(crate) path: String,
    /// As written.
    pub(crate) text: String,
    /// Comments and the insides of literals are spaces; lines and columns are as written.
    pub(crate) code: String,
    /// `code`, with every `#[cfg(test)]` item as spaces too.
    pub(crate) production: String,
    /// Lines that are not tests; blank lines and comments count.
    pub(crate) production_lines: usize,
}

impl Source {
    /// Scans `text`.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank_comments_and_literals(text);
        let lines = text.lines().count();
        let (production, tests) = if is_test_file(path) { (blank(&code), lines) } else { blank_tests(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), code, production, production_lines: lines - tests }
    }
}

/// A file that only a `#[cfg(test)] mod` in its parent can build.
fn is_test_file(path: &str) -> bool {
    path.starts_with("src/") && (path.ends_with("/tests.rs") || path.contains("/tests/"))
}

/// The crate's root folder.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` whose name ends in `.extension`, sorted; folders that are packages of their own are left out.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    collect(&root().join(folder), extension, &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            if !path.join("Cargo.toml").exists() && path.file_name().is_some_and(|name| name != "target") {
                collect(&path, extension, found);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            let relative = path.strip_prefix(root()).expect("below the root");
            found.push(relative.to_str().expect("file names are UTF-8").to_owned());
        }
    }
}

/// Reads and scans all Rust files below the folders.
pub(crate) fn sources(folders: &[&str]) -> Vec<Source> {
    let paths = folders.iter().flat_map(|folder| files(folder, "rs"));
    paths.map(|path| Source::new(&path, &read(&path))).collect()
}

/// Reads a file of the crate.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A word, a `::`, or any other character, with its line (from 1) and its place in the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
    pub(crate) at: usize,
}

/// Splits code into tokens.
pub(crate) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    while at < code.len() {
        let start = at;
        let byte = code.as_bytes()[at];
        if is_word(byte) {
            at += code.as_bytes()[at..].iter().take_while(|byte| is_word(**byte)).count();
        } else if code[at..].starts_with("::") {
            at += 2;
        } else {
            at += 1;
        }
        if byte == b'\n' {
            line += 1;
        } else if !byte.is_ascii_whitespace() {
            tokens.push(Token { text: &code[start..at], line, at: start });
        }
    }
    tokens
}

/// The index of the token that closes the bracket at `open`, or of the last token.
pub(crate) fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len().saturating_sub(1)
}

/// The same text with every character but line ends replaced by as many spaces as it has bytes.
fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// Replaces comments and the insides of string and character literals.
fn blank_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let after_word = code.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        let (kept, hidden, closing) = span(rest, after_word);
        code.push_str(&rest[..kept]);
        code.push_str(&blank(&rest[kept..kept + hidden]));
        code.push_str(&rest[kept + hidden..kept + hidden + closing]);
        rest = &rest[kept + hidden + closing..];
    }
    code
}

/// The next piece: bytes to keep, then to hide, then to keep.
fn span(rest: &str, after_word: bool) -> (usize, usize, usize) {
    if rest.starts_with("//") {
        return (0, rest.find('\n').unwrap_or(rest.len()), 0);
    }
    if rest.starts_with("/*") {
        return (0, block_comment(rest), 0);
    }
    if !after_word && let Some((kept, hashes)) = raw_string(rest) {
        let end = format!("\"{}", "#".repeat(hashes));
        let hidden = rest[kept..].find(&end).unwrap_or(rest.len() - kept);
        return (kept, hidden, end.len().min(rest.len() - kept - hidden));
    }
    for quote in ['"', '\''] {
        if let Some(inside) = rest.strip_prefix(quote)
            && (quote == '"' || is_character(inside))
        {
            let hidden = literal(inside, quote);
            return (1, hidden, usize::from(inside.len() > hidden));
        }
    }
    (rest.chars().next().map_or(0, char::len_utf8), 0, 0)
}

/// The length of the block comment, nested ones included, that `rest` begins with.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest.as_bytes()[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.as_bytes()[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// For `r#"`, `br"`, `cr"`: the bytes up to and with the quote, and the number of hashes.
fn raw_string(rest: &str) -> Option<(usize, usize)> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let hashes = rest[prefix.len()..].bytes().take_while(|byte| *byte == b'#').count();
    let quote = prefix.len() + hashes;
    rest[quote..].starts_with('"').then_some((quote + 1, hashes))
}

/// Tells `'a'` and `'\n'` from the lifetime `'a`, by what follows the quote.
fn is_character(inside: &str) -> bool {
    let mut characters = inside.chars();
    match characters.next() {
        Some('\\') => true,
        Some(_) => characters.next() == Some('\''),
        None => false,
    }
}

/// Bytes up to the closing quote.
fn literal(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at,
            _ => {}
        }
    }
    rest.len()
}

/// Replaces every item under `#[cfg(test)]`, and counts its lines.
fn blank_tests(code: &str) -> (String, usize) {
    let (mut production, mut lines) = (code.to_owned(), 0);
    while let Some(start) = production.find("#[cfg(test)]") {
        let tokens = tokens(&production[start..]);
        let body = tokens.iter().skip(7).position(|token| matches!(token.text, "{" | ";")).map_or(tokens.len() - 1, |index| index + 7);
        let last = if tokens[body].text == "{" { closing(&tokens, body) } else { body };
        let end = start + tokens[last].at + tokens[last].text.len();
        let blanked = blank(&production[start..end]);
        lines += blanked.matches('\n').count() + 1;
        production.replace_range(start..end, &blanked);
    }
    (production, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_become_spaces() {
        let text = "let a = \"x // {\"; // {\n/* a /* b */ { */ let b = '{'; let c: &'a str = r#\"\"{\"#; 'x: loop {}";
        let source = Source::new("src/x.rs", text);
        assert_eq!(source.code.len(), text.len());
        assert_eq!(source.code.matches('{').count(), 1, "{}", source.code);
        assert!(source.code.contains("&'a str"), "{}", source.code);
    }

    #[test]
    fn escapes_do_not_end_a_literal() {
        assert_eq!(Source::new("src/x.rs", r#"("\"{", '\'', "{")"#).code.matches('{').count(), 0);
    }

    #[test]
    fn tests_are_not_production() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n#[cfg(test)]\nuse x::y;\nfn c() {}\n";
        let source = Source::new("src/x.rs", text);
        let words: Vec<_> =
            tokens(&source.production).iter().map(|token| token.text).filter(|text| *text == "fn" || *text == "use").collect();
        assert_eq!(words, ["fn", "fn"]);
        assert_eq!(source.production_lines, 2);
        assert!(Source::new("src/a/tests.rs", "fn x() {}").production.trim().is_empty());
    }

    #[test]
    fn tokens_know_their_lines() {
        let code = "use a::b;\nfn c";
        let found: Vec<_> = tokens(code).iter().map(|token| (token.text, token.line)).collect();
        assert_eq!(found, [("use", 1), ("a", 1), ("::", 1), ("b", 1), (";", 1), ("fn", 2), ("c", 2)]);
    }
}
