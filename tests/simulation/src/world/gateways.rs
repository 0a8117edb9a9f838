//! Gateways, and the streams that are split there: what geo-link's `split` does around a [`Split`].
//!
//! A gateway holds nothing. It knows the map a little late, connects to the owners of slots, and may hang, end and be back at any
//! moment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clock::{Now, Offset, Origin};
use geo_link_core::{
    BranchEnd, BranchId, Hello, Inbox, LinkId, Malformed, Owner, Owners, Refusal, Split, SplitEvent,
    limits::{FRAME_BYTES_MAX, PROTOCOL_VERSION},
};
use rand::{Rng, RngExt};
use sim_wan::model::{ConnectionId, Frame, Way};

use super::{EndId, Event, LOCAL, World, alarm::Alarm, members::no_peer, wires::Held};
use crate::region::{Clock, Region};

/// How late a gateway hears of a map, at the most.
const MAP_MS: u64 = 40;
/// Of so many maps one is heard of later than that.
const LATE: u32 = 6;
const LATE_MS: u64 = 300;

/// A gateway.
pub(super) struct Gateway {
    pub(super) region: usize,
    pub(super) is_up: bool,
    pub(super) is_stopped: bool,
    clock: Clock,
    /// Who owns what, as far as it has heard.
    owners: Arc<Owners>,
    /// The streams that arrive.
    streams: BTreeMap<Origin, (LinkId, EndId)>,
    /// What lies in the sockets of the streams that it passes on, while it hangs.
    pub(super) held: Vec<Held>,
}

/// A stream that arrives at a gateway.
pub(super) struct Splitting {
    pub(super) gateway: usize,
    connection: ConnectionId,
    pub(super) split: Split,
    inbox: Inbox,
    pipes: BTreeMap<BranchId, Pipe>,
    alarm: Alarm,
}

/// A connection to an owner.
struct Pipe {
    end: EndId,
    inbox: Inbox,
}

/// Why a stream is no more.
enum Lost {
    Ended,
    Malformed,
    Superseded(Origin),
}

impl From<Malformed> for Lost {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl World {
    pub(super) fn place_gateways(&mut self) {
        for region in 0..self.regions.len() {
            for _ in 0..self.random.random_range(1..=2) {
                let clock = Clock {
                    began: Duration::from_millis(self.random.random_range(1_000..1_000_000)),
                    rate: self.random.random_range(995_000..=1_005_000),
                    wall_rate: self.random.random_range(999_500..=1_000_500),
                    offset: Offset::ZERO,
                };
                let owners = self.owners[region].clone();
                let (streams, held) = (BTreeMap::new(), Vec::new());
                self.gateways.push(Gateway { region, is_up: true, is_stopped: false, clock, owners, streams, held });
            }
        }
    }

    pub(super) fn gateways_of(&self, region: usize) -> impl Iterator<Item = usize> {
        (0..self.gateways.len()).filter(move |gateway| self.gateways[*gateway].region == region)
    }

    /// The gateways of a region hear of its map, if that says that slots have other owners.
    pub(super) fn follow_map(&mut self, region: usize) {
        let owners = owners_by(&self.regions[region]);
        if *self.owners[region] == owners {
            return;
        }
        self.owners[region] = Arc::new(owners);
        let gateways: Vec<usize> = self.gateways_of(region).collect();
        for gateway in gateways {
            let most = if self.random.random_ratio(1, LATE) { LATE_MS } else { MAP_MS };
            let delay = Duration::from_millis(self.random.random_range(1..most));
            self.after(delay, Event::Owners(gateway, self.owners[region].clone()));
        }
    }

    pub(super) fn hear_owners(&mut self, gateway: usize, owners: Arc<Owners>) {
        let region = self.gateways[gateway].region;
        // An older map does not take the place of a newer one.
        let is_newest = Arc::ptr_eq(&owners, &self.owners[region]);
        if !self.gateways[gateway].is_up || !is_newest {
            return;
        }
        self.gateways[gateway].owners = owners;
        self.wake_splits_of(gateway);
    }

