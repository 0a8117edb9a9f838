//! The plan of a lab: which processes there are, where each listens, and what stands in the file of each.
//!
//! Everything is decided here and nothing is started, so that what is wrong with a request is said before the first
//! process runs. The files hold what the lab decides and leave the rest at its defaults; each can be read, changed and
//! started by hand.
//!
//! ```text
//! DIR/us-east-1.toml     a node's file           DIR/wan.toml  the WAN's file
//! DIR/us-east-1.cmd      how it is started       DIR/wan.cmd
//! DIR/us-east-1.log      what it says            DIR/wan.log
//! DIR/us-east-1.state/   what it must remember   DIR/certs/    certificates, made anew each time
//! DIR/us-east-gw-1.toml  and so on: a gateway's
//!                                                DIR/prometheus.yml, DIR/rules.yml   what a Prometheus is told
//! ```
//! A region is a cluster with gateways beside it, or one node with its gateway inside, whose files are called as its region.
//! A region that is alone in its lab has no gateway, and then there is no WAN.

use std::{
    collections::HashSet,
    fmt::Display,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use config::RegionName;
use sim_wan::{
    presets,
    topology::{LinkSpec, RouteSpec, Topology},
};

use super::{
    args::LabArgs,
    files::Planner,
    limits,
    ports::{Block, Layout, Wanted},
};

/// What the files of the WAN are called, and those of Prometheus. No region can be called the same.
const WAN: &str = "wan";
pub(super) const PROMETHEUS: &str = "prometheus";

/// A whole lab.
#[derive(Debug)]
pub(super) struct Plan {
    /// The regions, in the order of their numbers.
    pub(super) regions: Vec<RegionPlan>,
    /// The WAN between them; none if there is but one.
    pub(super) topology: Option<Topology>,
    /// The Prometheus that watches, if one is wanted.
    pub(super) prometheus: Option<PrometheusPlan>,
    /// Where all files are.
    pub(super) dir: PathBuf,
    _ports: Block,
}

/// One region.
#[derive(Clone, Debug)]
pub(super) struct RegionPlan {
    /// Its name.
    pub(super) name: String,
    /// Its number, from 1.
    pub(super) id: u8,
    /// Its nodes: one with the gateway inside, or those of a cluster, the primaries first.
    pub(super) nodes: Vec<NodePlan>,
    /// Its gateways that are processes.
    pub(super) gateways: Vec<GatewayPlan>,
    /// How many replicas each primary has.
    pub(super) replicas: u16,
}

/// One node.
#[derive(Clone, Debug)]
pub(super) struct NodePlan {
    /// What it is called: its region, and its number in that.
    pub(super) id: String,
    /// What its files are called.
    pub(super) name: String,
    /// Where clients connect.
    pub(super) redis: SocketAddr,
    /// Where it is looked at.
    pub(super) admin: SocketAddr,
    /// Where the links of other regions arrive; none in a cluster.
    pub(super) gateway: Option<SocketAddr>,
    /// Where the other nodes of its region connect; none if there are none.
    pub(super) bus: Option<SocketAddr>,
    /// The text of its file.
    pub(super) config: String,
}

/// One gateway that is a process.
#[derive(Clone, Debug)]
pub(super) struct GatewayPlan {
    /// What it is called in this lab, and its files.
    pub(super) name: String,
    /// Where the links of other regions arrive.
    pub(super) links: SocketAddr,
    /// Where it is looked at.
    pub(super) admin: SocketAddr,
    /// The text of its file.
    pub(super) config: String,
}

/// A Prometheus.
#[derive(Clone, Copy, Debug)]
pub(super) struct PrometheusPlan {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// How many times as fast as is shipped its rules are, and it looks.
    pub(super) faster: u64,
}

impl RegionPlan {
    /// Whether it is a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        self.nodes.iter().any(|node| node.bus.is_some())
    }
}

/// What each region is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Nodes, the primaries first.
    pub(super) nodes: u16,
    /// Gateways that are processes.
    pub(super) gateways: u16,
}

