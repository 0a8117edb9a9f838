//! What is explored: each configuration aims at one combination of things that can happen, with a bound on each.
//!
//! Everything that can happen is possible at any moment and at any place; a bound says how often. One configuration with
//! all of it would never end, so each has what its question needs.

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

/// One bounded question.
#[derive(Clone, Copy, Debug)]
pub struct Configuration {
    /// What it aims at.
    pub name: &'static str,
    /// How many regions there are at first.
    pub members: usize,
    /// The clocks.
    pub clocks: Clocks,
    /// Whether regions know of each other's progress, so that there is a frontier; without one, forgetting is always early.
    pub rows: bool,
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
pub const ALL: [Configuration; 12] = [
    three("two writes and a delete", Clocks::Agree, Budget { writes: 2, deletes: 1, ..QUIET }),
    three("drift", Clocks::Drift, Budget { writes: 1, deletes: 1, early: 1, ..QUIET }),
    three("forgotten early", Clocks::Agree, Budget { writes: 1, deletes: 1, evictions: 1, early: 2, ..QUIET }),
    three("late", Clocks::Agree, Budget { writes: 1, deletes: 1, early: 1, late: 1, ..QUIET }),
    three("walk", Clocks::Agree, Budget { writes: 1, deletes: 1, early: 1, walks: 1, ..QUIET }),
    with_frontier("frontier", Clocks::Agree, Budget { writes: 1, deletes: 1, ..QUIET }),
    with_frontier("frontier drift", Clocks::Drift, Budget { writes: 1, deletes: 1, ..QUIET }),
    three("crash", Clocks::Agree, Budget { writes: 1, deletes: 1, early: 1, crashes: 1, ..QUIET }),
    three("failover", Clocks::Agree, Budget { writes: 1, deletes: 1, early: 1, failovers: 1, ..QUIET }),
    three("crash, heard", Clocks::Agree, Budget { writes: 1, deletes: 1, records: 1, crashes: 1, ..QUIET }),
    Configuration { members: 2, ..three("join", Clocks::Agree, Budget { writes: 1, deletes: 1, early: 1, joins: 1, ..QUIET }) },
    three("leave", Clocks::Agree, Budget { writes: 1, deletes: 1, early: 1, leaves: 1, ..QUIET }),
];

/// Three regions that know nothing of a frontier.
pub const fn three(name: &'static str, clocks: Clocks, budget: Budget) -> Configuration {
    Configuration { name, members: 3, clocks, rows: false, budget }
}

/// Three regions that tell each other what they have seen.
pub const fn with_frontier(name: &'static str, clocks: Clocks, budget: Budget) -> Configuration {
    Configuration { rows: true, ..three(name, clocks, budget) }
}
