//! The world: up to three regions, one slot, what is on its way between them, and what may still happen.
//!
//! An [`Action`] is one step of one region, or one delivery. It is atomic: bookkeeping that nobody else could observe
//! in between is part of the step. Cuts and slow links need no action, since nothing that can be delivered has to be.

use crate::{
    configurations::{Budget, Configuration},
    region::{ENDED, KEYS, Key, Kind, Origin, REGIONS, Region, RegionId, Time, Version},
    rules::{Broken, Rules},
};

/// How many writes and deletes one run may have.
pub const ISSUED_MAX: usize = 6;

/// A stamp that was issued, as long as anything depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Issued {
    /// When; [`Time::ZERO`] where there is none.
    pub time: Time,
    /// By whom.
    pub origin: u8,
    /// For which key.
    pub key: u8,
}

/// What a replica holds that has followed its primary up to some moment: an earlier state of the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// Whose.
    pub of: RegionId,
    /// What it was then.
    pub state: Region,
}

/// One record that was sent and has not arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Late {
    /// To whom.
    pub to: RegionId,
    /// Of what.
    pub key: Key,
    /// The record.
    pub record: Version,
}

/// A scan between its two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Walk {
    /// Who is scanned.
    pub from: RegionId,
    /// For whom.
    pub to: RegionId,
    /// The key that was passed.
    pub passed: Key,
    /// Whether it was there.
    pub was_kept: bool,
    /// Whether all of the slot is sent.
    pub whole: bool,
    /// What the consumer had seen when the scan began.
    pub since: [Time; crate::region::ORIGINS],
    /// What the source had.
    pub seen: [Time; crate::region::ORIGINS],
}

/// See the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct World {
    /// The regions, members or not.
    pub regions: [Region; REGIONS],
    /// The stamps that something depends on, in the order of their times.
    pub issued: [Issued; ISSUED_MAX],
    /// A replica that lags.
    pub replica: Option<Replica>,
    /// A record that is late.
    pub late: Option<Late>,
    /// A scan that is under way.
    pub walk: Option<Walk>,
    /// What may still happen.
    pub left: Budget,
    /// For the properties: nothing was evicted, nor forgotten before the frontier had passed it.
    pub is_complete: bool,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client writes; the stamp comes right above a time.
    Write {
        /// Where.
        region: RegionId,
        /// What.
        key: Key,
        /// A value or a tombstone.
        kind: Kind,
        /// What the stamp comes right above.
        above: Time,
    },
    /// A region drops a value for its own reasons.
    Evict(RegionId, Key),
    /// A region forgets a tombstone or marker.
    Forget(RegionId, Key),
    /// One record arrives ahead of the watermark that covers it.
    Record(RegionId, RegionId, Key),
    /// All that a region's tail has for another arrives, with the watermark; `true` if its clock has caught up with the others'.
    Tail(RegionId, RegionId, bool),
    /// A scan from its begin to its end.
    Scan(RegionId, RegionId, bool),
    /// A scan begins, and passes one of the keys.
    BeginScan(RegionId, RegionId, Key),
    /// That scan passes the other and ends.
    EndScan,
    /// A record leaves a region for another, and takes its time.
    Send(RegionId, RegionId, Key),
    /// It arrives.
    Arrive,
    /// A region loses all it has, and begins anew.
    Crash(RegionId),
    /// A replica follows its primary up to here, and no further.
    Follow(RegionId),
    /// That replica takes over.
    Failover,
    /// A region is added to the others, with nothing.
    Join(RegionId),
    /// A region is removed for good.
    Leave(RegionId),
}

impl World {
    /// The first regions, with nothing.
    pub fn new(configuration: &Configuration) -> Self {
        let region = |index| if index < configuration.members { Region::first() } else { Region::absent() };
        Self {
            regions: std::array::from_fn(region),
            issued: [Issued::default(); ISSUED_MAX],
            replica: None,
            late: None,
            walk: None,
            left: configuration.budget,
            is_complete: true,
        }
    }

    /// The numbers of those regions that there are.
    pub fn members(&self) -> impl Iterator<Item = RegionId> + Clone + use<> {
        let is_member = self.regions.map(|region| region.is_member);
        (0..REGIONS).filter(move |region| is_member[*region])
    }

    /// All ordered pairs of them.
    pub fn links(&self) -> impl Iterator<Item = (RegionId, RegionId)> + use<> {
        let members = self.members();
        let others = self.members();
        members.flat_map(move |from| others.clone().filter(move |to| *to != from).map(move |to| (from, to)))
    }

