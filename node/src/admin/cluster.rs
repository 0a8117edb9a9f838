//! A node's part in its cluster, for `/status` and `/metrics`.
//!
//! What an operator should look at first is the lag of each replica: what a primary has acknowledged to clients and no
//! replica has yet is lost with it, and that lag is how much that is. `WAIT` closes the window for those who ask.

use clock::Now;
use metrics::gauge;
use node_core::cluster::Role;
use serde::Serialize;

use super::metrics::names;
use crate::{
    cluster::{Cluster, gateways::GatewayStatus},
    server::Server,
};

/// What a node says of its part in the cluster.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClusterStatus {
    /// The label of what is compared between nodes.
    #[serde(skip)]
    region: String,
    node: String,
    /// How often the map has changed, as this node knows it.
    epoch: u64,
    /// `primary`, `replica`, or `none` while it is in no shard.
    role: &'static str,
    shard: Option<u16>,
    /// Slots of its shard.
    slots: usize,
    /// For how long it may still take writes without hearing from the leader; zero if it may not.
    lease_seconds: f64,
    /// Whether it has all that its primary had when it began to follow; of a primary, whether it stamps writes.
    synced: bool,
    replicas: Vec<ReplicaStatus>,
    /// Its clock disagrees with most of the region, so it takes no writes.
    clock_outvoted: bool,
    /// The clocks of other nodes minus this one's.
    clock_offsets: Vec<ClockOffset>,
    /// Nodes that do not answer this one.
    suspected: Vec<String>,
    /// Gateways that are attached to this node.
    gateways: Vec<GatewayStatus>,
}

/// What is known of another node's clock.
#[derive(Clone, Debug, Serialize)]
struct ClockOffset {
    node: String,
    seconds: f64,
}

/// What a primary says of a replica.
#[derive(Clone, Debug, Serialize)]
struct ReplicaStatus {
    node: String,
    online: bool,
    /// How old what it lacks may be.
    lag_seconds: f64,
    /// Changes of the log that it has.
    offset: u64,
}

impl ClusterStatus {
    /// Looks at everything as of `now`; `None` if the node is in no cluster.
    pub(crate) fn of(server: &Server, now: Now) -> Option<Self> {
        let cluster = server.cluster.as_deref()?;
        let map = cluster.map();
        let shard = map.shard_of(cluster.me).map(|(id, _)| id);
        let suspected = map.nodes().map(|(id, _)| id).filter(|id| cluster.observed(*id).suspected);
        Some(Self {
            region: server.config.region.name.to_string(),
            node: cluster.me.to_string(),
            epoch: map.epoch().0,
            role: match map.role(cluster.me) {
                Some(Role::Primary) => "primary",
                Some(Role::Replica) => "replica",
                None => "none",
            },
            shard: shard.map(|shard| shard.0),
            slots: shard.map_or(0, |shard| map.slots(shard).len()),
            lease_seconds: cluster.lease_left(now.monotonic).as_secs_f64(),
            synced: cluster.replication().is_some_and(|shared| shared.progress.holding().is_some()),
            replicas: replicas(cluster, now),
            clock_outvoted: cluster.is_outvoted(),
            clock_offsets: clock_offsets(cluster),
            suspected: suspected.map(|id| id.to_string()).collect(),
            gateways: cluster.gateways().map(|gateways| gateways.status()).unwrap_or_default(),
        })
    }

    /// Puts it into its gauges.
    pub(super) fn publish(&self) {
        let is = |condition: bool| f64::from(u8::from(condition));
        gauge!(names::CLUSTER_EPOCH, "region" => self.region.clone()).set(self.epoch as f64);
        gauge!(names::CLUSTER_PRIMARY).set(is(self.role == "primary"));
        gauge!(names::CLUSTER_SYNCED).set(is(self.synced));
        gauge!(names::CLUSTER_SLOTS).set(self.slots as f64);
        gauge!(names::CLUSTER_LEASE_SECONDS).set(self.lease_seconds);
        gauge!(names::CLUSTER_SUSPECTED).set(self.suspected.len() as f64);
        gauge!(names::CLUSTER_GATEWAYS).set(self.gateways.len() as f64);
        gauge!(names::CLUSTER_CLOCK_OUTVOTED).set(is(self.clock_outvoted));
        for replica in &self.replicas {
            gauge!(names::REPLICA_UP, "replica" => replica.node.clone()).set(is(replica.online));
            gauge!(names::REPLICA_LAG_SECONDS, "replica" => replica.node.clone()).set(replica.lag_seconds);
        }
    }
}

fn clock_offsets(cluster: &Cluster) -> Vec<ClockOffset> {
    let offset = |(node, seconds): (node_core::cluster::NodeId, f64)| ClockOffset { node: node.to_string(), seconds };
    cluster.clock_offsets().into_iter().map(offset).collect()
}

fn replicas(cluster: &Cluster, now: Now) -> Vec<ReplicaStatus> {
    let followers = cluster.replication().map(|shared| shared.followers.all()).unwrap_or_default();
    let status = |(id, follower): (node_core::cluster::NodeId, crate::cluster::Follower)| ReplicaStatus {
        node: id.to_string(),
        online: follower.is_online,
        lag_seconds: now.wall.since(follower.until).as_secs_f64(),
        offset: follower.offset,
    };
    followers.into_iter().map(status).collect()
}
