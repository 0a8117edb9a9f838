//! Custody: slots that change hands between two primaries, a moment before the map says so.
//!
//! A slot that moves has an owner in the map, and for the last step of its move that is too slow an authority: to agree on a
//! change costs disk syncs on several nodes, and nobody may write to the slot meanwhile. So the map decides *before*: a move
//! is *prepared*, and from then on the owner's primary may give its slots to the target's, by one message. The map
//! confirms it afterwards.
//!
//! # Who may serve
//! While a move is prepared:
//! - The primary that owned the slots when that was, until it **gives** them. It cannot take that back.
//! - The target's primary at that time, from when it **takes** what it was given.
//! - Nobody else. A new primary of the owner does not know whether the former one has given: the move is *in doubt*, and
//!   it waits for the word of the target.
//!
//! # Who settles it
//! The target's primary, as it alone knows whether it has taken: it reports [`Moved`](MapCommand::Moved), or, if the move is
//! in doubt and it has not, [`Unprepare`](MapCommand::Unprepare), after which it refuses whatever may still be on its way.
//! A refusal is final, so the owner that hears of it goes on at once, and reports it too; and so it does if it gives up
//! giving ([`withdraw`](Custody::withdraw)). If the target's primary is replaced, its lease is over and
//! what it may have taken counts as lost with it: the map voids the move, and the owner, which still has all that it
//! gave, goes on. Therefore the target:
//! - reports only when its replicas have what it took, or its failure would lose what the owner still had;
//! - acknowledges to nobody meanwhile that a replica has a write ([`is_unconfirmed`](Custody::is_unconfirmed)), since
//!   that would be lost;
//! - does not resign meanwhile, since that would lose it for no reason.
//!
//! # What is taken must be whole
//! A feed that has to begin again clears what had arrived. So a target takes only what a feed has brought in full since it
//! began last, lets nothing in that comes late of a feed before ([`brings`](Custody::brings)): that would claim as seen what was cleared. And it
//! lets no feed begin again for what it has taken, also not when that is settled: the map may be ahead of what
//! is still connected by the one before it. The giver sees to it that nobody writes, and that all that
//! was written has been acknowledged, before it gives.
//!
//! # Slots that come back
//! Of the former target's last stamps nobody may know. An owner that goes on after that moves its clock past them first, as a
//! new primary does; until then the slots are held ([`returning`](Custody::returning)).
//!
//! # Rejected
//! To give without preparing, and let the target ask the map: then a giver that dies after the message leaves two who
//! may believe that the slots are theirs. To let whoever is promoted in the target's place go on with what it has: nobody knows
//! whether it has what the owner had.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    command::MapCommand,
    id::{Epoch, NodeId, Run, ShardId},
    map::ClusterMap,
};
use crate::slot::{Slot, SlotSet};

/// What one process has given and taken, and the map has not settled yet.
#[derive(Clone, Debug)]
pub struct Custody {
    me: NodeId,
    run: Run,
    /// By when they were prepared.
    given: BTreeMap<Epoch, Given>,
    taken: BTreeMap<Epoch, SlotSet>,
    /// By slot, when that was prepared which this process took of it last, and the map has settled since.
    settled: BTreeMap<Slot, Epoch>,
    /// Prepared moves that this process neither gives nor takes any more.
    void: BTreeSet<Epoch>,
    /// What feeds bring: by who sends it, and since when it moves.
    arriving: BTreeMap<(NodeId, Epoch), Arriving>,
    /// How many feeds have begun.
    feeds: u64,
    returning: SlotSet,
    is_resigning: bool,
}

#[derive(Clone, Debug)]
struct Given {
    slots: SlotSet,
    /// The target has answered.
    is_taken: bool,
}

#[derive(Clone, Debug)]
struct Arriving {
    /// The number of the feed that began last.
    feed: u64,
    slots: SlotSet,
    /// It has brought all that there was when it began.
    is_whole: bool,
}

/// What a giver says: these are yours now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// When they were prepared.
    pub prepared: Epoch,
    /// Who gives.
    pub from: NodeId,
    /// Who is to take.
    pub to: NodeId,
    /// The run of it that has everything.
    pub run: Run,
}

/// What a taker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// They are mine, and I serve.
    Taken,
    /// Not now, and not later either.
    Refused,
    /// That is settled, or was never for me: the map tells.
    AskTheMap,
}

/// What a node does about a slot beside what the map says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeping {
    /// What the map says.
    Plain,
    /// It was given, and nobody knows yet whether it was taken.
    Given,
    /// It was given and taken.
    Gone,
    /// It was taken.
    Taken,
    /// It comes back, and the clock has to be moved first.
    Returning,
}

/// The slots cannot be given: the map has changed, or they were withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the slots may not be given any more")]
pub struct MayNotGive;

impl Custody {
    /// Of a process that has just started.
    pub fn new(me: NodeId, run: Run) -> Self {
        Self {
            me,
            run,
            given: BTreeMap::new(),
            taken: BTreeMap::new(),
            settled: BTreeMap::new(),
            void: BTreeSet::new(),
            arriving: BTreeMap::new(),
            feeds: 0,
            returning: SlotSet::new(),
            is_resigning: false,
        }
    }

