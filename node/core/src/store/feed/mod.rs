//! The feed: the one way in which data moves.
//!
//! `feed(consumer's seen)` is, first, everything newer than what the consumer has seen, whoever stamped it, by a scan
//! of the entries; then what happens next, from the log. Replica sync, slot moves, links after a cut of any length,
//! region join and backup are all this. Scan and tail overlap and interleave freely, because records are states:
//! there is no fork, no snapshot barrier and no moment at which writers wait. What is sent twice is stale once.
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
//! that have changed. Besides what is in its scope a tail carries what arrives of origins that have ended, since
//! nobody else may have heard it, and of regions that the consumer cannot hear itself ([`Feed::relay`]): that is how a
//! feed goes around a cut. A slot that this node was sent whole goes on whole to whoever is told what was seen of others: what
//! was dropped here for it has no record to send. So memory for a consumer, however slow, is this cursor and nothing else.
//!
//! # What a watermark is about
//! In a region of one node, all slots. In a cluster an origin speaks for some slots, and a node knows of those that it owns;
//! a feed says which these are ([`FeedItem::Speaks`]) before it says anything about them, and again when they, or the map, have
//! changed. A feed to another region is about the slots that its node owned when it began, and still owns: of one that has
//! moved away nothing is said any more, before anything of it is dropped here. A slot that has moved in since is for a
//! new feed, made when the consumer has said what it has seen there ([`Feed::lacks_slots`]).
//!
//! ```text
//! lane       what walks one stripe: its log, and the scans of its slots
//! context    who is told what
//! ```

mod context;
mod lane;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use clock::{Incarnation, Now, Origin, RegionId, Stamp, Time};

use self::{context::Context, lane::Lane};
use super::{
    Store,
    frontier::Matrix,
    log::LogPosition,
    record::Record,
    same,
    seen::{Seen, SeenTable},
};
use crate::{
    limits::FEED_LOOKS_PER_POLL,
    slot::{Slot, SlotRange, SlotSet},
};

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
    /// From here on, what is said of `origin` is said of these slots.
    Speaks {
        /// Who.
        origin: Origin,
        /// If it is the sender's own: the epoch of the map by which it speaks for them.
        epoch: u64,
        /// The slots.
        slots: Arc<SlotSet>,
    },
    /// All that `origin` stamped at or before `time`, in every slot that it speaks for, has been sent, or what replaced it.
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
            Self::Flush { .. } | Self::Speaks { .. } | Self::Watermark { .. } => None,
        }
    }
}

/// Whose records a tail carries, beside what nobody else would bring. A scan always carries everyone's.
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
    /// The consumer has all that there is, and had it before: nothing was emitted, and no watermark either.
    Idle,
}

/// One consumer's cursor.
#[derive(Debug)]
pub struct Feed {
    scope: Scope,
    /// The slots that it is about; all, if none are named.
    slots: Option<Arc<SlotSet>>,
    /// To another region: the slots that this node owned when it was last looked, if not all.
    owned: Option<Arc<SlotSet>>,
    /// Who spoke for what, and which slots this node owned, when `covers` were made.
    followed: Option<(u64, Option<Arc<SlotSet>>)>,
    /// The origin that the consumer writes under; of that it lacks nothing.
    consumer: Origin,
    /// Regions that the consumer cannot hear.
    relayed: BTreeSet<RegionId>,
    /// What the consumer had seen, and what it was sent since.
    seen: SeenTable,
    /// Per origin the slots in which it has ended, and of which all that was here was queued.
    ended: BTreeMap<Origin, SlotSet>,
    lanes: Vec<Lane>,
    /// The watermarks that were emitted.
    told: Seen,
    /// What they are about, where that is not all slots.
    covers: BTreeMap<Origin, Cover>,
    /// The greatest of the stripes' watermarks so far.
    reached: Time,
    /// Something was emitted since the last watermark.
    owes_watermark: bool,
    /// It was polled.
    has_begun: bool,
    /// The lane whose turn it is.
    turn: usize,
    slots_scanned: u64,
}

/// The slots that statements about an origin are about.
#[derive(Debug)]
struct Cover {
    slots: Arc<SlotSet>,
    /// The consumer knows.
    is_told: bool,
    /// If it is the sender's own: the epoch of the map by which it spoke for them last. Said again when that rises, since whoever claimed
    /// one of them by a later map than that may have taken its claim back.
    epoch: u64,
}

