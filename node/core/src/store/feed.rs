//! The feed: the one way in which data moves.
//!
//! `feed(consumer's seen)` is, first, everything newer than what the consumer has seen, whoever stamped it, by a scan
//! of the entries; then what happens next, from the log. Replica sync, slot moves, links after a cut of any length,
//! region join and backup are all this. Scan and tail overlap and interleave freely, because records are states:
//! there is no fork, no snapshot barrier and no moment at which writers wait. What is sent twice is stale once.
//!
//! # The walk of one slot
//! A slot needs a scan if the log no longer holds what the consumer lacks of it, if a record was forgotten before
//! it was sent, if somebody who speaks no more had stamped what it lacks, or if the consumer asked for a clone.
//! When the scan of a slot begins, the feed notes what this node has `seen` there; when it is through, the consumer
//! has seen that too, and is told so ([`FeedItem::SlotEnd`]). If the consumer's least `seen` lies under the slot's
//! floor, something that it may still hold was forgotten here; then it gets the slot *whole*, with the floor, and
//! drops what is under that floor and was not sent. Should the floor rise past the consumer during a scan that is
//! not whole, the scan begins again and is.
//!
//! # A clone that was cut off
//! A consumer that starts from nothing wants every slot scanned, also for what others stamped who would send it
//! themselves. Whoever sends it the rest after a cut skips a slot only if the consumer has seen something of the sender
//! there beyond its birth, so that some scan of it was through, and all that was heard here of others. Skipping is never
//! a risk: the clone queues what a resume would, and more.
//!
//! # The tail
//! Each stripe's log is read in its own order, and when all are read to their ends and no slot waits for a scan,
//! the least of the stripes' watermarks is true of all slots ([`FeedItem::Watermark`]): that is the heartbeat by
//! which lag is defined also when nobody writes. A reader that the ring has outrun goes back to scanning those slots
//! that have changed. Besides what is in its scope a tail carries what arrives of origins that speak no more, since
//! nobody else may have heard it. So memory for a consumer, however slow, is this cursor and nothing else.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use clock::{Now, Origin, RegionId, Stamp, Time};

use super::{
    Store,
    frontier::Matrix,
    log::{Item, LogPosition, Subject},
    record::Record,
    seen::{Seen, SeenTable},
    settings::Sabotage,
    stripe::Stripe,
    walk::{Change, ScanPosition},
};
use crate::slot::{Slot, SlotRange, SlotSet};

/// One thing that a consumer is told. What a link carries is a sequence of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedItem<'a> {
    /// What a key is.
    Record {
        /// The key's slot.
        slot: Slot,
        /// The state and its stamp.
        record: Record<'a>,
    },
    /// Everything at or under `stamp` in these slots was flushed.
    Flush {
        /// Slots of one stripe.
        slots: SlotRange,
        /// The stamp of the flush.
        stamp: Stamp,
    },
    /// A scan of a slot begins, perhaps not for the first time.
    SlotBegin {
        /// The slot.
        slot: Slot,
        /// Whether all of it will be sent.
        whole: bool,
    },
    /// A scan of a slot is through.
    SlotEnd {
        /// The slot.
        slot: Slot,
        /// If all of it was sent: the slot's floor.
        floor: Option<Stamp>,
        /// What the consumer has now seen of this slot.
        seen: Seen,
    },
    /// All that `origin` stamped at or before `time`, in every slot, has been sent, or what replaced it.
    Watermark {
        /// Who.
        origin: Origin,
        /// Until when.
        time: Time,
    },
}

impl FeedItem<'_> {
    /// The one slot that this is about, if it is about one.
    pub(super) const fn slot(&self) -> Option<Slot> {
        match self {
            Self::Record { slot, .. } | Self::SlotBegin { slot, .. } | Self::SlotEnd { slot, .. } => Some(*slot),
            Self::Flush { .. } | Self::Watermark { .. } => None,
        }
    }
}

/// Whose records a tail carries. A scan always carries everyone's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of one region, whatever its incarnation: a link.
    Region(RegionId),
    /// All: a replica.
    Everything,
}

impl Scope {
    fn contains(self, origin: Origin) -> bool {
        match self {
            Self::Region(region) => origin.region() == region,
            Self::Everything => true,
        }
    }
}

