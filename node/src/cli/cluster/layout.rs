//! Who is together with whom in a shard: the layout of a cluster that is to be founded.
//!
//! # The way chosen
//! Nodes are put in a row host by host, the host with most nodes first, and dealt out to the shards like cards. Two nodes
//! of one host come into the same shard only if that host has more nodes than there are shards, so nobody could do
//! better. Then each shard chooses its primary at the host that has fewest primaries by then. Nodes of one host keep the
//! order in which they were named: on a single machine the first become the primaries.
//!
//! Left out: racks and zones, which a host's name does not tell.

use std::{cmp::Reverse, collections::BTreeMap};

use node_core::{
    cluster::{
        FoundShard, Founder, Id, ShardId,
        placement::{Share, place},
    },
    limits::WEIGHT_MAX,
};

/// The weight of a shard of ordinary size, in percent.
pub(crate) const ORDINARY: u16 = 100;

/// Nodes that make no cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    /// Too few, or a few too many.
    #[error("{nodes} nodes make no whole number of shards of {size}, a primary and {}; name {}", replicas(.size - 1), nearest(*.nodes, *.size))]
    Uneven {
        /// How many there are.
        nodes: usize,
        /// How many a shard has.
        size: usize,
    },
    /// Not a weight for each shard.
    #[error("{weights} weights are given for {shards} shards; give one for each, or none")]
    Weights {
        /// How many weights.
        weights: usize,
        /// How many shards.
        shards: usize,
    },
    /// Not a weight.
    #[error("a weight is 1 to {WEIGHT_MAX} percent of a shard of ordinary size")]
    Weight,
}

fn replicas(count: usize) -> String {
    if count == 1 { "1 replica".to_owned() } else { format!("{count} replicas") }
}

/// The numbers of nodes nearest to `nodes` that make whole shards.
fn nearest(nodes: usize, size: usize) -> String {
    let fewer = nodes / size * size;
    let more = fewer.saturating_add(size);
    if fewer == 0 { more.to_string() } else { format!("{fewer} or {more}") }
}

/// The shards that these nodes make, each of a primary and `replicas` replicas, with their slots.
///
/// # Errors
/// [`LayoutError`]
pub(crate) fn shards(
    nodes: Vec<Founder>,
    replicas: usize,
    weights: &[u16],
    mut label: impl FnMut() -> Id,
) -> Result<Vec<FoundShard>, LayoutError> {
    let size = replicas.saturating_add(1);
    if nodes.is_empty() || !nodes.len().is_multiple_of(size) {
        return Err(LayoutError::Uneven { nodes: nodes.len(), size });
    }
    let count = nodes.len() / size;
    if !weights.is_empty() && weights.len() != count {
        return Err(LayoutError::Weights { weights: weights.len(), shards: count });
    }
    if weights.iter().any(|weight| !(1..=WEIGHT_MAX).contains(weight)) {
        return Err(LayoutError::Weight);
    }
    let weight = |index: usize| weights.get(index).copied().unwrap_or(ORDINARY);
    let share = |index| Share { shard: ShardId(index as u16), weight: weight(index) };
    let placement = place(&(0..count).map(share).collect::<Vec<_>>(), |_| None);
    let groups = with_primaries(dealt(nodes, count));
    let shards = groups.into_iter().enumerate().map(|(index, nodes)| FoundShard {
        label: label(),
        nodes,
        slots: placement.slots(ShardId(index as u16)),
        weight: weight(index),
    });
    Ok(shards.collect())
}

/// Deals nodes out to `count` shards, so that those of one host come together as little as can be.
fn dealt(nodes: Vec<Founder>, count: usize) -> Vec<Vec<Founder>> {
    let mut hosts: Vec<(String, Vec<Founder>)> = Vec::new();
    for node in nodes {
        let host = &node.addresses.host;
        match hosts.iter_mut().find(|(name, _)| name == host) {
            Some((_, nodes)) => nodes.push(node),
            None => hosts.push((host.clone(), vec![node])),
        }
    }
    hosts.sort_by_key(|(_, nodes)| Reverse(nodes.len()));
    let mut shards = vec![Vec::new(); count];
    for (index, node) in hosts.into_iter().flat_map(|(_, nodes)| nodes).enumerate() {
        shards[index % count].push(node);
    }
    shards
}

