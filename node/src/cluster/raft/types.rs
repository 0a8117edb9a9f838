//! What openraft is told about our types, and short names for what it calls at length.

use std::fmt;

use node_core::cluster::{Id, MapCommand, MapEvent, NodeId, Refused};
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// A group that replicates the cluster's map.
    pub(crate) Types:
        D = Proposal,
        R = Applied,
        Node = Member,
        SnapshotData = Vec<u8>,
);

/// A command as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// What is to change.
    pub(crate) command: MapCommand,
    /// The term that it is for, if it is for one: what a leader has decided in its term is of no use in another.
    pub(crate) term: Option<u64>,
}

/// What a log entry has come to; `None` of those that are Raft's own.
pub(crate) type Applied = Option<Outcome>;

/// What a command has come to.
pub(crate) type Outcome = Result<MapEvent, Refused>;

/// A node as the group knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Its name; the group itself goes by [`NodeId::raft_number`].
    pub(crate) id: NodeId,
    /// Where its bus was reached when it became a member. It may have moved: see [`Addresses`](super::Addresses).
    pub(crate) bus: String,
}

/// Nobody. openraft asks for it, and uses it only in tests of storage.
impl Default for Member {
    fn default() -> Self {
        Self { id: NodeId(Id::from_bytes([0; Id::BYTES])), bus: String::new() }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.id, self.bus)
    }
}

pub(crate) type Number = u64;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<Number>;
pub(crate) type Vote = openraft::Vote<Number>;
pub(crate) type Membership = openraft::StoredMembership<Number, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<Number, Member>;
pub(crate) type Snapshot = openraft::Snapshot<Types>;
pub(crate) type StorageError = openraft::StorageError<Number>;
