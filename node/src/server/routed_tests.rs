//! What a client of one node of a cluster is told.

use std::{
    future::poll_fn,
    net::Shutdown,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use node_core::{
    cluster::{Answer, Run},
    slot::Slot,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, LocalOptions},
    task::{spawn_local, yield_now},
    time::timeout,
};

use super::super::{
    connection::Connection,
    execute::Flow,
    stream::Stream,
    testing::{Client, worker_of},
};
use crate::cluster::{
    Cluster,
    testing::{cluster, moved, moving, node, prepared, range, two_shards},
};

/// After how long a test gives up on an answer. Never waited for when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

// Slot 3300 of the first shard, 15495 of the second.
const OURS: &str = "b";
const THEIRS: &str = "a";

const CROSS_SLOT: &str = "-CROSSSLOT Keys in request don't hash to the same slot";
const ABORTED: &str = "-EXECABORT Transaction discarded because of previous errors.";
const DOWN: &str = "-CLUSTERDOWN The cluster is down";
const TRY_AGAIN: &str = "-TRYAGAIN The slot is being handed over";
const MOVED_OURS: &str = "-MOVED 3300 10.0.0.0:6379";
const MOVED_THEIRS: &str = "-MOVED 15495 10.0.1.0:6379";
const READ_ONLY: &str = "-READONLY You can't write against a read only replica.";

fn primary() -> Arc<Cluster> {
    cluster(two_shards(), node(0, 0))
}

#[test]
fn a_primary_serves_its_slots_and_names_the_primary_of_the_others() {
    let worker = worker_of(primary());
    let mut client = Client::of(&worker);
    client.gives(&[
        ("SET b 1", "+OK"),
        ("GET b", "$1 1"),
        ("GET a", MOVED_THEIRS),
        ("SET a 1", MOVED_THEIRS),
        ("MGET {b}1 {b}2", "*2 $-1 $-1"),
        ("OBJECT ENCODING a", MOVED_THEIRS),
        ("PING", "+PONG"),
        ("DBSIZE", ":1"),
        ("FLUSHALL", "+OK"),
        ("CLUSTER KEYSLOT a", ":15495"),
    ]);
    client.session.over_tls = true;
    client.gives(&[("GET a", "-MOVED 15495 10.0.1.0:6390")]);
}

#[test]
fn a_node_in_no_cluster_yet_serves_no_slot() {
    let worker = worker_of(Arc::new(Cluster::new(node(0, 0), Run(1))));
    Client::of(&worker).gives(&[
        ("GET b", "-CLUSTERDOWN Hash slot not served"),
        ("SET b 1", "-CLUSTERDOWN Hash slot not served"),
        ("FLUSHALL", DOWN),
        ("DBSIZE", ":0"),
        ("PING", "+PONG"),
    ]);
}

#[test]
fn keys_of_one_command_or_transaction_lie_in_one_slot() {
    let worker = worker_of(primary());
    let mut client = Client::of(&worker);
    for request in ["MSET b 1 f 1", "RENAME b f", "COPY b f", "MGET b a", "WATCH b f", "DEL a b"] {
        client.gives(&[(request, CROSS_SLOT)]);
    }
    client.gives(&[
        ("MSET {b}1 1 {b}2 2", "+OK"),
        ("RENAME {b}1 {b}3", "+OK"),
        ("MULTI", "+OK"),
        ("SET b 1", "+QUEUED"),
        ("SET f 1", "+QUEUED"),
        ("EXEC", CROSS_SLOT),
        ("EXEC", "-ERR EXEC without MULTI"),
        ("MULTI", "+OK"),
        ("MSET b 1 f 1", CROSS_SLOT),
        ("EXEC", ABORTED),
        ("EXISTS b", ":0"),
    ]);
}

#[test]
fn keys_that_are_only_watched_lie_anywhere_at_this_node() {
    let cluster = cluster(moving(&two_shards(), range(3_300, 3_301)), node(0, 0));
    let worker = worker_of(cluster.clone());
    let mut client = Client::of(&worker);
    let watched = [("WATCH b", "+OK"), ("WATCH f", "+OK"), ("MULTI", "+OK"), ("GET f", "+QUEUED")];
    client.gives(&watched);
    client.gives(&[("EXEC", "*1 $-1")]);
    client.gives(&watched);
    cluster.set_map(Arc::new(moved(&cluster.map(), range(3_300, 3_301))));
    client.gives(&[("EXEC", "-MOVED 3300 10.0.1.0:6379"), ("EXEC", "-ERR EXEC without MULTI")]);
}

