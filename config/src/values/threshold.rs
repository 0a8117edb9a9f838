//! A duration above which something is worth noting, or never.
//!
//! Redis says "never" as `-1` for its slow log and as `0` for its latency monitor, where `0` of the slow log means
//! "always". Here both say `"off"`, and `"0s"` is always what it says.

use std::{fmt, str::FromStr, time::Duration};

use super::{InvalidDuration, Text, duration, serde_as_text};

/// A duration from which on something is recorded; `"off"` records nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Threshold(Option<Duration>);

impl Threshold {
    /// Records nothing.
    pub const OFF: Self = Self(None);

    /// Records what takes at least `duration`.
    pub const fn from(duration: Duration) -> Self {
        Self(Some(duration))
    }

    /// The duration from which on to record; `None` to record nothing.
    pub const fn duration(self) -> Option<Duration> {
        self.0
    }
}

impl FromStr for Threshold {
    type Err = InvalidThreshold;

    fn from_str(text: &str) -> Result<Self, InvalidThreshold> {
        match text.trim() {
            "off" => Ok(Self::OFF),
            text => duration::parse(text).map(Self::from).map_err(InvalidThreshold),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(duration) => duration::display(duration).fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl Text for Threshold {
    const EXPECTED: &'static str = "a duration or \"off\", such as \"10ms\"";
}

serde_as_text!(Threshold);

/// A text that is neither a duration nor `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; or \"off\"")]
pub struct InvalidThreshold(InvalidDuration);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Threshold;

    #[test]
    fn off_is_not_zero() {
        assert_eq!("off".parse(), Ok(Threshold::OFF));
        assert_eq!("0s".parse(), Ok(Threshold::from(Duration::ZERO)));
        assert!("-1".parse::<Threshold>().is_err());
        assert_eq!(Threshold::OFF.to_string(), "off");
    }
}
