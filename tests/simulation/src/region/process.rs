//! One process of a node, as the shell runs it: what it knows, and what it does with requests.
//!
//! Every decision is the core's. What stands here is the order in which the shell carries decisions out, and that things
//! take time: a turn lasts, and what waits for turns to pass waits.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use clock::{HighWater, Incarnation, Now, Offset, Origin, Stamp, Time};
use node_core::{
    cluster::{
        Access, Assignment, ClusterMap, Custody, Founder, Governor, GovernorOptions, Held, Holding, Keeping, Life,
        NodeId, Peer, Progress, Regions, Report, Route, Routing, Run, Tenure,
    },
    slot::{Slot, SlotSet},
    store::{Expiry, Store, StoreOptions},
};

use super::{
    Make,
    clients::{Command, Outcome, Request},
    feeds::{Follower, Sink, Source},
    load::Wrote,
    members::peers,
    moves::{Handing, Settling},
    orders::HandOver,
};
use crate::Broken;

/// How often a node reports in the length of a lease.
pub(crate) const REPORTS: u32 = 5;
/// How long a request is held at most.
pub(crate) const HOLD_MAX: Duration = Duration::from_millis(100);
/// How far two clocks may be apart.
pub(crate) const DRIFT_MAX: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(3);
const STRIPES: usize = 2;
const HASH_SEED: u64 = 7;
/// Noon of some day, in milliseconds since the Unix epoch; where worlds begin.
pub(crate) const NOON_MS: u64 = 1_800_000_000_000;

/// One process of a node.
pub(crate) struct Process {
    pub(crate) node: Founder,
    /// When it was started.
    pub(crate) started: Now,
    pub(crate) is_up: bool,
    pub(crate) is_stopped: bool,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) governor: Governor,
    pub(crate) tenure: Tenure,
    pub(crate) progress: Progress,
    /// By which clients are routed.
    pub(crate) map: Rc<ClusterMap>,
    pub(crate) routing: Rc<Routing>,
    /// That was carried out, or is being.
    pub(crate) carried: Rc<ClusterMap>,
    pub(crate) is_carrying: bool,
    pub(crate) holds: Vec<(Holder, SlotSet)>,
    /// What commands are told of the lease, in local time.
    pub(crate) lease_until: Duration,
    /// All turns that have begun have ended at this moment of true time.
    pub(crate) turns_until: Duration,
    pub(crate) assignment: Assignment,
    pub(crate) sources: Vec<Source>,
    pub(crate) sinks: BTreeMap<u64, Sink>,
    pub(crate) followers: BTreeMap<NodeId, Follower>,
    pub(crate) movers: BTreeMap<NodeId, Follower>,
    pub(crate) unsure: SlotSet,
    pub(crate) hand_over: Option<HandOver>,
    /// Slots that were given and taken.
    pub(crate) custody: Custody,
    pub(crate) handing: Option<Handing>,
    pub(crate) settling: Settling,
    /// The other regions, as far as it has heard.
    pub(crate) peers: Vec<Peer>,
    /// Since when there is something that it has taken and that the map had not confirmed when it was last given something.
    pub(crate) taken_at: Option<Duration>,
    /// It is about to look at its moves.
    pub(crate) looks_at_moves: bool,
    /// The life as a primary that it has begun, if it has.
    pub(crate) speaks: Option<Life>,
    /// The log has had something new since somebody looked.
    pub(crate) has_news: Arc<AtomicBool>,
    /// The mark on the disk, of a region without a map.
    pub(super) marks: Option<HighWater>,
    /// What the last turn has stamped.
    pub(super) wrote: Option<Wrote>,
    /// When slots are tried again that could not be handed over.
    pub(crate) handing_again: Duration,
    reports: u64,
    pub(super) broken: Option<Broken>,
}

/// Who lets requests wait. What one lets go, another may hold still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Tenure,
    HandOver,
    Mover,
}

