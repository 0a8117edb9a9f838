//! The end of a stream at the store that its records are for: what it does around its [`Receiver`], but for the connection.
//!
//! The shell hands on what the receiver tells it, and the items of batches; here stands what that leads to in the store and in
//! what all streams share ([`Links`]).
//!
//! # Slots
//! In a cluster a stream is for the slots that this node owned when it was welcomed, among those for which whoever splits it
//! sends it here: what is said of a slot is worth nothing where its records went to somebody else. So when slots have come or
//! gone ([`has_moved`](Incoming::has_moved)) nothing more is taken in; the stream ends, and is begun anew.

use std::{sync::Arc, time::Duration};

use clock::Now;
use node_core::{
    slot::SlotSet,
    store::{Claim, FeedItem, HeapFull, Intake, Matrix, Store, Tally},
};
use serde::Serialize;

use crate::{
    admission::LinkId,
    batch::Batch,
    entitlement::{check_own, of_known_regions},
    frame::Malformed,
    links::Links,
    receiver::{Applied, Receiver, ReceiverEvent},
    refill::Wish,
};

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Incoming {
    /// The slots that it is for, if not all.
    slots: Option<SlotSet>,
    /// The slots that this node owned when the stream was welcomed, if not all.
    owned: Option<Arc<SlotSet>>,
    intake: Intake,
    /// Which stream this is, once it was let in.
    admitted: Option<Admitted>,
    /// When a row was last sent, in monotonic time.
    rowed: Option<Duration>,
    scanned: CloneProgress,
}

#[derive(Debug)]
struct Admitted {
    id: LinkId,
    wish: Wish,
    /// The slots for which the sender speaks.
    slots: Arc<SlotSet>,
}

/// How far a clone has come, or whatever else a stream brings that the store lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CloneProgress {
    /// Slots that are through.
    pub slots: usize,
    /// Of how many.
    pub of: usize,
}

impl Incoming {
    /// A connection that was just made, for these slots; for all, if none are named.
    pub fn new(slots: Option<SlotSet>) -> Self {
        Self { slots, ..Self::default() }
    }

    /// Which stream this is, once it was let in.
    pub fn id(&self) -> Option<LinkId> {
        self.admitted.as_ref().map(|admitted| admitted.id)
    }

    /// What is wanted of it, once it was let in.
    pub fn wish(&self) -> Option<Wish> {
        self.admitted.as_ref().map(|admitted| admitted.wish)
    }

    /// Whether it was told to wait.
    pub fn waits(&self) -> bool {
        self.wish() == Some(Wish::Later)
    }

    /// How far it has come since it was welcomed.
    pub const fn scanned(&self) -> CloneProgress {
        self.scanned
    }

    /// What became of the records that came.
    pub const fn tally(&self) -> Tally {
        self.intake.tally()
    }

    /// It was let in as this stream, of a sender that speaks for `slots`, and this is wanted of it.
    pub fn admitted(
        &mut self,
        receiver: &mut Receiver,
        store: &Store,
        (id, wish): (LinkId, Wish),
        slots: &Arc<SlotSet>,
        now: Now,
    ) {
        self.admitted = Some(Admitted { id, wish, slots: slots.clone() });
        self.welcome(receiver, store, now);
    }

    /// Does what an event of the receiver leads to here. Whom to let in, and what to tell the operator, is the shell's.
    pub fn handle_event<E>(
        &mut self,
        event: &ReceiverEvent,
        receiver: &mut Receiver,
        store: &Store,
        links: &mut Links<E>,
        now: Now,
    ) {
        match event {
            ReceiverEvent::Asked => {
                if let Some(admitted) = &mut self.admitted {
                    admitted.wish = links.wish(admitted.id);
                    self.welcome(receiver, store, now);
                }
            }
            ReceiverEvent::Reported { origin, seen } => store.update_matrix(|matrix| matrix.report(*origin, seen)),
            ReceiverEvent::Held(_) => self.note_held(links, true),
            ReceiverEvent::Resumed => self.note_held(links, false),
            ReceiverEvent::Greeted(_)
            | ReceiverEvent::Audited(_)
            | ReceiverEvent::Refused(_)
            | ReceiverEvent::Ended(_) => {}
        }
    }

    fn note_held<E>(&self, links: &mut Links<E>, is_held: bool) {
        if let Some(id) = self.id() {
            links.held(id, is_held);
        }
    }

