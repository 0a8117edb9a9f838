//! The intake: the receiving end of a feed, mirror image of `feed`.
//!
//! It hands every item to the stripe that it concerns. But for what a restamped primary's replica keeps in mind (see `restamp`), its only state are the keys of the slots that are being
//! received whole, which decide what is dropped at the end of such a slot. If the sender dies in between, that state is
//! thrown away: nothing was dropped yet, `seen` has not moved, and the next feed begins the slot again.

use std::{collections::BTreeMap, sync::Arc};

use clock::{Now, Origin};

use super::{
    Store,
    apply::Kept,
    feed::FeedItem,
    heap::HeapFull,
    record::{Outcome, Record},
    restamp::Restamping,
    seen::Seen,
    stripe::Address,
};
use crate::{
    limits::KEPT_MAX,
    slot::{Slot, SlotRange, SlotSet},
};

/// How many records came to which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records that won.
    pub applied: u64,
    /// Records that were no news.
    pub stale: u64,
    /// Records under a floor.
    pub refused: u64,
}

/// One source's intake.
#[derive(Debug, Default)]
pub struct Intake {
    /// The slots that are being received whole, with the keys received so far.
    whole: BTreeMap<Slot, Kept>,
    /// The slots that this is about; all, if none are named.
    slots: Option<SlotSet>,
    /// What is said of an origin is said of these; of all, if that was not said.
    covers: BTreeMap<Origin, Arc<SlotSet>>,
    /// How the source began the life in which it sends, if by restamping, and the keys of what came since and looks like what that has
    /// replaced.
    restamping: Option<(Restamping, Kept)>,
    tally: Tally,
}

impl Intake {
    /// Takes in what a feed [of these slots](super::Feed::of_slots) brings.
    pub fn of_slots(slots: SlotSet) -> Self {
        Self { slots: Some(slots), ..Self::default() }
    }

    /// Takes in what a primary sends that began its life so: what was replaced gives way to whatever comes.
    pub fn of_restamped(restamping: Restamping) -> Self {
        Self { restamping: Some((restamping, Kept::new())), ..Self::default() }
    }

    /// Drops what the source has replaced and did not send: it has sent all. Returns how many records that was; none if it was not
    /// restamped, or this was done.
    pub fn drop_replaced(&mut self, store: &Store) -> Option<usize> {
        let (restamping, kept) = self.restamping.take()?;
        Some(store.drop_replaced(restamping, &kept))
    }

    /// Takes in one item. `sender_saw` is what the sender had seen when it sent it.
    ///
    /// # Errors
    /// [`HeapFull`]; nothing changed, and `seen` does not claim the item.
    pub fn take(&mut self, store: &Store, item: &FeedItem<'_>, sender_saw: &Seen, now: Now) -> Result<(), HeapFull> {
        if self.slots.as_ref().zip(item.slot()).is_some_and(|(slots, slot)| !slots.contains(slot)) {
            // Nobody asked for it, so it would be there without an owner.
            return Ok(());
        }
        match item {
            FeedItem::Record { slot, record } => self.take_record(store, *slot, record, sender_saw, now)?,
            FeedItem::Flush { slots, stamp } => {
                for index in store.stripes_of(slots) {
                    store.lock(index).flush(slots, *stamp);
                }
            }
            FeedItem::SlotBegin { slot, whole } => {
                self.whole.remove(slot);
                if *whole {
                    self.whole.insert(*slot, Kept::new());
                }
            }
            FeedItem::SlotEnd { slot, floor, seen } => {
                let kept = self.whole.remove(slot).unwrap_or_default();
                let whole = floor.map(|floor| (floor, &kept));
                store.lock(store.stripe_of(*slot)).finish_slot(*slot, whole, seen);
            }
            FeedItem::Speaks { origin, slots, .. } => {
                let slots = self.slots.as_ref().map_or_else(|| slots.clone(), |of| Arc::new(slots.intersection(of)));
                self.covers.insert(*origin, slots);
            }
            FeedItem::Watermark { origin, time } => {
                let about = self.covers.get(origin).map(|slots| &**slots).or(self.slots.as_ref());
                let all = [SlotRange::ALL];
                for slots in about.map_or(&all[..], SlotSet::ranges) {
                    for index in store.stripes_of(slots) {
                        store.lock(index).advance_seen(slots, *origin, *time);
                    }
                }
            }
        }
        Ok(())
    }

    /// What became of the records so far.
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Has what a restamped source has replaced give way to what it sends.
    fn give_way(&mut self, store: &Store, at: Address, record: &Record<'_>) {
        let Some((restamping, kept)) = &mut self.restamping else { return };
        if !kept.contains(record.key) {
            store.lock(store.stripe_of(at.slot)).give_way(at, record, *restamping);
        }
        if restamping.has_replaced(record.stamp) {
            kept.insert(record.key.into());
            if kept.len() > KEPT_MAX {
                // Rather is something missing for a moment than that memory grows.
                self.drop_replaced(store);
            }
        }
    }

    fn take_record(
        &mut self,
        store: &Store,
        slot: Slot,
        record: &Record<'_>,
        sender_saw: &Seen,
        now: Now,
    ) -> Result<(), HeapFull> {
        if let Some(kept) = self.whole.get_mut(&slot) {
            kept.insert(record.key.into());
        }
        let at = store.address_in(slot, record.key);
        self.give_way(store, at, record);
        let outcome = if store.make_room(now.wall).is_ok() {
            store.lock(store.stripe_of(slot)).apply(at, record, sender_saw, now.wall)?
        } else {
            store.lock(store.stripe_of(slot)).apply_without_value(at, record, sender_saw, now.wall)?
        };
        match outcome {
            Outcome::Applied => self.tally.applied += 1,
            Outcome::Stale => self.tally.stale += 1,
            Outcome::Refused => self.tally.refused += 1,
        }
        Ok(())
    }
}
