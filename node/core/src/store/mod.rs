//! The store: all slots of a node, and what keeps them the same in every region.
//!
//! Walk a SET from a client here to a GET elsewhere:
//!
//! 1. [`Store::address`] names the key's slot and hash; [`Store::lock`] its stripe.
//! 2. [`Stripe::write`] issues a stamp above the clock, the key's stamp and the slot's floor, and installs the record:
//!    entry into the heap (`entry`, `heap`), handle into the slot's table (`table`), item into the log (`log`).
//! 3. A [`Feed`] reads the log, finds the record and emits it; a link carries it.
//! 4. In the other region an [`Intake`] hands it to [`Stripe::apply`], where [`merge`] compares it with what is held.
//! 5. [`Stripe::read`] finds it.
//!
//! Stripes are runs of neighbouring slots. Each has its lock, its clock and its part of the log, so that two workers
//! meet only if their keys do. A lock is held for one command, never across a wait; whoever needs several takes them in
//! the order of their numbers.

mod apply;
mod census;
mod column;
mod conflicts;
mod digest;
mod entry;
mod evict;
mod expire;
mod feed;
mod frontier;
mod graveyard;
mod heap;
mod intake;
mod log;
mod news;
mod prefetch;
mod progress;
mod record;
mod restamp;
mod rows;
mod seen;
mod segments;
mod settings;
mod stripe;
mod table;
mod token;
mod walk;

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut, RangeInclusive},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed},
    },
};

use clock::{Hlc, Incarnation, Now, Origin, Stamp, Time};
use foldhash::fast::FixedState;

pub use self::{
    census::{Census, Counters},
    conflicts::{Conflict, Ledger},
    digest::{Digest, Digests, Parts, Portion, bucket_of, content_of},
    evict::{Access, Eviction},
    expire::Swept,
    feed::{Feed, FeedItem, Polled, Scope},
    frontier::{Claim, Matrix},
    heap::HeapFull,
    intake::{Intake, Tally},
    log::LogPosition,
    record::{Expiry, Kind, Outcome, Record, State, Version, merge},
    restamp::{Ahead, Restamping},
    rows::{Rows, RowsRead},
    seen::{Seen, SeenTable},
    settings::{EvictionPolicy, Sabotage, Settings},
    stripe::{Address, Found, KeyHash, Stripe},
    token::{ParseTokenError, Token},
    walk::ScanPosition,
};
use crate::{
    limits::STRIPES_MAX,
    slot::{SLOTS, Slot, SlotRange, SlotSet},
};

/// How a store is built.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Who stamps the local writes.
    pub origin: Origin,
    /// No stamp is issued at or below this time: the persisted high-water mark.
    pub start: Time,
    /// Other regions whose progress counts for the frontier.
    pub peers: Vec<clock::RegionId>,
    /// Number of stripes, a power of two, at most [`STRIPES_MAX`].
    pub stripes: usize,
    /// Changes that the log keeps, over all stripes.
    pub log_records: usize,
    /// Seeds the hash of keys; random, so that nobody can choose keys that collide.
    pub hash_seed: u64,
}

/// Memory is full and the policy lets nothing go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("command not allowed when used memory > 'maxmemory'")]
pub struct OutOfMemory;

/// See the head of this file.
pub struct Store {
    stripes: Box<[Mutex<Stripe>]>,
    /// Slots per stripe, as a power of two.
    shift: u32,
    hasher: FixedState,
    settings: Arc<Settings>,
    ledger: Arc<Ledger>,
    matrix: Mutex<Arc<Matrix>>,
    /// The bits of the origin.
    origin: AtomicU16,
    /// Slots that are this node's own, if it is one of several, and since which epoch of the map.
    owned: Mutex<Owned>,
    /// As they were last worked out.
    covers: Mutex<Arc<Covers>>,
    /// Where eviction goes on.
    evict_hand: AtomicUsize,
    wake: RwLock<Vec<Box<dyn Fn() + Send + Sync>>>,
}

/// In which slots it means something what is said of whom: as long as who speaks for what, and what the node owns, has not changed.
#[derive(Debug, Default)]
struct Covers {
    changes: u64,
    owned: Option<Arc<SlotSet>>,
    /// Those who speak.
    live: BTreeMap<Origin, SlotSet>,
    /// All others.
    silent: SlotSet,
}

/// Whether two sets of slots are one and the same.
fn same(one: Option<&Arc<SlotSet>>, other: Option<&Arc<SlotSet>>) -> bool {
    one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
}

