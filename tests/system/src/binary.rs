//! Where the server's binary is: this file owns the search for it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the binary to test: what `MEGAMUX_BIN` names, else the release build next to this test's own, made anew
/// so that it is not an old one.
pub(crate) fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("MEGAMUX_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    // TARGET/PROFILE/deps/test
    let target = test.ancestors().nth(3).expect("cargo put it there");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--release", "-p", "megamux"])
        .arg("--target-dir")
        .arg(target)
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the server does not build");
    target.join("release/megamux")
}
