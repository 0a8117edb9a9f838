//! `meridian cluster remove-node`: a node leaves for good.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Args;
use node_core::{
    cluster::{
        ClusterMap, MapCommand, NodeId, Refused, Role, ShardId,
        placement::{Share, Step},
    },
    slot::SlotSet,
};
use serde_json::json;

use super::{
    UsageError,
    connection::{NodeArgs, OperateError},
    moves::{self, Pace},
    operator::Operator,
    output::{ChangeArgs, Consent, Output, Plan},
    rebalance::{self, PlanError},
    table,
};
use crate::terminal::{Line, Style};

/// Remove a node; a primary gives its slots away first
///
/// A replica leaves at once. A primary first gives its slots to the other shards; if it has replicas, they leave with it, which
/// --with-replicas must agree to. The node itself goes on running, and answers no client any more: stop it afterwards.
#[derive(Debug, Args)]
pub(crate) struct RemoveNodeArgs {
    /// The node: its id, the beginning of that, or its address
    #[arg(value_name = "NODE")]
    remove: String,

    /// Remove the replicas of a primary with it
    #[arg(long)]
    with_replicas: bool,

    #[command(flatten)]
    change: ChangeArgs,

    #[command(flatten)]
    node: NodeArgs,
}

/// What a removal comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Removal {
    /// What moves first.
    pub(super) steps: Vec<Step>,
    /// Who leaves then, in this order.
    pub(super) nodes: Vec<NodeId>,
}

/// Why a node cannot leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RemovalError {
    /// It has replicas.
    #[error("node {node} is a primary with {}; remove them with it (--with-replicas), or make one of them the primary first (`meridian cluster failover`)", table::count(*.replicas, "replica", "replicas"))]
    Replicas {
        /// The node.
        node: NodeId,
        /// How many.
        replicas: usize,
    },
    /// There is no other shard.
    #[error("shard {0} is the only one: nobody could take its slots")]
    OnlyShard(ShardId),
    /// The slots cannot move.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// What has to happen for a node to leave.
pub(super) fn plan(map: &ClusterMap, node: NodeId, with_replicas: bool) -> Result<Removal, RemovalError> {
    let Some((leaving, _)) = map.shard_of(node).filter(|_| map.role(node) == Some(Role::Primary)) else {
        return Ok(Removal { steps: Vec::new(), nodes: vec![node] });
    };
    let mut nodes: Vec<_> = map.replicas(leaving).map(|(id, _)| id).collect();
    if !nodes.is_empty() && !with_replicas {
        return Err(RemovalError::Replicas { node, replicas: nodes.len() });
    }
    nodes.push(node);
    let others = map.shards().filter(|(id, _)| *id != leaving);
    let shares: Vec<_> = others.map(|(shard, known)| Share { shard, weight: known.weight }).collect();
    if shares.is_empty() {
        return Err(RemovalError::OnlyShard(leaving));
    }
    // The others give each other nothing: that would be a rebalancing, which nobody has asked for.
    let holds = |step: &Step| step.from == leaving;
    let mut steps: Vec<_> = rebalance::steps(map, &shares)?.into_iter().filter(holds).collect();
    steps.extend(under_way(map, leaving));
    Ok(Removal { steps, nodes })
}

/// What is leaving a shard already. It has to arrive as well, wherever it goes.
fn under_way(map: &ClusterMap, from: ShardId) -> impl Iterator<Item = Step> {
    let mut moving: BTreeMap<ShardId, SlotSet> = BTreeMap::new();
    for (slot, to) in map.moves().filter(|(slot, _)| map.owner(*slot) == Some(from)) {
        moving.entry(to).or_default().insert(slot);
    }
    moving.into_iter().map(move |(to, slots)| Step { slots, from, to })
}

