//! What may happen to the map, and what came of it.

use clock::{Incarnation, RegionId, Time};
use serde::{Deserialize, Serialize};

use super::{
    id::{Epoch, Id, NodeId, Run, ShardId},
    map::Addresses,
    regions::{RegionChange, RegionRefused},
};
use crate::slot::{Slot, SlotSet};

/// A change of the map: an entry of the Raft log.
///
/// Each names what it supposes, so that one which comes late, or twice, is refused and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapCommand {
    /// The first of all: who is there, and what each holds.
    Found {
        /// The region's number.
        region: RegionId,
        /// Each shard with its nodes, primary first, and its slots. Together they hold every slot once.
        shards: Vec<FoundShard>,
        /// When; all stamps of the first incarnations are above.
        at: Time,
    },
    /// A node joins.
    AddNode {
        /// The node.
        node: Founder,
        /// As what.
        joins: Joins,
        /// When.
        at: Time,
    },
    /// A node leaves for good. It must hold nothing: a replica, or a primary without slots and replicas, whose shard goes
    /// with it.
    RemoveNode {
        /// The node.
        node: NodeId,
    },
    /// A process has started as this node, with an empty memory.
    Started {
        /// The node, its run and where it is reached now.
        node: Founder,
    },
    /// A majority of the primaries suspects this run of the node.
    Failed {
        /// The node.
        node: NodeId,
        /// The run that does not answer.
        run: Run,
    },
    /// A node that had failed answers.
    Recovered {
        /// The node.
        node: NodeId,
        /// The run that answers.
        run: Run,
    },
    /// A node becomes the primary of its shard, or goes on as it in a new run, under a new incarnation.
    Promote {
        /// The shard.
        shard: ShardId,
        /// The node.
        node: NodeId,
        /// The run that holds the data.
        run: Run,
        /// The primary whose place it takes, in the run that was the primary.
        former: (NodeId, Run),
        /// That primary has resigned in its favour: it has all that was stamped, and nothing more will be.
        has_all: bool,
        /// When; all its stamps are above.
        at: Time,
    },
    /// Slots begin to move. They stay with their owner until they have been [prepared](Self::Prepare) and given.
    Move {
        /// Which; all of one owner.
        slots: SlotSet,
        /// Where to.
        to: ShardId,
    },
    /// Slots that move may change hands: from here on the primary that owns them may give them, once and for all, to the one
    /// that awaits them, without asking anybody. See `custody`.
    Prepare {
        /// Which; those that began to move together, or some of them.
        slots: SlotSet,
        /// The owner.
        from: ShardId,
        /// The target.
        to: ShardId,
        /// Since when they have been moving, as the map had it when the target began to take them in.
        since: Epoch,
    },
    /// They have changed hands: the primary of the target has taken all that was prepared then.
    Moved {
        /// When they were prepared.
        prepared: Epoch,
    },
    /// They have not changed hands, and what was prepared then is void: who says so knows that nobody has taken them, and
    /// sees to it that nobody will.
    Unprepare {
        /// When they were prepared.
        prepared: Epoch,
    },
    /// Slots stop moving and stay with their owner. Not those that are prepared.
    StopMove {
        /// Which.
        slots: SlotSet,
    },
    /// A shard is given another share of the slots; the next rebalancing goes by it.
    SetWeight {
        /// The shard.
        shard: ShardId,
        /// In percent of a shard of ordinary size.
        weight: u16,
    },
    /// Another region comes or goes.
    SetRegion(RegionChange),
    /// Other regions know a life of this one that is not of this cluster: it was another's, founded before under the same number,
    /// or ended when the region was removed. A shard whose life is no younger goes on in one that is.
    Outlive {
        /// The shard.
        shard: ShardId,
        /// Its present life.
        incarnation: Incarnation,
        /// The one that others know.
        last: Incarnation,
    },
    /// A shard goes on in a younger life that begins by restamping what lies in the future. Not while slots of it move.
    Restamp {
        /// The shard.
        shard: ShardId,
        /// Its present life.
        incarnation: Incarnation,
        /// The birth of the next, which need not lie above that of the present one.
        at: Time,
    },
}