/// A node's clocks. Each runs at a rate of its own, and wall time is off.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) began: Duration,
    /// In parts per million of true time.
    pub(crate) rate: u32,
    /// That of the wall clock, which somebody disciplines.
    pub(crate) wall_rate: u32,
    pub(crate) offset: Offset,
}

impl Clock {
    /// What it shows at a true time.
    pub(crate) fn at(self, now: Duration) -> Now {
        let wall = Time::from_unix_ms(NOON_MS).after(at_rate(now, self.wall_rate)).shifted(self.offset);
        Now { wall, monotonic: self.began + at_rate(now, self.rate) }
    }

    /// The true time at which its monotonic clock has reached a time.
    pub(crate) fn true_time(self, local: Duration) -> Duration {
        let nanos = local.saturating_sub(self.began).as_nanos() * 1_000_000;
        let nanos = nanos.div_ceil(u128::from(self.rate));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).saturating_add(1))
    }
}

/// What passes by a clock of this rate, in millionths. Asked for with each event, so not left to the division of a [`Duration`].
fn at_rate(time: Duration, rate: u32) -> Duration {
    let nanos = u64::try_from(time.as_nanos()).expect("a world is young");
    let (millions, rest) = (nanos / 1_000_000, nanos % 1_000_000);
    Duration::from_nanos(millions * u64::from(rate) + rest * u64::from(rate) / 1_000_000)
}

/// A turn that is under way: it goes by what it found when it began.
pub(crate) struct Turn {
    pub(crate) request: Request,
    pub(super) routing: Rc<Routing>,
    leased: bool,
    pub(super) now: Now,
}

impl Process {
    /// A process that has just started, with an empty memory.
    ///
    /// `news` is set whenever the log of any process of its region has something new.
    pub(crate) fn new(node: Founder, clock: Clock, make: &Make, news: &Arc<AtomicBool>, now: Duration) -> Self {
        let (map, lease) = (ClusterMap::new(), make.lease);
        let options = GovernorOptions { lease, fresh: lease * 3 / REPORTS, patience: PATIENCE };
        let (id, run) = (node.id, node.run);
        let (store, has_news) = (store(make), Arc::new(AtomicBool::new(false)));
        let (told, news) = (has_news.clone(), news.clone());
        store.on_news(move || {
            told.store(true, Relaxed);
            news.store(true, Relaxed);
        });
        Self {
            node,
            started: clock.at(now),
            is_up: true,
            is_stopped: false,
            clock,
            store,
            governor: Governor::new(options),
            tenure: Tenure::new(id, run, lease),
            progress: Progress::default(),
            routing: Rc::new(Routing::new(&map, id)),
            map: Rc::new(map),
            carried: Rc::default(),
            is_carrying: false,
            holds: Vec::new(),
            lease_until: Duration::ZERO,
            turns_until: Duration::ZERO,
            assignment: Assignment::Idle,
            sources: Vec::new(),
            sinks: BTreeMap::new(),
            followers: BTreeMap::new(),
            movers: BTreeMap::new(),
            unsure: SlotSet::new(),
            hand_over: None,
            custody: Custody::new(id, run),
            handing: None,
            settling: Settling::default(),
            peers: peers(&make.peers, &Regions::new()),
            taken_at: None,
            looks_at_moves: false,
            speaks: None,
            has_news,
            marks: None,
            wrote: None,
            handing_again: Duration::ZERO,
            reports: 0,
            broken: make.broken,
        }
    }

    /// Clients are routed by this map from here on, unless it is an old one.
    pub(crate) fn route(&mut self, map: &Rc<ClusterMap>) {
        if map.epoch() <= self.map.epoch() {
            return;
        }
        let holding = self.tenure.handle_map(map, self.progress.serving());
        self.hold_for_lease(holding);
        let over: Vec<Slot> =
            self.map.moves().map(|(slot, _)| slot).filter(|slot| map.target(*slot).is_none()).collect();
        for (_, slots) in &mut self.holds {
            over.iter().for_each(|slot| _ = slots.remove(*slot));
        }
        self.custody.follow(&self.map, map);
        self.map = Rc::clone(map);
        self.store.narrow_owned(&self.custody.own(map));
        self.reroute();
    }

