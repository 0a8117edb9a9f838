//! The shards of a region, in the live view: who is the primary, who follows it, and what they hold.

use node_core::cluster::{ClusterMap, Health, NodeId, ShardId};

use super::{
    cluster,
    look::{Snapshot, Status},
    plan::{NodePlan, Plan},
};
use crate::terminal::{Line, Style, grouped};

/// A node, by the map and by what it says itself.
struct Member<'a> {
    name: &'a str,
    health: Health,
    status: Option<&'a Status>,
}

impl Member<'_> {
    /// Its name, and what is wrong with it.
    fn show(&self) -> (Style, String) {
        match (self.health, self.status) {
            (Health::Failed, _) => (Style::Bad, format!("{} (failed)", self.name)),
            (Health::Up, None) => (Style::Warn, format!("{} (silent)", self.name)),
            (Health::Up, Some(_)) => (Style::Plain, self.name.to_owned()),
        }
    }
}

/// One region's part of what is known.
struct Region<'a> {
    nodes: &'a [NodePlan],
    statuses: &'a [Option<Status>],
    map: &'a ClusterMap,
}

impl<'a> Region<'a> {
    fn of(plan: &'a Plan, snapshot: &'a Snapshot, index: usize) -> Option<Self> {
        let nodes = &plan.regions.get(index)?.nodes[..];
        let first = plan.first_node(index);
        let statuses = snapshot.nodes.get(first..first + nodes.len())?;
        Some(Self { nodes, statuses, map: snapshot.maps.get(index)?.as_ref()? })
    }

    /// A node of the map; one that is not of this lab has no name here.
    fn member(&self, id: NodeId) -> Option<Member<'a>> {
        let is_it = |node: &NodePlan| node.bus.and_then(|bus| cluster::node_at(self.map, bus)) == Some(id);
        let place = self.nodes.iter().position(is_it)?;
        let (health, status) = (self.map.node(id)?.health, self.statuses[place].as_ref());
        Some(Member { name: &self.nodes[place].name, health, status })
    }

    fn primary(&self, shard: ShardId) -> Option<Member<'a>> {
        self.member(self.map.shard(shard)?.primary)
    }
}

/// The shards of a region, one to a line.
pub(super) fn lines(plan: &Plan, snapshot: &Snapshot, index: usize) -> Vec<Line> {
    let name = plan.regions[index].name.as_str();
    let Some(region) = Region::of(plan, snapshot, index) else {
        return vec![Line::default().with(Style::Bad, format!("  no node of {name} tells its map"))];
    };
    // With room for what may be wrong with a node.
    let width = region.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0) + 10;
    let head =
        Line::default().left(Style::Dim, 9, "  shard").right(Style::Dim, 8, "slots").right(Style::Dim, 13, "keys");
    let head = head.with(Style::Plain, "   ").left(Style::Dim, width, "primary").with(Style::Dim, "replicas");
    let mut lines = vec![head];
    lines.extend(region.map.shards().map(|(shard, _)| shard_line(&region, shard, width)));
    let moving = region.map.moves().len();
    if moving > 0 {
        lines.push(Line::default().with(Style::Warn, format!("  {} slots are moving", grouped(moving as u64))));
    }
    lines
}

fn shard_line(region: &Region<'_>, shard: ShardId, width: usize) -> Line {
    let primary = region.primary(shard);
    let keys = primary.as_ref().and_then(|primary| Some(grouped(primary.status?.keys)));
    let (style, name) = primary.map_or_else(|| (Style::Dim, "elsewhere".to_owned()), |primary| primary.show());
    let slots = grouped(region.map.slots(shard).len() as u64);
    let line = Line::default().left(Style::Plain, 9, &format!("  {shard}")).right(Style::Plain, 8, &slots);
    let line = line.right(Style::Plain, 13, keys.as_deref().unwrap_or("-"));
    let line = line.with(Style::Plain, "   ").left(style, width, &name);
    let replicas = region.map.replicas(shard).filter_map(|(id, _)| region.member(id));
    replicas.fold(line, |line, replica| {
        let (style, name) = replica.show();
        line.with(style, name).with(Style::Plain, "  ")
    })
}

/// A region in a few words.
pub(super) fn summary(plan: &Plan, snapshot: &Snapshot, index: usize) -> String {
    let name = plan.regions[index].name.as_str();
    let Some(region) = Region::of(plan, snapshot, index) else { return format!("{name} silent") };
    let up = region.nodes.iter().zip(region.statuses).filter(|(_, status)| status.is_some()).count();
    let primaries = region.map.shards().filter_map(|(shard, _)| region.primary(shard)?.status);
    let keys: u64 = primaries.map(|status| status.keys).sum();
    let (shards, nodes) = (region.map.shards().len(), region.nodes.len());
    format!("{name} {shards} shards, {up} of {nodes} nodes, {} keys", grouped(keys))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use node_core::cluster::{MapCommand, ShardId};

    use super::{Plan, Snapshot, cluster, lines, summary};
    use crate::lab::{LabArgs, look::Status};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        lab: LabArgs,
    }

    /// Two shards with a replica each, all well.
    fn example() -> (Plan, Snapshot) {
        let args = Cli::parse_from(["lab", "--regions=us-east", "--primaries=2", "--replicas=1"]).lab;
        let plan = Plan::new(&args, Path::new("/lab")).unwrap();
        let nodes = plan.nodes().map(|_| Some(Status { keys: 1_500, ..Status::default() })).collect();
        let maps = vec![Some(cluster::tests::founded(&plan.regions[0]))];
        (plan, Snapshot { nodes, maps, wan: None })
    }

    fn print(plan: &Plan, snapshot: &Snapshot) -> Vec<String> {
        lines(plan, snapshot, 0).iter().map(|line| line.print(100, false)).collect()
    }

    #[test]
    fn shards_stand_with_their_nodes() {
        let (plan, snapshot) = example();
        assert_eq!(
            print(&plan, &snapshot),
            [
                "  shard     slots         keys   primary            replicas",
                "  0         8,192        1,500   us-east-1          us-east-3",
                "  1         8,192        1,500   us-east-2          us-east-4",
            ]
        );
        assert_eq!(summary(&plan, &snapshot, 0), "us-east 2 shards, 4 of 4 nodes, 3,000 keys");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (plan, mut snapshot) = example();
        snapshot.nodes[1] = None;
        snapshot.nodes[2] = None;
        let map = snapshot.maps[0].as_mut().unwrap();
        let (primary, shard) = map.shard(ShardId(1)).map(|shard| (shard.primary, shard.run)).unwrap();
        map.apply(&MapCommand::Failed { node: primary, run: shard }).unwrap();
        let slots = map.slots(ShardId(0)).iter().take(5).collect();
        map.apply(&MapCommand::Move { slots, to: ShardId(1) }).unwrap();
        assert_eq!(
            print(&plan, &snapshot)[1..],
            [
                "  0         8,192        1,500   us-east-1          us-east-3 (silent)",
                "  1         8,192            -   us-east-2 (failed) us-east-4",
                "  5 slots are moving",
            ]
        );
        snapshot.maps = vec![None];
        assert_eq!(print(&plan, &snapshot), ["  no node of us-east tells its map"]);
        assert_eq!(summary(&plan, &snapshot, 0), "us-east silent");
    }
}
