//! Replication between processes: real feeds into real intakes, over connections that may break at any time.
//!
//! As in the shell: whoever has something dials whoever lacks it, says what for, is told what is wanted, and sends what
//! the feed gives; the other end acknowledges what it has applied. A connection carries its messages in their order or
//! ends. Who hears nothing for [`SILENCE`] dials anew.

use std::time::Duration;

use clock::{Origin, Time};
use node_core::{
    cluster::{Assignment, Cargo, Epoch, NodeId, Purpose},
    slot::{SlotRange, SlotSet},
    store::{Feed, FeedItem, Intake, Polled, Scope, Seen, SeenTable},
};
use rand::RngExt;

use super::{Region, What, raft::Who};
use crate::{Broken, parcel::Parcel};

/// After so long without an answer a connection counts as lost.
const SILENCE: Duration = Duration::from_millis(400);
/// Between two looks at a feed, at most, by who is in a hurry.
const PUMP_EVERY_MS: u64 = 30;
/// Between two looks for what was stamped by who speaks no more.
const ORPHANS_EVERY: Duration = Duration::from_secs(1);
/// Bytes of a small batch, at most about so many.
const BATCH_BYTES: usize = 400;

/// The end that has something.
pub(crate) struct Source {
    pub(crate) target: NodeId,
    purpose: Purpose,
    connection: u64,
    feed: Option<Feed>,
    heard: Duration,
    /// When orphans were looked for last.
    orphans: Duration,
    slots: SlotSet,
}

/// The end that lacks something.
pub(crate) struct Sink {
    purpose: Purpose,
    from: Who,
    speaker: Origin,
    intake: Intake,
    waits: bool,
    /// Its number by the custody, if it brings slots.
    feed: Option<u64>,
}

/// What another node has, as far as it has said so.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Follower {
    /// Since when what it is fed has been moving to it; nothing of a replica.
    pub(crate) since: Epoch,
    pub(crate) is_online: bool,
    /// It has everything that this node stamped up to here.
    pub(crate) until: Time,
    /// It has everything that the log named at this moment of local time.
    pub(crate) as_of: Duration,
}

/// A batch that ended in a watermark.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    until: Time,
    as_of: Duration,
}

/// What goes over a connection.
pub(crate) enum Frame {
    /// To the sink: who speaks, and what for.
    Opening { from: Who, origin: Origin, purpose: Purpose },
    /// To the source: what is wanted, and who writes under which origin there.
    Want { whole: bool, seen: SeenTable, consumer: Origin },
    /// To the source: nobody waits for this.
    Refused,
    /// To the sink.
    Batch { parcels: Vec<Parcel>, saw: Seen, settled: Option<Settled> },
    /// To the source: that was applied.
    Applied(Option<Settled>),
}

impl Region {
    /// A process is to be something else, or the same with other connections.
    pub(crate) fn assign(&mut self, index: usize, next: Assignment) {
        let process = &mut self.processes[index];
        match (&process.assignment, &next) {
            (Assignment::Primary { life: before, .. }, Assignment::Primary { life, .. }) if before == life => {}
            (Assignment::Replica { life: before, primary: former, .. }, Assignment::Replica { life, primary, .. })
                if (before, former) == (life, primary) => {}
            (before, next) if before == next => {}
            _ => {
                process.sources.clear();
                process.sinks.clear();
                process.followers.clear();
                process.movers.clear();
                process.progress.idle();
                process.speaks = None;
                self.has_changed = true;
                self.begin_life(index, &next);
            }
        }
        if let Assignment::Primary { replicas, leaving, .. } = &next {
            let replicas = replicas.keys().map(|node| (*node, Purpose::Follow));
            let movers = leaving.iter().map(|(node, (_, cargo))| (*node, Purpose::Move(cargo.clone())));
            self.feed(index, replicas.chain(movers).collect());
        }
        self.processes[index].assignment = next;
    }

    fn begin_life(&mut self, index: usize, next: &Assignment) {
        let process = &mut self.processes[index];
        match next {
            Assignment::Idle => {}
            Assignment::Primary { life, start, .. } => {
                let start = start.at(process.clock.at(self.now).wall);
                process.store.begin_life(life.origin, life.birth, start);
                process.progress.serves(life.origin.incarnation());
                process.speaks = Some(*life);
                if let Some(bytes) = self.make.max_memory {
                    process.store.settings().set_max_memory(bytes);
                }
                let origin = life.origin;
                note!(self, "{index} is a primary as {origin}");
            }
            Assignment::Replica { life, primary, .. } => {
                let former = process.store.origin();
                process.store.settings().set_max_memory(0);
                process.store.follow(life.origin, life.birth);
                process.progress.follows(former.incarnation());
                let primary = *primary;
                note!(self, "{index} follows {}", life.origin);
                self.add_source(index, primary, Purpose::Return);
            }
        }
    }

