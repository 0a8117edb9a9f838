//! The clocks of a region, as one node sees them: whether it is the one that is wrong.
//!
//! Stamps of a node whose clock is far ahead would win over writes that came later, in its own region at the next failover
//! and in all others at once; those of one that is far behind would lose. Each node asks every other for its time again and
//! again ([`Skew`] takes the offset from that), and takes no more writes while most of the nodes that answer, itself among
//! them, are certainly further than the allowed drift from it ([`is_outvoted`]). It goes on by itself when they agree.
//!
//! Each judges itself, by what it has measured: no report has to arrive for that, and nobody can be talked out of writing. Of
//! two nodes that disagree neither is the majority, so both go on: who is right cannot be told from there. What was measured
//! longer ago than [`CLOCK_OFFSET_FRESH`] counts no more: a node that is gone has no vote.

use std::{collections::BTreeMap, time::Duration};

use clock::{Estimate, Exchange, ExchangeError, Skew, is_outvoted};

use super::{id::NodeId, map::ClusterMap};
use crate::limits::CLOCK_OFFSET_FRESH;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Clocks {
    others: BTreeMap<NodeId, Measured>,
}

#[derive(Debug)]
struct Measured {
    skew: Skew,
    /// When it was measured last, in monotonic time.
    at: Duration,
}

impl Clocks {
    /// Another node has told its time, in an exchange that ended at `at`, in monotonic time.
    ///
    /// # Errors
    /// [`ExchangeError`] if the exchange says nothing; then nothing has changed.
    pub fn handle_exchange(&mut self, node: NodeId, exchange: Exchange, at: Duration) -> Result<(), ExchangeError> {
        let mut skew = self.others.remove(&node).map_or_else(Skew::new, |measured| measured.skew);
        let outcome = skew.record(exchange, at).map(drop);
        self.others.insert(node, Measured { skew, at });
        outcome
    }

    /// Forgets nodes that are in the map no more.
    pub fn keep(&mut self, map: &ClusterMap) {
        self.others.retain(|node, _| map.node(*node).is_some());
    }

    /// What is known of the others at `now`, as far as that still counts.
    pub fn estimates(&self, now: Duration) -> impl Iterator<Item = (NodeId, Estimate)> {
        let fresh = move |measured: &Measured| now < measured.at + CLOCK_OFFSET_FRESH;
        let others = self.others.iter().filter(move |(_, measured)| fresh(measured));
        others.filter_map(|(node, measured)| Some((*node, measured.skew.estimate()?)))
    }

    /// Whether this node must take no writes at `now`, since its clock is the one that is wrong.
    pub fn is_outvoted(&self, now: Duration, max_drift: Duration) -> bool {
        is_outvoted(self.estimates(now).map(|(_, estimate)| estimate), max_drift)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clock::{Exchange, Offset, Time};

    use super::Clocks;
    use crate::{
        cluster::{ClusterMap, Id, NodeId},
        limits::CLOCK_OFFSET_FRESH,
    };

    const DRIFT: Duration = Duration::from_millis(500);

    fn node(number: u8) -> NodeId {
        NodeId(Id::from_bytes([number; Id::BYTES]))
    }

    /// A node whose clock is that far off tells its time.
    fn tells(clocks: &mut Clocks, number: u8, ms: i64, at: Duration) {
        let asked = Time::from_unix_ms(1_800_000_000_000);
        let theirs = asked.after(Duration::from_millis(1)).shifted(Offset::from_nanos(ms * 1_000_000));
        let returned = asked.after(Duration::from_millis(2));
        let exchange = Exchange { asked, received: theirs, answered: theirs, returned };
        clocks.handle_exchange(node(number), exchange, at).expect("it says something");
    }

    #[test]
    fn node_that_most_disagree_with_is_wrong_and_is_right_again_when_they_agree() {
        let (mut clocks, now) = (Clocks::default(), Duration::from_secs(1));
        tells(&mut clocks, 1, 2_000, now);
        assert!(!clocks.is_outvoted(now, DRIFT), "one of two is no majority");
        tells(&mut clocks, 2, 2_000, now);
        assert!(clocks.is_outvoted(now, DRIFT));
        tells(&mut clocks, 3, 0, now);
        assert!(!clocks.is_outvoted(now, DRIFT), "two of four are no majority");
        tells(&mut clocks, 3, 2_000, now);
        assert!(clocks.is_outvoted(now, DRIFT));
        for number in 1..=3 {
            tells(&mut clocks, number, 400, now);
        }
        assert!(!clocks.is_outvoted(now, DRIFT));
    }

    #[test]
    fn who_does_not_answer_any_more_has_no_vote() {
        let (mut clocks, now) = (Clocks::default(), Duration::from_secs(1));
        (1..=2).for_each(|number| tells(&mut clocks, number, -900, now));
        assert!(clocks.is_outvoted(now, DRIFT));
        tells(&mut clocks, 1, -900, now + CLOCK_OFFSET_FRESH);
        assert!(!clocks.is_outvoted(now + CLOCK_OFFSET_FRESH, DRIFT));
        clocks.keep(&ClusterMap::new());
        assert_eq!(clocks.estimates(now).count(), 0);
    }
}
