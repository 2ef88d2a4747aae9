//! The files of a crate and which of them uses which, read from `mod`, `use` and paths in its sources.
//!
//! A name that a module re-exports counts as a use of the file that defines it, so a parent may
//! re-export its children, and they may use each other's items through it. Code under `#[cfg(test)]`
//! is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module's path below the crate's root: `["scenario", "raw"]`.
type ModulePath = Vec<String>;

/// A crate: its files, relative to its root file's folder, and their dependencies.
pub struct Crate {
    root: PathBuf,
    modules: BTreeMap<ModulePath, Module>,
    /// Which files a file uses.
    pub uses: BTreeMap<String, BTreeSet<String>>,
}

/// What a module declares. More than one file if a feature chooses between them.
#[derive(Default)]
struct Module {
    files: Vec<String>,
    children: BTreeSet<String>,
    items: BTreeSet<String>,
    /// Names that it imports or re-exports, and what they stand for.
    names: BTreeMap<String, ModulePath>,
    globs: Vec<ModulePath>,
}

/// One name of a `use` declaration.
struct Import {
    path: ModulePath,
    /// The name in this file; `None` for a glob.
    name: Option<String>,
    /// Visible to other modules, by `pub` or `pub(…)`.
    exported: bool,
}

/// A path that a file mentions, from the crate's root.
struct Mention {
    file: String,
    path: ModulePath,
}

impl Crate {
    /// Reads a crate from its root file on.
    pub fn read(root_file: &Path) -> Self {
        let root = root_file.parent().expect("a root file is in a folder").to_owned();
        let mut this = Self { root, modules: BTreeMap::new(), uses: BTreeMap::new() };
        let name = root_file.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        let mut mentions = Vec::new();
        this.read_module(Vec::new(), name, "", &mut mentions);
        for Mention { file, path } in mentions {
            let used = this.defined_in(&path, 0).to_vec();
            let of_this_file = this.uses.entry(file.clone()).or_default();
            of_this_file.extend(used.into_iter().filter(|used| *used != file));
        }
        this
    }

    /// Circles between files: each is a set in which every file reaches every other.
    pub fn circles(&self) -> Vec<BTreeSet<String>> {
        let reaches: BTreeMap<&String, BTreeSet<&String>> =
            self.uses.keys().map(|file| (file, self.reached_from(file))).collect();
        let mut circles: Vec<BTreeSet<String>> = Vec::new();
        for (file, reached) in &reaches {
            if circles.iter().any(|circle| circle.contains(*file)) || !reached.contains(file) {
                continue;
            }
            let back = |other: &&&String| reaches.get(**other).is_some_and(|r| r.contains(file));
            circles.push(reached.iter().filter(back).map(|other| (*other).clone()).collect());
        }
        circles
    }

    fn reached_from(&self, file: &String) -> BTreeSet<&String> {
        let mut reached = BTreeSet::new();
        let mut to_visit: Vec<&String> = self.uses[file].iter().collect();
        while let Some(next) = to_visit.pop() {
            if reached.insert(next) {
                to_visit.extend(self.uses.get(next).into_iter().flatten());
            }
        }
        reached
    }

    /// Reads a file and the modules that it declares, whose files are in `folder`.
    fn read_module(
        &mut self,
        path: ModulePath,
        file: &str,
        folder: &str,
        mentions: &mut Vec<Mention>,
    ) {
        let text = fs::read_to_string(self.root.join(file));
        let text = text.unwrap_or_else(|error| panic!("{file}: {error}"));
        let tokens = without_tests(tokens(&text));
        self.uses.entry(file.to_owned()).or_default();
        self.modules.entry(path.clone()).or_default().files.push(file.to_owned());
        let children = children(&tokens);
        let module = self.modules.get_mut(&path).expect("just made");
        module.children.extend(children.iter().map(|(name, _)| name.clone()));
        module.items.extend(items(&tokens));
        let (imports, rest) = imports(&tokens);
        let is_child = |name: &str| children.iter().any(|(child, _)| child == name);
        for Import { path: written, name, exported } in imports {
            let Some(target) = absolute(&path, &written, &is_child) else { continue };
            let module = self.modules.get_mut(&path).expect("just made");
            match &name {
                Some(name) => drop(module.names.insert(name.clone(), target.clone())),
                None => module.globs.push(target.clone()),
            }
            // A re-export is a use of its own only if this file uses the name too.
            let used_here = name.as_ref().is_some_and(|name| rest.contains(&name.as_str()));
            if !exported || used_here {
                mentions.push(Mention { file: file.to_owned(), path: target });
            }
        }
        for written in paths(&rest) {
            if let Some(path) = absolute(&path, &written, &is_child) {
                mentions.push(Mention { file: file.to_owned(), path });
            }
        }
        for (name, named) in children {
            let mut child = path.clone();
            child.push(name.clone());
            if named.is_empty() {
                let file = format!("{folder}{name}.rs");
                self.read_module(child.clone(), &file, &format!("{folder}{name}/"), mentions);
            }
            // A file that an attribute names: its children are in the same folder.
            for named in named {
                let file = format!("{folder}{named}");
                let beside = file.rsplit_once('/').map_or("", |(beside, _)| beside);
                self.read_module(child.clone(), &file, &format!("{beside}/"), mentions);
            }
        }
    }