/// Whether more can be had at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// There is more: call again.
    More,
    /// The consumer has all that there is; the time up to which is in the watermark just emitted.
    Drained,
}

/// One consumer's cursor.
#[derive(Debug)]
pub struct Feed {
    scope: Scope,
    /// The slots that it is about; all, if none are named.
    slots: Option<Arc<SlotSet>>,
    /// The origin that the consumer writes under; of that it lacks nothing.
    consumer: Origin,
    /// What the consumer had seen, and what it was sent since.
    seen: SeenTable,
    /// Origins that are known to speak no more, and of which all that was here was queued.
    silent: BTreeSet<Origin>,
    lanes: Vec<Lane>,
    /// The watermarks that were emitted.
    told: Seen,
    /// The greatest of the stripes' watermarks so far.
    reached: Time,
    /// The lane whose turn it is.
    turn: usize,
    slots_scanned: u64,
}

/// The part of a cursor that walks one stripe.
#[derive(Debug)]
struct Lane {
    /// The slots that the feed is about; all, if none are named. No other is ever queued, whatever there is to send of it.
    slots: Option<Arc<SlotSet>>,
    position: LogPosition,
    /// Slots that wait for a scan.
    waiting: VecDeque<Slot>,
    /// The same, to be asked whether one is among them.
    queued: BTreeSet<Slot>,
    scan: Option<Scan>,
    /// All of this was sent: what this stripe stamped, and if everything is in scope, what it has seen of others.
    settled: Seen,
    /// Up to where that is of what this stripe stamped.
    watermark: Time,
    /// The minima of what this stripe has seen, as of that version of it.
    minima: (u64, Seen),
}

/// What a turn of the feed goes by.
struct Context<'a> {
    matrix: &'a Matrix,
    scope: Scope,
    slots: Option<&'a SlotSet>,
    consumer: Origin,
    now: Now,
}

impl Context<'_> {
    /// Whether the tail carries what `origin` stamped: what is in scope, and what nobody else will bring.
    fn carries(&self, origin: Origin) -> bool {
        self.scope.contains(origin) || self.is_silent(origin)
    }

    /// Those of `slots` that the feed is about.
    fn wanted(&self, slots: SlotRange) -> Vec<SlotRange> {
        match self.slots {
            None => vec![slots],
            Some(of) => of.ranges().iter().filter_map(|range| range.intersection(&slots)).collect(),
        }
    }

    fn wants(&self, slot: Slot) -> bool {
        self.slots.is_none_or(|slots| slots.contains(slot))
    }

    fn is_silent(&self, origin: Origin) -> bool {
        origin != self.consumer && !self.matrix.is_live(origin)
    }
}

/// A scan of one slot that is under way.
#[derive(Debug)]
struct Scan {
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

impl Feed {
    /// Goes on where the consumer stands: from the log if it still holds what the consumer lacks, else by a scan.
    /// `consumer` is the origin that the consumer writes under, `seen` what it has.
    pub fn resume(store: &Store, scope: Scope, consumer: Origin, seen: SeenTable) -> Self {
        let mut feed = Self::new(scope, consumer, seen);
        for index in 0..store.stripes() {
            let stripe = store.lock(index);
            let mut lane = Lane::new(stripe.log.start());
            lane.queue_lost(&stripe, scope, &feed.seen);
            feed.lanes.push(lane);
        }
        feed.queue_orphans(store);
        feed
    }

    /// Sends these slots whole and then what happens to them, whoever stamps it: for a consumer that they move to, which
    /// has nothing of them.
    pub fn of_slots(store: &Store, slots: SlotSet, consumer: Origin) -> Self {
        let mut feed = Self::new(Scope::Everything, consumer, SeenTable::new(SlotRange::ALL));
        let slots = Arc::new(slots);
        for index in 0..store.stripes() {
            let stripe = store.lock(index);
            // The scans will send all that the log names.
            let mut lane = Lane { slots: Some(slots.clone()), ..Lane::new(stripe.log.end()) };
            stripe.slots().iter().for_each(|slot| lane.queue(slot));
            feed.lanes.push(lane);
        }
        feed.slots = Some(slots);
        feed
    }

