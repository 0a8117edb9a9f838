//! Names of regions and of their gateways: DNS labels, since they stand in certificates, in metric labels and in file
//! names.

use std::{fmt, str::FromStr};

use super::{Text, serde_as_text};

/// The greatest length of a name in bytes: that of a DNS label.
const LEN_MAX: usize = 63;

/// The name of a region: a DNS label of lower-case letters, digits and inner hyphens, 1 to 63 bytes (RFC 1123).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionName(String);

impl RegionName {
    /// The name of a region that nobody named.
    pub fn local() -> Self {
        Self("local".to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RegionName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_label(text) { Ok(Self(text.to_owned())) } else { Err(InvalidName::Region) }
    }
}

impl fmt::Display for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for RegionName {
    const EXPECTED: &'static str = "the name of a region, such as \"us-east\"";
}

serde_as_text!(RegionName);

/// The name of a gateway, by which it is told from the others of its region: a DNS label as [`RegionName`] is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayName(String);

impl GatewayName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GatewayName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_label(text) { Ok(Self(text.to_owned())) } else { Err(InvalidName::Gateway) }
    }
}

impl fmt::Display for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for GatewayName {
    const EXPECTED: &'static str = "the name of a gateway, such as \"gateway-1\"";
}

serde_as_text!(GatewayName);

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let hyphen_outside = text.starts_with('-') || text.ends_with('-');
    !text.is_empty() && text.len() <= LEN_MAX && !hyphen_outside && text.bytes().all(inner)
}

/// A text that is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// It cannot name a region.
    #[error("not a region name: write 1 to 63 lower-case letters, digits and inner hyphens, such as \"us-east\"")]
    Region,
    /// It cannot name a gateway.
    #[error("not a gateway's name: write 1 to 63 lower-case letters, digits and inner hyphens, such as \"gateway-1\"")]
    Gateway,
}

#[cfg(test)]
mod tests {
    use super::{GatewayName, InvalidName, RegionName};

    #[test]
    fn only_dns_labels_name_a_region_or_a_gateway() {
        for name in ["a", "us-east", "eu-west-2", "1a", &"x".repeat(63)] {
            assert_eq!(name.parse::<RegionName>().unwrap().as_str(), name);
            assert_eq!(name.parse::<GatewayName>().unwrap().as_str(), name);
        }
        for name in ["", "-a", "a-", "US", "us east", "us_east", "a.b", "é", &"x".repeat(64)] {
            assert_eq!(name.parse::<RegionName>(), Err(InvalidName::Region), "{name}");
            assert_eq!(name.parse::<GatewayName>(), Err(InvalidName::Gateway), "{name}");
        }
    }
}
