//! The subcommands against nodes that only look like ones: each listens on a real bus, and all share one map in memory,
//! which one of them may change. Slots that move arrive a few at a time, whenever somebody looks.

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use clap::Parser;
use clock::{RegionId, Time};
use geo_link::tls::Credentials;
use node_core::{
    cluster::{
        Addresses, ClusterMap, Founder, Id, MapCommand, NodeId, Refused, Role, Run, ShardId,
        control::{Introduction, Request, Response},
    },
    slot::SlotSet,
};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::{bytes::Bytes, sync::CancellationToken};

use super::{
    ClusterCommand, UsageError, add_node,
    connection::{Caller, OperateError},
    create, failover,
    founding::FoundingError,
    layout,
    moves::{MoveError, Pace},
    operator::Operator,
    output::{Consent, Output},
    rebalance, remove_node, status,
};
use crate::{
    cluster::bus::{self, Arrival, Handlers, Malformed, listen},
    lab::certificates::Authority,
};

#[tokio::test]
async fn empty_nodes_become_a_cluster_that_all_of_them_know() {
    let region = Region::start(6).await;
    let sink = region.create(&["--replicas", "2", "--weights", "100,300"], Consent::Given).await.unwrap();
    let map = region.map();
    assert_eq!(map.shards().map(|(id, _)| map.replicas(id).count()).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(map.slots(ShardId(1)).len(), 12_288);
    let lines = sink.lines();
    assert_eq!(lines[0]["plan"]["shards"][1]["weight"], 300);
    assert_eq!(lines.last().unwrap()["result"]["nodes"], 6);
    region.stop().await;
}

#[tokio::test]
async fn what_cannot_be_founded_changes_nothing() {
    let region = Region::start(3).await;
    let error = region.create(&["--replicas", "1"], Consent::Given).await.unwrap_err();
    assert!(error.is::<UsageError>(), "{error}");
    let error = region.create(&[], Consent::Nobody).await.unwrap_err();
    assert!(error.is::<UsageError>(), "{error}");
    let original = region.world().introductions[2].clone();
    region.world().introductions[2].keys = 5;
    let error = region.create(&[], Consent::Given).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(FoundingError::NotEmpty { keys: 5, .. })), "{error}");
    let same = region.world().introductions[1].clone();
    region.world().introductions[2] = Introduction { region_id: 2, ..same };
    let error = region.create(&[], Consent::Given).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(FoundingError::Twice(..))), "{error}");
    region.world().introductions[2] = Introduction { region_id: 2, ..original };
    let error = region.create(&[], Consent::Given).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(FoundingError::Regions { .. })), "{error}");
    assert!(!region.map().is_founded());
    region.stop().await;
}

#[tokio::test]
async fn a_founded_cluster_is_not_founded_again() {
    let region = Region::founded(3, 0).await;
    let error = region.create(&[], Consent::Given).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(FoundingError::Founded(_))), "{error}");
    region.stop().await;
}

#[tokio::test]
async fn a_node_that_joins_gets_its_share_and_gives_it_back_when_it_leaves() {
    let region = Region::founded(3, 0).await;
    let mut operator = region.operator().await;
    // Nobody leads at first.
    region.world().leaderless = 3;
    let at = region.add_listener().await;
    let args = subcommand!(AddNode, &["add-node", &at, "--weight", "200"]);
    let sink = Sink::default();
    add_node::add(&args, &mut operator, &mut sink.output(), Consent::Given).await.unwrap();
    assert_eq!((region.map().shards().len(), region.map().slots(ShardId(3)).len()), (4, 0));

    let args = subcommand!(Rebalance, &["rebalance", "--weight", "0=50"]);
    let sink = Sink::default();
    rebalance::rebalance(&args, &mut operator, &mut sink.output(), Consent::Given, QUICK).await.unwrap();
    let map = region.map();
    let held: Vec<_> = map.shards().map(|(id, _)| map.slots(id).len()).collect();
    assert_eq!(
        (held.iter().sum::<usize>(), held[3].abs_diff(7_281) <= 1, held[0].abs_diff(1_820) <= 1),
        (16_384, true, true)
    );
    assert!(sink.lines().iter().filter(|line| line["progress"]["done"].is_u64()).count() > 10);

    let args = subcommand!(RemoveNode, &["remove-node", &at]);
    let sink = Sink::default();
    remove_node::remove(&args, &mut operator, &mut sink.output(), Consent::Given, QUICK).await.unwrap();
    let map = region.map();
    assert_eq!((map.shards().len(), map.nodes().len(), map.moves().len()), (3, 3, 0));
    assert_eq!(sink.lines().last().unwrap()["result"]["moved"], held[3]);
    operator.hang_up().await;
    region.stop().await;
}