    fn new(scope: Scope, consumer: Origin, seen: SeenTable) -> Self {
        let (slots, silent, lanes, told) = (None, BTreeSet::new(), Vec::new(), Seen::new());
        Self { scope, slots, consumer, seen, silent, lanes, told, reached: Time::ZERO, turn: 0, slots_scanned: 0 }
    }

    /// Sends everything: for a consumer that starts from nothing.
    pub fn clone_all(store: &Store, scope: Scope, consumer: Origin) -> Self {
        Self::clone_rest(store, scope, consumer, SeenTable::new(SlotRange::ALL))
    }

    /// Sends everything but what the consumer has `seen`: for one whose clone, from here or elsewhere, was cut off.
    pub fn clone_rest(store: &Store, scope: Scope, consumer: Origin, seen: SeenTable) -> Self {
        let mut feed = Self::resume(store, scope, consumer, seen);
        let own = store.origin();
        let birth = store.matrix().birth(own);
        for (index, lane) in feed.lanes.iter_mut().enumerate() {
            let stripe = store.lock(index);
            let slots = stripe.slots();
            slots.iter().filter(|slot| feed.seen.at(*slot, own) <= birth).for_each(|slot| lane.queue(slot));
            let minima = feed.seen.minima_in(slots);
            for origin in stripe.heard.origins().filter(|origin| *origin != consumer) {
                lane.queue_newer(&stripe.heard, &feed.seen, &minima, origin);
            }
            if lane.queued.len() == slots.count() {
                // The scans will send all that the log names.
                lane.position = stripe.log.end();
            }
        }
        feed
    }

    /// Queues scans of the slots in which the consumer lacks records of origins that speak no more: nobody but
    /// those who heard them can send them. From then on the tail carries what still arrives of them.
    ///
    /// What this node has of such an origin beyond its own `seen`, because the watermark that would have covered it
    /// never came, is queued once: when the feed begins, or learns that the origin is silent.
    pub fn queue_orphans(&mut self, store: &Store) {
        let matrix = store.matrix();
        let mut silent = BTreeSet::new();
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let stripe = store.lock(index);
            let minima = self.seen.minima_in(stripe.slots());
            let origins = stripe.seen().origins().chain(stripe.heard.origins());
            for origin in origins.filter(|origin| *origin != self.consumer && !matrix.is_live(*origin)) {
                lane.queue_newer(stripe.seen(), &self.seen, &minima, origin);
                if !self.silent.contains(&origin) {
                    lane.queue_newer(&stripe.heard, &self.seen, &minima, origin);
                    silent.insert(origin);
                }
            }
        }
        self.silent.append(&mut silent);
    }

    /// Emits what comes next, from one stripe after the other, until `bytes_max` bytes were taken or all is sent.
    ///
    /// `emit` returns the bytes that it took. It is called under the lock of one stripe, which is held for a bounded number
    /// of records and bytes; what is taken may go beyond `bytes_max` by what fits one hold of each kind, tail and scan.
    pub fn poll(
        &mut self,
        store: &Store,
        now: Now,
        bytes_max: usize,
        mut emit: impl FnMut(&FeedItem<'_>) -> usize,
    ) -> Polled {
        let matrix = store.matrix();
        let context =
            Context { matrix: &matrix, scope: self.scope, slots: self.slots.as_deref(), consumer: self.consumer, now };
        let (mut bytes, mut idle, mut is_level) = (0, 0, false);
        while idle < self.lanes.len() {
            let stripe = &mut *store.lock(self.turn);
            let lane = &mut self.lanes[self.turn];
            let mut emit = |item: &FeedItem<'_>| {
                let taken = emit(item);
                bytes += taken;
                taken
            };
            let read = lane.tail(stripe, &context, &self.seen, &mut emit);
            let scanned = lane.scan(stripe, &context, &mut self.seen, &mut emit);
            if !read && !scanned {
                let watermark = lane.settle(stripe, &context, self.reached);
                self.reached = self.reached.max(watermark);
                idle += 1;
            } else {
                idle = 0;
            }
            self.slots_scanned += u64::from(scanned && lane.scan.is_none());
            self.turn = (self.turn + 1) % self.lanes.len();
            if idle == self.lanes.len() && !is_level {
                // A new primary's clocks run ahead of the wall for a while, each by itself. Once more round, so that the
                // least of their watermarks is no less than what any of them has stamped.
                (is_level, idle) = (true, if self.is_level() { idle } else { 0 });
            }
            if bytes > 0 && bytes >= bytes_max {
                return Polled::More;
            }
        }
        self.emit_watermarks(store.origin(), &mut emit);
        Polled::Drained
    }

