//! `meridian cluster add-node`: an empty node joins.

use std::process::ExitCode;

use clap::{Args, value_parser};
use clock::OsClock;
use config::PeerAddress;
use node_core::{
    cluster::{ClusterMap, Joins, MapCommand, Refused, ShardId, control::Introduction},
    limits::WEIGHT_MAX,
};
use serde_json::json;

use super::{
    UsageError,
    connection::{NodeArgs, OperateError},
    founding::{self, check_free, check_region},
    layout::ORDINARY,
    operator::Operator,
    output::{ChangeArgs, Consent, Output, Plan},
    table,
};
use crate::terminal::{Line, Style};

/// Add an empty node, as a replica or as the primary of a new shard
///
/// It joins as the primary of a new shard, which has no slots until `meridian cluster rebalance` gives it some, or as a replica.
#[derive(Debug, Args)]
pub(crate) struct AddNodeArgs {
    /// The bus of the node that joins
    #[arg(value_name = "HOST:PORT")]
    add: PeerAddress,

    /// As a replica of this primary: its id, the beginning of that, or its address
    #[arg(long, value_name = "NODE", conflicts_with = "shard")]
    replica_of: Option<String>,

    /// As a replica of this shard
    #[arg(long, value_name = "SHARD")]
    shard: Option<u16>,

    /// The share of the new shard, in percent of one of ordinary size
    #[arg(long, value_name = "PERCENT", default_value_t = ORDINARY, value_parser = value_parser!(u16).range(1..=i64::from(WEIGHT_MAX)), conflicts_with_all = ["replica_of", "shard"])]
    weight: u16,

    #[command(flatten)]
    change: ChangeArgs,

    #[command(flatten)]
    node: NodeArgs,
}

impl AddNodeArgs {
    /// As what the node joins.
    fn joins(&self, map: &ClusterMap) -> Result<Joins, UsageError> {
        let shard = match (&self.replica_of, self.shard) {
            (Some(node), _) => {
                let node = table::find(map, node).map_err(UsageError::new)?;
                map.shard_of(node).map(|(shard, _)| shard)
            }
            (None, shard) => shard.map(ShardId),
        };
        match shard {
            None => Ok(Joins::New { label: founding::new_label(), weight: self.weight }),
            Some(shard) if map.shard(shard).is_some() => Ok(Joins::Shard(shard)),
            Some(shard) => Err(UsageError::new(format!("there is no shard {shard}: see `meridian cluster status`"))),
        }
    }
}

pub(super) async fn run(args: AddNodeArgs) -> anyhow::Result<ExitCode> {
    let (caller, node) = args.node.caller()?;
    let (mut output, consent) = (args.change.output(), args.change.consent());
    let mut operator = Operator::join(caller, node).await?;
    let outcome = add(&args, &mut operator, &mut output, consent).await;
    operator.hang_up().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

pub(super) async fn add(
    args: &AddNodeArgs,
    operator: &mut Operator,
    output: &mut Output,
    consent: Consent,
) -> anyhow::Result<()> {
    let joins = args.joins(operator.map())?;
    let address = args.add.to_string();
    let known = operator.caller().introduction(operator.node()).await?;
    let new = operator.caller().introduction(&address).await?;
    check_region(&address, &new, (operator.node(), &known))?;
    check_free(&address, &new)?;
    if !output.agree(&plan(operator.map(), &new, &joins), consent)? {
        return Ok(());
    }
    let id = new.node.id;
    let command = MapCommand::AddNode { node: new.node, joins, at: OsClock::new().now().wall };
    match operator.change(&command).await {
        // If the answer was lost, whether all know of it shows below.
        Ok(()) | Err(OperateError::Unknown { .. }) => {}
        // Asked for before, by this command or another.
        Err(OperateError::Refused(Refused::KnownNode(_))) => {}
        Err(error) => return Err(error.into()),
    }
    operator.refresh().await?;
    let told = |known, of| _ = output.progress("nodes that know of it", known, of);
    operator.until_known(|map| map.node(id).is_some(), told).await?;
    let text = format!("Node {} has joined.", table::name(operator.map(), id));
    Ok(output.result(&text, json!({ "added": id.to_string(), "epoch": operator.map().epoch().0 }))?)
}

fn plan(map: &ClusterMap, new: &Introduction, joins: &Joins) -> Plan {
    let node = &new.node;
    let (role, shard, weight) = match joins {
        Joins::Shard(shard) => {
            let primary = map.shard(*shard).map(|known| table::name(map, known.primary)).unwrap_or_default();
            (format!("a replica of {primary}, in shard {shard}"), Some(shard.0), None)
        }
        Joins::New { weight, .. } => {
            let role = format!("the primary of a new shard of weight {weight} %, without slots until a rebalance");
            (role, None, Some(weight))
        }
    };
    let text = format!("Node {} ({}) joins as {role}.", table::short(node.id), node.addresses.redis());
    let node = table::node_json(node.id, &node.addresses);
    let json = json!({ "action": "add-node", "node": node, "shard": shard, "weight": weight });
    Plan { lines: vec![Line::default().with(Style::Bold, text)], json }
}
