//! What stands in the plan of a lab, and what is refused.

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
    NodeConfig::parse("/lab/node.toml", &plan.regions[index].nodes[0].config).unwrap()
}

#[test]
fn every_region_dials_every_other_through_the_wan() {
    let plan = plan(&[]).unwrap();
    let routes = &plan.topology.as_ref().unwrap().routes;
    assert_eq!(routes.len(), 6);
    for (from, to) in plan.pairs() {
        let (source, target) = (&plan.regions[from], &plan.regions[to]);
        let config = config(&plan, from);
        let peer = config.peers.iter().find(|peer| peer.region.as_str() == target.name).unwrap();
        assert_eq!(peer.id.number(), target.id);
        let route =
            routes.iter().find(|route| route.listen.to_string() == peer.addr.single().unwrap().to_string()).unwrap();
        assert_eq!((&route.from, &route.to), (&source.name, &target.name));
        assert_eq!(route.target.as_str(), target.nodes[0].gateway.unwrap().to_string());
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
    for (args, words) in [
        (["--regions=a,b", "--primaries=2"], "regions of 2 nodes cannot be linked yet, and 2 were asked for"),
        (["--regions=a,b", "--replicas=1"], "regions of 2 nodes cannot be linked yet"),
        (["--regions=a", "--primaries=1"], "a single one must have several nodes"),
    ] {
        let error = plan(&args).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let error = plan(&["--regions=a", "--primaries=50", "--replicas=1"]).unwrap_err();
    assert!(error.contains("at most 99 nodes, not 100"), "{error}");
}

#[test]
fn nodes_of_a_cluster_have_a_bus_and_files_of_their_own() {
    let plan = plan(&["--regions=us-east", "--primaries=2", "--replicas=1"]).unwrap();
    let [region] = &plan.regions[..] else { panic!("one region") };
    assert!(plan.topology.is_none() && region.is_cluster() && region.replicas == 1);
    let names: Vec<_> = region.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["us-east-1", "us-east-2", "us-east-3", "us-east-4"]);
    let base = region.nodes[0].redis.port() - 1;
    for (node, number) in region.nodes.iter().zip(1..) {
        let config = NodeConfig::parse("/lab/node.toml", &node.config).unwrap();
        assert_eq!(config.region.name.as_str(), "us-east");
        assert_eq!(config.cluster.listen.address(), node.bus);
        let seeds: Vec<_> = config.cluster.seeds.iter().map(ToString::to_string).collect();
        let others = region.nodes.iter().filter(|other| other.bus != node.bus);
        assert_eq!(seeds, others.map(|other| other.bus.unwrap().to_string()).collect::<Vec<_>>());
        assert_eq!(
            [node.redis, node.admin, node.bus.unwrap()].map(|at| at.port() - base),
            [number, 100 + number, 700 + number]
        );
        assert!(config.cluster.files().is_some() && config.node.dir.unwrap().ends_with(format!("{}.state", node.name)));
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
    assert_ne!(planned.topology.as_ref().unwrap().control.port(), 1);
    assert!(plan(&["--regions=a,b,c", &wan]).unwrap_err().contains("needs link"), "a pair has no link");
}
