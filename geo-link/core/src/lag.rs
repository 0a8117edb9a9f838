//! Lag: how old what is still missing here may be.
//!
//! `lag(from) = now - least seen over all slots of the origins that speak for "from", each in its own`. Where one has said nothing yet, or
//! nobody speaks, those count that did before ([`Store::seen_of`](node_core::store::Store::seen_of)). A watermark moves `seen` also when
//! nobody writes, so an idle link has a lag of a heartbeat and its distance, and a link that is down or held has one
//! that grows by a second per second. It is an upper bound of the age of the oldest write of that region that is
//! missing here.
//!
//! # Clocks
//! A stamp is as old as its region's clock says. If that clock is ahead of ours, its writes look younger than they are,
//! and a link that holds them would look as if it had no lag at all. So what is *certain* of a peer's clock being ahead
//! (the measured offset less its error) is added. Being behind only makes writes look older, and nothing is taken off:
//! lag may be told too great, by what clocks disagree by, but not too small by more than the error of the measurement.
//!
//! Until something of a region was seen nothing is known of it; then its lag is the age of this process.

use std::time::Duration;

use clock::{Estimate, Offset, Time};

/// How far a peer's clock is certainly ahead of ours.
pub(crate) fn certainly_ahead(estimate: Estimate) -> Duration {
    if estimate.offset > Offset::ZERO {
        estimate.offset.magnitude().saturating_sub(estimate.error)
    } else {
        Duration::ZERO
    }
}

/// The lag behind a region that is [seen up to then](node_core::store::Store::seen_of), and whose clock is certainly `ahead` of ours.
pub(crate) fn lag(seen: Time, ahead: Duration, now: Time) -> Duration {
    now.since(seen.before(ahead))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clock::{Estimate, Incarnation, Now, Offset, Origin, RegionId, Time};
    use node_core::store::{Claim, FeedItem, Intake, Seen, Store, StoreOptions};

    use super::certainly_ahead;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Time = Time::from_unix_ms(1_800_000_000_000);

    fn region(id: u8) -> RegionId {
        RegionId::new(id).unwrap()
    }

    fn origin(id: u8, life: u16) -> Origin {
        Origin::new(region(id), Incarnation::new(life))
    }

    /// A store of region 1, beside region 2.
    fn store() -> Store {
        let (origin, peers) = (origin(1, 0), vec![region(2)]);
        Store::new(&StoreOptions { origin, start: START, peers, stripes: 2, log_records: 16, hash_seed: 1 })
    }

    /// Region 2 is heard under an origin that was born then.
    fn announce(store: &Store, life: u16, birth: Time) {
        store.update_matrix(|matrix| matrix.announce(origin(2, life), birth, &Claim::all()));
    }

    fn watermark(store: &Store, life: u16, time: Time) {
        let now = Now { wall: time, monotonic: SECOND };
        let item = FeedItem::Watermark { origin: origin(2, life), time };
        Intake::default().take(store, &item, &Seen::new(), now).expect("a watermark takes no memory");
    }

    /// With a clock that is so far ahead, as a process that has listened since `started` tells it.
    fn lag_told(store: &Store, ahead: Duration, started: Time, now: Time) -> Duration {
        let minima = store.seen_minima(Now { wall: now, monotonic: SECOND });
        super::lag(store.seen_of(region(2), &minima, started), ahead, now)
    }

    fn lag(store: &Store, seconds: u32) -> Duration {
        lag_told(store, Duration::ZERO, START, after(seconds))
    }

    fn after(seconds: u32) -> Time {
        START.after(seconds * SECOND)
    }

    #[test]
    fn lag_counts_from_the_start_until_a_region_is_heard() {
        assert_eq!(lag(&store(), 9), 9 * SECOND);
    }

    #[test]
    fn lag_grows_while_nothing_is_seen() {
        let store = store();
        announce(&store, 0, START);
        watermark(&store, 0, after(1));
        assert_eq!((lag(&store, 2), lag(&store, 60)), (SECOND, 59 * SECOND));
    }

    #[test]
    fn a_region_that_has_greeted_lags_since_the_start_until_it_has_said_something() {
        let store = store();
        announce(&store, 1, after(5));
        assert_eq!(lag(&store, 8), 8 * SECOND);
        watermark(&store, 1, after(6));
        assert_eq!(lag(&store, 8), 2 * SECOND);
    }

    #[test]
    fn a_new_life_lags_as_the_one_before_until_it_has_said_something() {
        let store = store();
        announce(&store, 0, START);
        watermark(&store, 0, after(1));
        announce(&store, 1, after(20));
        assert_eq!(lag(&store, 21), 20 * SECOND);
        watermark(&store, 1, after(22));
        assert_eq!(lag(&store, 23), SECOND);
    }

    #[test]
    fn what_was_seen_counts_also_where_nobody_has_greeted() {
        let store = store();
        watermark(&store, 0, after(1));
        // As of a replica that has become the primary during a cut.
        assert_eq!(lag_told(&store, Duration::ZERO, after(30), after(31)), 30 * SECOND);
    }

    #[test]
    fn a_clock_that_is_ahead_does_not_hide_lag() {
        let store = store();
        announce(&store, 0, START);
        watermark(&store, 0, after(10));
        let estimate = |offset| Estimate { offset, error: SECOND, rtt: 2 * SECOND };
        let lag_if = |offset| lag_told(&store, certainly_ahead(estimate(offset)), START, after(11));
        assert_eq!(lag_if(Offset::ZERO), SECOND);
        assert_eq!(lag_if(Offset::ahead(SECOND)), SECOND);
        assert_eq!(lag_if(Offset::ahead(4 * SECOND)), 4 * SECOND);
        assert_eq!(lag_if(Offset::behind(4 * SECOND)), SECOND);
    }
}
