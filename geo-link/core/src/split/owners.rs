//! Who owns which slots of this region now.

use std::sync::Arc;

use node_core::slot::{SLOTS, Slot, SlotSet};

/// A primary, and its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Where it is reached.
    pub address: Arc<str>,
    /// What it owns. No slot has two owners.
    pub slots: Arc<SlotSet>,
}

/// The owners of a region's slots. A slot may have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    owners: Vec<Owner>,
    /// By slot, the place of its owner.
    by_slot: Box<[u16]>,
}

/// The place of nobody.
const NOBODY: u16 = u16::MAX;

impl Owners {
    /// These and no others.
    pub fn new(owners: Vec<Owner>) -> Self {
        let mut by_slot = vec![NOBODY; usize::from(SLOTS)].into_boxed_slice();
        for (place, owner) in owners.iter().enumerate() {
            let place = u16::try_from(place).unwrap_or(NOBODY);
            owner.slots.iter().for_each(|slot| by_slot[usize::from(slot.number())] = place);
        }
        Self { owners, by_slot }
    }

    /// Each owner, at its place.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Owner> {
        self.owners.iter()
    }

    /// The place of who owns a slot.
    pub fn place_of(&self, slot: Slot) -> Option<usize> {
        let place = self.by_slot[usize::from(slot.number())];
        (place != NOBODY).then_some(usize::from(place))
    }
}

impl Default for Owners {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}
