//! Lag: how old what is still missing here may be.
//!
//! `lag(from) = now - least seen over all slots of the origin that speaks for "from"`. A watermark moves `seen` also when
//! nobody writes, so an idle link has a lag of a heartbeat and its distance, and a link that is down or held has one
//! that grows by a second per second. It is an upper bound of the age of the oldest write of that region that is
//! missing here, and never less than it, but for what the two clocks disagree by.
//!
//! Before a region was ever heard nothing is known of it; then its lag is the age of this process.

use std::time::Duration;

use clock::{RegionId, Time};
use node_core::store::{Matrix, Seen};

/// The lag of this region behind `from`. `minima` is what this region has seen in all slots, `started` is when it began
/// to listen.
pub fn lag(matrix: &Matrix, minima: &Seen, from: RegionId, started: Time, now: Time) -> Duration {
    let seen = match matrix.live_origin(from) {
        // Up to its birth an origin is trivially seen: it issued nothing before.
        Some(origin) => minima.at(origin).max(matrix.birth(origin)),
        None => started,
    };
    now.since(seen)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clock::{Incarnation, Origin, RegionId, Time};
    use node_core::store::{Matrix, Seen};

    use super::lag;

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
        assert_eq!(lag(&matrix, &Seen::new(), region(2), START, START.after(9 * SECOND)), 9 * SECOND);
    }

    #[test]
    fn lag_grows_while_nothing_is_seen() {
        let mut matrix = Matrix::new(origin(1, 0), START, [region(2)]);
        matrix.announce(origin(2, 0), START);
        let minima: Seen = [(origin(2, 0), START.after(SECOND))].into_iter().collect();
        assert_eq!(lag(&matrix, &minima, region(2), START, START.after(2 * SECOND)), SECOND);
        assert_eq!(lag(&matrix, &minima, region(2), START, START.after(60 * SECOND)), 59 * SECOND);
    }

    #[test]
    fn a_new_life_lags_since_its_birth_and_not_since_the_epoch() {
        let mut matrix = Matrix::new(origin(1, 0), START, [region(2)]);
        matrix.announce(origin(2, 1), START.after(5 * SECOND));
        assert_eq!(lag(&matrix, &Seen::new(), region(2), START, START.after(8 * SECOND)), 3 * SECOND);
    }
}
