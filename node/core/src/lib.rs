//! The pure heart of a Meridian node: no sockets, no tokio, no reading of clocks, no dice.
//!
//! - [`slot`]: the 16,384 parts of the key space.
//! - [`store`]: records, merge, stripes, the log and the feed; start reading there.
//! - [`limits`]: what is bounded, and what happens at each bound.

pub mod limits;
pub mod slot;
pub mod store;