    /// Tells a sender that was told to wait what is wanted of it now. Returns that, if it has changed.
    pub fn poll_wish<E>(
        &mut self,
        receiver: &mut Receiver,
        store: &Store,
        links: &mut Links<E>,
        now: Now,
    ) -> Option<Wish> {
        let admitted = self.admitted.as_mut().filter(|admitted| admitted.wish == Wish::Later)?;
        let wish = links.poll_wish(store, admitted.id, now)?;
        admitted.wish = wish;
        self.welcome(receiver, store, now);
        Some(wish)
    }

    /// Says what is wanted, from here on, of the slots that this node owns.
    fn welcome(&mut self, receiver: &mut Receiver, store: &Store, now: Now) {
        let Some(admitted) = &self.admitted else { return };
        self.owned = store.owned();
        let about = self.about();
        let speaks = &admitted.slots;
        let of = about.as_ref().map_or(speaks.len(), |about| about.intersection(speaks).len());
        self.scanned = CloneProgress { slots: 0, of };
        self.intake = about.map_or_else(Intake::default, Intake::of_slots);
        receiver.welcome(now, admitted.wish.want(store, now));
    }

    /// The slots that it was welcomed for, if not all.
    pub fn about(&self) -> Option<SlotSet> {
        match (&self.owned, &self.slots) {
            (Some(owned), Some(slots)) => Some(owned.intersection(slots)),
            (owned, slots) => owned.as_deref().or(slots.as_ref()).cloned(),
        }
    }

    /// Slots have come or gone since the stream was welcomed.
    pub fn has_moved(&self, store: &Store) -> bool {
        let owned = store.owned();
        self.admitted.is_some() && owned.as_ref().map(Arc::as_ptr) != self.owned.as_ref().map(Arc::as_ptr)
    }

