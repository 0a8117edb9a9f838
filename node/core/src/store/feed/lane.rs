//! The part of a feed that walks one stripe: the tail of its log, and scans of its slots.
//!
//! # The walk of one slot
//! A slot needs a scan if the log no longer holds what the consumer lacks of it, if a record was forgotten before
//! it was sent, if somebody who speaks no more had stamped what it lacks, if this node refused a record of which the consumer may
//! hold something older, or if the consumer asked for a clone.
//! When the scan of a slot begins, the feed notes what this node has `seen` there; when it is through, the consumer
//! has seen that too, and is told so ([`FeedItem::SlotEnd`]). If the consumer's least `seen` lies under the slot's
//! floor, something that it may still hold was forgotten here; then it gets the slot *whole*, with the floor, and
//! drops what is under that floor and was not sent. Should the floor rise past the consumer during a scan that is
//! not whole, the scan begins again and is. A slot that this node was sent whole itself, and dropped something of, goes on whole
//! whatever its consumer has seen: why it was sent so its source knows, of regions perhaps that nobody here has heard of yet.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use clock::{Origin, Stamp, Time};

use super::{FeedItem, context::Context};
use crate::{
    slot::{Slot, SlotRange, SlotSet},
    store::{
        Seen, SeenTable, Stripe,
        log::{Item, LogPosition, Subject},
        settings::Sabotage,
        walk::{Change, ScanPosition},
    },
};

/// The part of a cursor that walks one stripe.
#[derive(Debug)]
pub(super) struct Lane {
    /// The slots that the feed is about; all, if none are named. No other is ever queued, whatever there is to send of it.
    pub(super) slots: Option<Arc<SlotSet>>,
    pub(super) position: LogPosition,
    /// Slots that wait for a scan.
    pub(super) waiting: VecDeque<Slot>,
    /// The same, to be asked whether one is among them.
    pub(super) queued: BTreeSet<Slot>,
    /// Those of which the next scan that comes to its end is whole in any case.
    pub(super) reset: BTreeSet<Slot>,
    pub(super) scan: Option<Scan>,
    /// All of this was sent: what this stripe stamped, and if everything is in scope, what it has seen of others.
    pub(super) settled: Seen,
    /// Up to where that is of what this stripe stamped.
    pub(super) watermark: Time,
    /// What this stripe has seen of others in the slots that are covered, as of that version of it.
    pub(super) minima: (u64, Seen),
}

/// A scan of one slot that is under way.
#[derive(Debug)]
pub(super) struct Scan {
    slot: Slot,
    position: ScanPosition,
    whole: bool,
    /// What the consumer had seen of the slot before.
    since: Seen,
    /// The least of that over all origins that matter.
    low: Time,
    /// What this node had seen when the scan began.
    seen: Seen,
}

impl Lane {
    pub(super) const fn new(position: LogPosition) -> Self {
        Self {
            slots: None,
            position,
            waiting: VecDeque::new(),
            queued: BTreeSet::new(),
            reset: BTreeSet::new(),
            scan: None,
            settled: Seen::new(),
            watermark: Time::ZERO,
            minima: (u64::MAX, Seen::new()),
        }
    }

    /// Notes what was sent of a stripe of which nothing is left to send, and returns its watermark: no less than `reached`.
    pub(super) fn settle(&mut self, stripe: &mut Stripe, context: &Context<'_>, reached: Time) -> Time {
        let own = stripe.hlc.origin();
        if context.tells_of_others() && self.minima.0 != stripe.seen().version() {
            self.minima = (stripe.seen().version(), context.minima(stripe.seen(), own));
        }
        self.settled.clone_from(&self.minima.1);
        self.watermark = stripe.watermark(context.now.wall.max(reached));
        // Also of an owner of no slot: that is how whoever is fed knows that it has all.
        self.settled.advance(own, self.watermark);
        self.watermark
    }

    pub(super) fn queue(&mut self, slot: Slot) {
        let is_wanted = self.slots.as_ref().is_none_or(|slots| slots.contains(slot));
        if is_wanted && self.queued.insert(slot) {
            self.waiting.push_back(slot);
        }
    }

    /// Those of a stripe's slots that the feed is about.
    pub(super) fn wanted(&self, stripe: &SlotRange) -> Vec<SlotRange> {
        self.slots.as_ref().map_or_else(|| vec![stripe.clone()], |slots| slots.ranges_in(stripe).collect())
    }

    /// Those of `slots` that are a stripe's, and that the feed is about.
    pub(super) fn wanted_of(&self, slots: &SlotSet, stripe: &SlotRange) -> Vec<SlotRange> {
        match &self.slots {
            Some(about) => about.intersection(slots).ranges_in(stripe).collect(),
            None => slots.ranges_in(stripe).collect(),
        }
    }

    /// Is about no other slots than these from here on.
    pub(super) fn keep_only(&mut self, slots: Option<&Arc<SlotSet>>) {
        self.slots = slots.cloned();
        let Some(slots) = slots else { return };
        self.waiting.retain(|slot| slots.contains(*slot));
        self.queued.retain(|slot| slots.contains(*slot));
        self.reset.retain(|slot| slots.contains(*slot));
        self.scan = self.scan.take().filter(|scan| slots.contains(scan.slot));
    }