/// The slots that are a node's own; all, if none are named.
#[derive(Clone, Debug, Default)]
struct Owned {
    slots: Option<Arc<SlotSet>>,
    epoch: u64,
}

impl Store {
    /// An empty store.
    ///
    /// # Panics
    /// If `options.stripes` is no power of two up to [`STRIPES_MAX`].
    pub fn new(options: &StoreOptions) -> Self {
        assert!(options.stripes.is_power_of_two() && options.stripes <= STRIPES_MAX, "stripes must be 1, 2, 4 .. 64");
        let settings = Arc::new(Settings::default());
        let ledger = Arc::new(Ledger::default());
        let hasher = FixedState::with_seed(options.hash_seed);
        let width = SLOTS / options.stripes as u16;
        let stripe = |index: u16| {
            let slots = SlotRange::new(index * width..(index + 1) * width).expect("stripes share out the slots");
            let hlc = Hlc::new(options.origin, options.start);
            Stripe::new(
                slots,
                hlc,
                options.log_records / options.stripes,
                hasher.clone(),
                settings.clone(),
                ledger.clone(),
            )
        };
        let stripes = (0..options.stripes as u16).map(|index| Mutex::new(stripe(index))).collect();
        let matrix = Matrix::new(options.origin, options.start, options.peers.iter().copied());
        Self {
            stripes,
            shift: width.trailing_zeros(),
            hasher,
            settings,
            ledger,
            matrix: Mutex::new(Arc::new(matrix)),
            origin: AtomicU16::new(options.origin.bits()),
            owned: Mutex::default(),
            covers: Mutex::default(),
            evict_hand: AtomicUsize::new(0),
            wake: RwLock::default(),
        }
    }

    /// Where `key` lives.
    #[inline]
    pub fn address(&self, key: &[u8]) -> Address {
        self.address_in(Slot::of(key), key)
    }

    /// Where `key`, which is of `slot`, lives.
    #[inline]
    pub fn address_in(&self, slot: Slot, key: &[u8]) -> Address {
        Address { slot, hash: KeyHash::of(&self.hasher, key) }
    }

    /// How many stripes there are.
    pub fn stripes(&self) -> usize {
        self.stripes.len()
    }

    /// The number of the stripe that holds `slot`.
    pub fn stripe_of(&self, slot: Slot) -> usize {
        usize::from(slot.number() >> self.shift)
    }

    /// The numbers of the stripes that hold `slots`.
    pub fn stripes_of(&self, slots: &SlotRange) -> RangeInclusive<usize> {
        self.stripe_of(slots.first)..=self.stripe_of(slots.last)
    }