    /// Whether all stripes' watermarks are the same.
    fn is_level(&self) -> bool {
        self.lanes.iter().all(|lane| lane.watermark == self.reached)
    }

    /// Says what is true of all stripes: of the own origin always, since that is the heartbeat; of others if it is news.
    fn emit_watermarks(&mut self, own: Origin, emit: &mut impl FnMut(&FeedItem<'_>) -> usize) {
        let mut lanes = self.lanes.iter();
        let Some(mut settled) = lanes.next().map(|lane| lane.settled.clone()) else { return };
        lanes.for_each(|lane| settled.meet(&lane.settled));
        for (origin, time) in settled.iter().filter(|(origin, _)| *origin != self.consumer) {
            if origin == own || time > self.told.at(origin) {
                self.told.advance(origin, time);
                self.seen.advance(&SlotRange::ALL, origin, time);
                emit(&FeedItem::Watermark { origin, time });
            }
        }
    }

    /// How many slots still wait for a scan.
    pub fn slots_waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.waiting.len() + usize::from(lane.scan.is_some())).sum()
    }

    /// How many scans of a slot were finished.
    pub const fn slots_scanned(&self) -> u64 {
        self.slots_scanned
    }

    /// How many items of the log were not read yet.
    pub fn backlog(&self, store: &Store) -> u64 {
        let unread = |(index, lane): (usize, &Lane)| store.lock(index).log.end().distance(lane.position);
        self.lanes.iter().enumerate().map(unread).sum()
    }

    /// How many items of the log were read, those among them that were never there for this reader.
    pub fn position(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.position.distance(LogPosition::default())).sum()
    }

    /// Whether there is anything to send but a heartbeat.
    pub fn has_news(&self, store: &Store) -> bool {
        self.slots_waiting() > 0 || self.backlog(store) > 0
    }
}

impl Lane {
    const fn new(position: LogPosition) -> Self {
        Self {
            slots: None,
            position,
            waiting: VecDeque::new(),
            queued: BTreeSet::new(),
            scan: None,
            settled: Seen::new(),
            watermark: Time::ZERO,
            minima: (u64::MAX, Seen::new()),
        }
    }

    /// Notes what was sent of a stripe of which nothing is left to send, and returns its watermark: no less than `reached`.
    fn settle(&mut self, stripe: &mut Stripe, context: &Context<'_>, reached: Time) -> Time {
        if context.scope == Scope::Everything {
            if self.minima.0 != stripe.seen().version() {
                self.minima = (stripe.seen().version(), stripe.seen().minima());
            }
            self.settled.clone_from(&self.minima.1);
        }
        self.watermark = stripe.watermark(context.now.wall.max(reached));
        self.settled.advance(stripe.hlc.origin(), self.watermark);
        self.watermark
    }

    fn queue(&mut self, slot: Slot) {
        let is_wanted = self.slots.as_ref().is_none_or(|slots| slots.contains(slot));
        if is_wanted && self.queued.insert(slot) {
            self.waiting.push_back(slot);
        }
    }

    /// Queues the slots in which `here` reaches beyond what the consumer has seen of `origin`.
    fn queue_newer(&mut self, here: &SeenTable, seen: &SeenTable, minima: &Seen, origin: Origin) {
        if here.maximum(origin) <= minima.at(origin) {
            return;
        }
        for slot in here.slots().iter() {
            if seen.at(slot, origin) < here.at(slot, origin) {
                self.queue(slot);
            }
        }
    }

    /// Queues the slots of which the ring has lost something that the consumer lacks.
    fn queue_lost(&mut self, stripe: &Stripe, scope: Scope, seen: &SeenTable) {
        for (origin, lost) in stripe.log.lost().iter().filter(|(origin, _)| scope.contains(*origin)) {
            for slot in stripe.slots().iter() {
                let since = seen.at(slot, origin);
                if since < lost && stripe.has_newer(slot, since) {
                    self.queue(slot);
                }
            }
        }
    }

