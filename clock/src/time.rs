//! Points in time, as numbers that cannot be mixed up with others.
//!
//! [`Time`] is NTP64 as uhlc uses it: seconds since the Unix epoch in the high 32 bits, a binary fraction in the
//! low 32, of which the last four bits are the logical counter. The same type carries physical and hybrid logical
//! time, since the second is only the first with a counter in its last bits. [`Offset`] is how far two clocks are
//! apart, which has a sign where a `Duration` has none. [`Now`] is one reading of the clocks, taken once per turn of a loop and handed down as an argument: no core ever asks what time it is.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A point in time: NTP64, 2^-32 s per unit, since the Unix epoch.
///
/// Good until the year 2106. Arithmetic saturates.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(u64);

impl Time {
    /// The Unix epoch, and below every stamp.
    pub const ZERO: Self = Self(0);
    /// The end of time.
    pub const MAX: Self = Self(u64::MAX);

    /// Takes the raw NTP64 number.
    pub const fn from_ntp64(ntp64: u64) -> Self {
        Self(ntp64)
    }

    /// The raw NTP64 number.
    pub const fn ntp64(self) -> u64 {
        self.0
    }

    /// The start of a millisecond since the Unix epoch; the end of time if that is past 2106.
    pub const fn from_unix_ms(ms: u64) -> Self {
        let seconds = ms / 1_000;
        if seconds > u32::MAX as u64 {
            return Self::MAX;
        }
        // Rounded up, so that `unix_ms` gives back the same millisecond.
        Self((seconds << 32) + ((ms % 1_000) << 32).div_ceil(1_000))
    }

    /// Whole milliseconds since the Unix epoch, rounded down.
    pub const fn unix_ms(self) -> u64 {
        (self.0 >> 32) * 1_000 + (((self.0 & 0xffff_ffff) * 1_000) >> 32)
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn unix_seconds(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The point that lies `duration` after the Unix epoch, rounded down.
    pub const fn from_unix(duration: Duration) -> Self {
        if duration.as_secs() > u32::MAX as u64 {
            return Self::MAX;
        }
        Self((duration.as_secs() << 32) | (((duration.subsec_nanos() as u64) << 32) / 1_000_000_000))
    }

    /// How long after the Unix epoch this is, rounded down to a nanosecond.
    pub const fn unix(self) -> Duration {
        Duration::new(self.0 >> 32, (((self.0 & 0xffff_ffff) * 1_000_000_000) >> 32) as u32)
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Self(self.0.saturating_sub(earlier.0)).unix()
    }

    /// This point, moved later.
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(Self::from_unix(duration).0))
    }

    /// This point, moved earlier.
    #[must_use]
    pub const fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(Self::from_unix(duration).0))
    }

    /// How far this is ahead of `other`; negative if it is behind.
    pub const fn offset_from(self, other: Self) -> Offset {
        // 136 years are 4.3e18 ns, so neither cast can wrap.
        if self.0 >= other.0 {
            Offset(self.since(other).as_nanos() as i64)
        } else {
            Offset(-(other.since(self).as_nanos() as i64))
        }
    }

    /// This point on a clock that is ahead by `offset`.
    #[must_use]
    pub const fn shifted(self, offset: Offset) -> Self {
        if offset.0 >= 0 { self.after(offset.magnitude()) } else { self.before(offset.magnitude()) }
    }

    /// The next representable point: one unit later.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:08x}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// How far one clock is ahead of another, in nanoseconds; negative if it is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(i64);

impl Offset {
    /// Two clocks that agree.
    pub const ZERO: Self = Self(0);

    /// Takes nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The clock is ahead by `duration`, or by 292 years if that is less.
    pub fn ahead(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }

    /// The clock is behind by `duration`, or by 292 years if that is less.
    pub fn behind(duration: Duration) -> Self {
        Self(-Self::ahead(duration).0)
    }

    /// The number of nanoseconds.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Seconds, as metrics want them.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// How far the clocks are apart, whichever is ahead.
    pub const fn magnitude(self) -> Duration {
        Duration::from_nanos(self.0.unsigned_abs())
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "{sign}{:?}", self.magnitude())
    }
}

/// One reading of the clocks, for one turn of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall time: what stamps and expiries are made of. Close to the system's clock, but slewed: it may be set
    /// forward by a jump, never silently back by a small one.
    pub wall: Time,
    /// Time since an arbitrary start in this process: what timeouts and intervals are made of. Never goes back.
    pub monotonic: Duration,
}

impl Now {
    /// The wall time in milliseconds since the Unix epoch, the unit of Redis expiries.
    pub const fn unix_ms(self) -> u64 {
        self.wall.unix_ms()
    }

    /// This reading, both clocks moved on by `duration`; how simulations let time pass.
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        Self { wall: self.wall.after(duration), monotonic: self.monotonic.saturating_add(duration) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Offset, Time};

    #[test]
    fn milliseconds_survive_the_round_trip() {
        for ms in (0..5_000).chain(1_700_000_000_000..1_700_000_002_000) {
            assert_eq!(Time::from_unix_ms(ms).unix_ms(), ms);
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time::from_unix_ms(u64::MAX), Time::MAX);
        assert_eq!(Time::MAX.after(Duration::from_secs(1)), Time::MAX);
        assert_eq!(Time::ZERO.before(Duration::from_secs(1)), Time::ZERO);
        assert_eq!(Time::ZERO.since(Time::MAX), Duration::ZERO);
    }

    #[test]
    fn distance_is_what_was_added() {
        let start = Time::from_unix_ms(1_700_000_000_123);
        let later = start.after(Duration::from_millis(250));
        assert!(later.since(start).abs_diff(Duration::from_millis(250)) < Duration::from_nanos(2));
    }

    #[test]
    fn offsets_keep_their_sign() {
        let here = Time::from_unix_ms(1_700_000_000_000);
        let there = here.shifted(Offset::behind(Duration::from_secs(3)));
        assert_eq!(there.offset_from(here).nanos(), -3_000_000_000);
        assert_eq!(here.offset_from(there), Offset::ahead(Duration::from_secs(3)));
        assert_eq!(there.offset_from(here).to_string(), "-3s");
        assert_eq!(Time::ZERO.offset_from(Time::MAX).magnitude(), Time::MAX.unix());
    }
}
