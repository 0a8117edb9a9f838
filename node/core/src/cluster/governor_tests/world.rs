//! A region in one thread and in virtual time, with everything that may happen to it, from one seed.
//!
//! Every message may be late, lost or overtaken. Processes crash, are stopped and go on (then all that waited for them
//! comes at once, in any order), suspect one another for no reason, and their clocks run at rates that differ by a
//! hundredth. Leaders change, and an old one may go on thinking that it leads. After [`STORM`] all that stops, and within
//! [`REST`] every shard must take writes again.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use clock::{Incarnation, RegionId, Time};
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64Mcg;

use super::{
    super::{Report, Standing},
    Broken,
    moves::{Haul, cargo},
    oracle::Oracle,
    process::{Clock, Memory, Process},
    raft::Raft,
};
use crate::{
    cluster::{Addresses, ClusterMap, FoundShard, Founder, Id, MapCommand, NodeId, Run, Term},
    slot::Slot,
};

/// How long things go wrong.
const STORM: Duration = Duration::from_secs(20);
/// How long it may take until all is well again.
const REST: Duration = Duration::from_secs(12);
/// How long a node does not answer until others suspect it.
pub(super) const SUSPICION: Duration = Duration::from_millis(250);
/// How often a shard is written to, and a primary sends what it has.
pub(super) const WRITE_EVERY: Duration = Duration::from_millis(40);

/// See the head of this file.
pub(super) struct World {
    pub(super) now: Duration,
    pub(super) oracle: Oracle,
    pub(super) processes: Vec<Process>,
    pub(super) trace: Vec<String>,
    pub(super) raft: Raft,
    pub(super) random: Pcg64Mcg,
    /// By when, and in the order in which they were made.
    events: BTreeMap<(Duration, u64), Event>,
    made: u64,
    /// Numbers of reports, if overtaken ones are to count.
    pub(super) made_up: u64,
    runs: u64,
    pub(super) writes: u64,
    /// How many feeds have begun.
    pub(super) feeds: u64,
    /// What has come for a process that is stopped.
    pub(super) waiting: BTreeMap<usize, Vec<What>>,
    /// Since when a node does not answer.
    pub(super) silent: BTreeMap<usize, Duration>,
    /// From when until when nothing of one node reaches another.
    pub(super) cuts: BTreeMap<(usize, usize), (Duration, Duration)>,
    /// Until when a node suspects another for no reason.
    pub(super) illusions: BTreeMap<(usize, usize), Duration>,
    pub(super) broken: Option<Broken>,
    pub(super) is_calm: bool,
    /// Something goes wrong once in so many milliseconds, at most.
    pub(super) fault_every_ms: u64,
}

/// What is to happen.
pub(super) enum Event {
    /// Something for a process. If that is stopped, it waits; if it is gone, so is this.
    For(usize, Run, What),
    Elect,
    /// A leader is deposed for no reason.
    Unrest,
    Commit(u64),
    /// The leader asks whether it still leads.
    Confirm(Asked),
    Fault,
    /// A slot begins to move.
    Move,
    Crash(usize),
    Start(usize),
    Resume(usize),
}

pub(super) enum What {
    Tick,
    Write,
    Leadership,
    Map(usize),
    Outcome(Term, usize),
    Propose(Term, MapCommand),
    Report(Report, Duration),
    /// The leader led when the report had come; the map was then this one.
    Confirmed(Asked, usize),
    Standing(Duration, Standing),
    /// What a primary has, for a replica, and who sends it.
    Feed((usize, Run), Incarnation, Rc<Memory>),
    /// How much of it a run of a replica has, and its last write to the slot that moves.
    Acknowledged((usize, Run), Incarnation, usize, Option<u64>),
    /// Somebody wants a change of the map.
    Ask(MapCommand),
    /// About the slot that moves.
    Haul(Haul),
}

/// A report that wants an answer.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) by: (usize, Run),
    pub(super) at: Duration,
    pub(super) leader: (usize, Run),
    /// The term that there was when the report came, and the one that the leader knew of.
    pub(super) term: Term,
    pub(super) told: Term,
    pub(super) is_resigning: bool,
    pub(super) map: usize,
}

