//! Every node of a map routes each slot as the map says, and one node alone takes the writes of it.

use clock::{RegionId, Time};
use proptest::{collection::vec, prelude::Strategy, prop_assert, prop_assert_eq, proptest};

use super::{Access, CrossSlot, Route, Routing, common_slot};
use crate::{
    cluster::{
        Addresses, Answer, ClusterMap, Custody, Epoch, FoundShard, Founder, Id, MapCommand, NodeId, Role, Run, ShardId,
    },
    slot::{SLOTS, Slot, SlotRange, SlotSet},
};

const WRITE: Access =
    Access { writes: true, readonly_session: false, asking: false, over_tls: false, leased: true, waited: false };
const READ: Access = Access { writes: false, ..WRITE };

/// The node of this number in the shard of this number; the primary at first is number zero.
fn id(shard: u8, node: u8) -> NodeId {
    NodeId(Id::from_bytes([shard + 1; Id::BYTES].map(|byte| byte * 16 + node)))
}

fn founder(shard: u8, node: u8) -> Founder {
    let host = format!("10.0.{shard}.{node}");
    Founder {
        id: id(shard, node),
        run: Run(1),
        addresses: Addresses { host, port: 6379, tls_port: 6390, bus_port: 16379 },
    }
}

/// A cluster of shards of so many nodes; slots go to them in turns of the lengths given.
fn founded(nodes: &[u8], lengths: &[u16]) -> ClusterMap {
    let mut slots: Vec<SlotSet> = nodes.iter().map(|_| SlotSet::new()).collect();
    let runs = lengths.iter().enumerate().flat_map(|(index, length)| (0..*length).map(move |_| index));
    let owners = runs.chain(std::iter::repeat(0)).map(|run| run % nodes.len());
    Slot::all().zip(owners).for_each(|(slot, owner)| _ = slots[owner].insert(slot));
    let shards = slots.into_iter().zip(0..).map(|(slots, shard)| FoundShard {
        label: Id::from_bytes([shard; Id::BYTES]),
        nodes: (0..nodes[usize::from(shard)]).map(|node| founder(shard, node)).collect(),
        slots,
        weight: 100,
    });
    let mut map = ClusterMap::new();
    let found = MapCommand::Found { region: RegionId::MIN, shards: shards.collect(), at: Time::ZERO };
    map.apply(&found).unwrap();
    map
}

/// Slots 0 to 8000 with the first shard, the others with the second, each with one replica.
fn two_shards() -> ClusterMap {
    founded(&[2, 2], &[8_001, SLOTS - 8_001])
}

/// Prepares what moves from the first shard to the second.
fn prepare(map: &mut ClusterMap, slots: SlotSet) -> Epoch {
    let since = slots.iter().next().and_then(|slot| map.moving(slot)).unwrap().since;
    map.apply(&MapCommand::Prepare { slots, from: ShardId(0), to: ShardId(1), since }).unwrap();
    map.epoch()
}

fn range(first: u16, end: u16) -> SlotSet {
    SlotRange::new(first..end).unwrap().iter().collect()
}

fn slot(number: u16) -> Slot {
    Slot::new(number).unwrap()
}

/// A founded cluster in which some slots move and some replicas were promoted.
fn any_map() -> impl Strategy<Value = ClusterMap> {
    let shards = vec(1_u8..4, 1..6);
    let moves = vec((0..SLOTS, 1_u16..400, 0_u16..6), 0..6);
    (shards, vec(1_u16..3_000, 1..12), moves, vec((0_u8..6, 0_u8..4), 0..6)).prop_map(
        |(nodes, lengths, moves, promotions)| {
            let mut map = founded(&nodes, &lengths);
            for (first, length, to) in moves {
                let end = first.saturating_add(length).min(SLOTS);
                // Refused where it makes no sense, which is as good as not tried.
                let _ = map.apply(&MapCommand::Move { slots: range(first, end), to: ShardId(to) });
            }
            for (number, node) in promotions {
                let shard = ShardId(number.into());
                let Some(former) = map.shard(shard).map(|shard| (shard.primary, shard.run)) else { continue };
                let node = id(number, node);
                let _ = map.apply(&MapCommand::Promote {
                    shard,
                    node,
                    run: Run(1),
                    former,
                    has_all: false,
                    at: Time::ZERO,
                });
            }
            map
        },
    )
}

