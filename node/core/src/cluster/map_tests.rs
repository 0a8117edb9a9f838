//! The laws of the map, over random commands, valid and not; and what each command is refused for.

use std::collections::{BTreeMap, BTreeSet};

use clock::{Incarnation, RegionId, Time};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

use super::{Addresses, ClusterMap, Health, Moving, Owners};
use crate::{
    cluster::{
        Epoch, FoundShard, Founder, Id, Joins, MapCommand, MapEvent, NodeId, Peer, Refused, RegionChange,
        RegionRefused, Run, ShardId,
    },
    limits::NODES_MAX,
    slot::{SLOTS, Slot, SlotSet},
};

/// Nodes, runs and slots that random commands speak of: few, so that they meet.
const NODES: u8 = 8;
const RUNS: u64 = 4;
const MOVED_SLOTS: u16 = 6;

fn node(number: u8) -> NodeId {
    NodeId(Id::from_bytes([number; Id::BYTES]))
}

fn founder(number: u8, run: u64) -> Founder {
    let addresses = Addresses { host: "host".into(), port: u16::from(number), tls_port: 0, bus_port: 1 };
    Founder { id: node(number), run: Run(run), addresses }
}

fn slots(numbers: impl IntoIterator<Item = u16>) -> SlotSet {
    numbers.into_iter().filter_map(Slot::new).collect()
}

fn slot(number: u16) -> Slot {
    Slot::new(number).expect("a slot")
}

fn shard(nodes: &[u8], slots: SlotSet) -> FoundShard {
    let nodes = nodes.iter().map(|number| founder(*number, 1)).collect();
    FoundShard { label: Id::from_bytes([0; Id::BYTES]), nodes, slots, weight: 100 }
}

fn found(shards: Vec<FoundShard>) -> MapCommand {
    MapCommand::Found { region: RegionId::MIN, shards, at: Time::ZERO }
}

/// Shard 0: nodes 0 and 1, the lower half of the slots. Shard 1: nodes 2 and 3, the upper half.
fn two_shards() -> ClusterMap {
    let mut map = ClusterMap::new();
    let lower = shard(&[0, 1], slots(0..SLOTS / 2));
    let upper = shard(&[2, 3], slots(SLOTS / 2..SLOTS));
    map.apply(&found(vec![lower, upper])).expect("two shards can be founded");
    map
}

fn promote(shard: u16, to: (u8, u64), former: (u8, u64)) -> MapCommand {
    let former = (node(former.0), Run(former.1));
    let (shard, node, run) = (ShardId(shard), node(to.0), Run(to.1));
    MapCommand::Promote { shard, node, run, former, has_all: false, at: Time::ZERO }
}

fn moving(numbers: impl IntoIterator<Item = u16>, to: u16) -> MapCommand {
    MapCommand::Move { slots: slots(numbers), to: ShardId(to) }
}

fn prepare(numbers: impl IntoIterator<Item = u16>, since: u64) -> MapCommand {
    MapCommand::Prepare { slots: slots(numbers), from: ShardId(0), to: ShardId(1), since: Epoch(since) }
}

fn outlive(shard: u16, incarnation: u16, last: u16) -> MapCommand {
    let [incarnation, last] = [incarnation, last].map(Incarnation::new);
    MapCommand::Outlive { shard: ShardId(shard), incarnation, last }
}

const fn moved(prepared: Epoch) -> MapCommand {
    MapCommand::Moved { prepared }
}

const fn unprepare(prepared: Epoch) -> MapCommand {
    MapCommand::Unprepare { prepared }
}

/// Begins to move the slot, and prepares that. Returns when it was prepared.
fn prepared(map: &mut ClusterMap, number: u16) -> Epoch {
    map.apply(&moving([number], 1)).expect("a slot can move");
    map.apply(&prepare([number], map.epoch().0)).expect("it can be prepared");
    map.epoch()
}

/// Sees that a command is refused for this, and changes nothing.
#[track_caller]
fn refuses(map: &mut ClusterMap, command: &MapCommand, refused: &Refused) {
    let before = map.clone();
    assert_eq!(map.apply(command).as_ref(), Err(refused), "{command:?}");
    assert_eq!(*map, before, "{command:?}");
}

