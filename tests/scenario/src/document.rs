//! The file of a scenario.
//!
//! ```toml
//! about = "The primary of a shard dies under load."
//! duration = "12s"               # how long the load runs; with the events, divided by `speed`
//! loss_window = "1s"             # what a primary may lose of its last moments when it dies
//!
//! [lab]                          # as the flags of `meridian lab`
//! primaries = 2
//! replicas = 1
//! gateways = 1
//! wan = "lab"
//!
//! [[region]]
//! name = "us-east"
//! [[region]]
//! config = "../../config/regions/eu-west.toml"     # name and settings of a real file; ports and paths are the lab's
//! clock = "+100ms"                                 # how far its clocks are ahead
//! set = { "memory.maxmemory" = "10mb" }            # settings of its nodes
//!
//! [load]                         # see `load`
//! rate = 200
//!
//! timeline = ["3s kill us-east/primary/1"]         # see `timeline`; it stands above the tables
//! expect = ["converged within 10s"]                # see `expectation`
//! ```
//! A key that nobody knows is refused, and so is a name of no region of the file; each with the line.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use config::{Offset, Problem, Problems, RegionName, Report, values::duration};
use serde::Deserialize;

use crate::{
    expectation::Expectation,
    limits,
    load::Load,
    settings::{self, Settings},
    target::{Part, Target},
    timeline::{Deed, Event},
};

/// A scenario, checked.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it shows, in a sentence or two.
    pub about: String,
    /// What the choices of the load follow from, unless a run is told otherwise.
    pub seed: Option<u64>,
    /// By how much load and timeline run faster than they are written.
    pub speed: u32,
    /// How long the load runs, as it is written.
    pub duration: Duration,
    /// How much of its last moments a primary may lose when it dies.
    pub loss_window: Duration,
    /// The shape of every region.
    pub lab: Shape,
    /// The regions, in the order of their numbers.
    pub regions: Vec<Region>,
    /// What the clients do.
    pub load: Load,
    /// What befalls the regions, in the order of time.
    pub timeline: Vec<Event>,
    /// What is expected.
    pub expect: Vec<Expectation>,
}

/// The shape of every region, as the flags of the lab have it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    /// Primaries of each region.
    pub primaries: u16,
    /// Replicas of each primary.
    pub replicas: u16,
    /// Gateways of each region; none where a region is one node.
    pub gateways: Option<u16>,
    /// A preset, or a file beside the scenario.
    pub wan: String,
}

impl Default for Shape {
    fn default() -> Self {
        Self { primaries: 1, replicas: 1, gateways: None, wan: "lab".to_owned() }
    }
}

/// One region.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// What it is called; by default as in its file.
    pub name: Option<RegionName>,
    /// A node's real file, relative to the scenario.
    pub config: Option<PathBuf>,
    /// How far its clocks are ahead.
    pub clock: Option<Offset>,
    /// Settings of its nodes, such as `memory.maxmemory`.
    #[serde(default)]
    pub set: BTreeMap<String, toml::Value>,
}

impl Region {
    /// What it is called.
    ///
    /// # Panics
    /// If it is of no [`Scenario`] that was read.
    pub fn name(&self) -> &RegionName {
        self.name.as_ref().expect("reading a scenario has named it")
    }
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    about: String,
    seed: Option<u64>,
    #[serde(default = "ordinary_speed")]
    speed: u32,
    #[serde(default = "ordinary_duration", deserialize_with = "duration::deserialize")]
    duration: Duration,
    #[serde(default = "ordinary_loss_window", deserialize_with = "duration::deserialize")]
    loss_window: Duration,
    #[serde(default)]
    lab: Shape,
    region: Vec<Region>,
    #[serde(default)]
    load: Load,
    #[serde(default)]
    timeline: Vec<Event>,
    expect: Vec<Expectation>,
}

fn ordinary_speed() -> u32 {
    1
}

fn ordinary_duration() -> Duration {
    Duration::from_secs(10)
}

