//! The one line of `--json`: what was started, and where it is.
//!
//! It is a contract with everybody who automates a lab: names and their order stand as in the design, and things are
//! added at most. A gateway that is embedded in a node stands among the gateways all the same, with the node's process,
//! so that whoever wants to cut off or kill a gateway finds it at the same place in every layout.

use std::net::SocketAddr;

use serde::Serialize;

use super::plan::{Plan, RegionPlan};

/// The process ids of a lab.
#[derive(Debug)]
pub(super) struct Pids {
    /// Of the nodes, in the order of the regions.
    pub(super) nodes: Vec<u32>,
    /// Of the WAN.
    pub(super) wan: u32,
}

/// The whole lab.
#[derive(Debug, Serialize)]
pub(super) struct Description<'a> {
    regions: Vec<Region<'a>>,
    wan: Wan,
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
    /// Describes a plan that was carried out.
    pub(super) fn new(plan: &'a Plan, pids: &Pids) -> Self {
        let regions = plan.regions.iter().zip(&pids.nodes).map(|(region, &pid)| Region::new(region, pid));
        Self { regions: regions.collect(), wan: Wan { control: plan.topology.control, pid: pids.wan } }
    }
}

impl<'a> Region<'a> {
    fn new(region: &'a RegionPlan, pid: u32) -> Self {
        let &RegionPlan { ref name, id, redis, admin, gateway, .. } = region;
        let process = format!("{name}-1");
        let node = Node { id: process.clone(), role: "primary", addr: redis, admin, pid };
        let gateway = Gateway { id: process, addr: gateway, admin, pid };
        Self { name, id, nodes: vec![node], gateways: vec![gateway] }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::{Description, Pids, Plan};
    use crate::lab::LabArgs;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        lab: LabArgs,
    }

    #[test]
    fn line_has_the_form_that_is_promised() {
        let args = Cli::parse_from(["lab", "--regions=a,b"]).lab;
        let plan = Plan::new(&args, Path::new("/lab")).unwrap();
        let line = serde_json::to_string(&Description::new(&plan, &Pids { nodes: vec![11, 12], wan: 13 })).unwrap();
        let base = plan.regions[0].redis.port() - 1;
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
}
