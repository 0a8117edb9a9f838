//! One node as the steward will run it: it reports, takes leases, follows the map, and governs if it leads.

use std::{rc::Rc, time::Duration};

use clock::{Incarnation, Time};

use super::{
    super::{Governor, GovernorOptions, Held, Moment, Report, Standing},
    Broken,
    moves::{Moves, cargo},
};
use crate::cluster::{ClusterMap, Custody, Founder, Keeping, Lease, NodeId, Run, ShardId, routing};

/// How long a lease is.
pub(super) const LEASE: Duration = Duration::from_secs(1);
/// How often a node reports.
pub(super) const REPORT_EVERY: Duration = Duration::from_millis(150);
/// How long a shard of which nothing is left waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// After this a primary takes its resignation back.
const RESIGNATION: Duration = Duration::from_millis(500);

/// One process of a node.
pub(super) struct Process {
    pub(super) node: Founder,
    pub(super) shard: ShardId,
    pub(super) is_up: bool,
    pub(super) is_stopped: bool,
    pub(super) clock: Clock,
    pub(super) governor: Governor,
    pub(super) map: Rc<ClusterMap>,
    pub(super) memory: Memory,
    pub(super) resigning: Option<Resigning>,
    /// How many of its writes it has acknowledged in this tenure to those who wait for a replica.
    pub(super) acknowledged: usize,
    /// Under which it is the primary, as far as it knows.
    pub(super) tenure: Option<Incarnation>,
    /// What it has given and taken.
    pub(super) custody: Custody,
    /// How far it is with giving and taking.
    pub(super) moves: Moves,
    lease: Lease,
    reports: u64,
    heard: Option<Moment>,
    broken: Option<Broken>,
}

/// Monotonic time of a node, which runs at a rate of its own.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) offset: Duration,
    /// In parts per million of true time.
    pub(super) rate: u32,
}

/// What a process holds: numbered writes, in their order.
#[derive(Clone, Default)]
pub(super) struct Memory {
    pub(super) writes: Rc<Vec<u64>>,
    /// Those to the slot that moves.
    pub(super) cargo: Rc<Vec<u64>>,
    /// The number of the feed that it came with.
    pub(super) number: u64,
    /// Whose, if all of them.
    pub(super) follows: Option<Incarnation>,
}

/// A hand-over in progress.
pub(super) struct Resigning {
    pub(super) to: NodeId,
    /// The run that has all.
    pub(super) has_all: Option<Run>,
    since: Duration,
}

impl Clock {
    /// The node's time at a true time.
    pub(super) fn at(self, now: Duration) -> Duration {
        self.offset + now * self.rate / 1_000_000
    }
}

impl Memory {
    /// Whether it has a write. They are numbered upwards.
    pub(super) fn has(&self, write: u64) -> bool {
        self.writes.binary_search(&write).is_ok() || self.cargo.binary_search(&write).is_ok()
    }

    /// How far it goes. The clocks of two primaries differ, so times of different incarnations do not compare.
    fn held(&self) -> Option<Held> {
        let incarnation = self.follows?;
        let skew = u64::from(incarnation.number()) * 7_919 % 1_000;
        Some(Held { incarnation, until: Time::from_ntp64(skew + self.writes.len() as u64) })
    }
}

impl Process {
    /// A process that has just started, with an empty memory.
    pub(super) fn new(
        node: Founder,
        shard: ShardId,
        clock: Clock,
        map: Rc<ClusterMap>,
        broken: Option<Broken>,
    ) -> Self {
        let lease = if broken == Some(Broken::NoWaitForLease) { LEASE / 10 } else { LEASE };
        let options = GovernorOptions { lease, fresh: REPORT_EVERY * 4, patience: PATIENCE };
        let custody = Custody::new(node.id, node.run);
        let mut process = Self {
            node,
            shard,
            is_up: true,
            is_stopped: false,
            clock,
            governor: Governor::new(options),
            map: Rc::default(),
            memory: Memory::default(),
            resigning: None,
            acknowledged: 0,
            tenure: None,
            custody,
            moves: Moves::default(),
            lease: Lease::new(LEASE),
            reports: 0,
            heard: None,
            broken,
        };
        process.follow(Duration::ZERO, &map);
        process
    }

    /// Whether it takes writes.
    pub(super) fn may_write(&self, now: Duration) -> bool {
        self.is_up && self.tenure.is_some() && self.resigning.is_none() && self.lease.holds(self.clock.at(now))
    }