    /// Queues the slots, among those that count, in which `here` reaches beyond what the consumer has seen of `origin`.
    pub(super) fn queue_newer(
        &mut self,
        here: &SeenTable,
        seen: &SeenTable,
        minima: &Seen,
        origin: Origin,
        counts: impl Fn(Slot) -> bool,
    ) {
        let wanted = self.wanted(here.slots());
        self.queue_newer_among(&wanted, here, seen, minima, origin, counts);
    }

    /// As [`queue_newer`](Self::queue_newer), among these slots.
    pub(super) fn queue_newer_among(
        &mut self,
        among: &[SlotRange],
        here: &SeenTable,
        seen: &SeenTable,
        minima: &Seen,
        origin: Origin,
        counts: impl Fn(Slot) -> bool,
    ) {
        if among.is_empty() || here.maximum(origin) <= minima.at(origin) {
            return;
        }
        for slots in among {
            here.beyond(seen, origin, slots).into_iter().filter(|slot| counts(*slot)).for_each(|slot| self.queue(slot));
        }
    }

    /// Queues the slots of which the ring has lost something that the consumer lacks, of origins that it is to be sent.
    pub(super) fn queue_lost(&mut self, stripe: &Stripe, is_sent: impl Fn(Origin) -> bool, seen: &SeenTable) {
        for (origin, lost) in stripe.log.lost().iter().filter(|(origin, _)| is_sent(*origin)) {
            for slots in self.wanted(stripe.slots()) {
                for (slots, since) in seen.runs_in(&slots, origin).filter(|(_, since)| *since < lost) {
                    slots.iter().filter(|slot| stripe.has_newer(*slot, since)).for_each(|slot| self.queue(slot));
                }
            }
        }
    }

    /// Queues the slots that may have arrived here whole, and of which the consumer lacks what is under their floor: what was
    /// dropped on arrival left nothing in the log but a mark, and the ring may have lost that.
    pub(super) fn queue_under_floor(&mut self, stripe: &Stripe, is_sent: impl Fn(Origin) -> bool, seen: &SeenTable) {
        let minima = seen.minima_in(stripe.slots());
        for origin in stripe.seen().origins().filter(|origin| is_sent(*origin)) {
            let is_under = |slot| seen.at(slot, origin) < stripe.floor(slot).time;
            self.queue_newer(stripe.seen(), seen, &minima, origin, is_under);
        }
    }

