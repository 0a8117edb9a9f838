//! The addresses of something that is reached by any of several: the gateways of a region.

use std::{fmt, slice};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};

use super::{PeerAddress, Text};
use crate::limits::PEER_ADDRESSES;

/// One address to dial, or several of which any will do, and never one of them twice. None at all is what is not written.
///
/// Written `"gateway.eu-west.example:7203"` or `["a.eu-west.example:7203", "b.eu-west.example:7203"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PeerAddresses(Vec<PeerAddress>);

impl PeerAddresses {
    /// These addresses.
    ///
    /// # Errors
    /// [`InvalidAddresses`]: there are none, too many, or one is named twice.
    pub fn new(addresses: Vec<PeerAddress>) -> Result<Self, InvalidAddresses> {
        if addresses.is_empty() {
            return Err(InvalidAddresses::Empty);
        }
        if addresses.len() > PEER_ADDRESSES {
            return Err(InvalidAddresses::TooMany);
        }
        if (1..addresses.len()).any(|index| addresses[..index].contains(&addresses[index])) {
            return Err(InvalidAddresses::Repeated);
        }
        Ok(Self(addresses))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them, in the order in which they are written.
    pub fn iter(&self) -> slice::Iter<'_, PeerAddress> {
        self.0.iter()
    }

    /// The address, if there is but one.
    pub fn single(&self) -> Option<&PeerAddress> {
        match self.0.as_slice() {
            [address] => Some(address),
            _ => None,
        }
    }
}

impl<'a> IntoIterator for &'a PeerAddresses {
    type Item = &'a PeerAddress;
    type IntoIter = slice::Iter<'a, PeerAddress>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<PeerAddress> for PeerAddresses {
    fn from(address: PeerAddress) -> Self {
        Self(vec![address])
    }
}

impl Serialize for PeerAddresses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.single() {
            Some(address) => address.serialize(serializer),
            None => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for PeerAddresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Addresses;

        impl<'de> Visitor<'de> for Addresses {
            type Value = PeerAddresses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or a list of such", PeerAddress::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PeerAddresses, E> {
                text.parse::<PeerAddress>().map(PeerAddresses::from).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PeerAddresses, A::Error> {
                let mut addresses = Vec::new();
                while let Some(address) = list.next_element()? {
                    addresses.push(address);
                }
                PeerAddresses::new(addresses).map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_any(Addresses)
    }
}

/// A list that is no list of addresses to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddresses {
    /// It is empty.
    #[error("no address: write at least one host and port, such as \"gateway.eu-west.example:7203\"")]
    Empty,
    /// It is too long.
    #[error("too many addresses: {PEER_ADDRESSES} are enough")]
    TooMany,
    /// It names an address twice.
    #[error("the same address twice: name each once")]
    Repeated,
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::{InvalidAddresses, PEER_ADDRESSES, PeerAddresses};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct File {
        addr: PeerAddresses,
    }

    fn read(value: &str) -> Result<File, String> {
        crate::parse("x.toml", &format!("addr = {value}\n")).map_err(|report| report.to_string())
    }

    #[test]
    fn one_address_or_a_list_of_them() {
        let one = read("\"b:1\"").unwrap();
        assert_eq!(one.addr.single().unwrap().to_string(), "b:1");
        assert_eq!(read("[\"b:1\"]").unwrap(), one);
        let two = read("[\"b:1\", \"[fd00::1]:2\"]").unwrap();
        assert!(two.addr.single().is_none());
        assert_eq!(two.addr.iter().map(ToString::to_string).collect::<Vec<_>>(), ["b:1", "[fd00::1]:2"]);
        for file in [one, two] {
            assert_eq!(toml::from_str::<File>(&toml::to_string(&file).unwrap()).unwrap(), file);
        }
    }

    #[test]
    fn what_is_no_list_of_addresses_is_refused() {
        let many = (0..=PEER_ADDRESSES).map(|host| format!("\"h{host}:1\"")).collect::<Vec<_>>().join(", ");
        for (value, why) in [
            ("[]", InvalidAddresses::Empty.to_string()),
            ("[\"b:1\", \"b:2\", \"B:1\"]", InvalidAddresses::Repeated.to_string()),
            (&format!("[{many}]"), InvalidAddresses::TooMany.to_string()),
            ("7", "expected a host and port".to_owned()),
            ("[7]", "expected a host and port".to_owned()),
            ("[\"b\"]", "not an address to dial".to_owned()),
        ] {
            let report = read(value).unwrap_err();
            assert!(report.contains(&why), "{value}: {report}");
        }
    }
}