    /// Whether its lease runs, by its own clock.
    pub(super) fn has_lease(&self, now: Duration) -> bool {
        self.is_up && self.lease.holds(self.clock.at(now))
    }

    /// Whether it serves the slot that moves, if it takes writes at all.
    pub(super) fn keeps_cargo(&self) -> bool {
        let (slot, keeping) = (cargo(), self.custody.keeping(cargo()));
        let is_held = self.moves.holds.is_some() && self.broken != Some(Broken::NotHeld);
        let is_mine = self.map.owner(slot) == Some(self.shard);
        let is_in_doubt = self.map.moving(slot).is_some_and(|moving| moving.is_in_doubt());
        match self.broken {
            Some(Broken::GivesAndKeeps) if is_mine && keeping == Keeping::Given => true,
            Some(Broken::NoDoubt) if is_mine && keeping == Keeping::Plain && is_in_doubt => true,
            _ => routing::serves(&self.map, slot, is_held, &self.custody, self.node.id),
        }
    }

    /// Whether it takes writes to the slot that moves.
    pub(super) fn may_write_cargo(&self, now: Duration) -> bool {
        self.may_write(now) && self.keeps_cargo()
    }

    /// The map has reached it; an older one says nothing.
    pub(super) fn follow(&mut self, now: Duration, map: &Rc<ClusterMap>) {
        if map.epoch() <= self.map.epoch() {
            return;
        }
        let former = std::mem::replace(&mut self.map, Rc::clone(map));
        self.custody.follow(&former, map);
        self.follow_cargo(&former);
        self.governor.handle_map(map);
        let shard = map.shard(self.shard).filter(|shard| (shard.primary, shard.run) == (self.node.id, self.node.run));
        let tenure = shard.map(|shard| shard.incarnation);
        if tenure != self.tenure {
            self.give_up(now);
            (self.tenure, self.resigning, self.acknowledged) = (tenure, None, 0);
            self.moves = Moves::default();
            self.custody.stays();
            self.memory.follows = tenure.or(self.memory.follows);
        }
    }

    /// What it says to the leader.
    pub(super) fn report(&mut self, suspects: Vec<(NodeId, Run)>) -> Report {
        self.reports += 1;
        let resigning = self.resigning.as_ref();
        Report {
            node: self.node.clone(),
            number: self.reports,
            epoch: self.map.epoch(),
            after: self.heard,
            held: self.memory.held(),
            suspects,
            resigns_to: resigning.and_then(|resigning| Some((resigning.to, resigning.has_all?))),
        }
    }

    /// The leader has answered what was asked at `asked`, in its own time.
    pub(super) fn take(&mut self, now: Duration, asked: Duration, standing: Standing) {
        self.heard = self.heard.max(Some(standing.moment));
        if self.tenure.is_some() && standing.lease == self.tenure && self.resigning.is_none() {
            let asked = if self.broken == Some(Broken::LeaseFromAnswer) { self.clock.at(now) } else { asked };
            self.lease.granted(asked);
        }
    }

    /// Begins to hand over.
    pub(super) fn resign(&mut self, now: Duration, to: NodeId) {
        if !self.custody.resigns() && self.broken != Some(Broken::ResignsThoughItTook) {
            return;
        }
        self.give_up(now);
        self.resigning = Some(Resigning { to, has_all: None, since: self.clock.at(now) });
    }

    /// Takes a resignation back that came to nothing.
    pub(super) fn reconsider(&mut self, now: Duration) {
        if self.resigning.as_ref().is_some_and(|resigning| self.clock.at(now) > resigning.since + RESIGNATION) {
            self.resigning = None;
            self.custody.stays();
            if self.broken != Some(Broken::LateAnswerRevives) {
                self.give_up(now);
            }
        }
    }

    /// A replica takes in what the primary has. Returns whether it did.
    pub(super) fn take_in(&mut self, incarnation: Incarnation, fed: &Memory) -> bool {
        let primary = self.map.shard(self.shard).filter(|shard| shard.primary != self.node.id);
        let goes_on = self.memory.follows == Some(incarnation);
        let is_welcome = primary.is_some_and(|primary| primary.incarnation == incarnation)
            && !(goes_on && fed.number < self.memory.number);
        if is_welcome {
            self.memory = Memory { follows: Some(incarnation), ..fed.clone() };
        }
        is_welcome
    }

    fn give_up(&mut self, now: Duration) {
        match self.broken {
            Some(Broken::LateAnswerRevives) => self.lease = Lease::new(LEASE),
            _ => self.lease.give_up(self.clock.at(now)),
        }
    }
}