fn commands() -> impl Strategy<Value = Vec<MapCommand>> {
    let id = || 0..NODES;
    let run = || 1..=RUNS;
    let shard_id = || (0_u16..6).prop_map(ShardId);
    let some_slots = || prop::collection::vec(0..MOVED_SLOTS, 0..3).prop_map(slots);
    let joins = prop_oneof![
        shard_id().prop_map(Joins::Shard),
        (0_u16..=200).prop_map(|weight| Joins::New { label: Id::from_bytes([1; Id::BYTES]), weight }),
    ];
    let at = || (0_u64..1_000).prop_map(Time::from_unix_ms);
    let one = prop_oneof![
        1 => Just(found(vec![shard(&[0, 1], slots(0..SLOTS / 2)), shard(&[2, 3], slots(SLOTS / 2..SLOTS))])),
        2 => (id(), run(), joins, at())
            .prop_map(|(id, run, joins, at)| MapCommand::AddNode { node: founder(id, run), joins, at }),
        2 => id().prop_map(|id| MapCommand::RemoveNode { node: node(id) }),
        3 => (id(), run()).prop_map(|(id, run)| MapCommand::Started { node: founder(id, run) }),
        2 => (id(), run()).prop_map(|(id, run)| MapCommand::Failed { node: node(id), run: Run(run) }),
        2 => (id(), run()).prop_map(|(id, run)| MapCommand::Recovered { node: node(id), run: Run(run) }),
        6 => (shard_id(), id(), run(), id(), run(), at()).prop_map(|(shard, id, run, former, former_run, at)| {
            let former = (node(former), Run(former_run));
            MapCommand::Promote { shard, node: node(id), run: Run(run), former, has_all: former_run % 2 == 0, at }
        }),
        4 => (some_slots(), shard_id()).prop_map(|(slots, to)| MapCommand::Move { slots, to }),
        4 => (some_slots(), shard_id(), shard_id(), 0_u64..20)
            .prop_map(|(slots, from, to, since)| MapCommand::Prepare { slots, from, to, since: Epoch(since) }),
        2 => (0_u64..20).prop_map(|prepared| moved(Epoch(prepared))),
        1 => (0_u64..20).prop_map(|prepared| unprepare(Epoch(prepared))),
        1 => some_slots().prop_map(|slots| MapCommand::StopMove { slots }),
        1 => (shard_id(), 0_u16..20_000).prop_map(|(shard, weight)| MapCommand::SetWeight { shard, weight }),
        1 => (shard_id(), 0_u16..8, 0_u16..8).prop_map(|(shard, life, last)| outlive(shard.0, life, last)),
    ];
    (prop::collection::vec(one, 1..60), any::<bool>()).prop_map(|(commands, is_founded)| {
        let founding = is_founded.then(|| found(vec![shard(&[0, 1], slots(0..9)), shard(&[2, 3], slots(9..SLOTS))]));
        founding.into_iter().chain(commands).collect()
    })
}

/// Names what the map supposes, where a command might as well: else nearly all would be refused.
fn informed(map: &ClusterMap, command: MapCommand) -> MapCommand {
    match command {
        MapCommand::Promote { shard, node, at, former, has_all, run } if run.0 % 2 == 0 => {
            let former = map.shard(shard).map_or(former, |shard| (shard.primary, shard.run));
            let run = map.node(node).map_or(run, |node| node.run);
            MapCommand::Promote { shard, node, run, former, has_all, at }
        }
        MapCommand::Prepare { slots, from, to, since } if since.0 % 2 == 0 => {
            let first = slots.iter().next();
            let since = first.and_then(|slot| map.moving(slot)).map_or(since, |moving| moving.since);
            let to = first.and_then(|slot| map.target(slot)).unwrap_or(to);
            let from = first.and_then(|slot| map.owner(slot)).unwrap_or(from);
            MapCommand::Prepare { slots, from, to, since }
        }
        MapCommand::Moved { prepared } if prepared.0 % 2 == 0 => moved(any_prepared(map).unwrap_or(prepared)),
        MapCommand::Unprepare { prepared } if prepared.0 % 2 == 0 => unprepare(any_prepared(map).unwrap_or(prepared)),
        other => other,
    }
}

