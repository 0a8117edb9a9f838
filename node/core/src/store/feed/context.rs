//! What a turn of a feed goes by: who is told what.

use std::collections::{BTreeMap, BTreeSet};

use clock::{Now, Origin, RegionId, Time};

use super::{Cover, Scope};
use crate::{
    slot::{Slot, SlotRange, SlotSet},
    store::{Seen, SeenTable, frontier::Matrix},
};

/// What a turn of the feed goes by.
pub(super) struct Context<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) scope: Scope,
    pub(super) relayed: &'a BTreeSet<RegionId>,
    pub(super) slots: Option<&'a SlotSet>,
    pub(super) covers: &'a BTreeMap<Origin, Cover>,
    pub(super) own: RegionId,
    pub(super) consumer: Origin,
    pub(super) now: Now,
}

impl Context<'_> {
    /// Whether the tail carries what `origin` stamped in a slot, or in all of a stripe: what is in scope, and what nobody
    /// else will bring.
    pub(super) fn carries(&self, origin: Origin, slot: Option<Slot>) -> bool {
        self.is_in_scope(origin) || self.is_orphan(origin, slot)
    }

    pub(super) fn is_in_scope(&self, origin: Origin) -> bool {
        self.scope.contains(origin) || self.relayed.contains(&origin.region())
    }

    /// Whether the feed says up to where others were seen, so that it must bring also what this node has dropped because they
    /// had.
    pub(super) fn tells_of_others(&self) -> bool {
        self.scope == Scope::Everything || !self.relayed.is_empty()
    }

    /// Whether `origin` has ended in a slot, or everywhere, and the consumer is not who it was.
    pub(super) fn is_orphan(&self, origin: Origin, slot: Option<Slot>) -> bool {
        let has_ended = || match slot {
            Some(slot) => self.matrix.has_ended(origin, slot),
            None => {
                let region = origin.region();
                !self.matrix.is_live(origin)
                    && (self.matrix.has_left(region) || self.matrix.speakers(region).next().is_some())
            }
        };
        origin != self.consumer && has_ended()
    }

    /// Whether the consumer stamps as `origin` in this slot, so that it lacks nothing of it.
    pub(super) fn is_the_consumers(&self, origin: Origin, slot: Slot) -> bool {
        let is_its_region = self.consumer.region() != self.own && origin.region() == self.consumer.region();
        origin == self.consumer || is_its_region && !self.matrix.has_ended(origin, slot)
    }

    /// Those of `slots` that the feed is about.
    pub(super) fn wanted(&self, slots: SlotRange) -> Vec<SlotRange> {
        match self.slots {
            None => vec![slots],
            Some(of) => of.ranges_in(&slots).collect(),
        }
    }

    pub(super) fn wants(&self, slot: Slot) -> bool {
        self.slots.is_none_or(|slots| slots.contains(slot))
    }

    /// What was seen of those others than `own` of whom this feed tells, in the slots that it tells of; [`Time::MAX`] where there are none here.
    pub(super) fn minima(&self, seen: &SeenTable, own: Origin) -> Seen {
        let least = |(origin, cover): (&Origin, &Cover)| {
            (*origin, seen.least(*origin, cover.slots.ranges()).unwrap_or(Time::MAX))
        };
        let of_others = if self.scope == Scope::Everything { seen.minima() } else { Seen::new() };
        let of_others = of_others.iter().filter(|(origin, _)| !self.covers.contains_key(origin));
        self.covers.iter().map(least).chain(of_others).filter(|(origin, _)| *origin != own).collect()
    }
}
