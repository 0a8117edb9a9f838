//! Whom gossip talks about: not a node, but one life of it.
//!
//! What is said of a process is not true of the next one with the same state directory, so a member is a node *in a run*.
//! And SWIM never takes back that a member is down; a process that was only stopped begins another life, which is the same
//! run with one more *renewal*.
//!
//! Of two lives of a node one must win wherever both are heard of. Runs are drawn at random and say nothing about which
//! came first, so renewals decide, and the run only between equals. A process that loses against a former life of its own
//! node (it is told so, or hears of it) takes a renewal above it. The dead do not answer back, so that ends.

use foca::Identity;
use serde::{Deserialize, Serialize};

use crate::cluster::id::{NodeId, Run};

/// A node in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Life {
    pub(super) node: NodeId,
    pub(super) run: Run,
    pub(super) renewals: u32,
}

impl Life {
    /// The first life of a run.
    pub(super) const fn first(node: NodeId, run: Run) -> Self {
        Self { node, run, renewals: 0 }
    }

    /// The life in which this process wins, or draws, against what others hold to be this node; none if it does already.
    pub(super) fn above(self, theirs: Self) -> Option<Self> {
        if theirs.node != self.node || !theirs.win_addr_conflict(&self) {
            return None;
        }
        let is_this_process = theirs.run == self.run;
        let renewals = theirs.renewals.checked_add(u32::from(!is_this_process))?;
        Some(Self { renewals, ..self })
    }
}

impl Identity for Life {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        self.renewals.checked_add(1).map(|renewals| Self { renewals, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.renewals, self.run) > (other.renewals, other.run)
    }
}

#[cfg(test)]
mod tests {
    use foca::Identity;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::Life;
    use crate::cluster::{Id, NodeId, Run};

    fn life(run: u64, renewals: u32) -> Life {
        Life { node: NodeId(Id::from_bytes([7; 20])), run: Run(run), renewals }
    }

    proptest! {
        #[test]
        fn of_two_lives_one_wins_everywhere(a in (0..3_u64, 0..3_u32), b in (0..3_u64, 0..3_u32)) {
            let (a, b) = (life(a.0, a.1), life(b.0, b.1));
            prop_assert_eq!(a.win_addr_conflict(&b), a != b && !b.win_addr_conflict(&a));
        }

        #[test]
        fn a_process_rises_above_what_others_hold(mine in any::<(u64, u32)>(), theirs in any::<(u64, u16)>()) {
            let (mine, theirs) = (life(mine.0, mine.1), life(theirs.0, theirs.1.into()));
            let risen = mine.above(theirs).unwrap_or(mine);
            prop_assert_eq!(risen.run, mine.run);
            prop_assert!(risen == theirs || risen.win_addr_conflict(&theirs));
            prop_assert!(risen == mine || risen.win_addr_conflict(&mine));
        }
    }

    #[test]
    fn a_renewal_wins_and_the_last_one_stays() {
        assert!(life(1, 3).renew().is_some_and(|renewed| renewed.win_addr_conflict(&life(u64::MAX, 3))));
        assert_eq!(life(1, u32::MAX).renew(), None);
        assert_eq!(life(1, 0).above(life(2, u32::MAX)), None);
    }
}
