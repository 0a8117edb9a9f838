//! Durations, written with their unit: `50ms`, `1s`, `2m 30s`.
//!
//! The type is `std::time::Duration`, which already cannot be mistaken for a bare number; this module is its spelling,
//! for `#[serde(with = "duration")]` and for flags. Bare numbers are refused: redis.conf has microseconds,
//! milliseconds, seconds and minutes side by side, and nobody remembers which is which.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserializer, Serializer};

use super::Text;

/// Reads a duration.
///
/// # Errors
/// [`InvalidDuration`] unless `text` is a number with a unit, or several of them.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    humantime::parse_duration(text.trim()).map_err(|_| InvalidDuration)
}

/// Prints a duration so that [`parse`] reads it back.
pub fn display(duration: Duration) -> impl fmt::Display {
    humantime::format_duration(duration)
}

/// Deserializes a duration from its text.
///
/// # Errors
/// Those of the deserializer, and [`InvalidDuration`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    super::deserialize_text::<Written, D>(deserializer).map(|written| written.0)
}

/// Serializes a duration as its text.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&display(*duration))
}

struct Written(Duration);

impl FromStr for Written {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        parse(text).map(Self)
    }
}

impl Text for Written {
    const EXPECTED: &'static str = "a duration, such as \"500ms\"";
}

/// A text that is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a duration: write a number with a unit, such as \"500ms\", \"10s\" or \"1m 30s\"")]
pub struct InvalidDuration;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{display, parse};

    #[test]
    fn bare_numbers_and_signs_are_refused() {
        for text in ["", "5", "-5ms", "5 parsecs", "ms"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn zero_needs_no_unit() {
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
    }

    proptest! {
        #[test]
        fn printed_duration_reads_back_as_itself(nanos in 0..u64::from(u32::MAX) * 1_000_000) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&display(duration).to_string()), Ok(duration));
        }
    }
}
