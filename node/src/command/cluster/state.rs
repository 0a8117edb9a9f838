//! CLUSTER INFO, MYID, MYSHARDID, LINKS, COUNT-FAILURE-REPORTS: the state of the cluster as this node has it.
//!
//! `cluster_state` is `ok` if every slot has an owner whose primary has not failed, and if this node may serve what it
//! holds: a primary without its lease says `fail`, since that is what its clients get.

use std::fmt::Write as _;

use clock::Time;
use node_core::{
    cluster::{ClusterMap, Health, Role},
    resp::Reply,
    slot::Slot,
};

use super::node_of;
use crate::{
    cluster::Cluster,
    command::{Context, Done, Failure},
};

/// `CLUSTER INFO`
pub(super) fn info(call: Context<'_, '_, '_>, cluster: &Cluster) -> Done {
    let map = cluster.map();
    let slots = SlotCounts::of(&map, cluster);
    let serves = map.role(cluster.me) != Some(Role::Primary) || cluster.has_lease(call.keyspace.now().monotonic);
    let is_ok = slots.assigned == Slot::all().len() && slots.failed == 0 && serves;
    let holders = map.shards().filter(|(id, _)| Slot::all().any(|slot| map.owner(slot) == Some(*id))).count();
    let since = map.shard_of(cluster.me).map_or(0, |(_, shard)| shard.since.0);
    let mut text = String::new();
    for (field, value) in [
        ("cluster_slots_assigned", slots.assigned as u64),
        ("cluster_slots_ok", (slots.assigned - slots.suspected - slots.failed) as u64),
        ("cluster_slots_pfail", slots.suspected as u64),
        ("cluster_slots_fail", slots.failed as u64),
        ("cluster_known_nodes", map.nodes().len().max(1) as u64),
        ("cluster_size", holders as u64),
        ("cluster_current_epoch", map.epoch().0),
        ("cluster_my_epoch", since),
        ("cluster_stats_messages_sent", cluster.messages_sent()),
        ("cluster_stats_messages_received", cluster.messages_received()),
        ("total_cluster_links_buffer_limit_exceeded", 0),
    ] {
        // A string takes every write.
        let _ = write!(text, "{field}:{value}\r\n");
    }
    call.reply.verbatim(&format!("cluster_state:{}\r\n{text}", if is_ok { "ok" } else { "fail" }));
    Ok(())
}

/// How many slots have an owner, and of those, how many one whose primary is suspected by this node or has failed.
#[derive(Default)]
struct SlotCounts {
    assigned: usize,
    suspected: usize,
    failed: usize,
}

impl SlotCounts {
    fn of(map: &ClusterMap, cluster: &Cluster) -> Self {
        let mut counts = Self::default();
        for (id, shard) in map.shards() {
            let slots = map.slots(id).len();
            counts.assigned += slots;
            match map.node(shard.primary).map(|node| node.health) {
                Some(Health::Up) if cluster.observed(shard.primary).suspected => counts.suspected += slots,
                Some(Health::Up) => {}
                Some(Health::Failed) | None => counts.failed += slots,
            }
        }
        counts
    }
}

/// `CLUSTER MYID`
pub(super) fn myid(call: Context<'_, '_, '_>, cluster: &Cluster) -> Done {
    call.reply.text(&cluster.me.to_string());
    Ok(())
}

/// `CLUSTER MYSHARDID`
pub(super) fn myshardid(call: Context<'_, '_, '_>, cluster: &Cluster) -> Done {
    let map = cluster.map();
    let (_, shard) = map.shard_of(cluster.me).ok_or(Failure::text("ERR this node is in no shard yet"))?;
    call.reply.text(&shard.label.to_string());
    Ok(())
}

/// `CLUSTER LINKS`: the connections of the bus, one each way to each node that answers.
pub(super) fn links(call: Context<'_, '_, '_>, cluster: &Cluster) -> Done {
    let map = cluster.map();
    let others = map.nodes().map(|(id, _)| id).filter(|id| *id != cluster.me);
    let linked: Vec<_> =
        others.map(|id| (id, cluster.observed(id))).filter(|(_, observed)| observed.connected).collect();
    call.reply.array(2 * linked.len());
    for (id, observed) in linked {
        let since = observed.connected_since.map_or(0, Time::unix_ms);
        ["to", "from"].into_iter().for_each(|direction| link(direction, &id.to_string(), since, call.reply));
    }
    Ok(())
}

fn link(direction: &str, node: &str, since_ms: u64, reply: &mut Reply<'_>) {
    reply.map(6);
    reply.text("direction");
    reply.text(direction);
    reply.text("node");
    reply.text(node);
    reply.text("create-time");
    reply.integer(since_ms.cast_signed());
    reply.text("events");
    reply.text("r");
    // The bus keeps no buffer that grows.
    for field in ["send-buffer-allocated", "send-buffer-used"] {
        reply.text(field);
        reply.integer(0);
    }
}

/// `CLUSTER COUNT-FAILURE-REPORTS node-id`
pub(super) fn count_failure_reports(call: Context<'_, '_, '_>, cluster: &Cluster) -> Done {
    let (_, id) = node_of(cluster, &call.args[2])?;
    call.reply.integer(cluster.observed(id).reports.into());
    Ok(())
}
