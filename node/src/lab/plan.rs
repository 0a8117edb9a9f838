//! The plan of a lab: which processes there are, where each listens, and what stands in the file of each.
//!
//! Everything is decided here and nothing is started, so that what is wrong with a request is said before the first
//! process runs. The files hold what the lab decides and leave the rest at its defaults; each can be read, changed and
//! started by hand.
//!
//! ```text
//! DIR/us-east.toml   the node's file        DIR/wan.toml    the WAN's file
//! DIR/us-east.cmd    how it is started      DIR/wan.cmd
//! DIR/us-east.log    what it says           DIR/wan.log
//! DIR/us-east.state/ what it must remember  DIR/certs/      certificates, made anew each time
//! ```
//! A region of several nodes is a cluster. Its nodes are `us-east-1`, `us-east-2` and so on, each with files of its own.
//! Links between clusters are not there yet, so such a region is alone in its lab, and there is no WAN.

use std::{
    collections::HashSet,
    fmt::Display,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use config::{NodeConfig, RegionName};
use sim_wan::{
    presets,
    topology::{LinkSpec, RouteSpec, Topology},
};
use toml::{Table, Value};

use super::{
    args::LabArgs,
    limits,
    ports::{Block, Layout, Wanted},
};

/// What the files of the WAN are called. No region can be called the same.
const WAN: &str = "wan";

/// A whole lab.
#[derive(Debug)]
pub(super) struct Plan {
    /// The regions, in the order of their numbers.
    pub(super) regions: Vec<RegionPlan>,
    /// The WAN between them; none if there is but one.
    pub(super) topology: Option<Topology>,
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

impl RegionPlan {
    /// Whether it has several nodes.
    pub(super) fn is_cluster(&self) -> bool {
        self.nodes.len() > 1
    }
}

/// A lab that cannot be as it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(String);

impl UsageError {
    fn new(error: impl Display) -> Self {
        Self(error.to_string())
    }
}

impl Plan {
    /// Plans a lab whose files are in `dir`, and takes its ports.
    ///
    /// # Errors
    /// [`UsageError`] if it cannot be as it was asked for. Nothing was written or started.
    pub(super) fn new(args: &LabArgs, dir: &Path) -> Result<Self, UsageError> {
        let nodes_each = args.primaries.saturating_mul(args.replicas.saturating_add(1));
        let names = check_names(&args.regions, nodes_each)?;
        for region in args.clock_offset.iter().map(|offset| &offset.region).chain(settings_regions(args)) {
            if !args.regions.contains(region) {
                return Err(UsageError(format!("there is no region {region}; there are {}", names.join(", "))));
            }
        }
        let regions = u16::try_from(names.len()).expect("limits::REGIONS fits");
        let wanted = Wanted { nodes: regions * nodes_each, routes: regions * (regions - 1), has_bus: nodes_each > 1 };
        let ports = Block::take(args.port, wanted).map_err(UsageError::new)?;
        let layout = ports.layout();
        let topology = (regions > 1).then(|| topology(&args.wan, &names, layout)).transpose()?;
        let planner = Planner { args, names: &names, nodes_each, layout, topology: topology.as_ref(), dir };
        let regions = (0..regions).map(|index| planner.region(index)).collect::<Result<_, _>>()?;
        Ok(Self { regions, topology, dir: dir.to_owned(), _ports: ports })
    }

    /// All nodes, in the order of their regions.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodePlan> {
        self.regions.iter().flat_map(|region| &region.nodes)
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

fn check_names(regions: &[RegionName], nodes_each: u16) -> Result<Vec<String>, UsageError> {
    let count = regions.len();
    if nodes_each > limits::NODES_MAX {
        return Err(UsageError(format!("a lab has at most {} nodes, not {nodes_each}", limits::NODES_MAX)));
    }
    if nodes_each > 1 && count > 1 {
        return Err(UsageError(format!(
            "regions of {nodes_each} nodes cannot be linked yet, and {count} were asked for; name one, such as --regions us-east"
        )));
    }
    if !limits::REGIONS.contains(&count) && nodes_each == 1 {
        let (min, max) = (limits::REGIONS.start(), limits::REGIONS.end());
        let cluster = "a single one must have several nodes, such as --primaries 3";
        return Err(UsageError(format!("a lab has {min} to {max} regions, not {count}; {cluster}")));
    }
    let mut seen = HashSet::from([WAN]);
    for name in regions {
        if !seen.insert(name.as_str()) {
            let why = if name.as_str() == WAN { "is how the lab calls its WAN" } else { "is named twice" };
            return Err(UsageError(format!("{name} {why}; give each region a name of its own")));
        }
    }
    Ok(regions.iter().map(RegionName::to_string).collect())
}

fn pairs(regions: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..regions).flat_map(move |from| (0..regions).filter(move |&to| to != from).map(move |to| (from, to)))
}

/// The WAN: links from the preset or the file, routes and control from the lab.
fn topology(wan: &str, names: &[String], layout: Layout) -> Result<Topology, UsageError> {
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
    let routes = pairs(names.len()).zip(0u16..).map(|((from, to), index)| RouteSpec {
        from: names[from].clone(),
        to: names[to].clone(),
        listen: layout.route(index),
        target: layout.gateway(u16::try_from(to).expect("limits::REGIONS fits")).into(),
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

/// What the plans of all nodes go by.
struct Planner<'a> {
    args: &'a LabArgs,
    names: &'a [String],
    nodes_each: u16,
    layout: Layout,
    topology: Option<&'a Topology>,
    dir: &'a Path,
}

impl Planner<'_> {
    fn region(&self, index: u16) -> Result<RegionPlan, UsageError> {
        let name = self.names[usize::from(index)].clone();
        let id = u8::try_from(index + 1).expect("limits::REGIONS fits");
        let nodes = (0..self.nodes_each).map(|node| self.node(&name, id, index * self.nodes_each + node, node + 1));
        Ok(RegionPlan { nodes: nodes.collect::<Result<_, _>>()?, name, id, replicas: self.args.replicas })
    }

    /// A node: the `number`th of its region, at the `index`th place of the ports.
    fn node(&self, region: &str, region_id: u8, index: u16, number: u16) -> Result<NodePlan, UsageError> {
        let (layout, is_cluster) = (self.layout, self.nodes_each > 1);
        let id = format!("{region}-{number}");
        let name = if is_cluster { id.clone() } else { region.to_owned() };
        let (redis, admin) = (layout.redis(index), layout.admin(index));
        let gateway = (!is_cluster).then(|| layout.gateway(index));
        let bus = is_cluster.then(|| layout.bus(index));
        let mut file = File::default();
        file.set("region", "name", text(region));
        file.set("region", "id", Value::Integer(region_id.into()));
        file.set("node", "listen", text(redis));
        file.set("node", "admin", text(admin));
        file.set("node", "dir", text(format_args!("{name}.state")));
        for (section, listen) in [("gateway", gateway), ("cluster", bus)] {
            let Some(listen) = listen else { continue };
            file.set(section, "listen", text(listen));
            file.set(section, "cert", text(format_args!("certs/{region}.pem")));
            file.set(section, "key", text(format_args!("certs/{region}.key")));
            file.set(section, "ca", text("certs/ca.pem"));
        }
        if is_cluster {
            // A former lab in the same folder may have had other ports.
            let first = index + 1 - number;
            let seeds = (first..first + self.nodes_each).filter(|other| *other != index);
            file.set("cluster", "seeds", Value::Array(seeds.map(|other| text(layout.bus(other))).collect()));
        }
        self.set_as_asked(&mut file, region);
        if let Some(topology) = self.topology {
            file.0.insert("peer".to_owned(), Value::Array(peers(self.names, region, topology)));
        }
        let config = toml::to_string(&file.0).map_err(UsageError::new)?;
        let path = self.dir.join(format!("{name}.toml"));
        NodeConfig::parse(&path.display().to_string(), &config).map_err(UsageError::new)?;
        Ok(NodePlan { id, name, redis, admin, gateway, bus, config })
    }

    /// What the command line says about the nodes of a region.
    fn set_as_asked(&self, file: &mut File, region: &str) {
        for offset in self.args.clock_offset.iter().filter(|offset| offset.region.as_str() == region) {
            file.set("clock", "offset", text(offset.offset));
        }
        for setting in &self.args.node_set {
            if setting.region.as_ref().is_none_or(|of| of.as_str() == region) {
                file.set(&setting.section, &setting.key, setting.value.clone());
            }
        }
    }
}

/// The file of a node.
#[derive(Default)]
struct File(Table);

impl File {
    fn set(&mut self, section: &str, key: &str, value: Value) {
        let section = self.0.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Some(table) = section.as_table_mut() {
            table.insert(key.to_owned(), value);
        }
    }
}

/// The other regions, each at the route that leads to it from here.
fn peers(names: &[String], own: &str, topology: &Topology) -> Vec<Value> {
    let routes = topology.routes.iter().filter(|route| route.from == own);
    let peer = |route: &RouteSpec| {
        let id = names.iter().position(|name| *name == route.to).map_or(0, |index| index + 1);
        let id = i64::try_from(id).expect("limits::REGIONS fits");
        Value::Table(Table::from_iter([
            ("region".to_owned(), text(&route.to)),
            ("id".to_owned(), Value::Integer(id)),
            ("addr".to_owned(), text(route.listen)),
        ]))
    };
    routes.map(peer).collect()
}

fn text(value: impl Display) -> Value {
    Value::String(value.to_string())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
