//! What is expected of a run, one sentence each.
//!
//! ```text
//! converged within 5s                           once load and timeline are over, all regions hold the same that soon
//! converged within 5s in eu-west, ap-south      these do; the others are not judged at the end
//! verified                                      after that `meridian region verify` finds that they hold the same
//! no stale read                                 no read was older than what its region had seen, deleted or expired
//! no lost write                                 each acknowledged write is accounted for
//! lag below 400ms                               at the end, on every link between regions that are judged
//! lag below 400ms on us-east -> eu-west         on this one
//! lag always below 2s on us-east -> ap-south    all the time
//! lag once above 2s on us-east -> eu-west       at some time
//! serves 99% in eu-west                         so many operations of its clients were done
//! no pause above 3s in us-east                  its clients never had to wait so long for anything to be done
//! alert MeridianLinkDown fires                  at some time, in a real Prometheus
//! alert MeridianLinkDown is silent              at no time
//! ```
//! All oracles judge every run, whatever is expected; `no stale read` and `no lost write` say which of them the file is about.

use std::{fmt, str::FromStr, time::Duration};

use config::{RegionName, values::duration};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::target::LinkPath;

/// One thing that is expected.
#[derive(Clone, Debug, PartialEq)]
pub enum Expectation {
    /// Regions hold the same soon after the end; all of them if none is named.
    Converged {
        /// How soon.
        within: Duration,
        /// Which regions.
        regions: Vec<RegionName>,
    },
    /// The operator's comparison of regions finds that they hold the same.
    Verified,
    /// The oracles of reads found nothing.
    NoStaleRead,
    /// The oracles of writes found nothing.
    NoLostWrite,
    /// Something about lag.
    Lag(Lag),
    /// So many operations were done.
    Serves {
        /// Which share, in percent.
        percent: u8,
        /// Where; everywhere if none is named.
        region: Option<RegionName>,
    },
    /// At no time nothing was done for longer.
    NoPause {
        /// How long.
        above: Duration,
        /// Where; in each region that has clients if none is named.
        region: Option<RegionName>,
    },
    /// Something about an alert.
    Alert {
        /// Its name.
        name: String,
        /// Whether it must fire, or must not.
        fires: bool,
    },
}

/// A bound of lag.
#[derive(Clone, Debug, PartialEq)]
pub struct Lag {
    /// When it must hold.
    pub when: When,
    /// Whether it is below the bound; else above.
    pub below: bool,
    /// The bound.
    pub bound: Duration,
    /// On which link; on each if none is named.
    pub on: Option<LinkPath>,
}

/// When a bound must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At the moment of the sentence: the end, or the time of its event.
    Then,
    /// At each look.
    Always,
    /// At some look.
    Once,
}

/// A sentence that expects nothing that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExpectation {
    /// Of a run.
    #[error(
        "not an expectation: write `converged within 5s`, `verified`, `no stale read`, `no lost write`, `lag below 400ms`, `serves 99% in us-east`, `no pause above 3s in us-east`, `alert NAME fires` or `alert NAME is silent`"
    )]
    Sentence,
    /// About lag.
    #[error(
        "write lag [always|once] below|above DURATION [on REGION -> REGION], such as lag above 2s on us-east -> eu-west"
    )]
    Lag,
}

impl Expectation {
    /// The regions that it names.
    pub fn regions(&self) -> Vec<&RegionName> {
        match self {
            Self::Converged { regions, .. } => regions.iter().collect(),
            Self::Lag(lag) => lag.on.as_ref().map(LinkPath::ends).unwrap_or_default(),
            Self::Serves { region, .. } | Self::NoPause { region, .. } => region.iter().collect(),
            Self::Verified | Self::NoStaleRead | Self::NoLostWrite | Self::Alert { .. } => Vec::new(),
        }
    }
}

impl FromStr for Expectation {
    type Err = InvalidExpectation;

    fn from_str(text: &str) -> Result<Self, InvalidExpectation> {
        let words: Vec<_> = text.split_whitespace().collect();
        match words[..] {
            ["converged", "within", within, ref rest @ ..] => converged(within, rest),
            ["verified"] => Some(Self::Verified),
            ["no", "stale", "read"] => Some(Self::NoStaleRead),
            ["no", "lost", "write"] => Some(Self::NoLostWrite),
            ["no", "pause", "above", above, ref rest @ ..] => no_pause(above, rest),
            ["lag", ..] => return text.parse().map(Self::Lag),
            ["serves", percent, ref rest @ ..] => serves(percent, rest),
            ["alert", name, "fires"] => Some(Self::Alert { name: name.to_owned(), fires: true }),
            ["alert", name, "is", "silent"] => Some(Self::Alert { name: name.to_owned(), fires: false }),
            _ => None,
        }
        .ok_or(InvalidExpectation::Sentence)
    }
}

