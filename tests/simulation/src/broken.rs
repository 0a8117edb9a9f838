//! Rules that are broken on purpose: an oracle that never fails shows nothing.

/// A rule that is broken on purpose, in the simulation and not in the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A primary whose lease is over answers.
    ServesAfterLease,
    /// Neither an heir nor the target of a move has to have caught up.
    NobodyCatchesUp,
    /// Slots are read while they are held.
    ReadsHeldSlots,
    /// A replica answers for its shard.
    ReplicaAnswers,
    /// The source of a move goes on serving until it gives.
    NobodyHolds,
    /// The source of a move goes on serving until the map says that it has given.
    ServesWhatItGave,
    /// The target of a move serves before it takes.
    TargetServesEarly,
    /// The target of a move takes what has not arrived in full.
    TakesParts,
    /// A new primary serves what its predecessor may have given.
    DoubtIsNo,
    /// `WAIT` waits for nobody.
    WaitsForNobody,
    /// `REGION AWAIT` waits for nothing.
    AwaitsNothing,
    /// What arrives wins, whatever its stamp.
    ArrivalDecides,
    /// A part of a value arrives.
    TornValues,
    /// Some records are not taken in, and all is claimed to be seen.
    LosesRecords,
    /// A primary stamps by its wall clock.
    StampsByTheWall,
    /// Lag is told as if nothing were missing.
    LagOfNobody,
    /// A flush reaches one stripe of a node.
    FlushesOneStripe,
    /// A flush does not leave its region.
    FlushStaysHome,
    /// What is claimed in something that comes again counts as of now.
    ReplaysClaimMore,
    /// A replica that drops slots, or has yet to drop them, is fed on as if there were nothing to drop.
    FollowsOn,
    /// A region that was removed counts all the same.
    WaitsForTheRemoved,
    /// A sender does not wait for its window.
    NoWindow,
}
