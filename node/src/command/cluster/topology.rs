//! CLUSTER SLOTS and CLUSTER SHARDS: who holds what, as clients read it to route by.
//!
//! ```text
//! CLUSTER SLOTS     [[first, last, node of the primary, node of a replica...]...], node = [host, port, id, {}]
//! CLUSTER SHARDS    [{slots: [first, last...], nodes: [{id, port, tls-port, ip, endpoint, role, ...}...]}...]
//! ```
//! SLOTS leaves out replicas that have failed, as Redis does, so that nobody reads from them. The fourth part of a node
//! would tell a host name beside an address; a node here announces one of both, which stands in front.

use node_core::{
    cluster::{ClusterMap, Health, Node, NodeId, Role, Shard, ShardId},
    resp::Reply,
    slot::{Slot, SlotRange, SlotSet},
};

use crate::{
    cluster::Cluster,
    command::{Context, Done},
};

/// `CLUSTER SLOTS`
pub(super) fn slots(call: Context<'_, '_, '_>, cluster: &Cluster) -> Done {
    let (map, over_tls) = (cluster.map(), call.session.over_tls);
    let runs = runs(&map);
    call.reply.array(runs.len());
    for (range, id, shard) in runs {
        let primary = map.node(shard.primary).map(|node| (shard.primary, node));
        let replicas = map.replicas(id).filter(|(_, node)| node.health == Health::Up);
        let nodes: Vec<_> = primary.into_iter().chain(replicas).collect();
        call.reply.array(2 + nodes.len());
        call.reply.integer(range.first.number().into());
        call.reply.integer(range.last.number().into());
        for (id, node) in nodes {
            call.reply.array(4);
            call.reply.text(&node.addresses.host);
            call.reply.integer(node.addresses.client_port(over_tls).into());
            call.reply.text(&id.to_string());
            call.reply.map(0);
        }
    }
    Ok(())
}

/// The runs of slots of one owner each, in order, with their owners.
fn runs(map: &ClusterMap) -> Vec<(SlotRange, ShardId, &Shard)> {
    let mut runs: Vec<(SlotRange, ShardId, &Shard)> = Vec::new();
    for slot in Slot::all() {
        let Some(owner) = map.owner(slot) else { continue };
        match runs.last_mut() {
            Some((range, id, _)) if *id == owner && range.last.number() + 1 == slot.number() => range.last = slot,
            _ => runs.extend(map.shard(owner).map(|shard| (SlotRange { first: slot, last: slot }, owner, shard))),
        }
    }
    runs
}

/// `CLUSTER SHARDS`
pub(super) fn shards(call: Context<'_, '_, '_>, cluster: &Cluster) -> Done {
    let map = cluster.map();
    call.reply.array(map.shards().len());
    for (id, shard) in map.shards() {
        call.reply.map(2);
        call.reply.text("slots");
        slot_pairs(&map.slots(id), call.reply);
        call.reply.text("nodes");
        let primary = map.node(shard.primary).map(|node| (shard.primary, node));
        let nodes: Vec<_> = primary.into_iter().chain(map.replicas(id)).collect();
        call.reply.array(nodes.len());
        for (node_id, node) in nodes {
            let role = if node_id == shard.primary { Role::Primary } else { Role::Replica };
            shard_node(cluster, node_id, node, role, call.reply);
        }
    }
    Ok(())
}

fn slot_pairs(slots: &SlotSet, reply: &mut Reply<'_>) {
    let ranges = slots.ranges();
    reply.array(2 * ranges.len());
    for slot in ranges.iter().flat_map(|range| [range.first, range.last]) {
        reply.integer(slot.number().into());
    }
}

/// A node as SHARDS shows it: with either port that it has.
fn shard_node(cluster: &Cluster, id: NodeId, node: &Node, role: Role, reply: &mut Reply<'_>) {
    let (addresses, observed) = (&node.addresses, cluster.observed(id));
    let ports = [("port", addresses.port), ("tls-port", addresses.tls_port)];
    let ports = ports.into_iter().filter(|(_, port)| *port != 0);
    reply.map(6 + ports.clone().count());
    reply.text("id");
    reply.text(&id.to_string());
    for (field, port) in ports {
        reply.text(field);
        reply.integer(port.into());
    }
    let role = if role == Role::Primary { "master" } else { "replica" };
    for (field, value) in [("ip", addresses.host.as_str()), ("endpoint", &addresses.host), ("role", role)] {
        reply.text(field);
        reply.text(value);
    }
    reply.text("replication-offset");
    reply.integer(observed.offset.cast_signed());
    reply.text("health");
    reply.text(match node.health {
        Health::Failed => "fail",
        Health::Up if observed.loading => "loading",
        Health::Up => "online",
    });
}
