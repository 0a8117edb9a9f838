//! What is explored: each configuration aims at one combination of things that can happen, with a bound on each.
//!
//! Everything that can happen is possible at any moment and at any place; a bound says how often. One configuration with
//! all of it would never end, so each has what its question needs.

use Clocks::{Agree, Drift};

use crate::region::KEYS;

/// How often a thing may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Budget {
    /// Values written.
    pub writes: u8,
    /// Tombstones written.
    pub deletes: u8,
    /// Values dropped for memory.
    pub evictions: u8,
    /// Tombstones and markers forgotten before the frontier passed them.
    pub early: u8,
    /// Records that arrive ahead of their watermark.
    pub records: u8,
    /// Records that are sent and take their time.
    pub late: u8,
    /// Scans between whose two keys other things happen.
    pub walks: u8,
    /// Regions that lose all they have.
    pub crashes: u8,
    /// Replicas that lag and take over.
    pub failovers: u8,
    /// Regions that are added.
    pub joins: u8,
    /// Regions that are removed.
    pub leaves: u8,
}

impl Budget {
    /// Whether a life of a region may still end, so that what all have seen may be lacked again.
    pub const fn may_lose(&self) -> bool {
        self.crashes + self.failovers + self.joins + self.leaves > 0
    }
}

/// How far the clocks of regions are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clocks {
    /// A stamp is above all that were issued before it, and a watermark above all of them.
    Agree,
    /// A stamp is anywhere above those of its region, its key and the floor, and a watermark may be as old as the last stamp.
    Drift,
}

/// What regions know of each other's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frontier {
    /// Nothing: forgetting is always early.
    Unknown,
    /// What each feed brought along: rows of a matrix, as in the real thing.
    Reported,
    /// All there is to know. What was reported is what somebody had seen once, and nobody sees less again as long as no region
    /// loses anything; so this allows all that rows of any age allow, and needs no rows.
    Known,
}

/// One bounded question.
#[derive(Clone, Copy, Debug)]
pub struct Configuration {
    /// What it aims at.
    pub name: &'static str,
    /// How many regions there are at first.
    pub members: usize,
    /// How many keys are written to.
    pub keys: usize,
    /// The clocks.
    pub clocks: Clocks,
    /// What regions know of each other's progress.
    pub frontier: Frontier,
    /// The bounds.
    pub budget: Budget,
}

/// Nothing happens.
pub const QUIET: Budget = Budget {
    writes: 0,
    deletes: 0,
    evictions: 0,
    early: 0,
    records: 0,
    late: 0,
    walks: 0,
    crashes: 0,
    failovers: 0,
    joins: 0,
    leaves: 0,
};

/// All of them.
pub const ALL: [Configuration; 18] = [
    three("writes that cross", Agree, Budget { writes: 2, deletes: 1, ..QUIET }),
    three("clocks that drift", Drift, Budget { writes: 1, deletes: 1, early: 1, ..QUIET }),
    three("forgetting early", Agree, Budget { writes: 1, deletes: 1, evictions: 1, early: 1, ..QUIET }),
    three("a record that is late", Agree, Budget { writes: 1, deletes: 1, early: 1, late: 1, ..QUIET }),
    three("a frontier", Agree, Budget { writes: 1, deletes: 1, evictions: 1, ..QUIET }).with(Frontier::Known),
    three("a frontier under drift", Drift, Budget { writes: 1, deletes: 1, ..QUIET }).with(Frontier::Known),
    two("rows of two regions", Drift, Budget { writes: 1, deletes: 1, evictions: 1, ..QUIET }).with(Frontier::Reported),
    three("rows of three regions", Drift, Budget { deletes: 1, ..QUIET }).with(Frontier::Reported),
    three("rows and a crash", Agree, Budget { deletes: 1, crashes: 1, ..QUIET }).with(Frontier::Reported).of_one_key(),
    two("rows and a failover", Agree, Budget { writes: 1, deletes: 1, failovers: 1, ..QUIET }).with(Frontier::Reported),
    two("rows and a join", Agree, Budget { deletes: 1, joins: 1, ..QUIET }).with(Frontier::Reported).of_one_key(),
    two("a scan in two halves", Agree, Budget { writes: 2, deletes: 1, early: 1, walks: 1, ..QUIET }),
    three("a crash", Agree, Budget { writes: 1, deletes: 1, early: 1, crashes: 1, ..QUIET }).of_one_key(),
    two("a crash of one of two", Agree, Budget { writes: 2, deletes: 1, early: 1, crashes: 1, ..QUIET }),
    three("a failover", Agree, Budget { writes: 1, deletes: 1, failovers: 1, ..QUIET }).of_one_key(),
    two("a failover of one of two", Agree, Budget { writes: 2, deletes: 1, early: 1, failovers: 1, ..QUIET }),
    two("a join", Agree, Budget { writes: 1, deletes: 1, early: 1, joins: 1, ..QUIET }),
    three("a removal", Agree, Budget { writes: 1, deletes: 1, early: 1, records: 1, leaves: 1, ..QUIET }).of_one_key(),
];

/// Three regions that know nothing of each other's progress.
pub const fn three(name: &'static str, clocks: Clocks, budget: Budget) -> Configuration {
    Configuration { name, members: 3, keys: KEYS, clocks, frontier: Frontier::Unknown, budget }
}

/// Two of them.
pub const fn two(name: &'static str, clocks: Clocks, budget: Budget) -> Configuration {
    Configuration { members: 2, ..three(name, clocks, budget) }
}

impl Configuration {
    /// The same with one key.
    pub const fn of_one_key(self) -> Self {
        Self { keys: 1, ..self }
    }

    /// The same with a frontier.
    pub const fn with(self, frontier: Frontier) -> Self {
        Self { frontier, ..self }
    }
}
