//! The megamux server: assembles engine, protocols and services.
fn main() {}