#[test]
fn a_transaction_is_routed_when_it_is_queued_and_again_when_it_is_executed() {
    let cluster = cluster(moving(&two_shards(), range(3_300, 3_301)), node(0, 0));
    let worker = worker_of(cluster.clone());
    let mut client = Client::of(&worker);
    client.gives(&[("MULTI", "+OK"), ("GET a", MOVED_THEIRS), ("GET b", "+QUEUED"), ("EXEC", ABORTED)]);
    client.gives(&[("MULTI", "+OK"), ("SET b 1", "+QUEUED"), ("PING", "+QUEUED")]);
    cluster.set_map(Arc::new(moved(&cluster.map(), range(3_300, 3_301))));
    client.gives(&[("EXEC", "-MOVED 3300 10.0.1.0:6379"), ("MULTI", "+OK"), ("EXEC", "*0")]);
}

#[test]
fn a_replica_serves_reads_to_who_has_said_readonly() {
    let worker = worker_of(cluster(two_shards(), node(0, 1)));
    worker.server.cluster.as_ref().unwrap().set_lease(Duration::ZERO);
    Client::of(&worker).gives(&[
        ("GET b", MOVED_OURS),
        ("READONLY", "+OK"),
        ("GET b", "$-1"),
        ("GET a", MOVED_THEIRS),
        ("SET b 1", MOVED_OURS),
        ("MULTI", "+OK"),
        ("GET b", "+QUEUED"),
        ("EXEC", "*1 $-1"),
        ("MULTI", "+OK"),
        ("SET b 1", MOVED_OURS),
        ("EXEC", ABORTED),
        ("READWRITE", "+OK"),
        ("GET b", MOVED_OURS),
        ("READONLY", "+OK"),
        ("RESET", "+RESET"),
        ("GET b", MOVED_OURS),
    ]);
}

#[test]
fn a_replica_refuses_writes_without_keys_and_answers_reads_without_keys() {
    let worker = worker_of(cluster(two_shards(), node(0, 1)));
    let mut client = Client::of(&worker);
    client.gives(&[("FLUSHALL", READ_ONLY), ("FLUSHDB", READ_ONLY), ("DBSIZE", ":0"), ("RANDOMKEY", "$-1")]);
    client.gives(&[("SCAN 0", "*2 $1 0 *0"), ("KEYS *", "*0")]);
    client.gives(&[("MULTI", "+OK"), ("FLUSHALL", READ_ONLY), ("EXEC", ABORTED)]);
}

#[test]
fn asking_is_for_one_command_or_one_transaction() {
    // A slot that moves to this node: whoever is not asking is sent to its owner.
    let slots = range(3_300, 3_301);
    let cluster = cluster(moving(&two_shards(), slots.clone()), node(1, 0));
    let worker = worker_of(cluster.clone());
    let mut client = Client::of(&worker);
    client.gives(&[("GET b", MOVED_OURS), ("ASKING", "+OK"), ("GET b", TRY_AGAIN), ("GET b", MOVED_OURS)]);
    client.gives(&[("ASKING", "+OK"), ("MULTI", "+OK"), ("GET b", TRY_AGAIN), ("GET b", TRY_AGAIN)]);
    client.gives(&[("EXEC", ABORTED), ("GET b", MOVED_OURS), ("ASKING", "+OK"), ("RESET", "+RESET")]);
    client.gives(&[("GET b", MOVED_OURS), ("ASKING", "+OK"), ("PING", "+PONG"), ("GET b", MOVED_OURS)]);
    cluster.set_map(Arc::new(moved(&cluster.map(), slots)));
    client.gives(&[("ASKING", "+OK"), ("SET b 1", "+OK"), ("GET b", "$1 1")]);
}

#[test]
fn who_comes_early_to_the_target_of_a_prepared_move_waits_but_not_who_flushes_it() {
    let slots = range(3_300, 3_301);
    let cluster = cluster(prepared(&moving(&two_shards(), slots.clone()), slots.clone()), node(1, 0));
    let worker = worker_of(cluster.clone());
    let mut client = Client::of(&worker);
    assert_eq!(client.turn("GET b").1, Flow::Wait);
    assert_eq!(waited_for(&mut client, "GET b"), format!("{MOVED_OURS}\r\n"));
    client.gives(&[("FLUSHALL", "+OK"), ("GET a", "$-1")]);
    assert_eq!(client.turn("GET b").1, Flow::Wait);
    cluster.set_map(Arc::new(moved(&cluster.map(), slots)));
    client.gives(&[("GET b", "$-1")]);
}