    /// An item of a batch, without what says nothing here: of regions that `matrix` does not know.
    ///
    /// # Errors
    /// [`Malformed`] if the sender may not say that. The connection is to be closed.
    pub fn vet<'i>(
        &self,
        receiver: &mut Receiver,
        store: &Store,
        matrix: &Matrix,
        item: FeedItem<'i>,
    ) -> Result<FeedItem<'i>, Malformed> {
        receiver.check(&item)?;
        check_own(store.origin(), &item, |slot| store.promised_in(slot))?;
        Ok(of_known_regions(item, |region| matrix.knows(region)))
    }

    /// Takes in an item that was [vetted](Self::vet). Returns for what its sender speaks from here on, if it says so; the shell hands
    /// that to [`Links::claimed`].
    ///
    /// # Errors
    /// [`HeapFull`] if the store has no room for it. The connection is to be closed.
    pub fn take(
        &mut self,
        receiver: &Receiver,
        store: &Store,
        item: &FeedItem<'_>,
        now: Now,
    ) -> Result<Option<Claim>, HeapFull> {
        self.intake.take(store, item, receiver.sender_saw(), now)?;
        match item {
            FeedItem::SlotEnd { .. } => self.scanned.slots = (self.scanned.slots + 1).min(self.scanned.of),
            FeedItem::Speaks { origin, epoch, slots } if self.id().is_some_and(|id| id.origin == *origin) => {
                return Ok(Some(Claim { epoch: *epoch, slots: slots.clone() }));
            }
            _ => {}
        }
        Ok(None)
    }

    /// All items of a batch were taken in.
    pub fn applied<E>(
        &self,
        receiver: &mut Receiver,
        store: &Store,
        links: &mut Links<E>,
        batch: Batch,
        now: Now,
    ) -> Applied {
        let applied = receiver.applied(now, batch);
        if let Some(id) = self.id().filter(|_| applied.has_watermark) {
            links.watermark(store, id);
        }
        applied
    }

    /// Tells the sender now and then what is seen here and which regions are not heard, and takes note that it is.
    pub fn tell_row<E>(&mut self, receiver: &mut Receiver, store: &Store, links: &mut Links<E>, now: Now) {
        let Some(id) = self.id().filter(|_| self.rowed.is_none_or(|at| now.monotonic >= at + links.heartbeat())) else {
            return;
        };
        self.rowed = Some(now.monotonic);
        receiver.set_row(links.row(store, now));
        links.hear(id.region(), receiver.heard(now));
        receiver.set_deaf(links.deaf(now));
    }

    /// When there is something to do if nothing happens before, in monotonic time.
    pub fn poll_timeout<E>(&self, receiver: &Receiver, links: &Links<E>, now: Now) -> Option<Duration> {
        let wish = links.wish_timeout().filter(|_| self.waits());
        receiver.poll_timeout(now).into_iter().chain(wish).min()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use clock::{Incarnation, Now, Origin, RegionId, Stamp, Time};
    use node_core::{
        slot::{Slot, SlotRange, SlotSet},
        store::{Feed, FeedItem, Intake, Scope, Seen, Store, StoreOptions},
    };

    use super::{CloneProgress, Incoming};
    use crate::{
        admission::LinkId,
        frame::Malformed,
        receiver::{Receiver, ReceiverOptions},
        refill::Wish,
    };

    const NOW: Now = Now { wall: Time::from_unix_ms(1_800_000_000_000), monotonic: Duration::from_secs(1) };

    fn origin(id: u8) -> Origin {
        Origin::new(RegionId::new(id).unwrap(), Incarnation::FIRST)
    }

    /// A node of region 1, beside region 2, which owns the slots of two keys.
    fn store() -> Store {
        let (origin, peers) = (origin(1), vec![RegionId::new(2).unwrap()]);
        let options = StoreOptions { origin, start: Time::ZERO, peers, stripes: 1, log_records: 16, hash_seed: 1 };
        let store = Store::new(&options);
        store.set_owned(slots(&["a", "b"]), 1);
        store
    }

    fn slots(keys: &[&str]) -> SlotSet {
        keys.iter().map(|key| Slot::of(key.as_bytes())).collect()
    }

    /// A stream for the slots of two keys, whose sender speaks for all.
    fn stream(store: &Store) -> (Incoming, Receiver) {
        let mut stream = Incoming::new(Some(slots(&["b", "c"])));
        let mut receiver = Receiver::new(ReceiverOptions::new(store.origin(), Time::ZERO), NOW);
        let id = LinkId { origin: origin(2), epoch: 1 };
        stream.admitted(&mut receiver, store, (id, Wish::Resume), &Arc::new(SlotSet::all()), NOW);
        (stream, receiver)
    }

    fn end_of(key: &str) -> FeedItem<'static> {
        FeedItem::SlotEnd { slot: Slot::of(key.as_bytes()), floor: None, seen: Seen::new() }
    }

    #[test]
    fn what_a_region_has_flushed_that_is_not_known_yet_is_dropped_by_replicas_as_well() {
        for connects_anew in [false, true] {
            let (source, primary, replica) = (a_node(2, &[1, 3]), a_node(1, &[2]), a_node(1, &[2]));
            replica.follow(primary.origin(), Time::ZERO);
            let intake = || Intake::of_slots(slots(&["b"]));
            let mut there = feed(&source, &primary);
            let mut follow = (feed(&primary, &replica), intake());
            write(&source, 10);
            flow(&mut there, &source, &primary);
            take_all(&mut follow, &primary, &replica);
            assert!(holds(&primary) && holds(&replica));
            // The replica has seen all that is known there of a later time than that of the flush.
            let (mut flushed, slot) = (intake(), Slot::of(b"b"));
            let items = [
                FeedItem::Flush { slots: SlotRange::ALL, stamp: Stamp { time: at_ms(20), origin: origin(3) } },
                FeedItem::Watermark { origin: origin(3), time: at_ms(30) },
            ];
            items.iter().for_each(|item| flushed.take(&source, item, &Seen::new(), NOW).unwrap());
            take_all(&mut follow, &primary, &replica);
            // The ring of the source has lost what it has written since in the slot.
            overrun(&source, b"{b}new");
            let seen = primary.seen_table(NOW);
            assert_eq!(seen.at(slot, origin(3)), Time::ZERO);
            there = Feed::resume(&source, Scope::Region(origin(2).region()), primary.origin(), seen);
            flow(&mut there, &source, &primary);
            assert!(!holds(&primary), "the source had it flushed");
            if connects_anew {
                overrun(&primary, b"c");
                follow = (feed(&primary, &replica), intake());
            }
            take_all(&mut follow, &primary, &replica);
            assert!(!holds(&replica), "connects anew: {connects_anew}");
        }
    }

    fn at_ms(ms: u64) -> Time {
        NOW.wall.before(Duration::from_secs(1)).after(Duration::from_millis(ms))
    }

    /// A node of a region, beside these, which owns all slots.
    fn a_node(id: u8, peers: &[u8]) -> Store {
        let peers = peers.iter().map(|peer| RegionId::new(*peer).unwrap()).collect();
        Store::new(&StoreOptions {
            origin: origin(id),
            start: Time::ZERO,
            peers,
            stripes: 1,
            log_records: 16,
            hash_seed: 1,
        })
    }

    /// A feed to another region, or to a replica.
    fn feed(from: &Store, to: &Store) -> Feed {
        let is_own = from.origin().region() == to.origin().region();
        let scope = if is_own { Scope::Everything } else { Scope::Region(from.origin().region()) };
        Feed::resume(from, scope, to.origin(), to.seen_table(NOW))
    }

    fn write(store: &Store, ms: u64) {
        store.lock(0).write(store.address(b"b"), b"b", b"old", None, at_ms(ms)).unwrap();
    }

    /// Writes more than the ring holds.
    fn overrun(store: &Store, key: &[u8]) {
        (0..20).for_each(|_| _ = store.lock(0).write(store.address(key), key, b"new", None, NOW.wall).unwrap());
    }

    fn holds(store: &Store) -> bool {
        store.lock(0).peek(store.address(b"b"), b"b", NOW.wall).is_some()
    }

    /// Sends what there is over a link.
    fn flow(feed: &mut Feed, from: &Store, to: &Store) {
        let mut receiver = Receiver::new(ReceiverOptions::new(to.origin(), Time::ZERO), NOW);
        let mut stream = Incoming::new(None);
        feed.poll(from, NOW, usize::MAX, |item| {
            let item = stream.vet(&mut receiver, to, &to.matrix(), item.clone()).unwrap();
            stream.take(&receiver, to, &item, NOW).unwrap();
            1
        });
    }

    /// Sends what there is to a replica.
    fn take_all((feed, intake): &mut (Feed, Intake), from: &Store, to: &Store) {
        feed.poll(from, NOW, usize::MAX, |item| {
            intake.take(to, item, &Seen::new(), NOW).unwrap();
            1
        });
    }

    #[test]
    fn it_is_for_what_the_node_owns_among_what_is_sent_here() {
        let store = store();
        let (mut stream, receiver) = stream(&store);
        assert_eq!(stream.about(), Some(slots(&["b"])));
        assert_eq!(stream.scanned(), CloneProgress { slots: 0, of: 1 });
        stream.take(&receiver, &store, &end_of("b"), NOW).unwrap();
        assert_eq!(stream.scanned(), CloneProgress { slots: 1, of: 1 });
    }

    #[test]
    fn it_has_moved_once_slots_have_come_or_gone() {
        let store = store();
        let (stream, _) = stream(&store);
        assert!(!stream.has_moved(&store));
        store.set_owned(slots(&["a"]), 2);
        assert!(stream.has_moved(&store));
        assert!(!Incoming::new(None).has_moved(&store), "it was not welcomed");
    }

    #[test]
    fn only_of_itself_the_sender_says_what_it_speaks_for() {
        let store = store();
        let (mut stream, receiver) = stream(&store);
        let mut claim_of = |origin| {
            let speaks = FeedItem::Speaks { origin, epoch: 7, slots: Arc::new(slots(&["b"])) };
            stream.take(&receiver, &store, &speaks, NOW).unwrap().map(|claim| (claim.epoch, claim.slots.len()))
        };
        assert_eq!((claim_of(origin(2)), claim_of(origin(3))), (Some((7, 1)), None));
    }

    #[test]
    fn what_we_have_not_stamped_yet_nobody_has_of_us() {
        let store = store();
        let (stream, mut receiver) = stream(&store);
        let floor = Stamp { time: NOW.wall.after(Duration::from_secs(3_600)), origin: store.origin() };
        let item = FeedItem::SlotEnd { slot: Slot::of(b"b"), floor: Some(floor), seen: Seen::new() };
        let vetted = stream.vet(&mut receiver, &store, &store.matrix(), item);
        assert_eq!(vetted, Err(Malformed::NeverIssued(floor)));
    }
}
