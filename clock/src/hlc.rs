//! The hybrid logical clock: one per stripe, inside the stripe's lock.
//!
//! It turns a wall time that may stand still, jump or go back into stamps that only ever grow. A stamp is greater
//! than every stamp issued before, than every stamp observed (Kulkarni et al., "Logical Physical Clocks", 2014), and
//! than whatever the caller says it must lie above: the stamp that the key has now and the floor of its slot. So a
//! local write always wins over what it could have seen, whatever the clocks say.
//!
//! # The four bits of counter
//! uhlc keeps the last four bits of the 64 for the logical counter: wall times are multiples of 16 units (3.7 ns),
//! and stamps issued within one such tick, or while the wall stands still, count up by single units. The sixteenth
//! carries into the physical part. That is harmless: a stamp is compared as one number, so the carry only means that
//! the clock runs ahead of the wall, by 0.23 ns a stamp, and no core issues four stamps a nanosecond. When the wall
//! catches up, the clock is back on it.
//!
//! # How uhlc is held
//! uhlc asks a bare `fn()` for the time, so the reading passes through a thread-local that is set just before the
//! call; [`reading`] is the one place. It is built without its `std` feature: with it, building a clock reads an
//! environment variable and panics if that is malformed, and refusals go to a logger. Its check of drift is out of
//! the way, since links check a whole batch before any record of it gets here. Its 128-bit id is never stored or
//! sent, and its `Timestamp` does not leave this file.
//!
//! # The end
//! NTP64 ends in 2106. From then on every stamp is [`Time::MAX`]: order is lost, but nothing panics.

use std::{cell::Cell, fmt};

use uhlc::{HLC, HLCBuilder, ID, NTP64, Timestamp};

use crate::{Origin, Stamp, Time};

/// Wall times are multiples of this, in units of NTP64.
const TICK: u64 = 1 << uhlc::CSIZE;

/// From here on the clock is at its end. Leaves room for one rounding up and one carry.
const CEILING: Time = Time::from_ntp64(u64::MAX - 2 * TICK);

thread_local! {
    static READING: Cell<u64> = const { Cell::new(0) };
}

/// The physical clock that uhlc reads: what was put into [`READING`] a moment ago.
fn reading() -> NTP64 {
    NTP64(READING.get())
}

/// Issues the stamps of one origin in one stripe.
pub struct Hlc {
    inner: HLC,
    origin: Origin,
    /// The greatest time issued or observed; uhlc does not tell its own. Never above uhlc's.
    last: Time,
    /// The greatest time issued, or the start.
    issued: Time,
}

impl Hlc {
    /// A clock for `origin` that never issues a time at or below `start`.
    ///
    /// `start` is the persisted high-water mark after a restart, and what the former primary could have issued after
    /// a promotion.
    pub fn new(origin: Origin, start: Time) -> Self {
        let mut hlc = Self { inner: build(origin), origin, last: Time::ZERO, issued: start };
        hlc.observe(start);
        hlc
    }

    /// Issues a stamp: later than every one before, later than `above`, and not before `now`.
    ///
    /// `above` is the greater of the key's stamp and its slot's floor.
    #[inline]
    pub fn issue(&mut self, now: Time, above: Time) -> Stamp {
        // What was issued or observed here is left to uhlc, which counts on from it by one unit; only what this clock
        // has never seen has to be taken for a reading.
        let reached = if above > self.last { now.max(above.next()) } else { now };
        self.last = if reached.max(self.last) < CEILING {
            READING.set(reached.ntp64().next_multiple_of(TICK));
            Time::from_ntp64(self.inner.new_timestamp().get_time().as_u64())
        } else {
            Time::MAX
        };
        self.issued = self.last;
        Stamp { time: self.last, origin: self.origin }
    }

    /// Takes note of a time that was issued elsewhere: every later stamp is greater.
    ///
    /// The caller has checked that it is not [too far ahead](crate::too_far_ahead).
    #[inline]
    pub fn observe(&mut self, time: Time) {
        if time <= self.last {
            return;
        }
        self.last = time;
        if time < CEILING {
            READING.set(time.ntp64());
            let timestamp = Timestamp::new(NTP64(time.ntp64()), *self.inner.get_id());
            self.inner.update_with_timestamp(&timestamp).expect("a timestamp is not ahead of a clock that reads it");
        }
    }