    /// Sends from the log. Returns how many items it looked at.
    pub(super) fn tail(
        &mut self,
        stripe: &Stripe,
        context: &Context<'_>,
        seen: &SeenTable,
        emit: &mut impl FnMut(&FeedItem<'_>) -> usize,
    ) -> usize {
        if self.position < stripe.log.start() {
            self.position = stripe.log.start();
            self.queue_lost(stripe, |origin| context.is_in_scope(origin), seen);
            if context.tells_of_others() {
                self.queue_under_floor(stripe, |origin| context.is_in_scope(origin), seen);
            }
            let minima = seen.minima_in(stripe.slots());
            for (origin, _) in stripe.log.lost().iter() {
                let is_orphan = |slot| context.is_orphan(origin, Some(slot));
                self.queue_newer(&stripe.heard, seen, &minima, origin, is_orphan);
            }
        }
        let (from, mut gone) = (self.position, Vec::new());
        let (queued, reset) = (&self.queued, &mut self.reset);
        self.position = stripe.read_log(from, |item| {
            if let Subject::Reset(slot) = item.subject() {
                // Other regions hear of it from where it came, if they can.
                if context.tells_of_others() && context.wants(slot) {
                    reset.insert(slot);
                    gone.push(slot);
                }
                return 0;
            }
            tail_item(stripe, item, context, seen, queued, emit).unwrap_or_else(|slot| {
                gone.push(slot);
                0
            })
        });
        for slot in gone {
            // A scan that is under way may have passed what is missing.
            self.scan = self.scan.take().filter(|scan| scan.slot != slot);
            self.queue(slot);
        }
        self.position.distance(from) as usize
    }

    /// Sends from the slot being scanned, or the next that waits. Returns how many entries it looked at; `None` if there was no slot.
    pub(super) fn scan(
        &mut self,
        stripe: &mut Stripe,
        context: &Context<'_>,
        seen: &mut SeenTable,
        emit: &mut impl FnMut(&FeedItem<'_>) -> usize,
    ) -> Option<usize> {
        let mut scan = self.scan.take().or_else(|| {
            let slot = self.waiting.pop_front()?;
            // From here on the tail must bring what the scan has passed already.
            self.queued.remove(&slot);
            Some(Scan::begin(slot, self.reset.contains(&slot), stripe, context, seen, emit))
        })?;
        let mut looked_at = 0;
        let stopped = stripe.scan_slot(scan.slot, scan.position, |record| {
            looked_at += 1;
            if stripe.is_wanted(record.stamp, scan.whole, &scan.since) {
                emit(&FeedItem::Record { slot: scan.slot, record: *record })
            } else {
                0
            }
        });
        if let Some(position) = stopped {
            scan.position = position;
            self.scan = Some(scan);
            return Some(looked_at);
        }
        let floor = stripe.floor(scan.slot);
        if !scan.whole && scan.must_be_whole(stripe, false) {
            // The floor rose past the consumer while the slot was walked.
            self.scan = Some(Scan::begin(scan.slot, false, stripe, context, seen, emit));
            return Some(looked_at);
        }
        self.reset.remove(&scan.slot);
        seen.join(scan.slot, &scan.seen);
        emit(&FeedItem::SlotEnd { slot: scan.slot, floor: scan.whole.then_some(floor), seen: scan.seen });
        Some(looked_at)
    }
}

impl Scan {
    fn begin(
        slot: Slot,
        is_reset: bool,
        stripe: &mut Stripe,
        context: &Context<'_>,
        consumer: &SeenTable,
        emit: &mut impl FnMut(&FeedItem<'_>) -> usize,
    ) -> Self {
        let mut since = context.matrix.with_births(&consumer.of(slot));
        // What others of its region have stamped is sent if the consumer has not said that it has it: they may have ended without
        // anybody here having heard, and of what they have replaced only that will ever arrive.
        let mut sent_since = since.clone();
        sent_since.advance(context.consumer, Time::MAX);
        let known = stripe.seen().origins().chain(stripe.heard.origins()).chain([context.consumer]);
        for origin in known.filter(|origin| context.is_the_consumers(*origin, slot)) {
            since.advance(origin, Time::MAX);
        }
        // Of the consumer's own region nothing is claimed: it may have begun anew, and who hears of that only later must still find
        // lacking what is.
        let is_claimed = |origin| origin == context.consumer || !context.is_the_consumers(origin, slot);
        let mut seen: Seen = stripe.seen().of(slot).iter().filter(|(origin, _)| is_claimed(*origin)).collect();
        let own = stripe.hlc.origin();
        if context.covers.get(&own).is_none_or(|cover| cover.slots.contains(slot)) {
            // Of a slot that is not owned a replica may still hold what came before this origin gave it away.
            seen.advance(own, stripe.watermark(context.now.wall));
        }
        // Of a silent origin counts what was heard ahead of its last watermark, too: it may be forgotten here by now.
        let mut reached = stripe.heard.of(slot);
        reached.join(&seen);
        let origins = since.iter().chain(reached.iter()).map(|(origin, _)| origin);
        let counts = |origin: &Origin| context.matrix.speaks(*origin, slot) || since.at(*origin) < reached.at(*origin);
        let low = origins.filter(counts).map(|origin| since.at(origin)).min().unwrap_or(Time::ZERO);
        let position = stripe.scan_start(slot);
        let mut scan = Self { slot, position, whole: false, since: sent_since, low, seen };
        scan.whole = scan.must_be_whole(stripe, is_reset);
        emit(&FeedItem::SlotBegin { slot, whole: scan.whole });
        scan
    }

    /// Whether something that the consumer may hold was forgotten here, or dropped since the slot was sent here whole (`is_reset`).
    fn must_be_whole(&self, stripe: &Stripe, is_reset: bool) -> bool {
        (is_reset || self.low < stripe.floor(self.slot).time) && !stripe.settings.is_sabotaged(Sabotage::NoReset)
    }
}

/// Sends what an item of the log stands for now.
///
/// # Errors
/// The slot, if the record was forgotten before it was sent.
fn tail_item(
    stripe: &Stripe,
    item: &Item,
    context: &Context<'_>,
    seen: &SeenTable,
    queued: &BTreeSet<Slot>,
    emit: &mut impl FnMut(&FeedItem<'_>) -> usize,
) -> Result<usize, Slot> {
    let stamp = item.stamp();
    let is_of_no_use = |slot| !context.wants(slot) || is_known(slot, stamp, seen, queued);
    if !context.carries(stamp.origin, item.slot()) || item.slot().is_some_and(is_of_no_use) {
        return Ok(0);
    }
    let mut bytes = 0;
    let change = stripe.resolve(
        item,
        |stamp| context.carries(stamp.origin, item.slot()),
        |slot, record| {
            bytes += emit(&FeedItem::Record { slot, record: *record });
        },
    );
    match change {
        Change::Gone(slot) => return Err(slot),
        Change::Flushed(slots) => {
            for slots in context.wanted(slots) {
                bytes += emit(&FeedItem::Flush { slots, stamp });
            }
        }
        Change::Superseded | Change::Emitted => {}
    }
    Ok(bytes)
}

/// Whether the consumer has this already, or will get it by the scan that its slot waits for.
fn is_known(slot: Slot, stamp: Stamp, seen: &SeenTable, queued: &BTreeSet<Slot>) -> bool {
    stamp.time <= seen.at(slot, stamp.origin) || queued.contains(&slot)
}
