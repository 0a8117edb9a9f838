//! Refill: how a region that starts empty comes by what the others hold.
//!
//! Memory is all that a region has, so every start is an empty one. Were it to ask every peer for everything, each
//! record would cross the ocean once per peer. So it lets *one* peer send a clone; the others wait. When the clone is
//! through, `seen` says what the cloned peer had seen of everyone, and the others send what is missing to that.
//!
//! # Whom to clone
//! Rather a peer that is complete than one that is being refilled itself; of those the nearest. A greeting takes some round trips, so
//! the first that is heard is the nearest as a rule, and is not made to wait for others; where several are there already, the
//! shortest round trip decides, as far as one was measured. But at a cold start none is, and all would
//! wait for each other: if nobody is complete once all peers have greeted, or after some patience, the first is taken.
//! A clone of a peer that is not complete does no harm: what arrives with it is what that peer had *seen*, and
//! whatever it lacked the others send. If the link of the clone dies, another is chosen, and nothing was lost by it:
//! slots that were through are `seen`, whoever sent them, and whoever is chosen next is told so and sends the rest. The same goes for
//! a link that is held because its region's clock is ahead: what it sends may not be applied for an hour, so another is chosen, and one that is held
//! is cloned only if there is no other.
//!
//! # Complete
//! The region is *complete* when the clone is through and every connected link has delivered a watermark since: then
//! it has all that was anywhere when it started, but for regions that cannot be reached, or are held. It stays complete. It serves
//! clients from the beginning; being incomplete costs misses, and is reported.
//!
//! # Clusters
//! Each primary refills by itself, for the slots that it owns. A link from a cluster is several streams, one from each who
//! speaks there, and a clone of that region is one from each: it is through when those that have delivered a watermark
//! speak for all slots that are wanted. Slots that move over there meanwhile are waited for from whoever has them then;
//! those for which nobody speaks for a while, as after the loss of a shard, are no reason to wait where another region has all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use clock::{Now, Origin, RegionId, Time};
use node_core::{slot::SlotSet, store::Store};

use crate::{admission::LinkId, frame::Want};

/// How a region refills.
#[derive(Clone, Copy, Debug)]
pub struct RefillOptions {
    /// How long after the first greeting a complete peer is waited for.
    pub patience: Duration,
}

impl Default for RefillOptions {
    fn default() -> Self {
        Self { patience: Duration::from_secs(2) }
    }
}

/// What is wanted of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Everything, but for what a clone that was cut off has brought.
    Clone,
    /// What is not seen yet.
    Resume,
    /// Nothing yet.
    Later,
}

impl Wish {
    /// What to tell the link: a wish, with what the store has seen by now.
    pub(crate) fn want(self, store: &Store, now: Now) -> Want {
        match self {
            Self::Clone => Want::Clone(store.seen_table(now)),
            Self::Resume => Want::Resume(store.seen_table(now)),
            Self::Later => Want::Later,
        }
    }
}

/// The refill of one store; one per process.
#[derive(Clone, Debug)]
pub(crate) struct Refill {
    stage: Stage,
    /// Streams that are up.
    streams: BTreeMap<Origin, Stream>,
    /// How many regions there are beside this one.
    peers: usize,
    /// The round trips to them, as far as they were measured.
    distances: BTreeMap<RegionId, Duration>,
    options: RefillOptions,
    /// When the first peer greeted, in monotonic time.
    first_greeting: Option<Duration>,
    /// When a region was chosen last, in monotonic time.
    chosen: Duration,
    is_complete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody was chosen, or whoever was is gone.
    Empty,
    /// A clone of this region is on its way.
    Cloning(RegionId),
    /// The clone is through.
    Through,
}

#[derive(Clone, Debug)]
struct Stream {
    id: LinkId,
    /// For which slots its origin speaks.
    slots: Arc<SlotSet>,
    is_complete: bool,
    wish: Wish,
    /// A watermark came on it.
    is_settled: bool,
    /// What comes on it may not be applied for now.
    is_held: bool,
}

/// What speaks for and against cloning a region.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    region: RegionId,
    /// It has all that the others had.
    is_complete: bool,
    /// Part of what it sends may not be applied for now.
    is_held: bool,
    /// For so many of the slots that are wanted nobody speaks there.
    missing: usize,
    distance: Duration,
}

