//! The assignment: what a map makes of one node.
//!
//! The map says who is the primary of what; here one node reads from it what it is to do, as a pure function of the map
//! and of the node's own run. The shell carries it out, in the order that `steward` names there.
//!
//! # Whoever lost its memory is nothing
//! The map names the run of a primary that holds the shard's data. If the node of that name is another run by now, it has
//! started again and is empty: it is [`Idle`](Assignment::Idle) until the governor has chosen who goes on. As a replica it
//! may follow at once, whatever its run.
//!
//! # Where a new primary's clock begins
//! Its stamps must lie above all that its predecessor issued. If it has all of that (the predecessor resigned in its
//! favour, and the map says so), each key's own stamp sees to it. Else the predecessor may have stamped what nobody has
//! received, by a clock that is ahead of ours by up to the drift that is allowed; what it stamped comes home one day, and
//! would win over what was written meanwhile. So the clock begins [past](Start::Past) that. It must not be the replica that
//! remembers a resignation which it was told of: that may have been taken back since. A life that begins by restamping begins
//! further on: past whatever any region may have stamped by a clock that is right, one that was just promoted among them.
//!
//! # Slots that are foreign
//! What is here of a slot that has another owner by now is dropped, or a later stay of that slot would begin with old
//! records. So is what an earlier stay has left of a slot that begins to arrive.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clock::{Incarnation, Origin, Time};
use serde::{Deserialize, Serialize};

use super::{
    id::{Epoch, NodeId, Run, ShardId},
    map::{ClusterMap, Moving, Shard},
};
use crate::{
    limits::RESTAMP_DRIFTS,
    slot::{Slot, SlotSet},
};

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Assignment {
    /// In no shard, or not yet allowed to hold what its shard holds.
    #[default]
    Idle,
    /// The primary of its shard.
    Primary {
        /// Who stamps its writes.
        life: Life,
        /// Where its clock begins.
        start: Start,
        /// Its replicas, and where they are reached.
        replicas: BTreeMap<NodeId, Arc<str>>,
        /// All nodes of the shard.
        members: Vec<NodeId>,
        /// Slots that move away: by the primary that takes them, where that is reached, and which.
        leaving: BTreeMap<NodeId, (Arc<str>, Cargo)>,
        /// Slots that arrive: by the primary that sends them, and which.
        arriving: BTreeMap<NodeId, Cargo>,
    },
    /// A replica.
    Replica {
        /// Who stamps the primary's writes.
        life: Life,
        /// The primary.
        primary: NodeId,
        /// Where it is reached.
        address: Arc<str>,
    },
}

/// An origin, and the time that all its stamps are above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Who stamps.
    pub origin: Origin,
    /// All its stamps are above.
    pub birth: Time,
    /// It begins by restamping what lies above its birth.
    pub is_restamped: bool,
}

/// Where the clock of a new primary begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Now: nobody before it has stamped anything that it does not have.
    Now,
    /// Past anything that the former primary can have stamped, by a clock that is ahead of ours by no more than this.
    Past(Duration),
}

/// Slots that move together: from one shard to another, since the same change of the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cargo {
    /// Which.
    pub slots: SlotSet,
    /// Since when.
    pub since: Epoch,
}

impl Assignment {
    /// What a map makes of the node `me` in this run, in a region whose clocks differ by no more than `max_drift`.
    pub fn of(map: &ClusterMap, me: NodeId, run: Run, max_drift: Duration) -> Self {
        let Some((id, shard)) = map.shard_of(me) else { return Self::Idle };
        let Some(origin) = map.origin(id) else { return Self::Idle };
        let life = Life { origin, birth: shard.birth, is_restamped: shard.is_restamped };
        let bus = |node: NodeId| map.node(node).map(|node| Arc::from(node.addresses.bus()));
        if shard.primary != me {
            let primary = shard.primary;
            return bus(primary).map_or(Self::Idle, |address| Self::Replica { life, primary, address });
        }
        if shard.run != run {
            return Self::Idle;
        }
        let reached = |(node, cargo)| Some((node, (bus(node)?, cargo)));
        Self::Primary {
            life,
            start: start(shard, max_drift),
            replicas: map.replicas(id).map(|(node, known)| (node, known.addresses.bus().into())).collect(),
            members: map.nodes().filter(|(_, node)| node.shard == id).map(|(node, _)| node).collect(),
            leaving: leaving(map, id).into_iter().filter_map(reached).collect(),
            arriving: arriving(map, id),
        }
    }

