//! `meridian cluster`: operating the cluster of a region.
//!
//! Every command speaks to nodes over their bus, as nodes do among themselves: with a certificate of the region where the
//! region has any. Nothing here decides what the map may become; that is the map's own matter ([`node_core::cluster`]), and
//! what it refuses is refused here in the same words. What these commands add is the plan that is shown first, the order of
//! steps, patience, and a way back for who is interrupted.
//!
//! ```text
//! connection  credentials, and one question to one node      operator   the map, and whoever can change it
//! layout      who is together in a shard (pure)              moves      slots on their way (the Mover is pure)
//! founding    from empty nodes to a cluster; the lab's too   output     plans, consent, progress, results
//! create, status, add_node, remove_node, rebalance, failover: one subcommand each
//! ```
//!
//! Left out: anything that needs a node's disk or process. A node is started and stopped by whoever runs processes.

mod add_node;
mod connection;
mod create;
mod failover;
mod founding;
mod layout;
mod limits;
mod moves;
mod operator;
pub(super) mod output;
mod rebalance;
mod remove_node;
mod status;
mod table;
#[cfg(test)]
pub(crate) mod tests;

use std::{fmt::Display, process::ExitCode};

use clap::Subcommand;

#[cfg(test)]
pub(crate) use self::layout::shards;
pub(crate) use self::{
    connection::Caller,
    founding::{Founding, FoundingError},
};
use super::USAGE;

/// One thing to do with a cluster.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    // What each does is said by its arguments, in `--help` as well.
    Create(create::CreateArgs),
    Status(status::StatusArgs),
    AddNode(add_node::AddNodeArgs),
    RemoveNode(remove_node::RemoveNodeArgs),
    Rebalance(rebalance::RebalanceArgs),
    Failover(failover::FailoverArgs),
}

/// What was asked for in a way that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(String);

impl UsageError {
    pub(super) fn new(error: impl Display) -> Self {
        Self(error.to_string())
    }
}

pub(super) fn run(command: ClusterCommand) -> anyhow::Result<ExitCode> {
    run_to_end(async {
        match command {
            ClusterCommand::Create(args) => create::run(args).await,
            ClusterCommand::Status(args) => status::run(args).await,
            ClusterCommand::AddNode(args) => add_node::run(args).await,
            ClusterCommand::RemoveNode(args) => remove_node::run(args).await,
            ClusterCommand::Rebalance(args) => rebalance::run(args).await,
            ClusterCommand::Failover(args) => failover::run(args).await,
        }
    })
}

/// Runs what an operator has asked for, and tells what was asked wrongly from what has failed.
pub(super) fn run_to_end(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work).or_else(|error| match error.downcast::<UsageError>() {
        Ok(usage) => {
            eprintln!("error: {usage}");
            Ok(ExitCode::from(USAGE))
        }
        Err(error) => Err(error),
    })
}
