//! The Redis serialization protocol, both versions: requests in, replies out.
//!
//! * [`request`] reads what clients send, without copying and without allocating per request;
//! * [`reply`] writes what the server answers, in RESP2 or RESP3 as the connection has agreed;
//! * [`value`] reads replies back into owned values, for tests and for our own clients.
//!
//! All three are pure: bytes in, bytes or values out. Sockets, timeouts and buffers belong to the shell. The protocol
//! is described in the Redis documentation under "Redis serialization protocol specification".

pub mod args;
mod inline;
pub mod reply;
pub mod request;
pub mod value;

pub use args::{Args, ArgsBuf};
pub use reply::{Protocol, Reply};
pub use request::{Limits, Parsed, Parser, ProtocolError, keys_ahead};
pub use value::Value;
