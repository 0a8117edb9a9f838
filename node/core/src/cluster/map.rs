//! The cluster map: nodes, shards, roles, slot owners, migrations, and an epoch that counts their changes.
//!
//! A deterministic state machine without time: [`ClusterMap::apply`] takes one [`MapCommand`] and either does all of it
//! and counts the epoch up, or refuses and changes nothing. Raft sees to it that all nodes apply the same commands in the
//! same order.
//!
//! Invariants, each kept by the shape of the types where that is possible:
//! - A slot has one owner or, before the founding, none: owners stand by slots.
//! - A slot that moves has an owner, and another shard as its target.
//! - A move has one beginning, and begins anew when either shard gets another primary: what was taken in before it began
//!   counts for nothing, so a [`Prepare`](MapCommand::Prepare) that speaks of an earlier beginning is refused.
//! - What was prepared is settled once, as a whole: it has moved, or it is void, also because the target got another
//!   primary. If the owner did, it is [in doubt](Moving::is_in_doubt) until that.
//! - The primary of a shard is a node of that shard; all its other nodes are replicas.
//! - No two shards have the same incarnation, and no two promotions within the 512 that can be told apart.

use std::collections::BTreeMap;

use clock::{Incarnation, Origin, RegionId, Time};
use serde::{Deserialize, Serialize};

use super::{
    command::{FoundShard, Founder, Joins, MapCommand, MapEvent, Refused},
    id::{Epoch, Id, NodeId, Run, ShardId},
    owners::Owners,
    regions::{RegionChange, Regions},
};
use crate::{
    limits::{NODES_MAX, WEIGHT_MAX},
    slot::{Slot, SlotRange, SlotSet},
};

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMap {
    epoch: Epoch,
    region: Option<RegionId>,
    nodes: BTreeMap<NodeId, Node>,
    shards: BTreeMap<ShardId, Shard>,
    owners: Owners,
    /// Slots that move.
    moves: BTreeMap<Slot, Moving>,
    /// The number of the next shard.
    next_shard: u16,
    /// The incarnation of the next promotion.
    next_incarnation: Incarnation,
    /// What was said of other regions.
    #[serde(default)]
    regions: Regions,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Where it is reached.
    pub addresses: Addresses,
    /// Its shard.
    pub shard: ShardId,
    /// Its latest start.
    pub run: Run,
    /// Whether it answers, as far as the cluster has agreed on.
    pub health: Health,
}

/// Where a node is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The host that clients and other nodes use: a name or an address.
    pub host: String,
    /// The port of clients; zero if there is none in plain text.
    pub port: u16,
    /// The port of clients over TLS; zero if there is none.
    pub tls_port: u16,
    /// The port of the other nodes: the bus.
    pub bus_port: u16,
}

impl Addresses {
    /// Where other nodes connect: `HOST:PORT`, with an IPv6 address in brackets.
    pub fn bus(&self) -> String {
        self.at(self.bus_port)
    }

    /// Where clients connect: `HOST:PORT`.
    pub fn redis(&self) -> String {
        self.at(self.client_port(false))
    }

    /// Where clients connect that use TLS: `HOST:PORT`.
    pub fn redis_over_tls(&self) -> String {
        self.at(self.client_port(true))
    }

    /// The port of clients that use TLS or do not, as far as there is one for them; else the other one.
    pub const fn client_port(&self, over_tls: bool) -> u16 {
        match (over_tls, self.port, self.tls_port) {
            (true, port, 0) => port,
            (false, 0, tls_port) | (true, _, tls_port) => tls_port,
            (false, port, _) => port,
        }
    }

    fn at(&self, port: u16) -> String {
        if self.host.contains(':') { format!("[{}]:{port}", self.host) } else { format!("{}:{port}", self.host) }
    }
}

/// What the cluster has agreed on about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// Nothing is known against it.
    Up,
    /// A majority of the primaries suspects it.
    Failed,
}

/// What a node is in its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes the writes.
    Primary,
    /// It follows the primary.
    Replica,
}

/// A primary, its replicas and the slots they hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its name for clients.
    pub label: Id,
    /// The node that takes the writes.
    pub primary: NodeId,
    /// The run of that node which holds the data; in another it may not serve.
    pub run: Run,
    /// Under which its writes are stamped.
    pub incarnation: Incarnation,
    /// The time that all stamps of that incarnation are above.
    pub birth: Time,
    /// When the primary became it: what Redis calls the configuration epoch.
    pub since: Epoch,
    /// It had all that its predecessor ever stamped when it became the primary.
    pub has_all: bool,
    /// Its share, in percent of a shard of ordinary size.
    pub weight: u16,
    /// Its present life begins by restamping what lies in the future: who takes the writes does that, and its replicas drop it.
    #[serde(default)]
    pub is_restamped: bool,
}

