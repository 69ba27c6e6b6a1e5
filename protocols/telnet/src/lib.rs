//! Sans-IO telnet codec (NVT, options) and its event types.
