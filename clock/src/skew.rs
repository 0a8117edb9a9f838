//! How far a peer's clock is off ours, from four timestamps and a filter.
//!
//! A link asks its peer for the time now and then, and notes when it asked (`t0`, ours), when the peer got it
//! (`t1`, theirs), when the peer answered (`t2`, theirs) and when the answer came (`t3`, ours). As in NTP (RFC 5905,
//! section 8), the offset is `((t1 - t0) + (t2 - t3)) / 2` and the round trip `(t3 - t0) - (t2 - t1)`.
//!
//! # How good that is
//! The formula takes both ways to be equally long. That is the limit of the method: nothing that two parties measure
//! can tell a slow way out from a clock that is ahead. All that is certain is that the true offset lies within half
//! the round trip of the estimate, and that is the error bound given here.
//!
//! Queues only ever add delay, so the exchange with the shortest round trip is the most exact: the filter keeps the
//! last few and trusts that one (RFC 5905, section 10), its bound widened by what two clocks may have drifted since.
//!
//! # When a clock is set
//! A filter that clings to its best exchange would go on reporting an offset that is gone. But as long as both clocks
//! are steady, the intervals of all exchanges have the true offset in common. If the newest does not meet the best,
//! one of the clocks was moved, and everything older is forgotten. So a link learns within one exchange that the
//! clocks agree again.

use std::{collections::VecDeque, time::Duration};

use crate::{
    Offset, Time,
    limits::{DRIFT_PPM, EXCHANGES_KEPT, ROUND_TRIP_MAX},
};

/// Whether a stamp lies further ahead of the clock than it may, so that its link has to hold.
///
/// Checked by links, once for the greatest stamp of a batch, before anything of it is applied.
pub const fn too_far_ahead(stamp: Time, now: Time, max_drift: Duration) -> bool {
    stamp.ntp64() > now.after(max_drift).ntp64()
}

/// One question and its answer, as four readings of two wall clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// When we asked, on our clock.
    pub asked: Time,
    /// When the peer got the question, on its clock.
    pub received: Time,
    /// When the peer sent its answer, on its clock.
    pub answered: Time,
    /// When the answer got here, on our clock.
    pub returned: Time,
}

/// Why an exchange says nothing. The estimate stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// A clock went back between its two readings, or the peer took longer than the whole exchange.
    #[error("the four times of the exchange contradict one another")]
    Contradiction,
    /// The round trip took longer than [`ROUND_TRIP_MAX`].
    #[error("a round trip of {0:?} says nothing about the clock")]
    TooSlow(Duration),
}

/// What is known of a peer's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The peer's clock minus ours.
    pub offset: Offset,
    /// The true offset lies within this of [`offset`](Self::offset), as long as neither clock is set: half the round
    /// trip, and what may have drifted since.
    pub error: Duration,
    /// The round trip of the exchange that this comes from, without the time that the peer took to answer.
    pub rtt: Duration,
}

/// The minimum-delay filter over the exchanges with one peer.
#[derive(Clone, Debug, Default)]
pub struct Skew {
    /// Oldest first, at most [`EXCHANGES_KEPT`].
    samples: VecDeque<Sample>,
    estimate: Option<Estimate>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    offset: Offset,
    rtt: Duration,
    at: Duration,
    /// What orders exchanges by their [`error`](Self::error), which grows equally fast for all: what it would have been at
    /// time zero, in millionths of a nanosecond.
    rank: i128,
}

impl Sample {
    fn new(exchange: Exchange, at: Duration) -> Result<Self, ExchangeError> {
        let Exchange { asked, received, answered, returned } = exchange;
        if returned < asked || answered < received {
            return Err(ExchangeError::Contradiction);
        }
        let rtt = returned.since(asked).checked_sub(answered.since(received)).ok_or(ExchangeError::Contradiction)?;
        if rtt > ROUND_TRIP_MAX {
            return Err(ExchangeError::TooSlow(rtt));
        }
        let out = received.offset_from(asked).nanos();
        let back = answered.offset_from(returned).nanos();
        let rank = rtt.as_nanos() as i128 * 500_000 - at.as_nanos() as i128 * i128::from(DRIFT_PPM);
        Ok(Self { offset: Offset::from_nanos(out.saturating_add(back) / 2), rtt, at, rank })
    }

