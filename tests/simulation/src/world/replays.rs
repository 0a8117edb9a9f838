//! What has arrived arrives again.
//!
//! *Bytes* of a batch that come again, at once or on a later connection, are refused: a batch has a number, and the epoch of its
//! connection. The connection ends, and nothing was applied. TLS keeps others from doing it; what is here shows that the protocol does
//! not need that.
//!
//! *Items* may well be applied again. Whoever applies a batch takes its time, and may be at it still when another connection has the
//! place of its own. So now and then all that came on a connection since its welcome is applied once more, in its order, at any later
//! moment, for as long as the node lives and owns the same slots: a stream ends as soon as it does not.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use geo_link_core::{FrameKind, Inbox, limits::FRAME_BYTES_MAX};
use node_core::{
    cluster::{Life, Run},
    slot::SlotSet,
    store::{FeedItem, Intake, Seen},
};
use rand::RngExt;
use sim_wan::model::ConnectionId;

use super::{EndId, Event, World};
use crate::{Broken, parcel::Parcel, region::Process};

/// Between two times that something is applied again.
pub(super) const EVERY: Duration = Duration::from_millis(150);
/// Of so many chunks that have batches in them one is followed by one that came before.
const ECHOED: u32 = 300;
/// Items of a connection that are kept, at most: of a longer one nothing is.
const ITEMS_MAX: usize = 400;
/// Connections that have ended, and chunks of a link, that are kept.
const KEPT: usize = 8;

/// What is kept to come again.
#[derive(Debug, Default)]
pub(super) struct Replays {
    /// What came on connections that have ended.
    ended: VecDeque<Heard>,
    /// Bytes with batches in them, by the regions between which they went.
    chunks: BTreeMap<(usize, usize), VecDeque<Vec<u8>>>,
}

/// What came on a connection since it was welcomed, at an owner of slots.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    at: (usize, usize),
    by: (Run, Option<Life>),
    owned: Option<Arc<SlotSet>>,
    about: SlotSet,
    saw: Seen,
    parcels: Vec<Parcel>,
    is_too_long: bool,
}

impl Heard {
    /// A welcome was said at a node, about these slots.
    pub(super) fn new(at: (usize, usize), process: &Process, about: SlotSet) -> Self {
        let (by, owned) = ((process.node.run, process.speaks), process.store.owned());
        Self { at, by, owned, about, saw: Seen::new(), parcels: Vec::new(), is_too_long: false }
    }

    /// An item was applied.
    pub(super) fn note(&mut self, item: &FeedItem<'_>, saw: &Seen) {
        self.is_too_long |= self.parcels.len() == ITEMS_MAX;
        if self.is_too_long {
            self.parcels.clear();
        } else {
            self.parcels.push(Parcel::of(item));
            self.saw.join(saw);
        }
    }

    /// Whether it may still be applied: who heard it lives, and nothing has become of the slots since.
    fn is_valid(&self, process: &Process) -> bool {
        let owned = process.store.owned();
        process.is_up
            && !process.is_stopped
            && self.by == (process.node.run, process.speaks)
            && self.owned.as_ref().map(Arc::as_ptr) == owned.as_ref().map(Arc::as_ptr)
    }
}

impl World {
    /// What came on a connection may come again when that has ended.
    pub(super) fn keep_heard(&mut self, heard: Option<Heard>) {
        let ended = &mut self.replays.ended;
        ended.extend(heard.filter(|heard| !heard.parcels.is_empty()));
        ended.drain(..ended.len().saturating_sub(KEPT));
    }

    /// Something is applied again, unless all is to be quiet.
    pub(super) fn replay(&mut self) {
        if self.is_spared {
            return;
        }
        self.after(EVERY, Event::Replay);
        let current = self.incoming.values().filter_map(|end| end.heard());
        let all: Vec<&Heard> = current.chain(&self.replays.ended).filter(|heard| !heard.parcels.is_empty()).collect();
        if all.is_empty() {
            return;
        }
        let heard = all[self.random.random_range(0..all.len())];
        let (region, index) = heard.at;
        let process = &self.regions[region].processes[index];
        if !heard.is_valid(process) {
            return;
        }
        let (now, count) = (process.clock.at(self.now), heard.parcels.len());
        let mut intake = Intake::of_slots(heard.about.clone());
        for parcel in &heard.parcels {
            let item = match parcel.item() {
                FeedItem::Watermark { origin, .. } if self.options.broken == Some(Broken::ReplaysClaimMore) => {
                    FeedItem::Watermark { origin, time: now.wall }
                }
                item => item,
            };
            intake.take(&process.store, &item, &heard.saw, now).expect("the heap has room");
        }
        self.note(|| format!("{count} items are applied again at {index} of {region}"));
    }

    /// Whether to have bytes come to a gateway that came before, and which.
    pub(super) fn echo(&mut self, connection: ConnectionId, bytes: &[u8]) -> Option<Vec<u8>> {
        let wire = self.wires.get(&connection)?;
        let regions = (self.gateways[wire.through].region, self.gateways[wire.to].region);
        if self.is_spared || !self.options.is_stormy || !has_batch(bytes) {
            return None;
        }
        let chunks = self.replays.chunks.entry(regions).or_default();
        if self.random.random_ratio(1, ECHOED) {
            // At once, or from any time before, from whichever stream.
            let before = chunks.get(self.random.random_range(0..KEPT));
            return Some(before.map_or_else(|| bytes.to_vec(), Vec::clone));
        }
        if chunks.len() < KEPT {
            chunks.push_back(bytes.to_vec());
        } else if self.random.random_ratio(1, ECHOED) {
            chunks[self.random.random_range(0..KEPT)] = bytes.to_vec();
        }
        None
    }

    /// Bytes have come again.
    pub(super) fn bytes_again_to_split(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.note(|| format!("{} bytes come again on {connection}", bytes.len()));
        self.faults += 1;
        let split = |world: &Self| world.wires.get(&connection).and_then(|wire| wire.split);
        let Some(id) = split(self) else { return };
        self.bytes_to_split(connection, bytes);
        // Whether all of them were looked at.
        let is_done = |id: &EndId| {
            self.splits.get(id).is_some_and(|it| !self.gateways[it.gateway].is_stopped && it.split.wants_frames())
        };
        if split(self) == Some(id) && is_done(&id) {
            let wrong = format!("a batch was taken in that came again on {connection}");
            self.wrong.get_or_insert(wrong);
        }
    }
}

fn has_batch(bytes: &[u8]) -> bool {
    let mut inbox = Inbox::new(FRAME_BYTES_MAX);
    inbox.buffer().extend_from_slice(bytes);
    while let Ok(Some((kind, _))) = inbox.next_frame() {
        if kind == FrameKind::Batch {
            return true;
        }
    }
    false
}
