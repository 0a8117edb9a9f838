//! Clients that know nothing of clusters, at the proxy of one node of a region.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
};

use node_core::{
    cluster::{MapCommand, ShardId},
    slot::{Slot, SlotSet},
};
use redis::{Connection, FromRedisValue, RedisResult, cmd};

use super::{Region, until};

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key:{number}")).collect()
}

fn run<T: FromRedisValue>(connection: &mut Connection, words: &str) -> RedisResult<T> {
    redis::Cmd::new().arg(words.split(' ').collect::<Vec<_>>()).query(connection)
}

/// A client of the proxy of the first node, once the region serves both shards.
fn client_of(region: &Region) -> Connection {
    let mut connection = region.members[0].proxy();
    until("the region serves", || run::<()>(&mut connection, "FLUSHALL").map_err(|error| error.to_string()));
    connection
}

#[test]
fn one_connection_reaches_the_keys_of_all_shards() {
    let region = Region::found(2, 0);
    let mut client = client_of(&region);
    for key in keys(50) {
        cmd("SET").arg(&key).arg(&key).query::<()>(&mut client).unwrap();
        assert_eq!(cmd("GET").arg(&key).query::<String>(&mut client).unwrap(), key);
    }
    for member in &region.members {
        let own: usize = run(&mut member.connect().unwrap(), "DBSIZE").unwrap();
        assert!((1..50).contains(&own), "{own}");
    }
}

#[test]
fn replies_to_a_pipeline_come_in_the_order_of_its_requests() {
    let region = Region::found(2, 0);
    let mut client = client_of(&region);
    let mut pipeline = redis::pipe();
    for key in keys(600) {
        pipeline.cmd("SET").arg(&key).arg(1).ignore().cmd("INCR").arg(&key).ignore();
        pipeline.cmd("ECHO").arg(&key).cmd("APPEND").arg(&key).arg("0").ignore().cmd("GET").arg(&key);
    }
    let replies: Vec<String> = pipeline.query(&mut client).unwrap();
    let expected: Vec<_> = keys(600).into_iter().flat_map(|key| [key, "20".to_owned()]).collect();
    assert_eq!(replies, expected);
    let mut mixed = redis::pipe();
    keys(600).iter().for_each(|key| _ = mixed.cmd("INCR").arg(key));
    assert_eq!(mixed.query::<Vec<i64>>(&mut client).unwrap(), [21; 600]);
}

#[test]
fn commands_on_several_keys_are_split_and_joined() {
    let region = Region::found(2, 0);
    let mut client = client_of(&region);
    let keys = keys(100);
    let pairs: Vec<_> = keys.iter().map(|key| (key, key)).collect();
    cmd("MSET").arg(&pairs).query::<()>(&mut client).unwrap();
    let asked: Vec<_> = keys.iter().map(String::as_str).chain(["absent", "key:0"]).collect();
    let values: Vec<Option<String>> = cmd("MGET").arg(&asked).query(&mut client).unwrap();
    let expected: Vec<_> = asked.iter().map(|key| (*key != "absent").then(|| (*key).to_owned())).collect();
    assert_eq!(values, expected);
    let count = |client: &mut Connection, name: &str, keys: &[&str]| cmd(name).arg(keys).query::<i64>(client).unwrap();
    assert_eq!(count(&mut client, "EXISTS", &asked), 101);
    assert_eq!(count(&mut client, "TOUCH", &asked), 101);
    assert_eq!(count(&mut client, "DEL", &asked[..40]), 40);
    assert_eq!(count(&mut client, "UNLINK", &asked[..60]), 20);
    let odd = run::<()>(&mut client, "MSET a 1 b 2 c").unwrap_err();
    assert!(odd.to_string().contains("wrong number of arguments"), "{odd}");
    for words in ["MSETNX a 1 b 2", "RENAME a b", "COPY a b"] {
        let error = run::<()>(&mut client, words).unwrap_err();
        assert_eq!(error.code(), Some("CROSSSLOT"), "{words}: {error}");
    }
}