#[tokio::test]
async fn a_node_can_be_asked_to_see_itself_removed() {
    let region = Region::founded(2, 1).await;
    let mut operator = region.operator().await;
    let (asked, sink) = (operator.node().to_owned(), Sink::default());
    let args = subcommand!(RemoveNode, &["remove-node", &asked]);
    remove_node::remove(&args, &mut operator, &mut sink.output(), Consent::Given, QUICK).await.unwrap();
    assert_eq!((region.map().nodes().len(), operator.map().nodes().len()), (3, 3));
    operator.hang_up().await;
    region.stop().await;
}

#[tokio::test]
async fn a_move_that_stands_still_is_stopped_and_said_so() {
    let region = Region::founded(2, 0).await;
    region.world().arriving = 0;
    let mut operator = region.operator().await;
    let args = subcommand!(Rebalance, &["rebalance", "--weight", "0=300"]);
    let pace = Pace { stalled: Duration::from_millis(50), ..QUICK };
    let sink = Sink::default();
    let moved = rebalance::rebalance(&args, &mut operator, &mut sink.output(), Consent::Given, pace).await;
    let error = moved.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(MoveError::Stalled { .. })), "{error}");
    let map = region.map();
    assert_eq!((map.moves().len(), map.slots(ShardId(0)).len()), (0, 8_192));
    operator.hang_up().await;
    region.stop().await;
}

#[tokio::test]
async fn a_replica_takes_over_and_another_joins_behind_it() {
    let region = Region::founded(2, 1).await;
    let mut operator = region.operator().await;
    let replica = founder(3, "127.0.0.1").id;
    let args = subcommand!(Failover, &["failover", &replica.to_string()[..8]]);
    failover::fail_over(&args, &mut operator, &mut Sink::default().output(), Consent::Given).await.unwrap();
    assert_eq!(region.map().role(replica), Some(Role::Primary));

    let at = region.add_listener().await;
    let args = subcommand!(AddNode, &["add-node", &at, "--replica-of", &replica.to_string()]);
    add_node::add(&args, &mut operator, &mut Sink::default().output(), Consent::Given).await.unwrap();
    assert_eq!(region.map().replicas(ShardId(1)).count(), 2);
    // It is in now, and would not be taken twice.
    let error = add_node::add(&args, &mut operator, &mut Sink::default().output(), Consent::Given).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(FoundingError::Founded(_))), "{error}");
    operator.hang_up().await;
    region.stop().await;
}

#[tokio::test]
async fn the_status_is_that_of_all_nodes() {
    let region = Region::founded(2, 1).await;
    region.world().introductions[3].keys = 17;
    let (operator, sink) = (region.operator().await, Sink::default());
    status::status(&operator, &mut sink.output()).await.unwrap();
    let status = &sink.lines()[0];
    assert_eq!((&status["epoch"], &status["is_covered"]), (&1.into(), &true.into()));
    let shard = &status["shards"][1];
    assert_eq!((&shard["slot_count"], &shard["slots"]), (&8_192.into(), &"8192-16383".into()));
    assert_eq!((&shard["nodes"][1]["role"], &shard["nodes"][1]["keys"]), (&"replica".into(), &17.into()));
    operator.hang_up().await;
    region.stop().await;
}

