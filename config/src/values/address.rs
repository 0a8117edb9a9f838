//! Addresses to listen on, and addresses to dial.
//!
//! They differ: what is listened on must be an IP address of this machine (or none at all), what is dialled may be a
//! host name, which is resolved at every attempt, because the address behind a name changes when a region moves.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use super::{Text, serde_as_text};

/// Where to accept connections, or that none are accepted.
///
/// Written `"127.0.0.1:6379"`, `"[::]:6379"` or `"off"`. Port 0 lets the system choose one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Listen {
    /// Accepts nothing.
    #[default]
    Off,
    /// Accepts here.
    At(SocketAddr),
}

impl Listen {
    /// The address, unless it is off.
    pub const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }

    /// Whether connections are accepted at all.
    pub const fn is_on(self) -> bool {
        matches!(self, Self::At(_))
    }

    /// Whether the two cannot be bound by one process at the same time.
    pub fn clashes_with(self, other: Self) -> bool {
        let (Self::At(a), Self::At(b)) = (self, other) else { return false };
        let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() != 0 && a.port() == b.port() && same_ip
    }
}

impl FromStr for Listen {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        match text.trim() {
            "off" => Ok(Self::Off),
            text => text.parse().map(Self::At).map_err(|_| InvalidAddress::Listen),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl Text for Listen {
    const EXPECTED: &'static str = "an address or \"off\", such as \"127.0.0.1:6379\"";
}

serde_as_text!(Listen);

/// A host, by name or by address, and a port: what a link dials.
///
/// Written `"gateway.eu-west.example:7203"`, `"10.0.0.7:7203"` or `"[fd00::7]:7203"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    host: String,
    port: u16,
}

impl PeerAddress {
    /// The greatest length of a host name in bytes (RFC 1035).
    pub const MAX_HOST_LEN: usize = 253;

    /// The host: a name or an address, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for PeerAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let text = text.trim();
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match address.port() {
                0 => Err(InvalidAddress::Peer),
                port => Ok(Self { host: address.ip().to_string(), port }),
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidAddress::Peer)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(InvalidAddress::Peer)?;
        let host = name(host).ok_or(InvalidAddress::Peer)?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of all hosts only an IPv6 address has a colon.
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Text for PeerAddress {
    const EXPECTED: &'static str = "a host and port, such as \"gateway.eu-west.example:7203\"";
}

serde_as_text!(PeerAddress);

/// A host, by name or by address: how others are told to reach this one.
///
/// Written `"node-1.eu-west.example"`, `"10.0.0.7"` or `"fd00::7"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(String);

impl FromStr for Host {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let text = text.trim();
        match text.parse::<IpAddr>() {
            // Nobody can be reached there, though one can listen there.
            Ok(address) if address.is_unspecified() => Err(InvalidAddress::Host),
            Ok(address) => Ok(Self(address.to_string())),
            Err(_) => name(text).map(Self).ok_or(InvalidAddress::Host),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for Host {
    const EXPECTED: &'static str = "a host, such as \"node-1.eu-west.example\"";
}

serde_as_text!(Host);

/// A host name as it is kept, if `text` is one.
fn name(text: &str) -> Option<String> {
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_name = !text.is_empty() && text.len() <= PeerAddress::MAX_HOST_LEN && text.bytes().all(in_name);
    is_name.then(|| text.to_ascii_lowercase())
}

/// A text that is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Nothing can listen there.
    #[error("not an address to listen on: write an IP address and a port, such as \"127.0.0.1:6379\", or \"off\"")]
    Listen,
    /// Nothing can be dialled there.
    #[error("not an address to dial: write a host and a port, such as \"gateway.eu-west.example:7203\"")]
    Peer,
    /// Nobody can be reached there.
    #[error("not a host: write a name or an IP address without a port, such as \"node-1.eu-west.example\"")]
    Host,
}

#[cfg(test)]
mod tests {
    use super::{Host, Listen, PeerAddress};

    #[test]
    fn peer_address_takes_names_and_both_families() {
        for (text, host) in
            [("eu-west.example:7203", "eu-west.example"), ("10.0.0.7:1", "10.0.0.7"), ("[fd00::7]:7203", "fd00::7")]
        {
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!((address.host(), address.to_string().as_str()), (host, text));
        }
        for text in ["", "host", ":1", "host:0", "host:65536", "10.0.0.7:0", "a b:1", "fd00::7:1", "http://x:1"] {
            assert!(text.parse::<PeerAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn host_is_a_name_or_an_address_that_can_be_reached() {
        for text in ["node-1.eu-west.example", "10.0.0.7", "fd00::7"] {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), text);
        }
        for text in ["", "host:1", "0.0.0.0", "::", "[fd00::7]", "a b", "10.0.0.7:1"] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn listening_on_all_addresses_clashes_with_each_of_them() {
        let listen = |text: &str| text.parse::<Listen>().unwrap();
        assert!(listen("0.0.0.0:1").clashes_with(listen("127.0.0.1:1")));
        assert!(!listen("127.0.0.2:1").clashes_with(listen("127.0.0.1:1")));
        assert!(!listen("127.0.0.1:0").clashes_with(listen("127.0.0.1:0")));
        assert!(!listen("off").clashes_with(listen("off")));
        assert!("localhost:1".parse::<Listen>().is_err());
    }
}