impl Candidate {
    /// The less, the rather it is cloned: of those that have as much to tell the nearest.
    const fn rank(&self) -> (bool, usize, Duration) {
        (self.is_held, self.missing, self.distance)
    }
}

impl Refill {
    /// Begins with a store that has just begun a life: by what there is in it of other regions, and what it owns.
    pub(crate) fn of_store(store: &Store, now: Now, peers: usize, options: RefillOptions) -> Self {
        let (seen, own) = (store.seen_table(now), store.origin().region());
        let has_something = seen.origins().any(|origin| origin.region() != own && seen.maximum(origin) > Time::ZERO);
        match store.owned() {
            Some(owned) if owned.is_empty() => Self::of_nothing(peers, options),
            _ if has_something => Self::go_on(peers, options),
            _ => Self::new(peers, options),
        }
    }

    /// Begins empty, with this many peers. Without any the store is complete at once.
    const fn new(peers: usize, options: RefillOptions) -> Self {
        let stage = if peers == 0 { Stage::Through } else { Stage::Empty };
        Self {
            stage,
            streams: BTreeMap::new(),
            peers,
            distances: BTreeMap::new(),
            options,
            first_greeting: None,
            chosen: Duration::ZERO,
            is_complete: peers == 0,
        }
    }

    /// Begins with a store that has something of other regions already: nobody need be cloned.
    fn go_on(peers: usize, options: RefillOptions) -> Self {
        Self { stage: Stage::Through, ..Self::new(peers, options) }
    }

    /// Begins with a store that owns no slot, and so lacks nothing: what it comes to own is brought whole by its move.
    fn of_nothing(peers: usize, options: RefillOptions) -> Self {
        Self { is_complete: true, ..Self::go_on(peers, options) }
    }

    /// There are so many other regions now. What is complete stays so.
    pub(crate) fn set_peers(&mut self, peers: usize) {
        self.peers = peers;
        self.check_complete();
    }

    /// The round trip to a region was measured.
    pub(crate) fn set_distance(&mut self, region: RegionId, rtt: Duration) {
        self.distances.insert(region, rtt);
    }

    /// Whether the store has all that the others had.
    pub(crate) const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The region that is being cloned now.
    pub(crate) const fn cloning(&self) -> Option<RegionId> {
        if let Stage::Cloning(region) = self.stage { Some(region) } else { None }
    }

    /// Somebody has greeted who speaks for `slots`, and takes the place of whatever stream its origin had. Says what to want
    /// of it; if that is [`Wish::Later`], [`poll_wish`](Self::poll_wish) will say more. `wanted` are the slots that are
    /// to be refilled.
    pub(crate) fn greeted(
        &mut self,
        id: LinkId,
        is_complete: bool,
        slots: &Arc<SlotSet>,
        wanted: Option<&SlotSet>,
        now: Duration,
    ) -> Wish {
        if let Some(old) = self.streams.get(&id.origin).map(|stream| stream.id) {
            self.lost(old);
        }
        self.first_greeting.get_or_insert(now);
        let stream =
            Stream { id, slots: slots.clone(), is_complete, wish: Wish::Later, is_settled: false, is_held: false };
        self.streams.insert(id.origin, stream);
        self.choose(wanted, now);
        self.wish(id)
    }

    /// A stream speaks for other slots from here on. Of those that are new to it, it has sent nothing before its next watermark.
    pub(crate) fn claimed(&mut self, id: LinkId, slots: &Arc<SlotSet>) {
        let Some(stream) = self.streams.get_mut(&id.origin).filter(|stream| stream.id == id) else { return };
        stream.is_settled &= stream.slots.has_all(slots);
        stream.slots.clone_from(slots);
    }

    /// A stream is gone. One that was replaced before is not missed.
    pub(crate) fn lost(&mut self, id: LinkId) {
        if self.streams.get(&id.origin).is_none_or(|stream| stream.id != id) {
            return;
        }
        if self.stage == Stage::Cloning(id.region()) {
            self.stage = Stage::Empty;
        }
        self.streams.remove(&id.origin);
        self.check_complete();
    }

