//! Whole nodes in one process, over real sockets: founded, written to, followed, handed over, moved, stopped and started.

use std::{
    net::SocketAddr,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use clock::{RegionId, Time};
use config::{Listen, NodeConfig};
use node_core::{
    cluster::{
        ClusterMap, FoundShard, Id, MapCommand, NodeId, Role, ShardId,
        control::{Introduction, Request, Response},
    },
    slot::{Slot, SlotRange, SlotSet},
};
use redis::{Connection, FromRedisValue};

use super::bus::{Bus, Channel};
use crate::node::Node;

#[path = "proxy_tests.rs"]
mod proxied;

const PATIENCE: Duration = Duration::from_secs(30);

struct Member {
    node: Option<Node>,
    dir: tempfile::TempDir,
    redis: SocketAddr,
    bus: SocketAddr,
    id: NodeId,
}

struct Region {
    members: Vec<Member>,
}

fn start(dir: &Path, redis: SocketAddr, bus: SocketAddr) -> (Node, SocketAddr) {
    let mut config = NodeConfig::default();
    config.node.listen = Listen::At(redis);
    config.node.admin = Listen::Off;
    config.node.dir = Some(dir.to_owned());
    config.node.workers = Some(1);
    config.cluster.listen = Listen::At(bus);
    config.cluster.proxy = Listen::At(([127, 0, 0, 1], 0).into());
    config.memory.stripes = 8;
    let node = Node::start(config, None).expect("a node starts on free ports");
    let redis = node.addresses().redis.expect("it listens");
    (node, redis)
}

fn free_port() -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

/// Asks a node on its bus.
fn ask(bus: SocketAddr, request: Request) -> Result<Response, String> {
    let (answer, answered) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let response = runtime.block_on(async {
            let bus_end = Bus::new(None);
            let response = bus_end.peer(bus.to_string()).call(Channel::Control, &request, Duration::from_secs(5)).await;
            bus_end.shutdown().await;
            response
        });
        answer.send(response.map_err(|error| error.to_string())).unwrap();
    });
    answered.recv().unwrap()
}

fn introduce(bus: SocketAddr) -> Introduction {
    until("it introduces itself", || match ask(bus, Request::Introduce) {
        Ok(Response::Introduction(introduction)) => Ok(introduction),
        other => Err(format!("{other:?}")),
    })
}