impl Shape {
    /// Whether the nodes are a cluster; else there is one, with its gateway inside.
    pub(super) fn is_cluster(self) -> bool {
        self.nodes > 1
    }

    /// Where links of other regions arrive, inside nodes or not.
    pub(super) fn doors(self) -> u16 {
        if self.is_cluster() { self.gateways } else { self.nodes }
    }
}

/// A lab that cannot be as it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(String);

impl UsageError {
    pub(super) fn new(error: impl Display) -> Self {
        Self(error.to_string())
    }
}

impl Plan {
    /// Plans a lab whose files are in `dir`, and takes its ports.
    ///
    /// # Errors
    /// [`UsageError`] if it cannot be as it was asked for. Nothing was written or started.
    pub(super) fn new(args: &LabArgs, dir: &Path) -> Result<Self, UsageError> {
        let names = check_names(&args.regions)?;
        for region in args.clock_offset.iter().map(|offset| &offset.region).chain(settings_regions(args)) {
            if !args.regions.contains(region) {
                return Err(UsageError(format!("there is no region {region}; there are {}", names.join(", "))));
            }
        }
        let shape = shape(args)?;
        let regions = u16::try_from(names.len()).expect("limits::REGIONS fits");
        let wanted = Wanted {
            nodes: regions * shape.nodes,
            gateways: regions * shape.doors(),
            routes: regions * (regions - 1) * shape.doors(),
            has_bus: shape.is_cluster(),
            has_prometheus: args.prometheus.is_some(),
            are_machines: args.inside_namespaces,
        };
        let ports = Block::take(args.port, wanted).map_err(UsageError::new)?;
        let layout = ports.layout();
        let topology = (regions > 1).then(|| topology(&args.wan, &names, shape, layout)).transpose()?;
        let planner = Planner { args, names: &names, shape, layout, topology: topology.as_ref(), dir };
        let regions = (0..regions).map(|index| planner.region(index)).collect::<Result<_, _>>()?;
        let prometheus = args.prometheus.map(|faster| PrometheusPlan { address: layout.prometheus(), faster });
        Ok(Self { regions, topology, prometheus, dir: dir.to_owned(), _ports: ports })
    }

    /// All nodes, in the order of their regions.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodePlan> {
        self.regions.iter().flat_map(|region| &region.nodes)
    }

    /// All gateways that are processes, in the order of their regions.
    pub(super) fn gateways(&self) -> impl Iterator<Item = &GatewayPlan> {
        self.regions.iter().flat_map(|region| &region.gateways)
    }

    /// What the files of all processes are called, but for those of the WAN.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let gateways = self.gateways().map(|gateway| gateway.name.as_str());
        self.nodes().map(|node| node.name.as_str()).chain(gateways)
    }

    /// The place of a region's first node among all, by the place of the region.
    pub(super) fn first_node(&self, region: usize) -> usize {
        self.regions.iter().take(region).map(|region| region.nodes.len()).sum()
    }

    /// A file of the lab.
    pub(super) fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.dir.join(format!("{name}.{extension}"))
    }

    /// The link of the WAN from one region to another.
    pub(super) fn link(&self, from: &str, to: &str) -> Option<&LinkSpec> {
        self.topology.as_ref()?.links.iter().find(|link| (link.from.as_str(), link.to.as_str()) == (from, to))
    }

    /// All ordered pairs of regions, by index.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        pairs(self.regions.len())
    }

    /// What the files of the WAN are called.
    pub(super) const fn wan_name(&self) -> &'static str {
        WAN
    }
}

fn settings_regions(args: &LabArgs) -> impl Iterator<Item = &RegionName> {
    args.node_set.iter().filter_map(|setting| setting.region.as_ref())
}