fn ordinary_loss_window() -> Duration {
    Duration::from_secs(1)
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// A report of all that is wrong with it, or with a node's file that it names.
    pub fn load(path: &Path) -> Result<Self, Report> {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let read = |region: &Region| region.config.as_ref().map(|file| settings::load(&folder.join(file))).transpose();
        let mut scenario = config::load_with(path, |written, problems| Self::new(written, &read, problems))?;
        for region in &mut scenario.regions {
            region.config = region.config.take().map(|file| folder.join(file));
        }
        let beside = folder.join(&scenario.lab.wan);
        if beside.extension().is_some() {
            scenario.lab.wan = beside.display().to_string();
        }
        Ok(scenario)
    }

    /// Reads a text, whose regions name no files.
    ///
    /// # Errors
    /// A report of all that is wrong with it.
    pub fn parse(name: &str, text: &str) -> Result<Self, Report> {
        config::parse_with(name, text, |written, problems| Self::new(written, &|_| Ok(None), problems))
    }

    fn new(
        written: Written,
        read: &dyn Fn(&Region) -> Result<Option<Settings>, Report>,
        problems: &mut Problems,
    ) -> Self {
        let Written { about, seed, speed, duration, loss_window, lab, region, load, timeline, expect } = written;
        let mut regions = region;
        for (index, region) in regions.iter_mut().enumerate() {
            region.complete(index, read, problems);
        }
        let scenario = Self { about, seed, speed, duration, loss_window, lab, regions, load, timeline, expect };
        scenario.check(problems);
        let mut timeline = scenario.timeline;
        timeline.sort_by_key(|event| event.at);
        Self { timeline, ..scenario }
    }

    /// Notes what types alone cannot say.
    fn check(&self, problems: &mut Problems) {
        let names: Vec<_> = self.regions.iter().filter_map(|region| region.name.as_ref()).collect();
        let within = |value, range: &std::ops::RangeInclusive<_>| range.contains(&value);
        problems.require(within(self.speed, &limits::SPEED), || out_of_range("speed", "1 to 1000"));
        problems.require(limits::DURATION.contains(&self.duration), || out_of_range("duration", "100ms to 1 day"));
        self.load.check(&names, problems);
        for (index, event) in self.timeline.iter().enumerate() {
            let path = format!("timeline.{index}");
            problems.require(event.at <= *limits::DURATION.end(), || out_of_range(&path, "a time of up to 1 day"));
            for region in event.deed.regions() {
                problems.require(names.contains(&region), || no_region(region, &names).at(path.as_str()));
            }
            if let Some(target) = event.deed.target() {
                self.check_target(target, &path, problems);
            }
        }
        for (index, expectation) in self.expect.iter().enumerate() {
            for region in expectation.regions() {
                problems.require(names.contains(&region), || no_region(region, &names).at(format!("expect.{index}")));
            }
        }
    }

    /// Notes a target that the shape of the regions does not have.
    fn check_target(&self, target: &Target, path: &str, problems: &mut Problems) {
        let Shape { primaries, replicas, gateways, .. } = self.lab;
        let nodes = primaries.saturating_mul(replicas.saturating_add(1));
        let has_gateways = nodes > 1 && self.regions.len() > 1;
        let gateways = if has_gateways { gateways.unwrap_or(1) } else { 0 };
        let (number, most) = match target.part {
            Part::All => return,
            Part::Node(number) => (number, nodes),
            Part::Primary(number) => (number, primaries),
            Part::Replica(number) => (number, nodes - primaries.min(nodes)),
            Part::Gateway(number) => (number, gateways),
        };
        problems.require(number.get() <= most, || {
            let help = format!(
                "a region has {primaries} primaries, {} replicas and {gateways} gateways that are processes",
                nodes - primaries.min(nodes)
            );
            Problem::new(format!("there is no {target}")).at(path).help(help)
        });
    }

    /// The regions that are compared at the end: those of which convergence is expected, or else all.
    pub fn judged(&self) -> Vec<&RegionName> {
        let named = self.expect.iter().find_map(|expectation| match expectation {
            Expectation::Converged { regions, .. } if !regions.is_empty() => Some(regions),
            _ => None,
        });
        self.regions.iter().map(Region::name).filter(|name| named.is_none_or(|named| named.contains(name))).collect()
    }

    /// Whether processes must be machines of their own: only the cables of those can be cut.
    pub fn needs_machines(&self) -> bool {
        self.timeline.iter().any(|event| matches!(event.deed, Deed::Cut(..)))
    }

    /// A time of the file, as it passes at this speed.
    pub fn real(&self, written: Duration) -> Duration {
        written / self.speed
    }
}

