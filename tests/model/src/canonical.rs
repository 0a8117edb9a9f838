//! The reduction: which worlds are one and the same.
//!
//! Three steps, each of which keeps everything that can still be told apart.
//!
//! 1. What nothing depends on any more is dropped: what was heard under a watermark, what is in a log and everybody has,
//!    stamps that no record bears and no property asks for, rows where there is no frontier.
//! 2. Times become ranks. Only their order is ever looked at.
//! 3. Of the worlds that differ in the names of regions and keys alone, the least stands for all. No rule looks at a name: the
//!    order of stamps is one of times, since no two are equal, and ties are broken either way when a stamp is issued.

use crate::{
    configurations::{Configuration, Frontier},
    region::{Held, KEYS, ORIGINS, Origin, REGIONS, Region, Row, Time},
    world::{Issued, World},
};

/// The ways to rename regions.
const REGION_NAMES: [[usize; REGIONS]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
/// The ways to rename keys.
const KEY_NAMES: [[usize; KEYS]; 2] = [[0, 1], [1, 0]];

impl World {
    /// The same world without what nothing depends on, times by rank.
    pub fn reduced(mut self, configuration: &Configuration) -> Self {
        self.drop_what_was_heard();
        self.drop_what_was_logged();
        self.drop_what_was_reported(configuration.frontier);
        self.drop_stamps();
        self.drop_ended_origins();
        self.rank_times();
        self
    }

    /// One of those worlds that differ from this in names alone, the same whichever of them this is.
    pub fn least(&self, configuration: &Configuration) -> Self {
        let regions: [u64; REGIONS] = std::array::from_fn(|region| self.mark_of_region(region));
        let keys: [u64; KEYS] = std::array::from_fn(|key| self.mark_of_key(key, &regions));
        let region_names = REGION_NAMES.iter().filter(|names| brings_in_order(names, &regions));
        // A key that is never written to is not like the others.
        let key_names = &KEY_NAMES[..if configuration.keys == KEYS { KEY_NAMES.len() } else { 1 }];
        let is_settled = |names: &[usize; KEYS]| key_names.len() == 1 || brings_in_order(names, &keys);
        let key_names = key_names.iter().filter(|names| is_settled(names));
        let renamed = region_names.flat_map(|regions| key_names.clone().map(|keys| self.renamed(regions, keys)));
        renamed.min().expect("there is a way to bring marks in order")
    }

    /// A number that says what a region is like without a look at names: where those of two differ, their order is settled.
    fn mark_of_region(&self, region: usize) -> u64 {
        let it = &self.regions[region];
        let held = it.held.iter().map(mark_of_held).fold(0, u64::wrapping_add);
        let seen = (0..ORIGINS).map(|origin| mix(u64::from(origin == region) + 2, it.seen[origin].0.into()));
        let of_others = (0..REGIONS).map(|other| mix(5, self.regions[other].seen[region].0.into()));
        let issued =
            self.issued.iter().filter(|issued| issued.time > Time::ZERO && usize::from(issued.origin) == region);
        let issued = issued.map(|issued| mix(7, issued.time.0.into()));
        let sum = seen.chain(of_others).chain(issued).fold(held, u64::wrapping_add);
        let under_way = [
            self.replica.is_some_and(|replica| replica.of == region),
            self.late.is_some_and(|late| late.to == region),
            self.walk.is_some_and(|walk| walk.from == region),
            self.walk.is_some_and(|walk| walk.to == region),
        ];
        let under_way = under_way.iter().fold(u64::from(it.is_member), |bits, bit| bits << 1 | u64::from(*bit));
        mix(mix(sum, under_way), it.floor.0.into())
    }

    /// The same for a key.
    fn mark_of_key(&self, key: usize, regions: &[u64; REGIONS]) -> u64 {
        let held = (0..REGIONS).map(|region| mix(regions[region], mark_of_held(&self.regions[region].held[key])));
        let issued = self.issued.iter().filter(|issued| issued.time > Time::ZERO && usize::from(issued.key) == key);
        let issued = issued.map(|issued| mix(11, issued.time.0.into()));
        held.chain(issued).fold(0, u64::wrapping_add)
    }

    fn drop_what_was_reported(&mut self, frontier: Frontier) {
        self.is_complete &= frontier != Frontier::Unknown;
        for region in self.regions.iter_mut().chain(self.replica.as_mut().map(|replica| &mut replica.state)) {
            if !region.is_member {
                *region = Region::absent();
            }
            if frontier != Frontier::Reported {
                (region.rows, region.began_with_less) = (Region::absent().rows, false);
            }
            if frontier == Frontier::Unknown {
                region.frontier = Time::ZERO;
            }
        }
    }

    fn drop_what_was_heard(&mut self) {
        let ends = self.left.may_lose();
        for region in self.regions.iter_mut().chain(self.replica.as_mut().map(|replica| &mut replica.state)) {
            for origin in 0..ORIGINS {
                let is_covered = region.heard[origin] <= region.seen[origin];
                // It counts only once its origin has ended.
                if is_covered || !ends && origin < REGIONS {
                    region.heard[origin] = Time::ZERO;
                }
            }
        }
    }

    fn drop_what_was_logged(&mut self) {
        for region in 0..REGIONS {
            for key in 0..KEYS {
                let logged = self.regions[region].held[key].logged;
                let is_lacked = logged > Time::ZERO && self.seen_by_all(self.origin_of(logged)) < logged;
                if !is_lacked {
                    self.regions[region].held[key].logged = Time::ZERO;
                }
            }
        }
    }

    /// How far everybody has seen an origin.
    fn seen_by_all(&self, origin: Origin) -> Time {
        let replica = self.replica.map(|replica| replica.state.seen[origin]);
        let seen = self.members().map(|region| self.regions[region].seen[origin]);
        seen.chain(replica).min().unwrap_or(Time::ZERO)
    }

    fn drop_stamps(&mut self) {
        let mut borne = 0_u64;
        let mut bear = |time: Time| borne |= 1 << time.0;
        for region in self.regions.iter().chain(self.replica.as_ref().map(|replica| &replica.state)) {
            for held in &region.held {
                bear(held.logged);
                held.entry.iter().for_each(|entry| bear(entry.time));
            }
        }
        self.late.iter().for_each(|late| bear(late.record.time));
        let world = *self;
        let has_it = |issued: &Issued| {
            let has = |region: &Region| {
                region.held[usize::from(issued.key)].known >= issued.time || region.floor >= issued.time
            };
            world.members().all(|region| has(&world.regions[region]))
        };
        for issued in &mut self.issued {
            let is_borne = borne & 1 << issued.time.0 != 0;
            if !is_borne && !world.left.may_lose() && has_it(issued) {
                *issued = Issued::default();
            }
        }
        self.issued.sort_unstable();
    }

    fn drop_ended_origins(&mut self) {
        for origin in REGIONS..ORIGINS {
            let is_borne = |issued: &Issued| issued.time > Time::ZERO && usize::from(issued.origin) == origin;
            if self.issued.iter().any(is_borne) {
                continue;
            }
            let members = self.regions.iter().filter(|region| region.is_member);
            let states = members.chain(self.replica.as_ref().map(|replica| &replica.state));
            let reported = |region: &Region| region.rows.map(|row| row.seen[origin]).into_iter().max();
            let most =
                states.clone().map(|region| region.reached(origin).max(reported(region).unwrap_or_default())).max();
            let least = states.map(|region| region.seen[origin]).min();
            if least == most && self.walk.is_none() {
                self.drop_ended_origin(origin);
            }
        }
    }

    fn drop_ended_origin(&mut self, origin: Origin) {
        for region in self.regions.iter_mut().chain(self.replica.as_mut().map(|replica| &mut replica.state)) {
            (region.seen[origin], region.heard[origin]) = (Time::ZERO, Time::ZERO);
            region.rows.iter_mut().for_each(|row| row.seen[origin] = Time::ZERO);
        }
    }

    fn rank_times(&mut self) {
        let mut used = 1_u64;
        self.each_time(&mut |time| used |= 1 << time.0);
        let rank = |time: Time| Time((used & ((2 << time.0) - 1)).count_ones() as u8 - 1);
        self.each_time(&mut |time| *time = rank(*time));
    }

    fn renamed(&self, regions: &[usize; REGIONS], keys: &[usize; KEYS]) -> Self {
        let origin = |origin: Origin| if origin < REGIONS { regions[origin] } else { origin };
        let times = |times: &[Time; ORIGINS]| {
            let mut renamed = *times;
            (0..REGIONS).for_each(|index| renamed[regions[index]] = times[index]);
            renamed
        };
        let region = |region: &Region| {
            let mut renamed = *region;
            let mut held = [Held::default(); KEYS];
            (0..KEYS).for_each(|key| held[keys[key]] = region.held[key]);
            let row = |row: &Row| Row { of: origin(usize::from(row.of)) as u8, seen: times(&row.seen) };
            (0..REGIONS).for_each(|index| renamed.rows[regions[index]] = row(&region.rows[index]));
            (renamed.held, renamed.seen, renamed.heard) = (held, times(&region.seen), times(&region.heard));
            renamed
        };
        let mut world = *self;
        (0..REGIONS).for_each(|index| world.regions[regions[index]] = region(&self.regions[index]));
        for issued in world.issued.iter_mut().filter(|issued| issued.time > Time::ZERO) {
            issued.origin = origin(usize::from(issued.origin)) as u8;
            issued.key = keys[usize::from(issued.key)] as u8;
        }
        if let Some(replica) = &mut world.replica {
            (replica.of, replica.state) = (regions[replica.of], region(&replica.state));
        }
        if let Some(late) = &mut world.late {
            (late.to, late.key) = (regions[late.to], keys[late.key]);
        }
        if let Some(walk) = &mut world.walk {
            (walk.from, walk.to, walk.passed) = (regions[walk.from], regions[walk.to], keys[walk.passed]);
            (walk.since, walk.seen) = (times(&walk.since), times(&walk.seen));
        }
        world
    }
}

fn mark_of_held(held: &Held) -> u64 {
    let entry = held.entry.map_or(0, |entry| mix(entry.time.0.into(), entry.kind as u64));
    mix(entry, mix(held.logged.0.into(), held.known.0.into()))
}

/// Whether the marks stand in ascending order under these new names.
fn brings_in_order<const N: usize>(names: &[usize; N], marks: &[u64; N]) -> bool {
    let mut ordered = [0; N];
    (0..N).for_each(|index| ordered[names[index]] = marks[index]);
    ordered.is_sorted()
}

/// Makes one number of two; the multiplier is that of Steele and Vigna's tables for 64 bits.
const fn mix(one: u64, other: u64) -> u64 {
    let mixed = (one ^ other.rotate_left(32)).wrapping_add(other).wrapping_mul(0xd134_2543_de82_ef95);
    mixed ^ mixed >> 29
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use stateright::Model;

    use super::{KEY_NAMES, REGION_NAMES};
    use crate::{
        Checked,
        configurations::{Budget, Clocks, QUIET, three},
        world::World,
    };

    #[test]
    fn names_change_neither_what_stands_for_a_world_nor_what_comes_after_it() {
        let budget = Budget { writes: 1, deletes: 1, early: 1, records: 1, crashes: 1, leaves: 1, ..QUIET };
        let checked = Checked::as_designed(three("", Clocks::Agree, budget));
        let after = |world: &World| -> BTreeSet<World> { checked.next_states(world).into_iter().collect() };
        let (mut known, mut layer) = (BTreeSet::new(), BTreeSet::from([World::new(&checked.configuration)]));
        for _ in 0..LAYERS {
            for world in &layer {
                let next = after(world);
                for (regions, keys) in REGION_NAMES.iter().flat_map(|regions| KEY_NAMES.map(|keys| (regions, keys))) {
                    let renamed = world.renamed(regions, &keys);
                    assert_eq!(renamed.least(&checked.configuration), world.least(&checked.configuration));
                    assert!(after(&renamed) == next, "{world:?}");
                }
                known.insert(*world);
            }
            layer = layer.iter().flat_map(after).filter(|world| !known.contains(world)).collect();
        }
    }

    /// Deep enough for a life to end, and something to follow.
    const LAYERS: usize = 4;
}
