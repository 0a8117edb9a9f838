//! The rules, and how each can be broken on purpose.
//!
//! A check that nothing ever fails shows nothing. So every rule of the model has a switch that breaks it, and
//! `tests/exhaustive.rs` asks the checker for a counterexample to each. One rule is broken at a time.

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Records at or under the floor are let in where the key is absent.
    NoFloor,
    /// A consumer under the source's floor does not get the slot whole.
    NoReset,
    /// Forgetting early does not raise the floor.
    FreeForget,
    /// Nor does forgetting what the frontier has passed.
    FreeAtFrontier,
    /// The floor is what was forgotten last, not the greatest of it.
    FloorFalls,
    /// Deleting a key that is absent leaves no tombstone.
    NoDeleteOfAbsent,
    /// A scan sends only what the source itself stamped.
    OriginScan,
    /// A region that lost state goes on under its old origin.
    SameOrigin,
    /// Of two records with one stamp the one that arrives last stays.
    ArrivalDecides,
    /// A record is taken for newer than what is held, whatever its stamp.
    LastArrivalWins,
    /// The frontier is what this region has seen, whatever the others have.
    FrontierOfOneRegion,
    /// The frontier counts what each region has seen of itself alone.
    FrontierOfOwnOrigins,
    /// What is to come is claimed as seen before it is applied.
    SeenFirst,
    /// A tail leaves out what was replaced by a record of another region.
    TailWithoutReplacements,
    /// A tail passes over what was forgotten before it was sent.
    TailPassesOverForgotten,
    /// A slot sent whole brings its floor, but what was not sent stays.
    WholeDropsNothing,
    /// A slot sent whole does not bring its floor.
    WholeWithoutFloor,
    /// Of a silent origin, what was heard ahead of its last watermark does not count.
    HeardIsIgnored,
    /// Nobody sends what its peer lacks of origins that have ended.
    NobodySendsOrphans,
    /// A local write is not stamped above the floor.
    StampUnderFloor,
    /// A local write is not stamped above what the key holds.
    StampUnderHeld,
    /// A scan claims what its source had seen when it ended, not when it began.
    ScanClaimsItsEnd,
    /// A scan that was overtaken by the floor does not begin again.
    ScanGoesOn,
}

impl Broken {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::NoFloor,
        Self::NoReset,
        Self::FreeForget,
        Self::FreeAtFrontier,
        Self::FloorFalls,
        Self::NoDeleteOfAbsent,
        Self::OriginScan,
        Self::SameOrigin,
        Self::ArrivalDecides,
        Self::LastArrivalWins,
        Self::FrontierOfOneRegion,
        Self::FrontierOfOwnOrigins,
        Self::SeenFirst,
        Self::TailWithoutReplacements,
        Self::TailPassesOverForgotten,
        Self::WholeDropsNothing,
        Self::WholeWithoutFloor,
        Self::HeardIsIgnored,
        Self::NobodySendsOrphans,
        Self::StampUnderFloor,
        Self::StampUnderHeld,
        Self::ScanClaimsItsEnd,
        Self::ScanGoesOn,
    ];
}

/// The rules as designed, but for at most one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    broken: Option<Broken>,
}

impl Rules {
    /// As designed.
    pub const DESIGN: Self = Self { broken: None };

    /// As designed but for this one.
    pub const fn but(broken: Broken) -> Self {
        Self { broken: Some(broken) }
    }

    /// Whether this rule is broken.
    pub fn breaks(self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }
}