/// What each region is made of, if it can be.
fn shape(args: &LabArgs) -> Result<Shape, UsageError> {
    let regions = u16::try_from(args.regions.len()).expect("limits::REGIONS fits");
    let nodes = args.primaries.saturating_mul(args.replicas.saturating_add(1));
    let is_alone = regions == 1;
    let why_not = match (nodes, args.gateways) {
        (1, _) if is_alone => {
            "a single region must have several nodes, such as --primaries 3; or name two regions".to_owned()
        }
        (1, Some(1..)) => {
            "the gateway of a region of one node runs inside it: give --gateways embedded, or more nodes".to_owned()
        }
        (_, Some(1..)) if is_alone => "gateways join regions, and there is but one: leave --gateways out".to_owned(),
        (2.., Some(0)) if !is_alone => format!(
            "the gateways of a region of {nodes} nodes are processes of their own: give --gateways 1 or more, or --primaries 1 --replicas 0"
        ),
        _ => String::new(),
    };
    if !why_not.is_empty() {
        return Err(UsageError(why_not));
    }
    let gateways = if nodes == 1 || is_alone { 0 } else { args.gateways.unwrap_or(1) };
    for (what, count) in [("nodes", regions.saturating_mul(nodes)), ("gateways", regions.saturating_mul(gateways))] {
        if count > limits::NODES_MAX {
            return Err(UsageError(format!("a lab has at most {} {what}, not {count}", limits::NODES_MAX)));
        }
    }
    let routes = (regions * (regions - 1)).saturating_mul(gateways);
    if routes > limits::ROUTES_MAX {
        return Err(UsageError(format!(
            "the wan of a lab has at most {} routes, and {regions} regions of {gateways} gateways would take {routes}",
            limits::ROUTES_MAX
        )));
    }
    Ok(Shape { nodes, gateways })
}

fn check_names(regions: &[RegionName]) -> Result<Vec<String>, UsageError> {
    let count = regions.len();
    if !limits::REGIONS.contains(&count) {
        let (min, max) = (limits::REGIONS.start(), limits::REGIONS.end());
        return Err(UsageError(format!("a lab has {min} to {max} regions, not {count}")));
    }
    let mut seen = HashSet::from([WAN, PROMETHEUS]);
    for name in regions {
        if !seen.insert(name.as_str()) {
            let why = match name.as_str() {
                WAN | PROMETHEUS => "is how the lab calls a process of its own",
                _ => "is named twice",
            };
            return Err(UsageError(format!("{name} {why}; give each region a name of its own")));
        }
    }
    Ok(regions.iter().map(RegionName::to_string).collect())
}

fn pairs(regions: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..regions).flat_map(move |from| (0..regions).filter(move |&to| to != from).map(move |to| (from, to)))
}

/// The WAN: links from the preset or the file, routes and control from the lab. There is a route to each gateway of each
/// other region, so that nothing goes past the WAN.
fn topology(wan: &str, names: &[String], shape: Shape, layout: Layout) -> Result<Topology, UsageError> {
    let (seed, links) = if presets::NAMES.contains(&wan) {
        (0, presets::preset(wan, names).map_err(UsageError::new)?)
    } else {
        let file = Path::new(wan);
        if !file.exists() {
            let presets = presets::NAMES.join(", ");
            return Err(UsageError(format!("--wan {wan} is neither a preset ({presets}) nor a file")));
        }
        let Topology { seed, links, .. } = config::load(file).map_err(UsageError::new)?;
        (seed, links.into_iter().flat_map(one_way).collect())
    };
    let doors = |(from, to)| (0..shape.doors()).map(move |door| (from, to, door));
    let routes = pairs(names.len()).flat_map(doors).zip(0u16..).map(|((from, to, door), index)| {
        let region = u16::try_from(to).expect("limits::REGIONS fits");
        let target = layout.gateway(region * shape.doors() + door).into();
        RouteSpec { from: names[from].clone(), to: names[to].clone(), listen: layout.route(index), target }
    });
    let topology = Topology { seed, control: layout.control(), links, routes: routes.collect() };
    topology.validate().map_err(|error| UsageError(format!("--wan {wan}: {error}")))?;
    Ok(topology)
}

/// A link and its way back, each by itself.
fn one_way(link: LinkSpec) -> Vec<LinkSpec> {
    let there = LinkSpec { both_ways: false, ..link.clone() };
    let back = LinkSpec { from: link.to, to: link.from, ..there.clone() };
    if link.both_ways { vec![there, back] } else { vec![there] }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