    /// What this node does about a slot beside what the map says.
    pub fn keeping(&self, slot: Slot) -> Keeping {
        let is_given = |given: &&Given| given.slots.contains(slot);
        match self.given.values().find(is_given) {
            Some(given) if given.is_taken => Keeping::Gone,
            Some(_) => Keeping::Given,
            None if self.taken.values().any(|taken| taken.contains(slot)) => Keeping::Taken,
            None if self.returning.contains(slot) => Keeping::Returning,
            None => Keeping::Plain,
        }
    }

    /// Whether there is any slot of which more is to be said than what the map says.
    pub fn is_plain(&self) -> bool {
        self.given.is_empty() && self.taken.is_empty() && self.returning.is_empty()
    }

    /// The sets of slots of which more is to be said than what the map says: in each all are alike, but for what others say of them.
    pub(super) fn sets(&self) -> impl Iterator<Item = &SlotSet> {
        self.given.values().map(|given| &given.slots).chain(self.taken.values()).chain([&self.returning])
    }

    /// The slots that are this node's by a map and by what it has given and taken: those that a flush concerns.
    pub fn own(&self, map: &ClusterMap) -> SlotSet {
        let mut own = self.shard(map).map(|shard| map.slots(shard)).unwrap_or_default();
        self.taken.values().for_each(|taken| own.add(taken));
        self.given.values().for_each(|given| own.subtract(&given.slots));
        own
    }

    /// Whether something was taken that the map does not confirm yet.
    pub fn is_unconfirmed(&self) -> bool {
        !self.taken.is_empty()
    }

    /// The slots that come back, as soon as the clock has been moved past what any former primary can have stamped.
    pub const fn returning(&self) -> &SlotSet {
        &self.returning
    }

    /// The clock has been moved for these.
    pub fn returned(&mut self, slots: &SlotSet) {
        slots.iter().for_each(|slot| _ = self.returning.remove(slot));
    }

    /// The map has changed.
    pub fn follow(&mut self, former: &ClusterMap, map: &ClusterMap) {
        let shard = self.primary_of(map);
        let is_open = |prepared: Epoch| map.moves_prepared(prepared).next().is_some();
        let is_back = |slot: Slot| {
            shard.is_some()
                && map.owner(slot) == shard
                && map.moving(slot).is_none_or(|moving| moving.prepared.is_none())
        };
        let in_doubt = former.moving_slots().filter(|(slot, moving)| moving.is_in_doubt() && is_back(*slot));
        let in_doubt = in_doubt.map(|(slot, _)| slot);
        let mut returning: SlotSet = in_doubt.chain(self.returning.iter().filter(|slot| is_back(*slot))).collect();
        self.given.retain(|prepared, given| {
            let stays = shard.is_some() && map.moves_prepared(*prepared).any(|(_, moving)| !moving.is_in_doubt());
            if !stays {
                returning.extend(given.slots.iter().filter(|slot| is_back(*slot)));
            }
            stays
        });
        self.returning = returning;
        let settled = self.taken.extract_if(.., |prepared, _| shard.is_none() || !is_open(*prepared));
        for (prepared, slots) in settled.collect::<Vec<_>>() {
            self.settled.extend(slots.iter().map(|slot| (slot, prepared)));
        }
        self.void.retain(|prepared| *prepared > map.epoch() || is_open(*prepared));
        self.arriving.retain(|(_, since), Arriving { slots, .. }| {
            let arrives =
                |slot| map.moving(slot).is_some_and(|moving| Some(moving.to) == shard && moving.since == *since);
            slots.iter().any(arrives)
        });
    }

    /// Gives what was prepared, once and for all. The offer has to reach who is to take, however often it takes to say it.
    ///
    /// # Errors
    /// [`MayNotGive`]; nothing was given.
    pub fn give(&mut self, map: &ClusterMap, prepared: Epoch) -> Result<Offer, MayNotGive> {
        let (slot, moving) = map.moves_prepared(prepared).next().ok_or(MayNotGive)?;
        let shard = self.primary_of(map).filter(|shard| map.owner(slot) == Some(*shard));
        if shard.is_none() || moving.is_in_doubt() || self.void.contains(&prepared) {
            return Err(MayNotGive);
        }
        let target = map.shard(moving.to).ok_or(MayNotGive)?;
        self.given.entry(prepared).or_insert_with(|| Given { slots: map.prepared(prepared), is_taken: false });
        Ok(Offer { prepared, from: self.me, to: target.primary, run: target.run })
    }

    /// Whether what was prepared has been given and is not settled.
    pub fn has_given(&self, prepared: Epoch) -> bool {
        self.given.contains_key(&prepared)
    }

    /// The target has answered.
    pub fn answered(&mut self, prepared: Epoch, answer: Answer) {
        match answer {
            Answer::Taken => _ = self.given.get_mut(&prepared).map(|given| given.is_taken = true),
            Answer::Refused if self.given.remove(&prepared).is_some() => _ = self.void.insert(prepared),
            Answer::Refused | Answer::AskTheMap => {}
        }
    }