    /// Sends from the log. Returns whether there was anything to read.
    fn tail(
        &mut self,
        stripe: &Stripe,
        context: &Context<'_>,
        seen: &SeenTable,
        emit: &mut impl FnMut(&FeedItem<'_>) -> usize,
    ) -> bool {
        if self.position < stripe.log.start() {
            self.position = stripe.log.start();
            self.queue_lost(stripe, context.scope, seen);
            let minima = seen.minima_in(stripe.slots());
            for origin in stripe.log.lost().iter().map(|(origin, _)| origin).filter(|origin| context.is_silent(*origin))
            {
                self.queue_newer(&stripe.heard, seen, &minima, origin);
            }
        }
        let (from, mut gone) = (self.position, Vec::new());
        let queued = &self.queued;
        self.position = stripe.read_log(from, |item| {
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
        self.position != from
    }

    /// Sends from the slot being scanned, or the next that waits. Returns whether there was any.
    fn scan(
        &mut self,
        stripe: &mut Stripe,
        context: &Context<'_>,
        seen: &mut SeenTable,
        emit: &mut impl FnMut(&FeedItem<'_>) -> usize,
    ) -> bool {
        let Some(mut scan) = self.scan.take().or_else(|| {
            let slot = self.waiting.pop_front()?;
            // From here on the tail must bring what the scan has passed already.
            self.queued.remove(&slot);
            Some(Scan::begin(slot, stripe, context, seen, emit))
        }) else {
            return false;
        };
        let stopped = stripe.scan_slot(scan.slot, scan.position, |record| {
            if stripe.is_wanted(record.stamp, scan.whole, &scan.since) {
                emit(&FeedItem::Record { slot: scan.slot, record: *record })
            } else {
                0
            }
        });
        if let Some(position) = stopped {
            scan.position = position;
            self.scan = Some(scan);
            return true;
        }
        let floor = stripe.floor(scan.slot);
        if !scan.whole && scan.must_be_whole(stripe) {
            // The floor rose past the consumer while the slot was walked.
            self.scan = Some(Scan::begin(scan.slot, stripe, context, seen, emit));
            return true;
        }
        seen.join(scan.slot, &scan.seen);
        emit(&FeedItem::SlotEnd { slot: scan.slot, floor: scan.whole.then_some(floor), seen: scan.seen });
        true
    }
}

impl Scan {
    fn begin(
        slot: Slot,
        stripe: &mut Stripe,
        context: &Context<'_>,
        consumer: &SeenTable,
        emit: &mut impl FnMut(&FeedItem<'_>) -> usize,
    ) -> Self {
        let mut since = context.matrix.with_births(&consumer.of(slot));
        since.advance(context.consumer, Time::MAX);
        let mut seen = stripe.seen().of(slot);
        seen.advance(stripe.hlc.origin(), stripe.watermark(context.now.wall));
        // Of a silent origin counts what was heard ahead of its last watermark, too: it may be forgotten here by now.
        let mut reached = stripe.heard.of(slot);
        reached.join(&seen);
        let origins = since.iter().chain(reached.iter()).map(|(origin, _)| origin);
        let counts = |origin: &Origin| context.matrix.is_live(*origin) || since.at(*origin) < reached.at(*origin);
        let low = origins.filter(counts).map(|origin| since.at(origin)).min().unwrap_or(Time::ZERO);
        let mut scan = Self { slot, position: stripe.scan_start(slot), whole: false, since, low, seen };
        scan.whole = scan.must_be_whole(stripe);
        emit(&FeedItem::SlotBegin { slot, whole: scan.whole });
        scan
    }

    /// Whether something that the consumer may hold was forgotten here.
    fn must_be_whole(&self, stripe: &Stripe) -> bool {
        self.low < stripe.floor(self.slot).time && !stripe.settings.is_sabotaged(Sabotage::NoReset)
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
    if let Subject::Reset(slot) = item.subject() {
        // Other regions hear of it from where it came.
        let is_followed = context.scope == Scope::Everything && context.wants(slot) && !queued.contains(&slot);
        return if is_followed { Err(slot) } else { Ok(0) };
    }
    if !context.carries(stamp.origin) || item.slot().is_some_and(is_of_no_use) {
        return Ok(0);
    }
    let mut bytes = 0;
    let change = stripe.resolve(
        item,
        |stamp| context.carries(stamp.origin),
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
