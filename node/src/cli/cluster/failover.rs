//! `meridian cluster failover`: a replica takes the place of its primary, without loss.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use node_core::cluster::{ClusterMap, Health, NodeId, Role};
use serde_json::json;

use super::{
    UsageError,
    connection::{NodeArgs, OperateError},
    operator::Operator,
    output::{ChangeArgs, Consent, Output, Plan},
    table,
};
use crate::terminal::{Line, Style};

/// Make a replica the primary of its shard, without loss
///
/// The primary stops taking writes for as long as the replica takes to have all of them; then the replica is the primary. A
/// primary that has failed is replaced without this command.
#[derive(Debug, Args)]
pub(crate) struct FailoverArgs {
    /// The replica: its id, the beginning of that, or its address
    #[arg(value_name = "NODE")]
    replica: String,

    #[command(flatten)]
    change: ChangeArgs,

    #[command(flatten)]
    node: NodeArgs,
}

/// Why a node cannot take over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FailoverError {
    /// It is the primary.
    #[error("{0} is the primary of its shard already")]
    Primary(String),
    /// It does not answer.
    #[error("{0} has failed, and cannot take over")]
    Failed(String),
}

/// The primary whose place a node would take.
pub(super) fn plan(map: &ClusterMap, node: NodeId) -> Result<Option<NodeId>, FailoverError> {
    if map.role(node) == Some(Role::Primary) {
        return Err(FailoverError::Primary(table::name(map, node)));
    }
    if map.node(node).is_some_and(|node| node.health == Health::Failed) {
        return Err(FailoverError::Failed(table::name(map, node)));
    }
    Ok(map.shard_of(node).map(|(_, shard)| shard.primary))
}

pub(super) async fn run(args: FailoverArgs) -> anyhow::Result<ExitCode> {
    let (caller, node) = args.node.caller()?;
    let (mut output, consent) = (args.change.output(), args.change.consent());
    let mut operator = Operator::join(caller, node).await?;
    let outcome = fail_over(&args, &mut operator, &mut output, consent).await;
    operator.hang_up().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

pub(super) async fn fail_over(
    args: &FailoverArgs,
    operator: &mut Operator,
    output: &mut Output,
    consent: Consent,
) -> anyhow::Result<()> {
    let replica = table::find(operator.map(), &args.replica).map_err(UsageError::new)?;
    let Some(primary) = plan(operator.map(), replica)? else { bail!("node {replica} is in no shard") };
    if !output.agree(&show(operator.map(), replica, primary), consent)? {
        return Ok(());
    }
    match operator.fail_over(replica).await {
        // If the answer was lost, whether it has happened shows below.
        Ok(()) | Err(OperateError::Unknown { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let told = |known, of| _ = output.progress("nodes that know of it", known, of);
    operator.until_known(|map| map.role(replica) == Some(Role::Primary), told).await?;
    let text = format!("{} is the primary.", table::name(operator.map(), replica));
    Ok(output.result(&text, json!({ "primary": replica.to_string(), "epoch": operator.map().epoch().0 }))?)
}

fn show(map: &ClusterMap, replica: NodeId, primary: NodeId) -> Plan {
    let shard = map.shard_of(replica).map_or(0, |(shard, _)| shard.0);
    let [new, former] = [replica, primary].map(|node| table::name(map, node));
    let text = format!("Node {new} becomes the primary of shard {shard}, and {former} a replica.");
    let json = json!({ "action": "failover", "shard": shard, "to": replica.to_string(), "from": primary.to_string() });
    Plan { lines: vec![Line::default().with(Style::Bold, text)], json }
}

#[cfg(test)]
mod tests {
    use node_core::cluster::MapCommand;

    use super::{FailoverError, plan};
    use crate::cli::cluster::tests::{cluster, founder};

    #[test]
    fn only_a_replica_that_is_up_takes_over() {
        let mut map = cluster(2, 1);
        let [primary, replica] = [1, 3].map(|index| founder(index, "127.0.0.1"));
        assert_eq!(plan(&map, replica.id), Ok(Some(primary.id)));
        assert!(matches!(plan(&map, primary.id), Err(FailoverError::Primary(_))));
        map.apply(&MapCommand::Failed { node: replica.id, run: replica.run }).unwrap();
        assert!(matches!(plan(&map, replica.id), Err(FailoverError::Failed(_))));
    }
}