/// A slot on its way to another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// Where to.
    pub to: ShardId,
    /// When it began, or began anew because one of the two shards got another primary.
    pub since: Epoch,
    /// When it was prepared: since then the owner's primary may give it to the target's.
    pub prepared: Option<Epoch>,
}

impl Moving {
    /// Whether it was prepared and the owner got another primary since then, which cannot know whether the former one has
    /// given it.
    pub fn is_in_doubt(&self) -> bool {
        self.prepared.is_some_and(|prepared| prepared < self.since)
    }
}

impl ClusterMap {
    /// Before the founding.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often the map has changed; zero before the founding.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether there is a cluster.
    pub const fn is_founded(&self) -> bool {
        self.region.is_some()
    }

    /// The region's number, once there is a cluster.
    pub const fn region(&self) -> Option<RegionId> {
        self.region
    }

    /// What was said of other regions.
    pub const fn regions(&self) -> &Regions {
        &self.regions
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// All nodes, in the order of their ids.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// A shard.
    pub fn shard(&self, id: ShardId) -> Option<&Shard> {
        self.shards.get(&id)
    }

    /// All shards, in the order of their numbers.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = (ShardId, &Shard)> {
        self.shards.iter().map(|(id, shard)| (*id, shard))
    }

    /// The shard that a node belongs to.
    pub fn shard_of(&self, node: NodeId) -> Option<(ShardId, &Shard)> {
        let id = self.nodes.get(&node)?.shard;
        Some((id, self.shards.get(&id)?))
    }

    /// What a node is.
    pub fn role(&self, node: NodeId) -> Option<Role> {
        let (_, shard) = self.shard_of(node)?;
        Some(if shard.primary == node { Role::Primary } else { Role::Replica })
    }

    /// The replicas of a shard, in the order of their ids.
    pub fn replicas(&self, shard: ShardId) -> impl Iterator<Item = (NodeId, &Node)> {
        let primary = self.shards.get(&shard).map(|shard| shard.primary);
        self.nodes().filter(move |(id, node)| node.shard == shard && Some(*id) != primary)
    }

    /// The shard that owns a slot.
    pub fn owner(&self, slot: Slot) -> Option<ShardId> {
        self.owners.of(slot)
    }

    /// The runs of neighbouring slots that have one owner, or none, in order.
    pub fn owners(&self) -> impl Iterator<Item = (SlotRange, Option<ShardId>)> {
        self.owners.runs()
    }

    /// The slots of a shard.
    pub fn slots(&self, shard: ShardId) -> SlotSet {
        self.owners.slots(Some(shard))
    }

    /// Where a slot is moving to, if it does.
    pub fn target(&self, slot: Slot) -> Option<ShardId> {
        self.moving(slot).map(|moving| moving.to)
    }

    /// How a slot moves, if it does.
    pub fn moving(&self, slot: Slot) -> Option<Moving> {
        self.moves.get(&slot).copied()
    }

    /// All slots that move, with their targets.
    pub fn moves(&self) -> impl ExactSizeIterator<Item = (Slot, ShardId)> {
        self.moves.iter().map(|(slot, moving)| (*slot, moving.to))
    }

    /// How each slot moves that does, in the order of their numbers.
    pub fn moving_slots(&self) -> impl Iterator<Item = (Slot, Moving)> {
        self.moves.iter().map(|(slot, moving)| (*slot, *moving))
    }

    /// How those slots move that were prepared at this epoch, until that is settled.
    pub fn moves_prepared(&self, at: Epoch) -> impl Iterator<Item = (Slot, Moving)> {
        self.moving_slots().filter(move |(_, moving)| moving.prepared == Some(at))
    }

    /// The slots that were prepared at this epoch, until that is settled.
    pub fn prepared(&self, at: Epoch) -> SlotSet {
        self.moves_prepared(at).map(|(slot, _)| slot).collect()
    }

    /// Who stamps the writes of a shard.
    pub fn origin(&self, shard: ShardId) -> Option<Origin> {
        Some(Origin::new(self.region?, self.shards.get(&shard)?.incarnation))
    }