    /// The files that define what a path names.
    fn defined_in(&self, path: &[String], depth: usize) -> &[String] {
        let mut at = Vec::new();
        for (number, segment) in path.iter().enumerate() {
            let module = &self.modules[&at];
            if module.children.contains(segment) {
                at.push(segment.clone());
                continue;
            }
            let rest = &path[number + 1..];
            let glob = module.globs.iter().find(|glob| {
                let within = self.modules.get(*glob);
                within.is_some_and(|m| m.items.contains(segment) || m.names.contains_key(segment))
            });
            let target = match (module.names.get(segment), glob) {
                _ if module.items.contains(segment) || depth > 8 => None,
                (Some(target), _) => Some(target.iter().chain(rest).cloned().collect::<Vec<_>>()),
                (None, Some(glob)) => {
                    Some(glob.iter().chain(&path[number..]).cloned().collect::<Vec<_>>())
                }
                (None, None) => None,
            };
            return match target {
                Some(target) => self.defined_in(&target, depth + 1),
                None => &module.files,
            };
        }
        &self.modules[&at].files
    }
}

/// A path as written, from the crate's root; nothing if it leads out of the crate.
fn absolute(
    module: &[String],
    written: &[String],
    is_child: &dyn Fn(&str) -> bool,
) -> Option<ModulePath> {
    let mut base = match written.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.to_vec(),
        child if is_child(child) => {
            return Some(module.iter().chain(written).cloned().collect());
        }
        _ => return None,
    };
    let mut rest = written;
    while let Some((first, after)) = rest.split_first() {
        match first.as_str() {
            "super" => drop(base.pop()),
            "self" | "crate" => {}
            _ => break,
        }
        rest = after;
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// Splits a text into identifiers, string literals (with their quotes), `::` and single characters.
fn tokens(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    let starts = |at: usize, what: &str| text[at..].starts_with(what);
    while let Some(&byte) = bytes.get(at) {
        let begin = at;
        at += match byte {
            b'/' if starts(at, "//") => text[at..].find('\n').unwrap_or(text.len() - at),
            b'/' if starts(at, "/*") => {
                text[at..].find("*/").map_or(text.len() - at, |end| end + 2)
            }
            b'r' | b'b' if raw_string(&text[at..]).is_some() => {
                raw_string(&text[at..]).unwrap_or_default()
            }
            b'"' => string(&bytes[at..], b'"'),
            b'\'' if is_char(&text[at + 1..]) => string(&bytes[at..], b'\''),
            _ if byte.is_ascii_alphanumeric() || byte == b'_' => {
                let part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
                bytes[at..].iter().take_while(|b| part(b)).count()
            }
            b':' if starts(at, "::") => 2,
            _ => text[at..].chars().next().map_or(1, char::len_utf8),
        };
        let token = &text[begin..at];
        if !token.trim().is_empty() && !token.starts_with("//") && !token.starts_with("/*") {
            tokens.push(token);
        }
    }
    tokens
}

/// The length of a raw string literal at the start of a text.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    let begin = text.len() - after.len() + hashes + 1;
    after[hashes..].starts_with('"').then_some(())?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(begin + text[begin..].find(&end)? + end.len())
}

/// The length of a literal that ends at an unescaped quote.
fn string(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Whether what follows a quote is a character literal, and not a lifetime.
fn is_char(after: &str) -> bool {
    let mut chars = after.chars();
    let first = chars.next();
    first == Some('\\') || chars.next() == Some('\'')
}

/// The tokens without items under `#[cfg(test)]`.
fn without_tests(tokens: Vec<&str>) -> Vec<&str> {
    let test = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].starts_with(&test) {
            kept.push(tokens[at]);
            at += 1;
            continue;
        }
        // To the end of the item: a semicolon or the brace that closes it.
        let mut depth = 0;
        at += test.len();
        while at < tokens.len() {
            match tokens[at] {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && matches!(tokens[at - 1], "}" | ";") {
                break;
            }
        }
    }
    kept
}

