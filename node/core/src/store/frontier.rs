//! The frontier: the time up to which every region is known to have seen every origin.
//!
//! Who speaks for a slot of a region says what it has `seen` there: the least over its slots. Put together these rows are a
//! matrix; its least entry is a time that everybody is past, for everyone's writes. Up to there forgetting costs nothing:
//! no record that old is still on its way. The frontier is only about cost. Were it computed wrong, too high, the floor
//! would still keep every forgotten value from coming back.
//!
//! # Who speaks
//! An origin *speaks* for a slot while it may still issue stamps there. In a region of one node that is the newest life of
//! the region, for all slots. In a cluster each primary speaks for the slots that it owns, and says so ([`Claim`]), with the
//! epoch of the map in which it did; of two claims to a slot the younger holds. An origin that speaks for no slot is
//! silent; one that another has followed in a slot has *ended* there, as has everyone of a region that was removed. Of a region that
//! has not been heard nothing is known, and nobody has ended.
//!
//! An origin has a *birth*: a time that all its stamps are above. Up to its birth everybody has trivially seen it, so
//! a region's restart under a new incarnation does not pull the frontier, or anyone's `seen`, back to zero.
//!
//! # What holds it back
//! A speaker that never reported, and a slot for which nobody speaks: nothing is known there. A report counts for those
//! speakers whose slots it is about. A silent origin does as long as
//! regions disagree on it, where rows can be compared: between regions of one node. The rows of several primaries are
//! about different slots, and do not say in which of them the regions agree; there a silent origin holds nobody back, and
//! the floor pays: a consumer that lacked something of it gets such a slot whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use clock::{Incarnation, Origin, RegionId, Time};

use super::Seen;
use crate::slot::{SLOTS, Slot, SlotSet};

/// For which slots an origin says that it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The epoch of its region's map when it did; zero in a region that has none.
    pub epoch: u64,
    /// The slots.
    pub slots: Arc<SlotSet>,
}

impl Claim {
    /// That of the only node of a region.
    pub fn all() -> Self {
        Self { epoch: 0, slots: Arc::new(SlotSet::all()) }
    }
}

/// What is known of every region's progress; one per node.
#[derive(Clone, Debug)]
pub struct Matrix {
    own: RegionId,
    regions: BTreeMap<RegionId, BTreeMap<Origin, Speaker>>,
    /// Every origin that was heard of, and its birth.
    births: BTreeMap<Origin, Time>,
    /// The last life of each region that was removed once: none up to it speaks any more.
    retired: BTreeMap<RegionId, Incarnation>,
    /// Counts the changes of who speaks for what.
    changes: u64,
}

/// An origin that speaks.
#[derive(Clone, Debug)]
struct Speaker {
    claim: Claim,
    /// What is left of the claim beside younger ones; never nothing.
    slots: Arc<SlotSet>,
    /// What it last reported to have seen: the least over its slots.
    seen: Seen,
}

impl Matrix {
    /// Begins with the regions that exist: this one, whose current origin was born at `birth`, and its peers.
    pub fn new(own: Origin, birth: Time, peers: impl IntoIterator<Item = RegionId>) -> Self {
        let regions = peers.into_iter().map(|peer| (peer, BTreeMap::new())).collect();
        let (births, retired) = (BTreeMap::new(), BTreeMap::new());
        let mut matrix = Self { own: own.region(), regions, births, retired, changes: 0 };
        matrix.follow(own, birth);
        matrix
    }

    /// Learns that `origin`, born at `birth`, speaks for what it claims. Whoever spoke there before has ended there, and one
    /// that speaks for nothing any more is silent; what a new one has seen, or one that claims more than before, is unknown
    /// until it reports.
    ///
    /// Returns whether it speaks for anything: it does not if all that it claims has younger claims on it, or its region is
    /// none of those that count, or counted it out in that life.
    pub fn announce(&mut self, origin: Origin, birth: Time, claim: &Claim) -> bool {
        if self.is_retired(origin) {
            return false;
        }
        let Some(region) = self.regions.get_mut(&origin.region()) else { return false };
        match region.get_mut(&origin) {
            Some(speaker) if claim.epoch < speaker.claim.epoch => return true,
            Some(speaker) => {
                if !speaker.claim.slots.has_all(&claim.slots) {
                    // What it reported was not about these.
                    speaker.seen = Seen::new();
                }
                speaker.claim = claim.clone();
            }
            None => {
                let speaker = Speaker { claim: claim.clone(), slots: claim.slots.clone(), seen: Seen::new() };
                region.insert(origin, speaker);
            }
        }
        settle(region);
        self.changes += 1;
        let speaks = region.contains_key(&origin);
        if speaks {
            self.births.entry(origin).or_insert(birth);
        }
        speaks
    }