/// Puts a primary first in each shard: of the host that has fewest by then.
fn with_primaries(mut shards: Vec<Vec<Founder>>) -> Vec<Vec<Founder>> {
    let mut primaries: BTreeMap<String, usize> = BTreeMap::new();
    for nodes in &mut shards {
        let at_host = |node: &Founder| primaries.get(&node.addresses.host).copied().unwrap_or(0);
        let chosen = (0..nodes.len()).min_by_key(|index| at_host(&nodes[*index])).unwrap_or(0);
        nodes[..=chosen].rotate_right(1);
        *primaries.entry(nodes[0].addresses.host.clone()).or_default() += 1;
    }
    shards
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use clock::{RegionId, Time};
    use node_core::cluster::{ClusterMap, FoundShard, Founder, Id, MapCommand};
    use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, proptest};

    use super::{LayoutError, shards};
    use crate::cli::cluster::tests::founder;

    /// Nodes at hosts, and how many replicas each primary has.
    fn cases() -> impl Strategy<Value = (Vec<Founder>, usize)> {
        (1..6_usize, 0..4_usize).prop_flat_map(|(shards, replicas)| {
            let hosts = proptest::collection::vec(0..5_u8, shards * (replicas + 1));
            let nodes = hosts.prop_map(|hosts| {
                hosts.iter().zip(0..).map(|(host, index)| founder(index, &format!("host-{host}"))).collect()
            });
            (nodes, Just(replicas))
        })
    }

    fn laid_out(nodes: &[Founder], replicas: usize) -> Vec<FoundShard> {
        shards(nodes.to_vec(), replicas, &[], || Id::from_bytes([7; 20])).unwrap()
    }

    proptest! {
        #[test]
        fn the_map_takes_every_layout((nodes, replicas) in cases()) {
            let shards = laid_out(&nodes, replicas);
            let named: BTreeSet<_> = shards.iter().flat_map(|shard| shard.nodes.iter().map(|node| node.id)).collect();
            prop_assert_eq!(named, nodes.iter().map(|node| node.id).collect());
            prop_assert!(shards.iter().all(|shard| shard.nodes.len() == replicas + 1));
            let region = RegionId::new(1).unwrap();
            let found = MapCommand::Found { region, shards, at: Time::from_unix_ms(1) };
            prop_assert!(ClusterMap::new().apply(&found).is_ok());
        }

        #[test]
        fn nodes_of_a_host_share_a_shard_only_where_that_cannot_be_helped((nodes, replicas) in cases()) {
            let shards = laid_out(&nodes, replicas);
            let mut at_host = BTreeMap::new();
            nodes.iter().for_each(|node| *at_host.entry(&node.addresses.host).or_insert(0_usize) += 1);
            for shard in &shards {
                for (host, count) in &at_host {
                    let together = shard.nodes.iter().filter(|node| node.addresses.host == **host).count();
                    prop_assert!(together <= count.div_ceil(shards.len()), "{} of {} at {}", together, count, host);
                }
            }
        }

        #[test]
        fn on_one_host_the_first_named_are_the_primaries(count in 1..6_usize, replicas in 0..4_usize) {
            let nodes: Vec<_> = (0..count * (replicas + 1)).map(|index| founder(index as u8, "here")).collect();
            let primaries: Vec<_> = laid_out(&nodes, replicas).iter().map(|shard| shard.nodes[0].id).collect();
            let first: Vec<_> = nodes[..count].iter().map(|node| node.id).collect();
            prop_assert_eq!(primaries, first);
        }
    }

    #[test]
    fn primaries_are_spread_over_hosts() {
        let nodes: Vec<_> =
            [0, 0, 1, 1, 2, 2].iter().zip(0..).map(|(host, i)| founder(i, &format!("h{host}"))).collect();
        let hosts: BTreeSet<_> =
            laid_out(&nodes, 1).iter().map(|shard| shard.nodes[0].addresses.host.clone()).collect();
        assert_eq!(hosts.len(), 3);
    }

    #[test]
    fn slots_go_by_weight() {
        let nodes = vec![founder(0, "a"), founder(1, "b")];
        let shards = shards(nodes, 0, &[100, 300], || Id::from_bytes([7; 20])).unwrap();
        assert_eq!(shards.iter().map(|shard| shard.slots.len()).collect::<Vec<_>>(), [4_096, 12_288]);
    }

    #[test]
    fn what_makes_no_cluster_is_refused_with_what_would() {
        let nodes: Vec<_> = (0..5).map(|index| founder(index, "here")).collect();
        let of = |replicas, weights: &[u16]| shards(nodes.clone(), replicas, weights, || Id::from_bytes([7; 20]));
        let error = of(1, &[]).unwrap_err();
        let words = "5 nodes make no whole number of shards of 2, a primary and 1 replica; name 4 or 6";
        assert_eq!(error.to_string(), words);
        assert_eq!(of(0, &[1, 2]).unwrap_err(), LayoutError::Weights { weights: 2, shards: 5 });
        assert_eq!(of(4, &[0]).unwrap_err(), LayoutError::Weight);
        assert!(of(usize::MAX, &[]).is_err() && shards(Vec::new(), 0, &[], || Id::from_bytes([7; 20])).is_err());
    }
}
