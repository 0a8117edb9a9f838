//! Names of regions: DNS labels, since they stand in certificates, in metric labels and in file names.

use std::{fmt, str::FromStr};

use super::{Text, serde_as_text};

/// The name of a region: a DNS label of lower-case letters, digits and inner hyphens, 1 to 63 bytes (RFC 1123).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionName(String);

impl RegionName {
    /// The greatest length of a name in bytes: that of a DNS label.
    pub const MAX_LEN: usize = 63;

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
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let hyphen_outside = text.starts_with('-') || text.ends_with('-');
        if text.is_empty() || text.len() > Self::MAX_LEN || hyphen_outside || !text.bytes().all(inner) {
            return Err(InvalidName);
        }
        Ok(Self(text.to_owned()))
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

/// A text that cannot name a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a region name: write 1 to 63 lower-case letters, digits and inner hyphens, such as \"us-east\"")]
pub struct InvalidName;

#[cfg(test)]
mod tests {
    use super::RegionName;

    #[test]
    fn only_dns_labels_name_a_region() {
        for name in ["a", "us-east", "eu-west-2", "1a", &"x".repeat(63)] {
            assert_eq!(name.parse::<RegionName>().unwrap().as_str(), name);
        }
        for name in ["", "-a", "a-", "US", "us east", "us_east", "a.b", "é", &"x".repeat(64)] {
            assert!(name.parse::<RegionName>().is_err(), "{name}");
        }
    }
}