    pub(super) fn wake_splits_of(&mut self, gateway: usize) {
        let splits: Vec<EndId> =
            self.splits.iter().filter(|(_, split)| split.gateway == gateway).map(|(id, _)| *id).collect();
        splits.into_iter().for_each(|id| self.wake_split_at(id, self.now));
    }

    /// A gateway ends, with all that goes through it.
    pub(super) fn end_gateway(&mut self, gateway: usize) {
        let it = &mut self.gateways[gateway];
        (it.is_up, it.is_stopped) = (false, false);
        it.held.clear();
        it.streams.clear();
        self.break_wires_of(gateway);
    }

    /// A gateway begins.
    pub(super) fn begin_gateway(&mut self, gateway: usize) {
        let region = self.gateways[gateway].region;
        let owners = self.owners[region].clone();
        let it = &mut self.gateways[gateway];
        (it.is_up, it.owners) = (true, owners);
    }

    /// Whether a gateway is a part of the one node of its region.
    pub(super) fn is_inside(&self, gateway: usize) -> bool {
        self.regions[self.gateways[gateway].region].make.is_single
    }

    /// Gateways that are inside a node begin and end with it.
    pub(super) fn follow_node(&mut self, region: usize) {
        let inside: Vec<usize> = self.gateways_of(region).filter(|gateway| self.is_inside(*gateway)).collect();
        for gateway in inside {
            let (node, it) = (&self.regions[region].processes[0], &self.gateways[gateway]);
            if it.is_up && !node.is_up {
                self.end_gateway(gateway);
            } else if node.is_up && !it.is_up {
                self.begin_gateway(gateway);
            }
        }
    }

    /// Somebody dials a gateway.
    pub(super) fn let_in(&mut self, connection: ConnectionId) {
        let Some(to) = self.wires.get(&connection).map(|wire| wire.to) else { return };
        let gateway = &self.gateways[to];
        if !gateway.is_up {
            return self.send(connection, Way::Back, Frame::Reset);
        }
        let (options, now) = (self.split_options(gateway.region), gateway.clock.at(self.now));
        let id = self.next_end();
        let (split, inbox, pipes) = (Split::new(options, now), Inbox::new(FRAME_BYTES_MAX), BTreeMap::new());
        let split = Splitting { gateway: to, connection, split, inbox, pipes, alarm: Alarm::default() };
        self.splits.insert(id, Box::new(split));
        if let Some(wire) = self.wires.get_mut(&connection) {
            wire.split = Some(id);
        }
        self.send(connection, Way::Back, Frame::Accept);
        self.rest_split(id);
    }

    pub(super) fn bytes_to_split(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let Some(id) = self.wires.get(&connection).and_then(|wire| wire.split) else { return };
        let Some(it) = self.splits.get_mut(&id) else { return };
        it.inbox.buffer().extend_from_slice(bytes);
        if it.split.wants_frames() {
            it.split.handle_bytes(self.gateways[it.gateway].clock.at(self.now));
        }
        self.drive_split(id);
    }

    pub(super) fn bytes_to_gateway(&mut self, end: EndId, bytes: &[u8]) {
        let Some(split) = self.incoming.get(&end).map(|end| end.split) else { return };
        let Some(it) = self.splits.get_mut(&split) else { return };
        let pipe = it.pipes.values_mut().find(|pipe| pipe.end == end);
        if let Some(pipe) = pipe {
            pipe.inbox.buffer().extend_from_slice(bytes);
            self.drive_split(split);
        }
    }

    pub(super) fn branch_connected(&mut self, end: EndId, split: EndId, branch: BranchId) {
        let is_wanted = self.splits.get_mut(&split).is_some_and(|it| {
            let now = self.gateways[it.gateway].clock.at(self.now);
            let is_wanted = it.split.handle_connected(now, branch);
            if is_wanted {
                it.pipes.insert(branch, Pipe { end, inbox: Inbox::new(FRAME_BYTES_MAX) });
            }
            is_wanted
        });
        if is_wanted {
            self.drive_split(split);
        } else {
            self.after(LOCAL, Event::GatewayLeft(end));
        }
    }

