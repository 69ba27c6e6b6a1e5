//! Criterion micro benches.