impl Feed {
    /// Goes on where the consumer stands: from the log if it still holds what the consumer lacks, else by a scan.
    /// `consumer` is the origin that the consumer writes under, `seen` what it has.
    ///
    /// A feed to another region is about the slots that this node owns.
    pub fn resume(store: &Store, scope: Scope, consumer: Origin, seen: SeenTable) -> Self {
        let mut feed = Self::new(scope, consumer, seen);
        if consumer.region() != store.origin().region() {
            feed.owned = store.owned();
            feed.slots.clone_from(&feed.owned);
        }
        for index in 0..store.stripes() {
            let stripe = store.lock(index);
            let mut lane = Lane { slots: feed.slots.clone(), ..Lane::new(stripe.log.start()) };
            lane.queue_lost(&stripe, |origin| scope.contains(origin), &feed.seen);
            if scope == Scope::Everything {
                lane.queue_under_floor(&stripe, |_| true, &feed.seen);
            }
            feed.lanes.push(lane);
        }
        feed.queue_orphans(store);
        feed
    }

    /// Carries also what these regions stamp, since the consumer cannot hear them, and no others. What the consumer lacks
    /// of them is sent, from the log where that still holds it. Returns whether it does: a feed that was polled takes no region
    /// on, since what it knows of what the consumer has seen of that is as old as the feed. Then another is to be made.
    pub fn relay(&mut self, store: &Store, regions: &BTreeSet<RegionId>) -> bool {
        if self.relayed == *regions {
            return true;
        }
        if self.has_begun && !regions.is_subset(&self.relayed) {
            return false;
        }
        let is_new = |origin: Origin| regions.contains(&origin.region()) && !self.has_begun;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let stripe = store.lock(index);
            lane.queue_lost(&stripe, is_new, &self.seen);
            lane.queue_under_floor(&stripe, is_new, &self.seen);
        }
        self.relayed.clone_from(regions);
        self.covers.clear();
        self.followed = None;
        true
    }

    /// The regions that are carried for a consumer that cannot hear them.
    pub const fn relayed(&self) -> &BTreeSet<RegionId> {
        &self.relayed
    }

    /// Whether this node has come to own slots that the feed is not about.
    pub fn lacks_slots(&self, store: &Store) -> bool {
        let (Some(slots), Some(owned)) = (&self.slots, store.owned()) else { return false };
        !slots.has_all(&owned)
    }

    /// Sends these slots whole and then what happens to them, whoever stamps it: for a consumer that they move to, which
    /// has nothing of them. That goes for what it stamped itself, too: it dropped that when the slots had left it before.
    pub fn of_slots(store: &Store, slots: SlotSet) -> Self {
        let consumer = Origin::new(store.origin().region(), Incarnation::UNBORN);
        let mut feed = Self::new(Scope::Everything, consumer, SeenTable::new(SlotRange::ALL));
        let slots = Arc::new(slots);
        for index in 0..store.stripes() {
            let stripe = store.lock(index);
            // The scans will send all that the log names.
            let mut lane = Lane { slots: Some(slots.clone()), ..Lane::new(stripe.log.end()) };
            lane.wanted(stripe.slots()).iter().flat_map(SlotRange::iter).for_each(|slot| lane.queue(slot));
            feed.lanes.push(lane);
        }
        feed.slots = Some(slots);
        feed
    }

    fn new(scope: Scope, consumer: Origin, seen: SeenTable) -> Self {
        Self {
            scope,
            slots: None,
            owned: None,
            followed: None,
            consumer,
            relayed: BTreeSet::new(),
            seen,
            ended: BTreeMap::new(),
            lanes: Vec::new(),
            told: Seen::new(),
            covers: BTreeMap::new(),
            reached: Time::ZERO,
            owes_watermark: false,
            has_begun: false,
            turn: 0,
            slots_scanned: 0,
        }
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
            for wanted in lane.wanted(slots) {
                let unseen = feed.seen.runs_in(&wanted, own).filter(|(_, seen)| *seen <= birth);
                unseen.flat_map(|(slots, _)| slots.iter()).for_each(|slot| lane.queue(slot));
            }
            let minima = feed.seen.minima_in(slots);
            for origin in stripe.heard.origins().filter(|origin| *origin != consumer) {
                lane.queue_newer(&stripe.heard, &feed.seen, &minima, origin, |_| true);
            }
            if lane.queued.len() == slots.count() {
                // The scans will send all that the log names.
                lane.position = stripe.log.end();
            }
        }
        feed
    }

    /// Queues scans of the slots in which the consumer lacks records of origins that have ended there: nobody but
    /// those who heard them can send them. From then on the tail carries what still arrives of them.
    ///
    /// What this node has of such an origin beyond its own `seen`, because the watermark that would have covered it
    /// never came, is queued once: when the feed begins, or learns that the origin has ended.
    pub fn queue_orphans(&mut self, store: &Store) {
        let matrix = store.matrix();
        let mut all_ended: BTreeMap<Origin, SlotSet> = BTreeMap::new();
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let stripe = store.lock(index);
            let minima = self.seen.minima_in(stripe.slots());
            let origins = stripe.seen().origins().chain(stripe.heard.origins());
            for origin in origins.filter(|origin| *origin != self.consumer) {
                let ended = all_ended.entry(origin).or_insert_with(|| matrix.ended(origin));
                if ended.is_empty() {
                    continue;
                }
                let queued = self.ended.get(&origin);
                let among = lane.wanted_of(ended, stripe.slots());
                lane.queue_newer_among(&among, stripe.seen(), &self.seen, &minima, origin, |_| true);
                lane.queue_newer_among(&among, &stripe.heard, &self.seen, &minima, origin, |slot| {
                    queued.is_none_or(|queued| !queued.contains(slot))
                });
            }
        }
        for (origin, ended) in all_ended.into_iter().filter(|(_, ended)| !ended.is_empty()) {
            self.ended.entry(origin).or_default().add(&ended);
        }
    }

    /// Emits what comes next, from one stripe after the other, until `bytes_max` bytes were taken or all is sent; then a
    /// watermark. Stops also after [`FEED_LOOKS_PER_POLL`], with more to come even if nothing was emitted.
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
        let polled = self.poll_news(store, now, bytes_max, &mut emit);
        if polled != Polled::Idle {
            return polled;
        }
        self.emit_watermarks(store.origin(), &mut emit);
        Polled::Drained
    }

    /// As [`poll`](Self::poll), but if there is nothing to say but that there is nothing, does not say so: the log has much
    /// that is nothing for this consumer, such as all that it has stamped itself.
    pub fn poll_news(
        &mut self,
        store: &Store,
        now: Now,
        bytes_max: usize,
        mut emit: impl FnMut(&FeedItem<'_>) -> usize,
    ) -> Polled {
        let mut owes_watermark = self.owes_watermark;
        let is_drained = self.walk(store, now, bytes_max, &mut |item| {
            owes_watermark = true;
            emit(item)
        });
        self.owes_watermark = owes_watermark && !is_drained;
        match (is_drained, owes_watermark) {
            (false, _) => Polled::More,
            (true, true) => {
                self.emit_watermarks(store.origin(), &mut emit);
                Polled::Drained
            }
            (true, false) => Polled::Idle,
        }
    }

    /// Emits what comes next. Returns whether that is all there is for now.
    fn walk(
        &mut self,
        store: &Store,
        now: Now,
        bytes_max: usize,
        emit: &mut impl FnMut(&FeedItem<'_>) -> usize,
    ) -> bool {
        self.has_begun = true;
        let matrix = store.matrix();
        let mut bytes = self.follow_owned(store, &matrix, emit);
        let context = Context {
            matrix: &matrix,
            scope: self.scope,
            relayed: &self.relayed,
            slots: self.slots.as_deref(),
            covers: &self.covers,
            own: store.origin().region(),
            consumer: self.consumer,
            now,
        };
        let (mut idle, mut is_level, mut looks) = (0, false, 0);
        while idle < self.lanes.len() {
            let stripe = &mut *store.lock(self.turn);
            if self.owned.is_some() && !same(self.owned.as_ref(), store.owned().as_ref()) {
                // A slot that this node no longer owns is dropped from here on, and nothing may be said of it.
                return false;
            }
            let lane = &mut self.lanes[self.turn];
            let mut emit = |item: &FeedItem<'_>| {
                let taken = emit(item);
                bytes += taken;
                taken
            };
            let read = lane.tail(stripe, &context, &self.seen, &mut emit);
            let scanned = lane.scan(stripe, &context, &mut self.seen, &mut emit);
            if read == 0 && scanned.is_none() {
                let watermark = lane.settle(stripe, &context, self.reached);
                self.reached = self.reached.max(watermark);
                idle += 1;
            } else {
                idle = 0;
                looks += 1 + read + scanned.unwrap_or(0);
            }
            self.slots_scanned += u64::from(scanned.is_some() && lane.scan.is_none());
            self.turn = (self.turn + 1) % self.lanes.len();
            if idle == self.lanes.len() && !is_level {
                // A new primary's clocks run ahead of the wall for a while, each by itself. Once more round, so that the
                // least of their watermarks is no less than what any of them has stamped.
                (is_level, idle) = (true, if self.is_level() { idle } else { 0 });
            }
            if bytes > 0 && bytes >= bytes_max || looks >= FEED_LOOKS_PER_POLL {
                return false;
            }
        }
        true
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
        let is_said = |(origin, time): &(Origin, Time)| *origin != self.consumer && *time < Time::MAX;
        for (origin, time) in settled.iter().filter(is_said) {
            if origin == own || time > self.told.at(origin) {
                self.told.advance(origin, time);
                match self.covers.get(&origin) {
                    Some(cover) => self.seen.advance_all(cover.slots.ranges(), origin, time),
                    None => self.seen.advance(&SlotRange::ALL, origin, time),
                }
                emit(&FeedItem::Watermark { origin, time });
            }
        }
    }

    /// Gives up the slots that this node has given up, and says of which slots watermarks are from here on. Returns the
    /// bytes that it took to say so.
    fn follow_owned(&mut self, store: &Store, matrix: &Matrix, emit: &mut impl FnMut(&FeedItem<'_>) -> usize) -> usize {
        let (owned, own, epoch) = (store.owned(), store.origin(), store.claim().epoch);
        let is_as_before = |(changes, slots): &(u64, Option<Arc<SlotSet>>)| {
            *changes == matrix.changes() && same(slots.as_ref(), owned.as_ref())
        };
        if !self.followed.as_ref().is_some_and(is_as_before) {
            self.make_covers(matrix, own, owned.as_ref(), epoch);
            self.followed = Some((matrix.changes(), owned));
        }
        if let Some(cover) = self.covers.get_mut(&own).filter(|cover| cover.epoch < epoch) {
            (cover.epoch, cover.is_told) = (epoch, false);
        }
        let mut bytes = 0;
        for (origin, cover) in self.covers.iter_mut().filter(|(_, cover)| !cover.is_told) {
            cover.is_told = true;
            let epoch = if *origin == own { epoch } else { 0 };
            bytes += emit(&FeedItem::Speaks { origin: *origin, epoch, slots: cover.slots.clone() });
        }
        bytes
    }

    fn make_covers(&mut self, matrix: &Matrix, own: Origin, owned: Option<&Arc<SlotSet>>, epoch: u64) {
        if self.owned.is_some() && !same(self.owned.as_ref(), owned) {
            let left = self.slots.as_ref().zip(owned).map(|(slots, owned)| Arc::new(slots.intersection(owned)));
            self.lanes.iter_mut().for_each(|lane| lane.keep_only(left.as_ref()));
            (self.slots, self.owned) = (left, owned.cloned());
        }
        // Of a slot that is not owned nothing is said to a replica either: there may arrive what this origin had stamped in an
        // earlier stay.
        let about = self.slots.as_ref().or(owned).cloned();
        let told_of = matrix.live_origins().filter(|origin| match self.scope {
            _ if *origin == own => about.is_some(),
            Scope::Everything => true,
            Scope::Region(_) => self.relayed.contains(&origin.region()),
        });
        for origin in told_of {
            let slots = matrix.cover(origin, about.as_deref());
            let before = self.covers.get(&origin);
            if before.is_none_or(|cover| *cover.slots != slots) {
                // All slots is what goes without saying.
                let is_told = before.is_none() && slots == SlotSet::all();
                let cover = Cover { slots: Arc::new(slots), is_told, epoch };
                self.covers.insert(origin, cover);
                self.told = self.told.iter().filter(|(told, _)| *told != origin).collect();
                self.lanes.iter_mut().for_each(|lane| lane.minima.0 = u64::MAX);
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
