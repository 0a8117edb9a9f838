//! The region as a cluster: who holds which slots, and who may say so.
//!
//! A region is a handful of nodes. Each belongs to a *shard*: one primary, which takes the writes of the shard's slots,
//! and its replicas. Three questions have to be answered without ever being answered twice: who owns a slot, who is the
//! primary of a shard, and may that primary go on. This module holds the answers as pure state machines; the shell (the
//! crate `node`, in `cluster/`) moves their messages.
//!
//! # One truth
//! The [`ClusterMap`] is the replicated state of the region's Raft group. It changes by [`MapCommand`]s alone, each
//! counted by its [`Epoch`], so two nodes at the same epoch agree on everything in it. Nodes act on the map that they
//! have: a node that does not know of a change yet is at most wrong about where to send a client, never about what it
//! may do itself, because that hangs on a lease.
//!
//! # Leases
//! A primary takes writes only under a [`Lease`], which the Raft leader renews many times in its length. Before anyone
//! is promoted in its place, the leader lets that lease run out ([`Governor`]): so a region never has two primaries for
//! a slot, though clocks are compared nowhere. A lease counts from when the primary *asked*, the wait from when the
//! leader *answered*, and a leader that is new waits as long as any lease can be that a former one may have given.
//!
//! # Moves
//! Between two shards slots change hands a moment before the map says so, so that nobody waits for disks while neither side
//! may write: see [`Custody`].
//!
//! # Lives
//! A process starts with an empty memory. So a node has a [`Run`], greater at each start, and the map names the run
//! that a shard's primary holds its data in. A primary that crashed and is back within its lease is a different run: it
//! may not serve, and the replica that has the data is promoted instead. Each promotion gets an incarnation that no
//! stamp bears yet, so whoever goes on with less than there was never claims to have seen what it lost.
//!
//! # A node's own part
//! What a map makes of one node is its [`Assignment`]; from when until when it may act as that, its [`Tenure`]; where each
//! single request belongs meanwhile, its [`Routing`].
//!
//! # Other regions
//! Which there are is agreed on here as well ([`Regions`]), since gateways and primaries must not differ about it.
//!
//! # What is said
//! What nodes, gateways and operators ask of a node stands in [`control`]; what opens a connection on which data moves is an
//! [`Opening`], and who may open which is a matter of the [`Assignment`].
//!
//! # Failures
//! Gossip finds out who does not answer. A node that a majority of the shards suspects has failed; only then, and only
//! through the map, does the leader act.

mod assignment;
mod clocks;
mod command;
pub mod control;
mod custody;
pub mod gateways;
pub mod gossip;
mod governor;
mod id;
mod lease;
mod map;
mod opening;
mod owners;
pub mod placement;
mod progress;
mod regions;
mod routing;
mod tenure;
mod voters;

pub use assignment::{Assignment, Cargo, Life, Start, foreign, leaving};
pub use clocks::Clocks;
pub use command::{FoundShard, Founder, Joins, MapCommand, MapEvent, Refused};
pub use custody::{Answer, Custody, Keeping, MayNotGive, Offer};
pub use governor::{Governor, GovernorOptions, Held, Moment, Report, Standing};
pub use id::{Epoch, Id, NodeId, ParseIdError, Run, ShardId, Term};
pub use lease::Lease;
pub use map::{Addresses, ClusterMap, Health, Moving, Node, Role, Shard};
pub use opening::{Entrance, Opening, Purpose};
pub use progress::Progress;
pub use regions::{Peer, RegionChange, RegionRefused, Regions};
pub use routing::{Access, CrossSlot, Route, Routing, common_slot};
pub use tenure::{Holding, Tenure};
pub use voters::choose_voters;
