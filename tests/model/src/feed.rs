//! The feed, as pulls: the one way in which data moves.
//!
//! Mirror of `node/core`'s `feed` and `intake` for one slot. A link has no state of its own: where a consumer stands is its
//! `seen`. A tail can be had by who has seen something of the source, and only while nothing that it lacks was forgotten;
//! a scan can be had at any moment, since the ring may be outrun, the link cut and the cut gone around at any moment.

use crate::{
    region::{KEYS, Key, ORIGINS, Origin, REGIONS, RegionId, Time, Version},
    rules::{Broken, Rules},
    world::{Walk, World},
};

impl World {
    /// Has a record arrive.
    pub fn deliver(&mut self, to: RegionId, key: Key, record: Version, rules: Rules) {
        let origin = self.origin_of(record.time);
        self.regions[to].apply(key, record, origin, origin == to, rules);
    }

    /// Lets the clock of a region catch up with whatever was stamped anywhere.
    pub fn catch_up(&mut self, region: RegionId, catches_up: bool) {
        if catches_up {
            self.regions[region].seen[region] = self.top();
        }
    }

    /// One record arrives ahead of its watermark.
    pub fn record(&mut self, from: RegionId, to: RegionId, key: Key, rules: Rules) -> Option<()> {
        self.left.records = self.left.records.checked_sub(1)?;
        let record = self.regions[from].held[key].entry?;
        self.deliver(to, key, record, rules);
        Some(())
    }

    /// What the source stamped and the consumer lacks, and then the watermark.
    pub fn tail(&mut self, from: RegionId, to: RegionId, catches_up: bool, rules: Rules) -> Option<()> {
        if self.regions[to].seen[from] == Time::ZERO {
            return None;
        }
        for key in 0..KEYS {
            let held = self.regions[from].held[key];
            if held.logged == Time::ZERO || held.logged <= self.regions[to].seen[self.origin_of(held.logged)] {
                continue;
            }
            let is_own = held.entry.is_some_and(|entry| entry.time == held.logged);
            match held.entry {
                _ if rules.breaks(Broken::SeenFirst) => {}
                Some(_) if !is_own && rules.breaks(Broken::TailWithoutReplacements) => {}
                Some(entry) => self.deliver(to, key, entry, rules),
                None if rules.breaks(Broken::TailPassesOverForgotten) => {}
                // It was forgotten before it was sent: a scan must bring what else there is.
                None => return None,
            }
        }
        self.catch_up(from, catches_up);
        let watermark = self.regions[from].seen[from];
        let seen = &mut self.regions[to].seen[from];
        *seen = (*seen).max(watermark);
        self.report(from, to);
        Some(())
    }

    /// Everything newer than what the consumer has seen, whoever stamped it; or all of it.
    pub fn scan(&mut self, from: RegionId, to: RegionId, rules: Rules) -> Option<()> {
        let whole = self.must_be_whole(from, to, &self.regions[to].seen, rules);
        let walk = self.walk_of(from, to, whole);
        (0..KEYS).for_each(|key| self.pass(&walk, key, rules));
        self.finish(&walk, rules);
        Some(())
    }

    /// The first half of a scan.
    pub fn begin_scan(&mut self, from: RegionId, to: RegionId, first: Key, rules: Rules) -> Option<()> {
        self.left.walks = self.left.walks.checked_sub(1)?;
        self.catch_up(from, true);
        let whole = self.must_be_whole(from, to, &self.regions[to].seen, rules);
        let mut walk = self.walk_of(from, to, whole);
        walk.passed = first;
        walk.was_kept = self.regions[from].held[first].entry.is_some();
        self.pass(&walk, first, rules);
        self.walk = Some(walk);
        Some(())
    }

