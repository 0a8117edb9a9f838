//! Control planes in one process, over real buses on loopback and real files.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use clock::{RegionId, Time};
use node_core::{
    cluster::{
        Addresses, ClusterMap, Epoch, FoundShard, Founder, Id, MapCommand, MapEvent, NodeId, Refused, Run, ShardId,
        choose_voters,
    },
    slot::{Slot, SlotSet},
};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::{bytes::Bytes, sync::CancellationToken};

use super::{ControlPlane, ProposeError};
use crate::cluster::bus::{Arrival, Bus, Handlers, Malformed, listen};

#[tokio::test]
async fn a_region_agrees_and_outlives_its_leader() {
    let mut nodes = Node::start_all(3).await;
    found(&nodes).await;
    let leader = leader_of(&nodes[0]).await;
    let follower = nodes.iter().find(|node| node.id != leader).unwrap();
    assert_eq!(weigh(follower, 50).await, Ok(MapEvent::Weighed(ShardId(0))));
    for node in &nodes {
        assert_eq!(node.map_at(2).await.shard(ShardId(0)).unwrap().weight, 50);
    }

    let gone = nodes.remove(nodes.iter().position(|node| node.id == leader).unwrap());
    let (folder, id) = gone.stop().await;
    assert_eq!(weigh(&nodes[0], 60).await, Ok(MapEvent::Weighed(ShardId(0))));
    assert_ne!(leader_of(&nodes[1]).await, leader);

    // It comes back at another address, of which the others are told.
    let back = Node::start(folder, id, local()).await;
    for node in &nodes {
        node.plane.hear_of(id, back.address.to_string());
    }
    assert_eq!(back.map_at(3).await.shard(ShardId(0)).unwrap().weight, 60);
    assert_eq!(weigh(&back, 70).await, Ok(MapEvent::Weighed(ShardId(0))));
    nodes.push(back);
    stop_all(nodes).await;
}

#[tokio::test]
async fn a_region_that_was_stopped_as_a_whole_comes_back_with_its_map() {
    let nodes = Node::start_all(3).await;
    found(&nodes).await;
    weigh(&nodes[1], 50).await.unwrap();
    nodes[2].map_at(2).await;
    let mut stopped = Vec::new();
    for node in nodes {
        let address = node.address;
        let (folder, id) = node.stop().await;
        stopped.push((folder, id, address));
    }
    let mut nodes = Vec::new();
    for (folder, id, address) in stopped.into_iter().rev() {
        nodes.push(Node::start(folder, id, address).await);
    }
    for node in &nodes {
        assert_eq!(node.map_at(2).await.shard(ShardId(0)).unwrap().weight, 50);
        assert!(node.plane.raft.is_initialized().await.unwrap());
    }
    assert_eq!(weigh(&nodes[0], 60).await, Ok(MapEvent::Weighed(ShardId(0))));
    stop_all(nodes).await;
}

#[tokio::test]
async fn the_group_follows_the_map() {
    let mut nodes = Node::start_all(4).await;
    found(&nodes).await;
    let leader = leader(&nodes).await;
    settle(&nodes).await;
    let (members, voters) = leader.plane.members();
    assert_eq!((members.len(), voters.len()), (4, 3));
    let learner = nodes.iter().find(|node| !voters.contains(&node.id)).unwrap();
    learner.map_at(1).await;
    assert_eq!(weigh(learner, 50).await, Ok(MapEvent::Weighed(ShardId(0))));

    // A voter fails, and the one that does not vote takes its place.
    let fails = *voters.iter().find(|voter| **voter != leader.id && **voter != nodes[0].id).unwrap();
    let failed = MapCommand::Failed { node: fails, run: Run(1) };
    leader.plane.propose(&failed, PATIENCE).await.unwrap().unwrap();
    settle(&nodes).await;
    let (members, voters) = leader.plane.members();
    assert!(members.contains(&fails) && !voters.contains(&fails) && voters.contains(&learner.id));

    // It leaves the map, and so the group; a voter that leaves is let go as one before.
    for node in [fails, learner.id] {
        leader.plane.propose(&MapCommand::RemoveNode { node }, PATIENCE).await.unwrap().unwrap();
    }
    settle(&nodes).await;
    let (members, voters) = self::leader(&nodes).await.plane.members();
    assert_eq!((members.len(), voters.len()), (2, 1));
    let others = nodes.extract_if(.., |node| !members.contains(&node.id)).collect();
    stop_all(others).await;
    assert_eq!(weigh(&nodes[0], 60).await, Ok(MapEvent::Weighed(ShardId(0))));
    stop_all(nodes).await;
}

