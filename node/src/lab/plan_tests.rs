//! What stands in the plan of a lab, and what is refused.

use std::path::Path;

use clap::Parser;
use config::{GatewayConfig, NodeConfig};

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

/// Of regions of one node each.
fn plan_of_one_node(args: &[&str]) -> Result<Plan, String> {
    plan(&[&["--primaries=1", "--replicas=0"], args].concat())
}

fn config(plan: &Plan, index: usize) -> NodeConfig {
    NodeConfig::parse("/lab/node.toml", &plan.regions[index].nodes[0].config).unwrap()
}

#[test]
fn every_region_dials_every_other_through_the_wan() {
    let plan = plan_of_one_node(&[]).unwrap();
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
        (["--regions=a,wan"], "wan is how the lab calls a process of its own"),
        (["--regions=prometheus,a"], "prometheus is how the lab calls a process of its own"),
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
fn layouts_that_cannot_be_are_refused_with_what_can() {
    for (args, words) in [
        (&["--regions=a", "--primaries=50"][..], "at most 99 nodes, not 100"),
        (&["--regions=a,b,c", "--primaries=17"], "at most 99 nodes, not 102"),
        (&["--gateways=34"], "at most 99 gateways, not 102"),
        (&["--regions=a,b,c,d,e,f,g,h", "--primaries=2", "--replicas=0", "--gateways=7"], "would take 392"),
        (&["--regions=a", "--primaries=1", "--replicas=0"], "a single region must have several nodes"),
        (&["--regions=a", "--gateways=1"], "gateways join regions, and there is but one"),
        (&["--gateways=0"], "the gateways of a region of 4 nodes are processes of their own"),
        (&["--primaries=1", "--replicas=0", "--gateways=1"], "runs inside it: give --gateways embedded"),
    ] {
        let error = plan(args).unwrap_err();
        assert!(error.contains(words), "{args:?}: {error}");
    }
    for args in [&["--regions=a", "--gateways=0"][..], &["--primaries=1", "--replicas=0", "--gateways=0"]] {
        assert_eq!(plan(args).unwrap().gateways().count(), 0);
    }
}

#[test]
fn gateways_stand_between_clusters_and_the_wan_between_gateways() {
    let plan = plan(&["--gateways=2"]).unwrap();
    let routes = &plan.topology.as_ref().unwrap().routes;
    assert_eq!((routes.len(), plan.nodes().count(), plan.gateways().count()), (3 * 2 * 2, 3 * 4, 3 * 2));
    let parsed = |text: &str| GatewayConfig::parse("/lab/gateway.toml", text).unwrap();
    for (from, to) in plan.pairs() {
        let (source, target) = (&plan.regions[from], &plan.regions[to]);
        for (gateway, number) in source.gateways.iter().zip(1..) {
            let config = parsed(&gateway.config);
            assert_eq!(gateway.name, format!("{}-gw-{number}", source.name));
            assert_eq!(config.gateway.name.to_string(), format!("gateway-{number}"));
            assert_eq!(config.gateway.listen.address(), Some(gateway.links));
            let seeds: Vec<_> = config.cluster.seeds.iter().map(ToString::to_string).collect();
            assert_eq!(seeds, source.nodes.iter().map(|node| node.bus.unwrap().to_string()).collect::<Vec<_>>());
            let peer = config.peers.iter().find(|peer| peer.region.as_str() == target.name).unwrap();
            assert_eq!(peer.id.number(), target.id);
            let leads_to = |addr: String| {
                let route = routes.iter().find(|route| route.listen.to_string() == addr).unwrap();
                assert_eq!((&route.from, &route.to), (&source.name, &target.name));
                route.target.to_string()
            };
            let reached: Vec<_> = peer.addr.iter().map(|addr| leads_to(addr.to_string())).collect();
            assert_eq!(reached, target.gateways.iter().map(|gateway| gateway.links.to_string()).collect::<Vec<_>>());
        }
        let node = config(&plan, from);
        assert!(node.peers.iter().all(|peer| peer.addr.is_empty()) && node.peers.len() == 2);
        assert!(!node.gateway.listen.is_on());
    }
    let base = plan.regions[0].nodes[0].redis.port() - 1;
    for (gateway, number) in plan.gateways().zip(1..) {
        let bus = parsed(&gateway.config).cluster.listen.address().unwrap();
        assert_eq!(
            [gateway.links, bus, gateway.admin].map(|at| at.port() - base),
            [200 + number, 800 + number, 900 + number]
        );
    }
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
