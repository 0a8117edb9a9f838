//! What nodes, gateways and operators ask of a node on the control channel.
//!
//! Everything is a call with one answer. A node that cannot answer because another must says which; who asked goes there.

use clock::Time;
use serde::{Deserialize, Serialize};

use super::{
    Answer, ClusterMap, Epoch, Founder, MapCommand, NodeId, Offer, Refused, Report, Standing, gateways::Attachment,
};

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Of every node to the leader, several times in the length of a lease.
    Report(Report),
    /// Of a replica to its primary: let me take your place.
    HandOver {
        /// The replica.
        to: NodeId,
    },
    /// Of a primary to its heir: I resign to you. Clients may come to you before the map does.
    Succeed,
    /// Of a gateway: let me in, and tell me what I do not know of the map.
    Attach(Attach),
    /// Of a mover to its target: wait until you know of the slots that were prepared at this epoch.
    Prepared {
        /// The epoch.
        at: Epoch,
    },
    /// Of a mover to its target: these slots are yours.
    Give(Offer),
    /// Of a node: what time is it?
    Time,
    /// Of an operator: who are you?
    Introduce,
    /// Of an operator: what does the map look like to you?
    Map,
    /// Of an operator: change the map. The first command founds the cluster.
    Change(MapCommand),
    /// Of an operator: make this replica the primary of its shard, without loss.
    FailOver {
        /// The replica.
        node: NodeId,
    },
}

/// What a gateway says to a node, several times a second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attach {
    /// Who it is.
    pub gateway: Attachment,
    /// The map that it has.
    pub epoch: Epoch,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Response {
    /// It is done.
    Done,
    /// What the leader says to a report.
    Standing(Standing),
    /// The gateway is let in; the map, if it has an older one.
    Attached(Option<Box<ClusterMap>>),
    /// What has become of slots that were given.
    Given(Answer),
    /// The time of the node, when the request came and when the answer left.
    Time {
        /// When it came.
        received: Time,
        /// When it left.
        answered: Time,
    },
    /// Who the node is.
    Introduction(Introduction),
    /// The map, as the node has it.
    Map(Box<ClusterMap>),
    /// Somebody else must do it; at this address of the bus, if that is known.
    NotHere(Option<String>),
    /// The map does not allow it.
    Refused(Refused),
    /// It cannot be done, and why.
    Failed(String),
}

/// Who a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Introduction {
    /// The node, its run, and where it is reached.
    pub node: Founder,
    /// The name of its region.
    pub region: String,
    /// The number of its region.
    pub region_id: u8,
    /// Whether it is in a cluster already.
    pub is_founded: bool,
    /// How many keys it holds.
    pub keys: u64,
}
