//! The pure heart of a Meridian node: no sockets, no tokio, no reading of clocks, no dice.
//!
//! - [`resp`]: the Redis protocol, bytes to requests and replies to bytes.
//! - [`command_table`]: what is known of each command before it runs.
//! - [`command`]: what the commands on keys do.
//! - [`keyspace`]: how they reach the stripes.
//! - [`slot`]: the 16,384 parts of the key space.
//! - [`store`]: records, merge, stripes, the log and the feed; start reading there.
//! - [`cluster`]: the region as nodes and shards: the map, leases, failover, placement.
//! - [`limits`]: what is bounded, and what happens at each bound.

mod atomics;
pub mod cluster;
pub mod command;
pub mod command_table;
pub mod glob;
pub mod keyspace;
pub mod limits;
pub mod number;
pub mod resp;
pub mod slot;
pub mod store;
pub mod turns;
#[cfg(test)]
mod turns_tests;