fn primary_of(map: &ClusterMap, slot: Slot) -> NodeId {
    map.shard(map.owner(slot).unwrap()).unwrap().primary
}

proptest! {
    #[test]
    fn one_node_alone_takes_the_writes_of_a_slot_and_all_others_name_it(map in any_map()) {
        let routings: Vec<_> = map.nodes().map(|(id, _)| (id, Routing::new(&map, id))).collect();
        for slot in Slot::all() {
            let primary = primary_of(&map, slot);
            let address = map.node(primary).unwrap().addresses.redis();
            for (id, routing) in &routings {
                let expected = if *id == primary { Route::Here } else { Route::Moved(&address) };
                prop_assert_eq!(routing.route(slot, WRITE), expected);
                prop_assert_eq!(routing.route(slot, READ), expected);
            }
        }
    }

    #[test]
    fn reads_after_readonly_are_for_the_nodes_of_the_owner(map in any_map()) {
        let access = Access { readonly_session: true, ..READ };
        for (id, node) in map.nodes() {
            let routing = Routing::new(&map, id);
            prop_assert_eq!(routing.role(), map.role(id));
            for slot in Slot::all() {
                let is_here = routing.route(slot, access) == Route::Here;
                prop_assert_eq!(is_here, map.owner(slot) == Some(node.shard));
            }
        }
    }

    #[test]
    fn without_a_lease_no_primary_answers(map in any_map()) {
        for (id, node) in map.nodes().filter(|(id, _)| map.role(*id) == Some(Role::Primary)) {
            let routing = Routing::new(&map, id);
            for slot in Slot::all().filter(|slot| map.owner(*slot) == Some(node.shard)) {
                for access in [READ, WRITE] {
                    prop_assert_eq!(routing.route(slot, Access { leased: false, ..access }), Route::Down);
                }
            }
        }
    }

    #[test]
    fn nobody_executes_what_is_held(map in any_map()) {
        for (id, _) in map.nodes() {
            let routing = Routing::holding(&map, id, &SlotSet::all(), None);
            for slot in Slot::all() {
                for (asking, waited) in [(false, false), (false, true), (true, false), (true, true)] {
                    let route = routing.route(slot, Access { asking, waited, ..WRITE });
                    prop_assert!(route != Route::Here, "{slot}");
                    prop_assert!(!waited || route != Route::Hold, "who has waited gets an answer");
                }
            }
        }
    }
}

#[test]
fn what_is_in_no_cluster_serves_no_slot() {
    let routing = Routing::new(&ClusterMap::new(), id(0, 0));
    assert_eq!(routing.role(), None);
    assert!(Slot::all().all(|slot| routing.route(slot, READ) == Route::Unserved));
    assert_eq!(routing.route_keyless(READ), Route::Here);
    assert_eq!(routing.route_keyless(Access { leased: false, ..WRITE }), Route::Down);
}

#[test]
fn clients_stay_with_their_kind_of_port() {
    let map = two_shards();
    let routing = Routing::new(&map, id(0, 0));
    assert_eq!(routing.route(slot(9_000), READ), Route::Moved("10.0.1.0:6379"));
    assert_eq!(routing.route(slot(9_000), Access { over_tls: true, ..READ }), Route::Moved("10.0.1.0:6390"));
    let one_port = |port, tls_port| Addresses { host: "::1".into(), port, tls_port, bus_port: 1 };
    assert_eq!(one_port(0, 7).redis(), "[::1]:7");
    assert_eq!(one_port(6, 0).redis_over_tls(), "[::1]:6");
}