    pub(super) fn branch_lost(&mut self, end: EndId, split: EndId, branch: BranchId) {
        let entropy = self.random.next_u64();
        let Some(it) = self.splits.get_mut(&split) else { return };
        let now = self.gateways[it.gateway].clock.at(self.now);
        let pipe = it.pipes.get(&branch);
        if pipe.is_none_or(|pipe| pipe.end == end) {
            it.pipes.remove(&branch);
            it.split.handle_branch_lost(now, branch, entropy);
            self.drive_split(split);
        }
    }

    pub(super) fn wake_split_at(&mut self, id: EndId, at: Duration) {
        let at = at.max(self.now);
        if self.splits.get_mut(&id).is_some_and(|it| it.alarm.set(at)) {
            self.at(at, Event::WakeSplit(id));
        }
    }

    pub(super) fn wake_split(&mut self, id: EndId) {
        if self.splits.get_mut(&id).is_some_and(|it| it.alarm.rings(self.now)) {
            self.drive_split(id);
        }
    }

    fn rest_split(&mut self, id: EndId) {
        let Some(it) = self.splits.get(&id) else { return };
        let clock = self.gateways[it.gateway].clock;
        let at = it.split.poll_timeout(clock.at(self.now), |branch| it.pipes.contains_key(&branch));
        self.wake_split_at(id, clock.true_time(at));
    }

    /// One turn of the loop.
    fn drive_split(&mut self, id: EndId) {
        let Some(mut it) = self.splits.remove(&id) else { return };
        if self.gateways[it.gateway].is_stopped {
            self.splits.insert(id, it);
            return;
        }
        let worked = self.work_split(id, &mut it);
        match worked {
            Ok(()) => {
                self.splits.insert(id, it);
                self.rest_split(id);
            }
            Err(lost) => {
                if let Lost::Superseded(by) = lost {
                    it.split.refuse(Refusal::Superseded(by));
                }
                self.finish_split(id, it);
            }
        }
    }

    fn work_split(&mut self, id: EndId, it: &mut Splitting) -> Result<(), Lost> {
        let now = self.gateways[it.gateway].clock.at(self.now);
        self.work_branches(id, it, now)?;
        loop {
            self.handle_split_events(id, it, now)?;
            if it.split.poll_batch(now)?.is_some() {
                self.work_branches(id, it, now)?;
            }
            if !it.split.wants_frames() {
                break;
            }
            let Some((kind, payload)) = it.inbox.next_frame()? else { break };
            it.split.handle_frame(now, kind, payload)?;
        }
        it.split.handle_timeout(now);
        self.handle_split_events(id, it, now)?;
        it.split.answer();
        self.transmit_split(it, now);
        Ok(())
    }

    fn transmit_split(&mut self, it: &mut Splitting, now: Now) {
        let mut out = std::mem::take(&mut self.out);
        it.split.poll_transmit(now, &mut out);
        if let Some(out) = self.take_written(out) {
            self.send(it.connection, Way::Back, Frame::Data(out));
        }
    }

    fn handle_split_events(&mut self, id: EndId, it: &mut Splitting, now: Now) -> Result<(), Lost> {
        while let Some(event) = it.split.poll_event() {
            match event {
                SplitEvent::Greeted(hello) => self.admit_split(id, it, hello, now),
                SplitEvent::Ended(_) => return Err(Lost::Ended),
            }
        }
        Ok(())
    }

    /// The sender says who it is: lets it in, in the place of the one of the same origin, unless that is younger.
    fn admit_split(&mut self, id: EndId, it: &mut Splitting, hello: Hello, now: Now) {
        let gateway = &mut self.gateways[it.gateway];
        let link = LinkId { origin: hello.origin, epoch: hello.epoch };
        let is_younger = gateway.streams.get(&link.origin).is_some_and(|(current, _)| current.epoch >= link.epoch);
        if !self.regions[gateway.region].knows(hello.region()) {
            return it.split.refuse(no_peer());
        }
        if hello.version != PROTOCOL_VERSION {
            return it.split.refuse(Refusal::Version(PROTOCOL_VERSION));
        }
        if is_younger {
            return it.split.refuse(Refusal::Replaced);
        }
        let former = gateway.streams.insert(link.origin, (link, id));
        it.split.admit(hello, now, gateway.owners.clone());
        if let Some((_, former)) = former.filter(|(_, former)| *former != id)
            && let Some(mut former_split) = self.splits.remove(&former)
        {
            former_split.split.refuse(Refusal::Replaced);
            self.finish_split(former, former_split);
        }
    }

