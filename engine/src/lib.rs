//! A thread-per-core io_uring socket engine: shards, buffers, handoff.
