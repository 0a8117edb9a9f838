//! A region in one thread and in virtual time, with clients, from one seed.
//!
//! In a calm world nobody dies: shards and slots change hands by an operator's word, and every key is a register in the
//! strictest sense. In a stormy one processes also end, hang for longer than a lease, or are cut off; one such fault at a
//! time, since a shard of a primary and one replica outlives one.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use clock::{Offset, RegionId, Stamp, Time};
use node_core::{
    cluster::{
        Addresses, Answer, Assignment, ClusterMap, Epoch, FoundShard, Founder, Id, MapCommand, NodeId, Offer, Report,
        Run, Standing, Term,
    },
    slot::Slot,
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{
    Broken,
    clients::{CLIENTS, Client, History, Outcome, Request},
    feeds::Frame,
    process::{Clock, Process, Turn},
    raft::{Proposer, Raft, Who},
};

/// How long clients ask, from when all is well.
const TIME: Duration = Duration::from_secs(3);
/// How long it may take until all is well.
const REST: Duration = Duration::from_secs(12);
/// Between two faults of a storm, after all is well again.
const FAULT_MS: u64 = 600;
/// Between two orders of the operator.
const ORDER_MS: u64 = 500;

/// See the head of this file.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) is_stormy: bool,
    pub(crate) broken: Option<Broken>,
    /// How long a lease is.
    pub(crate) lease: Duration,
    pub(crate) random: Pcg64Mcg,
    pub(crate) processes: Vec<Process>,
    pub(crate) raft: Raft,
    pub(crate) clients: Vec<Client>,
    pub(crate) history: History,
    pub(crate) trace: Vec<String>,
    pub(crate) connections: u64,
    pub(crate) faults: u64,
    /// Connections that have lost something, and so are no more.
    pub(crate) lost: BTreeSet<u64>,
    /// When the last message of a connection arrives, by its direction.
    pub(crate) last: BTreeMap<(u64, usize), Duration>,
    /// The node that nobody reaches, and since when.
    pub(crate) cut_off: Option<(usize, Duration)>,
    /// Since when a node does not answer.
    pub(crate) silent: BTreeMap<usize, Duration>,
    events: BTreeMap<(Duration, u64), Event>,
    made: u64,
    runs: u64,
    /// What has come for a process that is stopped, in its order.
    waiting: Vec<(usize, Run, What)>,
    /// A fault that is not over.
    is_faulty: bool,
}

/// What is to happen.
pub(crate) enum Event {
    /// Something for a process. If that is stopped, it waits; if it is gone, so is this.
    For(usize, Run, What),
    /// Something over a connection between processes.
    Frame(Who, u64, Box<Frame>),
    Ask(usize),
    TryAgain(usize, u64),
    Patience(usize, u64),
    Answer(usize, u64, Outcome),
    /// A command for whoever leads.
    Append(Option<Proposer>, MapCommand),
    Commit(u64),
    Elect,
    /// The leader asks whether it still leads.
    Confirm(Asked),
    Operate,
    Fault,
    /// A node fails in a moment that is bad, if that may be now.
    FailNow(usize),
    Heal(usize),
}

/// What concerns one process.
pub(crate) enum What {
    Tick,
    Report,
    Map(usize),
    /// Carry out the map that clients are routed by.
    CarryOut,
    /// Turns that began before have ended.
    Quiet(Rc<ClusterMap>, Box<Assignment>),
    Assign(Box<Assignment>),
    Leadership,
    Outcome(Term, usize),
    Reported(Report, Duration),
    Confirmed(Asked, usize),
    Standing(Duration, Standing),
    Dial(u64),
    Pump(u64),
    HandOver(NodeId),
    LookAtHandOver,
    LookAtMoves,
    /// What became of a change that a mover asked for is known.
    Handed(usize),
    /// A mover tells the target what was prepared, and hears that it knows.
    Prepared {
        by: Who,
        at: Epoch,
    },
    Told(Epoch),
    /// A mover gives, and hears what the target says.
    Give(Who, Offer),
    Answer(Epoch, Answer),
    /// Something is said to the map.
    Say(MapCommand),
    Request(Request),
    Turn(Box<Turn>),
    Wait {
        client: usize,
        attempt: u64,
        stamp: Stamp,
        until: Duration,
    },
}

/// A report that wants an answer.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) by: Who,
    pub(crate) at: Duration,
    pub(crate) leader: Who,
    pub(crate) term: Term,
    pub(crate) map: usize,
}

