//! The words that configuration is made of: sizes, durations, addresses, names, secrets.
//!
//! Each is a type of its own, so that a number of bytes is never handed over where a number of records is meant, and
//! each has one spelling that the file, the environment and the flags share: all three go through the same `FromStr`.
//! What a type refuses it refuses in words that say what would be right, with an example, and without repeating
//! what was written; the report shows the line itself, with secrets masked.

mod address;
mod addresses;
pub mod duration;
mod name;
mod offset;
pub mod region_id;
mod secret;
mod size;
mod threshold;

use std::{fmt, marker::PhantomData, str::FromStr};

pub use address::{Host, InvalidAddress, Listen, PeerAddress};
pub use addresses::{InvalidAddresses, PeerAddresses};
pub use duration::InvalidDuration;
pub use name::{GatewayName, InvalidName, RegionName};
pub use offset::Offset;
pub use secret::Secret;
use serde::{Deserializer, de};
pub use size::{InvalidSize, Size};
pub use threshold::Threshold;

/// A value that is written as text.
trait Text: FromStr<Err: fmt::Display> {
    /// What is expected, with an example: `a size, such as "512MiB"`.
    const EXPECTED: &'static str;

    /// What a bare whole number means, if it means anything.
    fn from_number(_number: u64) -> Option<Self> {
        None
    }
}

/// Deserializes a value by its text form.
fn deserialize_text<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Visitor<T>(PhantomData<T>);

    impl<T: Text> de::Visitor<'_> for Visitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
            T::from_number(number).ok_or_else(|| E::invalid_type(de::Unexpected::Unsigned(number), &self))
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
            let unexpected = de::Unexpected::Signed(number);
            u64::try_from(number).ok().and_then(T::from_number).ok_or_else(|| E::invalid_type(unexpected, &self))
        }
    }

    deserializer.deserialize_str(Visitor(PhantomData))
}

/// Implements `Serialize` and `Deserialize` by `Display` and [`Text`].
macro_rules! serde_as_text {
    ($type:ty) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::values::deserialize_text(deserializer)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
use serde_as_text;
