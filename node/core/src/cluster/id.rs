//! The names of things in a cluster. No two bare numbers side by side.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// 160 bits, written as 40 hexadecimal digits: the form in which Redis Cluster names nodes and shards.
///
/// Serialized as that text where people may read it (it is the key of JSON objects), as 20 bytes elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; Self::BYTES]);

impl Id {
    /// Its length, in bytes.
    pub const BYTES: usize = 20;

    /// The id of these bytes, which somebody drew at random.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As much as logs need to tell them apart.
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Text that is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 40 hexadecimal digits")]
pub struct ParseIdError;

impl FromStr for Id {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let digits = text.as_bytes();
        if digits.len() != 2 * Self::BYTES {
            return Err(ParseIdError);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(ParseIdError);
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            Deserialize::deserialize(deserializer).map(Self)
        }
    }
}

/// A node, for as long as its state directory lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub Id);

impl NodeId {
    /// The number by which Raft knows the node: the first 64 of its bits.
    pub fn raft_number(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NodeId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        text.parse().map(Self)
    }
}

/// A shard, numbered within its region and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One start of a node's process: what it holds in memory is that run's.
///
/// Each is greater than all before it of the same node (the state directory keeps the last one), so that nobody takes a
/// word of a process that is gone for one of the process that came after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Run(pub u64);

/// The term of a Raft leader: of two leaders the later has the greater, and no term has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term(pub u64);

/// How often the map has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Epoch {
    /// After one more change.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Id, NodeId};

    #[test]
    fn an_id_reads_as_it_is_written() {
        let id = Id::from_bytes(std::array::from_fn(|index| index as u8 * 13));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 40);
        for text in ["", "12", &"g".repeat(40), &"1".repeat(41), &"é".repeat(20)] {
            assert!(text.parse::<Id>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_id_is_text_to_people_and_bytes_to_machines() {
        let id = NodeId(Id::from_bytes([0xab; 20]));
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<NodeId>(&text).unwrap(), id);
        assert!(serde_json::from_str::<NodeId>("\"ab\"").is_err());
        let bytes = rmp_serde::to_vec(&id).unwrap();
        assert_eq!(rmp_serde::from_slice::<NodeId>(&bytes).unwrap(), id);
        assert!(rmp_serde::from_slice::<NodeId>(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn raft_knows_a_node_by_its_first_bits() {
        let id: NodeId = "0000000000000102ffffffffffffffffffffffff".parse().unwrap();
        assert_eq!(id.raft_number(), 0x102);
    }
}
