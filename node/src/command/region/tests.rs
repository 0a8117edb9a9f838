//! What regions are compared and mended by, at a worker without sockets.

use clock::{Now, Time};
use node_core::{
    resp::{Value, value::Decoder},
    slot::Slot,
    store::Digest,
};

use crate::{
    cluster::testing::{cluster, node, two_shards},
    server::{
        testing::{Client, worker_of},
        worker::Worker,
    },
};

/// A stamp of region 2, so many milliseconds before now.
fn stamp(worker: &Worker, ms_ago: u64) -> String {
    let now: Now = worker.server.clock.now();
    format!("{:016x}@2.3", Time::from_unix_ms(now.wall.unix_ms() - ms_ago).ntp64())
}

/// The reply to a request, whatever bytes are in it.
fn ask(client: &mut Client<'_>, request: &str) -> Value {
    let (output, _) = client.turn(request);
    Decoder::default().decode(&output).unwrap().value.unwrap()
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        other => panic!("{other:?} is no array"),
    }
}

fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::Bulk(bytes) => bytes,
        other => panic!("{other:?} is no string"),
    }
}

/// The digests of a reply that holds all of them.
fn digests(client: &mut Client<'_>, request: &str) -> Vec<Digest> {
    let reply = list(ask(client, request));
    assert_eq!((bytes(&reply[0]), &reply[1]), (&b"0"[..], &Value::Integer(0)));
    let (digests, rest) = bytes(&reply[2]).as_chunks();
    assert!(rest.is_empty());
    digests.iter().map(Digest::from_bytes).collect()
}

#[test]
fn what_fetch_replies_merge_takes() {
    let (one, other) = (worker_of(None), worker_of(None));
    let (mut from, mut to) = (Client::of(&one), Client::of(&other));
    let ahead = one.server.clock.now().wall.unix_ms() + 60_000;
    from.gives(&[
        ("SET plain value", "+OK"),
        (&format!("SET ends value PXAT {ahead}"), "+OK"),
        ("DEL deleted", ":0"),
        ("REGION FETCH absent", "*-1"),
    ]);
    for key in ["plain", "ends", "deleted"] {
        let fetched = list(ask(&mut from, &format!("REGION FETCH {key}")));
        let words: Vec<_> = fetched.iter().map(|word| String::from_utf8_lossy(bytes(word)).into_owned()).collect();
        // In the name of region 1, which is that of either worker, so not in its present life.
        let merge = format!("REGION MERGE {key} {}", words.join(" ").replacen("@1.0", "@2.0", 1));
        to.gives(&[(&merge, "+APPLIED"), (&merge, "+STALE")]);
    }
    to.gives(&[("GET plain", "$5 value"), ("PEXPIRETIME ends", &format!(":{ahead}")), ("EXISTS deleted", ":0")]);
}

#[test]
fn merge_never_lifts_what_was_forgotten_over_a_floor() {
    let worker = worker_of(None);
    let mut client = Client::of(&worker);
    let [old, older] = [1_000, 2_000].map(|ms_ago| stamp(&worker, ms_ago));
    client.gives(&[
        (&format!("REGION MERGE k {old} TOMBSTONE"), "+APPLIED"),
        (&format!("REGION MERGE k {older} VALUE deleted"), "+STALE"),
        ("FLUSHALL", "+OK"),
        (&format!("REGION MERGE k {older} VALUE deleted"), "+REFUSED"),
        ("GET k", "$-1"),
    ]);
}

#[test]
fn merge_believes_no_stamp_that_nobody_can_have_issued() {
    let worker = worker_of(None);
    let mut client = Client::of(&worker);
    let wall = worker.server.clock.now().wall.ntp64();
    let ahead = format!("{:016x}@2.0", wall + (10 << 32));
    client.gives(&[
        (
            &format!("REGION MERGE k {ahead} VALUE v"),
            "-ERR the stamp lies further ahead of this node's clock than max_drift",
        ),
        ("REGION MERGE k 5@2.1023 VALUE v", "-ERR invalid stamp"),
        ("REGION MERGE k five VALUE v", "-ERR invalid stamp"),
        ("REGION MERGE k 5@2.0 VALUE", "-ERR syntax error"),
        ("REGION MERGE k 5@2.0 VALUE v PXAT soon", "-ERR value is not an integer or out of range"),
    ]);
    let own = client.raw(&format!("REGION MERGE k {:016x}@1.0 VALUE v", wall + (1 << 28)));
    assert!(own.starts_with("-ERR") && own.contains("never issued"), "{own}");
    client.gives(&[("EXISTS k", ":0"), ("MULTI", "+OK")]);
    let within = client.raw("REGION MERGE k 5@2.0 VALUE v");
    assert!(within.contains("not allowed inside a transaction"), "{within}");
}