    /// Gives up giving what was prepared, for good. Returns whether it has; what was given it cannot.
    pub fn withdraw(&mut self, prepared: Epoch) -> bool {
        let may_withdraw = !self.has_given(prepared);
        if may_withdraw {
            self.void.insert(prepared);
        }
        may_withdraw
    }

    /// Takes what is offered, or refuses it.
    pub fn take(&mut self, map: &ClusterMap, offer: &Offer) -> Answer {
        let Offer { prepared, from, to, run } = *offer;
        if self.taken.contains_key(&prepared) {
            return Answer::Taken;
        }
        let slots = map.prepared(prepared);
        // Another process may have taken it; so may this one, if it was settled since.
        let is_settled = slots.is_empty() && prepared <= map.epoch();
        if is_settled || (to, run) != (self.me, self.run) {
            return Answer::AskTheMap;
        }
        let may_take = !self.is_resigning
            && !self.void.contains(&prepared)
            && slots.iter().next().and_then(|slot| map.moving(slot)).is_some_and(|moving| {
                let arriving = self.arriving.get(&(from, moving.since)).filter(|arriving| arriving.is_whole);
                self.primary_of(map) == Some(moving.to)
                    && !moving.is_in_doubt()
                    && arriving.is_some_and(|arriving| slots.iter().all(|slot| arriving.slots.contains(slot)))
            });
        if may_take {
            self.taken.insert(prepared, slots);
            Answer::Taken
        } else {
            self.void.insert(prepared);
            Answer::Refused
        }
    }

    /// What this node has to say to the map of moves that are prepared, until the map shows it.
    pub fn settle(&mut self, map: &ClusterMap) -> Vec<MapCommand> {
        let Some(shard) = self.primary_of(map) else { return Vec::new() };
        let prepared =
            map.moving_slots().filter_map(|(slot, moving)| Some((moving.prepared?, (map.owner(slot), moving))));
        let prepared: BTreeMap<_, _> = prepared.collect();
        let mut commands = Vec::new();
        for (prepared, (owner, moving)) in prepared {
            let is_taken = self.taken.contains_key(&prepared);
            if moving.to == shard && moving.is_in_doubt() && !is_taken {
                self.void.insert(prepared);
            }
            let is_target_or_owner = moving.to == shard || owner == Some(shard) && !moving.is_in_doubt();
            if is_taken {
                commands.push(MapCommand::Moved { prepared });
            } else if is_target_or_owner && self.void.contains(&prepared) {
                commands.push(MapCommand::Unprepare { prepared });
            }
        }
        commands
    }

    /// A feed of these slots wants to begin, or to begin again: what had arrived will be cleared. Returns its number, unless
    /// it may not, as they were taken.
    pub fn begins_to_arrive(&mut self, from: NodeId, since: Epoch, slots: &SlotSet) -> Option<u64> {
        let is_settled = |slot| self.settled.get(&slot).is_some_and(|prepared| *prepared > since);
        if slots.iter().any(is_settled)
            || self.taken.values().any(|taken| taken.iter().any(|slot| slots.contains(slot)))
        {
            return None;
        }
        self.feeds += 1;
        self.arriving.retain(|_, other| !other.slots.meets(slots));
        let arriving = Arriving { feed: self.feeds, slots: slots.clone(), is_whole: false };
        self.arriving.insert((from, since), arriving);
        Some(self.feeds)
    }

    /// Whether the feed of this number still brings its slots: they move as they did, and no other has begun for any of them.
    pub fn brings(&self, from: NodeId, since: Epoch, feed: u64) -> bool {
        self.arriving.get(&(from, since)).is_some_and(|arriving| arriving.feed == feed)
    }

    /// The feed of this number has brought all that there was when it began; of no account if another has begun since.
    pub fn has_arrived(&mut self, from: NodeId, since: Epoch, feed: u64) {
        let arriving = self.arriving.get_mut(&(from, since)).filter(|arriving| arriving.feed == feed);
        arriving.into_iter().for_each(|arriving| arriving.is_whole = true);
    }

    /// This primary is about to hand over to a replica. Returns whether it may; then it takes nothing until
    /// [`stays`](Self::stays).
    pub fn resigns(&mut self) -> bool {
        self.is_resigning |= self.taken.is_empty();
        self.is_resigning
    }

    /// The hand-over has come to its end.
    pub const fn stays(&mut self) {
        self.is_resigning = false;
    }

    /// Breaks a rule on purpose: what was refused may be taken after all.
    #[cfg(test)]
    pub(super) fn forget_refusals(&mut self) {
        self.void.clear();
    }

    fn shard(&self, map: &ClusterMap) -> Option<ShardId> {
        map.shard_of(self.me).map(|(id, _)| id)
    }

    /// The shard whose primary this process is by a map.
    fn primary_of(&self, map: &ClusterMap) -> Option<ShardId> {
        let (id, shard) = map.shard_of(self.me)?;
        ((shard.primary, shard.run) == (self.me, self.run)).then_some(id)
    }
}

#[cfg(test)]
#[path = "custody_tests.rs"]
mod tests;