impl World {
    /// The world of a seed, in which one rule may be broken.
    pub(crate) fn new(seed: u64, is_stormy: bool, broken: Option<Broken>) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let (shards, replicas) = [(2, 1), (2, 2), (3, 1)][random.random_range(0..3)];
        let nodes: Vec<_> =
            (0..shards * (replicas + 1)).map(|index| founder(index, Run(u64::from(index) + 1))).collect();
        let map = founded(&nodes, shards, replicas);
        let lease = Duration::from_millis([1_000, 400][random.random_range(0..2)]);
        let mut world = Self {
            now: Duration::ZERO,
            lease,
            is_stormy,
            broken,
            raft: Raft::new(map, (0, nodes[0].run)),
            processes: Vec::new(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            history: History::default(),
            trace: Vec::new(),
            connections: 0,
            faults: 0,
            lost: BTreeSet::new(),
            last: BTreeMap::new(),
            cut_off: None,
            silent: BTreeMap::new(),
            events: BTreeMap::new(),
            made: 0,
            runs: nodes.len() as u64,
            waiting: Vec::new(),
            is_faulty: false,
            random,
        };
        for node in nodes {
            let clock = Clock {
                began: Duration::from_millis(world.random.random_range(1_000..1_000_000)),
                rate: world.random.random_range(995_000..=1_005_000),
                offset: Offset::from_nanos(world.random.random_range(-240_000_000..240_000_000)),
            };
            world.processes.push(Process::new(node, clock, lease, broken));
            world.begin(world.processes.len() - 1);
        }
        world.soon(0, 1, What::Leadership);
        world
    }