    /// Gives or takes slots, and routes clients by that at once.
    pub(crate) fn change_hands<T>(&mut self, change: impl FnOnce(&mut Custody, &ClusterMap) -> T) -> T {
        let changed = change(&mut self.custody, &self.map);
        self.note_own();
        self.reroute();
        changed
    }

    /// Tells the store which slots are this node's own.
    fn note_own(&self) {
        self.store.set_owned(self.custody.own(&self.map), self.map.epoch().0);
    }

    /// What a map leaves to do for slots: to go on with those that come back, and to drop others.
    pub(crate) fn follow_slots(&mut self, foreign: &SlotSet, now: Now) {
        let returning = self.custody.returning().clone();
        if !returning.is_empty() {
            self.store.stamp_above(now.wall.after(DRIFT_MAX));
            self.change_hands(|custody, _| custody.returned(&returning));
        }
        self.note_own();
        self.store.clear_slots(foreign);
    }

    fn hold_for_lease(&mut self, Holding { hold, let_go }: Holding) {
        if !let_go.is_empty() {
            self.let_go(Holder::Tenure);
        }
        if !hold.is_empty() {
            self.hold(Holder::Tenure, hold);
        }
    }

    /// Lets requests for these slots wait.
    pub(crate) fn hold(&mut self, holder: Holder, slots: SlotSet) {
        self.holds.retain(|(other, _)| *other != holder);
        self.holds.push((holder, slots));
        self.reroute();
    }

    /// Ends what this holder began.
    pub(crate) fn let_go(&mut self, holder: Holder) {
        self.holds.retain(|(other, _)| *other != holder);
        self.reroute();
    }

    pub(super) fn reroute(&mut self) {
        let held: SlotSet = self.holds.iter().flat_map(|(_, slots)| slots.ranges().iter().cloned()).collect();
        self.routing = Rc::new(Routing::holding(&self.map, self.node.id, &held, Some(&self.custody)));
    }

    /// What a carried-out map leaves to do: none if another node's part has not changed.
    pub(crate) fn wanted(&self, map: &ClusterMap) -> Assignment {
        Assignment::of(map, self.node.id, self.node.run, DRIFT_MAX)
    }

    /// The lease as commands know it follows what the tenure says.
    pub(crate) fn publish_lease(&mut self) {
        self.lease_until = self.tenure.lease_until();
    }

    /// The leader has answered what was asked at `asked`, in local time.
    pub(crate) fn take(&mut self, asked: Duration, standing: &node_core::cluster::Standing) {
        let serving = self.progress.serving();
        let before = self.tenure.lease_until();
        let holding = self.tenure.handle_standing(asked, standing, serving);
        if self.tenure.lease_until() != before {
            self.publish_lease();
        }
        self.hold_for_lease(holding);
    }

    /// Whether commands may be answered.
    pub(crate) fn has_lease(&self, local: Duration) -> bool {
        let ever = self.broken == Some(Broken::ServesAfterLease) && !self.lease_until.is_zero();
        ever || local < self.lease_until
    }

    /// What it says to the leader.
    pub(crate) fn report(&mut self, now: Now, suspects: Vec<(NodeId, Run)>) -> Report {
        self.reports += 1;
        Report {
            node: self.node.clone(),
            number: self.reports,
            epoch: self.map.epoch(),
            after: self.tenure.moment(),
            held: self.held(now),
            suspects,
            resigns_to: self.tenure.resigns_to(),
        }
    }