#[tokio::test]
async fn a_newcomer_gets_the_whole_map_when_the_log_is_gone() {
    let mut nodes = Node::start_all(1).await;
    found(&nodes).await;
    weigh(&nodes[0], 50).await.unwrap();
    let plane = &nodes[0].plane;
    plane.raft.trigger().snapshot().await.unwrap();
    plane.raft.wait(Some(PATIENCE)).metrics(|metrics| metrics.snapshot.is_some(), "a snapshot").await.unwrap();
    let applied = plane.raft.metrics().borrow().last_applied.unwrap().index;
    plane.raft.trigger().purge_log(applied).await.unwrap();
    plane.raft.wait(Some(PATIENCE)).metrics(|metrics| metrics.purged.is_some(), "a purge").await.unwrap();

    let newcomer = Node::new(7).await;
    plane.add_learner(newcomer.id, newcomer.address.to_string()).await.unwrap();
    assert_eq!(newcomer.map_at(2).await.shard(ShardId(0)).unwrap().weight, 50);
    nodes.push(newcomer);
    stop_all(nodes).await;
}

#[tokio::test]
async fn only_a_leader_that_a_majority_follows_leads() {
    let mut nodes = Node::start_all(3).await;
    assert!(matches!(nodes[0].plane.propose(&weight(50), Duration::from_millis(1)).await, Err(ProposeError::NoLeader)));
    found(&nodes).await;
    let id = leader(&nodes).await.id;
    let index = nodes.iter().position(|node| node.id == id).unwrap();
    let alone = nodes.swap_remove(index);
    // A connection may be new, and a heartbeat's answer late.
    let confirmed = async { while alone.plane.confirm_leadership().await.is_err() {} };
    timeout(PATIENCE, confirmed).await.expect("leadership is confirmed");
    for node in nodes {
        assert!(node.plane.confirm_leadership().await.is_err());
        node.stop().await;
    }
    assert!(alone.plane.confirm_leadership().await.is_err());
    let patience = Duration::from_millis(100);
    let proposed = alone.plane.propose(&weight(50), patience).await;
    assert!(matches!(proposed, Err(ProposeError::Undecided | ProposeError::NoLeader)), "{proposed:?}");
    alone.stop().await;
}

#[tokio::test]
async fn what_is_refused_is_told_to_whoever_proposed() {
    let nodes = Node::start_all(3).await;
    found(&nodes).await;
    for node in &nodes {
        assert_eq!(weigh(node, 0).await, Err(Refused::Weight));
    }
    // Founding again does no harm.
    let again = nodes[1].plane.found(&founding(&nodes), PATIENCE).await.unwrap();
    assert_eq!(again, Err(Refused::Exists(Epoch(1))));
    stop_all(nodes).await;
}