    /// Lets the world happen, and judges what the clients have seen.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.rest()?;
        (0..CLIENTS).for_each(|client| self.after_ms(50, Event::Ask(client)));
        self.after_ms(ORDER_MS, Event::Operate);
        if self.is_stormy {
            self.after_ms(FAULT_MS, Event::Fault);
        }
        self.pass(TIME);
        self.is_faulty = true;
        self.rest()?;
        self.pass(Duration::from_millis(300));
        self.history.is_over = true;
        self.pass(Duration::from_millis(700));
        self.history.check(self.is_stormy)
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((now, _), event) = entry.remove_entry();
            self.now = now;
            self.handle(event);
        }
        self.now = until;
    }

    /// Waits until every shard serves, and every replica follows.
    fn rest(&mut self) -> Result<(), String> {
        let until = self.now + REST;
        while !self.is_well() {
            if self.now > until {
                return Err(format!("after {REST:?} not all is well: {}", self.describe()));
            }
            self.pass(Duration::from_millis(20));
        }
        Ok(())
    }

    fn is_well(&self) -> bool {
        self.cut_off.is_none()
            && self.processes.iter().all(|process| process.is_up && !process.is_stopped)
            && self.raft.map().shards().all(|(id, shard)| {
                let primary = self.processes.iter().find(|process| process.node.id == shard.primary);
                primary.is_some_and(|primary| {
                    primary.node.run == shard.run
                        && primary.progress.serving() == Some(shard.incarnation)
                        && primary.has_lease(primary.clock.at(self.now).monotonic)
                        && self.raft.map().replicas(id).all(|(replica, _)| {
                            let replica = &self.processes[self.index_of(replica)];
                            primary.followers.get(&replica.node.id).is_some_and(|follower| follower.is_online)
                                && replica.progress.holding() == Some(shard.incarnation)
                        })
                })
            })
    }

    fn describe(&self) -> String {
        let process = |process: &Process| {
            format!(
                "\n{:?} {:?} {:?}, lease left {:?}, followers {:?}",
                process.node.id,
                process.node.run,
                process.progress,
                process.lease_until.saturating_sub(process.clock.at(self.now).monotonic),
                process.followers,
            )
        };
        self.processes.iter().map(process).collect()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::For(index, run, what) => {
                let process = &self.processes[index];
                if process.is_up && process.node.run == run {
                    if process.is_stopped {
                        self.waiting.push((index, run, what));
                    } else {
                        self.handle_for(index, what);
                    }
                }
            }
            Event::Frame((index, run), connection, frame) => {
                let process = &self.processes[index];
                if process.is_stopped {
                    // It lies in the socket.
                    self.after(Duration::from_millis(10), Event::Frame((index, run), connection, frame));
                } else if process.is_up && process.node.run == run {
                    self.receive(index, connection, *frame);
                }
            }
            Event::Ask(client) => self.ask(client),
            Event::TryAgain(client, attempt) => self.try_again(client, attempt),
            Event::Patience(client, attempt) => self.lose(client, attempt),
            Event::Answer(client, attempt, outcome) => self.answered(client, attempt, outcome),
            Event::Append(proposer, command) => self.append(proposer, command),
            Event::Commit(number) => self.commit(number),
            Event::Elect => self.elect(),
            Event::Confirm(asked) => self.confirm(asked),
            Event::Operate => {
                if !self.history.is_over {
                    self.operate();
                    self.after_ms(ORDER_MS * 2, Event::Operate);
                }
            }
            Event::Fault => self.fault(),
            Event::FailNow(index) => self.fail_now(index),
            Event::Heal(index) => self.heal(index),
        }
    }

    /// One thing goes wrong, if all is well.
    fn fault(&mut self) {
        if self.is_faulty || !self.is_well() {
            return self.after_ms(200, Event::Fault);
        }
        let index = self.random.random_range(0..self.processes.len());
        self.fail(index);
        self.after_ms(FAULT_MS, Event::Fault);
    }

    /// A node fails, if that may be now.
    pub(crate) fn fail_now(&mut self, index: usize) {
        if self.is_stormy && !self.is_faulty && self.is_well() {
            self.fail(index);
        }
    }

    fn fail(&mut self, index: usize) {
        self.faults += 1;
        let who = (index, self.processes[index].node.run);
        let time = if self.random.random_ratio(1, 3) { 0..100 } else { 1_500..3_000 };
        let time = Duration::from_millis(self.random.random_range(time));
        match self.random.random_range(0..3) {
            0 => {
                self.note(format!("{index} ends"));
                self.processes[index].is_up = false;
                self.waiting.retain(|(other, ..)| *other != index);
                self.lose_all_at(who);
            }
            1 => {
                self.note(format!("{index} is stopped"));
                self.processes[index].is_stopped = true;
            }
            _ => {
                self.note(format!("{index} is cut off"));
                self.cut_off = Some((index, self.now));
            }
        }
        self.silent.insert(index, self.now);
        if self.raft.leader == who {
            self.after_ms(900, Event::Elect);
        }
        self.after(time, Event::Heal(index));
    }

    fn heal(&mut self, index: usize) {
        self.note(format!("{index} is well again"));
        self.silent.remove(&index);
        self.cut_off = None;
        if !self.processes[index].is_up {
            self.runs += 1;
            let (node, clock) = (founder(index as u16, Run(self.runs)), self.processes[index].clock);
            self.processes[index] = Process::new(node, clock, self.lease, self.broken);
            self.begin(index);
        }
        self.processes[index].is_stopped = false;
        for (index, run, what) in std::mem::take(&mut self.waiting) {
            self.after(Duration::ZERO, Event::For(index, run, what));
        }
        let newest = self.raft.newest();
        self.soon(index, 5, What::Map(newest));
    }

    /// A process begins its loops.
    fn begin(&mut self, index: usize) {
        self.soon(index, 50, What::Tick);
        self.soon(index, 50, What::LookAtMoves);
        let newest = self.raft.newest();
        self.soon(index, 20, What::Map(newest));
    }

    /// Something is to happen to a process within so many milliseconds.
    pub(crate) fn soon(&mut self, index: usize, most: u64, what: What) {
        let run = self.processes[index].node.run;
        self.after_ms(most, Event::For(index, run, what));
    }

    /// Whether nothing of one node reaches the other.
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        from != to && self.cut_off.is_some_and(|(index, _)| index == from || index == to)
    }

    /// Sends something that may get lost.
    pub(crate) fn send(&mut self, from: usize, to: Who, what: What) {
        if !self.is_cut(from, to.0) {
            self.after_ms(12, Event::For(to.0, to.1, what));
        }
    }

    /// Sends a frame over a connection, which is no more if that cannot be.
    pub(crate) fn transmit(&mut self, from: Who, to: Who, connection: u64, frame: Frame) {
        if self.is_cut(from.0, to.0) {
            self.lost.insert(connection);
        }
        if self.lost.contains(&connection) {
            return;
        }
        let delay = Duration::from_micros(self.random.random_range(0..10_000));
        let last = self.last.entry((connection, to.0)).or_default();
        *last = (*last).max(self.now + delay);
        let delay = *last - self.now;
        self.after(delay, Event::Frame(to, connection, Box::new(frame)));
    }

    pub(crate) fn index_of(&self, id: NodeId) -> usize {
        self.processes.iter().position(|process| process.node.id == id).expect("no node joins later")
    }

    pub(crate) fn note(&mut self, what: String) {
        self.trace.push(format!("{:>9.4} {what}", self.now.as_secs_f64()));
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.made += 1;
        self.events.insert((self.now + delay, self.made), event);
    }

    pub(crate) fn after_ms(&mut self, most: u64, event: Event) {
        let delay = Duration::from_micros(self.random.random_range(0..=most * 1_000));
        self.after(delay, event);
    }
}

fn founder(index: u16, run: Run) -> Founder {
    let mut bytes = [0; Id::BYTES];
    bytes[..2].copy_from_slice(&index.to_be_bytes());
    let addresses = Addresses { host: "node".into(), port: index + 1, tls_port: 0, bus_port: index + 1 };
    Founder { id: NodeId(Id::from_bytes(bytes)), run, addresses }
}

/// The nodes in the order of their shards, primaries first.
fn founded(nodes: &[Founder], shards: u16, replicas: u16) -> ClusterMap {
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
