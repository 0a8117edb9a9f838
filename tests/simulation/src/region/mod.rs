//! A region in one thread and in virtual time, with clients, from one seed.
//!
//! Real stores, feeds and intakes, the real map, governor, tenure, assignment and routing; a network, clocks and a Raft log
//! that are made up. Clients use a few keys while an operator lets replicas take over and moves slots.
//!
//! In calm weather nobody dies: shards and slots change hands by an operator's word, and every key is a register in the
//! strictest sense. In stormy weather processes also end, hang for longer than a lease, or are cut off; one such fault at a
//! time, since a shard of a primary and one replica outlives one.
//!
//! A region may be alone ([`Region::alone`]), and then judges itself; or it is one of several that are linked, and
//! [`World`](crate::World) turns the wheel.

macro_rules! note {
    ($region:expr, $($what:tt)*) => {
        if $region.is_traced {
            let what = format!($($what)*);
            $region.trace.push(format!("{:>9.4} {what}", $region.now.as_secs_f64()));
        }
    };
}

mod clients;
mod events;
mod feeds;
mod flush;
mod government;
mod load;
mod members;
mod moves;
mod orders;
mod process;
mod raft;
mod register;
mod single;
mod weather;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use clock::{Offset, RegionId, Stamp, State, Time};
use node_core::{
    cluster::{Addresses, ClusterMap, FoundShard, Founder, Id, MapCommand, NodeId, Run, Shard, ShardId},
    slot::{Slot, SlotRange, SlotSet},
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use scenario::history::Key;

pub(crate) use self::{
    clients::CLIENTS,
    load::{Errand, Load, Written},
    process::{Clock, DRIFT_MAX, NOON_MS, Process, place},
    weather::Injury,
};
use self::{
    clients::Client,
    events::{Asked, Event, What},
    feeds::Frame,
    raft::{Raft, Who},
    register::History,
    weather::FAULT_MS,
};
use crate::{Broken, agenda::Agenda};

/// How long clients of a region that is alone ask, from when all is well.
const TIME: Duration = Duration::from_secs(3);
/// How long it may take until all is well.
const REST: Duration = Duration::from_secs(12);
/// Between two orders of the operator.
const ORDER_MS: u64 = 500;

/// How a region is made.
#[derive(Clone, Debug)]
pub(crate) struct Make {
    pub(crate) id: RegionId,
    /// The other regions.
    pub(crate) peers: Vec<RegionId>,
    pub(crate) shards: u16,
    /// Of each shard.
    pub(crate) replicas: u16,
    /// How long a lease is.
    pub(crate) lease: Duration,
    /// How far clocks may be off, in nanoseconds.
    pub(crate) offset_max: i64,
    pub(crate) load: Load,
    pub(crate) is_stormy: bool,
    pub(crate) broken: Option<Broken>,
    /// Changes that a node's log keeps.
    pub(crate) log_records: usize,
    /// Bytes of tombstones; all, if none are named.
    pub(crate) tombstone_budget: Option<usize>,
    /// Bytes of a primary's memory; unbounded, if none are named.
    pub(crate) max_memory: Option<usize>,
    /// A region evicts, or forgets before all have seen it; what it forgets others may drop.
    pub(crate) may_miss: bool,
    /// Clients ask for FLUSHALL, now and then.
    pub(crate) flushes: bool,
    /// It has no map: one node, which begins its lives by itself.
    pub(crate) is_single: bool,
    /// How many times as long everybody takes between one thing and the next.
    pub(crate) pace: u64,
}

/// See the head of this file.
pub struct Region {
    pub(crate) make: Make,
    pub(crate) now: Duration,
    pub(crate) is_stormy: bool,
    pub(crate) broken: Option<Broken>,
    /// How long a lease is.
    pub(crate) lease: Duration,
    pub(crate) random: Pcg64Mcg,
    pub(crate) processes: Vec<Process>,
    pub(crate) raft: Raft,
    pub(crate) clients: Vec<Client>,
    pub(crate) load: Load,
    pub(crate) history: History,
    /// Operations that have ended, of a region that is one of several.
    pub(crate) operations: Vec<scenario::history::Operation>,
    /// What was stamped since this was looked at last, of a region that is one of several.
    pub(crate) written: Vec<Written>,
    /// Who has answered a client since this was looked at last, and about which slot.
    pub(crate) answered_by: Vec<(usize, Slot)>,
    /// The keys that a flush has concerned, until its client hears of it.
    flushed: BTreeMap<Stamp, Vec<Key>>,
    /// Clients that move to another region.
    pub(crate) errands: Vec<Errand>,
    /// The others were told that it is no region any more.
    pub(crate) is_removed: bool,
    /// What faults may cost, and whether that is over.
    pub(crate) injuries: Vec<Injury>,
    /// Some process's log has had something new since somebody looked.
    pub(crate) has_news: Arc<AtomicBool>,
    /// A process has begun, ended, or become something else.
    pub(crate) has_changed: bool,
    pub(crate) trace: Vec<String>,
    pub(crate) is_traced: bool,
    pub(crate) connections: u64,
    pub(crate) faults: u64,
    values: u64,
    attempts: u64,
    /// Nothing new is asked for.
    pub(crate) is_over: bool,
    /// Connections that have lost something, and so are no more.
    pub(crate) lost: BTreeSet<u64>,
    /// When the last message of a connection arrives, by its direction.
    pub(crate) last: BTreeMap<(u64, usize), Duration>,
    /// The node that nobody reaches, and since when.
    pub(crate) cut_off: Option<(usize, Duration)>,
    /// Since when a node does not answer.
    pub(crate) silent: BTreeMap<usize, Duration>,
    agenda: Agenda<Event>,
    /// The slots that an operator moved last.
    moved_last: SlotSet,
    runs: u64,
    /// What has come for a process that is stopped, in its order.
    waiting: Vec<(usize, Event)>,
    /// There are to be no more faults, for now.
    pub(crate) is_spared: bool,
    /// What stands on the disk of a region without a map, once it has run.
    disk: Option<State>,
}

impl Region {
    /// The region of a seed, which is alone, and in which one rule may be broken.
    pub fn alone(seed: u64, is_stormy: bool, broken: Option<Broken>) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let (shards, replicas) = [(2, 1), (2, 2), (3, 1)][random.random_range(0..3)];
        let make = Make {
            id: RegionId::MIN,
            peers: Vec::new(),
            shards,
            replicas,
            lease: Duration::from_millis([1_000, 400][random.random_range(0..2)]),
            offset_max: 240_000_000,
            load: Load::Registers,
            is_stormy,
            broken,
            log_records: 64,
            tombstone_budget: None,
            max_memory: None,
            may_miss: false,
            flushes: false,
            is_single: false,
            pace: 1,
        };
        Self::new(make, random)
    }

    /// A region of this make.
    pub(crate) fn new(make: Make, random: Pcg64Mcg) -> Self {
        let Make { shards, replicas, lease, load, is_stormy, broken, offset_max, .. } = make;
        let nodes: Vec<_> =
            (0..shards * (replicas + 1)).map(|index| founder(index, Run(u64::from(index) + 1))).collect();
        let map = founded(make.id, &nodes, (shards, replicas), load.slots());
        let mut region = Self {
            make,
            now: Duration::ZERO,
            lease,
            is_stormy,
            broken,
            raft: Raft::new(map, (0, nodes[0].run)),
            processes: Vec::new(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            load,
            history: History::default(),
            operations: Vec::new(),
            written: Vec::new(),
            answered_by: Vec::new(),
            flushed: BTreeMap::new(),
            errands: Vec::new(),
            is_removed: false,
            injuries: Vec::new(),
            has_news: Arc::new(AtomicBool::new(false)),
            has_changed: true,
            trace: Vec::new(),
            is_traced: load == Load::Registers,
            connections: 0,
            faults: 0,
            values: 0,
            attempts: 0,
            is_over: false,
            lost: BTreeSet::new(),
            last: BTreeMap::new(),
            cut_off: None,
            silent: BTreeMap::new(),
            agenda: Agenda::new(),
            moved_last: SlotSet::new(),
            runs: nodes.len() as u64,
            waiting: Vec::new(),
            is_spared: false,
            disk: None,
            random,
        };
        for node in nodes {
            let clock = Clock {
                began: Duration::from_millis(region.random.random_range(1_000..1_000_000)),
                rate: region.random.random_range(995_000..=1_005_000),
                wall_rate: region.random.random_range(999_500..=1_000_500),
                offset: Offset::from_nanos(region.random.random_range(-offset_max..offset_max)),
            };
            region.processes.push(Process::new(node, clock, &region.make, &region.has_news, region.now));
            region.begin(region.processes.len() - 1);
        }
        region.soon(0, 1, What::Leadership);
        region
    }

    /// Lets a region that is alone happen, and judges what its clients have seen.
    ///
    /// # Errors
    /// What is wrong.
    pub fn run(&mut self) -> Result<(), String> {
        self.rest()?;
        self.set_to_work();
        self.pass(TIME);
        self.is_spared = true;
        self.rest()?;
        self.pass(Duration::from_millis(300));
        self.is_over = true;
        self.pass(Duration::from_millis(700));
        self.history.check(self.is_stormy)
    }

    /// Everything that has happened, a line for each.
    pub fn trace(&self) -> &[String] {
        &self.trace
    }

    /// The time since its beginning.
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// How many operations of its clients have ended.
    pub fn operations(&self) -> usize {
        self.history.len()
    }

    /// How many faults there were.
    pub const fn faults(&self) -> u64 {
        self.faults
    }

    /// Clients begin to ask, an operator to give orders, and faults to happen.
    pub(crate) fn set_to_work(&mut self) {
        (0..CLIENTS).for_each(|client| self.after_ms(50, Event::Ask(client)));
        self.after_ms(ORDER_MS * self.make.pace, Event::Operate);
        if self.is_stormy {
            self.after_ms(FAULT_MS * self.make.pace, Event::Fault);
        }
    }

    /// When something happens next.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.agenda.next_at()
    }

    /// Lets the next thing happen.
    pub(crate) fn step(&mut self) {
        if let Some((now, event)) = self.agenda.pop() {
            self.now = now;
            self.handle(event);
        }
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.next_at().is_some_and(|at| at <= until) {
            self.step();
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

    pub(crate) fn is_well(&self) -> bool {
        if self.make.is_single {
            return self.is_well_alone();
        }
        self.cut_off.is_none()
            && self.processes.iter().all(|process| process.is_up && !process.is_stopped)
            && self.shards().all(|(id, shard)| {
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

    /// The shards that are there. Slots that nobody uses belong to one that never was; see `load`.
    pub(crate) fn shards(&self) -> impl Iterator<Item = (ShardId, &Shard)> {
        self.raft.map().shards().filter(|(_, shard)| self.is_here(shard.primary))
    }

    /// Whether a shard has any slots.
    pub(crate) fn has_slots(&self, shard: ShardId) -> bool {
        !self.raft.map().slots(shard).is_empty()
    }

    /// Whether there is a node of this name.
    fn is_here(&self, id: NodeId) -> bool {
        self.processes.iter().any(|process| process.node.id == id)
    }

    pub(crate) fn describe(&self) -> String {
        let process = |process: &Process| {
            format!(
                "\n{:?} {:?} by map {:?}, carried out {:?}, owner of {:?}: {:?}, lease left {:?}, followers {:?}",
                process.node.id,
                process.node.run,
                process.map.epoch(),
                process.carried.epoch(),
                process.store.owned().map(|owned| owned.len()),
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
                        self.waiting.push((index, Event::For(index, run, what)));
                    } else {
                        self.handle_for(index, what);
                    }
                }
            }
            Event::Frame((index, run), connection, frame) => {
                let process = &self.processes[index];
                if process.is_up && process.is_stopped {
                    // It lies in the socket, behind what came before it.
                    self.waiting.push((index, Event::Frame((index, run), connection, frame)));
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
                if !self.is_over {
                    self.operate();
                    let often = if self.is_spared { 8 } else { 2 };
                    self.after_ms(ORDER_MS * self.make.pace * often, Event::Operate);
                }
            }
            Event::Fault => self.fault(),
            Event::FailNow(index) => self.fail_now(index),
            Event::Heal(index) => self.heal(index),
        }
    }

    /// A process begins its loops.
    fn begin(&mut self, index: usize) {
        if self.make.is_single {
            return self.begin_alone();
        }
        self.soon(index, 50, What::Tick);
        self.look_for_moves(index);
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

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.agenda.add(self.now + delay, event);
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
fn founded(region: RegionId, nodes: &[Founder], (shards, replicas): (u16, u16), slots: &SlotSet) -> ClusterMap {
    // Of each run of neighbouring slots every shard gets a part.
    let part = |run: &SlotRange, number: usize| {
        let bound = |number: usize| run.first.number() + (run.count() * number / usize::from(shards)) as u16;
        SlotRange::new(bound(number)..bound(number + 1))
    };
    let served = nodes.chunks(usize::from(replicas) + 1).enumerate().map(|(number, nodes)| FoundShard {
        label: nodes[0].id.0,
        nodes: nodes.to_vec(),
        slots: slots.ranges().iter().filter_map(|run| part(run, number)).collect(),
        weight: 100,
    });
    let mut rest = SlotSet::all();
    rest.subtract(slots);
    let absent = founder(nodes.len() as u16, Run(0));
    let unserved = FoundShard { label: absent.id.0, nodes: vec![absent], slots: rest, weight: 100 };
    let shards = served.chain(Some(unserved).filter(|shard| !shard.slots.is_empty()));
    let mut map = ClusterMap::new();
    let found = MapCommand::Found { region, shards: shards.collect(), at: Time::from_unix_ms(NOON_MS) };
    map.apply(&found).expect("a cluster can be founded");
    map
}
