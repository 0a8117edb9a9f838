//! The version of a write: when it was made and who made it.
//!
//! A [`Stamp`] is ten bytes: eight of hybrid logical time and two of origin. Stamps are totally ordered, by time
//! first and by origin where two regions hit the same tick, and that order alone decides every conflict in
//! Meridian. Nothing else about a write is ever consulted, so every region comes to the same verdict.
//!
//! An [`Origin`] is not a region but one *life* of a region: six bits of region, ten of incarnation. Whoever goes on
//! with less than it had (an empty restart, a failover to a lagging replica) must be a new incarnation; otherwise it
//! would claim, under its old name, to have seen what it lost, and nobody would send it back.
//!
//! uhlc's own 24-byte `Timestamp` is never stored or sent: its `ID` also orders byte-wise over little-endian bytes,
//! so that `0x0100 < 0x01`. Here the origin compares as the number that it is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Time;

/// The number of a region, 1 to 63. Zero is no region, so that a zeroed origin is never a valid one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct RegionId(u8);

impl RegionId {
    /// The smallest region id.
    pub const MIN: Self = Self(1);
    /// The greatest region id: six bits.
    pub const MAX: Self = Self(63);

    /// Takes a number from outside.
    ///
    /// # Errors
    /// [`InvalidRegionId`] unless `id` lies in `1..=63`.
    pub const fn new(id: u8) -> Result<Self, InvalidRegionId> {
        if id >= Self::MIN.0 && id <= Self::MAX.0 { Ok(Self(id)) } else { Err(InvalidRegionId(id)) }
    }

    /// The number, 1 to 63.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u8> for RegionId {
    type Error = InvalidRegionId;

    fn try_from(id: u8) -> Result<Self, InvalidRegionId> {
        Self::new(id)
    }
}

impl From<RegionId> for u8 {
    fn from(region: RegionId) -> Self {
        region.0
    }
}

/// A number that is no region id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("region id {0} is outside 1..=63")]
pub struct InvalidRegionId(pub u8);

/// One life of a region: 10 bits, counted up each time the region goes on with less than it had.
///
/// The count wraps after 1,023 lives, so which of two incarnations is younger is decided by serial-number arithmetic
/// (RFC 1982): correct as long as no two lives more than 511 apart are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u16", into = "u16")]
pub struct Incarnation(u16);

impl Incarnation {
    /// The life a region begins with when it has no memory of an earlier one.
    pub const FIRST: Self = Self(0);
    /// The life of who issues no stamps: a replica, before it is given one of its own. No stamp ever bears it.
    pub const UNBORN: Self = Self(Self::MASK);
    /// How many can be told from one another.
    pub const COUNT: u16 = 1 << Self::BITS;
    const BITS: u32 = 10;
    const MASK: u16 = Self::COUNT - 1;

    /// The incarnation with this number, taken modulo 1,024.
    pub const fn new(number: u16) -> Self {
        Self(number & Self::MASK)
    }

    /// The number, 0 to 1,023.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The next life; never [`UNBORN`](Self::UNBORN).
    #[must_use]
    pub const fn next(self) -> Self {
        let next = Self::new(self.0.wrapping_add(1));
        if next.0 == Self::UNBORN.0 { Self::FIRST } else { next }
    }

    /// Whether this life came after `other`.
    pub const fn is_after(self, other: Self) -> bool {
        let ahead = self.0.wrapping_sub(other.0) & Self::MASK;
        ahead != 0 && ahead < (1 << (Self::BITS - 1))
    }
}

impl From<u16> for Incarnation {
    fn from(number: u16) -> Self {
        Self::new(number)
    }
}

impl From<Incarnation> for u16 {
    fn from(incarnation: Incarnation) -> Self {
        incarnation.0
    }
}

/// Who issues stamps: a region in one of its lives. Two bytes, region in the high six bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(u16);

impl Origin {
    /// The origin of `region` in the life `incarnation`.
    pub const fn new(region: RegionId, incarnation: Incarnation) -> Self {
        Self((region.number() as u16) << Incarnation::BITS | incarnation.number())
    }

    /// Reads the two-byte form.
    ///
    /// # Errors
    /// [`InvalidRegionId`] if the region bits are zero.
    pub const fn from_bits(bits: u16) -> Result<Self, InvalidRegionId> {
        match RegionId::new((bits >> Incarnation::BITS) as u8) {
            Ok(_) => Ok(Self(bits)),
            Err(error) => Err(error),
        }
    }

    /// The two-byte form.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The region.
    pub const fn region(self) -> RegionId {
        RegionId((self.0 >> Incarnation::BITS) as u8)
    }

    /// Which life of the region.
    pub const fn incarnation(self) -> Incarnation {
        Incarnation::new(self.0)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.region(), self.incarnation().number())
    }
}

impl FromStr for Origin {
    type Err = ParseStampError;