fn converged(within: &str, rest: &[&str]) -> Option<Expectation> {
    let regions = match rest {
        [] => Vec::new(),
        ["in", names @ ..] => {
            let names = names.join(" ");
            names.split(',').map(|name| name.trim().parse().ok()).collect::<Option<_>>()?
        }
        _ => return None,
    };
    Some(Expectation::Converged { within: duration::parse(within).ok()?, regions })
}

fn no_pause(above: &str, rest: &[&str]) -> Option<Expectation> {
    Some(Expectation::NoPause { above: duration::parse(above).ok()?, region: in_region(rest)? })
}

/// Nothing, or the name of a region.
fn in_region(rest: &[&str]) -> Option<Option<RegionName>> {
    match rest {
        [] => Some(None),
        ["in", name] => Some(Some(name.parse().ok()?)),
        _ => None,
    }
}

fn serves(percent: &str, rest: &[&str]) -> Option<Expectation> {
    let region = in_region(rest)?;
    let percent = percent.strip_suffix('%')?.parse().ok().filter(|percent| *percent <= 100)?;
    Some(Expectation::Serves { percent, region })
}

impl FromStr for Lag {
    type Err = InvalidExpectation;

    fn from_str(text: &str) -> Result<Self, InvalidExpectation> {
        let parse = || {
            let mut words = text.split_whitespace().peekable();
            (words.next()? == "lag").then_some(())?;
            let when = match *words.peek()? {
                "always" => When::Always,
                "once" => When::Once,
                _ => When::Then,
            };
            if when != When::Then {
                words.next();
            }
            let below = match words.next()? {
                "below" => true,
                "above" => false,
                _ => return None,
            };
            let bound = duration::parse(words.next()?).ok()?;
            let on = match words.next() {
                None => None,
                Some("on") => Some(words.collect::<Vec<_>>().join(" ").parse().ok()?),
                Some(_) => return None,
            };
            Some(Self { when, below, bound, on })
        };
        parse().ok_or(InvalidExpectation::Lag)
    }
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.when {
            When::Then => "",
            When::Always => "always ",
            When::Once => "once ",
        };
        let side = if self.below { "below" } else { "above" };
        write!(f, "lag {when}{side} {}", duration::display(self.bound))?;
        self.on.as_ref().map_or(Ok(()), |link| write!(f, " on {link}"))
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Converged { within, regions } => {
                write!(f, "converged within {}", duration::display(*within))?;
                let names: Vec<_> = regions.iter().map(RegionName::as_str).collect();
                if names.is_empty() { Ok(()) } else { write!(f, " in {}", names.join(", ")) }
            }
            Self::Verified => f.write_str("verified"),
            Self::NoStaleRead => f.write_str("no stale read"),
            Self::NoLostWrite => f.write_str("no lost write"),
            Self::Lag(lag) => lag.fmt(f),
            Self::Serves { percent, region } => {
                write!(f, "serves {percent}%")?;
                region.as_ref().map_or(Ok(()), |region| write!(f, " in {region}"))
            }
            Self::NoPause { above, region } => {
                write!(f, "no pause above {}", duration::display(*above))?;
                region.as_ref().map_or(Ok(()), |region| write!(f, " in {region}"))
            }
            Self::Alert { name, fires } => write!(f, "alert {name} {}", if *fires { "fires" } else { "is silent" }),
        }
    }
}

impl<'de> Deserialize<'de> for Expectation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Expectation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::{Expectation, InvalidExpectation};

    #[test]
    fn every_expectation_reads_back_as_it_was_written() {
        for text in [
            "converged within 5s",
            "converged within 1m 30s in eu-west, ap-south",
            "verified",
            "no stale read",
            "no lost write",
            "lag below 400ms",
            "lag always below 2s on us-east -> ap-south",
            "lag once above 2s on us-east -> eu-west",
            "serves 99% in eu-west",
            "serves 90%",
            "no pause above 3s in us-east",
            "no pause above 500ms",
            "alert MeridianLinkDown fires",
            "alert MeridianLinkDown is silent",
        ] {
            let read = text.replace("1m 30s", "90s").parse::<Expectation>().map(|expected| expected.to_string());
            assert_eq!(read, Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_nobody_can_judge_is_refused() {
        for text in ["", "converged", "converged within soon", "no stale", "serves 101%", "serves", "alert fires"] {
            assert_eq!(text.parse::<Expectation>(), Err(InvalidExpectation::Sentence), "{text}");
        }
        for text in ["lag", "lag below", "lag never below 1s", "lag below 1s on us-east"] {
            assert_eq!(text.parse::<Expectation>(), Err(InvalidExpectation::Lag), "{text}");
        }
    }
}
