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
//! that have changed. Besides what is in its scope a tail carries what arrives of origins that have ended, since
//! nobody else may have heard it, and of regions that the consumer cannot hear itself ([`Feed::relay`]): that is how a
//! feed goes around a cut. A slot that this node was sent whole goes on whole to whoever is told what was seen of others: what
//! was dropped here for it has no record to send. So memory for a consumer, however slow, is this cursor and nothing else.
//!
//! # What a watermark is about
//! In a region of one node, all slots. In a cluster an origin speaks for some slots, and a node knows of those that it owns;
//! a feed says which these are ([`FeedItem::Speaks`]) before it says anything about them, and again when they have
//! changed. A feed to another region is about the slots that its node owned when it began, and still owns: of one that has
//! moved away nothing is said any more, before anything of it is dropped here. A slot that has moved in since is for a
//! new feed, made when the consumer has said what it has seen there ([`Feed::lacks_slots`]).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use clock::{Incarnation, Now, Origin, RegionId, Stamp, Time};

use super::{
    Store,
    frontier::Matrix,
    log::{Item, LogPosition, Subject},
    record::Record,
    same,
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
    /// What this stripe has seen of others in the slots that are covered, as of that version of it.
    minima: (u64, Seen),
}

/// What a turn of the feed goes by.
struct Context<'a> {
    matrix: &'a Matrix,
    scope: Scope,
    relayed: &'a BTreeSet<RegionId>,
    slots: Option<&'a SlotSet>,
    covers: &'a BTreeMap<Origin, Cover>,
    own: RegionId,
    consumer: Origin,
    now: Now,
}

