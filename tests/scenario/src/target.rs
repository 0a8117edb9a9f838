//! What a deed is done to: processes by their parts, and links.
//!
//! `us-east` is a whole region; `us-east/primary/1`, `us-east/replica/1` and `us-east/gateway/1` are processes by what they are
//! at the moment of the deed, counted from 1 in the order of their shards; `us-east/node/3` is a node whatever it is at the
//! moment. Who was killed or stopped under a name keeps that name until it is started or continued under the same name: so
//! `restart us-east/primary/1` brings back the primary that died, and not the one that took its place.
//!
//! `us-east -> eu-west` is a link, `us-east <-> eu-west` is both ways.

use std::{fmt, num::NonZeroU16, str::FromStr};

use config::RegionName;
use serde::Serialize;

/// What of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// All of its processes.
    All,
    /// A node by its number, whatever its role.
    Node(NonZeroU16),
    /// The primary of a shard.
    Primary(NonZeroU16),
    /// A replica.
    Replica(NonZeroU16),
    /// A gateway that is a process.
    Gateway(NonZeroU16),
}

/// Processes of a region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Target {
    /// The region.
    pub region: RegionName,
    /// What of it.
    pub part: Part,
}

/// A link, or the two between a pair of regions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkPath {
    /// Where it begins.
    pub from: RegionName,
    /// Where it leads.
    pub to: RegionName,
    /// Whether the way back is meant as well.
    pub both_ways: bool,
}

/// A text that names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// No processes.
    #[error(
        "not a target: write a region such as us-east, or REGION/primary/1, REGION/replica/1, REGION/gateway/1 or REGION/node/1"
    )]
    Processes,
    /// No link.
    #[error("not a link: write REGION -> REGION, or REGION <-> REGION for both ways")]
    Link,
}

impl LinkPath {
    /// The two regions.
    pub fn ends(&self) -> Vec<&RegionName> {
        vec![&self.from, &self.to]
    }

    /// The ordered pairs of regions that it stands for.
    pub fn pairs(&self) -> Vec<(&RegionName, &RegionName)> {
        let there = (&self.from, &self.to);
        if self.both_ways { vec![there, (&self.to, &self.from)] } else { vec![there] }
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let mut words = text.split('/');
        let region = words.next().unwrap_or_default().parse().map_err(|_| InvalidTarget::Processes)?;
        let Some(part) = words.next() else { return Ok(Self { region, part: Part::All }) };
        let number = words.next().and_then(|number| number.parse().ok()).ok_or(InvalidTarget::Processes)?;
        let part = match (part, words.next()) {
            ("node", None) => Part::Node(number),
            ("primary", None) => Part::Primary(number),
            ("replica", None) => Part::Replica(number),
            ("gateway", None) => Part::Gateway(number),
            _ => return Err(InvalidTarget::Processes),
        };
        Ok(Self { region, part })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, part } = self;
        match part {
            Part::All => write!(f, "{region}"),
            Part::Node(number) => write!(f, "{region}/node/{number}"),
            Part::Primary(number) => write!(f, "{region}/primary/{number}"),
            Part::Replica(number) => write!(f, "{region}/replica/{number}"),
            Part::Gateway(number) => write!(f, "{region}/gateway/{number}"),
        }
    }
}

impl FromStr for LinkPath {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let both = text.split_once("<->").map(|ends| (ends, true));
        let Some(((from, to), both_ways)) = both.or_else(|| text.split_once("->").map(|ends| (ends, false))) else {
            return Err(InvalidTarget::Link);
        };
        let [from, to] = [from, to].map(|end| end.trim().parse::<RegionName>().map_err(|_| InvalidTarget::Link));
        let path = Self { from: from?, to: to?, both_ways };
        if path.from == path.to { Err(InvalidTarget::Link) } else { Ok(path) }
    }
}

impl fmt::Display for LinkPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.from, if self.both_ways { "<->" } else { "->" }, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidTarget, LinkPath, Target};

    #[test]
    fn targets_read_back_as_they_were_written() {
        for text in ["us-east", "us-east/primary/1", "eu-west/replica/12", "a/gateway/2", "a/node/3"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["us-east -> eu-west", "a <-> b"] {
            assert_eq!(text.parse::<LinkPath>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in ["", "US", "a/primary", "a/primary/0", "a/primary/x", "a/queen/1", "a/node/1/2"] {
            assert_eq!(text.parse::<Target>(), Err(InvalidTarget::Processes), "{text}");
        }
        for text in ["", "a", "a -> ", "a -> a", "a - b"] {
            assert_eq!(text.parse::<LinkPath>(), Err(InvalidTarget::Link), "{text}");
        }
    }
}
