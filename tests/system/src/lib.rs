//! System tests: the released binary over real sockets.