    /// How far the true offset may be from this one by the time `now`.
    fn error(&self, now: Duration) -> Duration {
        self.rtt / 2 + now.saturating_sub(self.at).saturating_mul(DRIFT_PPM) / 1_000_000
    }

    /// Whether one offset can explain both.
    fn agrees_with(&self, newer: &Self) -> bool {
        let apart = self.offset.nanos().abs_diff(newer.offset.nanos());
        Duration::from_nanos(apart) <= self.error(newer.at) + newer.error(newer.at)
    }
}

impl Skew {
    /// A filter that has seen no exchange yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an exchange that ended at `at`, in monotonic time, and gives the estimate as it is then.
    ///
    /// # Errors
    /// [`ExchangeError`] if the exchange says nothing; the estimate then stays as it was.
    pub fn record(&mut self, exchange: Exchange, at: Duration) -> Result<Estimate, ExchangeError> {
        let newest = Sample::new(exchange, at)?;
        if self.best().is_some_and(|best| !best.agrees_with(&newest)) {
            self.samples.clear();
        }
        if self.samples.len() == EXCHANGES_KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(newest);
        let best = self.best().unwrap_or(newest);
        let estimate = Estimate { offset: best.offset, error: best.error(at), rtt: best.rtt };
        self.estimate = Some(estimate);
        Ok(estimate)
    }

    /// The estimate after the last good exchange; none before the first.
    pub const fn estimate(&self) -> Option<Estimate> {
        self.estimate
    }

    /// The most exact exchange; the newest of equals.
    fn best(&self) -> Option<Sample> {
        self.samples.iter().rev().min_by_key(|sample| sample.rank).copied()
    }
}