#[tokio::test]
async fn an_operator_shows_a_certificate_of_the_region() {
    let folder = tempfile::tempdir().unwrap();
    let [ca, cert, key, file] =
        ["ca.pem", "us-east.pem", "us-east.key", "node.toml"].map(|name| folder.path().join(name));
    Authority::create(&ca).unwrap().certify("us-east", &cert, &key).unwrap();
    let files = config::TlsFiles { cert: &cert, key: &key, ca: Some(&ca) };
    let region = Region::start_with(1, Some(bus::credentials_of("us-east", files).unwrap())).await;
    let address = &region.addresses()[0];
    let cluster = format!("listen = \"{address}\"\ncert = \"us-east.pem\"\nkey = \"us-east.key\"\nca = \"ca.pem\"");
    let config = format!("region = {{ name = \"us-east\", id = 1 }}\nnode.dir = \"state\"\n[cluster]\n{cluster}");
    std::fs::write(&file, config).unwrap();
    let [ca, cert, key, file] = [&ca, &cert, &key, &file].map(|path| path.to_str().unwrap());

    let by_file = ["status", "--config", file];
    let by_flags = ["status", "--node", address, "--cert", cert, "--key", key, "--ca", ca, "--region", "us-east"];
    for words in [&by_file[..], &by_flags[..]] {
        let (caller, node) = subcommand!(Status, words).node.caller().unwrap();
        assert_eq!((&node, caller.introduction(&node).await.unwrap().region), (address, "us-east".to_owned()));
        caller.hang_up().await;
    }
    let (caller, node) = subcommand!(Status, &["status", "--node", address]).node.caller().unwrap();
    let refused = caller.introduction(&node).await.unwrap_err();
    assert!(matches!(refused, OperateError::Unreachable { .. }), "{refused}");
    region.stop().await;
}

#[tokio::test]
async fn who_is_in_no_cluster_is_not_operated() {
    let region = Region::start(1).await;
    let error = Operator::join(Caller::new(None), region.addresses()[0].clone()).await.unwrap_err();
    assert!(matches!(error, OperateError::NotFounded(_)), "{error}");
    region.stop().await;
}

#[tokio::test]
async fn a_node_that_is_gone_is_gone_round() {
    let mut region = Region::founded(3, 0).await;
    let mut operator = Operator::join(Caller::new(None), region.addresses()[2].clone()).await.unwrap();
    region.silence(2).await;
    operator.refresh().await.unwrap();
    operator.change(&MapCommand::SetWeight { shard: ShardId(1), weight: 50 }).await.unwrap();
    operator.refresh().await.unwrap();
    assert_eq!(operator.map().shard(ShardId(1)).unwrap().weight, 50);
    let refused = operator.change(&MapCommand::SetWeight { shard: ShardId(9), weight: 50 }).await.unwrap_err();
    assert!(matches!(refused, OperateError::Refused(Refused::UnknownShard(_))), "{refused}");
    operator.hang_up().await;
    region.stop().await;
}

const QUICK: Pace = Pace { poll: Duration::from_millis(1), stalled: Duration::from_secs(60) };

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: ClusterCommand,
}

/// The arguments of a subcommand, as the command line has them.
macro_rules! subcommand {
    ($kind:ident, $words:expr) => {
        match Cli::parse_from([&["cluster"], $words as &[&str]].concat()).command {
            ClusterCommand::$kind(args) => args,
            other => panic!("{other:?}"),
        }
    };
}
use subcommand;

