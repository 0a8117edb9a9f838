//! Wall time from a monotonic counter.
//!
//! Reading the system's wall clock for every stamp would be slow and would hand its jumps on to everyone. A bare
//! counter is fast and never jumps, but its rate is calibrated once, at start, and is off by up to 100 ppm from then
//! on. So the wall clock here is a line through a point: the counter gives the slope, the system clock the point, and
//! once a second the point is checked against a fresh [`Reading`] of both.
//!
//! # What is done about an error
//! | the system clock is | what happens |
//! |---|---|
//! | within [`SLEW_MAX`] | slewed: the clock runs [`SLEW_PPM`] fast or slow until the error is gone |
//! | further ahead | jump: followed at once, since a jump ahead harms nobody's order |
//! | further behind | brake: the clock runs at an eighth of its speed until the other has caught up |
//! | behind by more than [`BRAKE_MAX`] | followed back: the only case in which time here goes back |
//!
//! Stamps keep their order in the last case as well, since the [`Hlc`](crate::Hlc) above never goes back; expiries
//! are what would suffer from a clock that stays wrong.
//!
//! # Two pieces
//! A correction takes effect [`SWITCH_AHEAD`] after its reading. Until then every reader is on the old line, also
//! those that have the new anchor already, and at the switch the lines meet: so time is monotonic across threads
//! without their agreeing on anything. The error is worked out for the moment of the switch, not of the reading.
//!
//! A reading takes time, and says nothing finer than that: what lies within its width is not corrected.
//!
//! Left out on purpose: learning the counter's rate. It would bring 100 us of error down to one or two, on which
//! nothing here depends, and a filter that learns can learn wrong.

use std::time::Duration;

use crate::{
    Offset, Time,
    limits::{BRAKE_MAX, BRAKE_PPM, SLEW_MAX, SLEW_PPM, SWITCH_AHEAD},
};

/// Both clocks, read as close together as could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The counter, in nanoseconds: the middle between a reading before and one after.
    pub counter: u64,
    /// The system's wall clock.
    pub system: Time,
    /// How much time passed between the two readings of the counter.
    pub width: Duration,
}

/// What a [`Reading`] led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correction {
    /// A small error is being worked off, or there was none.
    Slewed,
    /// The clock jumps ahead by this.
    JumpedAhead(Duration),
    /// The clock is ahead by this and brakes until the system clock has caught up.
    Braked(Duration),
    /// The clock is followed back by this.
    JumpedBack(Duration),
    /// The reading came before the last correction had taken effect, and was not used.
    TooSoon,
}

/// How often the system clock did what clocks should not do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jumps {
    /// Steps ahead that were followed.
    pub ahead: u64,
    /// Steps back that were waited out.
    pub braked: u64,
    /// Steps back that were followed.
    pub back: u64,
}

/// The wall clock from `counter` on: a point, and an error to be worked off from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where the line begins, in nanoseconds of the counter.
    pub(crate) counter: u64,
    /// The wall time there.
    pub(crate) wall: Time,
    /// What is to be added to the wall in the course of time.
    pub(crate) correction: Offset,
}

/// The two lines between which readers choose by the counter: all that it takes to tell the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) before: Line,
    pub(crate) after: Line,
}

/// The wall clock, and what is known of its error.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    lines: Lines,
    offset: Offset,
    jumps: Jumps,
}

impl Line {
    /// Never falls as `counter` grows, since no correction slows the clock by more than [`BRAKE_PPM`].
    #[inline]
    fn wall(&self, counter: u64) -> Time {
        // A counter read on another core may lie a few nanoseconds before the line: it stands at its beginning.
        let elapsed = counter.saturating_sub(self.counter);
        let correction = self.correction.nanos();
        let whole = correction.unsigned_abs();
        let rate = if self.brakes() { BRAKE_PPM } else { SLEW_PPM };
        // Saturates after hours, far beyond any correction.
        let part = whole.min(elapsed.saturating_mul(rate) / 1_000_000);
        let nanos = if correction < 0 { elapsed - part } else { elapsed.saturating_add(part) };
        self.wall.after(Duration::from_nanos(nanos))
    }

    const fn brakes(&self) -> bool {
        self.correction.nanos() < -(SLEW_MAX.as_nanos() as i64)
    }
}

impl Lines {
    #[inline]
    pub(crate) fn wall(&self, counter: u64) -> Time {
        if counter < self.after.counter { self.before.wall(counter) } else { self.after.wall(counter) }
    }
}

