//! `meridian cluster create`: empty nodes become a cluster.

use std::process::ExitCode;

use clap::{Args, value_parser};
use config::PeerAddress;
use node_core::limits::{NODES_MAX, WEIGHT_MAX};
use serde_json::json;

use super::{
    UsageError,
    connection::{Caller, CredentialArgs},
    founding::{Founding, FoundingError},
    output::{ChangeArgs, Consent, Output, Plan},
    table,
};
use crate::terminal::{Line, Style, grouped};

/// Make a cluster of empty nodes
///
/// Nodes that were started with `[cluster] listen`, hold no keys and are in no cluster are laid out as shards, each a primary
/// and its replicas, with the slots shared out by weight. Replicas go to other hosts than their primary where there are
/// several.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The buses of the nodes
    #[arg(required = true, value_name = "HOST:PORT")]
    nodes: Vec<PeerAddress>,

    /// Replicas of each primary
    #[arg(long, value_name = "N", default_value = "0", value_parser = value_parser!(u16).range(0..NODES_MAX as i64))]
    replicas: u16,

    /// The share of each shard, in percent of one of ordinary size, in the order of the shards
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', value_parser = value_parser!(u16).range(1..=i64::from(WEIGHT_MAX)))]
    weights: Vec<u16>,

    #[command(flatten)]
    change: ChangeArgs,

    #[command(flatten)]
    credentials: CredentialArgs,
}

pub(super) async fn run(args: CreateArgs) -> anyhow::Result<ExitCode> {
    let (caller, _) = args.credentials.caller()?;
    let (mut output, consent) = (args.change.output(), args.change.consent());
    let outcome = create(&args, &caller, &mut output, consent).await;
    caller.hang_up().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

pub(super) async fn create(
    args: &CreateArgs,
    caller: &Caller,
    output: &mut Output,
    consent: Consent,
) -> anyhow::Result<()> {
    let addresses: Vec<_> = args.nodes.iter().map(ToString::to_string).collect();
    let planned = Founding::plan(caller, &addresses, usize::from(args.replicas), &args.weights).await;
    let founding = planned.map_err(|error| match error {
        FoundingError::Layout(error) => UsageError::new(error).into(),
        error => anyhow::Error::from(error),
    })?;
    if !output.agree(&plan(&founding), consent)? {
        return Ok(());
    }
    let told = |known, of| _ = output.progress("nodes that know of the cluster", known, of);
    founding.carry_out(caller, told).await?;
    let text = format!("The cluster is founded: {} shards, {} nodes.", founding.shards.len(), addresses.len());
    Ok(output.result(&text, json!({ "shards": founding.shards.len(), "nodes": addresses.len() }))?)
}

fn plan(founding: &Founding) -> Plan {
    let head = format!("A cluster of region {} ({}):", founding.region_name, founding.region());
    let mut lines = vec![Line::default().with(Style::Bold, head), Line::default(), table::head()];
    for (index, shard) in founding.shards.iter().enumerate() {
        for (place, node) in shard.nodes.iter().enumerate() {
            let (shard_name, role) =
                if place == 0 { (index.to_string(), "primary") } else { (String::new(), "replica") };
            let row = table::row(&shard_name, role, node.id, &node.addresses);
            let slots = format!("{:>8}  {}", grouped(shard.slots.len() as u64), shard.slots);
            lines.push(if place == 0 { row.with(Style::Plain, slots) } else { row });
        }
    }
    lines.push(Line::default());
    let shards = founding.shards.iter().enumerate().map(|(index, shard)| {
        json!({
            "shard": index,
            "weight": shard.weight,
            "slots": shard.slots.to_string(),
            "primary": table::node_json(shard.nodes[0].id, &shard.nodes[0].addresses),
            "replicas": shard.nodes[1..].iter().map(|node| table::node_json(node.id, &node.addresses)).collect::<Vec<_>>(),
        })
    });
    let shards: Vec<_> = shards.collect();
    Plan { lines, json: json!({ "action": "create", "region": founding.region_name, "shards": shards }) }
}