#[test]
fn the_source_serves_a_moving_slot_until_the_map_flips() {
    let mut map = two_shards();
    map.apply(&MapCommand::Move { slots: range(100, 200), to: ShardId(1) }).unwrap();
    let routes = |map: &ClusterMap, access| {
        [id(0, 0), id(1, 0), id(1, 1)].map(|node| {
            let routing = Routing::new(map, node);
            routing.route(slot(150), access).error(slot(150)).to_string()
        })
    };
    let (here, source) = (Route::Here.error(slot(0)).to_string(), "MOVED 150 10.0.0.0:6379".to_owned());
    assert_eq!(routes(&map, WRITE), [here.clone(), source.clone(), source.clone()]);
    let asked = Access { asking: true, ..WRITE };
    assert_eq!(routes(&map, asked), [here.clone(), "TRYAGAIN The slot is being handed over".into(), source]);
    assert_eq!(Routing::new(&map, id(0, 0)).route(slot(150), WRITE), Route::Here);
    let prepared = prepare(&mut map, range(100, 200));
    map.apply(&MapCommand::Moved { prepared }).unwrap();
    for access in [WRITE, asked] {
        let target = "MOVED 150 10.0.1.0:6379".to_owned();
        assert_eq!(routes(&map, access), [target.clone(), here.clone(), target]);
    }
    assert_eq!(Routing::new(&map, id(1, 0)).route(slot(150), asked), Route::Here);
}

#[test]
fn a_held_slot_lets_wait_and_then_says_that_it_is_in_transit() {
    let mut map = two_shards();
    let slots = range(100, 200);
    map.apply(&MapCommand::Move { slots: slots.clone(), to: ShardId(1) }).unwrap();
    let [source, target] = [id(0, 0), id(1, 0)].map(|node| Routing::holding(&map, node, &slots, None));
    let waited = Access { waited: true, ..READ };
    assert!(source.holds() && source.waits() && !target.holds() && !target.waits());
    assert_eq!([source.route(slot(100), READ), source.route(slot(100), waited)], [Route::Hold, Route::TryAgain]);
    assert_eq!(target.route(slot(100), READ), Route::Moved("10.0.0.0:6379"));
    assert_eq!(source.route(slot(99), READ), Route::Here);
    assert_eq!(source.route_keyless(WRITE), Route::Hold);
    assert_eq!(source.route_keyless(Access { waited: true, ..WRITE }), Route::TryAgain);
    assert_eq!(source.route_keyless(READ), Route::Here);
    // An heir that holds them lets wait who comes early, and shows what it has.
    let replica = Routing::holding(&map, id(0, 1), &slots, None);
    assert!(!replica.holds() && replica.waits());
    assert_eq!(replica.route(slot(100), Access { readonly_session: true, ..READ }), Route::Here);
    assert_eq!(
        [replica.route(slot(100), READ), replica.route(slot(100), waited)],
        [Route::Hold, Route::Moved("10.0.0.0:6379")]
    );
}

#[test]
fn the_target_of_a_prepared_move_lets_wait_who_comes_early() {
    let mut map = two_shards();
    map.apply(&MapCommand::Move { slots: range(100, 200), to: ShardId(1) }).unwrap();
    prepare(&mut map, range(100, 200));
    let target = Routing::new(&map, id(1, 0));
    // But not who wants all that there is here.
    assert!(target.waits() && !target.holds());
    assert_eq!(target.route_keyless(WRITE), Route::Here);
    let (asking, waited) = (Access { asking: true, ..WRITE }, Access { waited: true, ..WRITE });
    assert_eq!([target.route(slot(100), WRITE), target.route(slot(100), asking)], [Route::Hold; 2]);
    assert_eq!(target.route(slot(100), waited), Route::Moved("10.0.0.0:6379"));
    assert_eq!(target.route(slot(100), Access { waited: true, ..asking }), Route::TryAgain);
    assert_eq!(Routing::new(&map, id(0, 0)).route(slot(100), WRITE), Route::Here);
}