pub(super) async fn run(args: RemoveNodeArgs) -> anyhow::Result<ExitCode> {
    let (caller, node) = args.node.caller()?;
    let (mut output, consent) = (args.change.output(), args.change.consent());
    let mut operator = Operator::join(caller, node).await?;
    let outcome = remove(&args, &mut operator, &mut output, consent, Pace::ORDINARY).await;
    operator.hang_up().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

pub(super) async fn remove(
    args: &RemoveNodeArgs,
    operator: &mut Operator,
    output: &mut Output,
    consent: Consent,
    pace: Pace,
) -> anyhow::Result<()> {
    let node = table::find(operator.map(), &args.remove).map_err(UsageError::new)?;
    let has_failed = |error: &RemovalError| matches!(error, RemovalError::Plan(PlanError::Failed { .. }));
    let planned = operator.plan(|map| plan(map, node, args.with_replicas), has_failed).await??;
    if !output.agree(&show(operator.map(), &planned), consent)? {
        return Ok(());
    }
    moves::carry_out(operator, &planned.steps, output, pace).await?;
    operator.turn_from(&planned.nodes);
    for node in &planned.nodes {
        match operator.change(&MapCommand::RemoveNode { node: *node }).await {
            // If the answer was lost, whether all know of it shows below.
            Ok(()) | Err(OperateError::Unknown { .. } | OperateError::Refused(Refused::UnknownNode(_))) => {}
            Err(error) => return Err(error.into()),
        }
    }
    operator.refresh().await?;
    let gone = |map: &ClusterMap| planned.nodes.iter().all(|node| map.node(*node).is_none());
    let told = |known, of| _ = output.progress("nodes that know of it", known, of);
    operator.until_known(gone, told).await?;
    let text = format!("{} removed.", table::count(planned.nodes.len(), "node is", "nodes are"));
    let nodes: Vec<_> = planned.nodes.iter().map(ToString::to_string).collect();
    let moved = rebalance::count(&planned.steps);
    Ok(output.result(&text, json!({ "removed": nodes, "moved": moved, "epoch": operator.map().epoch().0 }))?)
}

fn show(map: &ClusterMap, planned: &Removal) -> Plan {
    let mut lines = Vec::new();
    let moving = rebalance::count(&planned.steps);
    if moving > 0 {
        lines.push(
            Line::default().with(Style::Bold, format!("{} move to other shards first:", rebalance::slots(moving))),
        );
        lines.extend(rebalance::step_lines(&planned.steps));
    }
    for node in &planned.nodes {
        let role = if map.role(*node) == Some(Role::Primary) { "primary" } else { "replica" };
        let shard = map.shard_of(*node).map_or(0, |(shard, _)| shard.0);
        let text = format!("Node {} leaves: {role} of shard {shard}.", table::name(map, *node));
        lines.push(Line::default().with(Style::Bold, text));
    }
    let nodes: Vec<_> = planned.nodes.iter().map(ToString::to_string).collect();
    let moves = rebalance::steps_json(&planned.steps);
    Plan { lines, json: json!({ "action": "remove-node", "moves": moves, "removes": nodes }) }
}

#[cfg(test)]
mod tests {
    use node_core::cluster::{MapCommand, ShardId};
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    use super::{RemovalError, plan};
    use crate::cli::cluster::{
        moves::Mover,
        tests::{cluster, finish_moves, founder},
    };

    proptest! {
        // Each looks at all slots many times.
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn after_its_plan_a_primary_can_leave(shards in 2..7_u8, replicas in 0..3_u8, leaving in 0..7_u8) {
            let mut map = cluster(shards, replicas);
            let node = founder(leaving % shards, "127.0.0.1").id;
            let planned = plan(&map, node, true).unwrap();
            prop_assert_eq!(planned.nodes.len(), usize::from(replicas) + 1);
            let mut mover = Mover::new(&planned.steps, std::time::Duration::MAX);
            while !mover.is_done() {
                for command in mover.turn(&map, std::time::Duration::ZERO).unwrap() {
                    map.apply(&command).unwrap();
                }
                finish_moves(&mut map, usize::MAX);
            }
            for node in planned.nodes {
                let removed = map.apply(&MapCommand::RemoveNode { node });
                prop_assert!(removed.is_ok());
            }
            prop_assert_eq!(map.shards().len(), usize::from(shards) - 1);
        }
    }

    #[test]
    fn a_replica_leaves_without_more_ado() {
        let map = cluster(2, 1);
        let planned = plan(&map, founder(3, "127.0.0.1").id, false).unwrap();
        assert_eq!((planned.steps.len(), planned.nodes.len()), (0, 1));
    }

    #[test]
    fn who_cannot_leave_is_told_why() {
        let node = founder(0, "127.0.0.1").id;
        assert_eq!(plan(&cluster(2, 2), node, false), Err(RemovalError::Replicas { node, replicas: 2 }));
        assert_eq!(plan(&cluster(1, 2), node, true), Err(RemovalError::OnlyShard(ShardId(0))));
    }
}
