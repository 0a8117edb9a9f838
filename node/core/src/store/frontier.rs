//! The frontier: the time up to which every region is known to have seen every origin.
//!
//! Each link carries its region's `seen` minima. Put together they are a matrix, one row per region; the least entry
//! of the matrix is a time that everybody is past, for everyone's writes. Up to there forgetting costs nothing: no
//! record that old is still on its way. The frontier is only about cost. Were it computed wrong, too high, the floor
//! would still keep every forgotten value from coming back.
//!
//! An origin is *live* while it may still issue stamps: the newest incarnation of a region that has not been removed.
//! A silent one on which all regions agree is done with and holds nobody back. A region that never reported holds
//! the frontier at zero, since nothing is known of it.
//!
//! An origin has a *birth*: a time that all its stamps are above. Up to its birth everybody has trivially seen it, so
//! a region's restart under a new incarnation does not pull the frontier, or anyone's `seen`, back to zero.

use std::collections::{BTreeMap, BTreeSet};

use clock::{Origin, RegionId, Time};

use super::Seen;

/// What is known of every region's progress; one per node.
#[derive(Clone, Debug)]
pub struct Matrix {
    own: RegionId,
    /// Per region, the origin that speaks for it now, and the `seen` minima it last reported.
    rows: BTreeMap<RegionId, Row>,
    /// Every origin that was heard of, and its birth.
    births: BTreeMap<Origin, Time>,
}

#[derive(Clone, Debug, Default)]
struct Row {
    live: Option<Origin>,
    seen: Seen,
}

impl Matrix {
    /// Begins with the regions that exist: this one, whose current origin was born at `birth`, and its peers.
    pub fn new(own: Origin, birth: Time, peers: impl IntoIterator<Item = RegionId>) -> Self {
        let mut rows: BTreeMap<_, _> = peers.into_iter().map(|peer| (peer, Row::default())).collect();
        rows.insert(own.region(), Row { live: Some(own), seen: Seen::new() });
        Self { own: own.region(), rows, births: BTreeMap::from([(own, birth)]) }
    }

    /// Learns that `origin`, born at `birth`, speaks for its region. Older incarnations of the region are silent from
    /// now on, and what the region had seen is unknown until it reports again: it may have lost some of it.
    ///
    /// Returns whether it was news; an older incarnation than the live one is not.
    pub fn announce(&mut self, origin: Origin, birth: Time) -> bool {
        let Some(row) = self.rows.get_mut(&origin.region()) else { return false };
        let newer = row.live.is_none_or(|live| origin.incarnation().is_after(live.incarnation()));
        if newer {
            *row = Row { live: Some(origin), seen: Seen::new() };
            self.births.insert(origin, birth);
        }
        newer
    }

    /// `origin`, born at `birth`, stamps what this region writes from now on: the own store's new life, or the primary
    /// that it follows.
    pub fn follow(&mut self, origin: Origin, birth: Time) {
        self.births.insert(origin, birth);
        self.rows.entry(self.own).or_default().live = Some(origin);
    }

    /// Takes in the `seen` minima that a region reports of itself; what a former incarnation says is ignored.
    pub fn report(&mut self, origin: Origin, seen: &Seen) {
        let Some(row) = self.rows.get_mut(&origin.region()) else { return };
        if row.live == Some(origin) {
            row.seen.join(seen);
        }
    }

    /// A region was added to, or removed from, those that count.
    pub fn set_member(&mut self, region: RegionId, member: bool) {
        if member {
            self.rows.entry(region).or_default();
        } else if region != self.own {
            self.rows.remove(&region);
        }
    }

    /// What `region` reported last.
    pub fn row(&self, region: RegionId) -> Option<&Seen> {
        self.rows.get(&region).map(|row| &row.seen)
    }

    /// The origin that speaks for `region` now, if it was heard.
    pub fn live_origin(&self, region: RegionId) -> Option<Origin> {
        self.rows.get(&region)?.live
    }