#[test]
fn what_was_given_waits_until_it_was_taken_and_is_then_served_by_the_target_alone() {
    let mut map = two_shards();
    let slots = range(100, 200);
    map.apply(&MapCommand::Move { slots: slots.clone(), to: ShardId(1) }).unwrap();
    let since = map.epoch();
    let prepared = prepare(&mut map, slots.clone());
    let (mut giver, mut taker) = (Custody::new(id(0, 0), Run(1)), Custody::new(id(1, 0), Run(1)));
    let feed = taker.begins_to_arrive(id(0, 0), since, &slots).unwrap();
    taker.has_arrived(id(0, 0), since, feed);
    let route = |custody: &Custody, node, access| {
        let routing = Routing::holding(&map, node, &SlotSet::new(), Some(custody));
        routing.route(slot(150), access).error(slot(150)).to_string()
    };
    let (hold, waited) = ("TRYAGAIN The slot is being handed over", Access { waited: true, ..WRITE });
    let offer = giver.give(&map, prepared).unwrap();
    assert_eq!([route(&giver, id(0, 0), WRITE), route(&giver, id(0, 0), waited)], [hold, hold]);
    assert_eq!(taker.take(&map, &offer), Answer::Taken);
    let routing = Routing::holding(&map, id(1, 0), &SlotSet::new(), Some(&taker));
    assert_eq!(
        [routing.route(slot(150), WRITE), routing.route(slot(200), WRITE)],
        [Route::Here, Route::Moved("10.0.0.0:6379")]
    );
    giver.answered(prepared, Answer::Taken);
    let moved = "MOVED 150 10.0.1.0:6379";
    assert_eq!([route(&giver, id(0, 0), WRITE), route(&giver, id(0, 0), waited)], [moved, moved]);
    assert_eq!(
        Routing::holding(&map, id(0, 0), &slots, Some(&giver)).route(slot(150), WRITE),
        Route::Moved("10.0.1.0:6379")
    );
}

#[test]
fn what_is_in_doubt_is_served_by_nobody_new() {
    let mut map = two_shards();
    map.apply(&MapCommand::Move { slots: range(100, 200), to: ShardId(1) }).unwrap();
    prepare(&mut map, range(100, 200));
    let former = (id(0, 0), Run(1));
    let promote =
        MapCommand::Promote { shard: ShardId(0), node: id(0, 1), run: Run(1), former, has_all: false, at: Time::ZERO };
    map.apply(&promote).unwrap();
    let routing = Routing::new(&map, id(0, 1));
    assert_eq!([routing.route(slot(100), WRITE), routing.route(slot(99), WRITE)], [Route::Hold, Route::Here]);
    assert_eq!(routing.route(slot(100), Access { waited: true, ..WRITE }), Route::TryAgain);
}

#[test]
fn a_replica_takes_no_write_of_its_own() {
    let map = two_shards();
    let routing = Routing::new(&map, id(1, 1));
    let access = Access { readonly_session: true, leased: false, ..READ };
    assert_eq!(routing.route(slot(9_000), access), Route::Here);
    assert_eq!(routing.route(slot(9_000), Access { writes: true, ..access }), Route::Moved("10.0.1.0:6379"));
    assert_eq!(routing.route(slot(0), access), Route::Moved("10.0.0.0:6379"));
    assert_eq!(routing.route_keyless(Access { writes: true, ..access }), Route::ReadOnly);
    assert_eq!(routing.route_keyless(access), Route::Here);
}

#[test]
fn refusals_are_in_redis_words() {
    for (route, text) in [
        (Route::Moved("a:1"), "MOVED 3300 a:1"),
        (Route::Unserved, "CLUSTERDOWN Hash slot not served"),
        (Route::Down, "CLUSTERDOWN The cluster is down"),
        (Route::ReadOnly, "READONLY You can't write against a read only replica."),
    ] {
        assert_eq!(route.error(slot(3_300)).to_string(), text);
    }
}

#[test]
fn keys_of_one_command_share_a_slot_or_are_refused() {
    let slot_of = |keys: &[&str]| common_slot(keys.iter().map(|key| key.as_bytes()));
    assert_eq!(slot_of(&[]), Ok(None));
    assert_eq!(slot_of(&["b"]), Ok(Some(slot(3_300))));
    assert_eq!(slot_of(&["{b}1", "b", "x{b}"]), Ok(Some(slot(3_300))));
    assert_eq!(slot_of(&["b", "b", "f"]), Err(CrossSlot));
}
