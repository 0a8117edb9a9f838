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
}

impl Hlc {
    /// A clock for `origin` that never issues a time at or below `start`.
    ///
    /// `start` is the persisted high-water mark after a restart, and what the former primary could have issued after
    /// a promotion.
    pub fn new(origin: Origin, start: Time) -> Self {
        let mut hlc = Self { inner: build(origin), origin, last: Time::ZERO };
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