    /// Whether `origin` may still issue stamps.
    pub fn is_live(&self, origin: Origin) -> bool {
        self.rows.get(&origin.region()).is_some_and(|row| row.live == Some(origin))
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

    /// The live origins, in the order of regions.
    pub fn live_origins(&self) -> impl Iterator<Item = Origin> {
        self.rows.values().filter_map(|row| row.live)
    }

    /// The frontier, given this region's own `seen` minima (its own origin's watermark among them).
    pub fn frontier(&self, own_seen: &Seen) -> Time {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|(region, row)| self.with_births(if *region == self.own { own_seen } else { &row.seen }))
            .collect();
        if self.rows.values().any(|row| row.live.is_none()) {
            return Time::ZERO;
        }
        let origins: BTreeSet<Origin> = rows.iter().flat_map(|seen| seen.iter().map(|(origin, _)| origin)).collect();
        let mut frontier = None;
        for origin in origins {
            let least = rows.iter().map(|seen| seen.at(origin)).min().unwrap_or(Time::ZERO);
            let most = rows.iter().map(|seen| seen.at(origin)).max().unwrap_or(Time::ZERO);
            if self.is_live(origin) || least != most {
                frontier = Some(frontier.map_or(least, |frontier: Time| frontier.min(least)));
            }
        }
        frontier.unwrap_or(Time::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use clock::{Incarnation, Origin, RegionId, Time};

    use super::Matrix;
    use crate::store::Seen;

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
        matrix.announce(origin(2, 0), Time::from_ntp64(1));
        matrix
    }

    #[test]
    fn alone_the_frontier_is_the_own_watermark() {
        let matrix = Matrix::new(origin(1, 0), Time::from_ntp64(1), []);
        assert_eq!(matrix.frontier(&seen(&[(origin(1, 0), 50)])), Time::from_ntp64(50));
    }

    #[test]
    fn the_least_of_all_rows_and_origins_counts() {
        let mut matrix = two_regions();
        matrix.report(origin(2, 0), &seen(&[(origin(1, 0), 30), (origin(2, 0), 60)]));
        let own = seen(&[(origin(1, 0), 50), (origin(2, 0), 40)]);
        assert_eq!(matrix.frontier(&own), Time::from_ntp64(30));
    }

    #[test]
    fn a_region_that_never_spoke_holds_it_at_zero() {
        let matrix = Matrix::new(origin(1, 0), Time::from_ntp64(1), [region(2)]);
        assert_eq!(matrix.frontier(&seen(&[(origin(1, 0), 50)])), Time::ZERO);
    }

    #[test]
    fn a_silent_origin_counts_until_all_agree_on_it() {
        let mut matrix = two_regions();
        assert!(matrix.announce(origin(2, 1), Time::from_ntp64(45)));
        assert!(!matrix.announce(origin(2, 0), Time::from_ntp64(1)));
        let own = seen(&[(origin(1, 0), 50), (origin(2, 0), 40), (origin(2, 1), 55)]);
        matrix.report(origin(2, 1), &seen(&[(origin(1, 0), 48), (origin(2, 0), 20), (origin(2, 1), 60)]));
        assert_eq!(matrix.frontier(&own), Time::from_ntp64(20));
        matrix.report(origin(2, 1), &seen(&[(origin(1, 0), 48), (origin(2, 0), 40), (origin(2, 1), 60)]));
        assert_eq!(matrix.frontier(&own), Time::from_ntp64(48));
    }

    #[test]
    fn a_new_incarnation_is_seen_up_to_its_birth() {
        let mut matrix = two_regions();
        matrix.announce(origin(2, 1), Time::from_ntp64(45));
        matrix.report(origin(2, 1), &seen(&[(origin(1, 0), 48)]));
        let own = seen(&[(origin(1, 0), 50)]);
        assert_eq!(matrix.frontier(&own), Time::from_ntp64(45));
    }

    #[test]
    fn a_removed_region_holds_nothing_back() {
        let mut matrix = two_regions();
        let own = seen(&[(origin(1, 0), 50)]);
        assert_eq!(matrix.frontier(&own), Time::from_ntp64(1));
        matrix.set_member(region(2), false);
        assert_eq!(matrix.frontier(&own), Time::from_ntp64(50));
    }
}
