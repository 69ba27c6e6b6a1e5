//! A key-value server on megamux's public API only.
fn main() {}