#[test]
fn merge_says_nothing_of_what_is_seen() {
    let worker = worker_of(None);
    let mut client = Client::of(&worker);
    client.gives(&[(&format!("REGION MERGE k {} VALUE v", stamp(&worker, 1_000)), "+APPLIED")]);
    let rows = list(ask(&mut client, &format!("REGION ROWS {} 0 1 0", Slot::of(b"k"))));
    let seen = list(rows[2].clone());
    assert!(seen.iter().all(|stamp| !bytes(stamp).ends_with(b"@2.3")), "{seen:?}");
}

#[test]
fn nodes_that_hold_the_same_give_the_same_digests() {
    let (one, other) = (worker_of(None), worker_of(None));
    let (mut first, mut second) = (Client::of(&one), Client::of(&other));
    let stamp = stamp(&one, 1_000);
    for key in 0..100 {
        first.gives(&[(&format!("REGION MERGE key:{key} {stamp} VALUE v{key}"), "+APPLIED")]);
    }
    for key in (0..100).rev() {
        second.gives(&[(&format!("REGION MERGE key:{key} {stamp} VALUE v{key}"), "+APPLIED")]);
    }
    let at = one.server.clock.now().wall.unix_ms();
    for parts in ["", " SPAN 16", " SPAN 16384", " BUCKETS 7"] {
        let request = format!("REGION DIGEST 0 16383 {at} 0{parts}");
        let [mine, theirs] = [&mut first, &mut second].map(|client| digests(client, &request));
        assert_eq!(mine, theirs, "{parts}");
        assert_eq!(mine.iter().map(|digest| digest.count()).sum::<u32>(), 100);
    }
    let slot = Slot::of(b"key:7");
    first.gives(&[("DEL key:7", ":1")]);
    let request = format!("REGION DIGEST {slot} {slot} {at} 0");
    assert_ne!(digests(&mut first, &request), digests(&mut second, &request));
}

#[test]
fn rows_tell_states_apart() {
    let worker = worker_of(None);
    let mut client = Client::of(&worker);
    let stamp = stamp(&worker, 1_000);
    for (key, state) in [("{k}1", "VALUE v PXAT 99999999999999"), ("{k}2", "TOMBSTONE"), ("{k}3", "EVICTED")] {
        client.gives(&[(&format!("REGION MERGE {key} {stamp} {state}"), "+APPLIED")]);
    }
    let reply = list(ask(&mut client, &format!("REGION ROWS {} 0 1 0", Slot::of(b"k"))));
    assert_eq!(bytes(&reply[0]), b"0");
    let mut rows: Vec<_> = list(reply[3].clone()).into_iter().map(list).collect();
    rows.sort_by(|one, other| bytes(&one[0]).cmp(bytes(&other[0])));
    let states: Vec<_> = rows.iter().map(|row| (bytes(&row[2]), row[3].clone(), row[4] == Value::Null)).collect();
    let ends = Value::Integer(99_999_999_999_999);
    let expected = [(&b"VALUE"[..], ends, false), (b"TOMBSTONE", Value::Null, true), (b"EVICTED", Value::Null, true)];
    assert_eq!(states, expected);
    assert!(rows.iter().all(|row| bytes(&row[1]) == stamp.as_bytes()));
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let worker = worker_of(None);
    Client::of(&worker).gives(&[
        ("REGION DIGEST 0 16384 1 0", "-ERR Invalid slot"),
        ("REGION DIGEST 5 4 1 0", "-ERR the first slot lies behind the last"),
        ("REGION DIGEST 0 5 soon 0", "-ERR value is not an integer or out of range"),
        ("REGION DIGEST 0 5 1 x", "-ERR invalid cursor"),
        ("REGION DIGEST 0 5 1 9007199254740991", "-ERR the cursor lies behind the last slot"),
        ("REGION DIGEST 0 5 1 0 SPAN 0", "-ERR value is out of range"),
        ("REGION DIGEST 0 5 1 0 BUCKETS 1025", "-ERR value is out of range"),
        ("REGION DIGEST 0 5 1 0 BUCKETS", "-ERR syntax error"),
        ("REGION ROWS 5 0 4 4", "-ERR there is no such bucket"),
        ("REGION ROWS 5 0 0 0", "-ERR value is out of range"),
    ]);
}

#[test]
fn another_nodes_slots_are_a_redirection() {
    let worker = worker_of(cluster(two_shards(), node(0, 0)));
    let mut client = Client::of(&worker);
    client.gives(&[
        ("REGION DIGEST 0 16383 1 0", "-MOVED 8001 10.0.1.0:6379"),
        ("REGION ROWS 9000 0 1 0", "-MOVED 9000 10.0.1.0:6379"),
        ("REGION FETCH foo", "-MOVED 12182 10.0.1.0:6379"),
        ("REGION MERGE foo 5@2.0 TOMBSTONE", "-MOVED 12182 10.0.1.0:6379"),
    ]);
    assert_eq!(digests(&mut client, "REGION DIGEST 0 8000 1 0 SPAN 16384"), [Digest::default()]);
}
