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
    ports::{Block, Layout},
};

/// What the files of the WAN are called. No region can be called the same.
const WAN: &str = "wan";

/// A whole lab.
#[derive(Debug)]
pub(super) struct Plan {
    /// The regions, in the order of their numbers.
    pub(super) regions: Vec<RegionPlan>,
    /// The WAN between them.
    pub(super) topology: Topology,
    /// Where all files are.
    pub(super) dir: PathBuf,
    _ports: Block,
}

/// One region: one node, with the gateway inside.
#[derive(Clone, Debug)]
pub(super) struct RegionPlan {
    /// Its name.
    pub(super) name: String,
    /// Its number, from 1.
    pub(super) id: u8,
    /// Where clients connect.
    pub(super) redis: SocketAddr,
    /// Where it is looked at.
    pub(super) admin: SocketAddr,
    /// Where the links of others arrive.
    pub(super) gateway: SocketAddr,
    /// The text of its file.
    pub(super) config: String,
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
        let names = check_names(&args.regions)?;
        for region in args.clock_offset.iter().map(|offset| &offset.region).chain(settings_regions(args)) {
            if !args.regions.contains(region) {
                return Err(UsageError(format!("there is no region {region}; there are {}", names.join(", "))));
            }
        }
        let nodes = u16::try_from(names.len()).expect("limits::REGIONS fits");
        let ports = Block::take(args.port, nodes, nodes * (nodes - 1)).map_err(UsageError::new)?;
        let layout = ports.layout();
        let topology = topology(&args.wan, &names, layout)?;
        let regions = (0..nodes).map(|index| plan_region(args, &names, index, layout, &topology, dir));
        Ok(Self { regions: regions.collect::<Result<_, _>>()?, topology, dir: dir.to_owned(), _ports: ports })
    }

    /// A file of the lab.
    pub(super) fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.dir.join(format!("{name}.{extension}"))
    }

    /// The link of the WAN from one region to another.
    pub(super) fn link(&self, from: &str, to: &str) -> Option<&LinkSpec> {
        self.topology.links.iter().find(|link| (link.from.as_str(), link.to.as_str()) == (from, to))
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

fn check_names(regions: &[RegionName]) -> Result<Vec<String>, UsageError> {
    if !limits::REGIONS.contains(&regions.len()) {
        let (min, max) = (limits::REGIONS.start(), limits::REGIONS.end());
        return Err(UsageError(format!("a lab has {min} to {max} regions, not {}", regions.len())));
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

fn plan_region(
    args: &LabArgs,
    names: &[String],
    index: u16,
    layout: Layout,
    topology: &Topology,
    dir: &Path,
) -> Result<RegionPlan, UsageError> {
    let name = names[usize::from(index)].clone();
    let id = u8::try_from(index + 1).expect("limits::REGIONS fits");
    let (redis, admin, gateway) = (layout.redis(index), layout.admin(index), layout.gateway(index));
    let mut file = Table::new();
    let mut set = |section: &str, key: &str, value: Value| {
        let section = file.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Some(table) = section.as_table_mut() {
            table.insert(key.to_owned(), value);
        }
    };
    set("region", "name", text(&name));
    set("region", "id", Value::Integer(id.into()));
    set("node", "listen", text(redis));
    set("node", "admin", text(admin));
    set("node", "dir", text(format_args!("{name}.state")));
    set("gateway", "listen", text(gateway));
    set("gateway", "cert", text(format_args!("certs/{name}.pem")));
    set("gateway", "key", text(format_args!("certs/{name}.key")));
    set("gateway", "ca", text("certs/ca.pem"));
    for offset in args.clock_offset.iter().filter(|offset| offset.region.as_str() == name) {
        set("clock", "offset", text(offset.offset));
    }
    for setting in &args.node_set {
        if setting.region.as_ref().is_none_or(|region| region.as_str() == name) {
            set(&setting.section, &setting.key, setting.value.clone());
        }
    }
    file.insert("peer".to_owned(), Value::Array(peers(names, &name, topology)));
    let config = toml::to_string(&file).map_err(UsageError::new)?;
    let path = dir.join(format!("{name}.toml"));
    NodeConfig::parse(&path.display().to_string(), &config).map_err(UsageError::new)?;
    Ok(RegionPlan { name, id, redis, admin, gateway, config })
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
mod tests {
    use std::path::Path;

    use clap::Parser;
    use config::NodeConfig;

    use super::{LabArgs, Plan};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        lab: LabArgs,
    }

    fn plan(args: &[&str]) -> Result<Plan, String> {
        let args = Cli::parse_from([&["lab"], args].concat()).lab;
        Plan::new(&args, Path::new("/lab")).map_err(|error| error.to_string())
    }

    fn config(plan: &Plan, index: usize) -> NodeConfig {
        NodeConfig::parse("/lab/node.toml", &plan.regions[index].config).unwrap()
    }

    #[test]
    fn every_region_dials_every_other_through_the_wan() {
        let plan = plan(&[]).unwrap();
        assert_eq!(plan.topology.routes.len(), 6);
        for (from, to) in plan.pairs() {
            let (source, target) = (&plan.regions[from], &plan.regions[to]);
            let config = config(&plan, from);
            let peer = config.peers.iter().find(|peer| peer.region.as_str() == target.name).unwrap();
            assert_eq!(peer.id.number(), target.id);
            let routes = &plan.topology.routes;
            let route = routes.iter().find(|route| route.listen.to_string() == peer.addr.to_string()).unwrap();
            assert_eq!((&route.from, &route.to), (&source.name, &target.name));
            assert_eq!(route.target.as_str(), target.gateway.to_string());
        }
    }

    #[test]
    fn settings_reach_the_regions_they_are_for() {
        let args = ["--node-set=eu-west:memory.tombstone_budget=4KiB", "--node-set=memory.stripes=16"];
        let plan = plan(&[&args[..], &["--clock-offset=ap-south=-2s"]].concat()).unwrap();
        let budgets = [0, 1, 2].map(|index| config(&plan, index).memory.tombstone_budget.as_u64());
        assert_eq!(budgets, [64 << 20, 4 << 10, 64 << 20]);
        assert_eq!([0, 1, 2].map(|index| config(&plan, index).memory.stripes), [16; 3]);
        assert_eq!([0, 2].map(|index| config(&plan, index).clock.offset.as_nanos()), [0, -2_000_000_000]);
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (args, words) in [
            (["--regions=a,b,a"], "a is named twice"),
            (["--regions=a,wan"], "wan is how the lab calls its WAN"),
            (["--wan=moon"], "--wan moon is neither a preset (lab, world, none) nor a file"),
            (["--clock-offset=mars=1s"], "there is no region mars; there are us-east, eu-west, ap-south"),
            (["--node-set=memory.maxmemry=1"], "maxmemry"),
            (["--node-set=memory.stripes=5"], "not a power of two"),
        ] {
            let error = plan(&args).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn file_of_a_wan_gives_links_and_the_lab_gives_routes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "control = \"127.0.0.1:1\"\nlinks = [{ from = \"a\", to = \"b\", delay_ms = 7, both_ways = true }]";
        std::fs::write(file.path(), text).unwrap();
        let wan = format!("--wan={}", file.path().display());
        let planned = plan(&["--regions=a,b", &wan]).unwrap();
        assert_eq!(planned.link("b", "a").unwrap().delay.ms(), 7.0);
        assert_ne!(planned.topology.control.port(), 1);
        assert!(plan(&["--regions=a,b,c", &wan]).unwrap_err().contains("needs link"), "a pair has no link");
    }
}