    /// What it holds of its shard.
    fn held(&self, now: Now) -> Option<Held> {
        let incarnation = self.progress.holding()?;
        let until = self.store.seen_minima(now).at(Origin::new(self.store.origin().region(), incarnation));
        Some(Held { incarnation, until })
    }

    /// What is kept up to date while nothing happens: what may be forgotten, and forgetting it.
    pub(crate) fn keep_house(&self, now: Now) {
        let least = self.followers.values().map(|follower| follower.until).min().unwrap_or(Time::MAX);
        self.store.settings().set_frontier_limit(least);
        if self.progress.serving().is_some() {
            self.store.advance_frontier(now);
        }
        (0..self.store.stripes()).for_each(|index| _ = self.store.lock(index).collect(100));
    }

    /// Begins a turn.
    pub(crate) fn begin_turn(&self, request: Request, now: Now) -> Turn {
        Turn { request, routing: Rc::clone(&self.routing), leased: self.has_lease(now.monotonic), now }
    }

    /// Does what a turn does, and says what the client is to hear when it ends at `end`, in local time.
    pub(crate) fn end_turn(&mut self, turn: &Turn, end: Duration) -> Outcome {
        let Turn { request, routing, leased, now } = turn;
        let writes = request.command.writes();
        let waited = request.held_since.is_some_and(|since| now.monotonic.saturating_sub(since) >= HOLD_MAX);
        let access = Access { writes, leased: *leased, waited, ..Access::default() };
        if request.command == Command::Flush {
            let outcome = self.flush(turn, access);
            if let Outcome::Flushed(stamp) = outcome {
                self.wrote = Some(Wrote::All(stamp));
            }
            let is_lost = matches!(outcome, Outcome::Flushed(_)) && !self.has_lease(end);
            return if is_lost { Outcome::Lost } else { outcome };
        }
        let slot = Slot::of(request.key);
        match self.decide(routing, slot, access) {
            Route::Here => {}
            Route::Hold => return Outcome::Held(now.monotonic),
            Route::Moved(to) => return Outcome::Elsewhere(place(to)),
            Route::TryAgain | Route::Unserved | Route::Down | Route::ReadOnly => return Outcome::Refused,
        }
        if writes && self.store.make_room(now.wall).is_err() {
            return Outcome::Refused;
        }
        let outcome = self.execute(request, *now);
        if writes && !self.has_lease(end) { Outcome::Lost } else { outcome }
    }