impl Region {
    /// Takes from its file what it does not say itself.
    fn complete(
        &mut self,
        index: usize,
        read: &dyn Fn(&Self) -> Result<Option<Settings>, Report>,
        problems: &mut Problems,
    ) {
        match read(self) {
            Ok(Some(settings)) => {
                self.name.get_or_insert(settings.name);
                for (key, value) in settings.set {
                    self.set.entry(key).or_insert(value);
                }
            }
            Ok(None) => {}
            Err(report) => {
                let message = format!("the file of this region cannot be used: {report}");
                problems.add(Problem::new(message).at(format!("region.{index}.config")));
            }
        }
        problems.require(self.name.is_some(), || {
            Problem::new("this region has no name")
                .at(format!("region.{index}"))
                .help("give it a `name`, or a `config` that has one")
        });
    }
}

pub(crate) fn no_region(name: &RegionName, names: &[&RegionName]) -> Problem {
    let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
    Problem::new(format!("there is no region {name}")).help(format!("the regions are {}", names.join(", ")))
}

pub(crate) fn out_of_range(path: &str, range: &str) -> Problem {
    Problem::new(format!("`{path}` is out of range")).at(path).help(format!("write {range}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Scenario;

    const SCENARIO: &str = r#"
        about = "A primary dies."
        speed = 2
        duration = "8s"
        timeline = ["5s restart us-east/primary/1", "3s kill us-east/primary/1", "4s cut us-east <-> eu-west"]
        expect = ["converged within 5s in us-east", "no stale read"]
        [lab]
        primaries = 2
        [[region]]
        name = "us-east"
        [[region]]
        name = "eu-west"
        clock = "-100ms"
        set = { "memory.maxmemory" = "10mb" }
        [load]
        rate = 50
        mix = { set = 1, get = 1 }
    "#;

    fn errors(text: &str) -> String {
        Scenario::parse("s.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn events_come_in_the_order_of_time_and_pass_at_the_speed_of_the_file() {
        let scenario = Scenario::parse("s.toml", SCENARIO).unwrap();
        let times: Vec<_> = scenario.timeline.iter().map(|event| scenario.real(event.at).as_millis()).collect();
        assert_eq!(times, [1_500, 2_000, 2_500]);
        assert_eq!((scenario.lab.primaries, scenario.lab.replicas, scenario.load.rate), (2, 1, 50));
        assert_eq!(scenario.loss_window, Duration::from_secs(1));
        let judged: Vec<_> = scenario.judged().into_iter().map(|name| name.as_str()).collect();
        assert_eq!(judged, ["us-east"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (right, wrong, said, line) in [
            ("speed = 2", "sped = 2", "sped", "s.toml:3"),
            ("speed = 2", "speed = 0", "`speed` is out of range", "s.toml:3"),
            ("3s kill us-east/primary/1", "3s kill us-east/king/1", "not a target", "s.toml:5"),
            ("cut us-east <-> eu-west", "cut us-east <-> mars", "no region mars", "s.toml:5"),
            ("3s kill us-east/primary/1", "3s kill us-east/primary/3", "there is no us-east/primary/3", "s.toml:5"),
            ("3s kill us-east/primary/1", "3s kill us-east/gateway/2", "1 gateways that are processes", "s.toml:5"),
            ("no stale read", "no rain", "not an expectation", "s.toml:6"),
            ("within 5s in us-east", "within 5s in mars", "no region mars", "s.toml:6"),
            ("name = \"eu-west\"", "nam = \"eu-west\"", "nam", "s.toml:12"),
            ("rate = 50", "rate = 0", "`load.rate` is out of range", "s.toml:16"),
            ("set = 1, get = 1", "put = 1", "put", "s.toml:17"),
        ] {
            assert!(SCENARIO.contains(right), "{right}");
            let error = errors(&SCENARIO.replace(right, wrong));
            assert!(error.contains(said) && error.contains(line), "{wrong}: {error}");
        }
    }
}
