//! CLUSTER NODES, REPLICAS and SLAVES: a line of text for each node.
//!
//! ```text
//! id host:port@bus-port flags primary ping-sent pong-received epoch link slots...
//! ```
//! The format is Redis's ("CLUSTER NODES", serialization format), which redis-cli and many clients take apart. Behind
//! the slots of the node that is asked come those that move, to it or away: `[5->-id]`, `[5-<-id]`. Times are
//! milliseconds since 1970.

use std::fmt::Write as _;

use clock::Time;
use node_core::cluster::{ClusterMap, Health, Node, NodeId, Role, ShardId};

use super::node_of;
use crate::{
    cluster::{Cluster, Observed},
    command::{Context, Done, Failure},
};

/// `CLUSTER NODES`
pub(super) fn nodes(call: Context<'_, '_, '_>, cluster: &Cluster) -> Done {
    let (map, over_tls) = (cluster.map(), call.session.over_tls);
    let mut text = String::new();
    for (id, node) in map.nodes() {
        text.push_str(&line(cluster, &map, (id, node), over_tls));
        text.push('\n');
    }
    if map.node(cluster.me).is_none() {
        // A node that is alone knows itself, as in Redis.
        let port = call.server().address.map_or(0, |address| address.port());
        text.push_str(&format!("{} :{port}@0 myself,master - 0 0 0 connected\n", cluster.me));
    }
    call.reply.verbatim(&text);
    Ok(())
}

/// `CLUSTER REPLICAS node-id`
pub(super) fn replicas(call: Context<'_, '_, '_>, cluster: &Cluster) -> Done {
    let (map, id) = node_of(cluster, &call.args[2])?;
    let Some((shard, _)) = map.shard_of(id).filter(|(_, shard)| shard.primary == id) else {
        return Err(Failure::text("ERR The specified node is not a master"));
    };
    let replicas: Vec<_> = map.replicas(shard).collect();
    call.reply.array(replicas.len());
    for replica in replicas {
        call.reply.text(&line(cluster, &map, replica, call.session.over_tls));
    }
    Ok(())
}

fn line(cluster: &Cluster, map: &ClusterMap, (id, node): (NodeId, &Node), over_tls: bool) -> String {
    let (addresses, observed, is_me) = (&node.addresses, cluster.observed(id), id == cluster.me);
    let role = map.role(id).unwrap_or(Role::Replica);
    let shard = map.shard(node.shard);
    let primary = shard.filter(|_| role == Role::Replica).map_or("-".to_owned(), |shard| shard.primary.to_string());
    let [asked, answered] = [observed.asked, observed.answered].map(|time| time.map_or(0, Time::unix_ms));
    let mut line = format!(
        "{id} {}:{}@{} {} {primary} {asked} {answered} {} {}",
        addresses.host,
        addresses.client_port(over_tls),
        addresses.bus_port,
        flags(is_me, role, node.health, observed),
        shard.map_or(0, |shard| shard.since.0),
        if is_me || observed.connected { "connected" } else { "disconnected" },
    );
    if role == Role::Primary {
        // A string takes every write.
        let slots = map.slots(node.shard);
        let _ = if slots.is_empty() { Ok(()) } else { write!(line, " {slots}") };
        if is_me {
            moves(map, node.shard, &mut line);
        }
    }
    line
}

fn flags(is_me: bool, role: Role, health: Health, observed: Observed) -> String {
    let role = if role == Role::Primary { "master" } else { "slave" };
    let health = match health {
        Health::Failed => Some("fail"),
        Health::Up if observed.suspected => Some("fail?"),
        Health::Up => None,
    };
    let words: Vec<_> = is_me.then_some("myself").into_iter().chain([role]).chain(health).collect();
    words.join(",")
}

/// The slots that move to or from a shard, with who is at the other end.
fn moves(map: &ClusterMap, mine: ShardId, line: &mut String) {
    let primary = |shard: ShardId| map.shard(shard).map(|shard| shard.primary);
    for (slot, to) in map.moves() {
        let (arrow, other) = match map.owner(slot) {
            Some(owner) if owner == mine => ("->-", primary(to)),
            Some(owner) if to == mine => ("-<-", primary(owner)),
            _ => continue,
        };
        if let Some(other) = other {
            // A string takes every write.
            let _ = write!(line, " [{slot}{arrow}{other}]");
        }
    }
}