/// A shard as it is founded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundShard {
    /// Its name for clients.
    pub label: Id,
    /// Its nodes, the primary first.
    pub nodes: Vec<Founder>,
    /// Its slots.
    pub slots: SlotSet,
    /// Its share, in percent of a shard of ordinary size.
    pub weight: u16,
}

/// A node as it introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founder {
    /// Its name.
    pub id: NodeId,
    /// Its run.
    pub run: Run,
    /// Where it is reached.
    pub addresses: Addresses,
}

/// As what a node joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Joins {
    /// A replica of this shard.
    Shard(ShardId),
    /// The primary of a new shard, without slots.
    New {
        /// The shard's name for clients.
        label: Id,
        /// Its share, in percent of a shard of ordinary size.
        weight: u16,
    },
}

/// What a command has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapEvent {
    /// The cluster exists.
    Founded,
    /// A node has joined.
    Added(NodeId),
    /// A node has left.
    Removed(NodeId),
    /// A node has started again, empty.
    Started(NodeId, Run),
    /// A node has failed.
    Failed(NodeId),
    /// A node is back.
    Recovered(NodeId),
    /// A shard has another primary, or the same in another run.
    Promoted(ShardId, NodeId),
    /// These slots begin to move.
    Moving(SlotSet, ShardId),
    /// These slots may change hands.
    Prepared(SlotSet, ShardId),
    /// These slots are no longer prepared; they go on moving.
    Unprepared(SlotSet),
    /// These slots have another owner.
    Moved(SlotSet, ShardId),
    /// These slots stay.
    Stays(SlotSet),
    /// A shard's share was changed.
    Weighed(ShardId),
    /// Other regions have come or gone.
    Regions,
    /// A shard is in a younger life than others knew.
    Outlived(ShardId),
    /// A shard begins a life by restamping.
    Restamped(ShardId),
}

/// Why a command changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refused {
    /// The cluster exists already.
    #[error("the cluster exists already, at epoch {0}")]
    Exists(Epoch),
    /// There is no cluster yet.
    #[error("there is no cluster yet")]
    NotFounded,
    /// The node is unknown.
    #[error("node {0} is not in the cluster")]
    UnknownNode(NodeId),
    /// The node is known already.
    #[error("node {0} is in the cluster already")]
    KnownNode(NodeId),
    /// The shard is unknown.
    #[error("shard {0} is not in the cluster")]
    UnknownShard(ShardId),
    /// There are as many nodes as there may be.
    #[error("a cluster has at most {0} nodes")]
    TooManyNodes(usize),
    /// Each shard that ever was has a number of its own, and there are no more.
    #[error("no number is left for another shard")]
    TooManyShards,
    /// A shard needs a node, and a node one shard.
    #[error("each shard needs a node, and each node is in one shard")]
    Layout,
    /// A slot without an owner, or with two.
    #[error("slot {0} must have one owner")]
    Owner(Slot),
    /// The node still holds slots or has replicas.
    #[error("node {0} is a primary with slots or replicas")]
    InUse(NodeId),
    /// The command supposes what is no longer so.
    #[error("the map has changed meanwhile")]
    Outdated,
    /// Slots that may change hands at any moment.
    #[error("some of the slots are changing hands at this moment")]
    Prepared,
    /// Slots on their way to another shard, or from one.
    #[error("slots of the shard are moving")]
    Moves,
    /// A share of zero, or beyond what there may be.
    #[error("a weight is 1 to 10000 percent")]
    Weight,
    /// No slots are named.
    #[error("no slots are named")]
    NoSlots,
    /// Another region cannot be so.
    #[error(transparent)]
    Region(#[from] RegionRefused),
}
