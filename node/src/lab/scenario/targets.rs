//! Which processes a target names at this moment.

use anyhow::{Context, bail};
use node_core::cluster::{ClusterMap, NodeId};
use scenario::{Part, Target};

use super::{
    super::{
        cluster::{Cluster, node_at},
        plan::{NodePlan, Plan, RegionPlan},
    },
    run::Run,
};

/// A process of a lab.
#[derive(Clone, Copy, Debug)]
pub(super) enum Process<'a> {
    /// A node, and the place of its region.
    Node(usize, &'a NodePlan),
    /// A gateway.
    Gateway,
}

impl Process<'_> {
    /// What `meridian` calls it.
    pub(super) const fn subcommand(self) -> &'static str {
        match self {
            Self::Node(..) => "node",
            Self::Gateway => "gateway",
        }
    }
}

/// The process of a name.
pub(super) fn process<'a>(plan: &'a Plan, name: &str) -> Process<'a> {
    let nodes =
        plan.regions.iter().enumerate().flat_map(|(index, region)| region.nodes.iter().map(move |node| (index, node)));
    let node = nodes.into_iter().find(|(_, node)| node.name == name);
    node.map_or(Process::Gateway, |(region, node)| Process::Node(region, node))
}

/// The names of the processes of a target.
///
/// # Errors
/// If there is none, or nobody knows the map of the region.
pub(super) async fn resolve(run: &Run<'_>, target: &Target) -> anyhow::Result<Vec<String>> {
    let index = index_of(run.plan, target.region.as_str())?;
    let region = &run.plan.regions[index];
    let name = |name: Option<&String>| name.cloned().with_context(|| format!("there is no {target}"));
    let place = |number: std::num::NonZeroU16| usize::from(number.get()) - 1;
    Ok(match target.part {
        Part::All => {
            let gateways = region.gateways.iter().map(|gateway| &gateway.name);
            region.nodes.iter().map(|node| &node.name).chain(gateways).cloned().collect()
        }
        Part::Node(number) => vec![name(region.nodes.get(place(number)).map(|node| &node.name))?],
        Part::Gateway(number) => vec![name(region.gateways.get(place(number)).map(|gateway| &gateway.name))?],
        Part::Primary(number) => vec![name(primaries(run, index).await?.get(place(number)))?],
        Part::Replica(number) => vec![name(replicas(run, index).await?.get(place(number)))?],
    })
}

/// The place of a region among those of the plan.
pub(super) fn index_of(plan: &Plan, region: &str) -> anyhow::Result<usize> {
    let index = plan.regions.iter().position(|planned| planned.name == region);
    index.with_context(|| format!("there is no region {region}"))
}

/// The names of a region's primaries, in the order of their shards.
pub(super) async fn primaries(run: &Run<'_>, region: usize) -> anyhow::Result<Vec<String>> {
    let plan = &run.plan.regions[region];
    let Some(cluster) = &run.clusters[region] else { return Ok(vec![plan.nodes[0].name.clone()]) };
    let map = map(cluster, plan).await?;
    let primaries = map.shards().map(|(_, shard)| shard.primary);
    Ok(primaries.filter_map(|id| name_of(plan, &map, id)).collect())
}

/// The names of a region's replicas, in the order of their shards.
pub(super) async fn replicas(run: &Run<'_>, region: usize) -> anyhow::Result<Vec<String>> {
    Ok(shards(run, region).await?.into_iter().flat_map(|(_, replicas)| replicas).collect())
}

/// The shards of a region: who is the primary, and who are replicas.
pub(super) async fn shards(run: &Run<'_>, region: usize) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let plan = &run.plan.regions[region];
    let Some(cluster) = &run.clusters[region] else { return Ok(vec![(plan.nodes[0].name.clone(), Vec::new())]) };
    let map = map(cluster, plan).await?;
    let shard = |(id, shard): (_, &node_core::cluster::Shard)| {
        let replicas = map.replicas(id).filter_map(|(id, _)| name_of(plan, &map, id)).collect();
        Some((name_of(plan, &map, shard.primary)?, replicas))
    };
    Ok(map.shards().filter_map(shard).collect())
}

async fn map(cluster: &Cluster, plan: &RegionPlan) -> anyhow::Result<ClusterMap> {
    let Some(map) = cluster.map().await else { bail!("no node of {} tells its map", plan.name) };
    Ok(map)
}

fn name_of(plan: &RegionPlan, map: &ClusterMap, id: NodeId) -> Option<String> {
    let node = plan.nodes.iter().find(|node| node.bus.and_then(|bus| node_at(map, bus)) == Some(id))?;
    Some(node.name.clone())
}