fn any_prepared(map: &ClusterMap) -> Option<Epoch> {
    map.moves().find_map(|(slot, _)| map.moving(slot)?.prepared)
}

#[test]
fn shard_goes_on_beyond_a_life_that_is_not_of_this_cluster() {
    let mut map = two_shards();
    let lives = |map: &ClusterMap| map.shards().map(|(_, shard)| shard.incarnation.number()).collect::<Vec<_>>();
    assert_eq!(lives(&map), [0, 1]);
    // Such a life is the other shard's, or not younger, or speaks of one that is over.
    for command in [outlive(0, 0, 1), outlive(1, 1, 0), outlive(0, 3, 7)] {
        refuses(&mut map, &command, &Refused::Outdated);
    }
    refuses(&mut map, &outlive(9, 0, 7), &Refused::UnknownShard(ShardId(9)));
    assert_eq!(map.apply(&outlive(1, 1, 7)), Ok(MapEvent::Outlived(ShardId(1))));
    assert_eq!(map.apply(&outlive(0, 0, 7)), Ok(MapEvent::Outlived(ShardId(0))));
    assert_eq!(lives(&map), [9, 8]);
    refuses(&mut map, &outlive(0, 9, 7), &Refused::Outdated);
}

#[test]
fn shard_is_restamped_in_a_younger_life_while_nothing_of_it_moves() {
    let mut map = two_shards();
    let restamp = |incarnation, at| {
        let (incarnation, at) = (Incarnation::new(incarnation), Time::from_unix_ms(at));
        MapCommand::Restamp { shard: ShardId(0), incarnation, at }
    };
    map.apply(&moving([3], 1)).expect("a slot begins to move");
    refuses(&mut map, &restamp(0, 5), &Refused::Moves);
    map.apply(&MapCommand::StopMove { slots: slots([3]) }).expect("and stays");
    refuses(&mut map, &restamp(7, 5), &Refused::Outdated);
    assert_eq!(map.apply(&restamp(0, 5)), Ok(MapEvent::Restamped(ShardId(0))));
    // Its birth comes down as well.
    assert_eq!(map.apply(&restamp(2, 3)), Ok(MapEvent::Restamped(ShardId(0))));
    let shard = map.shard(ShardId(0)).expect("the shard");
    let life = (shard.incarnation.number(), shard.birth, shard.is_restamped);
    assert_eq!(life, (3, Time::from_unix_ms(3), true));
}

#[test]
fn other_regions_come_and_go_by_the_map() {
    let mut map = two_shards();
    let id = RegionId::new(2).expect("an id");
    let peer = Peer { name: "eu-west".to_owned(), id, addrs: Vec::new(), retired: None };
    assert_eq!(map.apply(&MapCommand::SetRegion(RegionChange::Add(peer.clone()))), Ok(MapEvent::Regions));
    assert_eq!(map.regions().over(&[]), [peer]);
    assert_eq!(
        map.apply(&MapCommand::SetRegion(RegionChange::Remove { region: id, last: None })),
        Ok(MapEvent::Regions)
    );
    assert_eq!(map.regions().over(&[]), []);
    let own = MapCommand::SetRegion(RegionChange::Remove { region: RegionId::MIN, last: None });
    refuses(&mut map, &own, &Refused::Region(RegionRefused::Own(RegionId::MIN)));
}

