//! The one line of `--json`: what was started, and where it is.
//!
//! It is a contract with everybody who automates a lab: names and their order stand as in the design, and things are
//! added at most. A gateway that is embedded in a node stands among the gateways all the same, with the node's process and
//! id, so that whoever wants to cut off or kill a gateway finds it at the same place in every layout. The id of one that is a
//! process is what its files are called, as it is for the nodes of a cluster.

use std::net::SocketAddr;

use node_core::cluster::Role;
use serde::Serialize;

use super::{
    look::Snapshot,
    plan::{GatewayPlan, NodePlan, Plan},
};

/// The process ids of a lab.
#[derive(Debug)]
pub(super) struct Pids {
    /// Of the nodes, in the order of the plan.
    pub(super) nodes: Vec<u32>,
    /// Of the gateways that are processes, in the order of the plan.
    pub(super) gateways: Vec<u32>,
    /// Of the WAN, if there is one.
    pub(super) wan: Option<u32>,
}

/// The whole lab.
#[derive(Debug, Serialize)]
pub(super) struct Description<'a> {
    regions: Vec<Region<'a>>,
    /// Null if there is but one region.
    wan: Option<Wan>,
    /// Where it is, if the lab has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    prometheus: Option<SocketAddr>,
}

#[derive(Debug, Serialize)]
struct Region<'a> {
    name: &'a str,
    id: u8,
    nodes: Vec<Node>,
    gateways: Vec<Gateway>,
}

#[derive(Debug, Serialize)]
struct Node {
    id: String,
    role: &'static str,
    addr: SocketAddr,
    admin: SocketAddr,
    pid: u32,
}

#[derive(Debug, Serialize)]
struct Gateway {
    id: String,
    addr: SocketAddr,
    admin: SocketAddr,
    pid: u32,
}

#[derive(Debug, Serialize)]
struct Wan {
    control: SocketAddr,
    pid: u32,
}

impl<'a> Description<'a> {
    /// Describes a plan that was carried out; the roles are those of the snapshot.
    pub(super) fn new(plan: &'a Plan, pids: &Pids, snapshot: &Snapshot) -> Self {
        let mut pids_left = pids.nodes.iter().copied();
        let mut gateway_pids = pids.gateways.iter().copied();
        let regions = plan.regions.iter().enumerate().map(|(index, region)| {
            let nodes: Vec<_> = region.nodes.iter().zip(pids_left.by_ref().take(region.nodes.len())).collect();
            let gateways = region.gateways.iter().zip(gateway_pids.by_ref().take(region.gateways.len()));
            let inside = nodes.iter().filter_map(|&(node, pid)| Gateway::inside(node, pid));
            let role =
                |node: &NodePlan| if snapshot.role(index, node) == Role::Primary { "primary" } else { "replica" };
            Region {
                name: &region.name,
                id: region.id,
                nodes: nodes.iter().map(|&(node, pid)| Node::new(node, role(node), pid)).collect(),
                gateways: inside.chain(gateways.map(|(gateway, pid)| Gateway::new(gateway, pid))).collect(),
            }
        });
        let wan = plan.topology.as_ref().zip(pids.wan).map(|(topology, pid)| Wan { control: topology.control, pid });
        Self { regions: regions.collect(), wan, prometheus: plan.prometheus.map(|it| it.address) }
    }
}

impl Node {
    fn new(plan: &NodePlan, role: &'static str, pid: u32) -> Self {
        Self { id: plan.id.clone(), role, addr: plan.redis, admin: plan.admin, pid }
    }
}

impl Gateway {
    fn new(plan: &GatewayPlan, pid: u32) -> Self {
        Self { id: plan.name.clone(), addr: plan.links, admin: plan.admin, pid }
    }

    /// The gateway inside a node, if it has one.
    fn inside(plan: &NodePlan, pid: u32) -> Option<Self> {
        Some(Self { id: plan.id.clone(), addr: plan.gateway?, admin: plan.admin, pid })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::{Description, Pids, Plan, Snapshot};
    use crate::lab::{LabArgs, cluster::tests::founded};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        lab: LabArgs,
    }

    #[test]
    fn line_has_the_form_that_is_promised() {
        let args = Cli::parse_from(["lab", "--regions=a,b", "--primaries=1", "--replicas=0"]).lab;
        let plan = Plan::new(&args, Path::new("/lab")).unwrap();
        let pids = Pids { nodes: vec![11, 12], gateways: Vec::new(), wan: Some(13) };
        let line = serde_json::to_string(&Description::new(&plan, &pids, &Snapshot::default())).unwrap();
        let base = plan.regions[0].nodes[0].redis.port() - 1;
        let at = |offset: u16| format!("127.0.0.1:{}", base + offset);
        let region = |name: &str, id: u16| {
            let (pid, admin) = (10 + id, at(100 + id));
            format!(
                r#"{{"name":"{name}","id":{id},"nodes":[{{"id":"{name}-1","role":"primary","addr":"{}","admin":"{admin}","pid":{pid}}}],"gateways":[{{"id":"{name}-1","addr":"{}","admin":"{admin}","pid":{pid}}}]}}"#,
                at(id),
                at(200 + id),
            )
        };
        let wan = format!(r#"{{"control":"{}","pid":13}}"#, at(300));
        assert_eq!(line, format!(r#"{{"regions":[{},{}],"wan":{wan}}}"#, region("a", 1), region("b", 2)));
    }

    #[test]
    fn every_node_of_a_cluster_is_listed_with_its_role() {
        let args = Cli::parse_from(["lab", "--regions=a", "--primaries=2", "--replicas=1"]).lab;
        let plan = Plan::new(&args, Path::new("/lab")).unwrap();
        let snapshot = Snapshot { maps: vec![Some(founded(&plan.regions[0]))], ..Snapshot::default() };
        let pids = Pids { nodes: vec![11, 12, 13, 14], gateways: Vec::new(), wan: None };
        let described = serde_json::to_value(Description::new(&plan, &pids, &snapshot)).unwrap();
        let region = &described["regions"][0];
        assert_eq!((&described["wan"], &region["gateways"]), (&serde_json::Value::Null, &serde_json::json!([])));
        let nodes: Vec<_> = region["nodes"].as_array().unwrap().iter().collect();
        let roles: Vec<_> = nodes.iter().map(|node| node["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["primary", "primary", "replica", "replica"]);
        assert_eq!((&nodes[3]["id"], &nodes[3]["pid"]), (&"a-4".into(), &14.into()));
    }

    #[test]
    fn gateways_that_are_processes_are_listed_as_such() {
        let args = Cli::parse_from(["lab", "--regions=a,b", "--gateways=2"]).lab;
        let plan = Plan::new(&args, Path::new("/lab")).unwrap();
        let pids = Pids { nodes: (11..19).collect(), gateways: (21..25).collect(), wan: Some(31) };
        let described = serde_json::to_value(Description::new(&plan, &pids, &Snapshot::default())).unwrap();
        let base = plan.regions[0].nodes[0].redis.port() - 1;
        let at = |offset: u16| format!("127.0.0.1:{}", base + offset);
        for (region, first) in [(0, 1), (1, 3)] {
            let name = &plan.regions[region].name;
            let gateway = |number: u16| {
                let (place, id) = (first + number - 1, format!("{name}-gw-{number}"));
                serde_json::json!({ "id": id, "addr": at(200 + place), "admin": at(900 + place), "pid": 20 + place })
            };
            assert_eq!(described["regions"][region]["gateways"], serde_json::json!([gateway(1), gateway(2)]));
        }
    }
}