    /// Feeds these and no others.
    fn feed(&mut self, index: usize, targets: Vec<(NodeId, Purpose)>) {
        let process = &mut self.processes[index];
        process.sources.retain(|source| targets.iter().any(|(to, why)| (to, why) == (&source.target, &source.purpose)));
        let is_fed = |to: &NodeId| targets.iter().any(|(node, purpose)| node == to && *purpose == Purpose::Follow);
        process.followers.retain(|node, _| is_fed(node));
        let is_mover =
            |to: &NodeId| process.sources.iter().any(|source| source.target == *to && is_move(&source.purpose));
        process.movers.retain(|node, _| is_mover(node));
        for (target, purpose) in targets {
            let process = &mut self.processes[index];
            if process.sources.iter().any(|source| (&source.target, &source.purpose) == (&target, &purpose)) {
                continue;
            }
            match purpose.clone() {
                Purpose::Follow => _ = process.followers.insert(target, Follower::default()),
                Purpose::Move(Cargo { since, .. }) => {
                    process.movers.insert(target, Follower { since, ..Follower::default() });
                }
                Purpose::Return => {}
            }
            self.add_source(index, target, purpose);
        }
    }

    fn add_source(&mut self, index: usize, target: NodeId, purpose: Purpose) {
        self.connections += 1;
        let (connection, now) = (self.connections, self.now);
        let source =
            Source { target, purpose, connection, feed: None, heard: now, orphans: now, slots: SlotSet::new() };
        self.processes[index].sources.push(source);
        self.soon(index, 3, What::Dial(connection));
    }

    /// The connection that feeds slots to a target ends, and is dialled anew at once.
    pub(crate) fn break_feed(&mut self, index: usize, target: NodeId) {
        let sources = &mut self.processes[index].sources;
        let broken = sources.iter_mut().find(|source| source.target == target && is_move(&source.purpose));
        if let Some(source) = broken {
            source.heard = self.now.saturating_sub(SILENCE * 2);
            self.lost.insert(source.connection);
        }
    }

    /// Between two looks at a feed, at most: who is at leisure looks less often.
    const fn pump_every_ms(&self) -> u64 {
        if self.make.pace > 1 { PUMP_EVERY_MS * 3 } else { PUMP_EVERY_MS }
    }

    /// Opens a connection for a source.
    pub(crate) fn dial(&mut self, index: usize, connection: u64) {
        let who = (index, self.processes[index].node.run);
        let process = &self.processes[index];
        let Some(source) = process.sources.iter().find(|source| source.connection == connection) else { return };
        let opening = Frame::Opening { from: who, origin: process.store.origin(), purpose: source.purpose.clone() };
        let to = self.index_of(source.target);
        self.transmit(who, (to, self.processes[to].node.run), connection, opening);
        self.soon(index, self.pump_every_ms(), What::Pump(connection));
    }

    /// Sends what a feed has to send, or dials anew if the connection seems to be lost.
    pub(crate) fn pump(&mut self, index: usize, connection: u64) {
        self.connections += 1;
        let fresh = self.connections;
        let room = if self.random.random_ratio(1, 3) { self.random.random_range(1..BATCH_BYTES) } else { usize::MAX };
        let process = &mut self.processes[index];
        let who = (index, process.node.run);
        let now = process.clock.at(self.now);
        let Some(source) = process.sources.iter_mut().find(|source| source.connection == connection) else { return };
        if self.now > source.heard + SILENCE {
            (source.connection, source.feed, source.heard) = (fresh, None, self.now);
            let known = match source.purpose {
                Purpose::Move(_) => &mut process.movers,
                _ => &mut process.followers,
            };
            if let Some(follower) = known.get_mut(&source.target) {
                follower.is_online = false;
            }
            return self.soon(index, 60, What::Dial(fresh));
        }
        let (target, mut frame) = (source.target, None);
        if let Some(feed) = &mut source.feed {
            let (store, own, mut watermark) = (&process.store, process.store.origin(), None);
            let mut parcels = Vec::new();
            if self.now >= source.orphans + ORPHANS_EVERY {
                source.orphans = self.now;
                feed.queue_orphans(store);
            }
            let polled = feed.poll(store, now, room, |item| {
                match item {
                    FeedItem::Watermark { origin, time } if *origin == own => watermark = Some(*time),
                    FeedItem::Record { slot, .. } => _ = source.slots.insert(*slot),
                    _ => {}
                }
                parcels.push(Parcel::of(item));
                parcels[parcels.len() - 1].bytes()
            });
            let settled = watermark.filter(|_| polled == Polled::Drained);
            let settled = settled.map(|until| Settled { until, as_of: now.monotonic });
            let saw = [(own, store.settings().frontier())].into_iter().collect();
            frame = Some(Frame::Batch { parcels, saw, settled });
        }
        if let Some(frame) = frame {
            let to = self.index_of(target);
            // Whoever it was that answered: a process that came after it knows nothing of the connection.
            self.transmit(who, (to, self.processes[to].node.run), connection, frame);
        }
        self.soon(index, self.pump_every_ms(), What::Pump(connection));
    }

