//! The regions, in the live view: their shards, who is the primary and who follows it, what they hold, and their gateways.
//!
//! There are two views of a region, one that names every node and one that is a line, for where there is less room. A region of
//! one node is the line in both.

use node_core::cluster::{ClusterMap, Health, NodeId, ShardId};

use super::{
    cluster,
    look::{GatewayStatus, Snapshot, Status},
    plan::{NodePlan, Plan, RegionPlan},
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
        let (nodes, statuses) = (&plan.regions.get(index)?.nodes[..], snapshot.nodes_of(plan, index));
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

/// All that there is to see of the regions.
pub(super) fn in_full(plan: &Plan, snapshot: &Snapshot) -> Vec<Line> {
    let mut lines = Vec::new();
    if plan.regions.iter().any(RegionPlan::is_cluster) {
        lines.extend(shards(plan, snapshot));
    } else {
        lines.extend(in_brief(plan, snapshot));
    }
    if plan.gateways().next().is_some() {
        lines.push(Line::default());
        lines.extend(gateways(plan, snapshot));
    }
    lines
}

/// The regions, one to a line.
pub(super) fn in_brief(plan: &Plan, snapshot: &Snapshot) -> Vec<Line> {
    let width = width(plan);
    let head = Line::default().left(Style::Dim, width, "  region").right(Style::Dim, 13, "keys");
    let mut head = head.right(Style::Dim, 12, "memory");
    if plan.regions.iter().any(RegionPlan::is_cluster) {
        head = head.right(Style::Dim, 9, "shards").right(Style::Dim, 11, "nodes up");
        head = head.right(Style::Dim, 14, "gateways up");
    }
    let lines = plan.regions.iter().enumerate().map(|(index, region)| {
        let row = Line::default().left(Style::Plain, width, &format!("  {}", region.name));
        let primaries = snapshot.primaries(plan, index);
        let answering: Vec<_> = primaries.iter().copied().flatten().collect();
        if answering.is_empty() {
            return row.with(Style::Bad, "     does not answer");
        }
        let keys: u64 = answering.iter().map(|status| status.keys).sum();
        let memory: u64 = answering.iter().map(|status| status.used_memory_bytes).sum();
        let mut row = row.right(Style::Plain, 13, &grouped(keys)).right(Style::Dim, 12, &bytes(memory));
        if region.is_cluster() {
            let (nodes, nodes_up) = (region.nodes.len(), up(snapshot.nodes_of(plan, index)));
            let (gateways, gateways_up) = (region.gateways.len(), up(snapshot.gateways_of(plan, index)));
            row = row.right(Style::Plain, 9, &primaries.len().to_string());
            row = row.right(style(nodes_up == nodes), 11, &format!("{nodes_up} of {nodes}"));
            row = row.right(style(gateways_up == gateways), 14, &format!("{gateways_up} of {gateways}"));
        }
        let is_complete = answering.iter().all(|status| status.complete);
        if is_complete { row } else { row.with(Style::Warn, "   being refilled") }
    });
    [head].into_iter().chain(lines).collect()
}

/// The shards of all regions that are clusters, one to a line.
fn shards(plan: &Plan, snapshot: &Snapshot) -> Vec<Line> {
    let width = width(plan);
    // With room for what may be wrong with a node.
    let node_width = plan.nodes().map(|node| node.name.len()).max().unwrap_or(0) + 10;
    let head = Line::default().left(Style::Dim, width, "  region").left(Style::Dim, 5, "shard");
    let head = head.right(Style::Dim, 9, "slots").right(Style::Dim, 13, "keys").with(Style::Plain, "   ");
    let mut lines = vec![head.left(Style::Dim, node_width, "primary").with(Style::Dim, "replicas")];
    for (index, plan_of_region) in plan.regions.iter().enumerate() {
        let name = format!("  {}", plan_of_region.name);
        let Some(region) = Region::of(plan, snapshot, index) else {
            let row = Line::default().left(Style::Plain, width, &name);
            lines.push(row.with(Style::Bad, "no node tells its map"));
            continue;
        };
        for (place, (shard, _)) in region.map.shards().enumerate() {
            let row = Line::default().left(Style::Plain, width, if place == 0 { &name } else { "" });
            lines.push(shard_line(row, &region, shard, node_width));
        }
        let moving = region.map.moves().len();
        if moving > 0 {
            let row = Line::default().left(Style::Plain, width, "");
            lines.push(row.with(Style::Warn, format!("{} slots are moving", grouped(moving as u64))));
        }
    }
    lines
}

fn shard_line(row: Line, region: &Region<'_>, shard: ShardId, width: usize) -> Line {
    let primary = region.primary(shard);
    let keys = primary.as_ref().and_then(|primary| Some(grouped(primary.status?.keys)));
    let (style, name) = primary.map_or_else(|| (Style::Dim, "elsewhere".to_owned()), |primary| primary.show());
    let slots = grouped(region.map.slots(shard).len() as u64);
    let row = row.left(Style::Plain, 5, &shard.to_string()).right(Style::Plain, 9, &slots);
    let row = row.right(Style::Plain, 13, keys.as_deref().unwrap_or("-"));
    let row = row.with(Style::Plain, "   ").left(style, width, &name);
    let replicas = region.map.replicas(shard).filter_map(|(id, _)| region.member(id));
    replicas.fold(row, |row, replica| {
        let (style, name) = replica.show();
        row.with(style, name).with(Style::Plain, "  ")
    })
}

/// The gateways that are processes, one to a line, with the streams that each carries.
fn gateways(plan: &Plan, snapshot: &Snapshot) -> Vec<Line> {
    let width = plan.gateways().map(|gateway| gateway.name.len()).max().unwrap_or(0) + 4;
    let head = Line::default().left(Style::Dim, width, "  gateway").right(Style::Dim, 13, "streams out");
    let mut lines = vec![head.right(Style::Dim, 5, "in").with(Style::Dim, "   state")];
    for (index, region) in plan.regions.iter().enumerate() {
        for (gateway, status) in region.gateways.iter().zip(snapshot.gateways_of(plan, index)) {
            let row = Line::default().left(Style::Plain, width, &format!("  {}", gateway.name));
            let (out, incoming, style, state) = carried(status.as_ref(), region.nodes.len());
            let row = row.right(Style::Plain, 13, &out).right(Style::Plain, 5, &incoming);
            lines.push(row.with(Style::Plain, "   ").with(style, state));
        }
    }
    lines
}

/// How many streams leave and arrive by a gateway, and how it is.
fn carried(status: Option<&GatewayStatus>, nodes: usize) -> (String, String, Style, String) {
    let Some(status) = status else { return ("-".to_owned(), "-".to_owned(), Style::Bad, "silent".to_owned()) };
    let attached = status.attached();
    let (style, state) = match attached < nodes {
        true => (Style::Warn, format!("up, known to {attached} of {nodes} nodes")),
        false => (Style::Good, "up".to_owned()),
    };
    (status.tunnels.streams.len().to_string(), status.arriving.len().to_string(), style, state)
}

/// A region in a few words.
pub(super) fn summary(plan: &Plan, snapshot: &Snapshot, index: usize) -> String {
    let region = &plan.regions[index];
    let name = region.name.as_str();
    let primaries = snapshot.primaries(plan, index);
    let answering: Vec<_> = primaries.iter().copied().flatten().collect();
    if answering.is_empty() {
        return format!("{name} silent");
    }
    let keys = grouped(answering.iter().map(|status| status.keys).sum());
    if !region.is_cluster() {
        return format!("{name} {keys} keys");
    }
    let (nodes, nodes_up) = (region.nodes.len(), up(snapshot.nodes_of(plan, index)));
    format!("{name} {} shards, {nodes_up} of {nodes} nodes, {keys} keys", primaries.len())
}

/// How many answer.
fn up<T>(statuses: &[Option<T>]) -> usize {
    statuses.iter().flatten().count()
}

const fn style(is_well: bool) -> Style {
    if is_well { Style::Plain } else { Style::Bad }
}

/// The width of the column of regions.
fn width(plan: &Plan) -> usize {
    plan.regions.iter().map(|region| region.name.len()).max().unwrap_or(0).max("region".len()) + 4
}

fn bytes(bytes: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB")];
    let (unit, name) = units.into_iter().find(|(unit, _)| bytes >= *unit).unwrap_or((1 << 10, "KiB"));
    format!("{:.1} {name}", bytes as f64 / unit as f64)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use node_core::cluster::{MapCommand, ShardId};

    use super::{Plan, Snapshot, bytes, cluster, in_brief, in_full, summary};
    use crate::lab::{
        LabArgs,
        look::{CalledNode, GatewayStatus, Status, Stream, Tunnels},
    };

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        lab: LabArgs,
    }

    /// Two regions of two shards with a replica each and a gateway, all well.
    fn example() -> (Plan, Snapshot) {
        let args = Cli::parse_from(["lab", "--regions=us-east,eu-west"]).lab;
        let plan = Plan::new(&args, Path::new("/lab")).unwrap();
        let status = |_| Some(Status { keys: 1_500, complete: true, used_memory_bytes: 1 << 20, ..Status::default() });
        let gateway = |_| {
            let nodes = [true, true, true, true].map(|attached| CalledNode { attached }).into();
            let (tunnels, arriving) = (Tunnels { streams: vec![Stream {}, Stream {}] }, vec![Stream {}]);
            Some(GatewayStatus { nodes, tunnels, arriving })
        };
        let maps = plan.regions.iter().map(|region| Some(cluster::tests::founded(region))).collect();
        let (nodes, gateways) = (plan.nodes().map(status).collect(), plan.gateways().map(gateway).collect());
        (plan, Snapshot { nodes, gateways, maps, ..Snapshot::default() })
    }

    fn print(lines: &[super::Line]) -> Vec<String> {
        lines.iter().map(|line| line.print(100, false)).collect()
    }

    #[test]
    fn shards_and_gateways_stand_with_their_regions() {
        let (plan, snapshot) = example();
        assert_eq!(
            print(&in_full(&plan, &snapshot)),
            [
                "  region   shard    slots         keys   primary            replicas",
                "  us-east  0        8,192        1,500   us-east-1          us-east-3",
                "           1        8,192        1,500   us-east-2          us-east-4",
                "  eu-west  0        8,192        1,500   eu-west-1          eu-west-3",
                "           1        8,192        1,500   eu-west-2          eu-west-4",
                "",
                "  gateway         streams out   in   state",
                "  us-east-gw-1              2    1   up",
                "  eu-west-gw-1              2    1   up",
            ]
        );
        assert_eq!(summary(&plan, &snapshot, 0), "us-east 2 shards, 4 of 4 nodes, 3,000 keys");
    }

    #[test]
    fn region_is_a_line_where_there_is_less_room() {
        let (plan, mut snapshot) = example();
        snapshot.nodes[7] = None;
        snapshot.gateways[0] = None;
        snapshot.nodes[0].as_mut().unwrap().complete = false;
        assert_eq!(
            print(&in_brief(&plan, &snapshot)),
            [
                "  region            keys      memory   shards   nodes up   gateways up",
                "  us-east          3,000     2.0 MiB        2     4 of 4        0 of 1   being refilled",
                "  eu-west          3,000     2.0 MiB        2     3 of 4        1 of 1",
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (plan, mut snapshot) = example();
        snapshot.nodes[1] = None;
        snapshot.nodes[2] = None;
        snapshot.gateways[0].as_mut().unwrap().nodes[3].attached = false;
        snapshot.gateways[1] = None;
        let map = snapshot.maps[0].as_mut().unwrap();
        let (primary, shard) = map.shard(ShardId(1)).map(|shard| (shard.primary, shard.run)).unwrap();
        map.apply(&MapCommand::Failed { node: primary, run: shard }).unwrap();
        let slots = map.slots(ShardId(0)).iter().take(5).collect();
        map.apply(&MapCommand::Move { slots, to: ShardId(1) }).unwrap();
        snapshot.maps[1] = None;
        assert_eq!(
            print(&in_full(&plan, &snapshot))[1..],
            [
                "  us-east  0        8,192        1,500   us-east-1          us-east-3 (silent)",
                "           1        8,192            -   us-east-2 (failed) us-east-4",
                "           5 slots are moving",
                "  eu-west  no node tells its map",
                "",
                "  gateway         streams out   in   state",
                "  us-east-gw-1              2    1   up, known to 3 of 4 nodes",
                "  eu-west-gw-1              -    -   silent",
            ]
        );
        assert_eq!(summary(&plan, &snapshot, 0), "us-east 2 shards, 2 of 4 nodes, 1,500 keys");
        assert_eq!(summary(&plan, &snapshot, 1), "eu-west silent");
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!([68, 1 << 20, 3 << 30].map(bytes), ["0.1 KiB", "1.0 MiB", "3.0 GiB"]);
    }
}