impl Anchor {
    /// A wall clock that begins in agreement with the system's.
    pub const fn new(reading: Reading) -> Self {
        let line = Line { counter: reading.counter, wall: reading.system, correction: Offset::ZERO };
        Self {
            lines: Lines { before: line, after: line },
            offset: Offset::ZERO,
            jumps: Jumps { ahead: 0, braked: 0, back: 0 },
        }
    }

    /// The wall time at a reading of the counter, in nanoseconds.
    #[inline]
    pub fn wall(&self, counter: u64) -> Time {
        self.lines.wall(counter)
    }

    /// Corrects the clock by a fresh reading. To be called once a second.
    pub fn correct(&mut self, reading: Reading) -> Correction {
        if reading.counter < self.lines.after.counter {
            return Correction::TooSoon;
        }
        self.offset = reading.system.offset_from(self.wall(reading.counter));
        let before = self.lines.after;
        let switch = reading.counter.saturating_add(SWITCH_AHEAD.as_nanos() as u64);
        let wall = before.wall(switch);
        let error = beyond_doubt(reading.system.after(SWITCH_AHEAD).offset_from(wall), reading.width);
        let (jump, correction, outcome) = judge(error);
        match outcome {
            Correction::JumpedAhead(_) => self.jumps.ahead += 1,
            // One step back is found again by every reading until it has been waited out.
            Correction::Braked(_) => self.jumps.braked += u64::from(!before.brakes()),
            Correction::JumpedBack(_) => self.jumps.back += 1,
            Correction::Slewed | Correction::TooSoon => {}
        }
        self.lines = Lines { before, after: Line { counter: switch, wall: wall.shifted(jump), correction } };
        outcome
    }

    /// The system's clock minus this one, at the last reading.
    pub const fn offset(&self) -> Offset {
        self.offset
    }

    /// How often the system clock was set, as far as it was noticed here.
    pub const fn jumps(&self) -> Jumps {
        self.jumps
    }

    pub(crate) const fn lines(&self) -> Lines {
        self.lines
    }
}

/// The part of an error that the width of the reading cannot explain.
fn beyond_doubt(error: Offset, width: Duration) -> Offset {
    let certain = error.magnitude().saturating_sub(width / 2);
    if error < Offset::ZERO { Offset::behind(certain) } else { Offset::ahead(certain) }
}

