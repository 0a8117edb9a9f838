//! What `meridian lab` can be asked for.
//!
//! What cannot be had is refused, with what can be had: a lab that quietly starts something else than it was asked for
//! would be worse than none. What a flag alone can tell is refused here, what depends on several in `plan`.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, value_parser};
use config::{Offset, RegionName};

use super::limits;

/// Starts whole regions as real processes on this machine, joined through a simulated WAN, and shows the live lag.
#[derive(Clone, Debug, Args)]
pub(crate) struct LabArgs {
    /// The regions; they are numbered in this order
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', default_value = "us-east,eu-west,ap-south")]
    pub(super) regions: Vec<RegionName>,

    /// Primaries of each region, among which its slots are shared out
    #[arg(long, value_name = "N", default_value = "2", value_parser = value_parser!(u16).range(1..=i64::from(limits::NODES_MAX)))]
    pub(super) primaries: u16,

    /// Replicas of each primary
    #[arg(long, value_name = "N", default_value = "1", value_parser = value_parser!(u16).range(0..i64::from(limits::NODES_MAX)))]
    pub(super) replicas: u16,

    /// Gateway processes of each region, by default 1. With "embedded" or 0 the gateway runs inside the node: so it is by
    /// default, and may only be, where a region has but one (--primaries 1 --replicas 0). One region alone needs none
    #[arg(long, value_name = "N", value_parser = gateways)]
    pub(super) gateways: Option<u16>,

    /// How far apart the regions are: a preset (lab, world, none), or a WAN file with a link for each pair
    #[arg(long, value_name = "PRESET|FILE", default_value = "lab")]
    pub(super) wan: String,

    /// The ports: Redis of node i at BASE+i, its admin at BASE+100+i, its bus at BASE+700+i; gateway i at BASE+200+i, its bus
    /// at BASE+800+i, its admin at BASE+900+i; the WAN's control at BASE+300, its routes above that; Prometheus at BASE+100. By
    /// default the first of 7000, 8000, ... 32000 at which all of them are free
    #[arg(long, value_name = "BASE")]
    pub(super) port: Option<u16>,

    /// Where configuration, certificates, logs and state are kept; by default a folder that is removed at the end
    #[arg(long, value_name = "FOLDER")]
    pub(super) dir: Option<PathBuf>,

    /// Has a Prometheus watch it, which must be installed, by the alert rules that are shipped, and shows what fires. With a number the
    /// rules wait, and Prometheus looks, so many times as fast
    #[arg(long, value_name = "FASTER", num_args = 0..=1, require_equals = true, default_missing_value = "1",
        value_parser = value_parser!(u64).range(1..=10))]
    pub(super) prometheus: Option<u64>,

    /// Prints one line of JSON once all is ready, and nothing else
    #[arg(long)]
    pub(super) json: bool,

    /// A setting for the file of every node, or of one region's, such as memory.maxmemory=10mb or
    /// us-east:memory.tombstone_budget=4KiB; may be repeated
    #[arg(long, value_name = "[REGION:]KEY=VALUE")]
    pub(super) node_set: Vec<NodeSetting>,

    /// Sets the clock of a region wrong on purpose, such as eu-west=-250ms; may be repeated
    #[arg(long, value_name = "REGION=±DURATION")]
    pub(super) clock_offset: Vec<ClockOffset>,

    /// Lives through a scenario instead: regions, load, faults and what is expected are in the file (tests/README.md says how).
    /// Ends with 0 if all held, with 1 if not
    #[arg(long, value_name = "FILE", help_heading = "Scenario", conflicts_with_all = [
        "regions", "primaries", "replicas", "gateways", "wan", "node_set", "clock_offset", "prometheus"
    ])]
    pub(super) scenario: Option<PathBuf>,

    /// Says that this lab is in namespaces of its own already, in which its processes are machines (see `machines`)
    #[arg(long, hide = true, requires = "scenario")]
    pub(super) inside_namespaces: bool,

    /// What the clients of a scenario ask for follows from this number; by default the file's, or a new one
    #[arg(long, value_name = "N", help_heading = "Scenario", requires = "scenario")]
    pub(super) seed: Option<u64>,

    /// By how much the load and the timeline run faster than they are written, instead of what the file says
    #[arg(long, value_name = "N", help_heading = "Scenario", requires = "scenario",
        value_parser = value_parser!(u32).range(1..=1_000))]
    pub(super) speed: Option<u32>,
}

/// A number of gateways; none is one inside the node.
fn gateways(text: &str) -> Result<u16, String> {
    let number = if text == "embedded" { Some(0) } else { text.parse().ok() };
    let number = number.filter(|number| *number <= limits::NODES_MAX);
    number.ok_or_else(|| format!("give a number up to {}, or embedded", limits::NODES_MAX))
}

