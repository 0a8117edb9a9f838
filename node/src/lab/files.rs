//! What stands in the files of a lab's processes.
//!
//! They hold what the lab decides and leave the rest at its defaults. Each is checked as the process itself will check it, so
//! that a setting that cannot be is refused before anything starts.
//!
//! The nodes of a cluster name their peers and no addresses: gateways dial, and only they listen to other regions. All of a
//! region show the same certificate, on the bus and on links; elsewhere those are two, from two authorities.

use std::{fmt::Display, net::SocketAddr, path::Path};

use config::{GatewayConfig, NodeConfig, Report};
use sim_wan::topology::Topology;
use toml::{Table, Value};

use super::{
    args::LabArgs,
    plan::{GatewayPlan, NodePlan, RegionPlan, Shape, UsageError},
    ports::Layout,
};

/// What the plans of all regions go by.
pub(super) struct Planner<'a> {
    pub(super) args: &'a LabArgs,
    /// The regions, in the order of their numbers.
    pub(super) names: &'a [String],
    pub(super) shape: Shape,
    pub(super) layout: Layout,
    pub(super) topology: Option<&'a Topology>,
    pub(super) dir: &'a Path,
}

impl Planner<'_> {
    /// The region of this index.
    ///
    /// # Errors
    /// [`UsageError`] if what was asked for does not fit into a file.
    pub(super) fn region(&self, index: u16) -> Result<RegionPlan, UsageError> {
        let name = self.names[usize::from(index)].clone();
        let id = u8::try_from(index + 1).expect("limits::REGIONS fits");
        let (nodes, gateways) = (self.shape.nodes, self.shape.gateways);
        Ok(RegionPlan {
            nodes: (0..nodes).map(|number| self.node(&name, id, index * nodes, number)).collect::<Result<_, _>>()?,
            gateways: (0..gateways).map(|number| self.gateway(&name, id, number)).collect::<Result<_, _>>()?,
            name,
            id,
            replicas: self.args.replicas,
        })
    }

    /// A node of a region whose nodes begin at the `first` place of the ports.
    fn node(&self, region: &str, region_id: u8, first: u16, number: u16) -> Result<NodePlan, UsageError> {
        let (layout, is_cluster) = (self.layout, self.shape.is_cluster());
        let index = first + number;
        let id = format!("{region}-{}", number + 1);
        let name = if is_cluster { id.clone() } else { region.to_owned() };
        let (redis, admin) = (layout.redis(index), layout.admin(index));
        let gateway = (!is_cluster).then(|| layout.gateway(index));
        let bus = is_cluster.then(|| layout.bus(index));
        let mut file = File::of(region, region_id);
        file.set("node", "listen", text(redis));
        file.set("node", "admin", text(admin));
        file.set("node", "dir", text(format_args!("{name}.state")));
        if let Some(listen) = gateway {
            file.listen("gateway", listen, region);
        }
        if let Some(listen) = bus {
            file.listen("cluster", listen, region);
            // A former lab in the same folder may have had other ports.
            file.set("cluster", "seeds", self.buses(first, |other| other != index));
        }
        self.set_as_asked(&mut file, region);
        file.set_peers(self.peers(region, !is_cluster));
        let config = file.checked(&self.dir.join(format!("{name}.toml")), NodeConfig::parse)?;
        Ok(NodePlan { id, name, redis, admin, gateway, bus, config })
    }

    /// A gateway that is a process.
    fn gateway(&self, region: &str, region_id: u8, number: u16) -> Result<GatewayPlan, UsageError> {
        let (layout, Shape { nodes, gateways }) = (self.layout, self.shape);
        let region_index = u16::from(region_id) - 1;
        let index = region_index * gateways + number;
        let name = format!("{region}-gw-{}", number + 1);
        let (links, admin) = (layout.gateway(index), layout.gateway_admin(index));
        let mut file = File::of(region, region_id);
        file.set("gateway", "name", text(format_args!("gateway-{}", number + 1)));
        file.listen("gateway", links, region);
        file.listen("cluster", layout.gateway_bus(index), region);
        file.set("cluster", "seeds", self.buses(region_index * nodes, |_| true));
        file.set("admin", "listen", text(admin));
        self.set_clock(&mut file, region);
        file.set_peers(self.peers(region, true));
        let config = file.checked(&self.dir.join(format!("{name}.toml")), GatewayConfig::parse)?;
        Ok(GatewayPlan { name, links, admin, config })
    }

    /// The buses of a region's nodes, which begin at the `first` place of the ports.
    fn buses(&self, first: u16, is_wanted: impl Fn(u16) -> bool) -> Value {
        let places = (first..first + self.shape.nodes).filter(|place| is_wanted(*place));
        Value::Array(places.map(|place| text(self.layout.bus(place))).collect())
    }

    /// The other regions; for who dials them, with the routes that lead from here to their gateways.
    fn peers(&self, own: &str, are_dialled: bool) -> Vec<Value> {
        let others = self.names.iter().zip(1i64..).filter(|(name, _)| *name != own);
        let peer = |(name, id): (&String, i64)| {
            let mut peer = Table::new();
            peer.insert("region".to_owned(), text(name));
            peer.insert("id".to_owned(), Value::Integer(id));
            let routes = self.topology.into_iter().flat_map(|topology| &topology.routes);
            let routes = routes.filter(|route| route.from == own && route.to == *name);
            let mut addresses: Vec<_> = routes.map(|route| text(route.listen)).collect();
            if are_dialled {
                // A node takes no list.
                let only = (addresses.len() == 1).then(|| addresses.pop()).flatten();
                peer.insert("addr".to_owned(), only.unwrap_or(Value::Array(addresses)));
            }
            Value::Table(peer)
        };
        others.map(peer).collect()
    }

    /// What the command line says about the clocks of a region.
    fn set_clock(&self, file: &mut File, region: &str) {
        for offset in self.args.clock_offset.iter().filter(|offset| offset.region.as_str() == region) {
            file.set("clock", "offset", text(offset.offset));
        }
    }

    /// What the command line says about the nodes of a region.
    fn set_as_asked(&self, file: &mut File, region: &str) {
        self.set_clock(file, region);
        for setting in &self.args.node_set {
            if setting.region.as_ref().is_none_or(|of| of.as_str() == region) {
                file.set(&setting.section, &setting.key, setting.value.clone());
            }
        }
    }
}