    /// Something has come over a connection.
    pub(crate) fn receive(&mut self, index: usize, connection: u64, frame: Frame) {
        let who = (index, self.processes[index].node.run);
        match frame {
            Frame::Opening { from, origin, purpose } => self.accept(who, connection, from, origin, purpose),
            Frame::Want { whole, seen, consumer } => self.start_feed(index, connection, whole, seen, consumer),
            Frame::Refused => {
                // Dials anew as after silence, with a pause.
                let process = &mut self.processes[index];
                if let Some(source) = process.sources.iter_mut().find(|source| source.connection == connection) {
                    source.heard = self.now.saturating_sub(SILENCE);
                }
            }
            Frame::Batch { parcels, saw, settled } => self.apply(who, connection, &parcels, &saw, settled),
            Frame::Applied(settled) => self.applied(index, connection, settled),
        }
    }

    fn accept(&mut self, who: Who, connection: u64, from: Who, origin: Origin, purpose: Purpose) {
        let dialled_by = self.processes[from.0].node.id;
        let is_unaware = self.is_unaware(who.0, from.0, &purpose);
        let process = &mut self.processes[who.0];
        let is_of_life = match process.assignment {
            Assignment::Replica { life, .. } => life.origin == origin,
            _ => true,
        };
        let is_expected = is_of_life && process.assignment.expects(dialled_by, &purpose);
        if !is_expected || is_unaware {
            return self.transmit(who, from, connection, Frame::Refused);
        }
        let intake = match &purpose {
            Purpose::Move(cargo) => Intake::of_slots(cargo.slots.clone()),
            Purpose::Follow | Purpose::Return => Intake::default(),
        };
        let waits = purpose == Purpose::Follow && !process.progress.may_be_fed();
        process.sinks.insert(connection, Sink { purpose, from, speaker: origin, intake, waits, feed: None });
        if !waits {
            self.welcome(who, connection);
        }
    }

    /// A replica that has dropped slots asks its primary anew: that takes it for somebody who has what it was sent of them.
    pub(crate) fn ask_anew(&mut self, index: usize, dropped: &SlotSet) {
        if dropped.is_empty() || self.broken == Some(Broken::FollowsOn) {
            return;
        }
        let process = &mut self.processes[index];
        let who = (index, process.node.run);
        let follows: Vec<(u64, Who)> = process
            .sinks
            .iter()
            .filter(|(_, sink)| sink.purpose == Purpose::Follow)
            .map(|(connection, sink)| (*connection, sink.from))
            .collect();
        for (connection, from) in follows {
            self.processes[index].sinks.remove(&connection);
            self.transmit(who, from, connection, Frame::Refused);
        }
    }

    /// Whether a replica would drop later, since it has not carried out the map in which slots began to arrive, what is passed on to it
    /// of them before. In nodes the epoch in the greeting says so, and a primary's feeds end as it carries such a map out.
    fn is_unaware(&self, index: usize, from: usize, purpose: &Purpose) -> bool {
        if self.broken == Some(Broken::FollowsOn) {
            return false;
        }
        let carried = |index: usize| self.processes[index].carried.epoch();
        match purpose {
            Purpose::Follow => carried(index) < carried(from),
            Purpose::Move(cargo) => {
                let followers = self.processes[index].followers.iter().filter(|(_, follower)| follower.is_online);
                followers.map(|(node, _)| carried(self.index_of(*node))).any(|epoch| epoch < cargo.since)
            }
            Purpose::Return => false,
        }
    }

