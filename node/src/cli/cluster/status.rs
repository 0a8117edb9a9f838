//! `meridian cluster status`: who is there, who holds what, and what is moving.
//!
//! The map is one node's, and says what the cluster has agreed on; how many keys there are, and whether somebody answers at
//! this moment, is asked of each node. So a node can be up by the map and silent to the operator: both are shown.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Args;
use futures_util::future::join_all;
use node_core::{
    cluster::{ClusterMap, Health, NodeId, Role, ShardId, control::Introduction},
    slot::Slot,
};
use serde_json::{Value, json};

use super::{connection::NodeArgs, operator::Operator, output::Output, table};
use crate::terminal::{Line, Style, grouped};

/// Show the nodes, their slots and their health
///
/// Shows the shards with their nodes, slots, keys and health, the moves that are under way, and the epoch of the map.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print it as one line of JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub(super) node: NodeArgs,
}

pub(super) async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let (caller, node) = args.node.caller()?;
    let operator = Operator::join(caller, node).await?;
    let outcome = status(&operator, &mut Output::new(args.json)).await;
    operator.hang_up().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Who answered, by node.
type Answers = BTreeMap<NodeId, Option<Introduction>>;

pub(super) async fn status(operator: &Operator, output: &mut Output) -> anyhow::Result<()> {
    let map = operator.map();
    let asked = map
        .nodes()
        .map(|(id, node)| async move { (id, operator.caller().introduction(&node.addresses.bus()).await.ok()) });
    let answers: Answers = join_all(asked).await.into_iter().collect();
    Ok(output.table(&lines(map, &answers), &json(map, &answers))?)
}

/// The nodes of a shard, its primary first.
fn members(map: &ClusterMap, shard: ShardId) -> impl Iterator<Item = NodeId> {
    let primary = map.shard(shard).map(|shard| shard.primary);
    primary.into_iter().chain(map.replicas(shard).map(|(id, _)| id))
}

fn lines(map: &ClusterMap, answers: &Answers) -> Vec<Line> {
    let region = answers.values().flatten().map(|answer| format!("region {} ({})", answer.region, answer.region_id));
    let region = region.into_iter().next().unwrap_or_else(|| "a region".to_owned());
    let [shards, nodes] = [map.shards().len(), map.nodes().len()];
    let [shards, nodes] = [table::count(shards, "shard", "shards"), table::count(nodes, "node", "nodes")];
    let head = format!("Cluster of {region}: {shards}, {nodes}, epoch {}", map.epoch());
    let columns = table::head().right(Style::Dim, 13, "keys").with(Style::Dim, "   health");
    let mut lines = vec![Line::default().with(Style::Bold, head), Line::default(), columns];
    for (shard, _) in map.shards() {
        lines.extend(members(map, shard).filter_map(|node| node_line(map, answers, node)));
    }
    lines.push(Line::default());
    let moving = moving(map);
    if moving.is_empty() {
        lines.push(Line::default().with(Style::Dim, "No slot is moving."));
    }
    lines.extend(moving.iter().map(|((from, to), count)| {
        let text = format!("{} of shard {from} are moving to shard {to}.", grouped(*count as u64));
        Line::default().with(Style::Warn, text)
    }));
    lines
}

fn node_line(map: &ClusterMap, answers: &Answers, id: NodeId) -> Option<Line> {
    let node = map.node(id)?;
    let is_primary = map.role(id) == Some(Role::Primary);
    let shard = if is_primary { node.shard.to_string() } else { String::new() };
    let line = table::row(&shard, if is_primary { "primary" } else { "replica" }, id, &node.addresses);
    let slots = if is_primary { grouped(map.slots(node.shard).len() as u64) } else { String::new() };
    let answer = answers.get(&id).and_then(Option::as_ref);
    let keys = answer.map_or_else(|| "-".to_owned(), |answer| grouped(answer.keys));
    let (style, health) = match (node.health, answer) {
        (Health::Up, Some(_)) => (Style::Good, "up"),
        (Health::Up, None) => (Style::Warn, "up, but does not answer here"),
        (Health::Failed, _) => (Style::Bad, "failed"),
    };
    Some(
        line.right(Style::Plain, 8, &slots)
            .right(Style::Plain, 13, &keys)
            .with(Style::Plain, "   ")
            .with(style, health),
    )
}

/// How many slots move, by owner and target.
fn moving(map: &ClusterMap) -> BTreeMap<(ShardId, ShardId), usize> {
    let mut moving = BTreeMap::new();
    for (slot, to) in map.moves() {
        if let Some(from) = map.owner(slot) {
            *moving.entry((from, to)).or_default() += 1;
        }
    }
    moving
}

fn json(map: &ClusterMap, answers: &Answers) -> Value {
    let node = |id: NodeId| {
        let (node, answer) = (map.node(id)?, answers.get(&id).and_then(Option::as_ref));
        let mut json = table::node_json(id, &node.addresses);
        json["role"] = (if map.role(id) == Some(Role::Primary) { "primary" } else { "replica" }).into();
        json["health"] = (if node.health == Health::Up { "up" } else { "failed" }).into();
        json["answers"] = answer.is_some().into();
        json["keys"] = answer.map(|answer| answer.keys).into();
        Some(json)
    };
    let shards = map.shards().map(|(id, shard)| {
        let (slots, nodes) = (map.slots(id), members(map, id).filter_map(node).collect::<Vec<_>>());
        json!({
            "shard": id.0, "label": shard.label.to_string(), "weight": shard.weight,
            "slots": slots.to_string(), "slot_count": slots.len(), "nodes": nodes,
        })
    });
    let moves =
        moving(map).into_iter().map(|((from, to), count)| json!({ "from": from.0, "to": to.0, "count": count }));
    let region = answers.values().flatten().next();
    json!({
        "epoch": map.epoch().0,
        "region": region.map(|answer| json!({ "name": answer.region, "id": answer.region_id })),
        "is_covered": Slot::all().all(|slot| map.owner(slot).is_some()),
        "shards": shards.collect::<Vec<_>>(),
        "moves": moves.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use node_core::cluster::{MapCommand, ShardId};

    use super::{Answers, lines};
    use crate::cli::cluster::tests::{cluster, founder, introduction};

    #[test]
    fn a_person_sees_who_holds_what_and_who_is_silent() {
        let mut map = cluster(2, 1);
        let slots = map.slots(ShardId(0)).iter().take(3).collect();
        map.apply(&MapCommand::Move { slots, to: ShardId(1) }).unwrap();
        let failed = founder(3, "127.0.0.1");
        map.apply(&MapCommand::Failed { node: failed.id, run: failed.run }).unwrap();
        let mut answers: Answers =
            (0..3).map(|index| (founder(index, "127.0.0.1").id, Some(introduction(index, 1_200)))).collect();
        answers.insert(founder(2, "127.0.0.1").id, None);
        let printed: Vec<_> = lines(&map, &answers).iter().map(|line| line.print(120, false)).collect();
        assert_eq!(
            printed,
            [
                "Cluster of region us-east (1): 2 shards, 4 nodes, epoch 3",
                "",
                "  shard role     node      redis                     slots         keys   health",
                "  0     primary  aaaa0000  127.0.0.1:7000            8,192        1,200   up",
                "        replica  aaaa0202  127.0.0.1:7002                             -   up, but does not answer here",
                "  1     primary  aaaa0101  127.0.0.1:7001            8,192        1,200   up",
                "        replica  aaaa0303  127.0.0.1:7003                             -   failed",
                "",
                "3 of shard 0 are moving to shard 1.",
            ]
        );
    }
}