    /// The latest time that there is.
    pub fn top(&self) -> Time {
        let (mut top, mut copy) = (Time::ZERO, *self);
        copy.each_time(&mut |time| top = top.max(*time));
        top
    }

    /// Who issued a stamp that something depends on.
    pub fn origin_of(&self, time: Time) -> Origin {
        let issued = self.issued.iter().find(|issued| issued.time == time);
        usize::from(issued.expect("a stamp is known as long as a record bears it").origin)
    }

    /// Takes one step; `None` if it cannot be taken or changes nothing.
    pub fn after(&self, action: Action, configuration: &Configuration, rules: Rules) -> Option<Self> {
        let mut next = *self;
        match action {
            Action::Write { region, key, kind, above } => next.write(region, key, kind, above, rules),
            Action::Evict(region, key) => {
                next.left.evictions = next.left.evictions.checked_sub(1)?;
                next.is_complete = false;
                next.regions[region].evict(key).then_some(())
            }
            Action::Forget(region, key) => next.forget(region, key, rules),
            Action::Record(from, to, key) => next.record(from, to, key, rules),
            Action::Tail(from, to, catches_up) => next.tail(from, to, catches_up, rules),
            Action::Scan(from, to, catches_up) => {
                next.catch_up(from, catches_up);
                next.scan(from, to, rules)
            }
            Action::BeginScan(from, to, first) => next.begin_scan(from, to, first, rules),
            Action::EndScan => next.end_scan(rules),
            Action::Send(from, to, key) => next.send(from, to, key),
            Action::Arrive => next.arrive(rules),
            Action::Crash(region) => next.crash(region, rules),
            Action::Follow(region) => {
                next.left.failovers.checked_sub(1)?;
                next.replica = Some(Replica { of: region, state: next.regions[region] });
                Some(())
            }
            Action::Failover => next.failover(rules),
            Action::Join(region) => {
                next.left.joins = next.left.joins.checked_sub(1)?;
                next.begin_life(region, Region::absent(), rules)
            }
            Action::Leave(region) => next.leave(region),
        }?;
        next.advance_frontiers(configuration.frontier, rules);
        (next != *self).then_some(next)
    }

    fn write(&mut self, region: RegionId, key: Key, kind: Kind, above: Time, rules: Rules) -> Option<()> {
        let left = if kind == Kind::Value { &mut self.left.writes } else { &mut self.left.deletes };
        *left = left.checked_sub(1)?;
        let time = Time(above.0 + 1);
        self.each_time(&mut |other| other.0 += u8::from(*other >= time));
        let writer = &mut self.regions[region];
        let held = &mut writer.held[key];
        let has_value = held.entry.is_some_and(|entry| entry.kind == Kind::Value);
        if kind == Kind::Tombstone && !has_value && rules.breaks(Broken::NoDeleteOfAbsent) {
            // The client believes all the same that it has deleted it.
            held.known = held.known.max(time);
            return Some(());
        }
        writer.witness.let_in_under_floor |= held.entry.is_none() && time <= writer.floor;
        held.entry = Some(Version { time, kind });
        held.known = held.known.max(time);
        held.logged = time;
        writer.seen[region] = writer.seen[region].max(time);
        let free = self.issued.iter_mut().find(|issued| issued.time == Time::ZERO)?;
        *free = Issued { time, origin: region as u8, key: key as u8 };
        self.issued.sort_unstable();
        Some(())
    }

    /// What a local write to a key is stamped above, at the least.
    pub fn stamped_above(&self, region: RegionId, key: Key, rules: Rules) -> Time {
        let writer = &self.regions[region];
        let mut above = writer.seen[region];
        if !rules.breaks(Broken::StampUnderFloor) {
            above = above.max(writer.floor);
        }
        if !rules.breaks(Broken::StampUnderHeld) {
            above = above.max(writer.held[key].entry.map_or(Time::ZERO, |entry| entry.time));
        }
        above
    }

    fn forget(&mut self, region: RegionId, key: Key, rules: Rules) -> Option<()> {
        let keeper = &mut self.regions[region];
        if keeper.held[key].entry?.time > keeper.frontier {
            self.left.early = self.left.early.checked_sub(1)?;
            self.is_complete = false;
        }
        keeper.forget(key, rules).then_some(())
    }

    fn send(&mut self, from: RegionId, to: RegionId, key: Key) -> Option<()> {
        self.left.late = self.left.late.checked_sub(1)?;
        self.late = Some(Late { to, key, record: self.regions[from].held[key].entry? });
        Some(())
    }

    fn arrive(&mut self, rules: Rules) -> Option<()> {
        let late = self.late.take()?;
        self.deliver(late.to, late.key, late.record, rules);
        Some(())
    }