    /// Does all that `command` says, or nothing of it.
    ///
    /// # Errors
    /// [`Refused`]; then the map is as it was.
    pub fn apply(&mut self, command: &MapCommand) -> Result<MapEvent, Refused> {
        let event = match command {
            MapCommand::Found { region, shards, at } => self.found(*region, shards, *at),
            _ if !self.is_founded() => Err(Refused::NotFounded),
            MapCommand::AddNode { node, joins, at } => self.add_node(node, joins, *at),
            MapCommand::RemoveNode { node } => self.remove_node(*node),
            MapCommand::Started { node } => self.started(node),
            MapCommand::Failed { node, run } => self.set_health(*node, *run, Health::Failed),
            MapCommand::Recovered { node, run } => self.set_health(*node, *run, Health::Up),
            MapCommand::Promote { shard, node, run, former, has_all, at } => {
                self.promote(*shard, (*node, *run), *former, *has_all, *at)
            }
            MapCommand::Move { slots, to } => self.begin_move(slots, *to),
            MapCommand::Prepare { slots, from, to, since } => self.prepare(slots, *from, *to, *since),
            MapCommand::Moved { prepared } => self.end_move(*prepared),
            MapCommand::Unprepare { prepared } => self.unprepare(*prepared),
            MapCommand::StopMove { slots } => self.stop_move(slots),
            MapCommand::SetWeight { shard, weight } => self.set_weight(*shard, *weight),
            MapCommand::SetRegion(change) => self.set_region(change),
            MapCommand::Outlive { shard, incarnation, last } => self.outlive(*shard, *incarnation, *last),
            MapCommand::Restamp { shard, incarnation, at } => self.restamp(*shard, *incarnation, *at),
        }?;
        self.epoch = self.epoch.next();
        Ok(event)
    }

    fn found(&mut self, region: RegionId, shards: &[FoundShard], at: Time) -> Result<MapEvent, Refused> {
        if self.is_founded() {
            return Err(Refused::Exists(self.epoch));
        }
        let mut new = Self { region: Some(region), ..Self::default() };
        for FoundShard { label, nodes, slots, weight } in shards {
            let (primary, replicas) = nodes.split_first().ok_or(Refused::Layout)?;
            let shard = new.new_shard(primary, *label, *weight, at)?;
            for node in replicas {
                new.new_node(node, shard).map_err(|_| Refused::Layout)?;
            }
            let mut twice = slots.clone();
            twice.subtract(&new.owners.slots(None));
            if let Some(slot) = twice.iter().next() {
                return Err(Refused::Owner(slot));
            }
            new.owners.give(slots, shard);
        }
        match new.owners.slots(None).iter().next() {
            Some(slot) => Err(Refused::Owner(slot)),
            None => {
                *self = new;
                Ok(MapEvent::Founded)
            }
        }
    }

    fn set_region(&mut self, change: &RegionChange) -> Result<MapEvent, Refused> {
        let own = self.region.ok_or(Refused::NotFounded)?;
        self.regions.apply(own, change)?;
        Ok(MapEvent::Regions)
    }

    fn outlive(&mut self, id: ShardId, incarnation: Incarnation, last: Incarnation) -> Result<MapEvent, Refused> {
        let is_ours = |(other, shard): (ShardId, &Shard)| other != id && shard.incarnation == last;
        let shard = self.shards.get(&id).ok_or(Refused::UnknownShard(id))?;
        if shard.incarnation != incarnation || incarnation.is_after(last) || self.shards().any(is_ours) {
            return Err(Refused::Outdated);
        }
        if !self.next_incarnation.is_after(last) {
            self.next_incarnation = last.next();
        }
        let incarnation = self.take_incarnation();
        // The primary is the same, and so is all that has begun with it.
        self.shards.get_mut(&id).ok_or(Refused::UnknownShard(id))?.incarnation = incarnation;
        Ok(MapEvent::Outlived(id))
    }

    fn restamp(&mut self, id: ShardId, incarnation: Incarnation, at: Time) -> Result<MapEvent, Refused> {
        let shard = self.shards.get(&id).ok_or(Refused::UnknownShard(id))?;
        if shard.incarnation != incarnation {
            return Err(Refused::Outdated);
        }
        // What arrived later would be of the future again.
        if self.moves().any(|(slot, to)| to == id || self.owner(slot) == Some(id)) {
            return Err(Refused::Moves);
        }
        let incarnation = self.take_incarnation();
        let shard = self.shards.get_mut(&id).ok_or(Refused::UnknownShard(id))?;
        (shard.incarnation, shard.birth, shard.is_restamped) = (incarnation, at, true);
        Ok(MapEvent::Restamped(id))
    }