    /// `origin`, born at `birth`, stamps what this region writes from now on: the own store's new life, or the primary
    /// that it follows.
    pub fn follow(&mut self, origin: Origin, birth: Time) {
        self.births.insert(origin, birth);
        let claim = Claim::all();
        let speaker = Speaker { slots: claim.slots.clone(), claim, seen: Seen::new() };
        self.regions.insert(self.own, BTreeMap::from([(origin, speaker)]));
        self.changes += 1;
    }

    /// Takes in what a speaker reports to have seen in all its slots, in the place of what it reported before. What a silent
    /// one says is ignored.
    pub fn report(&mut self, origin: Origin, seen: &Seen) {
        let speaker = self.regions.get_mut(&origin.region()).and_then(|region| region.get_mut(&origin));
        if let Some(speaker) = speaker {
            speaker.seen.clone_from(seen);
        }
    }

    /// A region was added to, or removed from, those that count.
    pub fn set_member(&mut self, region: RegionId, member: bool) {
        self.changes += 1;
        if member {
            self.regions.entry(region).or_default();
        } else if region != self.own {
            self.regions.remove(&region);
        }
    }

    /// No life of a region up to this one speaks any more: it was removed in it.
    pub fn retire(&mut self, region: RegionId, last: Incarnation) {
        self.changes += 1;
        self.retired.insert(region, last);
        if let Some(speakers) = self.regions.get_mut(&region) {
            speakers.retain(|origin, _| origin.incarnation().is_after(last));
        }
    }

    /// The last life of a region when it was removed, if it ever was.
    pub fn retired(&self, region: RegionId) -> Option<Incarnation> {
        self.retired.get(&region).copied()
    }

    /// The youngest life of a region that was ever heard of.
    pub fn youngest(&self, region: RegionId) -> Option<Incarnation> {
        let lives = self.births.keys().filter(|origin| origin.region() == region).map(|origin| origin.incarnation());
        lives.chain(self.retired(region)).reduce(|one, other| if other.is_after(one) { other } else { one })
    }

    /// What a speaker reported last.
    pub fn reported(&self, origin: Origin) -> Option<&Seen> {
        self.regions.get(&origin.region())?.get(&origin).map(|speaker| &speaker.seen)
    }

    fn is_retired(&self, origin: Origin) -> bool {
        self.retired(origin.region()).is_some_and(|last| !origin.incarnation().is_after(last))
    }

    /// Counts the changes of who speaks for what: while it stands, so does all that follows from that, whatever is reported.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Those that speak for a region, and for which slots each does.
    pub fn speakers(&self, region: RegionId) -> impl Iterator<Item = (Origin, &SlotSet)> {
        let speakers = self.regions.get(&region).into_iter().flatten();
        speakers.map(|(origin, speaker)| (*origin, &*speaker.slots))
    }

    /// Who speaks for a slot of a region, if that was heard.
    pub fn speaker(&self, region: RegionId, slot: Slot) -> Option<Origin> {
        self.speakers(region).find(|(_, slots)| slots.contains(slot)).map(|(origin, _)| origin)
    }

    /// The slots that `origin` speaks for; `None` if it is silent.
    pub fn spoken_for(&self, origin: Origin) -> Option<&Arc<SlotSet>> {
        self.regions.get(&origin.region())?.get(&origin).map(|speaker| &speaker.slots)
    }

    /// The slots among `owned` (all, if none are named) in which a statement about `origin` means something: those that it
    /// speaks for; all, if it is silent.
    pub fn cover(&self, origin: Origin, owned: Option<&SlotSet>) -> SlotSet {
        match (self.spoken_for(origin), owned) {
            (Some(spoken_for), Some(owned)) => spoken_for.intersection(owned),
            (Some(slots), None) => (**slots).clone(),
            (None, Some(owned)) => owned.clone(),
            (None, None) => SlotSet::all(),
        }
    }