#[test]
fn what_is_taken_is_served_before_the_map_says_so_and_the_giver_sends_clients_there() {
    let slots = range(3_300, 3_301);
    let map = moving(&two_shards(), slots.clone());
    let (since, map) = (map.epoch(), prepared(&map, slots.clone()));
    let at = map.epoch();
    let [giver, taker] = [node(0, 0), node(1, 0)].map(|me| cluster(map.clone(), me));
    let [at_giver, at_taker] = [&giver, &taker].map(|cluster| worker_of(cluster.clone()));
    let (mut of_giver, mut of_taker) = (Client::of(&at_giver), Client::of(&at_taker));
    taker.custody(|custody, _| {
        let feed = custody.begins_to_arrive(node(0, 0), since, &slots).unwrap();
        custody.has_arrived(node(0, 0), since, feed);
    });
    of_giver.gives(&[("SET b 1", "+OK")]);
    let hold = giver.hold(&slots);
    let offer = giver.custody(|custody, map| custody.give(map, at)).unwrap();
    giver.let_go(hold);
    assert_eq!(of_giver.turn("SET b 2").1, Flow::Wait, "what was given is held without a hold");
    assert_eq!(taker.change_hands(None, |custody, map| custody.take(map, &offer)), Answer::Taken);
    of_taker.gives(&[("SET b 3", "+OK"), ("GET b", "$1 3")]);
    giver.change_hands(None, |custody, _| custody.answered(at, Answer::Taken));
    of_giver.gives(&[("SET b 2", "-MOVED 3300 10.0.1.0:6379"), ("SET f 1", "+OK")]);
    let after = Arc::new(moved(&map, slots));
    [&giver, &taker].into_iter().for_each(|cluster| cluster.set_map(after.clone()));
    of_giver.gives(&[("GET b", "-MOVED 3300 10.0.1.0:6379")]);
    of_taker.gives(&[("GET b", "$1 3")]);
}

#[test]
fn a_primary_whose_lease_is_over_neither_writes_nor_reads() {
    let cluster = primary();
    let worker = worker_of(cluster.clone());
    let mut client = Client::of(&worker);
    client.gives(&[("SET b 1", "+OK"), ("MULTI", "+OK"), ("GET b", "+QUEUED")]);
    cluster.set_lease(Duration::ZERO);
    client.gives(&[("EXEC", DOWN), ("GET b", DOWN), ("SET b 2", DOWN), ("FLUSHALL", DOWN), ("DBSIZE", ":1")]);
    client.gives(&[("GET a", MOVED_THEIRS)]);
    cluster.set_lease(Duration::from_secs(1 << 30));
    client.gives(&[("GET b", "$1 1")]);
}

#[test]
fn what_was_written_is_not_acknowledged_when_the_lease_is_over_by_then() {
    let cluster = primary();
    let worker = worker_of(cluster.clone());
    let mut client = Client::of(&worker);
    for (request, acknowledged) in [("GET b", true), ("PING", true), ("SET b 1", false), ("FLUSHDB", false)] {
        cluster.set_lease(Duration::from_secs(1 << 30));
        client.raw(request);
        cluster.set_lease(Duration::ZERO);
        assert_eq!(worker.may_acknowledge(&mut client.session), acknowledged, "{request}");
        assert!(worker.may_acknowledge(&mut client.session), "it is asked once for each write");
    }
    cluster.set_lease(Duration::from_secs(1 << 30));
    client.raw("SET b 1");
    assert!(worker.may_acknowledge(&mut client.session));
}

#[test]
fn a_redirection_is_told_by_who_has_no_lease_at_all() {
    for me in [node(0, 0), node(0, 1)] {
        let cluster = cluster(two_shards(), me);
        let worker = worker_of(cluster.clone());
        cluster.set_lease(Duration::ZERO);
        let mut client = Client::of(&worker);
        for request in ["SET a 1", "SET b 1", "GET a", "FLUSHALL"] {
            assert!(client.raw(request).starts_with('-'), "{request}");
            assert!(worker.may_acknowledge(&mut client.session), "{request}");
        }
    }
}

