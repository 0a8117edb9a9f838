//! What an operator orders, and how a primary hands over to its replica. How slots go from shard to shard is in `moves`.
//!
//! A primary holds the requests, waits until nobody writes, lets its replica catch up, lets go of its lease and resigns. It
//! does not while it has slots that the map does not give it yet.

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use node_core::{
    cluster::{ClusterMap, MapCommand, NodeId, Run, ShardId},
    slot::{Slot, SlotSet},
};
use rand::{
    RngExt,
    seq::{IndexedRandom, IteratorRandom},
};

use super::{Load, Region, What, clients::KEYS, process::Holder};

/// How long the other end may take to catch up while clients wait.
const CATCH_UP_MAX: Duration = Duration::from_millis(500);
/// How long a primary that has resigned waits for its successor.
const SUCCESSION_MAX: Duration = Duration::from_secs(2);
/// Slots that are moved at once, at most.
const SLOTS_MOVED: usize = 8;
/// Between two looks at an order that is being carried out.
const LOOK_EVERY_MS: u64 = 4;

/// How far an order is.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Turns that began before are waited for, until this moment of true time.
    Quiet(Duration),
    /// The other end is waited for: what there was at this moment of local time, and until when.
    CatchUp(Duration, Duration),
    /// The map is waited for, until then.
    Agreement(Duration),
}

/// A hand-over to a replica.
pub(crate) struct HandOver {
    to: (NodeId, Run),
    stage: Stage,
    former: (NodeId, Run),
}

impl Region {
    /// An operator does something: a hand-over, or a move of the slots of some keys.
    pub(crate) fn operate(&mut self) {
        let map = Rc::clone(self.raft.map());
        let shards: Vec<_> = self.shards().map(|(id, shard)| (id, shard.primary)).collect();
        let (id, primary) = shards[self.random.random_range(0..shards.len())];
        if self.random.random_ratio(1, 2) || shards.len() == 1 {
            let replicas: Vec<NodeId> = map.replicas(id).map(|(node, _)| node).collect();
            let Some(to) = replicas.choose(&mut self.random).copied() else { return };
            let index = self.index_of(primary);
            self.soon(index, 5, What::HandOver(to));
        } else {
            let (to, _) = shards[self.random.random_range(0..shards.len())];
            self.begin_move(to);
        }
    }

    fn begin_move(&mut self, to: ShardId) {
        let map = Rc::clone(self.raft.map());
        let slots = match self.load {
            Load::Registers => {
                let keys = self.random.random_range(1..=2);
                KEYS.sample(&mut self.random, keys).map(|key| Slot::of(key)).collect()
            }
            Load::Kinds { .. } => self.slots_of_one_shard(&map),
        };
        let owners: BTreeSet<_> = slots.iter().map(|slot| map.owner(slot)).collect();
        if owners.len() == 1 && slots.iter().all(|slot| map.target(slot).is_none()) {
            self.moved_last = slots.clone();
            self.append(None, MapCommand::Move { slots, to });
        }
    }

    /// Some of the slots of a shard: often those that were moved last, which come back then, or go on.
    fn slots_of_one_shard(&mut self, map: &ClusterMap) -> SlotSet {
        if !self.moved_last.is_empty() && self.random.random_ratio(1, 2) {
            return self.moved_last.clone();
        }
        let used = self.load.slots();
        let Some(owner) = used.iter().choose(&mut self.random).map(|slot| map.owner(slot)) else {
            return SlotSet::new();
        };
        let alike: Vec<Slot> = used.iter().filter(|slot| map.owner(*slot) == owner).collect();
        let count = self.random.random_range(1..=SLOTS_MOVED);
        alike.sample(&mut self.random, count).copied().collect()
    }

    /// A primary is told to hand over.
    pub(crate) fn hand_over(&mut self, index: usize, to: NodeId) {
        let process = &mut self.processes[index];
        let serving = process.progress.serving();
        let Some(heir) = process.tenure.successor(&process.map, to, serving) else { return };
        let is_online = process.followers.get(&to).is_some_and(|follower| follower.is_online);
        if !is_online || process.hand_over.is_some() || process.tenure.resigns_to().is_some() {
            return;
        }
        if !process.custody.resigns() {
            return;
        }
        let (former, stage) = ((process.node.id, process.node.run), Stage::Quiet(process.turns_until.max(self.now)));
        process.hand_over = Some(HandOver { to: (to, heir.run), stage, former });
        // Also those that arrive meanwhile.
        process.hold(Holder::HandOver, SlotSet::all());
        let to = self.index_of(to);
        note!(self, "{index} hands over to {to}");
        self.soon(index, LOOK_EVERY_MS, What::LookAtHandOver);
    }

    /// Carries a hand-over on.
    pub(crate) fn look_at_hand_over(&mut self, index: usize) {
        let process = &self.processes[index];
        let local = process.clock.at(self.now).monotonic;
        let Some(HandOver { to, stage, former }) = &process.hand_over else { return };
        let (to, former) = (*to, *former);
        let next = match *stage {
            Stage::Quiet(until) if self.now >= until => Some(Stage::CatchUp(local, local + CATCH_UP_MAX)),
            Stage::CatchUp(moment, _) if self.has_caught_up(process.followers.get(&to.0), moment) => {
                note!(self, "{index} resigns");
                let process = &mut self.processes[index];
                process.tenure.resign(local, to);
                process.publish_lease();
                self.soon(index, 1, What::Report);
                Some(Stage::Agreement(local + SUCCESSION_MAX))
            }
            Stage::CatchUp(_, deadline) if local > deadline => None,
            Stage::Agreement(deadline) => {
                let shard = process.map.shard_of(process.node.id).map(|(_, shard)| (shard.primary, shard.run));
                (shard == Some(former) && local <= deadline).then_some(Stage::Agreement(deadline))
            }
            stage => Some(stage),
        };
        let process = &mut self.processes[index];
        match (next, &mut process.hand_over) {
            (Some(next), Some(hand_over)) => {
                hand_over.stage = next;
                self.soon(index, LOOK_EVERY_MS, What::LookAtHandOver);
            }
            _ => {
                process.hand_over = None;
                if process.tenure.resigns_to().is_some() {
                    process.tenure.take_back(local);
                    process.publish_lease();
                }
                process.custody.stays();
                process.let_go(Holder::HandOver);
                self.soon(index, 1, What::Report);
            }
        }
    }
}