fn until<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match attempt() {
            Ok(found) => return found,
            Err(why) if began.elapsed() > PATIENCE => panic!("never: {what}; {why}"),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

impl Region {
    /// A region of so many shards, each with so many replicas.
    fn found(shards: u16, replicas: u16) -> Self {
        let members = (0..shards * (1 + replicas)).map(|_| {
            let dir = tempfile::tempdir().unwrap();
            let bus = free_port();
            let (node, redis) = start(dir.path(), free_port(), bus);
            let id = introduce(bus).node.id;
            Member { node: Some(node), dir, redis, bus, id }
        });
        let region = Self { members: members.collect() };
        let width = 16_384 / shards;
        let of_shard = |shard: u16| {
            let first = usize::from(shard * (1 + replicas));
            let nodes = &region.members[first..first + usize::from(1 + replicas)];
            let end = if shard + 1 == shards { 16_384 } else { (shard + 1) * width };
            FoundShard {
                label: Id::from_bytes([shard as u8; 20]),
                nodes: nodes.iter().map(|member| introduce(member.bus).node).collect(),
                slots: SlotRange::new(shard * width..end).unwrap().iter().collect(),
                weight: 100,
            }
        };
        let found = MapCommand::Found {
            region: RegionId::MIN,
            shards: (0..shards).map(of_shard).collect(),
            at: Time::from_unix_ms(1_700_000_000_000),
        };
        region.change(&found);
        region
    }

    fn change(&self, command: &MapCommand) {
        until("the map changes", || match ask(self.members[0].bus, Request::Change(command.clone())) {
            Ok(Response::Done) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    fn map(&self) -> ClusterMap {
        until("a node knows the map", || {
            let member = self.members.iter().find(|member| member.node.is_some()).unwrap();
            match ask(member.bus, Request::Map) {
                Ok(Response::Map(map)) => Ok(*map),
                other => Err(format!("{other:?}")),
            }
        })
    }

    fn member(&self, id: NodeId) -> &Member {
        self.members.iter().find(|member| member.id == id).unwrap()
    }

    /// The primary of the shard that owns a key, by the map.
    fn primary_of(&self, key: &str) -> &Member {
        let map = self.map();
        let shard = map.owner(Slot::of(key.as_bytes())).unwrap();
        self.member(map.shard(shard).unwrap().primary)
    }

    /// Runs a command where the map says that the key belongs, as soon as it is taken there.
    fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        until(&format!("{words:?}"), || {
            let mut connection = self.primary_of(words[1]).connect()?;
            redis::Cmd::new().arg(words).query(&mut connection).map_err(|error| error.to_string())
        })
    }

    fn replicas_of(&self, key: &str) -> Vec<&Member> {
        let map = self.map();
        let shard = map.owner(Slot::of(key.as_bytes())).unwrap();
        map.replicas(shard).map(|(id, _)| self.member(id)).collect()
    }

    fn stop(&mut self, id: NodeId) {
        let member = self.members.iter_mut().find(|member| member.id == id).unwrap();
        member.node.take().unwrap().stop().unwrap();
    }

    fn start(&mut self, id: NodeId) {
        let member = self.members.iter_mut().find(|member| member.id == id).unwrap();
        member.node = Some(start(member.dir.path(), member.redis, member.bus).0);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let nodes: Vec<_> = self.members.iter_mut().filter_map(|member| member.node.take()).collect();
        thread::scope(|scope| {
            nodes.into_iter().for_each(|node| _ = scope.spawn(move || node.stop()));
        });
    }
}

impl Member {
    /// A client of its proxy.
    fn proxy(&self) -> Connection {
        let address = self.node.as_ref().unwrap().addresses().proxy.unwrap();
        let client = redis::Client::open(format!("redis://{address}/")).unwrap();
        client.get_connection_with_timeout(Duration::from_secs(5)).unwrap()
    }

    fn connect(&self) -> Result<Connection, String> {
        let client = redis::Client::open(format!("redis://{}/", self.redis)).map_err(|error| error.to_string())?;
        client.get_connection_with_timeout(Duration::from_secs(5)).map_err(|error| error.to_string())
    }

    /// Reads from this node, replica or not.
    fn get(&self, key: &str) -> Result<Option<String>, String> {
        let mut connection = self.connect()?;
        redis::cmd("READONLY").query::<()>(&mut connection).map_err(|error| error.to_string())?;
        redis::cmd("GET").arg(key).query(&mut connection).map_err(|error| error.to_string())
    }

    /// Whether it is a replica that has all that its primary had, so that it can be promoted.
    fn is_synced(&self) -> Result<(), String> {
        let info = redis::cmd("INFO").arg("replication").query::<String>(&mut self.connect()?);
        let info = info.map_err(|error| error.to_string())?;
        if info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
    }
}

#[test]
fn a_founded_region_takes_writes_and_its_replicas_follow() {
    let region = Region::found(2, 1);
    for number in 0..50 {
        region.run::<()>(&["SET", &format!("key:{number}"), &number.to_string()]);
    }
    let key = "key:7";
    let mut connection = region.primary_of(key).connect().unwrap();
    redis::cmd("SET").arg(key).arg("last").query::<()>(&mut connection).unwrap();
    let replicas: i64 = redis::cmd("WAIT").arg(1).arg(10_000).query(&mut connection).unwrap();
    assert_eq!(replicas, 1);
    let [replica] = region.replicas_of(key)[..] else { panic!("one replica") };
    assert_eq!(replica.get(key).unwrap().as_deref(), Some("last"));
}

#[test]
fn a_hand_over_loses_nothing_and_comes_back() {
    let region = Region::found(2, 1);
    region.run::<()>(&["SET", "key", "one"]);
    for round in 0..3 {
        let (before, heir) = (region.primary_of("key").id, region.replicas_of("key")[0].id);
        until("the primary hands over", || match ask(region.members[0].bus, Request::FailOver { node: heir }) {
            Ok(Response::Done) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(region.primary_of("key").id, heir);
        assert_eq!(region.map().role(before), Some(Role::Replica));
        let value: String = region.run(&["GET", "key"]);
        assert_eq!(value, if round == 0 { "one".to_owned() } else { format!("round {}", round - 1) });
        region.run::<()>(&["SET", "key", &format!("round {round}")]);
        let written = Some(format!("round {round}"));
        until("the former primary follows", || {
            let got = region.member(before).get("key")?;
            if got == written { Ok(()) } else { Err(format!("{got:?}")) }
        });
    }
}

#[test]
fn a_primary_that_stops_is_replaced_by_the_replica_that_followed_it() {
    let mut region = Region::found(2, 1);
    region.run::<()>(&["SET", "key", "kept"]);
    let (primary, heir) = (region.primary_of("key").id, region.replicas_of("key")[0].id);
    until("the replica has it", || {
        let got = region.member(heir).get("key")?;
        if got.as_deref() == Some("kept") { Ok(()) } else { Err(format!("{got:?}")) }
    });
    until("the replica has all", || region.member(heir).is_synced());
    region.stop(primary);
    until("the replica is promoted", || {
        let now = region.primary_of("key").id;
        if now == heir { Ok(()) } else { Err(format!("{now}")) }
    });
    assert_eq!(region.run::<String>(&["GET", "key"]), "kept");
    region.run::<()>(&["SET", "key", "meanwhile"]);
    region.start(primary);
    until("the former primary follows", || {
        let got = region.member(primary).get("key")?;
        if got.as_deref() == Some("meanwhile") { Ok(()) } else { Err(format!("{got:?}")) }
    });
}

#[test]
fn slots_move_while_they_are_written_to() {
    let region = Region::found(2, 1);
    let keys: Vec<String> = (0..200).map(|number| format!("key:{number}")).collect();
    keys.iter().for_each(|key| region.run::<()>(&["SET", key, "old"]));
    let map = region.map();
    let slots: SlotSet = keys.iter().map(|key| Slot::of(key.as_bytes())).collect();
    let moving: SlotSet = slots.iter().filter(|slot| map.owner(*slot) == Some(ShardId(0))).collect();
    region.change(&MapCommand::Move { slots: moving.clone(), to: ShardId(1) });
    until("the slots have moved", || {
        let map = region.map();
        let left = moving.iter().filter(|slot| map.owner(*slot) != Some(ShardId(1))).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
    });
    for key in &keys {
        assert_eq!(region.run::<String>(&["GET", key]), "old", "{key}");
        region.run::<()>(&["SET", key, "new"]);
        assert_eq!(region.run::<String>(&["GET", key]), "new", "{key}");
    }
}

#[test]
fn a_region_that_was_stopped_comes_back_with_its_map() {
    let mut region = Region::found(2, 1);
    region.run::<()>(&["SET", "key", "gone with the memory"]);
    let (epoch, ids) = (region.map().epoch(), region.members.iter().map(|member| member.id).collect::<Vec<_>>());
    ids.iter().for_each(|id| region.stop(*id));
    ids.iter().rev().for_each(|id| region.start(*id));
    region.run::<()>(&["SET", "key", "new"]);
    assert_eq!(region.run::<String>(&["GET", "key"]), "new");
    assert!(region.map().epoch() > epoch);
}
