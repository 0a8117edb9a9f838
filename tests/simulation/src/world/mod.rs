//! Several regions, linked, in one thread and in virtual time, from one seed.
//!
//! Each region is a [`Region`]: nodes, replicas, clients, clocks, and what decides over them. Here are what joins them: gateways, and
//! the streams that lead from each primary of a region to each other region. The pure cores do what they do in a real process
//! (`Sender`, `Receiver`, `Split`, `Admission`, `Refill`, feeds and intakes, frames as bytes), and the pure model of
//! `sim-wan` carries the bytes. What stands in these files is what the shells do around the cores: loops that wait for bytes, news
//! and timers.
//!
//! ```text
//! outgoing   the beginning of a stream, at the primary whose writes it carries (geo-link's `outgoing`)
//! gateways   gateways, and streams that are split there (geo-link's `split`)
//! incoming   the end of a stream's part, at an owner of slots (geo-link's `incoming`)
//! inbound    what all ends at one primary share (geo-link's `region`)
//! wires      connections across the network, and what becomes of them
//! faults     what goes wrong between regions
//! replays    what comes twice
//! members    regions that come and go
//! verdict    the end: what stands where, and what the oracles say of it
//! ```
//!
//! # The order of events
//! There is one wheel for each region, one for the links, and the network. What is due first happens first; at the same moment
//! the links, then the network, then regions in their order. So a world depends on its seed alone.

mod alarm;
mod faults;
mod gateways;
mod inbound;
mod incoming;
mod invariants;
mod members;
mod outgoing;
mod replays;
mod verdict;
mod wires;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use clock::RegionId;
use geo_link_core::{BranchId, Owners, SplitOptions};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use scenario::history::{Operation, Place};
use sim_wan::model::{Bounds, ConnectionId, Delay, Event as Carried, Frame, LineId, LineSettings, Network, Way};

pub use self::verdict::Verdict;
use self::{
    gateways::{Gateway, Splitting},
    inbound::Inbound,
    incoming::IncomingEnd,
    invariants::{BATCH_BYTES, Invariants, WINDOW_BYTES},
    members::Plan,
    outgoing::Outgoing,
    replays::Replays,
    wires::Wire,
};
use crate::{
    Broken,
    agenda::Agenda,
    names::REGIONS_MAX,
    region::{CLIENTS, Load, Make, Region},
};

/// Names of regions.
const NAMES: [&str; REGIONS_MAX as usize] = ["a", "b", "c", "d", "e"];
/// From a process to another of its region, one way.
const LOCAL: Duration = Duration::from_micros(300);
/// How long the other end of a link may be silent: longer than the pause between two answers.
const TIMEOUT: Duration = Duration::from_millis(1_800);
/// How long it may take until all is well.
const REST: Duration = Duration::from_secs(20);
/// Of a region that forgets early: what tombstones may take of a node.
const TOMBSTONE_BYTES: usize = 512;
/// Of a region that evicts: what entries may take of a primary.
const MEMORY_BYTES: usize = 1_024;
/// Of so many worlds there is one in which clients flush: little is left there to lose.
const FLUSHED: u32 = 3;
/// Of so many stormy worlds there is one in which clocks jump ahead: of the order of writes little is certain then.
const JUMPS: u32 = 4;
/// Of so many worlds one is leisurely, and of so many of those one very much so: everything takes so many times as long there, from a client's next
/// request to the next fault, but for what the system itself does, for which that is long.
const LEISURELY: u64 = 8;
const PACE: u32 = 10;
/// How often links say that they are alive, in a world that is not leisurely; else less often.
const HEARTBEAT: Duration = Duration::from_millis(50);
/// Between two looks at what must hold at any time, as often.
const LOOK: Duration = Duration::from_millis(50);
/// Things that may happen between two looks: a world in which more do stands still.
const STEPS_MAX: u32 = 1_000_000;