    /// What comes on a stream may not be applied for now, or may again.
    pub(crate) fn held(&mut self, id: LinkId, is_held: bool) {
        let Some(stream) = self.streams.get_mut(&id.origin).filter(|stream| stream.id == id) else { return };
        stream.is_held = is_held;
        self.check_complete();
    }

    /// A watermark came: the stream has sent all that was wanted of it.
    pub(crate) fn watermark(&mut self, id: LinkId, wanted: Option<&SlotSet>) {
        let Some(stream) = self.streams.get_mut(&id.origin).filter(|stream| stream.id == id) else { return };
        stream.is_settled = true;
        if self.stage == Stage::Cloning(id.region())
            && self.missing(id.region(), wanted, |stream| stream.is_settled) == 0
        {
            self.stage = Stage::Through;
        }
        self.check_complete();
    }

    /// What is wanted now of a stream that was told [`Wish::Later`], if that has changed.
    pub(crate) fn poll_wish(&mut self, id: LinkId, wanted: Option<&SlotSet>, now: Duration) -> Option<Wish> {
        self.choose(wanted, now);
        let wish = self.wish_now(id);
        let stream = self.streams.get_mut(&id.origin).filter(|stream| stream.id == id && stream.wish == Wish::Later)?;
        stream.wish = wish;
        (wish != Wish::Later).then_some(wish)
    }

    /// What is wanted now of a stream that is told anew.
    pub(crate) fn wish(&mut self, id: LinkId) -> Wish {
        let wish = self.wish_now(id);
        if let Some(stream) = self.streams.get_mut(&id.origin).filter(|stream| stream.id == id) {
            stream.wish = wish;
        }
        wish
    }