impl World {
    /// The world of a seed, in which one rule may be broken.
    pub(super) fn new(seed: u64, broken: Option<Broken>) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let shapes = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)];
        let (shards, replicas) = shapes[random.random_range(0..shapes.len())];
        Self::of(random, shards, replicas, broken)
    }

    /// A world in which nothing goes wrong by itself.
    pub(super) fn calm(seed: u64, shards: u16, replicas: u16) -> Self {
        Self { is_calm: true, ..Self::of(Pcg64Mcg::seed_from_u64(seed), shards, replicas, None) }
    }

    fn of(random: Pcg64Mcg, shards: u16, replicas: u16, broken: Option<Broken>) -> Self {
        let nodes: Vec<_> =
            (0..shards * (replicas + 1)).map(|index| founder(index, Run(u64::from(index) + 1))).collect();
        let map = founded(&nodes, shards, replicas);
        let mut world = Self {
            now: Duration::ZERO,
            oracle: Oracle::default(),
            processes: Vec::new(),
            trace: Vec::new(),
            raft: Raft::new(map, (0, nodes[0].run)),
            random,
            events: BTreeMap::new(),
            made: 0,
            made_up: 0,
            runs: nodes.len() as u64,
            writes: 0,
            feeds: 0,
            waiting: BTreeMap::new(),
            silent: BTreeMap::new(),
            cuts: BTreeMap::new(),
            illusions: BTreeMap::new(),
            broken,
            is_calm: false,
            fault_every_ms: 0,
        };
        for node in nodes {
            let shard = world.raft.map().node(node.id).expect("it was founded").shard;
            let clock = Clock {
                offset: Duration::from_millis(world.random.random_range(1_000..1_000_000)),
                rate: world.random.random_range(995_000..=1_005_000),
            };
            let process = Process::new(node, shard, clock, Rc::clone(world.raft.map()), broken);
            world.processes.push(process);
            world.begin(world.processes.len() - 1);
        }
        world
    }

    /// Breaks a rule that processes do not know of.
    pub(super) fn break_rule(&mut self, broken: Broken) {
        self.broken = Some(broken);
    }

    /// Lets the storm pass, and sees that all is well afterwards.
    pub(super) fn run(&mut self) -> Result<(), String> {
        self.fault_every_ms = [800, 2_000, 6_000][self.random.random_range(0..3)];
        self.after_ms(2_000, Event::Fault);
        self.after_ms(1_000, Event::Unrest);
        self.after_ms(1_000, Event::Move);
        self.pass(STORM)?;
        self.heal();
        self.rest()?;
        Ok(())
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) -> Result<(), String> {
        let until = self.now + time;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((now, _), event) = entry.remove_entry();
            self.now = now;
            self.handle(event)?;
        }
        self.now = until;
        Ok(())
    }

    /// Waits until every shard takes writes. Returns how long that took.
    pub(super) fn rest(&mut self) -> Result<Duration, String> {
        let since = self.now;
        while !self.all_take_writes() {
            if self.now > since + REST {
                return Err(format!(
                    "after {REST:?} of rest not every shard takes writes: {:?}",
                    self.raft.map().shards().collect::<Vec<_>>()
                ));
            }
            self.pass(Duration::from_millis(10))?;
        }
        self.oracle.at_rest(self.raft.map(), &self.processes)?;
        Ok(self.now - since)
    }

    /// Stops faults, and undoes all that they did.
    pub(super) fn heal(&mut self) {
        self.is_calm = true;
        self.cuts.clear();
        self.illusions.clear();
        self.note("the storm is over".into());
        for index in 0..self.processes.len() {
            self.resume(index);
            if !self.processes[index].is_up {
                self.start(index);
            }
        }
    }

    /// Ends a process.
    pub(super) fn crash(&mut self, index: usize) {
        self.note(format!("{index} crashes"));
        self.processes[index].is_up = false;
        self.processes[index].is_stopped = false;
        self.oracle.crashed(&self.processes);
        self.waiting.remove(&index);
        self.silent.entry(index).or_insert(self.now);
        self.ensure_leader(index);
    }

    /// Stops a process; time goes on for it all the same.
    pub(super) fn stop(&mut self, index: usize) {
        if self.processes[index].is_up {
            self.note(format!("{index} is stopped"));
            self.processes[index].is_stopped = true;
            self.silent.entry(index).or_insert(self.now);
            self.ensure_leader(index);
        }
    }

    /// Lets a stopped process go on: all that waited for it comes now, in any order.
    pub(super) fn resume(&mut self, index: usize) {
        if !self.processes[index].is_stopped {
            return;
        }
        self.note(format!("{index} goes on"));
        self.processes[index].is_stopped = false;
        self.silent.remove(&index);
        let mut waited = self.waiting.remove(&index).unwrap_or_default();
        waited.shuffle(&mut self.random);
        let run = self.processes[index].node.run;
        // It may think for a while that the others were silent, and not itself.
        for other in 0..self.processes.len() {
            if self.random.random_ratio(1, 2) && !self.is_calm {
                self.illusions.insert((index, other), self.now + SUSPICION);
            }
        }
        for what in waited {
            self.after(Duration::ZERO, Event::For(index, run, what));
        }
    }

    /// Starts a process of a node that has none.
    pub(super) fn start(&mut self, index: usize) {
        if self.processes[index].is_up {
            return;
        }
        self.runs += 1;
        let node = founder(index as u16, Run(self.runs));
        self.note(format!("{index} starts as {:?}", node.run));
        let (shard, clock) = (self.processes[index].shard, self.processes[index].clock);
        // Its Raft log is on disk; how much of it is known to be committed is not.
        let known = self.random.random_range(0..self.raft.maps.len());
        let map = Rc::clone(&self.raft.maps[known]);
        self.processes[index] = Process::new(node, shard, clock, map, self.broken);
        self.silent.remove(&index);
        self.begin(index);
        let newest = self.raft.maps.len() - 1;
        self.send_map(index, newest);
    }

    fn all_take_writes(&self) -> bool {
        let mut shards = self.raft.map().shards();
        let is_kept = self.processes.iter().any(|process| process.may_write_cargo(self.now));
        // What is prepared was given or is held; that takes moments.
        let is_settled = self.raft.map().moving(cargo()).is_none_or(|moving| moving.prepared.is_none());
        is_kept
            && is_settled
            && shards.all(|(_, shard)| {
                let holds = |process: &&Process| (process.node.id, process.node.run) == (shard.primary, shard.run);
                let primary = self.processes.iter().find(holds);
                primary.is_some_and(|primary| primary.tenure == Some(shard.incarnation) && primary.may_write(self.now))
            })
    }

    pub(super) fn note(&mut self, what: String) {
        self.trace.push(format!("{:>9.3} {what}", self.now.as_secs_f64()));
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.made += 1;
        self.events.insert((self.now + delay, self.made), event);
    }

    pub(super) fn after_ms(&mut self, most: u64, event: Event) {
        let delay = Duration::from_micros(self.random.random_range(0..=most * 1_000));
        self.after(delay, event);
    }
}

pub(super) fn founder(index: u16, run: Run) -> Founder {
    let mut bytes = [0; Id::BYTES];
    bytes[..2].copy_from_slice(&index.to_be_bytes());
    let addresses = Addresses { host: "node".into(), port: index, tls_port: 0, bus_port: 0 };
    Founder { id: NodeId(Id::from_bytes(bytes)), run, addresses }
}

/// The nodes in the order of their shards, primaries first.
pub(super) fn founded(nodes: &[Founder], shards: u16, replicas: u16) -> ClusterMap {
    let shards = nodes.chunks(usize::from(replicas) + 1).zip(0..).map(|(nodes, number): (_, u16)| FoundShard {
        label: nodes[0].id.0,
        nodes: nodes.to_vec(),
        slots: Slot::all().skip(usize::from(number)).step_by(usize::from(shards)).collect(),
        weight: 100,
    });
    let mut map = ClusterMap::new();
    let found = MapCommand::Found { region: RegionId::MIN, shards: shards.collect(), at: Time::ZERO };
    map.apply(&found).expect("a cluster can be founded");
    map
}