    /// The incarnation under which the node is to write, if it is to.
    pub const fn incarnation(&self) -> Option<Incarnation> {
        match self {
            Self::Primary { life, .. } => Some(life.origin.incarnation()),
            Self::Idle | Self::Replica { .. } => None,
        }
    }
}

fn start(shard: &Shard, max_drift: Duration) -> Start {
    match shard {
        Shard { is_restamped: true, .. } => Start::Past(max_drift.saturating_mul(RESTAMP_DRIFTS)),
        Shard { has_all: true, .. } => Start::Now,
        _ => Start::Past(max_drift),
    }
}

impl Start {
    /// The time above which the clock begins, if it is `now`.
    pub fn at(self, now: Time) -> Time {
        match self {
            Self::Now => now,
            Self::Past(drift) => now.after(drift),
        }
    }
}

/// The slots of which the node `me` has to drop what it has when the second map takes the place of the first.
pub fn foreign(former: &ClusterMap, map: &ClusterMap, me: NodeId) -> SlotSet {
    let shard = |map: &ClusterMap| map.shard_of(me).map(|(id, _)| id);
    let (Some(was), is) = (shard(former), shard(map)) else { return SlotSet::new() };
    let mut foreign = former.slots(was);
    if let Some(is) = is {
        foreign.subtract(&map.slots(is));
        let begins_to_arrive = |(slot, to): &(Slot, ShardId)| *to == is && former.target(*slot) != Some(is);
        foreign.extend(map.moves().filter(begins_to_arrive).map(|(slot, _)| slot));
    }
    foreign
}

/// The slots that move away from a shard, by the primaries that take them: to each, those that began to move first.
pub fn leaving(map: &ClusterMap, from: ShardId) -> BTreeMap<NodeId, Cargo> {
    cargoes(map, |owner, to| (owner == from).then_some(to))
}

/// The slots that arrive at a shard, by the primaries that send them: from each, those that began to move first.
fn arriving(map: &ClusterMap, at: ShardId) -> BTreeMap<NodeId, Cargo> {
    cargoes(map, |owner, to| (to == at).then_some(owner))
}

/// The moves that have to do with a shard, by the primary at the other end. What is in doubt is fed by nobody: its target may
/// have it already.
fn cargoes(map: &ClusterMap, other_end: impl Fn(ShardId, ShardId) -> Option<ShardId>) -> BTreeMap<NodeId, Cargo> {
    let mut cargoes: BTreeMap<NodeId, Cargo> = BTreeMap::new();
    for (slot, to) in map.moves() {
        let Some(Moving { since, .. }) = map.moving(slot).filter(|moving| !moving.is_in_doubt()) else { continue };
        let other = map.owner(slot).and_then(|owner| other_end(owner, to)).and_then(|other| map.shard(other));
        let Some(primary) = other.map(|shard| shard.primary) else { continue };
        let cargo = cargoes.entry(primary).or_insert_with(|| Cargo { slots: SlotSet::new(), since });
        if since < cargo.since {
            *cargo = Cargo { slots: SlotSet::new(), since };
        }
        if since == cargo.since {
            cargo.slots.insert(slot);
        }
    }
    cargoes
}

#[cfg(test)]
#[path = "assignment_tests.rs"]
mod tests;