#[test]
fn the_whole_key_space_is_that_of_all_nodes() {
    let region = Region::found(3, 0);
    let mut client = client_of(&region);
    let keys: BTreeSet<_> = keys(500).into_iter().collect();
    keys.iter().for_each(|key| cmd("SET").arg(key).arg(1).query(&mut client).unwrap());
    assert_eq!(run::<usize>(&mut client, "DBSIZE").unwrap(), 500);
    assert_eq!(run::<BTreeSet<String>>(&mut client, "KEYS *").unwrap(), keys);
    assert!(keys.contains(&run::<String>(&mut client, "RANDOMKEY").unwrap()));
    for options in ["COUNT 7", "COUNT 100000", "COUNT 3 MATCH key:*"] {
        let (mut cursor, mut found) = (0_u64, Vec::new());
        loop {
            let (next, page): (u64, Vec<String>) = run(&mut client, &format!("SCAN {cursor} {options}")).unwrap();
            assert!(next < 1 << 53);
            found.extend(page);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(found.len(), 500, "each once, {options}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), keys);
    }
    run::<()>(&mut client, "FLUSHDB").unwrap();
    assert_eq!(run::<usize>(&mut client, "DBSIZE").unwrap(), 0);
    assert_eq!(run::<Option<String>>(&mut client, "RANDOMKEY").unwrap(), None);
}

#[test]
fn clients_see_one_server() {
    let region = Region::found(2, 0);
    let mut client = client_of(&region);
    let info: String = run(&mut client, "INFO").unwrap();
    assert!(info.contains("cluster_enabled:0\r\n") && info.contains("redis_mode:standalone\r\n"));
    assert!(run::<()>(&mut client, "CLUSTER SLOTS").unwrap_err().to_string().contains("cluster support disabled"));
    let mut resp3 = region.members[0].proxy();
    run::<redis::Value>(&mut resp3, "HELLO 3").unwrap();
    for key in keys(20) {
        assert_eq!(cmd("GET").arg(&key).query::<redis::Value>(&mut resp3).unwrap(), redis::Value::Nil);
    }
}

#[test]
fn transactions_on_one_slot_are_carried_out_by_its_owner() {
    let region = Region::found(2, 0);
    let mut client = client_of(&region);
    for key in keys(20) {
        let mut transaction = redis::pipe();
        transaction.atomic().cmd("SET").arg(&key).arg(1).ignore().cmd("INCR").arg(&key);
        assert_eq!(transaction.query::<(i64,)>(&mut client).unwrap(), (2,));
    }
    run::<()>(&mut client, "MULTI").unwrap();
    keys(20).iter().for_each(|key| run::<redis::Value>(&mut client, &format!("INCR {key}")).map(drop).unwrap());
    let error = run::<()>(&mut client, "EXEC").unwrap_err().to_string();
    assert!(error.contains("CROSSSLOT"), "{error}");
    assert_eq!(run::<i64>(&mut client, "GET key:0").unwrap(), 2);
    let is_elsewhere = |key: &String| region.primary_of(key).id != region.members[0].id;
    let elsewhere = keys(20).into_iter().find(is_elsewhere).unwrap();
    let error = run::<()>(&mut client, &format!("WATCH {elsewhere}")).unwrap_err().to_string();
    assert!(error.contains("keys of this node only"), "{error}");
    assert_eq!(run::<i64>(&mut client, "WAIT 0 100").unwrap(), 0);
}

#[test]
fn a_failover_is_a_delay_and_only_a_write_in_flight_is_uncertain() {
    let mut region = Region::found(2, 1);
    drop(client_of(&region));
    let (victim, heir) = (region.primary_of("key").id, region.replicas_of("key")[0].id);
    let entry = region.members.iter().find(|member| ![victim, heir].contains(&member.id)).unwrap();
    let (mut reader, mut writer) = (entry.proxy(), entry.proxy());
    cmd("SET").arg("key").arg(0).query::<()>(&mut writer).unwrap();
    until("the replica follows", || {
        let count: i64 = run(&mut writer, "WAIT 1 100").map_err(|error| error.to_string())?;
        if count == 1 { Ok(()) } else { Err(count.to_string()) }
    });
    let (done, written, read) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                cmd("GET").arg("key").query::<i64>(&mut reader).unwrap();
                read.fetch_add(1, Relaxed);
            }
        });
        scope.spawn(|| {
            while !done.load(Relaxed) {
                match cmd("SET").arg("key").arg(1).query::<()>(&mut writer) {
                    Ok(()) => _ = written.fetch_add(1, Relaxed),
                    Err(error) => assert_eq!(error.code(), Some("UNCERTAIN"), "{error}"),
                }
            }
        });
        let progress = |what| {
            let before = [&written, &read].map(|counter| counter.load(Relaxed));
            until(what, || {
                let now = [&written, &read].map(|counter| counter.load(Relaxed));
                if now[0] > before[0] && now[1] > before[1] { Ok(()) } else { Err("not yet".to_owned()) }
            });
        };
        progress("both go on");
        region.stop(victim);
        until("the replica is promoted", || {
            let now = region.primary_of("key").id;
            if now == heir { Ok(()) } else { Err(now.to_string()) }
        });
        progress("both go on after the failover");
        done.store(true, Relaxed);
    });
}

#[test]
fn slots_move_under_clients_who_do_not_notice() {
    let region = Region::found(2, 0);
    let mut client = client_of(&region);
    let keys = keys(100);
    let moving: SlotSet = keys.iter().map(|key| Slot::of(key.as_bytes())).collect();
    let (mut to, mut rounds, mut moves) = (ShardId(1), 0_i64, 0);
    while moves < 3 {
        let map = region.map();
        let slots = moving.iter().filter(|slot| map.owner(*slot) != Some(to)).collect();
        region.change(&MapCommand::Move { slots, to });
        until("the slots have moved", || {
            let mut pipeline = redis::pipe();
            keys.iter().for_each(|key| _ = pipeline.cmd("INCR").arg(key));
            rounds += 1;
            assert_eq!(pipeline.query::<Vec<i64>>(&mut client).unwrap(), vec![rounds; 100]);
            let map = region.map();
            let left = moving.iter().filter(|slot| map.owner(*slot) != Some(to)).count();
            if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
        });
        (to, moves) = (ShardId(1 - to.0), moves + 1);
    }
}