    fn work_branches(&mut self, id: EndId, it: &mut Splitting, now: Now) -> Result<(), Lost> {
        let owners = self.gateways[it.gateway].owners.clone();
        if !Arc::ptr_eq(it.split.arranged(), &owners) {
            for (branch, last_words) in it.split.arrange(now, owners) {
                self.close_pipe(it, branch, last_words);
            }
        }
        let branches: Vec<BranchId> = it.split.branches().map(|branch| branch.id()).collect();
        for branch in branches {
            if let Err(end) = self.work_branch(it, branch, now) {
                self.close_pipe(it, branch, Vec::new());
                it.split.handle_branch_lost(now, branch, self.random.next_u64());
                if let Some(by) = end.superseded_by() {
                    return Err(Lost::Superseded(by));
                }
            }
        }
        while let Some((branch, owner)) = it.split.poll_dial(now) {
            self.connect(id, it.gateway, branch, &owner);
        }
        it.split.begin_round(now);
        Ok(())
    }

    fn work_branch(&mut self, it: &mut Splitting, branch: BranchId, now: Now) -> Result<(), BranchEnd> {
        let Some(pipe) = it.pipes.get_mut(&branch) else { return Ok(()) };
        while let Some((kind, payload)) = pipe.inbox.next_frame()? {
            it.split.handle_branch_frame(now, branch, kind, payload)?;
        }
        it.split.work_branch(now, branch)?;
        let mut out = std::mem::take(&mut self.out);
        it.split.poll_branch_transmit(now, branch, &mut out);
        if let Some(out) = self.take_written(out) {
            self.after(LOCAL, Event::ToOwner(pipe.end, out));
        }
        Ok(())
    }

    fn close_pipe(&mut self, it: &mut Splitting, branch: BranchId, last_words: Vec<u8>) {
        let Some(pipe) = it.pipes.remove(&branch) else { return };
        if !last_words.is_empty() {
            self.after(LOCAL, Event::ToOwner(pipe.end, last_words));
        }
        self.after(LOCAL, Event::GatewayLeft(pipe.end));
    }

    fn connect(&mut self, split: EndId, gateway: usize, branch: BranchId, owner: &Owner) {
        let (end, region) = (self.next_end(), self.gateways[gateway].region);
        let index = crate::region::place(&owner.address);
        self.after(LOCAL, Event::Connect { end, split, branch, region, index });
    }

    /// A stream has ended at the other side, or its gateway has.
    pub(super) fn end_split(&mut self, id: EndId) {
        if let Some(it) = self.splits.remove(&id) {
            self.finish_split(id, it);
        }
    }

    /// A stream is not taken in any more.
    pub(super) fn refuse_split(&mut self, id: EndId, refusal: Refusal) {
        if let Some(mut it) = self.splits.remove(&id) {
            it.split.refuse(refusal);
            self.finish_split(id, it);
        }
    }

    /// Last words, and the end of all branches.
    fn finish_split(&mut self, id: EndId, mut it: Box<Splitting>) {
        let gateway = &mut self.gateways[it.gateway];
        let now = gateway.clock.at(self.now);
        gateway.streams.retain(|_, (_, end)| *end != id);
        self.transmit_split(&mut it, now);
        for (branch, last_words) in it.split.end_branches(now) {
            self.close_pipe(&mut it, branch, last_words);
        }
        self.close_split_end(it.connection);
    }
}

/// Who owns what by a map, as the gateway's shell makes it of it.
pub(super) fn owners_by(region: &Region) -> Owners {
    let map = region.raft.map();
    let owner = |(id, shard): (_, &node_core::cluster::Shard)| {
        let slots = Arc::new(map.slots(id));
        let primary = map.node(shard.primary).filter(|_| !slots.is_empty())?;
        Some(Owner { address: primary.addresses.bus().into(), slots })
    };
    Owners::new(region.shards().filter_map(owner).collect())
}