/// Whether the clock of this node, and not those of its peers, is the one that is wrong: more than half of the nodes
/// that are known, this one among them, are certainly further than `max_drift` from it. Such a node takes no writes.
pub fn is_outvoted(peers: impl IntoIterator<Item = Estimate>, max_drift: Duration) -> bool {
    let (mut known, mut against) = (1_usize, 0_usize);
    for peer in peers {
        known += 1;
        against += usize::from(peer.offset.magnitude().saturating_sub(peer.error) > max_drift);
    }
    against > known / 2
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{prop_assert, proptest};

    use super::{Estimate, Exchange, ExchangeError, Skew, is_outvoted, too_far_ahead};
    use crate::{Offset, Time, limits::MAX_DRIFT_DEFAULT};

    const NOON: Time = Time::from_unix_ms(1_800_000_000_000);
    const MS: i64 = 1_000_000;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// What two clocks show of an exchange that begins at `start`.
    fn exchange(start: Time, off: i64, there: Duration, work: Duration, back: Duration) -> Exchange {
        let peer = |time: Time| time.shifted(Offset::from_nanos(off));
        let received = start.after(there);
        let answered = received.after(work);
        Exchange { asked: start, received: peer(received), answered: peer(answered), returned: answered.after(back) }
    }

    fn even(off: i64, rtt: Duration) -> Exchange {
        exchange(NOON, off, rtt / 2, ms(1), rtt / 2)
    }

    fn assert_offset(estimate: Estimate, nanos: i64) {
        assert!(estimate.offset.nanos().abs_diff(nanos) < 5, "{} is not {nanos} ns", estimate.offset);
    }

    #[test]
    fn even_ways_give_the_exact_offset() {
        let estimate = Skew::new().record(even(-123 * MS, ms(80)), Duration::ZERO).unwrap();
        assert_offset(estimate, -123 * MS);
        assert!(estimate.rtt.abs_diff(ms(80)) < Duration::from_nanos(5));
        assert_eq!(estimate.error, estimate.rtt / 2);
    }

    #[test]
    fn shortest_round_trip_is_trusted() {
        let mut skew = Skew::new();
        let queued = |back| exchange(NOON, 7 * MS, ms(40), ms(1), ms(back));
        skew.record(queued(90), ms(0)).unwrap();
        skew.record(queued(40), ms(1_000)).unwrap();
        let estimate = skew.record(queued(400), ms(2_000)).unwrap();
        assert_offset(estimate, 7 * MS);
        assert_eq!(skew.estimate(), Some(estimate));
    }

    #[test]
    fn clock_that_was_set_is_noticed_in_one_exchange() {
        let mut skew = Skew::new();
        skew.record(even(900 * MS, ms(20)), ms(0)).unwrap();
        let estimate = skew.record(even(0, ms(200)), ms(1_000)).unwrap();
        assert_offset(estimate, 0);
    }

    #[test]
    fn old_exchange_makes_room_even_if_it_was_the_best() {
        let mut skew = Skew::new();
        skew.record(even(0, ms(1)), ms(0)).unwrap();
        for second in 1..=8 {
            skew.record(even(0, ms(30)), ms(second * 1_000)).unwrap();
        }
        assert!(skew.estimate().unwrap().rtt > ms(29));
    }

    #[test]
    fn exchange_that_cannot_be_true_changes_nothing() {
        let mut skew = Skew::new();
        let good = skew.record(even(5 * MS, ms(20)), ms(0)).unwrap();
        let back = Exchange { returned: NOON.before(ms(1)), ..even(0, ms(20)) };
        let long_work = Exchange { answered: NOON.after(ms(500)), ..even(0, ms(20)) };
        let slow = even(0, ms(11_000));
        assert_eq!(skew.record(back, ms(1)), Err(ExchangeError::Contradiction));
        assert_eq!(skew.record(long_work, ms(2)), Err(ExchangeError::Contradiction));
        assert!(matches!(skew.record(slow, ms(3)), Err(ExchangeError::TooSlow(_))));
        assert_eq!(skew.estimate(), Some(good));
    }

    #[test]
    fn stamp_is_too_far_ahead_only_beyond_the_limit() {
        let edge = NOON.after(MAX_DRIFT_DEFAULT);
        assert!(!too_far_ahead(edge, NOON, MAX_DRIFT_DEFAULT));
        assert!(too_far_ahead(edge.next(), NOON, MAX_DRIFT_DEFAULT));
        assert!(!too_far_ahead(Time::ZERO, NOON, Duration::ZERO));
    }

    #[test]
    fn only_a_majority_outvotes_a_node() {
        let peer = |off| Estimate { offset: Offset::from_nanos(off * MS), error: ms(5), rtt: ms(10) };
        assert!(!is_outvoted([], MAX_DRIFT_DEFAULT));
        assert!(!is_outvoted([peer(900)], MAX_DRIFT_DEFAULT));
        assert!(!is_outvoted([peer(900), peer(1)], MAX_DRIFT_DEFAULT));
        assert!(is_outvoted([peer(900), peer(-900)], MAX_DRIFT_DEFAULT));
        assert!(!is_outvoted([peer(504), peer(504)], MAX_DRIFT_DEFAULT));
    }

    proptest! {
        #[test]
        fn true_offset_of_steady_clocks_is_always_within_the_bound(
            off in -10_000 * MS..10_000 * MS,
            ways in proptest::collection::vec((0..500u64, 0..500u64, 0..50u64), 1..30),
        ) {
            let mut skew = Skew::new();
            for (second, (there, back, work)) in ways.into_iter().enumerate() {
                let at = Duration::from_secs(second as u64);
                let estimate = skew.record(exchange(NOON.after(at), off, ms(there), ms(work), ms(back)), at).unwrap();
                let apart = Duration::from_nanos(estimate.offset.nanos().abs_diff(off));
                prop_assert!(apart <= estimate.error + Duration::from_nanos(5));
            }
        }

        #[test]
        fn no_times_that_a_peer_sends_panic(exchanges in proptest::collection::vec(proptest::array::uniform5(0u64..), 1..20)) {
            let mut skew = Skew::new();
            for [asked, received, answered, returned, at] in exchanges {
                let [asked, received, answered, returned] = [asked, received, answered, returned].map(Time::from_ntp64);
                let _ = skew.record(Exchange { asked, received, answered, returned }, Duration::from_nanos(at));
            }
        }
    }
}
