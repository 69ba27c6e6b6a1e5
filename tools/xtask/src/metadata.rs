//! What cargo knows about the workspace: this file owns the part of `cargo metadata` that xtask reads.
//!
//! It only describes; rules about what it describes are tidy's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::shell::{cargo, root};

#[derive(Deserialize)]
pub struct Metadata {
    pub packages: Vec<Package>,
    pub workspace_members: Vec<String>,
    pub workspace_root: PathBuf,
    pub target_directory: PathBuf,
    /// Absent when only manifests were read.
    pub resolve: Option<Resolve>,
}

#[derive(Deserialize)]
pub struct Package {
    pub id: String,
    pub name: String,
    pub version: String,
    pub license: Option<String>,
    pub manifest_path: PathBuf,
    pub dependencies: Vec<Dependency>,
    pub targets: Vec<Target>,
}

/// A dependency as the manifest declares it, for any platform.
#[derive(Deserialize)]
pub struct Dependency {
    pub name: String,
    #[serde(default)]
    pub kind: Kind,
}

#[derive(Deserialize)]
pub struct Target {
    pub name: String,
    pub kind: Vec<String>,
    pub src_path: PathBuf,
}

#[derive(Deserialize)]
pub struct Resolve {
    pub nodes: Vec<Node>,
}

#[derive(Deserialize)]
pub struct Node {
    pub id: String,
    pub deps: Vec<NodeDep>,
}

#[derive(Deserialize)]
pub struct NodeDep {
    pub pkg: String,
    pub dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
pub struct DepKind {
    #[serde(default)]
    pub kind: Kind,
}

/// Cargo writes null for an ordinary dependency.
#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(from = "Option<String>")]
pub enum Kind {
    #[default]
    Normal,
    Build,
    Dev,
}

impl From<Option<String>> for Kind {
    fn from(kind: Option<String>) -> Self {
        match kind.as_deref() {
            Some("dev") => Kind::Dev,
            Some("build") => Kind::Build,
            _ => Kind::Normal,
        }
    }
}

impl Metadata {
    pub fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// `services/node`: where a member lives, from the root.
    pub fn folder(&self, package: &Package) -> String {
        let folder = package.manifest_path.parent().unwrap_or(Path::new(""));
        folder.strip_prefix(&self.workspace_root).unwrap_or(folder).to_string_lossy().into_owned()
    }
}

impl Package {
    pub fn targets_of_kind(&self, kind: &str) -> Vec<String> {
        let of_kind = |target: &&Target| target.kind.iter().any(|known| known == kind);
        self.targets.iter().filter(of_kind).map(|target| target.name.clone()).collect()
    }
}

/// The workspace with its resolved dependencies, for the platform megamux runs on.
pub fn read() -> Result<Metadata> {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    load(&["--filter-platform", &platform])
}

/// The one package of a manifest, without its dependencies.
pub fn read_manifest(manifest: &str) -> Result<Package> {
    let path = root().join(manifest);
    let metadata = load(&["--no-deps", "--manifest-path", manifest])?;
    let package = metadata.packages.into_iter().find(|package| package.manifest_path == path);
    package.with_context(|| format!("{manifest} is no package"))
}

/// Where builds go, whatever the environment and configuration say.
pub fn target_directory() -> Result<PathBuf> {
    Ok(load(&["--no-deps"])?.target_directory)
}

fn load(args: &[&str]) -> Result<Metadata> {
    let output = cargo(&["metadata", "--format-version", "1"]).args(args).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata changed its format")
}