/// A node of a number, whose id begins with `aaaa` and that number twice.
pub(super) fn founder(index: u8, host: &str) -> Founder {
    let mut id = [0xaa; Id::BYTES];
    id[2..].fill(index);
    let (port, bus_port) = (7_000 + u16::from(index), 17_000 + u16::from(index));
    let addresses = Addresses { host: host.to_owned(), port, tls_port: 0, bus_port };
    Founder { id: NodeId(Id::from_bytes(id)), run: Run(1), addresses }
}

/// How such a node introduces itself.
pub(super) fn introduction(index: u8, keys: u64) -> Introduction {
    let node = founder(index, "127.0.0.1");
    Introduction { node, region: "us-east".to_owned(), region_id: 1, is_founded: false, keys }
}

/// A cluster of so many shards on one host: node i is the primary of shard i.
pub(super) fn cluster(shards: u8, replicas: u8) -> ClusterMap {
    let nodes = (0..shards * (replicas + 1)).map(|index| founder(index, "127.0.0.1")).collect();
    founded(nodes, replicas.into())
}

fn founded(nodes: Vec<Founder>, replicas: usize) -> ClusterMap {
    let shards = layout::shards(nodes, replicas, &[], || Id::from_bytes([7; 20])).unwrap();
    let mut map = ClusterMap::new();
    let region = RegionId::new(1).unwrap();
    map.apply(&MapCommand::Found { region, shards, at: Time::from_unix_ms(1) }).unwrap();
    map
}

/// Lets so many slots that move arrive.
pub(super) fn finish_moves(map: &mut ClusterMap, most: usize) {
    let slots: Vec<_> = map.moves().map(|(slot, _)| slot).take(most).collect();
    for slot in slots {
        let (from, moving) = (map.owner(slot).unwrap(), map.moving(slot).unwrap());
        let slots = SlotSet::from_iter([slot]);
        map.apply(&MapCommand::Prepare { slots, from, to: moving.to, since: moving.since }).unwrap();
        map.apply(&MapCommand::Moved { prepared: map.epoch() }).unwrap();
    }
}

