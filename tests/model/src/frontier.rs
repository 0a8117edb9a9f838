//! The frontier: the time up to which every region is known to have seen every origin.
//!
//! Mirror of `node/core`'s `Matrix`, between regions of one node. Each pull brings the source's row along.

use crate::{
    configurations::Frontier,
    region::{ORIGINS, Origin, RegionId, Row, Time},
    rules::{Broken, Rules},
    world::World,
};

impl World {
    /// The consumer of a feed hears what its source has seen.
    pub(crate) fn report(&mut self, from: RegionId, to: RegionId) {
        self.regions[to].rows[from] = Row { of: from as u8, seen: self.regions[from].seen };
    }

    /// Works out the frontiers anew. They never go back within a life.
    pub(crate) fn advance_frontiers(&mut self, frontier: Frontier, rules: Rules) {
        if frontier == Frontier::Unknown {
            return;
        }
        let known = self.links().map(|(from, to)| self.regions[to].seen[from]).min().unwrap_or(Time::ZERO);
        for region in self.members() {
            if frontier == Frontier::Known {
                self.regions[region].frontier = known;
                continue;
            }
            let limit = self.replica.filter(|replica| replica.of == region).map(|replica| replica.state.seen);
            let reached = self.known_to_all(region, rules);
            let limit = limit.and_then(|seen| self.members().map(|origin| seen[origin]).min());
            let keeper = &mut self.regions[region];
            keeper.frontier = keeper.frontier.max(limit.map_or(reached, |limit| limit.min(reached)));
        }
    }

    /// The least entry of a region's matrix: of those that speak, and of the silent on whom rows disagree.
    fn known_to_all(&self, region: RegionId, rules: Rules) -> Time {
        let own = Row { of: region as u8, seen: self.regions[region].seen };
        let others = self.members().filter(|other| *other != region);
        let mut rows: Vec<Row> = others.map(|other| self.regions[region].rows[other]).chain([own]).collect();
        if rules.breaks(Broken::FrontierOfOneRegion) {
            rows = vec![own];
        }
        if rules.breaks(Broken::FrontierOfOwnOrigins) {
            return rows.iter().map(|row| row.seen[usize::from(row.of)]).min().unwrap_or(Time::ZERO);
        }
        let speaks = |origin: Origin| rows.iter().any(|row| usize::from(row.of) == origin);
        let times = |origin: Origin| rows.iter().map(move |row| row.seen[origin]);
        let counts = |origin: &Origin| speaks(*origin) || times(*origin).min() != times(*origin).max();
        (0..ORIGINS).filter(counts).filter_map(|origin| times(origin).min()).min().unwrap_or(Time::ZERO)
    }
}