impl Context<'_> {
    /// Whether the tail carries what `origin` stamped in a slot, or in all of a stripe: what is in scope, and what nobody
    /// else will bring.
    fn carries(&self, origin: Origin, slot: Option<Slot>) -> bool {
        self.is_in_scope(origin) || self.is_orphan(origin, slot)
    }

    fn is_in_scope(&self, origin: Origin) -> bool {
        self.scope.contains(origin) || self.relayed.contains(&origin.region())
    }

    /// Whether the feed says up to where others were seen, so that it must bring also what this node has dropped because they
    /// had.
    fn tells_of_others(&self) -> bool {
        self.scope == Scope::Everything || !self.relayed.is_empty()
    }

    /// Whether `origin` has ended in a slot, or everywhere, and the consumer is not who it was.
    fn is_orphan(&self, origin: Origin, slot: Option<Slot>) -> bool {
        let has_ended = || match slot {
            Some(slot) => self.matrix.has_ended(origin, slot),
            None => {
                let region = origin.region();
                !self.matrix.is_live(origin)
                    && (self.matrix.has_left(region) || self.matrix.speakers(region).next().is_some())
            }
        };
        origin != self.consumer && has_ended()
    }

    /// Whether the consumer stamps as `origin` in this slot, so that it lacks nothing of it.
    fn is_the_consumers(&self, origin: Origin, slot: Slot) -> bool {
        let is_its_region = self.consumer.region() != self.own && origin.region() == self.consumer.region();
        origin == self.consumer || is_its_region && !self.matrix.has_ended(origin, slot)
    }

    /// Those of `slots` that the feed is about.
    fn wanted(&self, slots: SlotRange) -> Vec<SlotRange> {
        match self.slots {
            None => vec![slots],
            Some(of) => of.ranges_in(&slots).collect(),
        }
    }

    fn wants(&self, slot: Slot) -> bool {
        self.slots.is_none_or(|slots| slots.contains(slot))
    }

    /// What was seen of those others than `own` of whom this feed tells, in the slots that it tells of; [`Time::MAX`] where there are none here.
    fn minima(&self, seen: &SeenTable, own: Origin) -> Seen {
        let least = |(origin, cover): (&Origin, &Cover)| {
            (*origin, seen.least(*origin, cover.slots.ranges()).unwrap_or(Time::MAX))
        };
        let of_others = if self.scope == Scope::Everything { seen.minima() } else { Seen::new() };
        let of_others = of_others.iter().filter(|(origin, _)| !self.covers.contains_key(origin));
        self.covers.iter().map(least).chain(of_others).filter(|(origin, _)| *origin != own).collect()
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
                lane.queue_under_floor(&stripe, &feed.seen);
            }
            feed.lanes.push(lane);
        }
        feed.queue_orphans(store);
        feed
    }

    /// Carries also what these regions stamp, since the consumer cannot hear them, and no others. What the consumer lacks
    /// of them is queued.
    pub fn relay(&mut self, store: &Store, regions: BTreeSet<RegionId>) {
        self.relayed = regions;
        self.covers.clear();
        self.followed = None;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let stripe = store.lock(index);
            let minima = self.seen.minima_in(stripe.slots());
            for here in [stripe.seen(), &stripe.heard] {
                for origin in here.origins().filter(|origin| self.relayed.contains(&origin.region())) {
                    lane.queue_newer(here, &self.seen, &minima, origin, |_| true);
                }
            }
        }
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
        let mut bytes = self.follow_owned(store, &matrix, &mut emit);
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
        let (mut idle, mut is_level) = (0, false);
        while idle < self.lanes.len() {
            let stripe = &mut *store.lock(self.turn);
            if self.owned.is_some() && !same(self.owned.as_ref(), store.owned().as_ref()) {
                // A slot that this node no longer owns is dropped from here on, and nothing may be said of it.
                return Polled::More;
            }
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
        let (owned, own) = (store.owned(), store.origin());
        let is_as_before = |(changes, slots): &(u64, Option<Arc<SlotSet>>)| {
            *changes == matrix.changes() && same(slots.as_ref(), owned.as_ref())
        };
        if !self.followed.as_ref().is_some_and(is_as_before) {
            self.make_covers(matrix, own, owned.as_ref());
            self.followed = Some((matrix.changes(), owned));
        }
        let mut bytes = 0;
        for (origin, cover) in self.covers.iter_mut().filter(|(_, cover)| !cover.is_told) {
            cover.is_told = true;
            let epoch = if *origin == own { store.claim().epoch } else { 0 };
            bytes += emit(&FeedItem::Speaks { origin: *origin, epoch, slots: cover.slots.clone() });
        }
        bytes
    }

    fn make_covers(&mut self, matrix: &Matrix, own: Origin, owned: Option<&Arc<SlotSet>>) {
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
                let cover = Cover { slots: Arc::new(slots), is_told };
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

    fn queue(&mut self, slot: Slot) {
        let is_wanted = self.slots.as_ref().is_none_or(|slots| slots.contains(slot));
        if is_wanted && self.queued.insert(slot) {
            self.waiting.push_back(slot);
        }
    }

    /// Those of a stripe's slots that the feed is about.
    fn wanted(&self, stripe: &SlotRange) -> Vec<SlotRange> {
        self.slots.as_ref().map_or_else(|| vec![stripe.clone()], |slots| slots.ranges_in(stripe).collect())
    }

    /// Those of `slots` that are a stripe's, and that the feed is about.
    fn wanted_of(&self, slots: &SlotSet, stripe: &SlotRange) -> Vec<SlotRange> {
        match &self.slots {
            Some(about) => about.intersection(slots).ranges_in(stripe).collect(),
            None => slots.ranges_in(stripe).collect(),
        }
    }

    /// Is about no other slots than these from here on.
    fn keep_only(&mut self, slots: Option<&Arc<SlotSet>>) {
        self.slots = slots.cloned();
        let Some(slots) = slots else { return };
        self.waiting.retain(|slot| slots.contains(*slot));
        self.queued.retain(|slot| slots.contains(*slot));
        self.scan = self.scan.take().filter(|scan| slots.contains(scan.slot));
    }

    /// Queues the slots, among those that count, in which `here` reaches beyond what the consumer has seen of `origin`.
    fn queue_newer(
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
    fn queue_newer_among(
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
    fn queue_lost(&mut self, stripe: &Stripe, is_sent: impl Fn(Origin) -> bool, seen: &SeenTable) {
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
    fn queue_under_floor(&mut self, stripe: &Stripe, seen: &SeenTable) {
        let minima = seen.minima_in(stripe.slots());
        for origin in stripe.seen().origins() {
            let is_under = |slot| seen.at(slot, origin) < stripe.floor(slot).time;
            self.queue_newer(stripe.seen(), seen, &minima, origin, is_under);
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
            self.queue_lost(stripe, |origin| context.is_in_scope(origin), seen);
            if context.tells_of_others() {
                self.queue_under_floor(stripe, seen);
            }
            let minima = seen.minima_in(stripe.slots());
            for (origin, _) in stripe.log.lost().iter() {
                let is_orphan = |slot| context.is_orphan(origin, Some(slot));
                self.queue_newer(&stripe.heard, seen, &minima, origin, is_orphan);
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
        let mut scan = Self { slot, position: stripe.scan_start(slot), whole: false, since: sent_since, low, seen };
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
        // Other regions hear of it from where it came, if they can.
        let is_followed = context.tells_of_others() && context.wants(slot) && !queued.contains(&slot);
        return if is_followed { Err(slot) } else { Ok(0) };
    }
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