/// What a command said.
#[derive(Clone, Debug, Default)]
pub(super) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub(super) fn lines(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap();
        bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    fn output(&self) -> Output {
        Output::program(Box::new(self.clone()))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What all the nodes share.
struct World {
    map: ClusterMap,
    introductions: Vec<Introduction>,
    /// How many slots arrive whenever somebody looks.
    arriving: usize,
    /// How many more times nobody leads.
    leaderless: usize,
}

/// The nodes.
pub(crate) struct Region {
    world: Arc<Mutex<World>>,
    listeners: Mutex<Vec<(CancellationToken, JoinHandle<io::Result<()>>)>>,
    credentials: Option<Arc<Credentials>>,
}

impl Region {
    /// So many empty nodes, of which the first leads.
    pub(crate) async fn start(nodes: usize) -> Self {
        Self::start_with(nodes, None).await
    }

    async fn start_with(nodes: usize, credentials: Option<Arc<Credentials>>) -> Self {
        let world = World { map: ClusterMap::new(), introductions: Vec::new(), arriving: 200, leaderless: 0 };
        let region = Self { world: Arc::new(Mutex::new(world)), listeners: Mutex::default(), credentials };
        for _ in 0..nodes {
            region.add_listener().await;
        }
        region
    }

    /// The same, as a cluster of so many shards.
    async fn founded(shards: usize, replicas: usize) -> Self {
        let region = Self::start(shards * (replicas + 1)).await;
        let nodes = region.world().introductions.iter().map(|introduction| introduction.node.clone()).collect();
        region.world().map = founded(nodes, replicas);
        region
    }

    /// One more node, and where it listens.
    async fn add_listener(&self) -> String {
        let socket = crate::server::acceptor::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let index = self.world().introductions.len();
        let mut introduction = introduction(index as u8, 0);
        introduction.node.addresses.bus_port = socket.local_addr().unwrap().port();
        let address = introduction.node.addresses.bus();
        self.world().introductions.push(introduction);
        let (stopping, node) =
            (CancellationToken::new(), Arc::new(Node { index, world: self.world.clone(), map: Mutex::default() }));
        let listening = tokio::spawn(listen(socket, self.credentials.clone(), node, stopping.clone()));
        self.listeners.lock().unwrap().push((stopping, listening));
        address
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(crate) fn map(&self) -> ClusterMap {
        self.world().map.clone()
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.world().introductions.iter().map(|introduction| introduction.node.addresses.bus()).collect()
    }

    /// An operator who asks the last of them, which does not lead.
    async fn operator(&self) -> Operator {
        Operator::join(Caller::new(None), self.addresses().pop().unwrap()).await.unwrap()
    }

    async fn create(&self, flags: &[&str], consent: Consent) -> anyhow::Result<Sink> {
        let addresses = self.addresses();
        let words = ["create"].into_iter().chain(addresses.iter().map(String::as_str)).chain(flags.iter().copied());
        let args = subcommand!(Create, &words.collect::<Vec<_>>());
        let (caller, sink) = (Caller::new(None), Sink::default());
        let created = create::create(&args, &caller, &mut sink.output(), consent).await;
        caller.hang_up().await;
        created.map(|()| sink)
    }

    async fn silence(&mut self, index: usize) {
        let (stopping, listening) = self.listeners.get_mut().unwrap().remove(index);
        stopping.cancel();
        listening.await.unwrap().unwrap();
    }

    pub(crate) async fn stop(mut self) {
        while !self.listeners.get_mut().unwrap().is_empty() {
            self.silence(0).await;
        }
    }
}

struct Node {
    index: usize,
    world: Arc<Mutex<World>>,
    /// The map, as it was when this was in it last: who is removed does not hear of it.
    map: Mutex<ClusterMap>,
}

impl Node {
    fn answer(&self, request: Request) -> Response {
        let mut world = self.world.lock().unwrap();
        let me = world.introductions[self.index].clone();
        let is_founded = world.map.node(me.node.id).is_some();
        match request {
            Request::Introduce => Response::Introduction(Introduction { is_founded, ..me }),
            Request::Map if is_founded => {
                let arriving = world.arriving;
                finish_moves(&mut world.map, arriving);
                self.map.lock().unwrap().clone_from(&world.map);
                Response::Map(Box::new(world.map.clone()))
            }
            Request::Map => Response::Map(Box::new(self.map.lock().unwrap().clone())),
            Request::Change(_) | Request::FailOver { .. } if world.leaderless > 0 => {
                world.leaderless -= 1;
                Response::NotHere(None)
            }
            Request::Change(_) | Request::FailOver { .. } if is_founded && self.index > 0 => {
                Response::NotHere(Some(world.introductions[0].node.addresses.bus()))
            }
            Request::Change(command) => world.change(&command),
            Request::FailOver { node } => {
                let map = &world.map;
                let ((shard, known), run) = (map.shard_of(node).unwrap(), map.node(node).unwrap().run);
                let former = (known.primary, known.run);
                world.change(&MapCommand::Promote {
                    shard,
                    node,
                    run,
                    former,
                    has_all: false,
                    at: Time::from_unix_ms(2),
                })
            }
            other => Response::Failed(format!("nobody asks for {other:?}")),
        }
    }
}

impl World {
    fn change(&mut self, command: &MapCommand) -> Response {
        self.map.apply(command).map_or_else(Response::Refused, |_| Response::Done)
    }
}

impl Handlers for Node {
    async fn raft(&self, _: Bytes) -> Result<Vec<u8>, Malformed> {
        Err(Malformed)
    }

    async fn control(&self, request: Bytes) -> Result<Vec<u8>, Malformed> {
        let request = rmp_serde::from_slice(&request)?;
        Ok(rmp_serde::to_vec(&self.answer(request)).expect("an answer can be written"))
    }

    fn gossip(&self, _: SocketAddr, _: Bytes) {}

    fn feed(&self, _: Arrival) {}
}