    fn crash(&mut self, region: RegionId, rules: Rules) -> Option<()> {
        self.left.crashes = self.left.crashes.checked_sub(1)?;
        self.begin_life(region, Region::absent(), rules)
    }

    fn failover(&mut self, rules: Rules) -> Option<()> {
        self.left.failovers = self.left.failovers.checked_sub(1)?;
        let replica = self.replica.take()?;
        self.begin_life(replica.of, replica.state, rules)
    }

    fn leave(&mut self, region: RegionId) -> Option<()> {
        self.left.leaves = self.left.leaves.checked_sub(1)?;
        self.end_life(region, &mut Region::absent());
        self.drop_what_is_under_way(region);
        self.regions[region] = Region::absent();
        self.announce(region, Time::ZERO);
        Some(())
    }

    /// A region goes on with what `state` holds, as a new incarnation: its former origin never speaks again, and the new one stamps
    /// above all that the former could have.
    fn begin_life(&mut self, region: RegionId, mut state: Region, rules: Rules) -> Option<()> {
        let birth = self.top();
        if !rules.breaks(Broken::SameOrigin) {
            if self.regions[region].is_member {
                self.end_life(region, &mut state);
            }
            self.announce(region, birth);
        }
        self.drop_what_is_under_way(region);
        state.seen[region] = birth;
        self.regions[region] = Region { is_member: true, began_with_less: true, ..state };
        Some(())
    }

    /// Gives the living origin of a region a number among those that have ended, here and in what the region goes on with.
    fn end_life(&mut self, region: RegionId, state: &mut Region) {
        let is_free = |number: &Origin| {
            let is_unseen = |of: &Region| of.seen[*number] == Time::ZERO && of.heard[*number] == Time::ZERO;
            let is_unused = |issued: &Issued| issued.time == Time::ZERO || usize::from(issued.origin) != *number;
            self.regions.iter().all(is_unseen) && self.issued.iter().all(is_unused)
        };
        let number = (REGIONS..REGIONS + ENDED).find(is_free).expect("no more lives end than there are numbers for");
        let is_its = |issued: &&mut Issued| issued.time > Time::ZERO && usize::from(issued.origin) == region;
        for issued in self.issued.iter_mut().filter(is_its) {
            issued.origin = number as u8;
        }
        let replica = self.replica.as_mut().map(|replica| &mut replica.state);
        for other in self.regions.iter_mut().chain([state]).chain(replica) {
            other.rows.iter_mut().for_each(|row| row.seen[number] = std::mem::take(&mut row.seen[region]));
            let of_it = other.rows.iter_mut().filter(|row| usize::from(row.of) == region);
            of_it.for_each(|row| row.of = number as u8);
            other.seen[number] = std::mem::take(&mut other.seen[region]);
            other.heard[number] = std::mem::take(&mut other.heard[region]);
        }
        if let Some(walk) = &mut self.walk {
            walk.since[number] = std::mem::take(&mut walk.since[region]);
            walk.seen[number] = std::mem::take(&mut walk.seen[region]);
        }
    }

    /// Up to the birth of an origin everybody has trivially seen it.
    fn announce(&mut self, region: RegionId, birth: Time) {
        let replica = self.replica.as_mut().map(|replica| &mut replica.state);
        for other in self.regions.iter_mut().chain(replica) {
            other.seen[region] = birth;
            other.rows.iter_mut().for_each(|row| row.seen[region] = birth);
        }
    }

    /// Whoever begins anew, or is gone, breaks its connections.
    fn drop_what_is_under_way(&mut self, region: RegionId) {
        self.late = self.late.filter(|late| late.to != region);
        self.walk = self.walk.filter(|walk| walk.from != region && walk.to != region);
        self.replica = self.replica.filter(|replica| replica.of != region);
    }

    /// Shows every time in this to `visit`, which may change it.
    pub fn each_time(&mut self, visit: &mut impl FnMut(&mut Time)) {
        self.regions.iter_mut().for_each(|region| region.each_time(visit));
        self.issued.iter_mut().for_each(|issued| visit(&mut issued.time));
        if let Some(replica) = &mut self.replica {
            replica.state.each_time(visit);
        }
        if let Some(late) = &mut self.late {
            visit(&mut late.record.time);
        }
        if let Some(walk) = &mut self.walk {
            walk.since.iter_mut().chain(&mut walk.seen).for_each(visit);
        }
    }
}

/// All pairs of a region that there is and a key.
pub fn places(world: &World) -> impl Iterator<Item = (RegionId, Key)> + use<> {
    world.members().flat_map(|region| (0..KEYS).map(move |key| (region, key)))
}