    /// Reads what is displayed: `3.7`.
    fn from_str(text: &str) -> Result<Self, ParseStampError> {
        let (region, incarnation) = text.split_once('.').ok_or(ParseStampError)?;
        let region = region.parse().ok().and_then(|region| RegionId::new(region).ok()).ok_or(ParseStampError)?;
        let incarnation: u16 = incarnation.parse().map_err(|_| ParseStampError)?;
        if incarnation < Incarnation::COUNT {
            Ok(Self::new(region, Incarnation::new(incarnation)))
        } else {
            Err(ParseStampError)
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The version of a write. Greater wins, always and everywhere.
///
/// The derived order compares the fields as they stand: time, then origin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// When, in hybrid logical time.
    pub time: Time,
    /// By whom.
    pub origin: Origin,
}

impl Stamp {
    /// The size of a stored or sent stamp, in bytes.
    pub const SIZE: usize = 10;
    /// Below every stamp that is ever issued: the floor of a slot that never forgot anything.
    pub const ZERO: Self = Self { time: Time::ZERO, origin: Origin(1 << Incarnation::BITS) };

    /// The ten bytes, big-endian, so that they sort as the stamps do.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&self.time.ntp64().to_be_bytes());
        bytes[8..].copy_from_slice(&self.origin.0.to_be_bytes());
        bytes
    }

    /// Reads the ten bytes of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// [`InvalidRegionId`] if the origin names no region.
    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Result<Self, InvalidRegionId> {
        let [time @ .., high, low] = bytes;
        Ok(Self {
            time: Time::from_ntp64(u64::from_be_bytes(time)),
            origin: Origin::from_bits(u16::from_be_bytes([high, low]))?,
        })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}@{}", self.time.ntp64(), self.origin)
    }
}

impl FromStr for Stamp {
    type Err = ParseStampError;

    /// Reads what is displayed: `0123456789abcdef@3.7`.
    fn from_str(text: &str) -> Result<Self, ParseStampError> {
        let (time, origin) = text.split_once('@').ok_or(ParseStampError)?;
        let time = u64::from_str_radix(time, 16).map_err(|_| ParseStampError)?;
        Ok(Self { time: Time::from_ntp64(time), origin: origin.parse()? })
    }
}

/// Text that is no stamp, or no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no stamp, which is written 0123456789abcdef@3.7: time in hexadecimal digits, region and incarnation")]
pub struct ParseStampError;

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{Incarnation, Origin, RegionId, Stamp};
    use crate::Time;

    fn origin(region: u8, incarnation: u16) -> Origin {
        Origin::new(RegionId::new(region).unwrap(), Incarnation::new(incarnation))
    }

    #[test]
    fn region_ids_outside_one_to_sixty_three_are_refused() {
        assert!(RegionId::new(0).is_err());
        assert!(RegionId::new(64).is_err());
        assert_eq!(RegionId::new(63).unwrap(), RegionId::MAX);
        assert!(Origin::from_bits(0x03ff).is_err());
    }

    #[test]
    fn origin_keeps_region_and_incarnation() {
        let origin = origin(63, 1023);
        assert_eq!(origin.region(), RegionId::MAX);
        assert_eq!(origin.incarnation(), Incarnation::new(1023));
        assert_eq!(Origin::from_bits(origin.bits()), Ok(origin));
        assert_eq!(origin.to_string(), "63.1023");
    }

    #[test]
    fn time_decides_before_origin() {
        let early = Stamp { time: Time::from_ntp64(1), origin: origin(9, 0) };
        let late = Stamp { time: Time::from_ntp64(2), origin: origin(1, 0) };
        assert!(early < late);
        assert!(Stamp { origin: origin(1, 0x100), ..early } > Stamp { origin: origin(1, 1), ..early });
    }

    #[test]
    fn bytes_sort_as_stamps_do() {
        let stamps = [(1, 1, 0), (1, 1, 256), (1, 2, 0), (2, 1, 0), (1 << 40, 1, 0)]
            .map(|(time, region, life)| Stamp { time: Time::from_ntp64(time), origin: origin(region, life) });
        for pair in stamps.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].to_bytes() < pair[1].to_bytes());
            assert_eq!(Stamp::from_bytes(pair[0].to_bytes()), Ok(pair[0]));
        }
        assert!(Stamp::from_bytes([0; 10]).is_err());
    }

    proptest! {
        #[test]
        fn a_stamp_reads_as_it_is_written(time: u64, region in 1..64_u8, life in 0..1_024_u16) {
            let stamp = Stamp { time: Time::from_ntp64(time), origin: origin(region, life) };
            prop_assert_eq!(stamp.to_string().parse(), Ok(stamp));
        }
    }

    #[test]
    fn what_is_no_stamp_is_not_read_as_one() {
        for text in ["", "5", "5@", "@1.0", "5@1", "5@0.1", "5@64.1", "5@1.1024", "x@1.0", "11112222333344445@1.0"] {
            assert!(text.parse::<Stamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn youngest_incarnation_is_found_across_the_wrap() {
        let last = Incarnation::new(1023);
        assert!(last.next().is_after(last));
        assert!(!last.is_after(last.next()));
        assert!(!last.is_after(last));
    }
}
