//! `cargo xtask loom`: it owns how the engine's models are built and run.
//!
//! The models are the engine's tests with `loom` in their path, compiled under our own `--cfg megamux_loom` into a build
//! directory of their own, so that switching between them and an ordinary build rebuilds nothing.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::counts::{self, Counts};
use crate::metadata;
use crate::shell::{cargo, listen, root};

/// Loom explores every interleaving with at most this many preemptions: published experience is that two or three find
/// nearly all bugs, and each further one multiplies the time.
const MAX_PREEMPTIONS: &str = "3";

pub fn run() -> Result<()> {
    if !has_models()? {
        println!("the engine has no loom models");
        return Ok(());
    }
    run_models().map(|_| ())
}

/// Whether any file of the engine is compiled differently for loom.
pub fn has_models() -> Result<bool> {
    mentions(&root().join("engine/src"), "megamux_loom")
}

/// Runs every model, and fails when there are none: then a rename has hidden them from us.
pub fn run_models() -> Result<Counts> {
    let folder = metadata::target_directory()?.join("loom");
    let mut command = cargo(&["test", "-p", "megamux-engine", "--lib", "--release"]);
    command.arg("--target-dir").arg(folder).arg("loom");
    command.env("RUSTFLAGS", "--cfg megamux_loom");
    // Models want speed and assertions; nobody ships them, so whole-program optimisation is time lost.
    command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    command.env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true");
    if std::env::var_os("LOOM_MAX_PREEMPTIONS").is_none() {
        command.env("LOOM_MAX_PREEMPTIONS", MAX_PREEMPTIONS);
    }
    let heard = listen(command)?;
    let counts = counts::cargo_test(&heard.text).context("the models did not run")?;
    if !heard.success || counts.failed > 0 {
        bail!("{} models failed", counts.failed);
    }
    if counts.passed == 0 {
        bail!("no test of the engine has `loom` in its path, though the sources mention megamux_loom");
    }
    Ok(counts)
}

fn mentions(folder: &Path, word: &str) -> Result<bool> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let found = if path.is_dir() {
            mentions(&path, word)?
        } else {
            String::from_utf8_lossy(&std::fs::read(&path)?).contains(word)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}