#[tokio::test]
async fn a_disk_that_is_full_ends_the_nodes_part_and_panics_nowhere() {
    let (is_full, closed) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
    let id = NodeId(Id::from_bytes([1; Id::BYTES]));
    let disk = super::store::tests::on_a_disk_that_fills(id, closed.clone(), is_full.clone());
    let plane = ControlPlane::start_on(disk, closed, id, Bus::new(None)).await.unwrap();
    let node = |port| (id, SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(plane.found(&founding_of([node(1)]), PATIENCE).await.unwrap(), Ok(MapEvent::Founded));
    is_full.store(true, Relaxed);
    let proposed = plane.propose(&weight(50), PATIENCE).await;
    assert!(matches!(proposed, Err(ProposeError::Stopped)), "{proposed:?}");
    assert!(matches!(plane.failure().await, openraft::error::Fatal::StorageError(_)));
    assert_eq!(plane.map().borrow().epoch(), Epoch(1));
    assert!(!plane.leadership().borrow().is_mine);
    plane.shutdown().await;
}

#[tokio::test]
async fn what_is_for_another_node_is_not_taken() {
    let nodes = Node::start_all(2).await;
    // The other listens where the first is thought to be.
    nodes[0].plane.hear_of(nodes[1].id, nodes[0].address.to_string());
    let other = super::types::Member { id: nodes[1].id, bus: String::new() };
    let answer = nodes[0].plane.network.ask(&other, super::Request::Propose(weight(1)), PATIENCE).await;
    assert!(matches!(answer, Err(super::Failure::Misdirected)), "{answer:?}");
    assert!(nodes[0].plane.answer(Bytes::from_static(b"garbage")).await.is_err());
    stop_all(nodes).await;
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    id: NodeId,
    folder: TempDir,
    address: SocketAddr,
    bus: Bus,
    plane: Arc<ControlPlane>,
    stopping: CancellationToken,
    listening: JoinHandle<std::io::Result<()>>,
}

struct RaftOnly(Arc<ControlPlane>);

impl Handlers for RaftOnly {
    async fn raft(&self, request: Bytes) -> Result<Vec<u8>, Malformed> {
        self.0.answer(request).await
    }

    async fn control(&self, _: Bytes) -> Result<Vec<u8>, Malformed> {
        Err(Malformed)
    }

    fn gossip(&self, _: SocketAddr, _: Bytes) {}

    fn feed(&self, _: Arrival) {}
}

impl Node {
    async fn start_all(count: u8) -> Vec<Self> {
        let mut nodes = Vec::new();
        for number in 1..=count {
            nodes.push(Self::new(number).await);
        }
        nodes
    }

    async fn new(number: u8) -> Self {
        Self::start(tempfile::tempdir().unwrap(), NodeId(Id::from_bytes([number; Id::BYTES])), local()).await
    }

    async fn start(folder: TempDir, id: NodeId, address: SocketAddr) -> Self {
        let socket = crate::server::acceptor::bind(address).unwrap();
        let (address, bus, stopping) = (socket.local_addr().unwrap(), Bus::new(None), CancellationToken::new());
        let plane = Arc::new(ControlPlane::start(folder.path(), Duration::ZERO, id, bus.clone()).await.unwrap());
        let handlers = Arc::new(RaftOnly(plane.clone()));
        let listening = tokio::spawn(listen(socket, None, handlers, stopping.clone()));
        Self { id, folder, address, bus, plane, stopping, listening }
    }

    /// The map when it has changed so often.
    async fn map_at(&self, epoch: u64) -> Arc<ClusterMap> {
        let mut map = self.plane.map();
        let reached = timeout(PATIENCE, map.wait_for(|map| map.epoch() >= Epoch(epoch))).await;
        reached.expect("the map changes").unwrap().clone()
    }

    async fn stop(self) -> (TempDir, NodeId) {
        self.stopping.cancel();
        self.listening.await.unwrap().unwrap();
        self.plane.shutdown().await;
        self.bus.shutdown().await;
        assert!(matches!(self.plane.failure().await, openraft::error::Fatal::Stopped));
        (self.folder, self.id)
    }
}

async fn stop_all(nodes: Vec<Node>) {
    for node in nodes {
        node.stop().await;
    }
}

async fn leader_of(node: &Node) -> NodeId {
    let mut leadership = node.plane.leadership();
    let known = timeout(PATIENCE, leadership.wait_for(|leadership| leadership.leader.is_some())).await;
    known.expect("somebody leads").unwrap().leader.clone().unwrap().id
}

async fn leader(nodes: &[Node]) -> &Node {
    let id = leader_of(&nodes[0]).await;
    nodes.iter().find(|node| node.id == id).unwrap()
}

/// Lets whoever leads settle until there is nothing to do. What was just taken in is ready only when it has caught up, and
/// a leader that is let go as a voter leaves the rest to the next.
async fn settle(nodes: &[Node]) {
    let settled = async {
        loop {
            let plane = &leader(nodes).await.plane;
            let (members, voters) = plane.members();
            let all = members.iter().copied().collect();
            let is_settled = choose_voters(&plane.map().borrow(), &voters, &all) == voters;
            if plane.settle().await.is_ok_and(|changed| !changed) && is_settled {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, settled).await.expect("the group settles");
}

async fn found(nodes: &[Node]) {
    let founded = nodes[0].plane.found(&founding(nodes), PATIENCE).await.unwrap();
    assert_eq!(founded, Ok(MapEvent::Founded));
}

fn founding(nodes: &[Node]) -> MapCommand {
    founding_of(nodes.iter().map(|node| (node.id, node.address)))
}

/// One shard of all nodes, with all slots.
fn founding_of(nodes: impl IntoIterator<Item = (NodeId, SocketAddr)>) -> MapCommand {
    let founders = nodes.into_iter().map(|(id, bus)| Founder {
        id,
        run: Run(1),
        addresses: Addresses { host: bus.ip().to_string(), port: 1, tls_port: 0, bus_port: bus.port() },
    });
    let slots: SlotSet = Slot::all().collect();
    let shard = FoundShard { label: Id::from_bytes([9; Id::BYTES]), nodes: founders.collect(), slots, weight: 100 };
    MapCommand::Found { region: RegionId::MIN, shards: vec![shard], at: Time::from_unix_ms(1) }
}

fn weight(weight: u16) -> MapCommand {
    MapCommand::SetWeight { shard: ShardId(0), weight }
}

async fn weigh(node: &Node, percent: u16) -> Result<MapEvent, Refused> {
    node.plane.propose(&weight(percent), PATIENCE).await.unwrap()
}

fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}
