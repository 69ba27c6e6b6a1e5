//! Whole-engine simulation tests.
