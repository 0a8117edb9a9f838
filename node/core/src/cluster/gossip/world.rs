//! A region in virtual time, for tests: processes, the wires between them, and what is wrong with both.
//!
//! One event at a time: the first packet that arrives, or else whoever's time has come. Everything random comes from the
//! seed. After every event [`World::check`] sees to it that nobody suspects who is well.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use clock::{RegionId, Time};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{Gossip, GossipOptions, Liveness};
use crate::{
    cluster::{Addresses, ClusterMap, FoundShard, Founder, Id, MapCommand, NodeId, Run},
    slot::SlotSet,
};

/// A region, its wires, and the time.
pub(super) struct World {
    pub(super) random: Pcg64Mcg,
    /// The last run of a node.
    runs: u64,
    pub(super) now: Duration,
    pub(super) map: ClusterMap,
    pub(super) nodes: BTreeMap<NodeId, Place>,
    wire: BTreeMap<(Duration, u64), Parcel>,
    /// How many packets were ever sent.
    pub(super) sent: u64,
    /// Which part of the packets is lost.
    pub(super) loss: f64,
    /// From whom to whom nothing comes through.
    pub(super) cuts: BTreeSet<(NodeId, NodeId)>,
    /// Who may be suspected.
    pub(super) ill: BTreeSet<NodeId>,
    /// Who may suspect anybody.
    pub(super) misled: BTreeSet<NodeId>,
    /// Whether anybody may be suspected meanwhile.
    pub(super) lenient: bool,
}

/// Where a process runs, if one does.
pub(super) struct Place {
    pub(super) gossip: Option<Gossip>,
    /// What arrived while it was stopped, if it is.
    stopped: Option<Vec<Bytes>>,
}

struct Parcel {
    from: NodeId,
    to: NodeId,
    packet: Bytes,
}

impl World {
    /// A region of one shard, all of it started at once.
    pub(super) fn new(seed: u64, size: u8) -> Self {
        let random = Pcg64Mcg::seed_from_u64(seed << 8 | u64::from(size));
        let (map, nodes, wire) = (ClusterMap::new(), BTreeMap::new(), BTreeMap::new());
        let (cuts, ill, misled) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (now, lenient) = (Duration::from_secs(1_000), false);
        let mut world = Self { random, runs: 0, now, map, nodes, wire, sent: 0, loss: 0.0, cuts, ill, misled, lenient };
        let founders: Vec<_> = (0..size).map(|number| world.founder(number)).collect();
        for Founder { id, run, .. } in &founders {
            let gossip = world.process_of(*id, *run);
            world.nodes.insert(*id, Place { gossip: Some(gossip), stopped: None });
        }
        let shard = FoundShard { label: Id::from_bytes([9; 20]), nodes: founders, slots: SlotSet::all(), weight: 100 };
        let region = RegionId::new(1).unwrap();
        world.apply(MapCommand::Found { region, shards: vec![shard], at: Time::ZERO });
        world
    }

    fn founder(&mut self, number: u8) -> Founder {
        let addresses = Addresses { host: format!("10.0.0.{number}"), port: 1, tls_port: 0, bus_port: 2 };
        Founder { id: NodeId(Id::from_bytes([number; 20])), run: self.draw_run(), addresses }
    }

    pub(super) fn draw_run(&mut self) -> Run {
        // Each is greater than all before it, as those of a node are.
        self.runs += self.random.random_range(1..1_000);
        Run(self.runs)
    }

    fn process_of(&mut self, node: NodeId, run: Run) -> Gossip {
        Gossip::new(node, run, GossipOptions::default(), self.random.random())
    }

    /// Changes the map, for all who run.
    pub(super) fn apply(&mut self, command: MapCommand) {
        self.map.apply(&command).unwrap();
        for place in self.nodes.values_mut() {
            place.gossip.iter_mut().for_each(|gossip| gossip.set_members(self.now, &self.map));
        }
        self.collect();
    }

    pub(super) fn restarted(&mut self, node: NodeId, run: Run) {
        let addresses = self.map.node(node).unwrap().addresses.clone();
        self.apply(MapCommand::Started { node: Founder { id: node, run, addresses } });
    }

    pub(super) fn any_node(&mut self) -> NodeId {
        let index = self.random.random_range(0..self.nodes.len());
        *self.nodes.keys().nth(index).unwrap()
    }

    pub(super) fn any_replica(&self) -> NodeId {
        *self.nodes.keys().next_back().unwrap()
    }

    pub(super) fn kill(&mut self, node: NodeId) {
        self.nodes.get_mut(&node).unwrap().gossip = None;
        self.ill.insert(node);
    }

    /// Starts a process where one was killed. Its map is that of the others, so it names a former run.
    pub(super) fn start(&mut self, node: NodeId) -> Run {
        let run = self.draw_run();
        let mut gossip = self.process_of(node, run);
        gossip.set_members(self.now, &self.map);
        self.nodes.get_mut(&node).unwrap().gossip = Some(gossip);
        self.ill.remove(&node);
        // Its former run may be suspected for a while yet.
        self.lenient = true;
        self.collect();
        run
    }

    /// A connection of `node` to another breaks.
    pub(super) fn hint(&mut self, node: NodeId, other: NodeId) {
        let now = self.now;
        self.nodes.get_mut(&node).unwrap().gossip.as_mut().unwrap().handle_unreachable(now, other);
        self.collect();
    }