    /// The slots in which `origin` will never speak again, since another of its region does, or its region is none any more.
    pub fn ended(&self, origin: Origin) -> SlotSet {
        if self.has_left(origin.region()) {
            return SlotSet::all();
        }
        let mut ended = SlotSet::new();
        let others = self.speakers(origin.region()).filter(|(speaker, _)| *speaker != origin);
        others.for_each(|(_, slots)| ended.add(slots));
        ended
    }

    /// Whether `origin` may still issue stamps.
    pub fn is_live(&self, origin: Origin) -> bool {
        self.spoken_for(origin).is_some()
    }

    /// Whether `origin` may still issue stamps in this slot.
    pub fn speaks(&self, origin: Origin, slot: Slot) -> bool {
        self.spoken_for(origin).is_some_and(|slots| slots.contains(slot))
    }

    /// Whether a region is none of those that count: it was removed. Its origins have ended, and whoever has something of them passes it
    /// on to the others.
    pub fn has_left(&self, region: RegionId) -> bool {
        !self.regions.contains_key(&region)
    }

    /// Whether another origin of the same region speaks for this slot now, or none ever will, so that this one never will again.
    pub fn has_ended(&self, origin: Origin, slot: Slot) -> bool {
        self.has_left(origin.region()) || self.speaker(origin.region(), slot).is_some_and(|speaker| speaker != origin)
    }

    /// Whether a region is one of those that count, or was: a life of whoever has left was heard of.
    pub fn knows(&self, region: RegionId) -> bool {
        self.regions.contains_key(&region) || self.youngest(region).is_some()
    }

    /// The time that all stamps of `origin` are above; zero if it was never announced.
    pub fn birth(&self, origin: Origin) -> Time {
        self.births.get(&origin).copied().unwrap_or(Time::ZERO)
    }

    /// `seen`, raised to the births of the origins that speak now: what is vacuously seen.
    pub fn with_births(&self, seen: &Seen) -> Seen {
        let mut raised = seen.clone();
        for origin in self.live_origins() {
            raised.advance(origin, self.birth(origin));
        }
        raised
    }

    /// The origins that speak, in the order of regions.
    pub fn live_origins(&self) -> impl Iterator<Item = Origin> {
        self.regions.values().flat_map(|region| region.keys().copied())
    }

    /// The frontier of the slots `owned` (all, if none are named), of which this node has seen `own_seen`, its own origin's
    /// watermark among it.
    pub fn frontier(&self, own_seen: &Seen, owned: Option<&SlotSet>) -> Time {
        if !self.regions.keys().all(|region| self.is_spoken_for(*region, owned)) {
            return Time::ZERO;
        }
        let others = self.regions.iter().filter(|(region, _)| **region != self.own);
        // Who reported, and on which of these slots.
        let own_row = (self.with_births(own_seen), owned.cloned().unwrap_or_else(SlotSet::all));
        let reported = others.flat_map(|(_, speakers)| speakers.values());
        let reported =
            reported.map(|speaker| (self.with_births(&speaker.seen), speaker.slots.intersection(&own_row.1)));
        let reported: Vec<_> = reported.collect();
        let rows: Vec<_> = std::iter::once(own_row).chain(reported).collect();
        let is_comparable = self.is_of_single_nodes(owned);
        let origins: BTreeSet<Origin> =
            rows.iter().flat_map(|(seen, _)| seen.iter().map(|(origin, _)| origin)).collect();
        let mut frontier = None;
        for origin in origins {
            // Of who speaks for none of the slots that a row is about, the row says nothing.
            let spoken_for = self.spoken_for(origin);
            let is_about = |slots: &SlotSet| spoken_for.is_none_or(|of| of.meets(slots));
            let times = rows.iter().filter(|(_, slots)| is_about(slots)).map(|(seen, _)| seen.at(origin));
            let (Some(least), Some(most)) = (times.clone().min(), times.max()) else { continue };
            if self.is_live(origin) || is_comparable && least != most {
                frontier = Some(frontier.map_or(least, |frontier: Time| frontier.min(least)));
            }
        }
        frontier.unwrap_or(Time::ZERO)
    }

    /// How many other regions have seen `origin` up to `time`, as far as is known here, in all of the slots `owned` (all, if none
    /// are named).
    pub fn regions_past(&self, origin: Origin, time: Time, owned: Option<&SlotSet>) -> usize {
        let has_seen = |(region, speakers): &(&RegionId, &BTreeMap<Origin, Speaker>)| {
            **region != self.own
                && self.is_spoken_for(**region, owned)
                && speakers.values().all(|speaker| speaker.seen.at(origin) >= time)
        };
        self.regions.iter().filter(has_seen).count()
    }