    fn add_node(&mut self, node: &Founder, joins: &Joins, at: Time) -> Result<MapEvent, Refused> {
        match joins {
            Joins::Shard(shard) if !self.shards.contains_key(shard) => return Err(Refused::UnknownShard(*shard)),
            Joins::Shard(shard) => self.new_node(node, *shard)?,
            Joins::New { label, weight } => drop(self.new_shard(node, *label, *weight, at)?),
        }
        Ok(MapEvent::Added(node.id))
    }

    fn remove_node(&mut self, node: NodeId) -> Result<MapEvent, Refused> {
        let (id, shard) = self.shard_of(node).ok_or(Refused::UnknownNode(node))?;
        if shard.primary == node {
            let is_target = self.moves.values().any(|moving| moving.to == id);
            let owns = self.owners().any(|(_, owner)| owner == Some(id));
            if owns || is_target || self.replicas(id).next().is_some() {
                return Err(Refused::InUse(node));
            }
            self.shards.remove(&id);
        }
        self.nodes.remove(&node);
        Ok(MapEvent::Removed(node))
    }

    fn started(&mut self, started: &Founder) -> Result<MapEvent, Refused> {
        let node = self.nodes.get_mut(&started.id).ok_or(Refused::UnknownNode(started.id))?;
        let is_known = node.run == started.run && node.addresses == started.addresses;
        if is_known || started.run < node.run {
            return Err(Refused::Outdated);
        }
        (node.run, node.health) = (started.run, Health::Up);
        node.addresses.clone_from(&started.addresses);
        Ok(MapEvent::Started(started.id, started.run))
    }

    fn set_health(&mut self, id: NodeId, run: Run, health: Health) -> Result<MapEvent, Refused> {
        let node = self.nodes.get_mut(&id).ok_or(Refused::UnknownNode(id))?;
        if node.run != run || node.health == health {
            return Err(Refused::Outdated);
        }
        node.health = health;
        Ok(if health == Health::Failed { MapEvent::Failed(id) } else { MapEvent::Recovered(id) })
    }

    fn promote(
        &mut self,
        id: ShardId,
        (node, run): (NodeId, Run),
        former: (NodeId, Run),
        has_all: bool,
        at: Time,
    ) -> Result<MapEvent, Refused> {
        let member = self.nodes.get(&node).ok_or(Refused::UnknownNode(node))?;
        let shard = self.shards.get(&id).ok_or(Refused::UnknownShard(id))?;
        if (shard.primary, shard.run) != former || member.shard != id || member.run != run {
            return Err(Refused::Outdated);
        }
        let (incarnation, since) = (self.take_incarnation(), self.epoch.next());
        let shard = self.shards.get_mut(&id).ok_or(Refused::UnknownShard(id))?;
        (shard.primary, shard.run, shard.incarnation) = (node, run, incarnation);
        (shard.birth, shard.since, shard.has_all) = (at.max(shard.birth), since, has_all);
        // Who is promoted has done so as a replica, or does not know of it.
        shard.is_restamped = false;
        for (slot, moving) in &mut self.moves {
            if moving.to == id || self.owners.of(*slot) == Some(id) {
                moving.since = since;
            }
            if moving.to == id {
                // What the former primary may have taken was not confirmed, and its lease is over: it goes with it.
                moving.prepared = None;
            }
        }
        Ok(MapEvent::Promoted(id, node))
    }

    fn begin_move(&mut self, slots: &SlotSet, to: ShardId) -> Result<MapEvent, Refused> {
        if !self.shards.contains_key(&to) {
            return Err(Refused::UnknownShard(to));
        }
        let first = slots.iter().next().ok_or(Refused::NoSlots)?;
        let owner = self.owner(first);
        if owner == Some(to) || slots.iter().any(|slot| self.owner(slot) != owner || self.moves.contains_key(&slot)) {
            return Err(Refused::Outdated);
        }
        let since = self.epoch.next();
        self.moves.extend(slots.iter().map(|slot| (slot, Moving { to, since, prepared: None })));
        Ok(MapEvent::Moving(slots.clone(), to))
    }