    /// Locks a stripe. To hold several, lock them in ascending order.
    #[inline]
    pub fn lock(&self, index: usize) -> StripeGuard<'_> {
        // A command that panicked is caught by its connection; every change to a stripe is complete before
        // anything can panic, so the stripe is as good as it was.
        let stripe = self.stripes[index].lock().unwrap_or_else(PoisonError::into_inner);
        StripeGuard { stripe, waker: Waker { store: self, is_due: false } }
    }

    /// What an operator may change.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The latest conflicts.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Who stamps the local writes.
    pub fn origin(&self) -> Origin {
        Origin::from_bits(self.origin.load(Relaxed)).expect("only an origin's bits are stored")
    }

    /// Becomes the store of a primary: stamps local writes as `origin`, all above `birth` and above `start`.
    ///
    /// Call it only while nobody writes.
    pub fn begin_life(&self, origin: Origin, birth: Time, start: Time) {
        self.update_matrix(|matrix| matrix.follow(origin, birth));
        self.set_origin(origin, start.max(birth));
    }

    /// Becomes the store of a replica, in a region whose writes to these slots `primary` stamps.
    ///
    /// Call it only while nobody writes.
    pub fn follow(&self, primary: Origin, birth: Time) {
        self.update_matrix(|matrix| matrix.follow(primary, birth));
        self.set_origin(Origin::new(primary.region(), Incarnation::UNBORN), Time::ZERO);
    }

    fn set_origin(&self, origin: Origin, start: Time) {
        if self.origin() != origin {
            for index in 0..self.stripes() {
                self.lock(index).begin_life(origin, start);
            }
            self.origin.store(origin.bits(), Relaxed);
        }
    }

    /// Is who stamps as `life`, born at `birth`, for all but the stripes.
    fn take_up(&self, life: Origin, birth: Time) {
        self.update_matrix(|matrix| matrix.follow(life, birth));
        self.origin.store(life.bits(), Relaxed);
    }

    /// Says which slots are this node's own, and in which epoch of its region's map: those that a flush concerns, that are
    /// fed to other regions, and whose progress is reported. Until it is said, all are.
    ///
    /// Say so before [`clear_slots`](Self::clear_slots): of a slot that is not owned nothing is said to anybody.
    pub fn set_owned(&self, slots: SlotSet, epoch: u64) {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        owned.epoch = epoch;
        if owned.slots.as_deref() != Some(&slots) {
            owned.slots = Some(Arc::new(slots));
            drop(owned);
            self.wake_all();
        }
    }

    /// Says that no slots but these are this node's own any more, of those that were: at once when a map says so, before anything else is
    /// done about it. A flush by who does not know yet would reach other regions, and not the new owner.
    pub fn narrow_owned(&self, slots: &SlotSet) {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = owned.slots.as_ref().filter(|owned| !slots.has_all(owned)) else { return };
        owned.slots = Some(Arc::new(left.intersection(slots)));
        drop(owned);
        self.wake_all();
    }

    /// Stamps above `start` from now on: so goes on who cannot know the last stamps of whoever served its slots meanwhile.
    pub fn stamp_above(&self, start: Time) {
        for index in 0..self.stripes() {
            self.lock(index).stamp_above(start);
        }
    }

    /// Stamps above all that there is, and was, in these slots from now on: so begins who takes them from somebody whose clock may
    /// be ahead. What that one forgets in a last moment lies under what is stamped here.
    pub fn stamp_above_slots(&self, slots: &SlotSet) {
        for slot in slots.iter() {
            self.lock(self.stripe_of(slot)).stamp_above_slot(slot);
        }
    }

    /// The slots that are this node's own; `None` if all are. The same ones as long as they have not changed.
    pub fn owned(&self) -> Option<Arc<SlotSet>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).slots.clone()
    }

    /// What this node says that it speaks for.
    pub fn claim(&self) -> Claim {
        let owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        match &owned.slots {
            Some(slots) => Claim { epoch: owned.epoch, slots: slots.clone() },
            None => Claim::all(),
        }
    }

    /// Drops these slots with all that is known of them.
    pub fn clear_slots(&self, slots: &SlotSet) {
        for slot in slots.iter() {
            self.lock(self.stripe_of(slot)).clear_slot(slot);
        }
    }

    /// What is known of the regions' progress, as of now.
    pub fn matrix(&self) -> Arc<Matrix> {
        self.matrix.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is known of the regions' progress.
    pub fn update_matrix<T>(&self, change: impl FnOnce(&mut Matrix) -> T) -> T {
        change(Arc::make_mut(&mut self.matrix.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// In which slots it means something what is said of whom.
    fn covers(&self) -> Arc<Covers> {
        let (matrix, owned) = (self.matrix(), self.owned());
        let mut last = self.covers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_as_before = last.changes == matrix.changes() && same(last.owned.as_ref(), owned.as_ref());
        if !is_as_before {
            let live = matrix.live_origins().map(|origin| (origin, matrix.cover(origin, owned.as_deref()))).collect();
            let silent = owned.as_deref().cloned().unwrap_or_else(SlotSet::all);
            *last = Arc::new(Covers { changes: matrix.changes(), owned, live, silent });
        }
        last.clone()
    }

    /// What this node has seen, slot by slot, its own origin's watermark among it: what it tells whoever feeds it.
    pub fn seen_table(&self, now: Now) -> SeenTable {
        let mut table = SeenTable::new(SlotRange::ALL);
        for index in 0..self.stripes() {
            let mut stripe = self.lock(index);
            table.join_table(stripe.seen());
            let (slots, watermark) = (stripe.slots().clone(), stripe.watermark(now.wall));
            table.advance(&slots, self.origin(), watermark);
        }
        table
    }

    /// Works out the frontier anew. It never goes back.
    pub fn advance_frontier(&self, now: Now) -> Time {
        let frontier = self.matrix().frontier(&self.seen_minima(now), self.owned().as_deref());
        self.settings.advance_frontier(frontier);
        self.settings.frontier()
    }

    /// Drops values until memory is under its limit.
    ///
    /// # Errors
    /// [`OutOfMemory`] if the policy lets nothing go.
    #[inline]
    pub fn make_room(&self, now: Time) -> Result<(), OutOfMemory> {
        let limit = self.settings.max_memory();
        if limit == 0 || self.settings.used_bytes() <= limit {
            return Ok(());
        }
        self.evict_down_to(limit, now)
    }

    #[cold]
    fn evict_down_to(&self, limit: usize, now: Time) -> Result<(), OutOfMemory> {
        let mut hopeless = 0;
        while self.settings.used_bytes() > limit {
            let index = self.evict_hand.fetch_add(1, Relaxed) % self.stripes();
            match self.lock(index).evict_one(now) {
                Eviction::Dropped | Eviction::NotYet => hopeless = 0,
                Eviction::NothingToDrop => hopeless += 1,
            }
            if hopeless == self.stripes() {
                return Err(OutOfMemory);
            }
        }
        Ok(())
    }

    /// Drops everything that is this node's own, here and in every region: FLUSHALL. Atomic in this node.
    pub fn flush(&self, now: Time) -> Stamp {
        let mut stripes: Vec<_> = (0..self.stripes()).map(|index| self.lock(index)).collect();
        self.flush_held(stripes.iter_mut().map(|stripe| &mut **stripe), now)
    }

    /// As [`flush`](Self::flush), for who holds all stripes already.
    ///
    /// # Panics
    /// If there is no stripe.
    pub fn flush_held<'a>(&self, stripes: impl Iterator<Item = &'a mut Stripe>, now: Time) -> Stamp {
        let mut stripes: Vec<_> = stripes.collect();
        let stamp = stripes.iter_mut().map(|stripe| stripe.issue_flush(now)).max().expect("there is a stripe");
        let owned = self.owned().unwrap_or_else(|| Arc::new(SlotSet::all()));
        for stripe in stripes {
            owned.ranges().iter().for_each(|slots| stripe.flush(slots, stamp));
        }
        stamp
    }

    /// The latest time that was stamped here so far, or when this life began if none was. What was only promised to be passed
    /// does not count: the feed that has everything until here may have been told before another was promised more.
    pub fn last_stamp(&self) -> Time {
        (0..self.stripes()).map(|index| self.lock(index).issued()).max().unwrap_or(Time::ZERO)
    }

    /// The latest time that was stamped here so far by who stamps the writes to a slot, or promised to be passed.
    pub fn promised_in(&self, slot: Slot) -> Time {
        self.lock(self.stripe_of(slot)).watermark(Time::ZERO)
    }

    /// How many changes the log has seen since the start, over all stripes.
    pub fn log_end(&self) -> u64 {
        (0..self.stripes()).map(|index| self.lock(index).log.end().distance(LogPosition::default())).sum()
    }

    /// How much there is, over all stripes.
    pub fn census(&self) -> Census {
        let mut sum = Census::default();
        (0..self.stripes()).for_each(|index| sum.add(&self.lock(index).census()));
        sum
    }

    /// What happened, over all stripes.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        (0..self.stripes()).for_each(|index| sum.add(&self.lock(index).counters()));
        sum
    }

    /// Says how to wake readers of the log that wait; each of several ways is used. They stay as long as the store.
    pub fn on_news(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.wake.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(wake));
    }

    #[cold]
    fn wake_all(&self) {
        self.wake.read().unwrap_or_else(PoisonError::into_inner).iter().for_each(|wake| wake());
    }

    /// Asks to be woken by the next append. Ask first, then look for news once more, then wait.
    pub fn await_news(&self) {
        self.settings.news.ask();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("origin", &self.origin())
            .field("stripes", &self.stripes.len())
            .finish_non_exhaustive()
    }
}

/// A stripe, locked. When it is let go, who waits for news of its log is woken.
#[derive(Debug)]
pub struct StripeGuard<'a> {
    stripe: MutexGuard<'a, Stripe>,
    /// Stands after the lock, so that it is dropped after it.
    waker: Waker<'a>,
}

impl Deref for StripeGuard<'_> {
    type Target = Stripe;

    #[inline]
    fn deref(&self) -> &Stripe {
        &self.stripe
    }
}

impl DerefMut for StripeGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Stripe {
        &mut self.stripe
    }
}

impl Drop for StripeGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.waker.is_due = self.stripe.take_news();
    }
}

/// Wakes who waits for news, if that is due, when it is dropped.
#[derive(Debug)]
struct Waker<'a> {
    store: &'a Store,
    is_due: bool,
}

impl Drop for Waker<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_due {
            self.store.wake_all();
        }
    }
}
