//! Who owns which slots of this region now.

use std::sync::Arc;

use node_core::slot::{Slot, SlotRange, SlotSet};

/// A primary, and its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Where it is reached.
    pub address: Arc<str>,
    /// What it owns. No slot has two owners.
    pub slots: Arc<SlotSet>,
}

/// The owners of a region's slots. A slot may have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    owners: Vec<Owner>,
    /// The runs of slots that have one, in order, and the place of whoever owns each.
    runs: Vec<(SlotRange, usize)>,
}

impl Owners {
    /// These and no others.
    pub fn new(owners: Vec<Owner>) -> Self {
        let mut runs = Vec::new();
        for (place, owner) in owners.iter().enumerate() {
            runs.extend(owner.slots.ranges().iter().map(|slots| (slots.clone(), place)));
        }
        runs.sort_unstable_by_key(|(slots, _)| slots.first);
        Self { owners, runs }
    }

    /// Each owner, at its place.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Owner> {
        self.owners.iter()
    }

    /// The place of who owns a slot.
    pub fn place_of(&self, slot: Slot) -> Option<usize> {
        let run = self.runs.partition_point(|(slots, _)| slots.last < slot);
        self.runs.get(run).filter(|(slots, _)| slots.first <= slot).map(|(_, place)| *place)
    }
}
