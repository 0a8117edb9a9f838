//! How far a node is in what it is to be: what its store may be used for, and what a replica can say that it holds.
//!
//! An assignment takes a while to be carried out: connections of the former one end, a mark is persisted, a copy arrives.
//! Until the store stamps under the incarnation that a lease is for, that lease is of no use
//! ([`Tenure`](super::Tenure)); until a replica has had a full copy, it claims to hold nothing, or only what it was the
//! primary of; and until it has returned what its primary lacks, it is not fed.

use clock::Incarnation;

/// See the head of this file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    serves: Option<Incarnation>,
    holds: Option<Incarnation>,
    has_returned: bool,
    is_outdated: bool,
}

impl Progress {
    /// The incarnation under which local writes can be stamped.
    pub const fn serving(&self) -> Option<Incarnation> {
        self.serves
    }

    /// Of which incarnation the store has all up to what it has seen; none before its first full copy.
    pub const fn holding(&self) -> Option<Incarnation> {
        self.holds
    }

    /// Whether the primary may feed this node: what this node had and its primary lacked was returned.
    pub const fn may_be_fed(&self) -> bool {
        self.has_returned
    }

    /// Whether this node holds what its primary has stamped anew, and has not all of that yet.
    pub const fn is_outdated(&self) -> bool {
        self.is_outdated
    }

    /// The former assignment is over.
    pub const fn idle(&mut self) {
        (self.serves, self.has_returned, self.is_outdated) = (None, false, false);
    }

    /// The store stamps under this incarnation.
    pub const fn serves(&mut self, incarnation: Incarnation) {
        (self.serves, self.holds) = (Some(incarnation), Some(incarnation));
    }

    /// A replica begins to follow, whose store stamped as `former` before.
    pub fn follows(&mut self, former: Incarnation) {
        self.idle();
        if former != Incarnation::UNBORN {
            self.holds = Some(former);
        }
    }

    /// Its primary began this life by restamping: it had what this node could return.
    pub fn follows_restamped(&mut self, life: Incarnation) {
        (self.has_returned, self.is_outdated) = (true, self.holds != Some(life));
    }

    /// What this node had and its primary lacked was returned.
    pub const fn has_returned(&mut self) {
        self.has_returned = true;
    }

    /// A replica has all that its primary had when it connected.
    pub const fn is_full_copy(&mut self, of: Incarnation) {
        (self.holds, self.is_outdated) = (Some(of), false);
    }
}

#[cfg(test)]
mod tests {
    use clock::Incarnation;

    use super::Progress;

    const FORMER: Incarnation = Incarnation::new(4);
    const NEXT: Incarnation = Incarnation::new(7);

    #[test]
    fn replica_holds_nothing_before_its_first_full_copy() {
        let mut replica = Progress::default();
        replica.follows(Incarnation::UNBORN);
        replica.has_returned();
        assert_eq!((replica.serving(), replica.holding(), replica.may_be_fed()), (None, None, true));
        replica.is_full_copy(FORMER);
        assert_eq!(replica.holding(), Some(FORMER));
    }

    #[test]
    fn replica_of_another_primary_holds_what_it_held_until_it_has_that_ones() {
        let mut replica = Progress::default();
        replica.is_full_copy(FORMER);
        replica.follows(Incarnation::UNBORN);
        assert_eq!((replica.holding(), replica.may_be_fed()), (Some(FORMER), false));
        replica.is_full_copy(NEXT);
        assert_eq!(replica.holding(), Some(NEXT));
    }

    #[test]
    fn replica_of_a_restamped_primary_returns_nothing_and_is_outdated_until_it_has_a_full_copy() {
        let mut replica = Progress::default();
        replica.is_full_copy(FORMER);
        replica.follows(Incarnation::UNBORN);
        replica.follows_restamped(NEXT);
        assert_eq!((replica.holding(), replica.may_be_fed(), replica.is_outdated()), (Some(FORMER), true, true));
        replica.is_full_copy(NEXT);
        assert!(!replica.is_outdated());
        replica.follows(Incarnation::UNBORN);
        replica.follows_restamped(NEXT);
        assert_eq!((replica.may_be_fed(), replica.is_outdated()), (true, false));
    }

    #[test]
    fn former_primary_holds_what_it_stamped_and_serves_no_more() {
        let mut primary = Progress::default();
        primary.serves(FORMER);
        primary.follows(FORMER);
        assert_eq!((primary.serving(), primary.holding(), primary.may_be_fed()), (None, Some(FORMER), false));
    }
}