/// How a world is made.
#[derive(Clone, Copy, Debug)]
pub struct WorldOptions {
    /// From what everything follows.
    pub seed: u64,
    /// Whether things go wrong.
    pub is_stormy: bool,
    /// How long clients ask, if they are in a hurry; else as much longer as they take for all they do.
    pub time: Duration,
    /// How many times as long everybody takes between one thing and the next; by the seed, if it is not said.
    pub pace: Option<u32>,
    /// The rule that is broken on purpose, if one is.
    pub broken: Option<Broken>,
    /// How many regions, of how many shards, each with how many replicas; by the seed, if it is not said.
    pub shape: Option<(u8, u16, u16)>,
    /// Whether all that happens is written down.
    pub is_traced: bool,
    /// The one oracle or invariant that is asked, if not all are.
    pub only: Option<&'static str>,
}

impl WorldOptions {
    /// A short world of this seed.
    pub const fn new(seed: u64, is_stormy: bool) -> Self {
        let time = Duration::from_secs(3);
        Self { seed, is_stormy, time, pace: None, broken: None, shape: None, is_traced: false, only: None }
    }

    fn pace(&self) -> u32 {
        let drawn = match self.seed {
            seed if seed.is_multiple_of(LEISURELY * LEISURELY) => PACE * PACE,
            seed if seed.is_multiple_of(LEISURELY) => PACE,
            _ => 1,
        };
        self.pace.unwrap_or(drawn)
    }

    /// How often links say that they are alive.
    fn heartbeat(&self) -> Duration {
        self.leisurely(HEARTBEAT)
    }

    /// What is done so often, in a world that is not leisurely, is done so often in this one.
    fn leisurely(&self, pause: Duration) -> Duration {
        if self.pace() > 1 { pause * 5 } else { pause }
    }
}

/// See the head of this file.
pub struct World {
    options: WorldOptions,
    now: Duration,
    random: Pcg64Mcg,
    regions: Vec<Region>,
    network: Network<Frame<Vec<u8>>>,
    lines: BTreeMap<(usize, usize), LineId>,
    gateways: Vec<Gateway>,
    /// Who owns what by the newest map, of each region.
    owners: Vec<Arc<Owners>>,
    /// What the ends of streams at each node of each region share, if it is a primary.
    inbound: Vec<Vec<Option<Inbound>>>,
    /// Boxed, as they are taken out for each turn and put back.
    outgoing: BTreeMap<EndId, Box<Outgoing>>,
    splits: BTreeMap<EndId, Box<Splitting>>,
    incoming: BTreeMap<EndId, Box<IncomingEnd>>,
    wires: BTreeMap<ConnectionId, Wire>,
    agenda: Agenda<Event>,
    ends_made: EndId,
    invariants: Invariants,
    replays: Replays,
    /// What was found wrong, since it was looked for last.
    wrong: Option<String>,
    trace: Vec<String>,
    /// What a turn writes into, kept from turn to turn: mostly it writes nothing, and what it sends is as long as it is.
    out: Vec<u8>,
    /// Faults between regions.
    faults: u64,
    is_spared: bool,
    /// Clocks may jump ahead.
    has_jumps: bool,
    /// What is done about the last region, and how much of that was.
    plan: Plan,
    steps_done: usize,
}

/// An end of a stream, among all that there ever were.
type EndId = u64;

/// What is to happen between regions.
enum Event {
    /// An end has something to do at its time.
    WakeOutgoing(EndId),
    WakeSplit(EndId),
    WakeIncoming(EndId),
    /// A primary has waited long enough for a connection.
    DialTimeout(EndId, ConnectionId),
    /// A primary hears that its gateway has ended.
    Broken(EndId, ConnectionId),
    /// A gateway connects to an owner.
    Connect {
        end: EndId,
        split: EndId,
        branch: BranchId,
        region: usize,
        index: usize,
    },
    /// It has.
    Connected {
        end: EndId,
        split: EndId,
        branch: BranchId,
    },
    /// It hears that there is no connection, or none any more.
    BranchLost {
        end: EndId,
        split: EndId,
        branch: BranchId,
    },
    ToOwner(EndId, Vec<u8>),
    ToGateway(EndId, Vec<u8>),
    /// An owner hears that the gateway has closed a connection.
    GatewayLeft(EndId),
    /// A gateway hears who owns what.
    Owners(usize, Arc<Owners>),
    /// Something goes wrong, or ends.
    Fault,
    Mend(faults::Fault),
    /// Something is applied again.
    Replay,
    /// An operator looks at this step of his plan for the last region.
    Member(usize),
    /// A line may take more of what waits in a socket.
    Socket(ConnectionId, Way),
}

