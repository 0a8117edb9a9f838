//! What moves between two stores, and what a store is asked stripe by stripe.

use clock::{Now, Stamp, Time};
use node_core::{
    slot::{Slot, SlotSet},
    store::{Feed, FeedItem, Intake, Polled, Seen, Store, Stripe},
};

use super::{KEYS, region::Node};
use crate::store_support::parcel::Parcel;

/// What was moved from one store to another.
pub(super) struct Pumped {
    pub(super) is_drained: bool,
    /// Of which slots there were records.
    pub(super) slots: SlotSet,
    /// Of which keys something newer is known now.
    pub(super) heard: Vec<(usize, Stamp)>,
}

/// Moves about so many bytes from one node to another.
pub(super) fn pump(feed: &mut Feed, from: &Node, to: &Node, intake: &mut Intake, wall: Time, bytes: usize) -> Pumped {
    let (mut slots, mut heard) = (SlotSet::new(), Vec::new());
    loop {
        let mut parcels = Vec::new();
        let polled = feed.poll(&from.store, from.now(wall), bytes.min(10_000), |item| {
            if let FeedItem::Record { slot, .. } = item {
                slots.insert(*slot);
            }
            parcels.push(Parcel::of(item));
            parcels[parcels.len() - 1].bytes()
        });
        parcels.iter().for_each(|parcel| take(&to.store, intake, parcel, to.now(wall), &mut heard));
        let is_drained = polled == Polled::Drained;
        if is_drained || bytes < 10_000 {
            return Pumped { is_drained, slots, heard };
        }
    }
}

/// Takes in one parcel, and notes of which keys something newer is known now.
pub(super) fn take(store: &Store, intake: &mut Intake, parcel: &Parcel, now: Now, heard: &mut Vec<(usize, Stamp)>) {
    let before = intake.tally().applied;
    intake.take(store, &parcel.item(), &Seen::new(), now).expect("the heap has room");
    match parcel.item() {
        FeedItem::Record { record, .. } if intake.tally().applied > before => {
            let key = KEYS.iter().position(|name| *name == record.key).expect("no other keys are written");
            heard.push((key, record.stamp));
        }
        FeedItem::Flush { slots, stamp } => {
            let flushed = (0..KEYS.len()).filter(|key| slots.contains(Slot::of(KEYS[*key])));
            heard.extend(flushed.map(|key| (key, stamp)));
        }
        _ => {}
    }
}

pub(super) fn each_stripe(store: &Store, mut act: impl FnMut(&mut Stripe)) {
    (0..store.stripes()).for_each(|index| act(&mut store.lock(index)));
}