    fn decide<'r>(&self, routing: &'r Routing, slot: Slot, access: Access) -> Route<'r> {
        let route = routing.route(slot, access);
        let shard = self.map.shard_of(self.node.id).map(|(id, _)| id);
        let is_owner = self.progress.serving().is_some() && shard.is_some() && self.map.owner(slot) == shard;
        let keeping = self.custody.keeping(slot);
        let serves_anyway = match self.broken {
            Some(Broken::ReadsHeldSlots) => {
                !access.writes && access.leased && route == Route::Hold && self.progress.serving().is_some()
            }
            Some(Broken::ReplicaAnswers) => {
                let replica = self.map.shard_of(self.node.id).filter(|(_, shard)| shard.primary != self.node.id);
                !access.writes && replica.is_some_and(|(id, _)| self.map.owner(slot) == Some(id))
            }
            Some(Broken::ServesWhatItGave) => {
                access.leased && is_owner && matches!(keeping, Keeping::Given | Keeping::Gone)
            }
            Some(Broken::DoubtIsNo) => {
                let is_in_doubt = self.map.moving(slot).is_some_and(|moving| moving.is_in_doubt());
                access.leased && is_owner && is_in_doubt && keeping == Keeping::Plain
            }
            Some(Broken::TargetServesEarly) => {
                access.leased && self.progress.serving().is_some() && self.map.target(slot) == shard && shard.is_some()
            }
            _ => false,
        };
        if serves_anyway { Route::Here } else { route }
    }

    fn execute(&mut self, request: &Request, now: Now) -> Outcome {
        let (store, key) = (&self.store, request.key);
        let at = store.address(key);
        let mut stripe = store.lock(store.stripe_of(at.slot));
        let found = stripe.read(at, key, now.wall).map(|found| (number(found.value), found.stamp));
        let value = found.map(|(value, _)| value);
        let expiry = |ttl: Duration| Expiry::at_unix_ms(now.wall.after(ttl).unix_ms());
        let mut put = |value: u64, expiry: Option<Expiry>| {
            stripe.write(at, key, value.to_string().as_bytes(), expiry, now.wall).expect("the heap has room")
        };
        let outcome = match request.command {
            Command::Get => Outcome::Read(value),
            Command::Follow(_, Stamp { time, origin }) => {
                let waits = self.broken != Some(Broken::AwaitsNothing);
                let has_arrived = !waits || origin == store.origin() || stripe.seen().at(at.slot, origin) >= time;
                if has_arrived { Outcome::Read(value) } else { Outcome::NotYet }
            }
            Command::Set(value) => Outcome::Written(value, put(value, None)),
            Command::SetFor(value, ttl) => Outcome::Written(value, put(value, Some(expiry(ttl)))),
            Command::Increment => {
                let next = value.unwrap_or(0) + 1;
                Outcome::Written(next, put(next, None))
            }
            Command::Delete | Command::Expire(_) => {
                match request.command {
                    Command::Expire(ttl) => stripe.set_expiry(at, key, Some(expiry(ttl)), now.wall),
                    _ => stripe.delete(at, key, now.wall),
                }
                .expect("the heap has room");
                let stamp = Stamp { time: stripe.watermark(Time::ZERO), origin: store.origin() };
                Outcome::Changed(value.is_some(), stamp)
            }
            Command::Flush => unreachable!("a flush is of no key"),
        };
        drop(stripe);
        let stamped = |stamp: Stamp| match self.broken {
            Some(Broken::StampsByTheWall) => Stamp { time: now.wall, ..stamp },
            _ => stamp,
        };
        self.wrote = match outcome {
            Outcome::Written(value, stamp) => Some(Wrote::One { key, stamp: stamped(stamp), value: Some(value) }),
            Outcome::Changed(_, stamp) if request.command == Command::Delete => {
                Some(Wrote::One { key, stamp: stamped(stamp), value: None })
            }
            _ => None,
        };
        outcome
    }

    /// Whether it would carry out a write in a slot at this moment of local time.
    pub(crate) fn would_write(&self, slot: Slot, local: Duration) -> bool {
        let access = Access { writes: true, leased: self.has_lease(local), waited: false, ..Access::default() };
        matches!(self.decide(&self.routing, slot, access), Route::Here)
    }

    /// Whether as many replicas as it takes have what was stamped until then.
    pub(crate) fn is_replicated(&self, until: Time, local: Duration) -> bool {
        let is_unconfirmed = self.custody.is_unconfirmed();
        let has_it = !is_unconfirmed && self.followers.values().any(|follower| follower.until >= until);
        (has_it || self.broken == Some(Broken::WaitsForNobody)) && self.has_lease(local)
    }
}

/// The store of a process that has just started.
fn store(make: &Make) -> Store {
    let store = Store::new(&StoreOptions {
        origin: Origin::new(make.id, Incarnation::UNBORN),
        start: Time::ZERO,
        peers: make.peers.clone(),
        stripes: STRIPES,
        log_records: make.log_records,
        hash_seed: HASH_SEED,
    });
    make.tombstone_budget.into_iter().for_each(|bytes| store.settings().set_tombstone_budget(bytes));
    store
}

/// The place of a node by its address.
pub(crate) fn place(address: &str) -> usize {
    let (_, port) = address.rsplit_once(':').expect("an address has a port");
    port.parse::<usize>().expect("a port is a number") - 1
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).expect("only numbers are written")
}