fn check(map: &ClusterMap) {
    if !map.is_founded() {
        assert_eq!(*map, ClusterMap::new());
        return;
    }
    let incarnations: BTreeSet<u16> = map.shards().map(|(_, shard)| shard.incarnation.number()).collect();
    assert_eq!(incarnations.len(), map.shards().len(), "two shards have one incarnation");
    for (id, shard) in map.shards() {
        assert_eq!(map.node(shard.primary).map(|node| node.shard), Some(id), "a primary is in another shard");
        assert!(shard.since <= map.epoch());
    }
    assert!(map.nodes().all(|(_, node)| map.shard(node.shard).is_some()), "a node is in no shard");
    for slot in Slot::all() {
        let owner = map.owner(slot).expect("a slot has no owner");
        assert!(map.shard(owner).is_some(), "a slot's owner is gone");
        if let Some(Moving { to, since, prepared }) = map.moving(slot) {
            assert!(to != owner && map.shard(to).is_some(), "a slot moves nowhere");
            let latest = |id| map.shard(id).map(|shard| shard.since);
            assert!(since <= map.epoch() && Some(since) >= latest(owner).max(latest(to)), "a move outlives a primary");
            let to_since = latest(to);
            assert!(
                prepared.is_none_or(|at| at <= map.epoch() && Some(at) > to_since),
                "a target is new to what is prepared"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_is_asked_the_map_stays_sound(commands in commands()) {
        let (mut map, mut twin) = (ClusterMap::new(), ClusterMap::new());
        let (mut shards, mut given) = (BTreeSet::new(), BTreeSet::new());
        for command in commands {
            let command = informed(&map, command);
            let before = map.clone();
            let outcome = map.apply(&command);
            assert_eq!(outcome, twin.apply(&command));
            match &outcome {
                Ok(_) => assert_eq!(map.epoch(), before.epoch().next()),
                Err(_) => assert_eq!(map, before),
            }
            for (id, shard) in map.shards().filter(|(id, _)| before.shard(*id).is_none()) {
                assert!(shards.insert(id), "a shard's number is given twice");
                assert!(given.insert(shard.incarnation.number()), "an incarnation is given twice");
            }
            if let Ok(MapEvent::Promoted(id, _)) = outcome {
                let incarnation = map.shard(id).map(|shard| shard.incarnation.number());
                assert!(incarnation.is_some_and(|number| given.insert(number)), "an incarnation is given twice");
            }
            check(&map);
        }
        assert_eq!(map, twin);
        let bytes = rmp_serde::to_vec(&map).expect("a map can be written");
        assert_eq!(rmp_serde::from_slice::<ClusterMap>(&bytes).expect("and read"), map.clone());
        let text = serde_json::to_string(&map).expect("a map can be written");
        assert_eq!(serde_json::from_str::<ClusterMap>(&text).expect("and read"), map);
    }

    #[test]
    fn commands_come_through_as_they_were(commands in commands()) {
        let bytes = rmp_serde::to_vec(&commands).expect("commands can be written");
        assert_eq!(rmp_serde::from_slice::<Vec<MapCommand>>(&bytes).expect("and read"), commands);
        let text = serde_json::to_string(&commands).expect("commands can be written");
        assert_eq!(serde_json::from_str::<Vec<MapCommand>>(&text).expect("and read"), commands);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in any::<usize>()) {
        _ = rmp_serde::from_slice::<ClusterMap>(&bytes);
        _ = rmp_serde::from_slice::<MapCommand>(&bytes);
        let mut map = rmp_serde::to_vec(&two_shards()).expect("a map can be written");
        let at = at % map.len();
        map.splice(at..(at + bytes.len()).min(map.len()), bytes);
        _ = rmp_serde::from_slice::<ClusterMap>(&map);
    }

    #[test]
    fn a_move_ends_in_one_owner_whatever_comes_between(
        between in prop::collection::vec(0_u8..5, 0..6),
        stop in any::<bool>(),
    ) {
        let mut map = two_shards();
        map.apply(&moving([7], 1)).expect("a slot can move");
        let begun = map.epoch();
        let mut is_outdated = false;
        let mut runs = BTreeMap::from([(0, 1), (1, 1), (2, 1), (3, 1)]);
        for step in between {
            let shards: Vec<_> = [0, 1].iter().filter_map(|id| map.shard(ShardId(*id)).cloned()).collect();
            let command = match step {
                0 | 1 => {
                    // Over to the other of the two, and perhaps back to the one that was.
                    let id = u16::from(step);
                    let primary = shards[usize::from(step)].primary;
                    let (here, there) = if primary == node(step * 2) { (0, 1) } else { (1, 0) };
                    let (here, there) = (step * 2 + here, step * 2 + there);
                    promote(id, (there, runs[&there]), (here, shards[usize::from(step)].run.0))
                }
                2..4 => {
                    let number = (step - 2) * 2;
                    runs.entry(number).and_modify(|run| *run += 1);
                    MapCommand::Started { node: founder(number, runs[&number]) }
                }
                _ => MapCommand::SetWeight { shard: ShardId(0), weight: 50 },
            };
            if map.apply(&command).is_ok() {
                is_outdated |= step < 2;
            }
        }
        let holds_data = |id| {
            map.shard(ShardId(id)).is_some_and(|shard| map.node(shard.primary).is_some_and(|node| node.run == shard.run))
        };
        let can_be_prepared = holds_data(0) && holds_data(1) && !is_outdated;
        let outcome = map.apply(&prepare([7], begun.0));
        assert_eq!(outcome.is_ok(), can_be_prepared);
        let at = map.epoch();
        if outcome.is_ok() {
            refuses(&mut map, &MapCommand::StopMove { slots: slots([7]) }, &Refused::Prepared);
            let end = if stop { unprepare(at) } else { moved(at) };
            map.apply(&end).expect("what is prepared can be settled");
            refuses(&mut map, &moved(at), &Refused::Outdated);
        }
        let owner = ShardId(u16::from(can_be_prepared && !stop));
        assert_eq!(map.owner(slot(7)), Some(owner));
        if map.target(slot(7)).is_some() {
            map.apply(&MapCommand::StopMove { slots: slots([7]) }).expect("a move can be stopped");
            refuses(&mut map, &prepare([7], begun.0), &Refused::Outdated);
        }
        check(&map);
    }
}

#[test]
fn nothing_happens_before_the_founding_and_nobody_founds_twice() {
    let mut map = ClusterMap::new();
    refuses(&mut map, &MapCommand::RemoveNode { node: node(0) }, &Refused::NotFounded);
    refuses(&mut map, &moving([1], 0), &Refused::NotFounded);
    let mut map = two_shards();
    refuses(&mut map, &found(vec![shard(&[9], SlotSet::all())]), &Refused::Exists(Epoch(1)));
}

#[test]
fn a_founding_gives_each_slot_one_owner_and_each_node_one_shard() {
    let mut map = ClusterMap::new();
    refuses(&mut map, &found(Vec::new()), &Refused::Owner(slot(0)));
    refuses(&mut map, &found(vec![shard(&[0], slots(1..SLOTS))]), &Refused::Owner(slot(0)));
    let twice = vec![shard(&[0], SlotSet::all()), shard(&[1], slots([5]))];
    refuses(&mut map, &found(twice), &Refused::Owner(slot(5)));
    refuses(&mut map, &found(vec![shard(&[], SlotSet::all())]), &Refused::Layout);
    refuses(&mut map, &found(vec![shard(&[0, 0], SlotSet::all())]), &Refused::Layout);
    let shared = vec![shard(&[0], SlotSet::all()), shard(&[0], SlotSet::new())];
    refuses(&mut map, &found(shared), &Refused::KnownNode(node(0)));
    let weightless = FoundShard { weight: 0, ..shard(&[0], SlotSet::all()) };
    refuses(&mut map, &found(vec![weightless]), &Refused::Weight);
}

#[test]
fn a_node_joins_once_and_to_a_shard_that_exists() {
    let mut map = two_shards();
    let join = |number, joins| MapCommand::AddNode { node: founder(number, 1), joins, at: Time::ZERO };
    refuses(&mut map, &join(0, Joins::Shard(ShardId(1))), &Refused::KnownNode(node(0)));
    refuses(&mut map, &join(9, Joins::Shard(ShardId(7))), &Refused::UnknownShard(ShardId(7)));
    let label = Id::from_bytes([7; Id::BYTES]);
    refuses(&mut map, &join(9, Joins::New { label, weight: 0 }), &Refused::Weight);
    refuses(&mut map, &join(0, Joins::New { label, weight: 1 }), &Refused::KnownNode(node(0)));
    map.apply(&join(9, Joins::New { label, weight: 1 })).expect("a node can join");
    assert_eq!(map.shard(ShardId(2)).map(|shard| shard.primary), Some(node(9)));
}

#[test]
fn there_are_no_more_nodes_than_a_map_may_have_nor_shards_than_numbers() {
    let mut map = two_shards();
    let numbered = |number: u16| {
        let mut bytes = [0xff; Id::BYTES];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        Founder { id: NodeId(Id::from_bytes(bytes)), ..founder(0, 1) }
    };
    let join = |number, joins| MapCommand::AddNode { node: numbered(number), joins, at: Time::ZERO };
    for number in 4..NODES_MAX as u16 {
        map.apply(&join(number, Joins::Shard(ShardId(0)))).expect("there is room");
    }
    refuses(&mut map, &join(5_000, Joins::Shard(ShardId(0))), &Refused::TooManyNodes(NODES_MAX));

    let mut map = ClusterMap { next_shard: u16::MAX, ..two_shards() };
    let joins = Joins::New { label: Id::from_bytes([7; Id::BYTES]), weight: 1 };
    refuses(&mut map, &join(5_000, joins), &Refused::TooManyShards);
}

#[test]
fn only_who_holds_nothing_can_leave() {
    let mut map = two_shards();
    refuses(&mut map, &MapCommand::RemoveNode { node: node(9) }, &Refused::UnknownNode(node(9)));
    refuses(&mut map, &MapCommand::RemoveNode { node: node(0) }, &Refused::InUse(node(0)));
    map.apply(&MapCommand::RemoveNode { node: node(1) }).expect("a replica can leave");
    refuses(&mut map, &MapCommand::RemoveNode { node: node(0) }, &Refused::InUse(node(0)));

    let joins = Joins::New { label: Id::from_bytes([7; Id::BYTES]), weight: 1 };
    map.apply(&MapCommand::AddNode { node: founder(9, 1), joins, at: Time::ZERO }).expect("a node can join");
    map.apply(&moving([3], 2)).expect("a slot can move");
    refuses(&mut map, &MapCommand::RemoveNode { node: node(9) }, &Refused::InUse(node(9)));
    map.apply(&MapCommand::StopMove { slots: slots([3]) }).expect("it can stop");
    map.apply(&MapCommand::RemoveNode { node: node(9) }).expect("who holds nothing can leave");
    assert!(map.shard(ShardId(2)).is_none());
}

#[test]
fn a_failed_primary_stays_until_another_has_its_place() {
    let mut map = two_shards();
    map.apply(&MapCommand::Failed { node: node(0), run: Run(1) }).expect("a node can fail");
    refuses(&mut map, &MapCommand::RemoveNode { node: node(0) }, &Refused::InUse(node(0)));
    map.apply(&promote(0, (1, 1), (0, 1))).expect("its replica can take over");
    map.apply(&MapCommand::RemoveNode { node: node(0) }).expect("a failed replica can leave");
}

#[test]
fn a_run_starts_once_and_none_before_it_again() {
    let mut map = two_shards();
    let started = |number, run| MapCommand::Started { node: founder(number, run) };
    refuses(&mut map, &started(9, 1), &Refused::UnknownNode(node(9)));
    refuses(&mut map, &started(0, 1), &Refused::Outdated);
    map.apply(&MapCommand::Failed { node: node(0), run: Run(1) }).expect("a node can fail");
    map.apply(&started(0, 3)).expect("a node can start again");
    assert_eq!(map.node(node(0)).map(|node| (node.run, node.health)), Some((Run(3), Health::Up)));
    assert_eq!(map.shard(ShardId(0)).map(|shard| (shard.primary, shard.run)), Some((node(0), Run(1))));
    refuses(&mut map, &started(0, 2), &Refused::Outdated);
}

#[test]
fn health_is_of_one_run_and_changes_only_when_it_differs() {
    let mut map = two_shards();
    let failed = |number, run| MapCommand::Failed { node: node(number), run: Run(run) };
    let recovered = |run| MapCommand::Recovered { node: node(0), run: Run(run) };
    refuses(&mut map, &failed(9, 1), &Refused::UnknownNode(node(9)));
    refuses(&mut map, &failed(0, 2), &Refused::Outdated);
    refuses(&mut map, &recovered(1), &Refused::Outdated);
    map.apply(&failed(0, 1)).expect("a node can fail");
    refuses(&mut map, &failed(0, 1), &Refused::Outdated);
    refuses(&mut map, &recovered(2), &Refused::Outdated);
    map.apply(&recovered(1)).expect("it can recover");
}

#[test]
fn a_promotion_names_the_primary_before_and_a_member_in_its_run() {
    let mut map = two_shards();
    refuses(&mut map, &promote(0, (9, 1), (0, 1)), &Refused::UnknownNode(node(9)));
    refuses(&mut map, &promote(9, (1, 1), (0, 1)), &Refused::UnknownShard(ShardId(9)));
    refuses(&mut map, &promote(0, (1, 2), (0, 1)), &Refused::Outdated);
    refuses(&mut map, &promote(0, (1, 1), (0, 2)), &Refused::Outdated);
    refuses(&mut map, &promote(0, (2, 1), (0, 1)), &Refused::Outdated);
    let before = map.shard(ShardId(0)).cloned().expect("there is a shard");
    map.apply(&promote(0, (1, 1), (0, 1))).expect("a replica can take over");
    let after = map.shard(ShardId(0)).expect("there is a shard");
    assert!(after.incarnation.is_after(before.incarnation) && after.since == map.epoch());
    refuses(&mut map, &promote(0, (1, 1), (0, 1)), &Refused::Outdated);
}

#[test]
fn an_incarnation_that_a_shard_has_kept_is_given_to_no_other() {
    let mut map = two_shards();
    let kept = map.shard(ShardId(1)).map(|shard| shard.incarnation);
    for round in 0..2 * Incarnation::COUNT {
        let (to, former) = if round % 2 == 0 { (1, 0) } else { (0, 1) };
        map.apply(&promote(0, (to, 1), (former, 1))).expect("they can take turns");
        assert_ne!(map.shard(ShardId(0)).map(|shard| shard.incarnation), kept);
    }
}

#[test]
fn slots_of_one_owner_move_to_another_shard_once_at_a_time() {
    let mut map = two_shards();
    refuses(&mut map, &moving([1], 9), &Refused::UnknownShard(ShardId(9)));
    refuses(&mut map, &moving([], 1), &Refused::NoSlots);
    refuses(&mut map, &moving([1], 0), &Refused::Outdated);
    refuses(&mut map, &moving([1, SLOTS - 1], 1), &Refused::Outdated);
    refuses(&mut map, &MapCommand::StopMove { slots: slots([1]) }, &Refused::Outdated);
    map.apply(&moving([1, 2], 1)).expect("slots can move");
    refuses(&mut map, &moving([2, 3], 1), &Refused::Outdated);
    let since = map.epoch().0;
    refuses(&mut map, &prepare([], since), &Refused::NoSlots);
    refuses(&mut map, &prepare([1, 3], since), &Refused::Outdated);
    refuses(&mut map, &prepare([1], since - 1), &Refused::Outdated);
    map.apply(&prepare([1], since)).expect("one of them can be prepared");
    let at = map.epoch();
    refuses(&mut map, &prepare([1], since), &Refused::Outdated);
    refuses(&mut map, &moved(Epoch(since)), &Refused::Outdated);
    map.apply(&moved(at)).expect("it has moved");
    refuses(&mut map, &moved(at), &Refused::Outdated);
    assert_eq!((map.owner(slot(1)), map.owner(slot(2))), (Some(ShardId(1)), Some(ShardId(0))));
    assert_eq!((map.target(slot(1)), map.target(slot(2))), (None, Some(ShardId(1))));
}

#[test]
fn a_move_is_not_prepared_by_word_of_a_primary_that_came_back_to_its_role() {
    let mut map = two_shards();
    map.apply(&moving([1], 1)).expect("a slot can move");
    let since = map.epoch().0;
    map.apply(&promote(0, (1, 1), (0, 1))).expect("a replica can take over");
    map.apply(&promote(0, (0, 1), (1, 1))).expect("and give it back");
    refuses(&mut map, &prepare([1], since), &Refused::Outdated);
    map.apply(&prepare([1], map.epoch().0)).expect("it can begin anew");
}

#[test]
fn a_move_that_was_stopped_is_not_prepared_when_it_has_begun_again() {
    let mut map = two_shards();
    map.apply(&moving([1], 1)).expect("a slot can move");
    let since = map.epoch().0;
    map.apply(&MapCommand::StopMove { slots: slots([1]) }).expect("it can stop");
    map.apply(&moving([1], 1)).expect("it can move again");
    refuses(&mut map, &prepare([1], since), &Refused::Outdated);
}

#[test]
fn no_move_is_prepared_with_a_primary_that_has_started_again() {
    for restarted in [0, 2] {
        let mut map = two_shards();
        map.apply(&moving([1], 1)).expect("a slot can move");
        let since = map.epoch().0;
        map.apply(&MapCommand::Started { node: founder(restarted, 2) }).expect("a node can start again");
        refuses(&mut map, &prepare([1], since), &Refused::Outdated);
    }
}

#[test]
fn what_is_prepared_stays_with_its_owner_if_the_target_starts_again_or_is_replaced() {
    let mut map = two_shards();
    let at = prepared(&mut map, 1);
    map.apply(&MapCommand::Started { node: founder(2, 2) }).expect("a node can start again");
    refuses(&mut map, &moved(at), &Refused::Outdated);
    map.apply(&promote(1, (3, 1), (2, 1))).expect("its replica can take over");
    refuses(&mut map, &moved(at), &Refused::Outdated);
    refuses(&mut map, &unprepare(at), &Refused::Outdated);
    assert_eq!(map.moving(slot(1)), Some(Moving { to: ShardId(1), since: map.epoch(), prepared: None }));
}

#[test]
fn what_is_prepared_is_in_doubt_when_the_owner_is_replaced_until_the_target_has_its_say() {
    for has_taken in [false, true] {
        let mut map = two_shards();
        let at = prepared(&mut map, 1);
        assert!(map.moving(slot(1)).is_some_and(|moving| !moving.is_in_doubt()));
        map.apply(&MapCommand::Started { node: founder(0, 2) }).expect("a node can start again");
        map.apply(&promote(0, (1, 1), (0, 1))).expect("its replica can take over");
        assert!(map.moving(slot(1)).is_some_and(|moving| moving.is_in_doubt()));
        map.apply(&if has_taken { moved(at) } else { unprepare(at) }).expect("the target says so");
        assert_eq!(map.owner(slot(1)), Some(ShardId(u16::from(has_taken))));
        assert!(map.moving(slot(1)).is_none_or(|moving| !moving.is_in_doubt()));
    }
}

#[test]
fn a_weight_is_of_a_shard_and_within_bounds() {
    let mut map = two_shards();
    let weigh = |shard, weight| MapCommand::SetWeight { shard: ShardId(shard), weight };
    refuses(&mut map, &weigh(9, 1), &Refused::UnknownShard(ShardId(9)));
    refuses(&mut map, &weigh(0, 0), &Refused::Weight);
    refuses(&mut map, &weigh(0, 10_001), &Refused::Weight);
    map.apply(&weigh(0, 10_000)).expect("a weight can be set");
}

#[test]
fn owners_of_more_or_fewer_slots_than_there_are_are_refused() {
    let read = |runs: &[(u16, Option<u16>)]| {
        rmp_serde::from_slice::<Owners>(&rmp_serde::to_vec(runs).expect("runs can be written"))
    };
    assert!(read(&[(SLOTS, None)]).is_ok() && read(&[(SLOTS - 1, Some(1)), (0, None), (1, Some(2))]).is_ok());
    for runs in [&[][..], &[(SLOTS - 1, None)], &[(SLOTS, None), (1, Some(1))], &[(u16::MAX, None); 4]] {
        assert!(read(runs).is_err(), "{runs:?}");
    }
}
