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
    /// Readings that found the clock ahead and made it brake.
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
        let rate = if whole <= SLEW_MAX.as_nanos() as u64 { SLEW_PPM } else { BRAKE_PPM };
        // Saturates after hours, far beyond any correction.
        let part = whole.min(elapsed.saturating_mul(rate) / 1_000_000);
        let nanos = if correction < 0 { elapsed - part } else { elapsed.saturating_add(part) };
        self.wall.after(Duration::from_nanos(nanos))
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
            Correction::Braked(_) => self.jumps.braked += 1,
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