    /// The second half. Should the floor have risen past the consumer, the scan was for nothing.
    pub fn end_scan(&mut self, rules: Rules) -> Option<()> {
        let mut walk = self.walk.take()?;
        (0..KEYS).filter(|key| *key != walk.passed).for_each(|key| self.pass(&walk, key, rules));
        let is_overtaken = !walk.whole && self.must_be_whole(walk.from, walk.to, &walk.since, rules);
        if is_overtaken && !rules.breaks(Broken::ScanGoesOn) {
            return Some(());
        }
        if rules.breaks(Broken::ScanClaimsItsEnd) {
            walk.seen = self.regions[walk.from].seen;
        }
        self.finish(&walk, rules);
        Some(())
    }

    fn walk_of(&self, from: RegionId, to: RegionId, whole: bool) -> Walk {
        let (since, seen) = (self.regions[to].seen, self.regions[from].seen);
        // As if a key behind the last had been passed: what is kept is looked up at the end.
        Walk { from, to, passed: KEYS, was_kept: false, whole, since, seen }
    }

    /// Sends a key, if the consumer wants it.
    fn pass(&mut self, walk: &Walk, key: Key, rules: Rules) {
        let Some(entry) = self.regions[walk.from].held[key].entry else { return };
        let origin = self.origin_of(entry.time);
        let is_left_out = origin != walk.from && rules.breaks(Broken::OriginScan);
        let is_lacked = origin != walk.to && entry.time > walk.since[origin];
        if !is_left_out && (walk.whole || is_lacked) {
            self.deliver(walk.to, key, entry, rules);
        }
    }

    /// What is under the source's floor and was not sent is dropped; the consumer has seen what the source had.
    fn finish(&mut self, walk: &Walk, rules: Rules) {
        let source = self.regions[walk.from];
        let consumer = &mut self.regions[walk.to];
        if walk.whole {
            for (key, held) in consumer.held.iter_mut().enumerate() {
                let is_kept = if key == walk.passed { walk.was_kept } else { source.held[key].entry.is_some() };
                let is_under = held.entry.is_some_and(|entry| entry.time <= source.floor);
                if is_under && !is_kept && !rules.breaks(Broken::WholeDropsNothing) {
                    held.entry = None;
                }
            }
            if !rules.breaks(Broken::WholeWithoutFloor) {
                consumer.floor = consumer.floor.max(source.floor);
            }
        }
        for origin in (0..ORIGINS).filter(|origin| *origin != walk.to) {
            consumer.seen[origin] = consumer.seen[origin].max(walk.seen[origin]);
        }
        self.report(walk.from, walk.to);
    }

    /// Whether something that the consumer may hold was forgotten at the source.
    fn must_be_whole(&self, from: RegionId, to: RegionId, since: &[Time; ORIGINS], rules: Rules) -> bool {
        let source = &self.regions[from];
        let reached = |origin: Origin| {
            if rules.breaks(Broken::HeardIsIgnored) { source.seen[origin] } else { source.reached(origin) }
        };
        let speaks = |origin: Origin| origin < REGIONS && self.regions[origin].is_member;
        let counts = |origin: &Origin| *origin != to && (speaks(*origin) || since[*origin] < reached(*origin));
        let low = (0..ORIGINS).filter(counts).map(|origin| since[origin]).min();
        low.is_some_and(|low| low < source.floor) && !rules.breaks(Broken::NoReset)
    }

    /// Whether a scan is due though nobody asked for it: the source has of an origin that has ended what the consumer lacks, and
    /// a scan would bring it.
    pub fn owes_a_scan(&self, from: RegionId, to: RegionId, rules: Rules) -> bool {
        let (source, consumer) = (&self.regions[from], self.regions[to]);
        let lacks = |origin: Origin| source.reached(origin) > consumer.seen[origin];
        if rules.breaks(Broken::NobodySendsOrphans) || !(REGIONS..ORIGINS).any(lacks) {
            return false;
        }
        let mut scanned = *self;
        _ = scanned.scan(from, to, rules);
        scanned.regions[to].rows = consumer.rows;
        scanned.regions[to] != consumer
    }
}