impl World {
    /// The world of a seed.
    pub fn new(options: WorldOptions) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(options.seed);
        let drawn = (random.random_range(2..=3), random.random_range(1..=2), random.random_range(1..=2));
        let (count, shards, replicas) = options.shape.unwrap_or(drawn);
        let ids: Vec<RegionId> = (1..=count).filter_map(|id| RegionId::new(id).ok()).collect();
        // In few worlds one region evicts, or forgets before all have seen it.
        let pressed = (random.random_range(0..12_usize), random.random_range(0..2));
        let has_jumps = options.is_stormy && random.random_ratio(1, JUMPS);
        let flushes = random.random_ratio(1, FLUSHED);
        let plan = if options.shape.is_some() { Plan::Stays } else { Plan::of(random.random_range(0..10)) };
        let late = ids.last().copied().filter(|_| plan == Plan::Joins);
        // In every third world one region is a single node without a map.
        let single = (options.shape.is_none() && options.seed.is_multiple_of(3))
            .then(|| (options.seed / 3 % u64::from(count)) as usize);
        let make = |random: &mut Pcg64Mcg, (place, id): (usize, &RegionId)| Make {
            id: *id,
            peers: ids.iter().copied().filter(|other| other != id && Some(*other) != late).collect(),
            shards: match options.shape {
                Some(_) => shards,
                None if single == Some(place) => 1,
                None => random.random_range(1..=shards),
            },
            replicas: if single == Some(place) { 0 } else { replicas },
            lease: Duration::from_millis([1_000, 400][random.random_range(0..2)]),
            offset_max: [1_000, 100_000_000, 240_000_000][random.random_range(0..3)],
            load: Load::Kinds { place: Place(place as u8), first: (place * CLIENTS) as u16 },
            is_stormy: options.is_stormy,
            broken: options.broken,
            log_records: [64, 10_000][random.random_range(0..2)],
            tombstone_budget: (pressed == (place, 0)).then_some(TOMBSTONE_BYTES),
            max_memory: (pressed == (place, 1)).then_some(MEMORY_BYTES),
            may_miss: pressed.0 < usize::from(count),
            flushes,
            is_single: single == Some(place),
            pace: u64::from(options.pace()),
        };
        let regions: Vec<Region> = ids
            .iter()
            .enumerate()
            .map(|place| {
                let make = make(&mut random, place);
                let mut region = Region::new(make, Pcg64Mcg::seed_from_u64(random.next_u64()));
                region.is_traced = options.is_traced;
                region
            })
            .collect();
        let inbound = regions.iter().map(|region| region.processes.iter().map(|_| None).collect()).collect();
        let mut world = Self {
            options,
            now: Duration::ZERO,
            network: Network::new(random.next_u64(), Bounds::default()),
            lines: BTreeMap::new(),
            gateways: Vec::new(),
            owners: regions.iter().map(|region| Arc::new(gateways::owners_by(region))).collect(),
            inbound,
            outgoing: BTreeMap::new(),
            splits: BTreeMap::new(),
            incoming: BTreeMap::new(),
            wires: BTreeMap::new(),
            agenda: Agenda::new(),
            ends_made: 0,
            invariants: Invariants::default(),
            replays: Replays::default(),
            wrong: None,
            trace: Vec::new(),
            out: Vec::new(),
            faults: 0,
            is_spared: false,
            has_jumps,
            plan,
            steps_done: 0,
            regions,
            random,
        };
        world.lay_lines();
        world.place_gateways();
        world
    }

    /// Lets the world happen, and judges it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn run(&mut self) -> Result<Verdict, String> {
        self.rest()?;
        self.set_to_work();
        self.pass(self.options.time * self.options.pace())?;
        self.mend_all();
        self.rest()?;
        self.pass(Duration::from_millis(300))?;
        self.regions.iter_mut().for_each(|region| region.is_over = true);
        self.pass(Duration::from_millis(700))?;
        self.settle()?;
        self.check_at_rest()?;
        self.judge()
    }

    /// Lets clients ask, and things go wrong, in a world in which all is well.
    fn set_to_work(&mut self) {
        for region in &mut self.regions {
            region.now = self.now;
            region.set_to_work();
        }
        self.after(replays::EVERY, Event::Replay);
        self.begin_plan();
        if self.options.is_stormy {
            self.after(faults::EVERY * self.options.pace(), Event::Fault);
        }
    }

    /// Only lets time pass, with clients that ask for as long as it takes; for who measures that.
    ///
    /// # Errors
    /// What is wrong.
    pub fn work(&mut self, time: Duration) -> Result<usize, String> {
        self.rest()?;
        self.set_to_work();
        self.pass(time)?;
        Ok(self.regions.iter().map(|region| region.operations.len()).sum())
    }

    /// Everything that has happened, a line for each, in the order of time.
    pub fn trace(&self) -> Vec<String> {
        let own = self.trace.iter().map(|line| line.to_owned());
        let of_regions = self.regions.iter().zip(NAMES);
        let of_regions = of_regions.flat_map(|(region, name)| {
            region.trace.iter().map(move |line| format!("{} {name}: {}", &line[..9], &line[10..]))
        });
        let mut all: Vec<String> = own.chain(of_regions).collect();
        all.sort_by(|one, other| one[..9].cmp(&other[..9]));
        all
    }

    /// The time since its beginning.
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let until = self.now + time;
        while self.now < until {
            let look = (self.now + self.options.leisurely(LOOK)).min(until);
            if (0..STEPS_MAX).all(|_| self.step(look)) {
                return Err(format!("time does not pass: {STEPS_MAX} things happened within {LOOK:?}"));
            }
            self.now = look;
            self.look()?;
        }
        Ok(())
    }

    /// Lets the next thing happen, if that is until then.
    fn step(&mut self, until: Duration) -> bool {
        let own = self.agenda.next_at();
        let network = self.network.poll_timeout();
        let regions = self.regions.iter().enumerate().filter_map(|(index, region)| Some((region.next_at()?, index)));
        let region = regions.min();
        let [own, carried] = [own, network].map(|at| at.unwrap_or(Duration::MAX));
        let next = own.min(carried).min(region.map_or(Duration::MAX, |(at, _)| at));
        if next > until {
            return false;
        }
        self.now = self.now.max(next);
        if own == next {
            if let Some((_, event)) = self.agenda.pop() {
                self.handle(event);
            }
        } else if carried == next {
            self.carry();
        } else if let Some((_, index)) = region {
            self.regions[index].step();
            self.follow_region(index);
        }
        true
    }

    /// What a region's step means for others.
    fn follow_region(&mut self, index: usize) {
        if std::mem::take(&mut self.regions[index].has_changed) {
            self.follow_lives(index);
        }
        let errands = std::mem::take(&mut self.regions[index].errands);
        for errand in errands {
            let others = self.regions.len() - 1;
            let to = (index + 1 + self.random.random_range(0..others)) % (others + 1);
            self.regions[to].now = self.now;
            self.regions[to].visit(&errand);
        }
        let written = std::mem::take(&mut self.regions[index].written);
        let noted = self.note_written(index, written);
        let answered = std::mem::take(&mut self.regions[index].answered_by);
        let checked = answered.into_iter().try_for_each(|(node, slot)| self.check_answered(index, node, slot));
        self.wrong = self.wrong.take().or(noted.and(checked).err());
        self.wake_for_news(index);
    }

    /// Wakes the streams of the nodes of a region whose logs have something new.
    fn wake_for_news(&mut self, index: usize) {
        let has_news = &self.regions[index].has_news;
        if !has_news.load(Relaxed) {
            return;
        }
        has_news.store(false, Relaxed);
        for node in 0..self.regions[index].processes.len() {
            let has_news = &self.regions[index].processes[node].has_news;
            if has_news.load(Relaxed) {
                has_news.store(false, Relaxed);
                self.tell_news(index, node);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::WakeOutgoing(end) => self.wake_outgoing(end),
            Event::WakeSplit(end) => self.wake_split(end),
            Event::WakeIncoming(end) => self.wake_incoming(end),
            Event::DialTimeout(end, connection) => self.give_up_dialling(end, connection),
            Event::Broken(end, connection) => self.break_outgoing(end, connection),
            Event::Connect { end, split, branch, region, index } => self.accept(end, split, branch, region, index),
            Event::Connected { end, split, branch } => self.branch_connected(end, split, branch),
            Event::BranchLost { end, split, branch } => self.branch_lost(end, split, branch),
            Event::ToOwner(end, bytes) => self.bytes_to_owner(end, &bytes),
            Event::ToGateway(end, bytes) => self.bytes_to_gateway(end, &bytes),
            Event::GatewayLeft(end) => self.lose_incoming(end),
            Event::Owners(gateway, owners) => self.hear_owners(gateway, owners),
            Event::Fault => self.fault(),
            Event::Mend(fault) => self.mend(fault),
            Event::Replay => self.replay(),
            Event::Member(step) => self.look_at_plan(step),
            Event::Socket(connection, way) => self.look_at_socket(connection, way),
        }
        for region in 0..self.regions.len() {
            self.wake_for_news(region);
        }
    }

    /// Waits until every region is well, and every link carries what it has.
    fn rest(&mut self) -> Result<(), String> {
        let until = self.now + REST;
        loop {
            if self.regions.iter().all(Region::is_well) && self.is_linked() && (self.is_plan_done() || !self.is_spared)
            {
                return Ok(());
            }
            if self.now > until {
                let regions: String = self.regions.iter().map(Region::describe).collect();
                return Err(format!("after {REST:?} not all is well: {regions}\n{}", self.describe_links()));
            }
            self.pass(LOOK)?;
        }
    }

    /// What must hold at any time.
    fn look(&mut self) -> Result<(), String> {
        self.look_at_removed();
        for region in &mut self.regions {
            region.now = self.now;
            region.look_at_injuries();
        }
        self.wrong.take().map_or(Ok(()), Err)?;
        self.check_invariants()
    }

    /// Takes what a turn has written, and keeps the room for the next.
    fn take_written(&mut self, mut out: Vec<u8>) -> Option<Vec<u8>> {
        let written = (!out.is_empty()).then(|| out.as_slice().to_vec());
        out.clear();
        self.out = out;
        written
    }

    fn next_end(&mut self) -> EndId {
        self.ends_made += 1;
        self.ends_made
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.agenda.add(at.max(self.now), event);
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.options.is_traced {
            let line = format!("{:>9.4} {}", self.now.as_secs_f64(), what());
            self.trace.push(line);
        }
    }

    /// One line for each ordered pair of regions.
    fn lay_lines(&mut self) {
        let count = self.regions.len();
        let pairs = (0..count).flat_map(|from| (0..count).filter(move |to| *to != from).map(move |to| (from, to)));
        for (from, to) in pairs {
            let delay = Delay::from_ms(f64::from(self.random.random_range(2..80_u32))).expect("a delay is in bounds");
            let jitter = Delay::from_ms(f64::from(self.random.random_range(0..5_u32))).expect("a jitter is in bounds");
            let settings = LineSettings { jitter, ..LineSettings::with_delay(delay) };
            let line = self.network.add_line(NAMES[from], NAMES[to], settings).expect("each pair comes once");
            self.lines.insert((from, to), line);
        }
    }

    /// How streams are split in a region.
    fn split_options(&self, region: usize) -> SplitOptions {
        SplitOptions {
            heartbeat: self.options.heartbeat(),
            timeout: TIMEOUT,
            window_bytes: self.window_bytes(),
            batch_bytes: BATCH_BYTES,
            ..SplitOptions::new(self.regions[region].make.id)
        }
    }

    /// How many bytes may be on their way on a stream.
    fn window_bytes(&self) -> usize {
        if self.options.broken == Some(Broken::NoWindow) { usize::MAX } else { WINDOW_BYTES }
    }

    /// What has come over the network.
    fn carry(&mut self) {
        match self.network.poll(self.now) {
            Some(Carried::Delivered { connection, way, size, payload }) => {
                self.network.release(connection, way, size);
                self.deliver(connection, way, payload);
            }
            Some(Carried::Closed { connection, .. }) => self.close_both(connection),
            None => {}
        }
    }
}

/// The operations of all regions, in the order in which they were called.
fn operations(regions: &[Region]) -> Vec<Operation> {
    let mut all: Vec<Operation> = regions.iter().flat_map(|region| region.operations.iter().cloned()).collect();
    all.sort_by_key(|operation| (operation.called, operation.client, operation.returned));
    all
}