/// One `--node-set`: a key of the node's file, and what to set it to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NodeSetting {
    /// The region that it is for; none is all of them.
    pub(super) region: Option<RegionName>,
    /// The section.
    pub(super) section: String,
    /// The key in it.
    pub(super) key: String,
    /// The value, as TOML reads it; what TOML cannot read is text.
    pub(super) value: toml::Value,
}

impl FromStr for NodeSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || "write [REGION:]SECTION.KEY=VALUE, such as memory.maxmemory=10mb".to_owned();
        let (path, value) = text.split_once('=').ok_or_else(invalid)?;
        let (region, path) = match path.split_once(':') {
            Some((region, path)) => (Some(region.parse().map_err(|error| format!("{error}"))?), path),
            None => (None, path),
        };
        let (section, key) = path.split_once('.').ok_or_else(invalid)?;
        if section.is_empty() || key.is_empty() {
            return Err(invalid());
        }
        Ok(Self { region, section: section.to_owned(), key: key.to_owned(), value: value_of(value) })
    }
}

/// Numbers and booleans are taken as such; everything else is text, so that nobody has to quote within quotes.
fn value_of(text: &str) -> toml::Value {
    let as_text = || toml::Value::String(text.to_owned());
    let number = text.parse().map(toml::Value::Integer);
    number.or_else(|_| text.parse().map(toml::Value::Boolean)).unwrap_or_else(|_| as_text())
}

/// One `--clock-offset`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ClockOffset {
    /// Whose clock.
    pub(super) region: RegionName,
    /// How far it is ahead.
    pub(super) offset: Offset,
}

impl FromStr for ClockOffset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || "write REGION=±DURATION, such as eu-west=-250ms".to_owned();
        let (region, offset) = text.split_once('=').ok_or_else(invalid)?;
        let region = region.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { region, offset: offset.parse().map_err(|error| format!("{error}"))? })
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches, Parser};

    use super::{ClockOffset, LabArgs, NodeSetting};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        lab: LabArgs,
    }

    fn parse(args: &[&str]) -> Result<LabArgs, clap::Error> {
        let matches = Cli::command().try_get_matches_from([&["lab"], args].concat())?;
        Ok(Cli::from_arg_matches(&matches)?.lab)
    }

    #[test]
    fn three_clusters_are_the_default() {
        let args = parse(&[]).unwrap();
        let names: Vec<_> = args.regions.iter().map(|name| name.as_str()).collect();
        assert_eq!(names, ["us-east", "eu-west", "ap-south"]);
        assert_eq!((args.wan.as_str(), args.port, args.json), ("lab", None, false));
        assert_eq!((args.primaries, args.replicas, args.gateways), (2, 1, None));
    }

    #[test]
    fn what_is_not_possible_is_refused_with_what_is() {
        for (flag, wanted) in
            [("--primaries=0", "1..=99"), ("--replicas=99", "0..99"), ("--gateways=many", "or embedded")]
        {
            let error = parse(&[flag]).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        let args = parse(&["--primaries=3", "--replicas=2", "--gateways=4"]).unwrap();
        assert_eq!((args.primaries, args.replicas, args.gateways), (3, 2, Some(4)));
        for embedded in ["--gateways=0", "--gateways=embedded"] {
            assert_eq!(parse(&[embedded]).unwrap().gateways, Some(0));
        }
    }

    #[test]
    fn setting_names_a_key_and_perhaps_a_region() {
        let all: NodeSetting = "memory.maxmemory=10mb".parse().unwrap();
        assert_eq!((all.region, all.section.as_str(), all.key.as_str()), (None, "memory", "maxmemory"));
        assert_eq!(all.value, toml::Value::String("10mb".to_owned()));
        let one: NodeSetting = "us-east:memory.stripes=16".parse().unwrap();
        assert_eq!(one.region.unwrap().as_str(), "us-east");
        assert_eq!(one.value, toml::Value::Integer(16));
        for text in ["", "memory.maxmemory", "maxmemory=1", ".a=1", "US:a.b=1"] {
            assert!(text.parse::<NodeSetting>().is_err(), "{text}");
        }
    }

    #[test]
    fn clock_offset_has_a_sign() {
        let behind: ClockOffset = "eu-west=-250ms".parse().unwrap();
        assert_eq!((behind.region.as_str(), behind.offset.as_nanos()), ("eu-west", -250_000_000));
        assert!("eu-west".parse::<ClockOffset>().is_err());
        assert!("eu-west=far".parse::<ClockOffset>().is_err());
    }
}
