//! Who decides: which nodes vote in the region's Raft group. All others only learn.
//!
//! Up to five, so that the loss of two stops nothing and no decision waits for more disks than it must; an odd number,
//! since with an even one the last voter tolerates no further loss; spread over the shards, since a shard's nodes are what
//! an operator puts side by side. A voter that has failed gives its place to a node that answers. If there is none it
//! stays: fewer voters would make the loss of the next one worse.
//!
//! Whoever votes goes on voting while nothing speaks against it, so the answer to its own answer is the same, and a node
//! that comes back changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    id::NodeId,
    map::{ClusterMap, Health, Node},
};
use crate::limits::VOTERS_MAX;

/// Chooses the voters of a region, given those that vote now and those that are ready to: who have the log, or nearly.
/// Letting one vote that has nothing and then does not come would stop the group if its vote were needed.
pub fn choose_voters(map: &ClusterMap, current: &BTreeSet<NodeId>, ready: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let rank = |id, node: &Node| match node.health {
        Health::Up if current.contains(&id) => Some(Rank::Votes),
        Health::Up if ready.contains(&id) => Some(Rank::Answers),
        Health::Failed if current.contains(&id) => Some(Rank::VotesButFailed),
        Health::Up | Health::Failed => None,
    };
    let mut candidates: BTreeMap<NodeId, (Rank, &Node)> =
        map.nodes().filter_map(|(id, node)| Some((id, (rank(id, node)?, node)))).collect();
    let wanted = odd_up_to(candidates.len().min(VOTERS_MAX));
    let (mut voters, mut per_shard) = (BTreeSet::new(), BTreeMap::new());
    while voters.len() < wanted {
        let best = candidates.iter().min_by_key(|(id, (rank, node))| {
            let beside: usize = per_shard.get(&node.shard).copied().unwrap_or_default();
            (*rank, beside, **id)
        });
        let Some((id, shard)) = best.map(|(id, (_, node))| (*id, node.shard)) else { break };
        candidates.remove(&id);
        *per_shard.entry(shard).or_default() += 1;
        voters.insert(id);
    }
    voters
}

/// In which order candidates are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Votes,
    Answers,
    VotesButFailed,
}

/// The greatest odd number that is not greater; zero of zero.
const fn odd_up_to(count: usize) -> usize {
    if count.is_multiple_of(2) { count.saturating_sub(1) } else { count }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clock::{RegionId, Time};
    use proptest::prelude::*;

    use super::choose_voters;
    use crate::{
        cluster::{Addresses, ClusterMap, FoundShard, Founder, Id, MapCommand, NodeId, Run},
        slot::{Slot, SlotSet},
    };

    #[test]
    fn there_are_up_to_five_and_an_odd_number() {
        for (shards, nodes, voters) in [(1, 1, 1), (1, 2, 1), (1, 3, 3), (2, 2, 3), (5, 1, 5), (3, 2, 5), (4, 3, 5)] {
            let chosen = choose(&map(shards, nodes), &BTreeSet::new());
            assert_eq!(chosen.len(), voters, "{shards} shards of {nodes}");
        }
        assert!(choose(&ClusterMap::new(), &BTreeSet::new()).is_empty());
    }

    #[test]
    fn they_are_spread_over_the_shards() {
        let map = map(3, 3);
        let mut per_shard = [0; 3];
        for voter in choose(&map, &BTreeSet::new()) {
            per_shard[usize::from(map.shard_of(voter).unwrap().0.0)] += 1;
        }
        assert_eq!(per_shard, [2, 2, 1]);
    }

    #[test]
    fn one_that_failed_gives_its_place_to_one_that_answers_and_does_not_take_it_back() {
        let mut map = map(1, 4);
        let before = choose(&map, &BTreeSet::new());
        let gone = *before.first().unwrap();
        map.apply(&MapCommand::Failed { node: gone, run: Run(1) }).unwrap();
        let after = choose(&map, &before);
        assert_eq!(after.len(), 3);
        assert!(!after.contains(&gone));
        assert_eq!(before.intersection(&after).count(), 2);
        map.apply(&MapCommand::Recovered { node: gone, run: Run(1) }).unwrap();
        assert_eq!(choose(&map, &after), after);
    }

    #[test]
    fn one_that_failed_stays_if_there_is_nobody_else() {
        let mut map = map(1, 3);
        let before = choose(&map, &BTreeSet::new());
        map.apply(&MapCommand::Failed { node: *before.first().unwrap(), run: Run(1) }).unwrap();
        assert_eq!(choose(&map, &before), before);
    }

    #[test]
    fn nobody_votes_before_it_is_ready() {
        let map = map(1, 5);
        let ids: Vec<NodeId> = map.nodes().map(|(id, _)| id).collect();
        let first = BTreeSet::from([ids[0]]);
        assert_eq!(choose_voters(&map, &first, &BTreeSet::new()), first);
        assert_eq!(
            choose_voters(&map, &first, &BTreeSet::from([ids[1], ids[2]])),
            BTreeSet::from([ids[0], ids[1], ids[2]])
        );
    }

    proptest! {
        #[test]
        fn choosing_again_changes_nothing(
            shards in 1..5_u8, nodes in 1..4_u8, failed: u16, current: u16, ready: u16,
        ) {
            let mut map = map(shards, nodes);
            let ids: Vec<NodeId> = map.nodes().map(|(id, _)| id).collect();
            let those = |bits: u16| ids.iter().enumerate().filter(move |(index, _)| bits >> index & 1 == 1).map(|(_, id)| *id);
            for node in those(failed).collect::<Vec<_>>() {
                map.apply(&MapCommand::Failed { node, run: Run(1) }).unwrap();
            }
            let ready = those(ready).collect();
            let chosen = choose_voters(&map, &those(current).collect(), &ready);
            prop_assert!(chosen.len() <= 5 && (chosen.is_empty() || chosen.len() % 2 == 1));
            prop_assert!(chosen.iter().all(|id| ids.contains(id)));
            prop_assert_eq!(choose_voters(&map, &chosen, &ready), chosen);
        }
    }

    /// The choice if all are ready.
    fn choose(map: &ClusterMap, current: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        choose_voters(map, current, &map.nodes().map(|(id, _)| id).collect())
    }

    /// So many shards of so many nodes each.
    fn map(shards: u8, nodes: u8) -> ClusterMap {
        let founder = |number| Founder {
            id: NodeId(Id::from_bytes([number; Id::BYTES])),
            run: Run(1),
            addresses: Addresses { host: "a".to_owned(), port: 1, tls_port: 0, bus_port: 2 },
        };
        let shards = (0..shards).map(|shard| FoundShard {
            label: Id::from_bytes([shard; Id::BYTES]),
            nodes: (0..nodes).map(|node| founder(shard * nodes + node + 1)).collect(),
            slots: if shard == 0 { Slot::all().collect() } else { SlotSet::new() },
            weight: 100,
        });
        let mut map = ClusterMap::new();
        let found = MapCommand::Found { region: RegionId::MIN, shards: shards.collect(), at: Time::from_unix_ms(1) };
        map.apply(&found).unwrap();
        map
    }
}
