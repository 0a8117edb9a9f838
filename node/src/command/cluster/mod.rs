//! CLUSTER, READONLY, READWRITE, ASKING: the region as clients of Redis Cluster see it.
//!
//! ```text
//! slots      KEYSLOT, COUNTKEYSINSLOT, GETKEYSINSLOT
//! topology   SLOTS, SHARDS: what clients route by
//! nodes      NODES, REPLICAS, SLAVES: the same as lines of text
//! state      INFO, MYID, MYSHARDID, LINKS, COUNT-FAILURE-REPORTS
//! orders     FAILOVER, and all that Redis's operators would do by hand and our control plane does
//! ```
//! SLOTS, SHARDS and NODES show one map, with the same addresses: those that the nodes announce in it, with the port
//! for the kind of connection, plain or TLS, that the client has come by. MOVED and ASK name the same.
//!
//! A node that is in no cluster says so, as Redis does, and clients take that for what it is. What follows from a key or
//! a slot alone is answered all the same, since slots are the same everywhere.

mod nodes;
mod orders;
mod slots;
mod state;
#[cfg(test)]
mod tests;
mod topology;

use std::sync::Arc;

use node_core::{
    cluster::{ClusterMap, NodeId},
    command_table::{Command, CommandId},
};

use super::{Context, Done, Failure, words::utf8};
use crate::cluster::Cluster;

/// Executes a subcommand of CLUSTER, or one of the three that change what a connection may do.
pub(super) fn execute(id: CommandId, call: Context<'_, '_, '_>) -> Done {
    use CommandId as C;
    match id {
        C::ClusterHelp => return super::help(C::Cluster, call),
        C::ClusterKeyslot => return slots::keyslot(call),
        C::ClusterCountkeysinslot => return slots::countkeysinslot(call),
        C::ClusterGetkeysinslot => return slots::getkeysinslot(call),
        _ => {}
    }
    // Clients of the proxy see one server.
    let cluster = call.worker.server.cluster.as_ref().filter(|_| call.session.proxied.is_none());
    let cluster = &cluster.ok_or(Failure::text("ERR This instance has cluster support disabled"))?.clone();
    match id {
        C::Asking => ok(call, |call| call.session.cluster.asking = true),
        C::Readonly => ok(call, |call| call.session.cluster.readonly = true),
        C::Readwrite => ok(call, |call| call.session.cluster.readonly = false),
        C::ClusterSlots => topology::slots(call, cluster),
        C::ClusterShards => topology::shards(call, cluster),
        C::ClusterNodes => nodes::nodes(call, cluster),
        C::ClusterReplicas | C::ClusterSlaves => nodes::replicas(call, cluster),
        C::ClusterInfo => state::info(call, cluster),
        C::ClusterMyid => state::myid(call, cluster),
        C::ClusterMyshardid => state::myshardid(call, cluster),
        C::ClusterLinks => state::links(call, cluster),
        C::ClusterCountFailureReports => state::count_failure_reports(call, cluster),
        C::ClusterFailover => orders::failover(call, cluster),
        _ => orders::refused(Command::of(id)),
    }
}

fn ok(mut call: Context<'_, '_, '_>, change: impl FnOnce(&mut Context<'_, '_, '_>)) -> Done {
    change(&mut call);
    call.reply.ok();
    Ok(())
}

/// The node that an argument names.
fn node_of(cluster: &Cluster, argument: &[u8]) -> Result<(Arc<ClusterMap>, NodeId), Failure> {
    let map = cluster.map();
    let id = str::from_utf8(argument).ok().and_then(|text| text.parse().ok());
    let known = id.filter(|id| map.node(*id).is_some());
    match known {
        Some(id) => Ok((map, id)),
        None => Err(Failure::from(format!("ERR Unknown node {}", utf8(argument)))),
    }
}
