//! A signed distance between two clocks, for tests that need a region with a wrong one.

use std::{fmt, str::FromStr, time::Duration};

use super::{InvalidDuration, Text, duration, serde_as_text};

/// How far a clock is set ahead (or, negative, behind) on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset {
    nanos: i64,
}

impl Offset {
    /// The clock as it is.
    pub const ZERO: Self = Self { nanos: 0 };

    /// This many nanoseconds ahead.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { nanos }
    }

    /// The distance in nanoseconds, positive if the clock is ahead.
    pub const fn as_nanos(self) -> i64 {
        self.nanos
    }

    /// The distance without its direction.
    pub const fn abs(self) -> Duration {
        Duration::from_nanos(self.nanos.unsigned_abs())
    }
}

impl FromStr for Offset {
    type Err = InvalidDuration;

    /// Reads a duration with an optional sign.
    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let text = text.trim();
        let (sign, magnitude) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let nanos = i64::try_from(duration::parse(magnitude)?.as_nanos()).map_err(|_| InvalidDuration)?;
        Ok(Self { nanos: sign * nanos })
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanos < 0 { "-" } else { "" };
        write!(f, "{sign}{}", duration::display(self.abs()))
    }
}

impl Text for Offset {
    const EXPECTED: &'static str = "a duration with an optional sign, such as \"-250ms\"";
}

serde_as_text!(Offset);

#[cfg(test)]
mod tests {
    use super::Offset;

    #[test]
    fn sign_and_distance_survive_the_round_trip() {
        for (text, nanos) in [("250ms", 250_000_000), ("-2s", -2_000_000_000), ("+1us", 1_000), ("0s", 0)] {
            let offset: Offset = text.parse().unwrap();
            assert_eq!(offset.as_nanos(), nanos);
            assert_eq!(offset.to_string().parse(), Ok(offset));
        }
        assert!("--1s".parse::<Offset>().is_err());
        assert!("400years".parse::<Offset>().is_err());
    }
}