    /// Whether the rows of all regions are about all slots, as far as is known.
    fn is_of_single_nodes(&self, owned: Option<&SlotSet>) -> bool {
        let is_all = |slots: &SlotSet| slots.len() == usize::from(SLOTS);
        let is_one = |speakers: &BTreeMap<_, Speaker>| {
            speakers.len() == 1 && speakers.values().all(|speaker| is_all(&speaker.slots))
        };
        owned.is_none_or(is_all) && self.regions.values().all(is_one)
    }

    /// Whether somebody speaks for each of these slots (all, if none are named) of a region.
    pub fn is_spoken_for(&self, region: RegionId, slots: Option<&SlotSet>) -> bool {
        let mut left = slots.cloned().unwrap_or_else(SlotSet::all);
        self.speakers(region).for_each(|(_, spoken_for)| left.subtract(spoken_for));
        left.is_empty()
    }
}

/// Leaves each slot to its youngest claim, and drops who is left with nothing.
fn settle(region: &mut BTreeMap<Origin, Speaker>) {
    let claims: Vec<_> = region.iter().map(|(origin, speaker)| (*origin, speaker.claim.clone())).collect();
    region.retain(|origin, speaker| {
        let is_younger = |(other, claim): &&(Origin, Claim)| match claim.epoch.cmp(&speaker.claim.epoch) {
            std::cmp::Ordering::Equal => other.incarnation().is_after(origin.incarnation()),
            order => order.is_gt(),
        };
        let mut left = (*speaker.claim.slots).clone();
        claims.iter().filter(is_younger).for_each(|(_, claim)| left.subtract(&claim.slots));
        if *speaker.slots != left {
            speaker.slots = Arc::new(left);
        }
        !speaker.slots.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use clock::{Incarnation, Origin, RegionId, Time};

    use super::{Claim, Matrix};
    use crate::{
        slot::{Slot, SlotRange, SlotSet},
        store::Seen,
    };

    fn region(id: u8) -> RegionId {
        RegionId::new(id).unwrap()
    }

    fn origin(id: u8, life: u16) -> Origin {
        Origin::new(region(id), Incarnation::new(life))
    }

    fn seen(pairs: &[(Origin, u64)]) -> Seen {
        pairs.iter().map(|(origin, time)| (*origin, Time::from_ntp64(*time))).collect()
    }

    fn two_regions() -> Matrix {
        let mut matrix = Matrix::new(origin(1, 0), Time::from_ntp64(1), [region(2)]);
        matrix.announce(origin(2, 0), Time::from_ntp64(1), &Claim::all());
        matrix
    }

    #[test]
    fn alone_the_frontier_is_the_own_watermark() {
        let matrix = Matrix::new(origin(1, 0), Time::from_ntp64(1), []);
        assert_eq!(matrix.frontier(&seen(&[(origin(1, 0), 50)]), None), Time::from_ntp64(50));
    }

    #[test]
    fn the_least_of_all_rows_and_origins_counts() {
        let mut matrix = two_regions();
        matrix.report(origin(2, 0), &seen(&[(origin(1, 0), 30), (origin(2, 0), 60)]));
        let own = seen(&[(origin(1, 0), 50), (origin(2, 0), 40)]);
        assert_eq!(matrix.frontier(&own, None), Time::from_ntp64(30));
    }

    #[test]
    fn a_region_that_never_spoke_holds_it_at_zero() {
        let matrix = Matrix::new(origin(1, 0), Time::from_ntp64(1), [region(2)]);
        assert_eq!(matrix.frontier(&seen(&[(origin(1, 0), 50)]), None), Time::ZERO);
    }

    #[test]
    fn a_silent_origin_counts_until_all_agree_on_it() {
        let mut matrix = two_regions();
        assert!(matrix.announce(origin(2, 1), Time::from_ntp64(45), &Claim::all()));
        assert!(!matrix.announce(origin(2, 0), Time::from_ntp64(1), &Claim::all()));
        let own = seen(&[(origin(1, 0), 50), (origin(2, 0), 40), (origin(2, 1), 55)]);
        matrix.report(origin(2, 1), &seen(&[(origin(1, 0), 48), (origin(2, 0), 20), (origin(2, 1), 60)]));
        assert_eq!(matrix.frontier(&own, None), Time::from_ntp64(20));
        matrix.report(origin(2, 1), &seen(&[(origin(1, 0), 48), (origin(2, 0), 40), (origin(2, 1), 60)]));
        assert_eq!(matrix.frontier(&own, None), Time::from_ntp64(48));
    }

    #[test]
    fn a_new_incarnation_is_seen_up_to_its_birth() {
        let mut matrix = two_regions();
        matrix.announce(origin(2, 1), Time::from_ntp64(45), &Claim::all());
        matrix.report(origin(2, 1), &seen(&[(origin(1, 0), 48)]));
        let own = seen(&[(origin(1, 0), 50)]);
        assert_eq!(matrix.frontier(&own, None), Time::from_ntp64(45));
    }

    #[test]
    fn a_removed_region_holds_nothing_back() {
        let mut matrix = two_regions();
        let own = seen(&[(origin(1, 0), 50)]);
        assert_eq!(matrix.frontier(&own, None), Time::from_ntp64(1));
        matrix.set_member(region(2), false);
        assert_eq!(matrix.frontier(&own, None), Time::from_ntp64(50));
    }

    #[test]
    fn a_region_that_was_removed_is_known_for_what_it_was_seen_to_write() {
        let mut matrix = two_regions();
        matrix.announce(origin(2, 4), Time::from_ntp64(1), &Claim::all());
        matrix.set_member(region(2), false);
        assert!(matrix.has_left(region(2)) && matrix.knows(region(2)));
        assert!(!matrix.knows(region(3)));
    }

    #[test]
    fn a_region_that_returns_speaks_in_a_younger_life_alone() {
        let mut matrix = two_regions();
        matrix.announce(origin(2, 4), Time::from_ntp64(1), &Claim::all());
        assert_eq!(matrix.youngest(region(2)), Some(Incarnation::new(4)));
        matrix.set_member(region(2), false);
        assert_eq!(matrix.youngest(region(2)), Some(Incarnation::new(4)));
        matrix.set_member(region(2), true);
        matrix.retire(region(2), Incarnation::new(4));
        // Founded anew it counts from the first again, with whatever epoch.
        for life in [0, 4] {
            assert!(!matrix.announce(origin(2, life), Time::from_ntp64(9), &claim(99, 0..16_384)));
        }
        assert!(matrix.announce(origin(2, 5), Time::from_ntp64(9), &claim(1, 0..16_384)));
        assert_eq!(matrix.frontier(&seen(&[(origin(1, 0), 50)]), None), Time::from_ntp64(1), "it has reported nothing");
    }

    fn slots(numbers: std::ops::Range<u16>) -> SlotSet {
        SlotRange::new(numbers).unwrap().iter().collect()
    }

    fn claim(epoch: u64, numbers: std::ops::Range<u16>) -> Claim {
        Claim { epoch, slots: slots(numbers).into() }
    }

    fn spoken_for(matrix: &Matrix, origin: Origin) -> Option<&SlotSet> {
        matrix.spoken_for(origin).map(|slots| &**slots)
    }

    #[test]
    fn of_two_claims_to_a_slot_the_younger_holds_whichever_comes_first() {
        let claims = [(origin(2, 1), claim(5, 0..200)), (origin(2, 2), claim(9, 100..300))];
        for order in [[0, 1], [1, 0]] {
            let mut matrix = two_regions();
            for index in order {
                let (origin, claim) = &claims[index];
                assert!(matrix.announce(*origin, Time::from_ntp64(7), claim));
            }
            assert_eq!(spoken_for(&matrix, origin(2, 1)), Some(&slots(0..100)));
            assert_eq!(spoken_for(&matrix, origin(2, 2)), Some(&slots(100..300)));
            // The region had one node before.
            assert!(matrix.speaks(origin(2, 0), Slot::new(300).unwrap()));
            assert!(matrix.has_ended(origin(2, 0), Slot::new(299).unwrap()));
            assert!(!matrix.announce(origin(2, 3), Time::from_ntp64(7), &claim(4, 120..130)));
            assert!(matrix.announce(origin(2, 2), Time::from_ntp64(7), &claim(8, 0..300)));
            assert_eq!(spoken_for(&matrix, origin(2, 2)), Some(&slots(100..300)));
        }
    }

    #[test]
    fn a_slot_that_nobody_speaks_for_holds_back_who_owns_it() {
        let mut matrix = Matrix::new(origin(1, 0), Time::from_ntp64(1), [region(2)]);
        matrix.announce(origin(2, 1), Time::from_ntp64(1), &claim(5, 0..200));
        let row = seen(&[(origin(1, 0), 30), (origin(2, 1), 60)]);
        matrix.report(origin(2, 1), &row);
        let own = seen(&[(origin(1, 0), 50), (origin(2, 1), 40)]);
        assert_eq!(matrix.frontier(&own, Some(&slots(50..200))), Time::from_ntp64(30));
        assert_eq!(matrix.frontier(&own, Some(&slots(50..201))), Time::ZERO);
        matrix.announce(origin(2, 2), Time::from_ntp64(20), &claim(6, 200..300));
        assert_eq!(matrix.frontier(&own, Some(&slots(50..201))), Time::from_ntp64(1), "it has reported nothing");
    }

    #[test]
    fn a_row_says_nothing_of_who_speaks_for_other_slots() {
        let mut matrix = Matrix::new(origin(1, 0), Time::from_ntp64(1), [region(2)]);
        // The primaries of a region hear nothing of each other, whose slots are others'.
        for (life, numbers) in [(1, 0..8_000), (2, 8_000..16_384)] {
            matrix.announce(origin(2, life), Time::from_ntp64(1), &claim(5, numbers));
            matrix.report(origin(2, life), &seen(&[(origin(1, 0), 30), (origin(2, life), 60)]));
        }
        let own = seen(&[(origin(1, 0), 50), (origin(2, 1), 55), (origin(2, 2), 55)]);
        assert_eq!(matrix.frontier(&own, None), Time::from_ntp64(30));
    }

    #[test]
    fn a_report_counts_for_no_slots_that_were_claimed_after() {
        let mut matrix = Matrix::new(origin(1, 0), Time::from_ntp64(1), [region(2)]);
        let row = seen(&[(origin(1, 0), 30), (origin(2, 1), 60)]);
        let own = seen(&[(origin(1, 0), 50), (origin(2, 1), 55)]);
        for (epoch, numbers) in [(5, 0..200), (6, 0..300)] {
            matrix.announce(origin(2, 1), Time::from_ntp64(1), &claim(epoch, numbers.clone()));
            assert_eq!(matrix.frontier(&own, Some(&slots(numbers.clone()))), Time::from_ntp64(1));
            matrix.report(origin(2, 1), &row);
            assert_eq!(matrix.frontier(&own, Some(&slots(numbers))), Time::from_ntp64(30));
        }
        matrix.announce(origin(2, 1), Time::from_ntp64(1), &claim(7, 0..100));
        assert_eq!(matrix.frontier(&own, Some(&slots(0..100))), Time::from_ntp64(30), "it was about these as well");
    }

    #[test]
    fn the_other_primaries_of_the_own_region_hold_nobody_back() {
        let mut matrix = Matrix::new(origin(1, 0), Time::from_ntp64(1), [region(2)]);
        matrix.announce(origin(2, 0), Time::from_ntp64(1), &Claim::all());
        matrix.report(origin(2, 0), &seen(&[(origin(1, 0), 30), (origin(1, 1), 40), (origin(2, 0), 60)]));
        let own = seen(&[(origin(1, 0), 50), (origin(2, 0), 55)]);
        assert_eq!(matrix.frontier(&own, Some(&slots(0..100))), Time::from_ntp64(30));
    }

    #[test]
    fn between_several_primaries_a_silent_origin_holds_nobody_back() {
        let mut matrix = Matrix::new(origin(1, 0), Time::from_ntp64(1), [region(2)]);
        for (life, numbers) in [(1, 0..8_000), (2, 8_000..16_384)] {
            matrix.announce(origin(2, life), Time::from_ntp64(1), &claim(5, numbers));
            let dead = u64::from(life) * 10;
            let row = [(origin(1, 0), 30), (origin(2, 0), dead), (origin(2, 1), 60), (origin(2, 2), 60)];
            matrix.report(origin(2, life), &seen(&row));
        }
        let own = seen(&[(origin(1, 0), 50), (origin(2, 0), 20), (origin(2, 1), 55), (origin(2, 2), 55)]);
        assert_eq!(matrix.frontier(&own, None), Time::from_ntp64(30));
    }
}
