//! A small sans-IO HTTP/1.1 server codec.
