//! Where the servers' binaries are: this file owns the search for them, and whether they are instrumented.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the binary to test: what `MEGAMUX_BIN` names, else the release build next to this test's own, made anew
/// so that it is not an old one.
pub(crate) fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match (instrumented(), std::env::var_os("MEGAMUX_BIN")) {
        (Some(folder), _) => folder.join("megamux"),
        (None, Some(path)) => PathBuf::from(path),
        (None, None) => build(),
    })
}

/// Where a server of this package is that cargo built at `path`.
pub(crate) fn of_tests(path: &Path) -> PathBuf {
    let name = path.file_name().expect("cargo built a file");
    instrumented().map_or_else(|| path.to_path_buf(), |folder| folder.join(name))
}

/// The folder with servers that watch their own memory, if such are to be tested: `MEGAMUX_INSTRUMENTED` names it. What
/// they take of the machine says nothing of the released ones.
pub(crate) fn instrumented() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(|| std::env::var_os("MEGAMUX_INSTRUMENTED").map(PathBuf::from)).as_deref()
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
