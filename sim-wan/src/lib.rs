//! A WAN on one machine: what lies between regions, made of delay, jitter, rate, loss and cuts.
//!
//! Regions that share a machine, in a lab or in a test, reach one another within microseconds and never lose sight of
//! one another. What a geo-replicated system has to prove is what it does when neither holds. So every connection
//! between two regions is led through this crate, which holds up each byte for as long as the distance asks, and breaks
//! links on request. It knows nothing of what crosses it.
//!
//! # The shape
//! There is one *line* per ordered pair of regions, shared by all connections that cross it: what goes from us-east to
//! eu-west waits in one queue, under one rate, and is cut by one switch; what comes back has a line of its own.
//!
//! - [`model`] is the WAN as a state machine: time and seed are arguments, output is polled. A simulation drives it in
//!   virtual time.
//! - `Wan` is the same between real sockets: routes that listen in one region and reach a target in another, and a
//!   control API over HTTP. It needs the feature `proxy`, which is on by default; without it neither tokio nor axum is
//!   compiled, and what remains cannot read a clock.
//! - [`topology`] is the file, [`presets`] are the distances that have a name, [`limits`] are all the bounds.
//!
//! # What the user of a connection sees
//! A TCP connection, with TCP's promises: bytes arrive in order, once, or not at all.
//!
//! | asked of a line | seen |
//! |---|---|
//! | delay, jitter | every byte that much later, never earlier; a handshake takes its round trip before any byte is let in |
//! | rate | shared by the connections; 100 ms of queue, then the sender is no longer read from |
//! | loss | a stall of one round trip within a stream, of that and 200 ms for a lone message; that connection alone |
//! | `blackhole` | silence from this moment on, for what is on its way too; after the cut all of it arrives, the first within 1 s and a round trip. Who sends into the cut for a quarter of an hour is reset; a handshake is given up after 127 s |
//! | `reset` | connections are reset at once, on both ends; new ones as soon as they are made |
//!
//! # What the way chosen avoids
//! A proxy per connection with a rate of its own makes ten connections ten times as fast. A bounded count of reads in
//! flight, instead of bytes, throttles small writes to a fraction of what the line should carry. A kernel queue (netem)
//! needs rights and modules that test machines lack, and drops in silence what exceeds it. Tokio's timers round up to
//! whole milliseconds. And a proxy that accepts and at once forwards makes handshakes free, which is just what a WAN
//! makes dear.
//!
//! # What it leaves out on purpose
//! UDP, reordering that TCP's user could see, packet headers, congestion windows and slow start; and acknowledgements as
//! traffic of their own: a line that is cut one way does not stop data on the other.

pub mod limits;
pub mod model;
pub mod presets;
#[cfg(feature = "proxy")]
mod proxy;
pub mod topology;

#[cfg(feature = "proxy")]
pub use proxy::{BoundRoute, StartError, Wan};
