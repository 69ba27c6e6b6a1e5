//! The developer's loop: setup, check, test, tidy, bench.
fn main() {}
