//! Maps made up for tests.

use std::{sync::Arc, time::Duration};

use clock::{RegionId, Time};
use node_core::{
    cluster::{Addresses, ClusterMap, FoundShard, Founder, Id, MapCommand, NodeId, Run, ShardId},
    slot::{SLOTS, SlotRange, SlotSet},
};

use super::Cluster;

/// A node: `a0a0...` is the first of the first shard, its primary, `b1b1...` the second of the second.
pub(crate) fn node(shard: u8, number: u8) -> NodeId {
    NodeId(Id::from_bytes([(shard + 10) << 4 | number; Id::BYTES]))
}

/// Slots 0 to 8000 with one shard, the others with another, each a primary and a replica, at `10.0.SHARD.NUMBER`, with
/// the ports 6379, 6390 and 16379.
pub(crate) fn two_shards() -> ClusterMap {
    let shard = |shard: u8, slots| FoundShard {
        label: Id::from_bytes([shard + 1; Id::BYTES]),
        nodes: [0, 1].map(|number| founder(shard, number)).into(),
        slots,
        weight: 100,
    };
    let shards = vec![shard(0, range(0, 8_001)), shard(1, range(8_001, SLOTS))];
    let mut map = ClusterMap::new();
    map.apply(&MapCommand::Found { region: RegionId::MIN, shards, at: Time::ZERO }).unwrap();
    map
}

fn founder(shard: u8, number: u8) -> Founder {
    let addresses =
        Addresses { host: format!("10.0.{shard}.{number}"), port: 6_379, tls_port: 6_390, bus_port: 16_379 };
    Founder { id: node(shard, number), run: Run(1), addresses }
}

/// The slots from `first` on, up to but without `end`.
pub(crate) fn range(first: u16, end: u16) -> SlotSet {
    SlotRange::new(first..end).unwrap().iter().collect()
}

/// Begins to move slots of the first shard to the second.
pub(crate) fn moving(map: &ClusterMap, slots: SlotSet) -> ClusterMap {
    let mut map = map.clone();
    map.apply(&MapCommand::Move { slots, to: ShardId(1) }).unwrap();
    map
}

/// Prepares such a move.
pub(crate) fn prepared(map: &ClusterMap, slots: SlotSet) -> ClusterMap {
    let mut map = map.clone();
    let since = slots.iter().next().and_then(|slot| map.moving(slot)).unwrap().since;
    map.apply(&MapCommand::Prepare { slots, from: ShardId(0), to: ShardId(1), since }).unwrap();
    map
}

/// Ends such a move, prepared or not.
pub(crate) fn moved(map: &ClusterMap, slots: SlotSet) -> ClusterMap {
    let at = slots.iter().next().and_then(|slot| map.moving(slot)).unwrap().prepared;
    let mut map = if at.is_some() { map.clone() } else { prepared(map, slots) };
    map.apply(&MapCommand::Moved { prepared: at.unwrap_or(map.epoch()) }).unwrap();
    map
}

/// What a node knows that has this map, and a lease without end.
pub(crate) fn cluster(map: ClusterMap, me: NodeId) -> Arc<Cluster> {
    let cluster = Cluster::new(me, Run(1));
    cluster.set_map(Arc::new(map));
    cluster.set_lease(Duration::from_secs(1 << 30));
    Arc::new(cluster)
}
