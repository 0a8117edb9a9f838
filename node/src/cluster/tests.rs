//! Map, routing and what is held belong together, whatever changes.

use std::{pin::pin, sync::Arc};

use node_core::{
    cluster::{Access, Epoch, Route},
    slot::Slot,
};
use tokio::runtime::Builder;

use super::{
    FailoverKind, FailoverRefused,
    testing::{cluster, moved, moving, node, range, two_shards},
};

const WRITE: Access =
    Access { writes: true, readonly_session: false, asking: false, over_tls: false, leased: true, waited: false };

fn slot(number: u16) -> Slot {
    Slot::new(number).unwrap()
}

#[test]
fn another_map_is_another_routing() {
    let cluster = cluster(two_shards(), node(0, 0));
    assert_eq!(cluster.routing().epoch(), Epoch(1));
    assert_eq!(cluster.routing().route(slot(100), WRITE), Route::Here);
    let slots = range(100, 200);
    cluster.set_map(Arc::new(moved(&moving(&two_shards(), slots.clone()), slots)));
    assert_eq!(cluster.routing().epoch(), cluster.map().epoch());
    assert_eq!(cluster.routing().route(slot(100), WRITE), Route::Moved("10.0.1.0:6379"));
}

#[test]
fn what_is_held_is_held_until_it_is_let_go_or_its_move_ends() {
    let map = moving(&two_shards(), range(100, 200));
    let cluster = cluster(map.clone(), node(0, 0));
    let is_held = |number| cluster.routing().route(slot(number), WRITE) == Route::Hold;
    let (first, rest) = (cluster.hold(&range(100, 101)), cluster.hold(&range(101, 300)));
    cluster.let_go(first);
    assert!(!is_held(100) && is_held(101) && is_held(299));
    // Another map that changes nothing about them changes nothing about that.
    cluster.set_map(Arc::new(map.clone()));
    assert!(is_held(101) && is_held(299));
    cluster.set_map(Arc::new(moved(&map, range(100, 200))));
    assert!(!is_held(101) && is_held(299));
    cluster.let_go(rest);
    assert!(!cluster.routing().holds());
}

#[test]
fn who_waits_for_what_is_held_is_told_when_it_is_let_go() {
    let cluster = cluster(two_shards(), node(0, 0));
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        cluster.until_rerouted().await;
        let hold = cluster.hold(&range(0, 10));
        let mut waiting = pin!(cluster.until_rerouted());
        let mut is_over = async || tokio::select! { biased; () = &mut waiting => true, () = async {} => false };
        assert!(!is_over().await);
        cluster.let_go(hold);
        assert!(is_over().await);
        // And if nobody lets go, it comes to its end all the same.
        let _hold = cluster.hold(&range(0, 10));
        cluster.until_rerouted().await;
    });
}

#[test]
fn failover_by_hand_says_that_it_is_not_there_yet() {
    let cluster = cluster(two_shards(), node(0, 1));
    assert_eq!(cluster.request_failover(FailoverKind::HandOver), Err(FailoverRefused::Starting));
}

#[test]
fn what_was_observed_of_a_node_is_kept_while_it_is_in_the_map() {
    let cluster = cluster(two_shards(), node(0, 0));
    let before = cluster.observed(node(1, 0));
    assert!(before.connected && !before.suspected);
    cluster.observe(node(1, 0), |observed| observed.suspected = true);
    cluster.observe(node(5, 0), |observed| observed.suspected = true);
    cluster.set_map(cluster.map());
    assert!(cluster.observed(node(1, 0)).suspected);
    assert!(!cluster.observed(node(5, 0)).suspected);
}