/// What is done about an error: how far to jump, how much to work off, and what to call it.
fn judge(error: Offset) -> (Offset, Offset, Correction) {
    let size = error.magnitude();
    if size <= SLEW_MAX {
        (Offset::ZERO, error, Correction::Slewed)
    } else if error > Offset::ZERO {
        (error, Offset::ZERO, Correction::JumpedAhead(size))
    } else if size <= BRAKE_MAX {
        (Offset::ZERO, error, Correction::Braked(size))
    } else {
        (error, Offset::ZERO, Correction::JumpedBack(size))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{prop_assert, proptest};

    use super::{Anchor, Correction, Reading};
    use crate::{
        Offset, Time,
        limits::{BRAKE_MAX, SLEW_MAX, SWITCH_AHEAD},
    };

    const NOON: Time = Time::from_unix_ms(1_800_000_000_000);
    const SECOND: u64 = 1_000_000_000;
    const MS: i64 = 1_000_000;

    /// A reading of exact width zero, on a system clock that is off the true one.
    fn reading(counter: u64, off: i64) -> Reading {
        let system = NOON.after(Duration::from_nanos(counter)).shifted(Offset::from_nanos(off));
        Reading { counter, system, width: Duration::ZERO }
    }

    fn anchor() -> Anchor {
        Anchor::new(reading(0, 0))
    }

    /// How far the anchor is ahead of the true time, in nanoseconds.
    fn ahead(anchor: &Anchor, counter: u64) -> i64 {
        anchor.wall(counter).offset_from(NOON.after(Duration::from_nanos(counter))).nanos()
    }

    fn assert_close(left: i64, right: i64) {
        assert!(left.abs_diff(right) <= 5, "{left} ns is not {right} ns");
    }

    #[test]
    fn small_error_is_worked_off_at_a_bounded_rate() {
        let mut anchor = anchor();
        assert_eq!(anchor.correct(reading(SECOND, 100_000)), Correction::Slewed);
        assert_close(anchor.offset().nanos(), 100_000);
        let switch = SECOND + SWITCH_AHEAD.as_nanos() as u64;
        assert_close(ahead(&anchor, switch), 0);
        assert_close(ahead(&anchor, switch + SECOND / 10), 50_000);
        assert_close(ahead(&anchor, switch + SECOND / 5), 100_000);
        assert_close(ahead(&anchor, switch + SECOND), 100_000);
    }

    #[test]
    fn step_ahead_is_followed_at_once() {
        let mut anchor = anchor();
        let outcome = anchor.correct(reading(SECOND, 3_000 * MS));
        assert!(matches!(outcome, Correction::JumpedAhead(by) if by.as_millis() == 2_999 || by.as_millis() == 3_000));
        assert_close(ahead(&anchor, SECOND), 0);
        assert_close(ahead(&anchor, SECOND + SWITCH_AHEAD.as_nanos() as u64), 3_000 * MS);
        assert_eq!(anchor.jumps().ahead, 1);
    }

    #[test]
    fn step_back_is_waited_out_without_going_back() {
        let mut anchor = anchor();
        let mut last = anchor.wall(SECOND);
        for second in 1..5 {
            anchor.correct(reading(second * SECOND, -2_000 * MS));
            for ms in 0..1_000 {
                let wall = anchor.wall(second * SECOND + ms * MS as u64);
                assert!(wall >= last);
                last = wall;
            }
        }
        assert_close(ahead(&anchor, 5 * SECOND), -2_000 * MS);
        assert_eq!(anchor.jumps().braked, 1);
        assert_eq!(anchor.jumps().back, 0);
    }

    #[test]
    fn step_back_beyond_the_limit_is_followed() {
        let mut anchor = anchor();
        let hour = -3_600_000 * MS;
        assert!(matches!(anchor.correct(reading(SECOND, hour)), Correction::JumpedBack(_)));
        assert_close(ahead(&anchor, 2 * SECOND), hour);
        assert_eq!(anchor.jumps().back, 1);
    }

    #[test]
    fn drifting_counter_stays_within_a_tenth_of_a_millisecond() {
        let mut anchor = anchor();
        for second in 1..600 {
            // The counter runs 83 ppm slow: as much as was ever reported of quanta's calibration.
            anchor.correct(reading(second * SECOND, second as i64 * 83_000));
            if second > 1 {
                assert!(anchor.offset().magnitude() < Duration::from_micros(100));
            }
        }
        assert_eq!(anchor.jumps(), super::Jumps::default());
    }

    #[test]
    fn error_within_the_width_of_the_reading_is_left_alone() {
        let mut anchor = anchor();
        anchor.correct(Reading { width: Duration::from_micros(100), ..reading(SECOND, 40_000) });
        assert_close(ahead(&anchor, 3 * SECOND), 0);
    }

    #[test]
    fn reading_before_the_last_correction_holds_is_not_used() {
        let mut anchor = anchor();
        anchor.correct(reading(SECOND, 100_000));
        let lines = anchor.lines();
        assert_eq!(anchor.correct(reading(SECOND + 1, -500_000)), Correction::TooSoon);
        assert_eq!(anchor.lines(), lines);
    }

    proptest! {
        #[test]
        fn time_goes_back_only_where_it_says_so(
            offs in proptest::collection::vec(-20_000 * MS..20_000 * MS, 1..20),
            gaps in proptest::collection::vec(0..3 * SECOND, 20),
        ) {
            let (mut anchor, mut counter, mut last) = (anchor(), 0, NOON);
            for (off, gap) in offs.into_iter().zip(gaps) {
                counter += gap;
                let outcome = anchor.correct(reading(counter, off));
                if matches!(outcome, Correction::JumpedBack(_)) {
                    last = anchor.wall(counter + SWITCH_AHEAD.as_nanos() as u64).min(last);
                    counter += SWITCH_AHEAD.as_nanos() as u64;
                }
                for part in 0..=20 {
                    let wall = anchor.wall(counter + gap / 20 * part);
                    prop_assert!(wall >= last);
                    last = wall;
                }
                counter += gap;
            }
        }

        #[test]
        fn steady_system_clock_is_reached_from_any_error(off in -30_000 * MS..30_000 * MS) {
            let mut anchor = anchor();
            let braking = BRAKE_MAX.as_secs() * 8 / 7;
            let slewing = SLEW_MAX.as_nanos() as u64 / 500_000;
            for second in 1..=braking + slewing + 3 {
                anchor.correct(reading(second * SECOND, off));
            }
            prop_assert!(anchor.offset().nanos().abs() < 100);
        }

        #[test]
        fn no_reading_panics(readings in proptest::collection::vec((0u64.., 0u64.., 0u64..), 1..20)) {
            let mut anchor = anchor();
            for (counter, system, width) in readings {
                let (system, width) = (Time::from_ntp64(system), Duration::from_nanos(width));
                anchor.correct(Reading { counter, system, width });
                anchor.wall(counter);
                anchor.wall(u64::MAX);
            }
        }
    }
}
