//! What nodes are to be, by the maps that they may get.

use std::{ops::Range, time::Duration};

use clock::{RegionId, Time};

use super::{Assignment, Start, foreign};
use crate::{
    cluster::{Addresses, ClusterMap, FoundShard, Founder, Id, Joins, MapCommand, NodeId, Run, ShardId},
    slot::{SLOTS, SlotRange, SlotSet},
};

const DRIFT: Duration = Duration::from_millis(500);

fn node(number: u8) -> NodeId {
    NodeId(Id::from_bytes([number; Id::BYTES]))
}

fn founder(number: u8, run: u64) -> Founder {
    let addresses = Addresses { host: "node".into(), port: 1, tls_port: 0, bus_port: u16::from(number) };
    Founder { id: node(number), run: Run(run), addresses }
}

fn slots(range: Range<u16>) -> SlotSet {
    SlotRange::new(range).expect("a range of slots").iter().collect()
}

/// Shard 0: nodes 0 and 1, the lower half of the slots. Shard 1: nodes 2 and 3, the upper half. All in their first run.
fn two_shards() -> ClusterMap {
    let shard = |first: u8, slots| FoundShard {
        label: Id::from_bytes([first + 100; Id::BYTES]),
        nodes: vec![founder(first, 1), founder(first + 1, 1)],
        slots,
        weight: 100,
    };
    let shards = vec![shard(0, slots(0..SLOTS / 2)), shard(2, slots(SLOTS / 2..SLOTS))];
    after(ClusterMap::new(), MapCommand::Found { region: RegionId::MIN, shards, at: Time::ZERO })
}

fn after(mut map: ClusterMap, command: MapCommand) -> ClusterMap {
    map.apply(&command).expect("the map takes it");
    map
}

/// Node 1 takes the place of node 0.
fn promoted(map: ClusterMap, has_all: bool) -> ClusterMap {
    let former = (node(0), Run(1));
    let (shard, at) = (ShardId(0), Time::from_unix_ms(7));
    after(map, MapCommand::Promote { shard, node: node(1), run: Run(1), former, has_all, at })
}

/// The first hundred slots begin to move to shard 1.
fn moving(map: ClusterMap) -> ClusterMap {
    after(map, MapCommand::Move { slots: slots(0..100), to: ShardId(1) })
}

/// They have moved.
fn moved(map: ClusterMap) -> ClusterMap {
    let since = map.epoch();
    let map = after(map, MapCommand::Prepare { slots: slots(0..100), from: ShardId(0), to: ShardId(1), since });
    let prepared = map.epoch();
    after(map, MapCommand::Moved { prepared })
}

fn of(map: &ClusterMap, number: u8, run: u64) -> Assignment {
    Assignment::of(map, node(number), Run(run), DRIFT)
}

#[test]
fn primary_feeds_its_replicas_and_a_replica_follows_it() {
    let map = two_shards();
    let Assignment::Primary { life, start, replicas, members, leaving, arriving } = of(&map, 0, 1) else {
        panic!("it is the primary")
    };
    assert_eq!(Some(life.origin), map.origin(ShardId(0)));
    assert_eq!(start, Start::Past(DRIFT));
    assert_eq!(replicas.keys().collect::<Vec<_>>(), [&node(1)]);
    assert_eq!(members, [node(0), node(1)]);
    assert!(leaving.is_empty() && arriving.is_empty());
    let Assignment::Replica { life: followed, primary, address } = of(&map, 1, 1) else { panic!("it is a replica") };
    assert_eq!((followed, primary, &*address), (life, node(0), "node:0"));
}

#[test]
fn primary_that_has_started_again_is_nothing_and_a_replica_that_has_is_one_still() {
    let map = two_shards();
    assert_eq!((of(&map, 0, 2), of(&map, 9, 1)), (Assignment::Idle, Assignment::Idle));
    assert!(matches!(of(&map, 1, 2), Assignment::Replica { .. }));
    assert_eq!(Assignment::of(&ClusterMap::new(), node(0), Run(1), DRIFT), Assignment::Idle);
}

#[test]
fn clock_of_a_new_primary_begins_now_only_if_it_has_all() {
    for (has_all, expected) in [(true, Start::Now), (false, Start::Past(DRIFT))] {
        let map = promoted(two_shards(), has_all);
        let Assignment::Primary { start, life, .. } = of(&map, 1, 1) else { panic!("it is the primary") };
        assert_eq!((start, life.birth), (expected, Time::from_unix_ms(7)));
        assert!(matches!(of(&map, 0, 1), Assignment::Replica { primary, .. } if primary == node(1)));
    }
    let noon = Time::from_unix_ms(1_800_000_000_000);
    assert_eq!((Start::Now.at(noon), Start::Past(DRIFT).at(noon)), (noon, noon.after(DRIFT)));
}

#[test]
fn both_ends_of_a_move_know_the_same_of_it() {
    let map = moving(two_shards());
    let Assignment::Primary { leaving, .. } = of(&map, 0, 1) else { panic!("it is the primary") };
    let Assignment::Primary { arriving, .. } = of(&map, 2, 1) else { panic!("it is the primary") };
    assert_eq!(leaving[&node(2)].1, arriving[&node(0)]);
    assert_eq!(leaving[&node(2)].1.slots, slots(0..100));
}

#[test]
fn of_two_moves_between_the_same_the_first_comes_first() {
    let map = after(moving(two_shards()), MapCommand::Move { slots: slots(200..300), to: ShardId(1) });
    let Assignment::Primary { leaving, .. } = of(&map, 0, 1) else { panic!("it is the primary") };
    assert_eq!(leaving[&node(2)].1.slots, slots(0..100));
}

#[test]
fn what_has_left_and_what_begins_to_arrive_is_foreign_on_all_nodes_of_the_shard() {
    let (before, begun) = (two_shards(), moving(two_shards()));
    let ended = moved(begun.clone());
    for (number, when_it_begins, when_it_ends) in [(0, 0..0, 0..100), (1, 0..0, 0..100), (2, 0..100, 0..0)] {
        let expected = |range: Range<u16>| if range.is_empty() { SlotSet::new() } else { slots(range) };
        assert_eq!(foreign(&before, &begun, node(number)), expected(when_it_begins), "{number} when it begins");
        assert_eq!(foreign(&begun, &ended, node(number)), expected(when_it_ends), "{number} when it ends");
    }
    assert!(foreign(&ended, &ended, node(0)).is_empty());
}

#[test]
fn map_that_was_skipped_leaves_nothing_behind() {
    let (before, ended) = (two_shards(), moved(moving(two_shards())));
    assert_eq!(foreign(&before, &ended, node(0)), slots(0..100));
}

#[test]
fn node_that_is_new_has_nothing_foreign() {
    let before = two_shards();
    let label = Id::from_bytes([77; Id::BYTES]);
    let joins = Joins::New { label, weight: 100 };
    let joined = after(before.clone(), MapCommand::AddNode { node: founder(4, 1), joins, at: Time::ZERO });
    assert!(foreign(&before, &joined, node(4)).is_empty());
    assert!(matches!(of(&joined, 4, 1), Assignment::Primary { .. }));
}
