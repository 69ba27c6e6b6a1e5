//! `cargo xtask tidy`: it owns which files and packages are held against which house rule, and how a breach is told.
//!
//! A rule is a function from text to problems and touches no file, so that each has tests on tiny inputs. A problem says
//! where it is and what to do about it.

mod docs;
mod leftovers;
mod licences;
mod ratchet;
mod shape;
mod source;
mod unsafety;
mod walls;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::metadata::{self, Metadata};
use crate::shell::root;
use source::Source;

/// A breach of a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    path: String,
    line: usize,
    what: String,
}

impl Problem {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.into(), line, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

pub fn run() -> Result<()> {
    let root = root();
    let metadata = metadata::read()?;
    let mut problems = walls::check(&metadata);
    problems.extend(licences::check(&metadata));
    problems.extend(crate_roots(&metadata)?);
    problems.extend(files(&root)?);
    if problems.is_empty() {
        return Ok(());
    }
    problems.sort();
    for problem in &problems {
        println!("{problem}");
    }
    bail!("house rules broken: {}", problems.len());
}

/// The roots of protocols and services must forbid unsafe code, not only happen to have none.
fn crate_roots(metadata: &Metadata) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for package in metadata.members() {
        if !unsafety::must_forbid(&metadata.folder(package)) {
            continue;
        }
        for target in &package.targets {
            if target.kind.iter().any(|kind| kind == "lib" || kind == "bin") {
                let path = target.src_path.strip_prefix(&metadata.workspace_root).unwrap_or(&target.src_path);
                let source = Source::parse(&path.to_string_lossy(), &read(&target.src_path)?);
                problems.extend(unsafety::check_root(&source));
            }
        }
    }
    Ok(problems)
}

fn files(root: &Path) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let mut sizes = Vec::new();
    let mut functions = HashSet::new();
    let mut documents = Vec::new();
    for path in walk(root)? {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let kind = path.extension().and_then(|extension| extension.to_str());
        if name != ".ci/run" && !matches!(kind, Some("rs" | "md" | "toml" | "sh" | "py")) {
            continue;
        }
        let text = read(&path)?;
        problems.extend(shape::whitespace(&name, &text));
        match kind {
            Some("rs") => {
                let source = Source::parse(&name, &text);
                problems.extend(shape::header(&source));
                problems.extend(unsafety::check(&source));
                problems.extend(leftovers::check(&source));
                sizes.push((name, text.lines().count()));
                functions.extend(source.functions());
            }
            Some("md") => {
                problems.extend(docs::check(&name, &text, &|path| root.join(path).exists()));
                documents.push((name, text));
            }
            _ => (),
        }
    }
    for (name, text) in &documents {
        problems.extend(docs::check_tests(name, text, &|test| functions.contains(test)));
    }
    problems.extend(ratchet::check(&read(&root.join(ratchet::LIST))?, &sizes));
    Ok(problems)
}

/// What is built, downloaded, or input to a fuzzer is nobody's prose. Of the hidden folders, those we write ourselves count.
fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let foreign = matches!(&*name, "target" | "corpus" | "artifacts" | "__pycache__" | "node_modules");
        let hidden = name.starts_with('.') && !matches!(&*name, ".ci" | ".cargo" | ".config" | ".github");
        let kind = entry.file_type()?;
        if foreign || hidden || kind.is_symlink() {
            continue;
        }
        if kind.is_dir() {
            files.extend(walk(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
