//! Tests that cannot run here, and how they say so: loudly, once, and in a file that `cargo xtask test` counts.
//!
//! It depends on nothing, so that every package's tests may use it. It must not decide what is missing: that is the test's.

use std::fs::File;
use std::io::Write;

/// Says that this test cannot run here. The caller returns.
pub fn skip(reason: &str) {
    let test = std::thread::current();
    let test = test.name().unwrap_or("test");
    if std::env::var("MEGAMUX_REQUIRE_ALL").is_ok_and(|value| value == "1") {
        panic!("required, but {test} skips: {reason}");
    }
    eprintln!("SKIP: {reason}");
    if let Some(path) = std::env::var_os("MEGAMUX_SKIP_FILE") {
        // One write of one line: test processes append at the same time.
        let line = format!("{test}: {reason}\n");
        let file = File::options().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the skip file can be written");
    }
}
