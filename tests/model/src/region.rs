//! One region: what it holds of the slot, what it knows of the others, and the merge through which everything passes.
//!
//! Mirror of `node/core`'s `record`, `apply`, `graveyard`, `seen` and `frontier`, for one slot. What the real thing does not
//! have are [`Held::known`] and [`Witness`]: they remember for the properties what a reader may have seen here.

use crate::rules::{Broken, Rules};

/// How many regions there can be.
pub const REGIONS: usize = 3;
/// How many keys the slot has.
pub const KEYS: usize = 2;
/// How many origins can end in one run.
pub const ENDED: usize = 2;
/// One living origin per region, by the region's number, and behind them those that have ended.
pub const ORIGINS: usize = REGIONS + ENDED;

/// A region's number.
pub type RegionId = usize;
/// A key's number.
pub type Key = usize;
/// An origin's number: see [`ORIGINS`].
pub type Origin = usize;

/// A time, by rank. No two stamps share one, so it stands for the whole stamp; [`Time::ZERO`] is before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u8);

impl Time {
    /// Before all: nothing seen, no floor.
    pub const ZERO: Self = Self(0);
    /// When the first regions were born.
    pub const BIRTH: Self = Self(1);
}

/// What a record says of its key; the order is that of merge at equal stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Dropped by this region for its own reasons.
    Evicted,
    /// Deleted by a client.
    Tombstone,
    /// Present.
    Value,
}

/// What merge compares; the derived order decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The stamp.
    pub time: Time,
    /// What it is.
    pub kind: Kind,
}

/// What a region has of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    /// The entry, if there is one.
    pub entry: Option<Version>,
    /// The newest item of the log for this key that the own region stamped, as long as somebody may lack it.
    pub logged: Time,
    /// For the properties: the greatest stamp that this life of the region ever had of the key.
    pub known: Time,
}

/// What a region last heard of another's progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// Which life of that region reported it.
    pub of: u8,
    /// What it had seen.
    pub seen: [Time; ORIGINS],
}

/// For the properties: what must never happen, and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Witness {
    /// A record at or under the floor was let in though its key was absent.
    pub let_in_under_floor: bool,
    /// A marker from elsewhere took the place of the value that it is the marker of.
    pub evicted_by_another: bool,
}

/// See the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region {
    /// Whether it is one of the regions at this time.
    pub is_member: bool,
    /// Whether it began with less than everything: the frontier of others may be ahead of it.
    pub began_with_less: bool,
    /// The keys.
    pub held: [Held; KEYS],
    /// The greatest stamp that was ever forgotten here.
    pub floor: Time,
    /// What has arrived, by origin. That of the own origin is the region's clock.
    pub seen: [Time; ORIGINS],
    /// The greatest stamp that was applied, by origin, where that is ahead of `seen`.
    pub heard: [Time; ORIGINS],
    /// What the others reported.
    pub rows: [Row; REGIONS],
    /// The time that everybody is known to be past.
    pub frontier: Time,
    /// See [`Witness`].
    pub witness: Witness,
}

impl Region {
    /// One of the first regions.
    pub fn first() -> Self {
        let mut seen = [Time::ZERO; ORIGINS];
        seen[..REGIONS].fill(Time::BIRTH);
        Self { is_member: true, began_with_less: false, seen, ..Self::absent() }
    }

    /// None at all, or one that lost everything.
    pub fn absent() -> Self {
        Self {
            is_member: false,
            began_with_less: true,
            held: [Held::default(); KEYS],
            floor: Time::ZERO,
            seen: [Time::ZERO; ORIGINS],
            heard: [Time::ZERO; ORIGINS],
            rows: std::array::from_fn(|region| Row { of: region as u8, seen: [Time::ZERO; ORIGINS] }),
            frontier: Time::ZERO,
            witness: Witness::default(),
        }
    }

    /// Merges a record that `origin` stamped; `is_own` if that is this region's living origin. Returns whether it won.
    pub fn apply(&mut self, key: Key, record: Version, origin: Origin, is_own: bool, rules: Rules) -> bool {
        let held = &mut self.held[key];
        let wins = match held.entry {
            None => record.time > self.floor || rules.breaks(Broken::NoFloor),
            Some(entry) if rules.breaks(Broken::ArrivalDecides) && entry.time == record.time => entry != record,
            Some(entry) if rules.breaks(Broken::LastArrivalWins) => entry != record,
            Some(entry) => record > entry,
        };
        if !wins {
            return false;
        }
        self.witness.let_in_under_floor |= held.entry.is_none() && record.time <= self.floor;
        self.witness.evicted_by_another |= held.entry == Some(Version { kind: Kind::Value, ..record });
        held.entry = Some(record);
        held.known = held.known.max(record.time);
        if !is_own {
            self.heard[origin] = self.heard[origin].max(record.time);
        }
        true
    }

    /// Takes out a tombstone or marker for good. Returns whether there was one.
    pub fn forget(&mut self, key: Key, rules: Rules) -> bool {
        let Some(entry) = self.held[key].entry.filter(|entry| entry.kind != Kind::Value) else { return false };
        self.held[key].entry = None;
        let is_free = if entry.time <= self.frontier { Broken::FreeAtFrontier } else { Broken::FreeForget };
        if rules.breaks(Broken::FloorFalls) {
            self.floor = entry.time;
        } else if !rules.breaks(is_free) {
            self.floor = self.floor.max(entry.time);
        }
        true
    }

    /// Drops a value for this region's own reasons, and leaves a marker. Returns whether there was one.
    pub fn evict(&mut self, key: Key) -> bool {
        let Some(entry) = self.held[key].entry.as_mut().filter(|entry| entry.kind == Kind::Value) else { return false };
        entry.kind = Kind::Evicted;
        true
    }

    /// How far an origin was heard of, watermark or not.
    pub fn reached(&self, origin: Origin) -> Time {
        self.seen[origin].max(self.heard[origin])
    }

    /// Shows every time in this to `visit`, which may change it.
    pub fn each_time(&mut self, visit: &mut impl FnMut(&mut Time)) {
        for held in &mut self.held {
            if let Some(entry) = &mut held.entry {
                visit(&mut entry.time);
            }
            visit(&mut held.logged);
            visit(&mut held.known);
        }
        visit(&mut self.floor);
        visit(&mut self.frontier);
        self.seen.iter_mut().chain(&mut self.heard).for_each(&mut *visit);
        self.rows.iter_mut().flat_map(|row| &mut row.seen).for_each(visit);
    }
}