    /// Says what is wanted.
    fn welcome(&mut self, who: Who, connection: u64) {
        let process = &mut self.processes[who.0];
        let now = process.clock.at(self.now);
        let Some(sink) = process.sinks.get_mut(&connection) else { return };
        sink.waits = false;
        let (from, purpose) = (sink.from, sink.purpose.clone());
        let mut seen = process.store.seen_table(now);
        process.unsure.iter().for_each(|slot| seen.clear(slot));
        let consumer = process.store.origin();
        let (whole, seen) = match &purpose {
            Purpose::Move(cargo) => {
                let sender = self.processes[from.0].node.id;
                let process = &mut self.processes[who.0];
                let begun = process.custody.begins_to_arrive(sender, cargo.since, &cargo.slots);
                let Some(feed) = begun else { return self.transmit(who, from, connection, Frame::Refused) };
                if self.broken == Some(Broken::TakesParts) {
                    process.custody.has_arrived(sender, cargo.since, feed);
                }
                let Some(sink) = process.sinks.get_mut(&connection) else { return };
                sink.feed = Some(feed);
                process.store.clear_slots(&cargo.slots);
                (true, SeenTable::new(SlotRange::ALL))
            }
            _ => (process.progress.holding().is_none(), seen),
        };
        let want = Frame::Want { whole, seen, consumer };
        self.transmit(who, from, connection, want);
    }

    fn start_feed(&mut self, index: usize, connection: u64, whole: bool, mut seen: SeenTable, consumer: Origin) {
        let process = &mut self.processes[index];
        self.load.count_unused_as_seen(&mut seen, &process.store);
        let Some(source) = process.sources.iter_mut().find(|source| source.connection == connection) else { return };
        let store = &process.store;
        source.heard = self.now;
        source.feed = Some(match &source.purpose {
            Purpose::Move(cargo) => Feed::of_slots(store, cargo.slots.clone()),
            Purpose::Follow if whole => Feed::clone_rest(store, Scope::Everything, consumer, seen),
            Purpose::Follow => Feed::resume(store, Scope::Everything, consumer, seen),
            Purpose::Return => Feed::resume(store, Scope::Region(store.origin().region()), consumer, seen),
        });
    }

    fn apply(&mut self, who: Who, connection: u64, parcels: &[Parcel], saw: &Seen, settled: Option<Settled>) {
        let Some(sink) = self.processes[who.0].sinks.get(&connection) else { return };
        let sender = self.processes[sink.from.0].node.id;
        let process = &mut self.processes[who.0];
        let now = process.clock.at(self.now);
        let Some(sink) = process.sinks.get_mut(&connection) else { return };
        if let (Purpose::Move(cargo), Some(feed)) = (&sink.purpose, sink.feed)
            && !process.custody.brings(sender, cargo.since, feed)
        {
            // What it brings was cleared for another feed.
            let from = sink.from;
            process.sinks.remove(&connection);
            return self.transmit(who, from, connection, Frame::Refused);
        }
        for parcel in parcels {
            sink.intake.take(&process.store, &parcel.item(), saw, now).expect("the heap has room");
        }
        let is_watermark = |parcel: &Parcel| matches!(parcel, Parcel::Watermark { .. });
        if let (Purpose::Move(cargo), Some(feed)) = (&sink.purpose, sink.feed)
            && parcels.iter().any(is_watermark)
        {
            process.custody.has_arrived(sender, cargo.since, feed);
        }
        if sink.purpose == Purpose::Follow {
            process.store.settings().set_frontier(saw.at(sink.speaker));
            if parcels.iter().any(is_watermark) {
                process.progress.is_full_copy(sink.speaker.incarnation());
                process.unsure = SlotSet::new();
            }
        }
        let from = sink.from;
        self.transmit(who, from, connection, Frame::Applied(settled));
    }

    fn applied(&mut self, index: usize, connection: u64, settled: Option<Settled>) {
        let who = (index, self.processes[index].node.run);
        let process = &mut self.processes[index];
        let Some(place) = process.sources.iter().position(|source| source.connection == connection) else { return };
        let source = &mut process.sources[place];
        source.heard = self.now;
        let Some(Settled { until, as_of }) = settled else { return };
        let known = match source.purpose {
            Purpose::Follow => &mut process.followers,
            Purpose::Move(_) => &mut process.movers,
            Purpose::Return => {
                process.unsure.extend(process.sources.swap_remove(place).slots.iter());
                process.progress.has_returned();
                let waiting = process.sinks.iter().filter(|(_, sink)| sink.waits).map(|(connection, _)| *connection);
                let waiting: Vec<_> = waiting.collect();
                return waiting.into_iter().for_each(|connection| self.welcome(who, connection));
            }
        };
        if let Some(follower) = known.get_mut(&source.target) {
            *follower = Follower { is_online: true, until: follower.until.max(until), as_of, ..*follower };
        }
    }

    /// Whether a follower has everything as of a moment of this node's local time; in a broken world nobody asks.
    pub(crate) fn has_caught_up(&self, follower: Option<&Follower>, moment: Duration) -> bool {
        self.broken == Some(Broken::NobodyCatchesUp)
            || follower.is_some_and(|follower| follower.is_online && follower.as_of >= moment)
    }
}

fn is_move(purpose: &Purpose) -> bool {
    matches!(purpose, Purpose::Move(_))
}
