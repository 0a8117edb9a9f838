//! CLUSTER FAILOVER, and the orders that are refused.
//!
//! In Redis Cluster whoever reaches a node may change what that node believes of the cluster, and tools do so on all
//! nodes one after the other; a tool that is interrupted leaves a cluster that does not agree with itself. Here the map
//! changes only through its replicated log, as a whole, so these orders are refused by an error that names what to use
//! instead.

use node_core::{
    cluster::{Health, Role},
    command_table::{Command, CommandId},
};

use crate::{
    cluster::{Cluster, FailoverKind},
    command::{Context, Done, Failure, words::is},
};

/// `CLUSTER FAILOVER [FORCE | TAKEOVER]`
pub(super) fn failover(call: Context<'_, '_, '_>, cluster: &Cluster) -> Done {
    let kind = match call.args.get(2) {
        None => FailoverKind::HandOver,
        Some(word) if is(word, "force") => FailoverKind::Force,
        Some(word) if is(word, "takeover") => FailoverKind::TakeOver,
        Some(_) => return Err(Failure::SYNTAX),
    };
    if call.args.len() > 3 {
        return Err(Failure::SYNTAX);
    }
    let map = cluster.map();
    if map.role(cluster.me) != Some(Role::Replica) {
        return Err(Failure::text("ERR You should send CLUSTER FAILOVER to a replica"));
    }
    let primary = map.shard_of(cluster.me).and_then(|(_, shard)| map.node(shard.primary));
    if kind == FailoverKind::HandOver && primary.is_none_or(|primary| primary.health == Health::Failed) {
        return Err(Failure::text("ERR Master is down or failed, please use CLUSTER FAILOVER FORCE"));
    }
    cluster.request_failover(kind).map_err(|refused| Failure::from(refused.to_string()))?;
    call.reply.ok();
    Ok(())
}

/// What the control plane does instead.
pub(super) fn refused(command: &Command) -> Done {
    use CommandId as C;
    let instead = match command.id {
        C::ClusterAddslots | C::ClusterAddslotsrange => {
            "slots are given to nodes by `meridian cluster create` and `meridian cluster rebalance`"
        }
        C::ClusterDelslots | C::ClusterDelslotsrange | C::ClusterFlushslots | C::ClusterSetslot => {
            "slots are moved by `meridian cluster rebalance`"
        }
        C::ClusterMeet | C::ClusterReplicate => "nodes and replicas are added by `meridian cluster add-node`",
        C::ClusterForget | C::ClusterReset => "nodes are removed by `meridian cluster remove-node`",
        C::ClusterSaveconfig => "every change is on disk before it takes effect, see `meridian cluster status`",
        _ => "it counts its own changes, see `meridian cluster status`",
    };
    let name = command.name.replace('|', " ").to_uppercase();
    Err(Failure::from(format!("ERR {name} is refused: the control plane owns the cluster map; {instead}")))
}
