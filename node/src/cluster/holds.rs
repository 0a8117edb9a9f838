//! Slots that are held, by whom: a move and a hand-over may hold the same, and the end of one must not end the other.

use std::collections::BTreeMap;

use node_core::slot::SlotSet;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Holds {
    begun: u64,
    held: BTreeMap<u64, SlotSet>,
}

/// One hold, until whoever has it lets go.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is held is held until it is let go"]
pub(crate) struct Hold(u64);

impl Holds {
    pub(super) fn begin(&mut self, slots: SlotSet) -> Hold {
        self.begun += 1;
        self.held.insert(self.begun, slots);
        Hold(self.begun)
    }

    pub(super) fn end(&mut self, Hold(number): Hold) {
        self.held.remove(&number);
    }

    /// Lets go of slots, whoever holds them.
    pub(super) fn forget(&mut self, slots: &SlotSet) {
        for held in self.held.values_mut() {
            slots.iter().for_each(|slot| _ = held.remove(slot));
        }
    }

    /// All slots that anybody holds.
    pub(super) fn all(&self) -> SlotSet {
        self.held.values().flat_map(SlotSet::iter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Holds;
    use crate::cluster::testing::range;

    #[test]
    fn the_end_of_one_hold_does_not_end_another() {
        let mut holds = Holds::default();
        let (move_, hand_over) = (holds.begin(range(0, 10)), holds.begin(range(5, 20)));
        assert_eq!(holds.all(), range(0, 20));
        holds.end(hand_over);
        assert_eq!(holds.all(), range(0, 10));
        holds.forget(&range(0, 5));
        assert_eq!(holds.all(), range(5, 10));
        holds.end(move_);
        assert!(holds.all().is_empty());
    }
}
