//! ROLE, WAIT, and INFO's section on replication: what a primary knows of its replicas, and a replica of itself.
//!
//! Offsets count changes of the log, since records are states and have no bytes of their own: a primary's is how many its
//! log has seen, a replica's, as its primary tells it, how many of those it has. What a replica says of itself counts its
//! own log, so it starts from another number.
//!
//! WAIT is for what this node has stamped until now, by whomever it was asked to: no less than what Redis promises, which
//! is the client's own last write.

use node_core::cluster::{NodeId, Role};

use super::{Context, Done, Failure, waiting};
use crate::{
    cluster::{Cluster, Follower},
    server::Server,
};

/// `WAIT numreplicas timeout`, once there is nothing more to wait for. In a transaction it waits for nobody, as in Redis.
pub(super) fn wait(call: Context<'_, '_, '_>) -> Done {
    waiting::count_and_timeout(call.args, 1)?;
    let waiting = call.session.waiting.take();
    if is_replica(call.server()) {
        return Err(Failure::text("ERR WAIT cannot be used with replica instances."));
    }
    let (server, now) = (call.server(), call.server().clock.now().monotonic);
    // Nothing is said once the lease is over: who takes over may have been chosen already among replicas that did not have it
    // then.
    let is_leased = server.cluster.as_ref().is_none_or(|cluster| cluster.has_lease(now));
    call.reply.count(waiting.filter(|_| is_leased).map_or(0, |waiting| waiting.reached(server)));
    Ok(())
}

pub(super) fn is_replica(server: &Server) -> bool {
    server.cluster.as_ref().is_some_and(|cluster| cluster.map().role(cluster.me) == Some(Role::Replica))
}

/// A replica, as INFO and ROLE show it.
struct Shown {
    host: String,
    port: u16,
    follower: Follower,
}

fn replicas(cluster: &Cluster) -> Vec<Shown> {
    let (map, followers) =
        (cluster.map(), cluster.replication().map(|shared| shared.followers.all()).unwrap_or_default());
    let shown = |(id, follower): (NodeId, Follower)| {
        let addresses = &map.node(id)?.addresses;
        Some(Shown { host: addresses.host.clone(), port: addresses.port, follower })
    };
    followers.into_iter().filter_map(shown).collect()
}

/// The host and the port of the primary of a replica.
fn primary(cluster: &Cluster) -> Option<(String, u16)> {
    let map = cluster.map();
    let (_, shard) = map.shard_of(cluster.me).filter(|(_, shard)| shard.primary != cluster.me)?;
    map.node(shard.primary).map(|node| (node.addresses.host.clone(), node.addresses.port))
}

/// `ROLE`
pub(super) fn role(call: Context<'_, '_, '_>) -> Done {
    let server = &call.worker.server;
    let offset = server.store.log_end().cast_signed();
    if let Some((host, port)) = server.cluster.as_deref().and_then(primary) {
        call.reply.array(5);
        call.reply.text("slave");
        call.reply.text(&host);
        call.reply.integer(port.into());
        call.reply.text(if is_synced(server) { "connected" } else { "sync" });
        call.reply.integer(offset);
        return Ok(());
    }
    let replicas = server.cluster.as_deref().map(replicas).unwrap_or_default();
    call.reply.array(3);
    call.reply.text("master");
    call.reply.integer(offset);
    call.reply.array(replicas.len());
    for replica in replicas {
        call.reply.array(3);
        call.reply.text(&replica.host);
        call.reply.text(&replica.port.to_string());
        call.reply.text(&replica.follower.offset.to_string());
    }
    Ok(())
}

fn is_synced(server: &Server) -> bool {
    let shared = server.cluster.as_ref().and_then(|cluster| cluster.replication());
    shared.is_some_and(|shared| shared.progress.holding().is_some())
}

/// The lines of INFO replication, in Redis's order.
pub(super) fn info(server: &Server) -> Vec<(String, String)> {
    let mut lines = Lines(Vec::new());
    let offset = server.store.log_end();
    if let Some((host, port)) = server.cluster.as_deref().and_then(primary) {
        let is_synced = is_synced(server);
        lines.put("role", "slave");
        lines.put("master_host", host);
        lines.put("master_port", port);
        lines.put("master_link_status", if is_synced { "up" } else { "down" });
        lines.put("master_last_io_seconds_ago", 0);
        lines.put("master_sync_in_progress", u8::from(!is_synced));
        lines.put("slave_read_repl_offset", offset);
        lines.put("slave_repl_offset", offset);
        lines.put("slave_priority", 100);
        lines.put("slave_read_only", 1);
        lines.put("replica_announced", 1);
    } else {
        lines.put("role", "master");
    }
    let replicas = server.cluster.as_deref().map(replicas).unwrap_or_default();
    lines.put("connected_slaves", replicas.iter().filter(|replica| replica.follower.is_online).count());
    let needed = server.config.cluster.min_replicas_to_write;
    let now = server.clock.now().monotonic;
    if needed > 0
        && let Some(shared) = server.cluster.as_ref().and_then(|cluster| cluster.replication())
    {
        let good = shared.followers.online(now, server.config.cluster.min_replicas_max_lag);
        lines.put("min_slaves_good_slaves", good);
    }
    let online = replicas.iter().filter(|replica| replica.follower.is_online);
    for (index, Shown { host, port, follower }) in online.enumerate() {
        let (at, lag) = (follower.offset, now.saturating_sub(follower.heard).as_secs());
        lines.put(&format!("slave{index}"), format!("ip={host},port={port},state=online,offset={at},lag={lag}"));
    }
    lines.put("master_failover_state", "no-failover");
    lines.put("master_replid", &server.run_id);
    lines.put("master_replid2", "0".repeat(40));
    lines.put("master_repl_offset", offset);
    lines.put("second_repl_offset", -1);
    lines.put("repl_backlog_active", u8::from(server.cluster.is_some()));
    lines.put("repl_backlog_size", server.config.memory.log_records);
    lines.put("repl_backlog_first_byte_offset", offset.saturating_sub(server.config.memory.log_records) + 1);
    lines.put("repl_backlog_histlen", offset.min(server.config.memory.log_records));
    lines.0
}

struct Lines(Vec<(String, String)>);

impl Lines {
    fn put(&mut self, name: &str, value: impl ToString) {
        self.0.push((name.to_owned(), value.to_string()));
    }
}