/// The file of a process.
struct File(Table);

impl File {
    fn of(region: &str, id: u8) -> Self {
        let mut file = Self(Table::new());
        file.set("region", "name", text(region));
        file.set("region", "id", Value::Integer(id.into()));
        file
    }

    fn set(&mut self, section: &str, key: &str, value: Value) {
        let section = self.0.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Some(table) = section.as_table_mut() {
            table.insert(key.to_owned(), value);
        }
    }

    /// Where a section listens, and the certificates that it shows there.
    fn listen(&mut self, section: &str, address: SocketAddr, region: &str) {
        self.set(section, "listen", text(address));
        self.set(section, "cert", text(format_args!("certs/{region}.pem")));
        self.set(section, "key", text(format_args!("certs/{region}.key")));
        self.set(section, "ca", text("certs/ca.pem"));
    }

    fn set_peers(&mut self, peers: Vec<Value>) {
        if !peers.is_empty() {
            self.0.insert("peer".to_owned(), Value::Array(peers));
        }
    }

    /// Its text, if who will read it there finds nothing wrong with it.
    fn checked<T>(&self, path: &Path, parse: impl Fn(&str, &str) -> Result<T, Report>) -> Result<String, UsageError> {
        let text = toml::to_string(&self.0).map_err(UsageError::new)?;
        parse(&path.display().to_string(), &text).map_err(UsageError::new)?;
        Ok(text)
    }
}

fn text(value: impl Display) -> Value {
    Value::String(value.to_string())
}
