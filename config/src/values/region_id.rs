//! The spelling of a region id: a whole number, for `#[serde(with = "region_id")]` and for flags.

use std::fmt;

use clock::RegionId;
use serde::{Deserializer, Serializer, de};

/// Reads a region id.
///
/// # Errors
/// [`InvalidRegion`] unless `text` is a number in `1..=63`.
pub fn parse(text: &str) -> Result<RegionId, InvalidRegion> {
    text.trim().parse().ok().and_then(|number| RegionId::new(number).ok()).ok_or(InvalidRegion)
}

/// Deserializes a region id.
///
/// # Errors
/// Those of the deserializer, and [`InvalidRegion`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RegionId, D::Error> {
    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = RegionId;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number from 1 to 63, such as 2")
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<RegionId, E> {
            u8::try_from(number)
                .ok()
                .and_then(|number| RegionId::new(number).ok())
                .ok_or_else(|| E::custom(InvalidRegion))
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<RegionId, E> {
            self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
        }
    }

    deserializer.deserialize_u8(Visitor)
}

/// Serializes a region id as its number.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(id: &RegionId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(id.number())
}

/// A number that is no region id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a region id: write a whole number from 1 to 63")]
pub struct InvalidRegion;
