//! Lag: how old what is still missing here may be.
//!
//! `lag(from) = now - least seen over all slots of the origins that speak for "from", each in its own`. A watermark moves `seen` also when
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
//! Before a region was ever heard nothing is known of it; then its lag is the age of this process.

use std::time::Duration;

use clock::{Estimate, Offset, RegionId, Time};
use node_core::{
    slot::SlotSet,
    store::{Matrix, Seen},
};

/// How far a peer's clock is certainly ahead of ours.
pub fn certainly_ahead(estimate: Estimate) -> Duration {
    if estimate.offset > Offset::ZERO {
        estimate.offset.magnitude().saturating_sub(estimate.error)
    } else {
        Duration::ZERO
    }
}

/// The lag of the slots `owned` (all, if none are named) behind `from`, whose clock is certainly `ahead` of ours. `minima` is
/// what was seen in all of them, `started` is when this process began to listen.
pub fn lag(
    matrix: &Matrix,
    owned: Option<&SlotSet>,
    minima: &Seen,
    from: RegionId,
    ahead: Duration,
    started: Time,
    now: Time,
) -> Duration {
    // Up to its birth an origin is trivially seen: it issued nothing before.
    let seen = |origin| minima.at(origin).max(matrix.birth(origin)).before(ahead);
    let heard = matrix.speakers(from).map(|(origin, _)| seen(origin)).min();
    let unheard = (!matrix.is_spoken_for(from, owned)).then_some(started);
    heard.into_iter().chain(unheard).map(|seen| now.since(seen)).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clock::{Estimate, Incarnation, Offset, Origin, RegionId, Time};
    use node_core::store::{Claim, Matrix, Seen};

    use super::{certainly_ahead, lag};

    const SECOND: Duration = Duration::from_secs(1);
    const START: Time = Time::from_unix_ms(1_800_000_000_000);

    fn region(id: u8) -> RegionId {
        RegionId::new(id).unwrap()
    }

    fn origin(id: u8, life: u16) -> Origin {
        Origin::new(region(id), Incarnation::new(life))
    }

    #[test]
    fn lag_counts_from_the_start_until_a_region_is_heard() {
        let matrix = Matrix::new(origin(1, 0), START, [region(2)]);
        assert_eq!(
            lag(&matrix, None, &Seen::new(), region(2), Duration::ZERO, START, START.after(9 * SECOND)),
            9 * SECOND
        );
    }

    #[test]
    fn lag_grows_while_nothing_is_seen() {
        let mut matrix = Matrix::new(origin(1, 0), START, [region(2)]);
        matrix.announce(origin(2, 0), START, &Claim::all());
        let minima: Seen = [(origin(2, 0), START.after(SECOND))].into_iter().collect();
        assert_eq!(lag(&matrix, None, &minima, region(2), Duration::ZERO, START, START.after(2 * SECOND)), SECOND);
        assert_eq!(
            lag(&matrix, None, &minima, region(2), Duration::ZERO, START, START.after(60 * SECOND)),
            59 * SECOND
        );
    }

    #[test]
    fn a_new_life_lags_since_its_birth_and_not_since_the_epoch() {
        let mut matrix = Matrix::new(origin(1, 0), START, [region(2)]);
        matrix.announce(origin(2, 1), START.after(5 * SECOND), &Claim::all());
        assert_eq!(
            lag(&matrix, None, &Seen::new(), region(2), Duration::ZERO, START, START.after(8 * SECOND)),
            3 * SECOND
        );
    }

    #[test]
    fn a_clock_that_is_ahead_does_not_hide_lag() {
        let mut matrix = Matrix::new(origin(1, 0), START, [region(2)]);
        matrix.announce(origin(2, 0), START, &Claim::all());
        let minima: Seen = [(origin(2, 0), START.after(10 * SECOND))].into_iter().collect();
        let estimate = |offset| Estimate { offset, error: SECOND, rtt: 2 * SECOND };
        let lag_if = |offset| {
            let ahead = certainly_ahead(estimate(offset));
            lag(&matrix, None, &minima, region(2), ahead, START, START.after(11 * SECOND))
        };
        assert_eq!(lag_if(Offset::ZERO), SECOND);
        assert_eq!(lag_if(Offset::ahead(SECOND)), SECOND);
        assert_eq!(lag_if(Offset::ahead(4 * SECOND)), 4 * SECOND);
        assert_eq!(lag_if(Offset::behind(4 * SECOND)), SECOND);
    }
}