    /// The greatest time that was issued or observed.
    pub const fn last(&self) -> Time {
        self.last
    }

    /// The greatest time that was issued, or the start if none was. What was observed and promised does not count.
    pub const fn issued(&self) -> Time {
        self.issued
    }

    /// Promises that every stamp issued from here on is greater than the time returned.
    ///
    /// Moves the clock up to `now`, so that the watermark of a stripe in which nobody writes moves on as well.
    pub fn watermark(&mut self, now: Time) -> Time {
        self.observe(now);
        self.last
    }

    /// Who issues these stamps.
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// Goes on as another origin: a new incarnation, or the region's own after a replica is promoted.
    ///
    /// What was issued and observed stays below what is issued next.
    pub fn set_origin(&mut self, origin: Origin) {
        *self = Self::new(origin, self.last);
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hlc").field("origin", &self.origin).field("last", &self.last).finish_non_exhaustive()
    }
}

/// The one place that builds a clock of uhlc.
fn build(origin: Origin) -> HLC {
    // uhlc compares ids byte by byte: big-endian, so that they order as the numbers do.
    let id = ID::try_from(origin.bits().to_be_bytes()).expect("an origin is never zero, since no region is");
    HLCBuilder::new().with_id(id).with_clock(reading).build()
}
#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::{CEILING, Hlc, TICK};
    use crate::{Incarnation, Origin, RegionId, Stamp, Time};

    const NOON: Time = Time::from_unix_ms(1_800_000_000_000);

    fn origin(incarnation: u16) -> Origin {
        Origin::new(RegionId::MIN, Incarnation::new(incarnation))
    }

    fn hlc() -> Hlc {
        Hlc::new(origin(0), Time::ZERO)
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Issue { now: Time, above: Time },
        IssueAboveLast { now: Time },
        Observe(Time),
        Watermark(Time),
        NextLife,
    }

    /// Times close to one another, where counters carry and steps collide, and times anywhere up to `end`.
    fn time(end: u64) -> impl Strategy<Value = Time> {
        let near = NOON.ntp64();
        prop_oneof![4 => near..near + 5 * TICK, 1 => 0..=end].prop_map(Time::from_ntp64)
    }

    fn steps(end: u64) -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (time(end), time(end)).prop_map(|(now, above)| Step::Issue { now, above }),
            2 => time(end).prop_map(|now| Step::IssueAboveLast { now }),
            2 => time(end).prop_map(Step::Observe),
            1 => time(end).prop_map(Step::Watermark),
            1 => Just(Step::NextLife),
        ];
        proptest::collection::vec(step, 1..200)
    }

    /// Takes a step; what was issued, and what it had to lie above.
    fn take(hlc: &mut Hlc, step: Step) -> Option<(Stamp, Time, Time)> {
        match step {
            Step::Issue { now, above } => Some((hlc.issue(now, above), now, above)),
            Step::IssueAboveLast { now } => {
                let above = hlc.last();
                Some((hlc.issue(now, above), now, above))
            }
            Step::Observe(time) => {
                hlc.observe(time);
                None
            }
            Step::Watermark(now) => {
                hlc.watermark(now);
                None
            }
            Step::NextLife => {
                let origin = hlc.origin();
                hlc.set_origin(Origin::new(origin.region(), origin.incarnation().next()));
                None
            }
        }
    }

    proptest! {
        #[test]
        fn every_stamp_is_above_all_that_was_before_it(
            start in time(NOON.ntp64()),
            steps in steps(u64::MAX / 2),
        ) {
            let mut hlc = Hlc::new(origin(0), start);
            let mut bound = start;
            for step in steps {
                if let Some((stamp, now, above)) = take(&mut hlc, step) {
                    prop_assert!(stamp.time > bound && stamp.time > above && stamp.time >= now);
                    prop_assert_eq!(stamp.origin, hlc.origin());
                }
                prop_assert!(hlc.last() >= bound);
                if let Step::Observe(time) | Step::Watermark(time) = step {
                    prop_assert!(hlc.last() >= time);
                }
                bound = hlc.last();
            }
        }

        #[test]
        fn no_sequence_of_times_panics_or_goes_back(steps in steps(u64::MAX)) {
            let mut hlc = hlc();
            for step in steps {
                let last = hlc.last();
                if let Some((stamp, now, above)) = take(&mut hlc, step) {
                    prop_assert!(stamp.time >= now && stamp.time >= above);
                }
                prop_assert!(hlc.last() >= last);
            }
        }
    }

    #[test]
    fn stamps_within_one_tick_count_by_one_and_carry() {
        let mut hlc = hlc();
        let first = hlc.issue(NOON, Time::ZERO).time;
        for count in 1..3 * TICK {
            assert_eq!(hlc.issue(NOON, Time::ZERO).time.ntp64(), first.ntp64() + count);
        }
    }

    #[test]
    fn clock_returns_to_the_wall_after_a_carry() {
        let mut hlc = hlc();
        for _ in 0..100 * TICK {
            hlc.issue(NOON, Time::ZERO);
        }
        let later = Time::from_ntp64(NOON.ntp64() + 1_000 * TICK);
        assert_eq!(hlc.issue(later, Time::ZERO).time.ntp64(), later.ntp64().next_multiple_of(TICK));
    }

    #[test]
    fn rewriting_one_key_costs_no_more_than_its_count() {
        let mut hlc = hlc();
        let first = hlc.issue(NOON, Time::ZERO).time;
        let mut last = first;
        for _ in 0..1_000 {
            last = hlc.issue(NOON, last).time;
        }
        assert_eq!(last.ntp64() - first.ntp64(), 1_000);
    }

    #[test]
    fn nothing_is_issued_at_or_below_the_start() {
        let mut hlc = Hlc::new(origin(0), NOON);
        assert_eq!(hlc.last(), NOON);
        assert!(hlc.issue(Time::ZERO, Time::ZERO).time > NOON);
    }

    #[test]
    fn watermark_of_an_idle_clock_moves_and_holds() {
        let mut hlc = hlc();
        assert_eq!(hlc.watermark(NOON), NOON);
        assert_eq!(hlc.watermark(NOON), NOON);
        assert!(hlc.issue(Time::ZERO, Time::ZERO).time > NOON);
    }

    #[test]
    fn what_is_observed_or_promised_was_not_issued() {
        let mut hlc = Hlc::new(origin(0), NOON);
        assert_eq!(hlc.issued(), NOON);
        let stamp = hlc.issue(NOON, Time::ZERO);
        hlc.watermark(Time::from_unix_ms(NOON.unix_ms() + 5));
        hlc.observe(Time::from_unix_ms(NOON.unix_ms() + 9));
        assert_eq!(hlc.issued(), stamp.time);
    }

    #[test]
    fn new_life_goes_on_above_the_old_one() {
        let mut hlc = hlc();
        let old = hlc.issue(NOON, Time::ZERO);
        hlc.set_origin(origin(256));
        let new = hlc.issue(Time::ZERO, Time::ZERO);
        assert!(new.time > old.time);
        assert_eq!(new.origin, origin(256));
    }

    #[test]
    fn ids_order_as_origins_do() {
        let id = |incarnation| *super::build(origin(incarnation)).get_id();
        assert!(id(1) < id(256) && id(255) < id(256));
    }

    #[test]
    fn at_the_end_of_time_it_stands_still() {
        for start in [CEILING, Time::MAX, Time::from_ntp64(CEILING.ntp64() - 1)] {
            let mut hlc = Hlc::new(origin(0), start);
            for _ in 0..4 * TICK {
                assert!(hlc.issue(NOON, Time::ZERO).time > start || start == Time::MAX);
            }
            hlc.set_origin(origin(1));
            assert_eq!(hlc.issue(Time::MAX, Time::MAX).time, Time::MAX);
        }
    }
}
