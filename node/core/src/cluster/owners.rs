//! The owner of each slot, as runs of neighbouring slots that have the same.
//!
//! A map is copied whenever it changes, by everyone who follows it, and what is asked of it is mostly about all slots of a shard: so
//! both cost as much as there are runs. Who asks for the owner of one slot again and again has a
//! [`Routing`](super::Routing).

use serde::{Deserialize, Serialize};

use super::id::ShardId;
use crate::slot::{SLOTS, Slot, SlotRange, SlotSet};

/// See the head of this file. Sent as `(how many, whose)`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u16, Option<ShardId>)>", into = "Vec<(u16, Option<ShardId>)>")]
pub(super) struct Owners {
    /// Where each run ends, and whose it is; neighbours differ, and the last ends where the slots do.
    runs: Vec<(u16, Option<ShardId>)>,
}

impl Owners {
    /// Who owns a slot.
    pub(super) fn of(&self, slot: Slot) -> Option<ShardId> {
        self.runs[self.runs.partition_point(|(end, _)| *end <= slot.number())].1
    }

    /// The runs of neighbouring slots that have one owner, or none, in order.
    pub(super) fn runs(&self) -> impl Iterator<Item = (SlotRange, Option<ShardId>)> {
        let mut start = 0;
        self.runs.iter().map(move |(end, owner)| {
            let numbers = std::mem::replace(&mut start, *end)..*end;
            (SlotRange::new(numbers).expect("no run is empty"), *owner)
        })
    }

    /// The slots of an owner, or those that have none.
    pub(super) fn slots(&self, owner: Option<ShardId>) -> SlotSet {
        self.runs().filter(|(_, other)| *other == owner).map(|(slots, _)| slots).collect()
    }

    /// Gives slots to a shard.
    pub(super) fn give(&mut self, slots: &SlotSet, to: ShardId) {
        let mut runs = Vec::with_capacity(self.runs.len() + 2 * slots.ranges().len());
        for (run, owner) in self.runs() {
            let mut next = run.first.number();
            for given in slots.ranges_in(&run) {
                push(&mut runs, next, given.first.number(), owner);
                next = given.last.number() + 1;
                push(&mut runs, given.first.number(), next, Some(to));
            }
            push(&mut runs, next, run.last.number() + 1, owner);
        }
        self.runs = runs;
    }
}

/// Appends a run, unless it is empty, to those that end where it begins.
fn push(runs: &mut Vec<(u16, Option<ShardId>)>, start: u16, end: u16, owner: Option<ShardId>) {
    if start == end {
        return;
    }
    match runs.last_mut().filter(|(_, former)| *former == owner) {
        Some((former_end, _)) => *former_end = end,
        None => runs.push((end, owner)),
    }
}

/// Nobody owns anything.
impl Default for Owners {
    fn default() -> Self {
        Self { runs: vec![(SLOTS, None)] }
    }
}

impl std::fmt::Debug for Owners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Vec::from(self.clone()).fmt(f)
    }
}

impl From<Owners> for Vec<(u16, Option<ShardId>)> {
    fn from(owners: Owners) -> Self {
        owners.runs().map(|(slots, owner)| (slots.count() as u16, owner)).collect()
    }
}

/// Owners of more or fewer slots than there are.
#[derive(Debug, thiserror::Error)]
#[error("the owners are not of {SLOTS} slots")]
pub(super) struct NotAllSlots;

impl TryFrom<Vec<(u16, Option<ShardId>)>> for Owners {
    type Error = NotAllSlots;

    fn try_from(sent: Vec<(u16, Option<ShardId>)>) -> Result<Self, NotAllSlots> {
        let (mut runs, mut start) = (Vec::new(), 0_u16);
        for (count, owner) in sent {
            let end = start.checked_add(count).filter(|end| *end <= SLOTS).ok_or(NotAllSlots)?;
            push(&mut runs, start, end, owner);
            start = end;
        }
        if start == SLOTS { Ok(Self { runs }) } else { Err(NotAllSlots) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::Owners;
    use crate::{
        cluster::ShardId,
        slot::{SLOTS, Slot, SlotRange, SlotSet},
    };

    proptest! {
        #[test]
        fn owners_are_what_one_owner_per_slot_would_be(
            steps in proptest::collection::vec((0..3_u16, proptest::collection::vec((0..60_u16, 1..9_u16), 1..5)), 0..20),
        ) {
            let (mut owners, mut plain) = (Owners::default(), vec![None; usize::from(SLOTS)]);
            for (to, ranges) in steps {
                let ranges = ranges.iter().map(|(first, count)| SlotRange::new(*first..first + count).unwrap());
                let slots: SlotSet = ranges.collect();
                owners.give(&slots, ShardId(to));
                slots.iter().for_each(|slot| plain[usize::from(slot.number())] = Some(ShardId(to)));
                prop_assert_eq!(Slot::all().map(|slot| owners.of(slot)).collect::<Vec<_>>(), plain.clone());
                for owner in [None, Some(ShardId(0)), Some(ShardId(1)), Some(ShardId(2))] {
                    let theirs: Vec<_> = Slot::all().filter(|slot| plain[usize::from(slot.number())] == owner).collect();
                    prop_assert_eq!(owners.slots(owner).iter().collect::<Vec<_>>(), theirs);
                }
                let sent: Vec<_> = owners.clone().into();
                prop_assert_eq!(Owners::try_from(sent).unwrap(), owners.clone());
            }
        }
    }
}