    fn prepare(&mut self, slots: &SlotSet, from: ShardId, to: ShardId, since: Epoch) -> Result<MapEvent, Refused> {
        if slots.is_empty() {
            return Err(Refused::NoSlots);
        }
        let moving = Some(Moving { to, since, prepared: None });
        let moves = |slot| self.owner(slot) == Some(from) && self.moving(slot) == moving;
        if !self.holds_data(from) || !self.holds_data(to) || !slots.iter().all(moves) {
            return Err(Refused::Outdated);
        }
        let prepared = Some(self.epoch.next());
        self.moves.extend(slots.iter().map(|slot| (slot, Moving { to, since, prepared })));
        Ok(MapEvent::Prepared(slots.clone(), to))
    }

    fn end_move(&mut self, prepared: Epoch) -> Result<MapEvent, Refused> {
        let slots = self.prepared(prepared);
        let to = slots.iter().next().and_then(|slot| self.target(slot)).ok_or(Refused::Outdated)?;
        // A target that has started again has nothing. Of the owner nothing is needed any more.
        if !self.holds_data(to) {
            return Err(Refused::Outdated);
        }
        self.owners.give(&slots, to);
        slots.iter().for_each(|slot| _ = self.moves.remove(&slot));
        Ok(MapEvent::Moved(slots, to))
    }

    fn unprepare(&mut self, prepared: Epoch) -> Result<MapEvent, Refused> {
        let slots = self.prepared(prepared);
        if slots.is_empty() {
            return Err(Refused::Outdated);
        }
        self.moves
            .values_mut()
            .filter(|moving| moving.prepared == Some(prepared))
            .for_each(|moving| moving.prepared = None);
        Ok(MapEvent::Unprepared(slots))
    }

    /// Whether the primary of a shard is still the process that was promoted.
    fn holds_data(&self, shard: ShardId) -> bool {
        self.shards
            .get(&shard)
            .is_some_and(|shard| self.nodes.get(&shard.primary).is_some_and(|node| node.run == shard.run))
    }

    fn stop_move(&mut self, slots: &SlotSet) -> Result<MapEvent, Refused> {
        if !slots.iter().any(|slot| self.moves.contains_key(&slot)) {
            return Err(Refused::Outdated);
        }
        if slots.iter().any(|slot| self.moves.get(&slot).is_some_and(|moving| moving.prepared.is_some())) {
            return Err(Refused::Prepared);
        }
        slots.iter().for_each(|slot| _ = self.moves.remove(&slot));
        Ok(MapEvent::Stays(slots.clone()))
    }

    fn set_weight(&mut self, id: ShardId, weight: u16) -> Result<MapEvent, Refused> {
        check_weight(weight)?;
        self.shards.get_mut(&id).ok_or(Refused::UnknownShard(id))?.weight = weight;
        Ok(MapEvent::Weighed(id))
    }

    /// Adds a node as the primary of a new shard without slots. Changes nothing if it fails.
    fn new_shard(&mut self, primary: &Founder, label: Id, weight: u16, at: Time) -> Result<ShardId, Refused> {
        check_weight(weight)?;
        let id = ShardId(self.next_shard);
        let next_shard = self.next_shard.checked_add(1).ok_or(Refused::TooManyShards)?;
        self.new_node(primary, id)?;
        self.next_shard = next_shard;
        let (incarnation, since) = (self.take_incarnation(), self.epoch.next());
        let (run, has_all) = (primary.run, false);
        let (primary, birth, is_restamped) = (primary.id, at, false);
        let shard = Shard { label, primary, run, incarnation, birth, since, has_all, weight, is_restamped };
        self.shards.insert(id, shard);
        Ok(id)
    }

    fn new_node(&mut self, node: &Founder, shard: ShardId) -> Result<(), Refused> {
        if self.nodes.contains_key(&node.id) {
            return Err(Refused::KnownNode(node.id));
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(Refused::TooManyNodes(NODES_MAX));
        }
        let addresses = node.addresses.clone();
        self.nodes.insert(node.id, Node { addresses, shard, run: node.run, health: Health::Up });
        Ok(())
    }

    fn take_incarnation(&mut self) -> Incarnation {
        // Skips what a shard has kept while all the others went round: at most one for each shard.
        loop {
            let incarnation = self.next_incarnation;
            self.next_incarnation = incarnation.next();
            if self.shards.values().all(|shard| shard.incarnation != incarnation) {
                return incarnation;
            }
        }
    }
}

// Or a promotion would find no incarnation that is free.
const _: () = assert!(NODES_MAX < Incarnation::COUNT as usize);

const fn check_weight(weight: u16) -> Result<(), Refused> {
    if weight == 0 || weight > WEIGHT_MAX { Err(Refused::Weight) } else { Ok(()) }
}

#[cfg(test)]
#[path = "map_tests.rs"]
mod tests;