    pub(super) fn stop(&mut self, node: NodeId) {
        self.nodes.get_mut(&node).unwrap().stopped = Some(Vec::new());
        self.ill.insert(node);
    }

    pub(super) fn resume(&mut self, node: NodeId, keeps_packets: bool) {
        let packets = self.nodes.get_mut(&node).unwrap().stopped.take().unwrap();
        for packet in packets.into_iter().filter(|_| keeps_packets) {
            self.deliver(node, packet);
        }
        self.collect();
    }

    pub(super) fn process(&self, node: NodeId) -> &Gossip {
        self.nodes[&node].gossip.as_ref().unwrap()
    }

    /// Those who run, but for one.
    pub(super) fn others(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let runs = |place: &Place| place.gossip.is_some() && place.stopped.is_none();
        self.nodes.iter().filter(move |(id, place)| **id != node && runs(place)).map(|(id, _)| *id)
    }

    pub(super) fn suspects(&self, node: NodeId, other: NodeId) -> bool {
        let run = self.map.node(other).unwrap().run;
        self.process(node).suspects().contains(&(other, run))
    }

    pub(super) fn all_suspect(&self, node: NodeId) -> bool {
        self.others(node).all(|other| self.suspects(other, node))
    }

    pub(super) fn believes(&self, node: NodeId, other: NodeId) -> Option<(Run, Liveness)> {
        self.process(node).members().find(|(id, ..)| *id == other).map(|(_, run, liveness)| (run, liveness))
    }

    /// Whether nobody suspects anybody who runs, nor holds them to be anything but alive.
    pub(super) fn is_well(&self) -> bool {
        let running: Vec<_> =
            self.nodes.iter().filter(|(_, place)| place.gossip.is_some()).map(|(id, _)| *id).collect();
        let believes = |one, other| self.believes(one, other).is_some_and(|(_, liveness)| liveness == Liveness::Alive);
        running.iter().all(|one| running.iter().all(|other| one == other || believes(*one, *other)))
    }

    pub(super) fn have_all_met(&self) -> bool {
        self.nodes.values().flat_map(|place| &place.gossip).all(|gossip| gossip.heard.len() == self.nodes.len() - 1)
    }

    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = until;
    }

    pub(super) fn run_until(&mut self, what: &str, within: Duration, is_so: impl Fn(&Self) -> bool) {
        let until = self.now + within;
        while !is_so(self) {
            assert!(self.next_at().is_some_and(|at| at <= until), "not within {within:?}: {what}; {self:?}");
            self.step();
        }
    }

    fn next_at(&self) -> Option<Duration> {
        let running = self.nodes.values().filter(|place| place.stopped.is_none()).flat_map(|place| &place.gossip);
        let timeouts = running.filter_map(Gossip::poll_timeout);
        timeouts.chain(self.wire.first_key_value().map(|((at, _), _)| *at)).min()
    }

    /// The next event: a packet arrives, or somebody's time has come.
    fn step(&mut self) {
        let Some(at) = self.next_at() else { return };
        self.now = self.now.max(at);
        if let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let parcel = entry.remove();
            if !self.cuts.contains(&(parcel.from, parcel.to)) {
                self.deliver(parcel.to, parcel.packet);
            }
        } else {
            let now = self.now;
            let due = |gossip: &&mut Gossip| gossip.poll_timeout().is_some_and(|at| at <= now);
            let running = self.nodes.values_mut().filter(|place| place.stopped.is_none());
            running.flat_map(|place| &mut place.gossip).filter(due).for_each(|gossip| gossip.handle_timeout(now));
        }
        self.collect();
        self.check();
    }

    pub(super) fn deliver(&mut self, to: NodeId, packet: Bytes) {
        let place = self.nodes.get_mut(&to).unwrap();
        if let Some(inbox) = &mut place.stopped {
            inbox.push(packet);
        } else if let Some(gossip) = &mut place.gossip {
            // Strangers are refused; everything else is for the receiver to judge.
            drop(gossip.handle_message(self.now, &packet));
        }
    }

    /// Puts on the wire what anybody has to send.
    fn collect(&mut self) {
        for (from, place) in &mut self.nodes {
            while let Some(transmit) = place.gossip.as_mut().and_then(Gossip::poll_transmit) {
                self.sent += 1;
                let delay = Duration::from_micros(self.random.random_range(100..3_000));
                if self.random.random_bool(1.0 - self.loss) {
                    let parcel = Parcel { from: *from, to: transmit.to, packet: transmit.packet };
                    self.wire.insert((self.now + delay, self.sent), parcel);
                }
            }
        }
    }

    /// Nobody who is well suspects anybody who is well.
    fn check(&self) {
        for (node, place) in self.nodes.iter().filter(|(node, _)| !self.lenient && !self.misled.contains(node)) {
            let suspects = place.gossip.iter().flat_map(Gossip::suspects);
            let wrongly: Vec<_> = suspects.filter(|(suspect, _)| !self.ill.contains(suspect)).collect();
            assert!(wrongly.is_empty(), "at {:?} {node} suspects {wrongly:?}; {self:?}", self.now);
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let processes = self.nodes.values().map(|place| &place.gossip);
        f.debug_list().entries(processes).finish()
    }
}