/// The modules that a file declares, each with the files that attributes `path` name for it.
fn children(tokens: &[&str]) -> Vec<(String, Vec<String>)> {
    let mut children = Vec::new();
    for (at, window) in tokens.windows(3).enumerate() {
        let ["mod", name, ";"] = window else { continue };
        let named = attributes_before(&tokens[..at]).windows(3).filter_map(|window| match window {
            ["path", "=", path] => Some(path.trim_matches('"').to_owned()),
            _ => None,
        });
        children.push(((*name).to_owned(), named.collect()));
    }
    children
}

/// The attributes and the visibility directly before an item.
fn attributes_before<'t>(tokens: &'t [&'t str]) -> &'t [&'t str] {
    let end = tokens.iter().rposition(|token| matches!(*token, ";" | "}" | "{"));
    &tokens[end.map_or(0, |end| end + 1)..]
}

/// The names of the items that a file defines outside of blocks.
fn items(tokens: &[&str]) -> BTreeSet<String> {
    const KINDS: [&str; 8] =
        ["fn", "struct", "enum", "trait", "type", "const", "static", "macro_rules"];
    let mut depth = 0;
    let mut items = BTreeSet::new();
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            kind if depth == 0 && KINDS.contains(&kind) => {
                let name = tokens[at + 1..].iter().find(|token| !matches!(**token, "!" | "fn"));
                items.extend(name.map(|name| (*name).to_owned()));
            }
            _ => {}
        }
    }
    items
}

/// The `use` declarations of a file, and the tokens outside of them.
fn imports<'t>(tokens: &[&'t str]) -> (Vec<Import>, Vec<&'t str>) {
    let mut imports = Vec::new();
    let mut rest = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        // `use<'a>` is a bound of a type.
        if tokens[at] != "use" || tokens.get(at + 1) == Some(&"<") {
            rest.push(tokens[at]);
            at += 1;
            continue;
        }
        let exported = matches!(at.checked_sub(1).map(|before| tokens[before]), Some("pub" | ")"));
        let length = tokens[at..].iter().position(|token| *token == ";").expect("a semicolon");
        let tree = &tokens[at + 1..at + length];
        spread(&[], tree, &mut |path, name| {
            imports.push(Import { path: path.to_vec(), name, exported });
        });
        at += length + 1;
    }
    (imports, rest)
}

/// Calls `found` for each name of a tree of imports.
fn spread(prefix: &[String], tree: &[&str], found: &mut dyn FnMut(&[String], Option<String>)) {
    let mut path = prefix.to_vec();
    let mut at = 0;
    while let Some(token) = tree.get(at) {
        match *token {
            "::" => {}
            "*" => return found(&path, None),
            "as" => return found(&path, tree.get(at + 1).map(|name| (*name).to_owned())),
            "{" => {
                let inner = &tree[at + 1..tree.len() - 1];
                return branches(inner).into_iter().for_each(|one| spread(&path, one, found));
            }
            "self" if at > 0 || !prefix.is_empty() => {}
            segment => path.push(segment.to_owned()),
        }
        at += 1;
    }
    if let Some(name) = path.last().cloned() {
        found(&path, Some(name));
    }
}

/// The parts of a list between commas that are not in braces.
fn branches<'t>(tokens: &'t [&'t str]) -> Vec<&'t [&'t str]> {
    let mut depth = 0;
    let split = tokens.split(|token| {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        *token == "," && depth == 0
    });
    split.filter(|part| !part.is_empty()).collect()
}

/// Every path of at least two segments.
fn paths(tokens: &[&str]) -> Vec<ModulePath> {
    let is_name = |token: &str| token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begin = at;
        at += 1;
        let starts_path = is_name(tokens[begin])
            && tokens.get(at) == Some(&"::")
            && (begin == 0 || !matches!(tokens[begin - 1], "::" | "."));
        if !starts_path {
            continue;
        }
        let mut path = vec![tokens[begin].to_owned()];
        while tokens.get(at) == Some(&"::") && tokens.get(at + 1).is_some_and(|name| is_name(name))
        {
            path.push(tokens[at + 1].to_owned());
            at += 2;
        }
        paths.push(path);
    }
    paths
}
