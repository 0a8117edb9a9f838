//! Feed items that own their bytes, as they lie in a link.

use std::sync::Arc;

use clock::{Origin, Stamp, Time};
use node_core::{
    slot::{Slot, SlotRange, SlotSet},
    store::{Expiry, FeedItem, Record, Seen, State},
};

/// A [`FeedItem`] that owns its bytes, as it lies in a link.
#[derive(Clone, Debug)]
pub(crate) enum Parcel {
    Record { slot: Slot, key: Vec<u8>, stamp: Stamp, state: OwnedState },
    Flush { slots: SlotRange, stamp: Stamp },
    SlotBegin { slot: Slot, whole: bool },
    SlotEnd { slot: Slot, floor: Option<Stamp>, seen: Seen },
    Speaks { origin: Origin, epoch: u64, slots: Arc<SlotSet> },
    Watermark { origin: Origin, time: Time },
}

/// A [`State`] that owns its bytes.
#[derive(Clone, Debug)]
pub(crate) enum OwnedState {
    Value(Vec<u8>, Option<Expiry>),
    Tombstone,
    Evicted,
}

impl Parcel {
    /// Copies an item.
    pub(crate) fn of(item: &FeedItem<'_>) -> Self {
        match item {
            FeedItem::Record { slot, record } => Self::Record {
                slot: *slot,
                key: record.key.to_vec(),
                stamp: record.stamp,
                state: match record.state {
                    State::Value { bytes, expiry } => OwnedState::Value(bytes.to_vec(), expiry),
                    State::Tombstone => OwnedState::Tombstone,
                    State::Evicted => OwnedState::Evicted,
                },
            },
            FeedItem::Flush { slots, stamp } => Self::Flush { slots: slots.clone(), stamp: *stamp },
            FeedItem::SlotBegin { slot, whole } => Self::SlotBegin { slot: *slot, whole: *whole },
            FeedItem::SlotEnd { slot, floor, seen } => Self::SlotEnd { slot: *slot, floor: *floor, seen: seen.clone() },
            FeedItem::Speaks { origin, epoch, slots } => {
                Self::Speaks { origin: *origin, epoch: *epoch, slots: slots.clone() }
            }
            FeedItem::Watermark { origin, time } => Self::Watermark { origin: *origin, time: *time },
        }
    }

    /// The item again.
    pub(crate) fn item(&self) -> FeedItem<'_> {
        match self {
            Self::Record { slot, key, stamp, state } => {
                let state = match state {
                    OwnedState::Value(bytes, expiry) => State::Value { bytes, expiry: *expiry },
                    OwnedState::Tombstone => State::Tombstone,
                    OwnedState::Evicted => State::Evicted,
                };
                FeedItem::Record { slot: *slot, record: Record { key, stamp: *stamp, state } }
            }
            Self::Flush { slots, stamp } => FeedItem::Flush { slots: slots.clone(), stamp: *stamp },
            Self::SlotBegin { slot, whole } => FeedItem::SlotBegin { slot: *slot, whole: *whole },
            Self::SlotEnd { slot, floor, seen } => FeedItem::SlotEnd { slot: *slot, floor: *floor, seen: seen.clone() },
            Self::Speaks { origin, epoch, slots } => {
                FeedItem::Speaks { origin: *origin, epoch: *epoch, slots: slots.clone() }
            }
            Self::Watermark { origin, time } => FeedItem::Watermark { origin: *origin, time: *time },
        }
    }

    /// Bytes that this takes of a batch, roughly.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Record { key, state: OwnedState::Value(value, _), .. } => 20 + key.len() + value.len(),
            Self::Record { key, .. } => 20 + key.len(),
            Self::Flush { .. } => 14,
            Self::SlotBegin { .. } | Self::SlotEnd { .. } | Self::Speaks { .. } | Self::Watermark { .. } => 1,
        }
    }
}
