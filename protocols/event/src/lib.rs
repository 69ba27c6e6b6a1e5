//! What an event is: id, version, encode, decode.