    /// When to ask [`poll_wish`](Self::poll_wish) again if nothing happens before, in monotonic time.
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        if self.stage != Stage::Empty || self.streams.is_empty() {
            return None;
        }
        self.first_greeting.map(|first| first + self.options.patience)
    }

    fn choose(&mut self, wanted: Option<&SlotSet>, now: Duration) {
        if self.stage == Stage::Through {
            return;
        }
        let candidates = self.candidates(wanted);
        if let Stage::Cloning(region) = self.stage
            && !self.gives_way(region, &candidates, now)
        {
            return;
        }
        let chosen = self.best(&candidates, now);
        (self.stage, self.chosen) = (chosen.map_or(Stage::Empty, Stage::Cloning), now);
    }

    /// The regions that have greeted.
    fn candidates(&self, wanted: Option<&SlotSet>) -> Vec<Candidate> {
        let regions: BTreeSet<RegionId> = self.streams.keys().map(|origin| origin.region()).collect();
        let candidate = |region| Candidate {
            region,
            is_complete: self.streams_of(region).any(|stream| stream.is_complete),
            is_held: self.streams_of(region).any(|stream| stream.is_held),
            missing: self.missing(region, wanted, |_| true),
            distance: self.distances.get(&region).copied().unwrap_or(Duration::MAX),
        };
        regions.into_iter().map(candidate).collect()
    }

    /// Whether there is another that is rather cloned than the one that is being cloned: that is held, or for part of it nobody
    /// has spoken for a while.
    fn gives_way(&self, region: RegionId, candidates: &[Candidate], now: Duration) -> bool {
        let Some(current) = candidates.iter().find(|candidate| candidate.region == region) else { return true };
        let lacks_speakers = current.missing > 0 && now >= self.chosen + self.options.patience;
        let is_better = |other: &Candidate| {
            !other.is_held && (current.is_held || lacks_speakers && other.is_complete && other.missing == 0)
        };
        candidates.iter().any(is_better)
    }

    /// Whom to clone now; nobody yet, if none is complete and there is reason to wait for one.
    fn best(&self, candidates: &[Candidate], now: Duration) -> Option<RegionId> {
        let has_waited = self.first_greeting.is_some_and(|first| now >= first + self.options.patience);
        let takes_any = has_waited || candidates.len() >= self.peers;
        let complete = candidates.iter().filter(|candidate| candidate.is_complete && !candidate.is_held);
        let any = || candidates.iter().filter(|_| takes_any).min_by_key(|candidate| candidate.rank());
        complete.min_by_key(|candidate| candidate.rank()).or_else(any).map(|candidate| candidate.region)
    }

    /// The streams of a region.
    fn streams_of(&self, region: RegionId) -> impl Iterator<Item = &Stream> {
        self.streams.values().filter(move |stream| stream.id.region() == region)
    }

    /// For how many of the `wanted` slots of a region no stream that `counts` speaks.
    fn missing(&self, region: RegionId, wanted: Option<&SlotSet>, counts: impl Fn(&Stream) -> bool) -> usize {
        let mut missing = wanted.cloned().unwrap_or_else(SlotSet::all);
        self.streams_of(region).filter(|stream| counts(stream)).for_each(|stream| missing.subtract(&stream.slots));
        missing.len()
    }

    fn wish_now(&self, id: LinkId) -> Wish {
        match self.stage {
            Stage::Through => Wish::Resume,
            Stage::Cloning(chosen) if chosen == id.region() => Wish::Clone,
            Stage::Cloning(_) | Stage::Empty => Wish::Later,
        }
    }

    fn check_complete(&mut self) {
        if self.peers == 0 && self.streams.is_empty() {
            // Nobody is left who could send a clone.
            self.stage = Stage::Through;
        }
        let is_heard = |stream: &Stream| stream.is_settled || stream.is_held;
        self.is_complete |= self.stage == Stage::Through && self.streams.values().all(is_heard);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use clock::{Incarnation, Origin, RegionId};

    use node_core::slot::{SlotRange, SlotSet};

    use super::{Refill, RefillOptions, Wish};
    use crate::admission::LinkId;

    const NOW: Duration = Duration::from_secs(100);

    fn link(region: u8, epoch: u64) -> LinkId {
        LinkId { origin: Origin::new(RegionId::new(region).unwrap(), Incarnation::FIRST), epoch }
    }

    fn all() -> Arc<SlotSet> {
        Arc::new(SlotSet::all())
    }

    fn slots(numbers: std::ops::Range<u16>) -> Arc<SlotSet> {
        Arc::new(SlotRange::new(numbers).unwrap().iter().collect())
    }

    fn primary(life: u16) -> LinkId {
        LinkId { origin: Origin::new(RegionId::new(2).unwrap(), Incarnation::new(life)), epoch: 1 }
    }

    fn refill(peers: usize) -> Refill {
        Refill::new(peers, RefillOptions::default())
    }

    #[test]
    fn alone_a_region_is_complete_at_once() {
        assert!(refill(0).is_complete());
        assert!(!refill(1).is_complete());
    }

    #[test]
    fn a_region_whose_last_peer_is_removed_during_the_clone_is_complete_once_its_stream_has_ended() {
        let mut refill = refill(1);
        assert_eq!(refill.greeted(link(2, 1), true, &all(), None, NOW), Wish::Clone);
        refill.set_peers(0);
        assert!(!refill.is_complete());
        refill.lost(link(2, 1));
        assert!(refill.is_complete());
    }

    #[test]
    fn one_peer_sends_a_clone_and_the_others_what_is_missing_to_it() {
        let mut refill = refill(2);
        assert_eq!(refill.greeted(link(2, 1), true, &all(), None, NOW), Wish::Clone);
        assert_eq!(refill.greeted(link(3, 1), true, &all(), None, NOW), Wish::Later);
        assert_eq!(refill.poll_wish(link(3, 1), None, NOW), None);
        assert_eq!([2, 3].map(|region| refill.wish(link(region, 1))), [Wish::Clone, Wish::Later]);
        refill.watermark(link(2, 1), None);
        assert_eq!(refill.wish(link(2, 1)), Wish::Resume);
        assert!(!refill.is_complete());
        assert_eq!(refill.poll_wish(link(3, 1), None, NOW), Some(Wish::Resume));
        assert_eq!(refill.poll_wish(link(3, 1), None, NOW), None);
        refill.watermark(link(3, 1), None);
        assert!(refill.is_complete());
        assert_eq!(refill.greeted(link(3, 2), true, &all(), None, NOW), Wish::Resume);
        assert!(refill.is_complete());
    }

    #[test]
    fn a_complete_peer_is_waited_for_but_not_for_ever() {
        let mut refill = refill(2);
        assert_eq!(refill.greeted(link(2, 1), false, &all(), None, NOW), Wish::Later);
        assert_eq!(refill.poll_wish(link(2, 1), None, NOW), None);
        let patience = refill.poll_timeout().unwrap();
        assert_eq!(refill.poll_wish(link(2, 1), None, patience), Some(Wish::Clone));
        assert_eq!(refill.poll_timeout(), None);
    }

    #[test]
    fn a_complete_peer_that_comes_in_time_is_preferred() {
        let mut refill = refill(3);
        assert_eq!(refill.greeted(link(2, 1), false, &all(), None, NOW), Wish::Later);
        assert_eq!(refill.greeted(link(3, 1), true, &all(), None, NOW), Wish::Clone);
    }

    #[test]
    fn at_a_cold_start_nobody_waits_once_all_have_greeted() {
        let mut refill = refill(2);
        assert_eq!(refill.greeted(link(3, 1), false, &all(), None, NOW), Wish::Later);
        assert_eq!(refill.greeted(link(2, 1), false, &all(), None, NOW), Wish::Clone);
        assert_eq!(refill.poll_wish(link(3, 1), None, NOW), None);
    }

    #[test]
    fn when_the_link_of_the_clone_dies_another_is_cloned() {
        let mut refill = refill(2);
        refill.greeted(link(2, 1), true, &all(), None, NOW);
        refill.greeted(link(3, 1), true, &all(), None, NOW);
        refill.lost(link(2, 1));
        assert!(!refill.is_complete());
        assert_eq!(refill.poll_wish(link(3, 1), None, NOW), Some(Wish::Clone));
        assert_eq!(refill.greeted(link(2, 2), true, &all(), None, NOW), Wish::Later);
        refill.watermark(link(3, 1), None);
        assert_eq!(refill.poll_wish(link(2, 2), None, NOW), Some(Wish::Resume));
    }

    #[test]
    fn a_replaced_connection_is_not_missed() {
        let mut refill = refill(1);
        assert_eq!(refill.greeted(link(2, 1), true, &all(), None, NOW), Wish::Clone);
        assert_eq!(refill.greeted(link(2, 2), true, &all(), None, NOW), Wish::Clone);
        refill.lost(link(2, 1));
        refill.watermark(link(2, 1), None);
        assert!(!refill.is_complete());
        refill.watermark(link(2, 2), None);
        assert!(refill.is_complete());
    }

    #[test]
    fn a_link_that_dies_after_the_clone_holds_nobody_back() {
        let mut refill = refill(2);
        refill.greeted(link(2, 1), true, &all(), None, NOW);
        refill.greeted(link(3, 1), true, &all(), None, NOW);
        refill.watermark(link(2, 1), None);
        refill.lost(link(3, 1));
        assert!(refill.is_complete());
    }

    #[test]
    fn a_region_that_is_held_is_not_waited_for_while_there_is_another() {
        let mut refill = refill(3);
        assert_eq!(refill.greeted(link(2, 1), true, &all(), None, NOW), Wish::Clone);
        refill.held(link(2, 1), true);
        assert_eq!(refill.cloning(), Some(RegionId::new(2).unwrap()), "there is no other");
        assert_eq!(refill.greeted(link(3, 1), false, &all(), None, NOW), Wish::Later);
        // It is complete, and of no use; the other is taken as soon as all have greeted.
        assert_eq!(refill.poll_wish(link(3, 1), None, NOW), None);
        assert_eq!(refill.greeted(link(4, 1), false, &all(), None, NOW), Wish::Later);
        assert_eq!(refill.poll_wish(link(3, 1), None, NOW), Some(Wish::Clone));
        refill.watermark(link(3, 1), None);
        assert!(!refill.is_complete());
        refill.watermark(link(4, 1), None);
        assert!(refill.is_complete());
        refill.watermark(link(2, 1), None);
    }

    #[test]
    fn a_cluster_is_cloned_by_all_its_primaries() {
        let mut refill = refill(2);
        let wanted = slots(0..200);
        assert_eq!(refill.greeted(primary(1), true, &slots(0..100), Some(&wanted), NOW), Wish::Clone);
        assert_eq!(refill.greeted(link(3, 1), true, &all(), Some(&wanted), NOW), Wish::Later);
        refill.watermark(primary(1), Some(&wanted));
        assert_eq!(refill.poll_wish(link(3, 1), Some(&wanted), NOW), None);
        assert_eq!(refill.greeted(primary(2), true, &slots(100..300), Some(&wanted), NOW), Wish::Clone);
        refill.watermark(primary(2), Some(&wanted));
        assert_eq!(refill.poll_wish(link(3, 1), Some(&wanted), NOW), Some(Wish::Resume));
    }

    #[test]
    fn a_slot_that_moves_during_the_clone_is_brought_by_whoever_has_it_then() {
        let mut refill = refill(2);
        let wanted = slots(0..200);
        refill.greeted(primary(1), true, &slots(0..100), Some(&wanted), NOW);
        refill.greeted(primary(2), true, &slots(100..200), Some(&wanted), NOW);
        refill.greeted(link(3, 1), true, &all(), Some(&wanted), NOW);
        refill.watermark(primary(2), Some(&wanted));
        refill.claimed(primary(2), &slots(90..200));
        refill.claimed(primary(1), &slots(0..90));
        refill.watermark(primary(1), Some(&wanted));
        assert_eq!(refill.poll_wish(link(3, 1), Some(&wanted), NOW), None, "nobody has sent what moved");
        refill.watermark(primary(2), Some(&wanted));
        assert_eq!(refill.poll_wish(link(3, 1), Some(&wanted), NOW), Some(Wish::Resume));
        // What it gives up is no reason to wait for it again.
        refill.claimed(primary(2), &slots(100..200));
        refill.watermark(link(3, 1), Some(&wanted));
        assert!(refill.is_complete());
    }

    #[test]
    fn a_cluster_that_has_lost_a_shard_is_waited_for_no_longer_than_patience_lasts() {
        let mut refill = refill(2);
        let wanted = slots(0..200);
        assert_eq!(refill.greeted(primary(1), true, &slots(0..100), Some(&wanted), NOW), Wish::Clone);
        assert_eq!(refill.greeted(link(3, 1), true, &all(), Some(&wanted), NOW), Wish::Later);
        refill.watermark(primary(1), Some(&wanted));
        let patience = RefillOptions::default().patience;
        assert_eq!(refill.poll_wish(link(3, 1), Some(&wanted), NOW + patience / 2), None);
        assert_eq!(refill.poll_wish(link(3, 1), Some(&wanted), NOW + patience), Some(Wish::Clone));
    }

    #[test]
    fn a_region_that_is_lost_during_its_clone_is_not_waited_for_whatever_part_was_through() {
        let mut refill = refill(2);
        let wanted = slots(0..200);
        refill.greeted(primary(1), true, &slots(0..100), Some(&wanted), NOW);
        refill.greeted(link(3, 1), true, &all(), Some(&wanted), NOW);
        refill.watermark(primary(1), Some(&wanted));
        refill.lost(primary(1));
        assert_eq!(refill.poll_wish(link(3, 1), Some(&wanted), NOW), Some(Wish::Clone));
    }

    #[test]
    fn who_speaks_for_most_of_what_is_wanted_is_cloned() {
        let mut refill = refill(2);
        refill.greeted(primary(1), false, &slots(0..100), None, NOW);
        assert_eq!(refill.greeted(link(3, 1), false, &all(), None, NOW), Wish::Clone);
    }

    #[test]
    fn a_store_that_owns_nothing_is_complete_and_stays_so_when_it_comes_to_own_something() {
        let mut refill = Refill::of_nothing(1, RefillOptions::default());
        assert!(refill.is_complete());
        assert_eq!(refill.greeted(link(2, 1), true, &all(), Some(&slots(0..9)), NOW), Wish::Resume);
        assert!(refill.is_complete());
    }

    #[test]
    fn a_store_that_has_something_clones_nobody() {
        let mut refill = Refill::go_on(1, RefillOptions::default());
        assert!(!refill.is_complete());
        assert_eq!(refill.greeted(link(2, 1), true, &all(), None, NOW), Wish::Resume);
        refill.watermark(link(2, 1), None);
        assert!(refill.is_complete());
    }
}
