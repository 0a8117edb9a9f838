//! Numbers of bytes, in the spelling that users of Redis and everyone else expect.
//!
//! redis.conf reads `1gb` as 2^30 and `1g` as 10^9, the world reads `1GiB` as 2^30. The three agree, so all three are
//! taken, by handing `gb` to bytesize as `gib`. A decimal gigabyte is written `1g`, as in Redis.

use std::{fmt, str::FromStr};

use bytesize::ByteSize;

use super::{Text, serde_as_text};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// No bytes; what it means to have a limit of none is said where the limit stands.
    pub const ZERO: Self = Self(0);

    /// This many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// This many times 2^10 bytes; saturates.
    pub const fn kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1 << 10))
    }

    /// This many times 2^20 bytes; saturates.
    pub const fn mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// This many times 2^30 bytes; saturates.
    pub const fn gib(gib: u64) -> Self {
        Self(gib.saturating_mul(1 << 30))
    }

    /// The number of bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The number of bytes, for allocations and lengths; saturates where `usize` is smaller.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = InvalidSize;

    /// Reads `1048576`, `1MiB`, `1mb` (2^20) or `1m` (10^6); case does not matter.
    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let text = text.trim().to_ascii_lowercase();
        let text = match text.strip_suffix('b') {
            Some(rest) if rest.ends_with(['k', 'm', 'g', 't', 'p', 'e']) => format!("{rest}ib"),
            _ => text,
        };
        text.parse::<ByteSize>().map(|size| Self(size.0)).map_err(|_| InvalidSize)
    }
}

impl fmt::Display for Size {
    /// The greatest binary unit that leaves a whole number, so that what is printed reads back as the same size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let steps = if self.0 == 0 { 0 } else { self.0.trailing_zeros() / 10 };
        write!(f, "{}{}", self.0 >> (10 * steps), UNITS[steps as usize])
    }
}

impl Text for Size {
    const EXPECTED: &'static str = "a size, such as \"512MiB\"";

    fn from_number(number: u64) -> Option<Self> {
        Some(Self(number))
    }
}

serde_as_text!(Size);

/// A text that is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a size: write a number of bytes, or a number with a unit, such as \"64KiB\", \"512mb\" or \"2GiB\"")]
pub struct InvalidSize;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Size;

    #[test]
    fn units_mean_what_they_mean_in_redis_conf() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1_000),
            ("1k", 1_000),
            ("1kb", 1_024),
            ("1KiB", 1_024),
            ("100mb", 100 << 20),
            ("1g", 1_000_000_000),
            ("1GB", 1 << 30),
            ("1.5 GiB", 3 << 29),
            ("12b", 12),
        ] {
            assert_eq!(text.parse(), Ok(Size::bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "b", "kb", "1 lot", "-1", "1kbb", "0x10"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printed_size_reads_back_as_itself(bytes: u64, shift in 0_u32..64) {
            let size = Size::bytes(bytes << shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
