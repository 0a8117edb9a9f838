//! How far others are seen here, over all slots that this node owns: what is reported to them, and what lag goes by.
//!
//! # Who speaks now, and who did before
//! What is reported goes by origin. Lag goes by region: an origin speaks for a slot until another follows it, and who has just begun to
//! speak has said nothing yet. What may be missing then is what its predecessors had stamped last, so until it has said something it is
//! they who count; and where nobody speaks, as after a start during a cut, they alone. The latest of them is enough: who follows sends what it
//! has of those before it ahead of its own watermark.

use clock::{Now, Origin, RegionId, Time};

use super::{Seen, Store};
use crate::slot::SlotSet;

impl Store {
    /// What this node has seen in every slot that it owns: of who speaks, in those slots that it speaks for
    /// ([`Time::MAX`] if that is none of them); of who is silent, in all. Its own origin's watermark is among it.
    pub fn seen_minima(&self, now: Now) -> Seen {
        let (covers, own) = (self.covers(), self.origin());
        let mut minima: Vec<(Origin, Time)> = covers.live.keys().map(|origin| (*origin, Time::MAX)).collect();
        for index in 0..self.stripes() {
            for origin in self.lock(index).seen().origins() {
                if let Err(place) = minima.binary_search_by_key(&origin, |(known, _)| *known) {
                    minima.insert(place, (origin, Time::MAX));
                }
            }
        }
        for index in 0..self.stripes() {
            let mut stripe = self.lock(index);
            for (origin, least) in &mut minima {
                let slots = covers.live.get(origin).unwrap_or(&covers.silent);
                let here = if *origin == own {
                    Some(stripe.watermark(now.wall))
                } else {
                    stripe.seen().least(*origin, slots.ranges())
                };
                *least = here.map_or(*least, |here| here.min(*least));
            }
        }
        minima.into_iter().filter(|(_, time)| *time > Time::ZERO).collect()
    }

    /// Up to when another region is seen in that slot, of those that this node owns, in which this is longest ago. `minima` is what
    /// was [seen in all of them](Self::seen_minima). Where nobody of that region was ever seen it is `started`, when this process began to
    /// listen; [`Time::MAX`] if this node owns no slot.
    pub fn seen_of(&self, region: RegionId, minima: &Seen, started: Time) -> Time {
        let (matrix, owned) = (self.matrix(), self.owned());
        let mut unspoken = owned.map_or_else(SlotSet::all, |owned| (*owned).clone());
        let mut least = Time::MAX;
        for (speaker, slots) in matrix.speakers(region) {
            let (seen, birth) = (minima.at(speaker), matrix.birth(speaker));
            // Of who has not said anything yet nothing is seen beyond its birth.
            let seen = if seen > birth {
                seen
            } else {
                self.least_in(&slots.intersection(&unspoken), region, Some((speaker, birth)), started)
            };
            unspoken.subtract(slots);
            least = least.min(seen);
        }
        least.min(self.least_in(&unspoken, region, None, started))
    }

    fn least_in(&self, slots: &SlotSet, region: RegionId, speaker: Option<(Origin, Time)>, started: Time) -> Time {
        let in_stripe = |index: usize| {
            let stripe = self.lock(index);
            let seen = stripe.seen();
            let slots = slots.ranges_in(seen.slots());
            slots.filter_map(|slots| seen.least_of(region, speaker, &slots, started)).min()
        };
        (0..self.stripes()).filter_map(in_stripe).min().unwrap_or(Time::MAX)
    }
}