#[test]
fn a_client_whose_write_cannot_be_acknowledged_sees_the_end_of_its_connection() {
    let cluster = primary();
    let worker = Rc::new(worker_of(cluster.clone()));
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let connection = Connection::new(Stream::Plain(stream), Client::of(&worker).session);
        let serving = spawn_local(connection.serve(worker.clone()));
        // The replies of a turn leave after all that is ready has run, so this comes between the write and its reply.
        let watching = spawn_local(poll_fn({
            let (worker, cluster) = (worker.clone(), cluster.clone());
            move |context| {
                let store = &worker.server.store;
                if store.lock(store.stripe_of(Slot::of(OURS.as_bytes()))).census().values > 0 {
                    cluster.set_lease(Duration::ZERO);
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }));
        client.write_all(b"SET b 1\r\n").await.unwrap();
        watching.await.unwrap();
        let mut replies = Vec::new();
        timeout(PATIENCE, client.read_to_end(&mut replies)).await.expect("the connection ends").unwrap();
        assert_eq!(String::from_utf8(replies).unwrap(), "");
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn a_primary_that_too_few_replicas_follow_does_not_write() {
    let cluster = primary();
    let worker = worker_of(cluster.clone());
    cluster.set_enough_replicas(false);
    let refused = "-NOREPLICAS Not enough good replicas to write.";
    let mut client = Client::of(&worker);
    client.gives(&[("SET b 1", refused), ("FLUSHALL", refused), ("GET b", "$-1"), ("SET a 1", MOVED_THEIRS)]);
    client.gives(&[("MULTI", "+OK"), ("SET b 1", refused), ("EXEC", ABORTED)]);
    cluster.set_enough_replicas(true);
    client.gives(&[("MULTI", "+OK"), ("SET b 1", "+QUEUED")]);
    cluster.set_enough_replicas(false);
    client.gives(&[(
        "EXEC",
        "-EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write.",
    )]);
}

#[test]
fn a_request_for_a_held_slot_waits_and_is_answered_in_the_end() {
    let slots = range(3_300, 3_301);
    let cluster = cluster(moving(&two_shards(), slots.clone()), node(0, 0));
    let worker = worker_of(cluster.clone());
    let hold = cluster.hold(&slots);
    let mut client = Client::of(&worker);
    client.gives(&[("PING", "+PONG"), ("SET f 1", "+OK")]);
    assert_eq!(client.turn("GET b").1, Flow::Wait);
    assert_eq!(waited_for(&mut client, "GET b"), format!("{TRY_AGAIN}\r\n"));
    assert_eq!(client.turn("GET b").1, Flow::Wait, "the next request waits again");
    cluster.let_go(hold);
    client.gives(&[("GET b", "$-1")]);
    let _hold = cluster.hold(&slots);
    assert_eq!(client.turn("FLUSHALL").1, Flow::Wait);
    cluster.set_map(Arc::new(moved(&cluster.map(), slots)));
    client.gives(&[("GET b", "-MOVED 3300 10.0.1.0:6379"), ("FLUSHALL", "+OK")]);
}

/// What a request is answered that comes again until it has waited long enough.
fn waited_for(client: &mut Client<'_>, request: &str) -> String {
    loop {
        match client.turn(request) {
            (_, Flow::Wait) => {}
            (answer, _) => return String::from_utf8(answer).unwrap(),
        }
    }
}

#[test]
fn a_connection_that_waits_goes_on_when_the_map_flips() {
    let slots = range(3_300, 3_301);
    let cluster = cluster(prepared(&moving(&two_shards(), slots.clone()), slots.clone()), node(1, 0));
    let worker = Rc::new(worker_of(cluster.clone()));
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let session = Client::of(&worker).session;
        let shared = session.client.clone();
        let serving = spawn_local(Connection::new(Stream::Plain(stream), session).serve(worker.clone()));
        client.write_all(b"SET b 1\r\n").await.unwrap();
        while !shared.blocked.load(Relaxed) {
            yield_now().await;
        }
        cluster.set_map(Arc::new(moved(&cluster.map(), slots)));
        let mut reply = [0; 5];
        timeout(PATIENCE, client.read_exact(&mut reply)).await.expect("an answer").unwrap();
        assert_eq!(&reply, b"+OK\r\n");
        let client = client.into_std().unwrap();
        client.shutdown(Shutdown::Both).unwrap();
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn who_publishes_a_routing_waits_for_the_turns_under_the_former_one() {
    let worker = worker_of(primary());
    let client = Client::of(&worker);
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let is_over = || {
        runtime.block_on(async {
            tokio::select! { biased; () = worker.server.until_turns_passed() => true, () = yield_now() => false }
        })
    };
    assert!(is_over());
    let turn = worker.begin_turn(&client.session);
    assert!(!is_over());
    drop(turn);
    assert!(is_over());
}

#[test]
fn ours_and_theirs_are_where_these_tests_suppose() {
    let slot = |key: &str| Slot::of(key.as_bytes()).number();
    assert_eq!((slot(OURS), slot(THEIRS)), (3_300, 15_495));
}
